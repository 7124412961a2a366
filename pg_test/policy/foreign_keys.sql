-- Foreign keys: Postgres checks them without row-level security, so they carry the organization.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(45);
SET LOCAL SESSION AUTHORIZATION test_owner;

CREATE TABLE app.account (id integer PRIMARY KEY, organization_id uuid NOT NULL, name text);
CREATE TABLE app."Note" (
    id integer PRIMARY KEY,
    "organizationId" uuid NOT NULL,
    "accountId" integer CONSTRAINT "Note account" REFERENCES app.account ON DELETE CASCADE ON UPDATE CASCADE,
    reviewed integer REFERENCES app.account ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED,
    parent integer REFERENCES app."Note"
);
COMMENT ON CONSTRAINT "Note account" ON app."Note" IS 'whose note';
INSERT INTO app.account VALUES (1, test.acme(), 'a'), (2, test.bolt(), 'b'), (3, test.acme(), 'c');
INSERT INTO app."Note" VALUES (1, test.acme(), 1, 1, NULL), (2, test.bolt(), 2, 2, NULL), (3, test.acme(), NULL, NULL, 1);
SET CONSTRAINTS ALL IMMEDIATE;
GRANT SELECT, INSERT, UPDATE, DELETE ON app.account, app."Note" TO test_application;

CREATE FUNCTION pg_temp.keys() RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_object_agg(conname, jsonb_build_array(pg_get_constraintdef(oid), obj_description(oid, 'pg_constraint')) ORDER BY conname)
      FROM pg_constraint WHERE contype = 'f' AND conrelid IN ('app.account'::regclass, 'app."Note"'::regclass)
$$;
CREATE TEMP TABLE before AS SELECT pg_temp.keys() AS keys;

-- The leak, without protection of the key.
SELECT is(tenancy.protect('app.account') > 0, true, 'the parent is protected first');
SELECT is((SELECT keys FROM before), pg_temp.keys(), 'a key from a table that is not protected stays as it is');
SELECT is(tenancy.protect('app."Note"') > 0, true, 'then the child');
SELECT is(tenancy.protect('app."Note"') + tenancy.protect('app.account'), 0, 'after which nothing is left to do for either');
SELECT is((SELECT count(*) FROM tenancy.plan('app."Note"') WHERE sql LIKE '%ADD CONSTRAINT % FOREIGN KEY%' AND state = 'done'), 3::bigint, 'the plan shows the keys as done');

SELECT is(pg_temp.keys() -> 'Note account' ->> 0,
    'FOREIGN KEY ("accountId", "organizationId") REFERENCES app.account(id, organization_id) ON UPDATE CASCADE ON DELETE CASCADE', 'the key carries the organization and its actions');
SELECT is(pg_temp.keys() -> 'Note_reviewed_fkey' ->> 0,
    'FOREIGN KEY (reviewed, "organizationId") REFERENCES app.account(id, organization_id) ON DELETE SET NULL (reviewed) DEFERRABLE INITIALLY DEFERRED',
    'SET NULL leaves the organization alone, and a deferred key stays deferred');
SELECT is(pg_temp.keys() -> 'Note_parent_fkey' ->> 0, 'FOREIGN KEY (parent, "organizationId") REFERENCES app."Note"(id, "organizationId")', 'a key to the same table too');
SELECT is((SELECT bool_and(convalidated) FROM pg_constraint WHERE contype = 'f' AND conrelid = 'app."Note"'::regclass), true, 'all of them are validated, by an owner whom FORCE binds');
SELECT is((SELECT count(*) FROM pg_constraint WHERE contype = 'u' AND conrelid = 'app.account'::regclass), 1::bigint, 'two foreign keys to the same columns share one key');

-- What it is for.
SET LOCAL SESSION AUTHORIZATION test_application;
SAVEPOINT nobody;
CALL test.sign_in('ada');
SELECT test.refused($$ INSERT INTO app."Note" (id, "accountId") VALUES (10, 2) $$, '23503', 'a row cannot point at another tenant''s');
SELECT test.refused($$ INSERT INTO app."Note" (id, "accountId") VALUES (10, 99) $$, '23503', 'as it cannot point at none');
SELECT test.refused($$ UPDATE app."Note" SET "accountId" = 2 WHERE id = 1 $$, '23503', 'nor be changed to');
SELECT test.refused($$ INSERT INTO app."Note" (id, parent) VALUES (10, 2) $$, '23503', 'nor at one of its own table');
CREATE FUNCTION pg_temp.words(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE words text; detail text;
BEGIN
    EXECUTE statement;
    RETURN 'done';
EXCEPTION WHEN foreign_key_violation THEN
    GET STACKED DIAGNOSTICS words = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
    RETURN words || detail;
END
$$;
SELECT is(replace(pg_temp.words($$ INSERT INTO app."Note" (id, "accountId") VALUES (10, 2) $$), '2', 'N'),
          replace(pg_temp.words($$ INSERT INTO app."Note" (id, "accountId") VALUES (10, 7) $$), '7', 'N'), 'and no word tells whether another tenant has the row');
INSERT INTO app."Note" (id, "accountId", reviewed) VALUES (10, 3, 3);
SET CONSTRAINTS ALL IMMEDIATE;
SELECT is((SELECT "organizationId" FROM app."Note" WHERE id = 10), test.acme(), 'a row of its own can be pointed at');
DELETE FROM app.account WHERE id = 3;
SELECT is_empty('SELECT FROM app."Note" WHERE id = 10', 'and a cascade removes what points at it');
UPDATE app."Note" SET reviewed = NULL WHERE id = 1;
UPDATE app.account SET id = 7 WHERE id = 1;
SELECT is((SELECT "accountId" FROM app."Note" WHERE id = 1), 7, 'a cascade changes what points at it');
ROLLBACK TO SAVEPOINT nobody;
RESET SESSION AUTHORIZATION;

-- Taking it back.
SET LOCAL SESSION AUTHORIZATION test_owner;
SET CONSTRAINTS ALL IMMEDIATE;
SELECT is(tenancy.unprotect('app.account') > 0, true, 'unprotecting the parent');
SELECT is(pg_temp.keys() -> 'Note account', (SELECT keys -> 'Note account' FROM before), 'puts its foreign keys back, with comments');
SELECT is(pg_temp.keys() -> 'Note_reviewed_fkey', (SELECT keys -> 'Note_reviewed_fkey' FROM before), 'and with their actions');
SELECT is(pg_temp.keys() -> 'Note_parent_fkey' ->> 0 LIKE '%organizationId%', true, 'those of the child''s own stay');
SELECT is((SELECT count(*) FROM pg_constraint WHERE contype = 'u' AND conrelid = 'app.account'::regclass), 0::bigint, 'the key that they needed is gone');
SELECT is(tenancy.unprotect('app."Note"') > 0, true, 'unprotecting the child');
SELECT is(pg_temp.keys(), (SELECT keys FROM before), 'puts back the rest');
SELECT is((SELECT bool_and(convalidated) FROM pg_constraint WHERE contype = 'f' AND conrelid = 'app."Note"'::regclass), true, 'validated, as it was');

-- The other way round: the child is there before the parent.
SELECT is(tenancy.protect('app."Note"') > 0 AND tenancy.protect('app.account') > 0, true, 'the child can be protected before the parent');
SELECT is(pg_temp.keys() -> 'Note account' ->> 0 LIKE '%organizationId%', true, 'and gets its keys with the parent');
SELECT is(tenancy.unprotect('app."Note"') > 0 AND tenancy.unprotect('app.account') > 0 AND pg_temp.keys() = (SELECT keys FROM before), true, 'back again');

-- References across organizations that are there already stop it, whole.
INSERT INTO app."Note" VALUES (4, test.acme(), 2, NULL, NULL);
SET CONSTRAINTS ALL IMMEDIATE;
SELECT tenancy.protect('app.account') \g /dev/null
SELECT test.refused($$ SELECT tenancy.protect('app."Note"') $$, '23503', 'a reference across organizations that is there already is refused');
SELECT is((SELECT relrowsecurity FROM pg_class WHERE oid = 'app."Note"'::regclass), false, 'and nothing is half done');
DELETE FROM app."Note" WHERE id = 4;
SELECT is(tenancy.protect('app."Note"') > 0, true, 'without it the table can be protected');

-- Keys that carry the organization already, and keys that cannot.
CREATE TABLE app.tag (organization_id uuid NOT NULL, account integer, PRIMARY KEY (organization_id, account),
                      FOREIGN KEY (organization_id, account) REFERENCES app.account (organization_id, id));
SELECT is(tenancy.protect('app.tag') > 0, true, 'a table with a key of its own over the organization');
SELECT is((SELECT count(*) FROM tenancy.plan('app.tag') WHERE sql LIKE '%ADD CONSTRAINT % FOREIGN KEY%'), 0::bigint, 'keeps it');
CREATE TABLE app.legacy (id integer PRIMARY KEY, organization_id text NOT NULL, account integer REFERENCES app.account);
SELECT is(tenancy.protect('app.legacy') > 0, true, 'a table whose organization is of another type');
SELECT is((SELECT count(*) FROM tenancy.plan('app.legacy') WHERE sql LIKE '%ADD CONSTRAINT % FOREIGN KEY%'), 0::bigint, 'keeps its key: the types cannot be compared');

-- From a partitioned table.
CREATE TABLE app.parted_note (id integer, organization_id uuid NOT NULL, account integer REFERENCES app.account ON DELETE CASCADE) PARTITION BY RANGE (id);
CREATE TABLE app.parted_note_1 PARTITION OF app.parted_note FOR VALUES FROM (0) TO (10);
INSERT INTO app.parted_note VALUES (1, test.acme(), 1), (2, test.bolt(), 2);
CREATE TEMP TABLE parted AS SELECT pg_get_constraintdef(oid) AS definition FROM pg_constraint WHERE conrelid = 'app.parted_note'::regclass AND contype = 'f';
SELECT is(tenancy.protect('app.parted_note') > 0 AND tenancy.protect('app.parted_note') = 0, true, 'a partitioned table gets its keys too');
SELECT is((SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'app.parted_note_1'::regclass AND contype = 'f'),
    'FOREIGN KEY (account, organization_id) REFERENCES app.account(id, organization_id) ON DELETE CASCADE', 'and its partitions');
SELECT is(tenancy.unprotect('app.parted_note') > 0, true, 'which can be taken back');
SELECT is((SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'app.parted_note'::regclass AND contype = 'f'), (SELECT definition FROM parted), 'as it was');

-- A parent of somebody else.
RESET SESSION AUTHORIZATION;
CREATE ROLE test_other_owner IN ROLE tenancy_admin;
GRANT USAGE, CREATE ON SCHEMA app TO test_other_owner;
GRANT REFERENCES ON app.account TO test_other_owner;
SET LOCAL SESSION AUTHORIZATION test_other_owner;
CREATE TABLE app.foreign_note (id integer PRIMARY KEY, organization_id uuid NOT NULL, account integer REFERENCES app.account);
SELECT is((SELECT count(*) FROM tenancy.plan('app.foreign_note') WHERE state = 'manual'), 3::bigint, 'where the parent is somebody else''s, the steps for both are left to hands that may');
SELECT is(tenancy.protect('app.foreign_note') > 0, true, 'and the rest is done');
SELECT is((SELECT count(*) FROM tenancy.plan('app.foreign_note') WHERE state = 'todo'), 0::bigint, 'all of it');
RESET SESSION AUTHORIZATION;
SELECT is(tenancy.protect('app.foreign_note') > 0, true, 'a superuser finishes it');
SELECT is((SELECT count(*) FROM tenancy.plan('app.foreign_note') WHERE state <> 'done'), 0::bigint, 'and all is done');

SELECT * FROM finish();
ROLLBACK;
