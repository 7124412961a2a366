-- Custom actions: changes that need a permission of their own.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(29);

SELECT tenancy.create_role('approver'), tenancy.grant_permission('approver', 'remediation', 'read', 'update', 'approve'),
       tenancy.create_role('worker'), tenancy.grant_permission('worker', 'remediation', 'read', 'create', 'update', 'close'),
       tenancy.set_membership(test.acme(), 'ann', 'approver'), tenancy.set_membership(test.acme(), 'wim', 'worker') \g /dev/null
SET LOCAL SESSION AUTHORIZATION test_owner;
CREATE TYPE app.state AS ENUM ('open', 'closed', 'lost');
CREATE TABLE app.remediation (
    id integer PRIMARY KEY, organization_id uuid NOT NULL, plan text,
    approved boolean NOT NULL DEFAULT false, approved_by text, status app.state NOT NULL DEFAULT 'open');
INSERT INTO app.remediation VALUES (1, test.acme(), 'a', false, NULL, 'open'), (2, test.acme(), 'b', true, 'ann', 'closed'), (3, test.bolt(), 'c', false, NULL, 'open');
GRANT SELECT, INSERT, UPDATE, DELETE ON app.remediation TO test_application;

SELECT test.refused(format('SELECT tenancy.protect(%L, actions => %L)', 'app.remediation', actions), state, '%', '%', 'refused: ' || actions) FROM (VALUES
    ('[]', '22023'), ('{"approve": {"columns": []}}', '22023'), ('{"update": {"columns": ["plan"]}}', '22023'), ('{"approve": {"columns": ["nothing"]}}', '42703')) AS v (actions, state);
SELECT is(tenancy.protect('app.remediation', actions => '{"approve": {"columns": ["approved", "approved_by"]}, "close": {"column": "status", "values": ["closed", "lost"]}}') > 0,
          true, 'a table may ask for permissions of its own');
SELECT is(tenancy.protect('app.remediation'), 0, 'which are remembered');
SELECT is((SELECT count(*) FROM pg_trigger WHERE tgrelid = 'app.remediation'::regclass AND tgname LIKE 'tenancy\_action\_%' AND tgenabled = 'A'), 2::bigint, 'as triggers that fire always');

SET LOCAL SESSION AUTHORIZATION test_application;
SAVEPOINT nobody;
CALL test.sign_in('wim');
UPDATE app.remediation SET plan = 'better' WHERE id = 1;
SELECT is((SELECT plan FROM app.remediation WHERE id = 1), 'better', 'other columns need only update');
SELECT test.refused($$ UPDATE app.remediation SET approved = true WHERE id = 1 $$, '42501', 'role "worker" may not approve in domain "remediation"', '%', 'a change of the column needs the action');
SELECT test.refused($$ UPDATE app.remediation SET approved = NOT approved $$, '42501', 'role "worker" may not approve%', '%', 'of any row');
SELECT test.refused($$ INSERT INTO app.remediation (id, approved_by) VALUES (10, 'wim') $$, '42501', 'role "worker" may not approve%', '%', 'a new row with a value needs it too');
SELECT test.refused($$ INSERT INTO app.remediation (id, approved) VALUES (10, true) $$, '42501', 'role "worker" may not approve%', '%', 'if it is not the default');
INSERT INTO app.remediation (id, approved) VALUES (10, false), (11, DEFAULT);
SELECT is((SELECT count(*) FROM app.remediation WHERE id >= 10), 2::bigint, 'with the default it does not');
UPDATE app.remediation SET approved = true WHERE id = 2;
SELECT pass('a column set to what it holds is not changed');
UPDATE app.remediation SET status = 'closed' WHERE id = 1;
SELECT is((SELECT status FROM app.remediation WHERE id = 1), 'closed', 'who has the action may enter the state');
SELECT test.refused($$ INSERT INTO app.remediation (id, approved_by) SELECT 12, 'x' ON CONFLICT DO NOTHING $$, '42501', 'role "worker" may not approve%', '%', 'ON CONFLICT is no way around');
SELECT test.refused($$ MERGE INTO app.remediation r USING (VALUES (1)) v (id) ON r.id = v.id WHEN MATCHED THEN UPDATE SET approved = true $$, '42501', 'role "worker" may not approve%', '%', 'nor is MERGE');
ROLLBACK TO SAVEPOINT nobody;
SET LOCAL SESSION AUTHORIZATION test_application;
CALL test.sign_in('ann');
UPDATE app.remediation SET approved = true, approved_by = 'ann' WHERE id = 1;
SELECT is((SELECT approved_by FROM app.remediation WHERE id = 1), 'ann', 'who has the other action may do that');
SELECT test.refused($$ UPDATE app.remediation SET status = 'closed' WHERE id = 1 $$, '42501', 'role "approver" may not close%', '%', 'but not enter the state');
SELECT test.refused($$ UPDATE app.remediation SET status = 'open' WHERE id = 2 $$, '42501', 'role "approver" may not close%', '%', 'nor leave it');
SELECT test.refused($$ UPDATE app.remediation SET status = 'lost' WHERE id = 2 $$, '42501', 'role "approver" may not close%', '%', 'nor go from one to another');
UPDATE app.remediation SET plan = 'later' WHERE id = 2;
SELECT is((SELECT plan FROM app.remediation WHERE id = 2), 'later', 'a row that stays in the state can be changed');
ROLLBACK TO SAVEPOINT nobody;
RESET SESSION AUTHORIZATION;
UPDATE app.remediation SET status = 'closed', approved = true WHERE id = 3;
SELECT pass('a DBA whom no policy binds is not asked');

-- A trigger function of the application sees the row before the action is judged.
SET LOCAL SESSION AUTHORIZATION test_owner;
CREATE FUNCTION app.approve_all() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.approved := true; RETURN NEW; END $$;
CREATE TRIGGER zz_last BEFORE UPDATE ON app.remediation FOR EACH ROW EXECUTE FUNCTION app.approve_all();
SET LOCAL SESSION AUTHORIZATION test_application;
SAVEPOINT nobody;
CALL test.sign_in('wim');
SELECT test.refused($$ UPDATE app.remediation SET plan = 'x' WHERE id = 1 $$, '42501', 'role "worker" may not approve%', '%', 'what a trigger changes is changed');
ROLLBACK TO SAVEPOINT nobody;

-- Other actions, and none.
RESET SESSION AUTHORIZATION;
SET LOCAL SESSION AUTHORIZATION test_owner;
SELECT is(tenancy.protect('app.remediation', actions => '{"approve": {"columns": ["approved"]}}'), 4, 'actions can be changed');
SELECT is((SELECT array_agg(tgname) FROM pg_trigger WHERE tgrelid = 'app.remediation'::regclass AND tgname LIKE 'tenancy\_action\_%'), '{tenancy_action_approve}'::name[], 'and go');
ALTER TABLE app.remediation DROP COLUMN approved;
SET LOCAL SESSION AUTHORIZATION test_application;
SAVEPOINT nobody;
CALL test.sign_in('wim');
SELECT test.refused($$ INSERT INTO app.remediation (id) VALUES (20) $$, '42703', '%which an action is about%', '%', 'a column that is gone is not an open door');
ROLLBACK TO SAVEPOINT nobody;
RESET SESSION AUTHORIZATION;
SET LOCAL SESSION AUTHORIZATION test_owner;
SELECT is(tenancy.unprotect('app.remediation') > 0, true, 'the protection can be taken back');
SELECT is_empty($$ SELECT FROM pg_trigger WHERE tgrelid = 'app.remediation'::regclass AND tgname LIKE 'tenancy%' $$, 'with its actions');

SELECT * FROM finish();
ROLLBACK;
