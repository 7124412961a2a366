-- A row that is written is looked at wherever something may have changed its organization.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(12);
CREATE TABLE app.part (id integer, organization_id uuid NOT NULL, n integer) PARTITION BY RANGE (id);
CREATE TABLE app.part_1 PARTITION OF app.part FOR VALUES FROM (0) TO (9);
INSERT INTO app.part VALUES (1, test.acme(), 1);
SELECT tenancy.protect('app.part', domain => 'finding') \g /dev/null
GRANT SELECT, UPDATE ON app.part, app.part_1 TO test_application;
CREATE FUNCTION app.move() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.organization_id := 'bbbbbbbb-0000-4000-8000-000000000002'; RETURN NEW; END $$;
SELECT is(test.bolt(), 'bbbbbbbb-0000-4000-8000-000000000002'::uuid, 'what the trigger writes is another organization');
CREATE FUNCTION test.outcome(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN 'done';
EXCEPTION WHEN insufficient_privilege THEN
    RETURN SQLERRM;
END
$$;
SET LOCAL SESSION AUTHORIZATION test_application;
PREPARE touch AS UPDATE app.finding SET severity = 1 WHERE id = 1;
PREPARE touch_part AS UPDATE app.part SET n = 1 WHERE id = 1;
SAVEPOINT nobody;
CALL test.sign_in('eve');
SELECT is(test.outcome(statement), 'done', 'without a trigger: ' || statement) FROM unnest('{EXECUTE touch,EXECUTE touch_part}'::text[]) statement;
SELECT is(test.outcome(statement) LIKE 'new row violates row-level security policy %', true, 'refused: ' || statement)
  FROM unnest(ARRAY['UPDATE app.finding SET organization_id = test.bolt() WHERE id = 1', 'UPDATE app.finding SET (severity, organization_id) = (1, test.bolt())',
                    'INSERT INTO app.finding (id, title) VALUES (1, ''x'') ON CONFLICT (id) DO UPDATE SET organization_id = test.bolt()']) statement;
ROLLBACK TO SAVEPOINT nobody;
RESET SESSION AUTHORIZATION;
CREATE TRIGGER moves BEFORE UPDATE ON app.finding FOR EACH ROW EXECUTE FUNCTION app.move();
CREATE TRIGGER moves BEFORE UPDATE ON app.part_1 FOR EACH ROW EXECUTE FUNCTION app.move();
SET LOCAL SESSION AUTHORIZATION test_application;
CALL test.sign_in('eve');
SELECT is(test.outcome(statement) LIKE 'new row violates row-level security policy %', true, 'with a trigger that moves rows refused: ' || statement)
  FROM unnest(ARRAY['UPDATE app.finding SET severity = 1 WHERE id = 1', 'EXECUTE touch', 'UPDATE app.part SET n = 1 WHERE id = 1', 'EXECUTE touch_part', 'UPDATE app.part_1 SET n = 1',
                    'MERGE INTO app.finding f USING (VALUES (1)) v (id) ON f.id = v.id WHEN MATCHED THEN UPDATE SET severity = 1']) statement;
RESET SESSION AUTHORIZATION;
SELECT * FROM finish();
ROLLBACK;
