-- The owner's next statement: foreign keys are validated over all organizations, and nobody who runs DDL is asked for a token.
BEGIN;
\ir helpers/fixture.sql
SELECT plan(12);
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

-- Under an organization ----------------------------------------------------------------------------------------------------

RESET SESSION AUTHORIZATION;
GRANT tenancy_operator TO test_owner;
SET LOCAL SESSION AUTHORIZATION test_owner;
CREATE TABLE app.memo (id int PRIMARY KEY, organization_id uuid NOT NULL, customer_id bigint);
INSERT INTO app.memo VALUES (1, test.acme(), 1), (2, test.bolt(), 99);
DO $$ BEGIN PERFORM tenancy.protect('app.memo'); PERFORM tenancy.assume_organization(test.acme(), 'a migration under an organization'); END $$;
SELECT test.refused('ALTER TABLE app.memo ADD FOREIGN KEY (customer_id) REFERENCES app.customer (id)', '23503', '%', '%', 'the rows of other organizations are compared under an organization too');
UPDATE app.memo SET customer_id = 1;
SELECT lives_ok('ALTER TABLE app.memo ADD CONSTRAINT pointed FOREIGN KEY (customer_id) REFERENCES app.customer (id) NOT VALID', 'unvalidated it is added');
SELECT test.refused('ALTER TABLE app.memo VALIDATE CONSTRAINT pointed', '23503', '%', '%', 'and not validated with a row of another organization that violates it');

SELECT * FROM finish();
ROLLBACK;
