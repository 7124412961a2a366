-- The context: who acts, for which organization; there only after tenancy.authenticate, gone with the transaction.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(41);
SELECT tenancy.create_organization('No number', 'cccccccc-0000-4000-8000-000000000003') \g /dev/null
SELECT tenancy.set_membership('cccccccc-0000-4000-8000-000000000003', 'nina', 'admin') \g /dev/null
SET LOCAL SESSION AUTHORIZATION test_application;

-- Without a context ---------------------------------------------------------------------------------------------------

SELECT is(tenancy.whoami(), '{"authenticated": false}', 'whoami tells that nobody is authenticated, and raises no error');
SELECT test.refused(format('SELECT tenancy.%s', call), '28000', 'no organization is authenticated in this transaction',
                    'Call tenancy.authenticate(token) first%', format('without a context tenancy.%s is refused', call))
  FROM unnest('{org_id(), org_id_text(), org_id_bigint(), subject(), actor_role(), claims()}'::text[]) call;
SELECT test.refused($$ SELECT tenancy.allowed('finding', 'read') $$, '28000', 'no organization is authenticated%', '%',
                    'without a context nothing can be asked of the role');
SELECT test.refused($$ SELECT tenancy.authorize('finding', 'read') $$, '28000', 'no organization is authenticated%', '%',
                    'without a context nothing is authorized');
SELECT is(tenancy.correlation_id(), NULL, 'without a context there is no correlation id');
SELECT lives_ok('SELECT tenancy.sign_out()', 'signing out without a context is no error');

-- With one ------------------------------------------------------------------------------------------------------------
-- Each identity has a subtransaction, which is rolled back before the next.

SAVEPOINT nobody;

SELECT is(tenancy.authenticate(test.token('ada', '{"email": "ada@acme.test"}'), correlation_id => 'request 7'), test.acme(),
          'authenticate returns the organization');
SELECT is(tenancy.org_id(), test.acme(), 'org_id is the organization');
SELECT is(tenancy.org_id_text(), 'acme', 'org_id_text is the organization''s text id');
SELECT is(tenancy.org_id_bigint(), 1::bigint, 'org_id_bigint is the organization''s integer id');
SELECT is(tenancy.subject(), 'ada', 'subject is the "sub" of the token');
SELECT is(tenancy.actor_role(), 'admin', 'actor_role is the role of the membership');
SELECT is(tenancy.correlation_id(), 'request 7', 'correlation_id is the one given');
SELECT is(tenancy.claims() ->> 'email', 'ada@acme.test', 'claims holds what the token says');
SELECT is(tenancy.whoami() - 'expires_at' - 'elevation', jsonb_build_object(
    'authenticated', true, 'expired', false, 'scope', 'transaction', 'method', 'token', 'organization', test.acme(), 'subject', 'ada',
    'issuer', test.issuer(), 'role', 'admin', 'session_id', 'session of ada', 'correlation_id', 'request 7',
    'permissions', '["*:*"]'::jsonb), 'whoami tells all of it');
SELECT cmp_ok((tenancy.whoami() ->> 'expires_at')::timestamptz, '>', now(), 'whoami tells when it ends');
SELECT is(tenancy.allowed(NULL, 'read'), NULL, 'a NULL domain has no answer');
SELECT is(tenancy.authorize('finding', NULL), NULL, 'a NULL action has no answer');

ROLLBACK TO SAVEPOINT nobody;
CALL test.sign_in('bob');
SELECT is(tenancy.org_id(), test.bolt(), 'the next identity has its own organization');
SELECT is(tenancy.org_id_text(), 'bolt', 'the next identity has its own text id');
SELECT is(tenancy.correlation_id(), NULL, 'the next identity has nothing of the one before');

CALL test.sign_out();
SELECT is(tenancy.whoami(), '{"authenticated": false}', 'sign_out leaves no context');

ROLLBACK TO SAVEPOINT nobody;
CALL test.sign_in('nina');
SELECT is(tenancy.org_id_text(), 'cccccccc-0000-4000-8000-000000000003', 'the text id is the id''s text unless another was given');
SELECT test.refused('SELECT tenancy.org_id_bigint()', '42704', 'the organization of this transaction has no integer id', '%',
                    'an organization without a number has no integer id, and says so');

-- Savepoints ----------------------------------------------------------------------------------------------------------

ROLLBACK TO SAVEPOINT nobody;
CALL test.sign_in('ada', correlation_id => 'one');
SAVEPOINT a;
CALL test.sign_in('ada', correlation_id => 'two');
ROLLBACK TO SAVEPOINT a;
SELECT is(tenancy.correlation_id(), 'one', 'rolling back to a savepoint brings back the context that was there before it');
CALL test.sign_in('ada', correlation_id => 'two');
RELEASE SAVEPOINT a;
SELECT is(tenancy.correlation_id(), 'two', 'a released savepoint keeps the context');
CALL test.sign_out();
SAVEPOINT b;
CALL test.sign_in('ada');
ROLLBACK TO SAVEPOINT b;
SELECT is(tenancy.whoami(), '{"authenticated": false}', 'what a rolled-back savepoint authenticated is gone');
SELECT throws_ok($$ SELECT tenancy.authenticate(test.token('ada')), 1/0 $$, '22012', NULL, 'a statement that fails after authenticating');
SELECT is(tenancy.whoami(), '{"authenticated": false}', 'leaves no context');
CALL test.sign_in('ada');
SELECT throws_ok($$ SELECT tenancy.authenticate('rubbish') $$, '28000', NULL, 'a refused token');
SELECT is(tenancy.org_id(), test.acme(), 'leaves the context that was there');

-- Expiry --------------------------------------------------------------------------------------------------------------

CREATE FUNCTION pg_temp.token_of_two_seconds() RETURNS text LANGUAGE sql AS $$
    SELECT test.token('ada', jsonb_build_object('exp', floor(extract(epoch FROM clock_timestamp())) + 2))
$$;
SELECT tenancy.authenticate(pg_temp.token_of_two_seconds()) \g /dev/null
SELECT is(tenancy.org_id(), test.acme(), 'a token serves until it ends');
SELECT pg_sleep(2.1) \g /dev/null
SELECT test.refused('SELECT tenancy.org_id()', '28000', 'the token behind this transaction has expired',
                    'Authenticate again with a fresh token%', 'once the token has ended there is no organization');
SELECT test.refused('SELECT * FROM app.finding', '28000', 'the token behind this transaction has expired', '%',
                    'once the token has ended there are no rows');
SELECT test.refused($$ SELECT tenancy.authorize('finding', 'read') $$, '28000', 'the token behind this transaction has expired', '%',
                    'once the token has ended nothing is authorized');
SELECT results_eq($$ SELECT w -> 'authenticated', w -> 'expired' FROM tenancy.whoami() w $$, $$ VALUES ('false'::jsonb, 'true'::jsonb) $$,
                  'whoami tells that the token has ended');

-- Transactions --------------------------------------------------------------------------------------------------------

RESET SESSION AUTHORIZATION;
SELECT * FROM finish();
ROLLBACK;
