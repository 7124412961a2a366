-- What a session has learned of a trigger and its table is forgotten when either changes.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(9);
-- What the event with these new values tells: schema and table, domain.
CREATE FUNCTION test.told(new_values jsonb) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws('.', e.table_schema, e.table_name) || ', ' || e.domain FROM tenancy.audit_trail e WHERE e.new_values::jsonb = told.new_values
$$;
SET LOCAL tenancy.override_reason = 'triggers that change';

UPDATE app.finding SET severity = 10 WHERE id = 1;
SELECT set_eq($$ SELECT test.told('{"severity": 10}') $$, ARRAY['app.finding, finding'], 'a trigger has the arguments of protect');
DO $$ BEGIN
    EXECUTE (SELECT replace(replace(pg_get_triggerdef(oid), 'CREATE TRIGGER', 'CREATE OR REPLACE TRIGGER'), '''finding''', '''observed''')
               FROM pg_trigger WHERE tgrelid = 'app.finding'::regclass AND tgname = 'tenancy_audit');
END $$;
UPDATE app.finding SET severity = 11 WHERE id = 1;
SELECT set_eq($$ SELECT test.told('{"severity": 11}') $$, ARRAY['app.finding, observed'], 'one that is replaced has its new ones');
SAVEPOINT replaced;
DO $$ BEGIN
    EXECUTE (SELECT replace(replace(pg_get_triggerdef(oid), 'CREATE TRIGGER', 'CREATE OR REPLACE TRIGGER'), '''observed''', '''undone''')
               FROM pg_trigger WHERE tgrelid = 'app.finding'::regclass AND tgname = 'tenancy_audit');
END $$;
UPDATE app.finding SET severity = 12 WHERE id = 1;
SELECT set_eq($$ SELECT test.told('{"severity": 12}') $$, ARRAY['app.finding, undone'], 'also under a savepoint');
ROLLBACK TO SAVEPOINT replaced;
UPDATE app.finding SET severity = 13 WHERE id = 1;
SELECT set_eq($$ SELECT test.told('{"severity": 13}') $$, ARRAY['app.finding, observed'], 'and the old ones after its rollback');
ALTER TABLE app.finding RENAME TO observation;
ALTER TABLE app.observation RENAME COLUMN severity TO weight;
UPDATE app.observation SET weight = 14 WHERE id = 1;
SELECT set_eq($$ SELECT test.told('{"weight": 14}') $$, ARRAY['app.observation, observed'], 'a renamed table and column are told by their new names');
ALTER SCHEMA app RENAME TO moved;
UPDATE moved.observation SET weight = 15 WHERE id = 1;
SELECT set_eq($$ SELECT test.told('{"weight": 15}') $$, ARRAY['moved.observation, observed'], 'a renamed schema as well');
ALTER SCHEMA moved RENAME TO app;
ALTER TABLE app.observation ALTER COLUMN weight TYPE text;
UPDATE app.observation SET weight = 'much' WHERE id = 1;
SELECT set_eq($$ SELECT test.told('{"weight": "much"}') $$, ARRAY['app.observation, observed'], 'a column of another type is read as that');
ALTER TABLE app.observation RENAME COLUMN organization_id TO org;
SELECT test.refused($$ UPDATE app.observation SET weight = 'more' WHERE id = 1 $$, '42703', 'table "observation" has no column "organization_id", by which it was protected', '%',
                    'nothing is written unrecorded once the organization has another name');
ALTER TABLE app.observation RENAME COLUMN org TO organization_id;
ALTER TABLE app.observation NO FORCE ROW LEVEL SECURITY;
RESET tenancy.override_reason;
SELECT test.refused($$ UPDATE app.observation SET weight = 'more' WHERE id = 1 $$, '39P01', 'the audit triggers are for permanent tables with forced row-level security', '%',
                    'nor once the table is no longer protected');
SELECT * FROM finish();
ROLLBACK;
