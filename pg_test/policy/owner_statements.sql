-- The owner's next statement: foreign keys are validated over all organizations, and nobody who runs DDL is asked for a token.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(18);
SET LOCAL client_min_messages = error;
SET LOCAL SESSION AUTHORIZATION test_owner;
CREATE TABLE app.customer (id bigint PRIMARY KEY, organization_id uuid NOT NULL, name text);
INSERT INTO app.customer VALUES (1, test.acme(), 'a'), (2, test.bolt(), 'b');
DO $$ BEGIN PERFORM tenancy.protect('app.customer'); END $$;

-- From a table that is not protected ---------------------------------------------------------------------------------------

CREATE TABLE app.note (id int PRIMARY KEY, customer_id bigint);
SELECT lives_ok('ALTER TABLE app.note ADD FOREIGN KEY (customer_id) REFERENCES app.customer (id)', 'a foreign key to a protected table is added, as every ORM does it');
ALTER TABLE app.note DROP CONSTRAINT note_customer_id_fkey;
INSERT INTO app.note VALUES (1, 1), (2, 2);
SELECT lives_ok('ALTER TABLE app.note ADD FOREIGN KEY (customer_id) REFERENCES app.customer (id)', 'beside rows of several organizations');
ALTER TABLE app.note DROP CONSTRAINT note_customer_id_fkey;
INSERT INTO app.note VALUES (3, 99);
SELECT test.refused('ALTER TABLE app.note ADD FOREIGN KEY (customer_id) REFERENCES app.customer (id)', '23503', '%note_customer_id_fkey%', '%', 'a row that points at none is found');
DELETE FROM app.note WHERE id = 3;
SELECT lives_ok('ALTER TABLE app.note ADD CONSTRAINT later FOREIGN KEY (customer_id) REFERENCES app.customer (id) NOT VALID', 'one to be validated later');
SELECT lives_ok('ALTER TABLE app.note VALIDATE CONSTRAINT later', 'is validated');
SELECT is((SELECT convalidated FROM pg_constraint WHERE conname = 'later'), true, 'and is valid');
ALTER TABLE app.note ADD COLUMN other bigint DEFAULT 2 REFERENCES app.customer;
SELECT is((SELECT count(*) FROM app.note WHERE other = 2), 2::bigint, 'a column with a default that points at a row comes too');
CREATE TABLE app.place (id int, customer_id bigint) PARTITION BY RANGE (id);
CREATE TABLE app.place_1 PARTITION OF app.place FOR VALUES FROM (0) TO (10);
INSERT INTO app.place VALUES (1, 1), (2, 2);
SELECT lives_ok('ALTER TABLE app.place ADD FOREIGN KEY (customer_id) REFERENCES app.customer (id)', 'a partitioned table');
CREATE TABLE app.place_2 (id int, customer_id bigint);
INSERT INTO app.place_2 VALUES (11, 99);
SELECT test.refused('ALTER TABLE app.place ATTACH PARTITION app.place_2 FOR VALUES FROM (10) TO (20)', '23503', '%', '%', 'and what is attached to it are compared');

-- A partition that rows point into stays, whoever's they are.
CREATE TABLE app.aim (id int PRIMARY KEY, organization_id uuid NOT NULL) PARTITION BY RANGE (id);
CREATE TABLE app.aim_1 PARTITION OF app.aim FOR VALUES FROM (0) TO (10);
CREATE TABLE app.aim_2 PARTITION OF app.aim FOR VALUES FROM (10) TO (20);
CREATE TABLE app.arrow (id int, aim int REFERENCES app.aim);
INSERT INTO app.aim VALUES (1, test.bolt()), (11, test.bolt());
INSERT INTO app.arrow VALUES (1, 1);
DO $$ BEGIN PERFORM tenancy.protect('app.aim'); END $$;
SELECT test.refused('ALTER TABLE app.aim DETACH PARTITION app.aim_1', '23503', '%', '%', 'a partition that is pointed into is not detached');
SELECT lives_ok('ALTER TABLE app.aim DETACH PARTITION app.aim_2', 'another one is');

SAVEPOINT own;
-- Under an organization ----------------------------------------------------------------------------------------------------

RESET SESSION AUTHORIZATION;
GRANT tenancy_operator TO test_owner;
SET LOCAL SESSION AUTHORIZATION test_owner;
CREATE TABLE app.memo (id int PRIMARY KEY, organization_id uuid NOT NULL, customer_id bigint);
INSERT INTO app.memo VALUES (1, test.acme(), 1), (2, test.bolt(), 99);
DO $$ BEGIN PERFORM tenancy.protect('app.memo'); PERFORM tenancy.assume_organization(test.acme(), 'a migration under an organization'); END $$;
SELECT test.refused('ALTER TABLE app.memo ADD FOREIGN KEY (customer_id) REFERENCES app.customer (id)', '23503', '%', '%', 'the rows of other organizations are compared under an organization too');
SELECT test.refused('ALTER TABLE app.aim DETACH PARTITION app.aim_1', '23503', '%', '%', 'nor is one that another organization''s rows point into');
UPDATE app.memo SET customer_id = 1;
SELECT lives_ok('ALTER TABLE app.memo ADD CONSTRAINT pointed FOREIGN KEY (customer_id) REFERENCES app.customer (id) NOT VALID', 'unvalidated it is added');
SELECT test.refused('ALTER TABLE app.memo VALIDATE CONSTRAINT pointed', '23503', '%', '%', 'and not validated with a row of another organization that violates it');

-- A back-fill means what its author's names mean.
ROLLBACK TO SAVEPOINT own;
SET LOCAL search_path = app, test, public;
CREATE TABLE app.child (id int PRIMARY KEY, customer_id bigint);
INSERT INTO app.child VALUES (1, 1), (2, 2);
SELECT is(tenancy.protect('child', 'organization_id', backfill => '(SELECT organization_id FROM customer WHERE customer.id = child.customer_id)') > 0, true, 'its tables are found by the search_path of the caller');
RESET SESSION AUTHORIZATION;
SELECT results_eq('SELECT id, organization_id FROM app.child ORDER BY id', $$ VALUES (1, test.acme()), (2, test.bolt()) $$, 'and its rows filled');
SET LOCAL SESSION AUTHORIZATION test_owner;
CREATE TABLE app.later (id int PRIMARY KEY, organization_id uuid, customer_id bigint);
INSERT INTO app.later VALUES (1, NULL, 2);
SELECT is(tenancy.backfill('later', 'organization_id', '(SELECT c.organization_id FROM customer c WHERE c.id = customer_id)'), 1::bigint, 'in a back-fill by itself as well');

SELECT * FROM finish();
ROLLBACK;
