-- Operators: an organization assumed without a token, for a reason.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(33);
CREATE ROLE test_operator IN ROLE tenancy_operator;
GRANT USAGE ON SCHEMA app TO test_operator;
GRANT SELECT, INSERT, UPDATE, DELETE ON app.finding TO test_operator;

SET LOCAL SESSION AUTHORIZATION test_operator;
SELECT test.refused('SELECT * FROM app.finding', '28000', 'no organization is authenticated%', '%', 'an operator begins without an organization');
SELECT test.refused(format('SELECT tenancy.assume_organization(%s)', arguments), state, '%', '%', 'refused: ' || arguments) FROM (VALUES
    ('NULL, ''x''', '22004'), ('test.acme(), NULL', '22004'), ('test.acme(), ''  ''', '22004'), ('gen_random_uuid(), ''x''', '42704'), ('test.acme(), ''x'', ''nobody''', '42704'),
    ('test.acme(), repeat(''x'', 1001)', '22023'), ('test.acme(), ''x'', NULL, repeat(''x'', 201)', '22023')) AS v (arguments, state);
SELECT is(tenancy.whoami() ->> 'authenticated', 'false', 'a refusal leaves nothing');
SAVEPOINT nobody;

SELECT is(tenancy.assume_organization(test.acme(), 'TICKET-7', correlation_id => 'run 1'), test.acme(), 'an organization is assumed for a reason');
SELECT is(tenancy.whoami() - 'expires_at' - 'permissions' - 'elevation', jsonb_build_object('authenticated', true, 'expired', false, 'scope', 'transaction', 'method', 'assumed', 'organization', test.acme(),
    'subject', 'test_operator', 'issuer', 'pg_tenancy:operator', 'role', 'operator', 'session_id', NULL, 'correlation_id', 'run 1'), 'as the database role that logged in');
SELECT results_eq('SELECT id FROM app.finding ORDER BY 1', '{1,2,3}'::integer[], 'the policies apply');
SELECT is(tenancy.allowed('anything', 'whatever'), true, 'without a role everything is permitted');
UPDATE app.finding SET severity = 8 WHERE id IN (1, 4);
SELECT test.refused($$ SELECT tenancy.assume_organization(test.bolt(), 'TICKET-7') $$, '28000', 'this transaction has another identity already', '%', 'the transaction keeps the organization');
SELECT test.refused($$ CALL test.sign_in('ada') $$, '28000', 'this transaction has another identity already', '%', 'and takes no token');
RESET SESSION AUTHORIZATION;
SELECT results_eq($$ SELECT e.operation, e.organization, e.reason, a.method, a.subject, a.reason, a.correlation_id FROM tenancy.event e JOIN tenancy.event_actor a ON a.id = e.actor WHERE a.method = 'assumed' ORDER BY e.ordinal $$, $$ VALUES
    ('assume', test.acme(), 'TICKET-7', 'assumed', 'test_operator', 'TICKET-7', 'run 1'), ('update', test.acme(), NULL, 'assumed', 'test_operator', 'TICKET-7', 'run 1') $$,
    'it is an event, and each event after it has the reason');
SELECT is((SELECT count(*) FROM app.finding WHERE severity = 8), 1::bigint, 'and no row of another organization was changed');
ROLLBACK TO SAVEPOINT nobody;

SET LOCAL SESSION AUTHORIZATION test_operator;
SELECT tenancy.assume_organization(test.bolt(), 'a look', role => 'reader') \g /dev/null
SELECT results_eq('SELECT id FROM app.finding ORDER BY 1', '{4,5}'::integer[], 'with a role it reads what the role may');
SELECT test.refused('DELETE FROM app.finding', '42501', 'role "reader" may not delete%', '%', 'and does no more');
CALL test.sign_out();
SELECT test.refused('SELECT * FROM app.finding', '28000', 'no organization is authenticated%', '%', 'sign_out ends it');
SELECT is(tenancy.assume_organization(test.bolt(), 'again'), test.bolt(), 'and the same may be assumed again');
ROLLBACK TO SAVEPOINT nobody;
SET LOCAL SESSION AUTHORIZATION test_operator;
SET LOCAL transaction_read_only = on;
SELECT test.refused($$ SELECT tenancy.assume_organization(test.acme(), 'x') $$, '25006', '%', '%', 'where it cannot be recorded it is refused');
ROLLBACK TO SAVEPOINT nobody;
RESET SESSION AUTHORIZATION;

-- Nobody else may, and an operator may nothing else.
SELECT throws_ok($$ SET LOCAL ROLE $$ || role || $$; SELECT tenancy.assume_organization(test.acme(), 'x') $$, '42501', NULL, role || ' may not assume an organization')
  FROM unnest('{test_application,test_owner,test_auditor,test_stranger}'::text[]) role;
RESET ROLE;
SET LOCAL SESSION AUTHORIZATION test_operator;
SELECT throws_ok(statement, '42501', NULL, 'an operator may not: ' || statement) FROM unnest(ARRAY[
    'SELECT * FROM tenancy.organization', 'SELECT * FROM tenancy.event', 'SELECT tenancy.create_organization(''x'')', 'SELECT tenancy.seal()', 'SELECT * FROM tenancy.advise()',
    'SELECT tenancy.set_guardrail(''new_tables'', ''off'', ''x'')', 'SELECT tenancy.authenticate_session(''x'')']) statement;

SELECT * FROM finish();
ROLLBACK;
