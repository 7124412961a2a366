-- Text that another role could have written, in a comment, a default or an argument, is never run as SQL.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(22);

-- Somebody who may point at one column of a superuser's table, and nothing else.
CREATE ROLE test_neighbour;
CREATE SCHEMA neighbour AUTHORIZATION test_neighbour;
CREATE TABLE app.customer (id bigint PRIMARY KEY, organization_id uuid NOT NULL);
INSERT INTO app.customer VALUES (1, test.acme()), (2, test.bolt());
GRANT USAGE ON SCHEMA app TO test_neighbour;
GRANT REFERENCES (id) ON app.customer TO test_neighbour;
SET LOCAL ROLE test_neighbour;
CREATE TABLE neighbour.evil (c bigint CONSTRAINT fk REFERENCES app.customer (id));
RESET ROLE;

CREATE FUNCTION pg_temp.rank() RETURNS text LANGUAGE sql AS $$ SELECT format('%s %s', rolsuper, rolcreaterole) FROM pg_roles WHERE rolname = 'test_neighbour' $$;
-- As the neighbour writes it, the comment of their foreign key; then the superuser protects and takes back.
CREATE FUNCTION pg_temp.taken_back(before jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text := 'taken back';
BEGIN
    SET LOCAL ROLE test_neighbour;
    EXECUTE format('COMMENT ON CONSTRAINT fk ON neighbour.evil IS %L', 'Made by tenancy.protect; tenancy.unprotect takes it back. Before: ' || before::text);
    RESET ROLE;
    PERFORM tenancy.protect('app.customer');
    BEGIN
        PERFORM tenancy.unprotect('app.customer');
    EXCEPTION WHEN OTHERS THEN
        state := SQLSTATE;
        PERFORM tenancy.unprotect('app.customer');
    END;
    RETURN state;
END
$$;

CREATE TEMP TABLE forged (n int, before jsonb);
INSERT INTO forged VALUES
    (1, '{"definition": "CHECK (true) NOT VALID; ALTER ROLE test_neighbour SUPERUSER; ALTER TABLE neighbour.evil ADD CONSTRAINT z CHECK (true) NOT VALID", "comment": null}'),
    (2, '{"definition": "FOREIGN KEY (c) REFERENCES app.customer (id); ALTER ROLE test_neighbour SUPERUSER", "comment": null}'),
    (3, '{"child_organization": "c", "parent_organization": "id", "validated": true, "comment": null}'),
    (4, '{"child_organization": "c) REFERENCES app.customer (id); ALTER ROLE test_neighbour SUPERUSER; --", "parent_organization": "id", "validated": false, "comment": null}'),
    (5, '{"child_organization": "x", "parent_organization": "y", "validated": true, "comment": "''; ALTER ROLE test_neighbour SUPERUSER; --"}');
SELECT is(pg_temp.taken_back(before), 'taken back', 'a forged comment is in nobody''s way: ' || n) FROM forged ORDER BY n;
SELECT is(pg_temp.rank(), 'f f', 'and makes nobody a superuser');
SELECT is((SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'fk'), 'FOREIGN KEY (c) REFERENCES app.customer(id)', 'the neighbour''s key is as it was');

-- A composite key of the neighbour's own table, to which the comment does belong: it is rebuilt by the neighbour, not by the caller.
ALTER TABLE app.customer ADD UNIQUE (organization_id, id);
GRANT REFERENCES ON app.customer TO test_neighbour;
SET LOCAL ROLE test_neighbour;
CREATE TABLE neighbour.pair (c bigint, o uuid, CONSTRAINT pair_fk FOREIGN KEY (o, c) REFERENCES app.customer (organization_id, id) ON DELETE CASCADE);
COMMENT ON CONSTRAINT pair_fk ON neighbour.pair IS 'Made by tenancy.protect; tenancy.unprotect takes it back. Before: {"child_organization": "o", "parent_organization": "organization_id", "validated": true, "comment": "it''s mine"}';
RESET ROLE;
CREATE TEMP TABLE done_by (who text);
GRANT INSERT ON done_by TO PUBLIC;
CREATE FUNCTION pg_temp.tell() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO done_by SELECT current_user FROM pg_event_trigger_ddl_commands() WHERE object_identity LIKE '%pair%'; END $$;
GRANT USAGE ON SCHEMA tenancy TO test_neighbour;
CREATE EVENT TRIGGER tell ON ddl_command_end EXECUTE FUNCTION pg_temp.tell();
SELECT ok(tenancy.protect('app.customer') > 0, 'the table is protected');
SELECT ok(tenancy.unprotect('app.customer') > 0, 'and is no longer');
DROP EVENT TRIGGER tell;
SELECT is((SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'pair_fk'), 'FOREIGN KEY (c) REFERENCES app.customer(id) ON DELETE CASCADE', 'the key was rebuilt from the catalogs');
SELECT is((SELECT obj_description(oid, 'pg_constraint') FROM pg_constraint WHERE conname = 'pair_fk'), 'it''s mine', 'with its comment');
SELECT is((SELECT string_agg(DISTINCT who, ',') FROM done_by), 'test_neighbour', 'by the owner of the table that it is on');

-- The default of a partition that belongs to somebody else.
CREATE TABLE app.metric (id bigint, organization_id uuid NOT NULL, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE app.metric_low PARTITION OF app.metric FOR VALUES FROM (0) TO (10);
SELECT ok(tenancy.protect('app.metric') > 0, 'a partitioned table is protected');
ALTER TABLE app.metric_low OWNER TO test_neighbour;
CREATE FUNCTION pg_temp.with_default(expression text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text := 'taken back';
BEGIN
    SET LOCAL ROLE test_neighbour;
    EXECUTE format('COMMENT ON POLICY tenancy_isolation ON app.metric_low IS %L', 'Made by tenancy.protect; tenancy.unprotect takes it back. Before: '
        || jsonb_build_object('column', 'organization_id', 'domain', 'metric', 'index', NULL, 'previous_default', expression, 'row_security', false, 'force_row_security', false)::text);
    RESET ROLE;
    BEGIN
        PERFORM tenancy.unprotect('app.metric');
        RAISE EXCEPTION 'taken back' USING ERRCODE = 'P0099'; -- to be tried again
    EXCEPTION WHEN SQLSTATE 'P0099' THEN
        RETURN 'taken back';
    WHEN OTHERS THEN
        RETURN SQLSTATE;
    END;
END
$$;
SELECT is(pg_temp.with_default('gen_random_uuid()'), 'taken back', 'an expression is put back');
SELECT is(pg_temp.with_default(expression), state, 'refused: ' || expression)
  FROM (VALUES ('NULL; ALTER ROLE test_neighbour SUPERUSER', 'XX001'), ('NULL, OWNER TO postgres', 'XX001'), ('NULL, ALTER COLUMN id SET DEFAULT 1', 'XX001')) AS v (expression, state);
SELECT is(pg_temp.rank(), 'f f', 'still nobody is a superuser');

-- Arguments that run while FORCE is lifted.
SET LOCAL ROLE test_owner;
CREATE TABLE app.parent (id bigint PRIMARY KEY, organization_id uuid NOT NULL);
CREATE TABLE app.loot (organization_id uuid, id bigint);
INSERT INTO app.parent VALUES (1, test.acme()), (2, test.bolt());
DO $$ BEGIN PERFORM tenancy.protect('app.parent'); END $$;
CREATE TABLE app.child (id bigint PRIMARY KEY, organization_id uuid, parent_id bigint REFERENCES app.parent);
INSERT INTO app.child VALUES (1, NULL, NULL);
CREATE FUNCTION app.steal() RETURNS uuid LANGUAGE plpgsql AS $$ BEGIN INSERT INTO app.loot SELECT organization_id, id FROM app.parent; RETURN test.acme(); END $$;
SELECT test.refused($$ SELECT tenancy.backfill('app.child', 'organization_id', 'app.steal()') $$, '28000', '%', '%', 'a function of a back-fill reads under the policies');
SELECT is((SELECT count(*) FROM app.loot), 0::bigint, 'and takes nothing');
SELECT is(tenancy.backfill('app.child', 'organization_id', '(SELECT p.organization_id FROM app.parent p WHERE p.id = app.child.id)'), 1::bigint, 'the tables that the expression names are read');
RESET ROLE;
SELECT is((SELECT count(*) FROM tenancy.event WHERE operation = 'override' AND table_name = 'child'), 1::bigint, 'which is an event');

SELECT * FROM finish();
ROLLBACK;
