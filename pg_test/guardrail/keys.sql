-- The guard sees keys: those that carry the organization are not dropped, and those that come carry it at once.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(43);
SET LOCAL client_min_messages = error;
SET LOCAL SESSION AUTHORIZATION test_owner;
CREATE TABLE app.customer (id int PRIMARY KEY, organization_id uuid NOT NULL);
CREATE TABLE app.invoice (id int PRIMARY KEY, organization_id uuid NOT NULL, customer_id int CONSTRAINT to_customer REFERENCES app.customer, note text);
CREATE TABLE app.line (id int PRIMARY KEY, organization_id uuid NOT NULL, customer_id int);
INSERT INTO app.customer VALUES (1, test.acme()), (2, test.bolt());
INSERT INTO app.invoice VALUES (1, test.acme(), 1), (2, test.bolt(), 2);
INSERT INTO app.line VALUES (1, test.acme()), (2, test.bolt());
DO $$ BEGIN PERFORM tenancy.protect(name) FROM unnest('{app.customer,app.invoice,app.line}'::regclass[]) name; END $$;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA app TO test_application;

-- Plain keys of the table that cannot lead anywhere else are not counted.
CREATE FUNCTION pg_temp.plain("table" regclass) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(pg_get_constraintdef(oid), '; ') FROM pg_constraint WHERE contype = 'f' AND conrelid = "table" AND cardinality(conkey) = 1
$$;
CREATE FUNCTION pg_temp.whole() RETURNS bigint LANGUAGE sql AS $$
    SELECT (SELECT count(*) FROM unnest('{app.customer,app.invoice,app.line}'::regclass[]) t, tenancy.plan(t) p WHERE p.state <> 'done') + (SELECT count(*) FROM tenancy.drift())
$$;

-- The leak, with the guardrail off --------------------------------------------------------------------------------------------

SAVEPOINT whole;
SELECT tenancy.set_guardrail('protected_tables', 'off', 'control') \g /dev/null
ALTER TABLE app.invoice DROP CONSTRAINT to_customer;
ALTER TABLE app.invoice ADD CONSTRAINT to_customer FOREIGN KEY (customer_id) REFERENCES app.customer ON DELETE CASCADE NOT VALID;
ALTER TABLE app.line ADD COLUMN invoice_id int REFERENCES app.invoice ON DELETE CASCADE;
RESET SESSION AUTHORIZATION;
SET LOCAL SESSION AUTHORIZATION test_application;
CALL test.sign_in('ada');
UPDATE app.invoice SET customer_id = 2;
UPDATE app.line SET invoice_id = 2;
SELECT results_eq('SELECT (SELECT customer_id FROM app.invoice), (SELECT invoice_id FROM app.line)', 'VALUES (2, 2)', 'control: plain keys accept another organization''s rows');
ROLLBACK TO SAVEPOINT whole;
SET LOCAL SESSION AUTHORIZATION test_owner;

-- What goes ------------------------------------------------------------------------------------------------------------------

SELECT test.refused(statement, '42501', '% would leave table app.invoice less protected', '%tenancy.override_reason%', 'refused: ' || statement) FROM unnest(ARRAY[
    'ALTER TABLE app.invoice DROP CONSTRAINT to_customer', 'ALTER TABLE app.invoice DROP CONSTRAINT to_customer CASCADE', 'ALTER TABLE app.customer DROP CONSTRAINT customer_tenancy_key CASCADE',
    'ALTER TABLE app.invoice DROP CONSTRAINT to_customer, ADD COLUMN more int', 'DO $x$ BEGIN EXECUTE ''ALTER TABLE app.invoice DROP CONSTRAINT to_customer''; END $x$']) statement;
SELECT test.refused('ALTER TABLE app.customer DROP CONSTRAINT customer_tenancy_key', '2BP01', 'the key under it stays as long as it is needed');
RESET SESSION AUTHORIZATION;
SELECT test.refused('ALTER TABLE app.invoice DROP CONSTRAINT to_customer', '42501', '%less protected', '%', 'a superuser too');
SELECT tgname AS trigger FROM pg_trigger WHERE tgconstraint = (SELECT oid FROM pg_constraint WHERE conname = 'to_customer') AND tgrelid = 'app.invoice'::regclass ORDER BY 1 LIMIT 1 \gset child_
SELECT tgname AS trigger FROM pg_trigger WHERE tgconstraint = (SELECT oid FROM pg_constraint WHERE conname = 'to_customer') AND tgrelid = 'app.customer'::regclass ORDER BY 1 LIMIT 1 \gset parent_
SELECT test.refused(format('ALTER TABLE app.invoice DISABLE TRIGGER %I', :'child_trigger'), '42501', '%less protected', '%', 'nor are its triggers switched off');
SELECT test.refused(format('ALTER TABLE app.customer DISABLE TRIGGER %I', :'parent_trigger'), '42501', '%less protected', '%', 'at either end');
UPDATE pg_trigger SET tgenabled = 'D' WHERE tgname = :'child_trigger';
SELECT results_eq('SELECT "table"::text, exposed FROM tenancy.drift() ORDER BY 1', $$ VALUES ('app.customer', true), ('app.invoice', true) $$, 'past the guard it is drift');
UPDATE pg_trigger SET tgenabled = 'O' WHERE tgname = :'child_trigger';
SET LOCAL SESSION AUTHORIZATION test_owner;
SAVEPOINT gone;
SELECT lives_ok('ALTER TABLE app.invoice DROP COLUMN customer_id', 'the column may go with it');
SELECT is(pg_temp.whole() = 0 AND tenancy.protect('app.invoice') = 0, true, 'and nothing is missed');
ROLLBACK TO SAVEPOINT gone;
SELECT lives_ok('DROP TABLE app.customer CASCADE', 'so may the table that it points at');
SELECT is_empty('SELECT * FROM tenancy.drift()', 'which is not missed either');
ROLLBACK TO SAVEPOINT gone;
SELECT lives_ok('DROP TABLE app.invoice', 'and its own');
ROLLBACK TO SAVEPOINT gone;
SELECT lives_ok('SELECT tenancy.unprotect(''app.customer'')', 'and the protection of either');
ROLLBACK TO SAVEPOINT gone;
SET LOCAL tenancy.override_reason = 'TICKET-18';
SELECT lives_ok('ALTER TABLE app.invoice DROP CONSTRAINT to_customer', 'for a reason it is dropped');
RESET SESSION AUTHORIZATION;
SELECT is((SELECT count(*) FROM tenancy.event WHERE operation = 'override' AND reason = 'TICKET-18' AND table_name = 'invoice'), 1::bigint, 'which is an event');
ROLLBACK TO SAVEPOINT gone;
SET LOCAL SESSION AUTHORIZATION test_owner;

-- What takes its place in the same statement, by whatever name.
SELECT lives_ok('ALTER TABLE app.invoice DROP CONSTRAINT to_customer, ADD CONSTRAINT to_customer FOREIGN KEY (customer_id) REFERENCES app.customer ON DELETE CASCADE', 'another in its place');
SELECT is((SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'to_customer'), 'FOREIGN KEY (customer_id, organization_id) REFERENCES app.customer(id, organization_id) ON DELETE CASCADE', 'carries the organization and its own actions');
SELECT lives_ok('ALTER TABLE app.invoice DROP CONSTRAINT to_customer, ADD CONSTRAINT by_other_name FOREIGN KEY (customer_id) REFERENCES app.customer', 'one of another name too');
SELECT is(pg_temp.whole(), 0::bigint, 'all is whole');
SELECT lives_ok('ALTER TABLE app.invoice RENAME CONSTRAINT by_other_name TO third', 'another name alone');
SELECT is(pg_temp.whole(), 0::bigint, 'is remembered');
ROLLBACK TO SAVEPOINT gone;

-- Index and default are warned of, and no more.
SELECT lives_ok(statement, 'done: ' || statement) FROM unnest(ARRAY['DROP INDEX app.invoice_tenancy_idx', 'ALTER TABLE app.invoice ALTER COLUMN organization_id DROP DEFAULT', 'ALTER TABLE app.line ALTER COLUMN organization_id SET DEFAULT gen_random_uuid()']) statement;
SELECT is(tenancy.protect('app.invoice') + tenancy.protect('app.line'), 3, 'and protect makes them again');

-- What comes -----------------------------------------------------------------------------------------------------------------

ALTER TABLE app.line ADD COLUMN invoice_id int REFERENCES app.invoice;
SELECT is(pg_temp.plain('app.line'), NULL, 'a column with a reference carries the organization at once');
ALTER TABLE app.line ADD COLUMN second_id int CONSTRAINT second REFERENCES app.invoice (id) ON DELETE SET NULL DEFERRABLE, ADD CONSTRAINT third FOREIGN KEY (customer_id) REFERENCES app.customer NOT VALID;
SELECT is(pg_temp.plain('app.line'), NULL, 'several in one statement');
SELECT is((SELECT convalidated FROM pg_constraint WHERE conname = 'third'), false, 'one that is NOT VALID stays so');
ALTER TABLE app.line ADD FOREIGN KEY (id) REFERENCES app.line;
SELECT is(pg_temp.plain('app.line'), NULL, 'to the table itself');
SELECT is(pg_temp.whole(), 0::bigint, 'nothing is left to do');
RESET SESSION AUTHORIZATION;
ALTER TABLE app.invoice ADD COLUMN line_id int REFERENCES app.line;
SELECT is(pg_temp.plain('app.invoice'), NULL, 'whoever adds it');
SET LOCAL SESSION AUTHORIZATION test_application;
SAVEPOINT tenant;
CALL test.sign_in('ada');
SELECT test.refused('UPDATE app.line SET invoice_id = 2', '23503', '%', '%', 'another organization''s row is refused');
SELECT test.refused('UPDATE app.line SET invoice_id = 77', '23503', '%', '%', 'as one that is not there');
ROLLBACK TO SAVEPOINT tenant;
RESET SESSION AUTHORIZATION;
SAVEPOINT child;
SET LOCAL SESSION AUTHORIZATION test_owner;
CREATE TABLE app.detail (id int PRIMARY KEY, line_id int NOT NULL REFERENCES app.line);
SELECT tenancy.protect('app.detail', through => 'line_id') \g /dev/null
ALTER TABLE app.detail ADD COLUMN customer_id int REFERENCES app.customer;
SELECT is((SELECT count(*) FROM pg_trigger WHERE tgrelid = 'app.detail'::regclass AND tgname LIKE '0_tenancy_reference_%customer_id%'), 1::bigint, 'where a table has no column for it the key is checked by a trigger at once');
ROLLBACK TO SAVEPOINT child;

-- A row that is there already and leads across.
SET LOCAL SESSION AUTHORIZATION test_owner;
CREATE TABLE app.loose (id int PRIMARY KEY, organization_id uuid NOT NULL, customer_id int);
INSERT INTO app.loose VALUES (1, test.acme(), 2);
SELECT tenancy.protect('app.loose') \g /dev/null
SELECT test.refused('ALTER TABLE app.loose ADD FOREIGN KEY (customer_id) REFERENCES app.customer', '23503', '%', '%', 'rows that lead across are found');

-- Somebody who owns one of the two.
RESET SESSION AUTHORIZATION;
CREATE ROLE test_other_owner;
GRANT USAGE, CREATE ON SCHEMA app TO test_other_owner;
GRANT tenancy_admin TO test_other_owner;
GRANT REFERENCES, SELECT ON app.customer TO test_other_owner;
SET LOCAL SESSION AUTHORIZATION test_other_owner;
CREATE TABLE app.theirs (id int PRIMARY KEY, organization_id uuid NOT NULL, customer_id int);
SELECT tenancy.protect('app.theirs') \g /dev/null
SELECT test.refused('ALTER TABLE app.theirs ADD FOREIGN KEY (customer_id) REFERENCES app.customer', '42501', 'a foreign key of app.theirs could lead to another organization''s row', '%', 'whoever owns only one of the tables adds none');
SELECT is(pg_temp.plain('app.theirs'), NULL, 'and leaves none');

-- Organizations of two kinds.
SET LOCAL SESSION AUTHORIZATION test_owner;
CREATE TABLE app.team (id uuid PRIMARY KEY);
CREATE TABLE app.firm (id uuid PRIMARY KEY);
CREATE TABLE app.of_team (id int PRIMARY KEY, team_id uuid NOT NULL REFERENCES app.team);
CREATE TABLE app.of_firm (id int PRIMARY KEY, firm_id uuid NOT NULL REFERENCES app.firm, of_team int REFERENCES app.of_team);
SELECT tenancy.protect('app.of_team', 'team_id') + tenancy.protect('app.of_firm', 'firm_id') \g /dev/null
SELECT is(pg_temp.plain('app.of_firm') LIKE '%FOREIGN KEY (of_team) REFERENCES app.of_team(id)%', true, 'a key between tables of two kinds of organizations is not rewritten');
SELECT is((SELECT array_agg(severity || ' ' || remediation) FROM tenancy.advise() WHERE rule = 'foreign_key_across_tenants'), ARRAY['warning -- say in tenancy.exclude which of app.of_firm and app.of_team is of no organization, or drop of_firm_of_team_fkey: their organizations are rows of app.firm and of app.team'], 'and the advisor warns of it');

SELECT * FROM finish();
ROLLBACK;
