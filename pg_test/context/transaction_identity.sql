-- The seal: a transaction keeps the first identity that it authenticates, and leaves no cursor of it behind.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(50);
GRANT EXECUTE ON FUNCTION tenancy.authenticate_session(text, uuid, text) TO test_application;
SELECT tenancy.set_issuer('https://other.test/', '{database}', jwks_file => test.key_file(test.jwks()), leeway_seconds => 0) \g /dev/null
SELECT tenancy.set_membership(test.acme(), 'ada', 'admin', 'https://other.test/') \g /dev/null
SET LOCAL SESSION AUTHORIZATION test_application;

-- What a transaction that is sealed to ada of Acme answers to everybody else.
CREATE FUNCTION pg_temp.refused_as_sealed(statement text, promise text) RETURNS text LANGUAGE sql AS $$
    SELECT test.refused(statement, '28000', 'this transaction has another identity already', 'Authenticate somebody else in a new transaction%', promise)
$$;
CREATE FUNCTION pg_temp.words_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    message text; detail text; hint text;
BEGIN
    EXECUTE statement;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws('|', message, detail, hint);
END
$$;

-- Reads when it is fetched from, where a plain query would be refused when it is planned.
CREATE FUNCTION pg_temp.findings() RETURNS SETOF integer LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY SELECT id FROM app.finding ORDER BY 1; END $$;

-- One identity ----------------------------------------------------------------------------------------------------------

SAVEPOINT nobody;
CALL test.sign_in('ada');
SELECT pg_temp.refused_as_sealed($$ SELECT tenancy.authenticate(test.token('bob')) $$, 'a member of another organization is refused');
SELECT pg_temp.refused_as_sealed($$ SELECT tenancy.authenticate(test.token('eve')) $$, 'another member of the same organization is refused');
SELECT pg_temp.refused_as_sealed($$ SELECT tenancy.authenticate(test.token('ada', '{"iss": "https://other.test/"}')) $$, 'the same subject of another issuer is refused');
SELECT pg_temp.refused_as_sealed($$ SELECT tenancy.authenticate_session(test.token('bob')) $$, 'for the session too');
SELECT is(pg_temp.words_of($$ SELECT tenancy.authenticate(test.token('bob')) $$) ~ 'ada|acme|bob|bolt', false, 'the refusal names neither of the two');
SELECT is(tenancy.org_id(), test.acme(), 'a refused identity leaves the one that is there');
SELECT is(tenancy.authenticate(test.token('ada'), correlation_id => 'again'), test.acme(), 'the same one may authenticate again');
SELECT is(tenancy.correlation_id(), 'again', 'and the newer is in force');
SELECT is(tenancy.authenticate(test.token('ada', jsonb_build_object('exp', floor(extract(epoch FROM clock_timestamp())) + 7200))), test.acme(), 'with a fresher token');
SELECT cmp_ok((tenancy.whoami() ->> 'expires_at')::timestamptz, '>', clock_timestamp() + interval '110 minutes', 'the access lasts longer');

ROLLBACK TO SAVEPOINT nobody;
SELECT is(tenancy.authenticate(test.token('mia'), test.bolt()), test.bolt(), '(a member of two organizations)');
SELECT pg_temp.refused_as_sealed($$ SELECT tenancy.authenticate(test.token('mia'), test.acme()) $$, 'the same subject in another organization is refused');

-- Nothing that clears the context breaks the seal -------------------------------------------------------------------------

ROLLBACK TO SAVEPOINT nobody;
CALL test.sign_in('ada');
CALL test.sign_out();
SELECT is(tenancy.whoami(), '{"authenticated": false}', 'sign_out leaves no context');
SELECT pg_temp.refused_as_sealed($$ SELECT tenancy.authenticate(test.token('bob')) $$, 'and the seal as it was');
SELECT is(tenancy.authenticate(test.token('ada')), test.acme(), 'who signed out may come back');
RESET ALL;
SET LOCAL search_path = test, public;
SELECT is(tenancy.whoami(), '{"authenticated": false}', 'RESET ALL leaves no context');
SELECT pg_temp.refused_as_sealed($$ SELECT tenancy.authenticate(test.token('bob')) $$, 'and the seal as it was');
RESET SESSION AUTHORIZATION;
SELECT pg_temp.refused_as_sealed($$ SELECT tenancy.authenticate(test.token('bob')) $$, 'another database role does not break it, be it a superuser');
RESET tenancy.context;
SELECT pg_temp.refused_as_sealed($$ SELECT tenancy.authenticate(test.token('bob')) $$, 'nor does a superuser who resets the setting');
SET LOCAL SESSION AUTHORIZATION test_application;
SELECT throws_ok('DISCARD ALL', '25001', NULL, 'DISCARD ALL is not for a transaction');
DISCARD PLANS;
DISCARD SEQUENCES;
SELECT pg_temp.refused_as_sealed($$ SELECT tenancy.authenticate(test.token('bob')) $$, 'the other DISCARDs leave the seal');

-- Savepoints and exceptions -----------------------------------------------------------------------------------------------

SAVEPOINT a;
SAVEPOINT b;
SELECT is(tenancy.authenticate(test.token('ada')), test.acme(), '(once more, deeper)');
ROLLBACK TO SAVEPOINT a;
SELECT pg_temp.refused_as_sealed($$ SELECT tenancy.authenticate(test.token('bob')) $$, 'a rollback to a savepoint that is younger than the seal leaves it');
ROLLBACK TO SAVEPOINT nobody;
SELECT is(tenancy.authenticate(test.token('bob')), test.bolt(), 'a rollback to one that is older takes seal, context and rows together');
SELECT pg_temp.refused_as_sealed($$ SELECT tenancy.authenticate(test.token('ada')) $$, 'the next one seals anew');
ROLLBACK TO SAVEPOINT nobody;
SAVEPOINT c;
CALL test.sign_in('ada');
RELEASE SAVEPOINT c;
SELECT pg_temp.refused_as_sealed($$ SELECT tenancy.authenticate(test.token('bob')) $$, 'a released savepoint leaves its seal');

ROLLBACK TO SAVEPOINT nobody;
CREATE FUNCTION pg_temp.in_one_block(first text, second text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        PERFORM tenancy.authenticate(test.token(first));
        PERFORM tenancy.authenticate(test.token(second));
    EXCEPTION WHEN invalid_authorization_specification THEN
        RETURN coalesce(tenancy.whoami() ->> 'subject', 'nobody');
    END;
    RETURN 'both';
END
$$;
SELECT is(pg_temp.in_one_block('ada', 'bob'), 'nobody', 'an exception block takes both back: what it refused, and what was there first');
SELECT is(tenancy.authenticate(test.token('bob')), test.bolt(), 'after which the transaction is free');
SELECT is(pg_temp.in_one_block('bob', 'ada'), 'bob', 'a block within a sealed transaction takes back its own');
SELECT pg_temp.refused_as_sealed($$ SELECT tenancy.authenticate(test.token('ada')) $$, 'and leaves the seal');

-- Rows that outlive a savepoint in a cursor that is older -------------------------------------------------------------------

ROLLBACK TO SAVEPOINT nobody;
DECLARE lingering CURSOR FOR SELECT pg_temp.findings() AS id;
SAVEPOINT s;
CALL test.sign_in('ada');
SELECT results_eq('FETCH 1 FROM lingering', '{1}'::integer[], '(a cursor opened by nobody reads as ada)');
ROLLBACK TO SAVEPOINT s;
SELECT test.refused($$ SELECT tenancy.authenticate(test.token('bob')) $$, '28000', 'an open cursor may hold rows of the identity that was rolled back', '%', 'while it is open nobody else is let in');
SELECT is(tenancy.authenticate(test.token('ada')), test.acme(), 'but the one whose rows it may hold');
ROLLBACK TO SAVEPOINT s;
CLOSE lingering;
SELECT is(tenancy.authenticate(test.token('bob')), test.bolt(), 'once it is closed another one is let in');
ROLLBACK TO SAVEPOINT nobody;

-- Cursors WITH HOLD ---------------------------------------------------------------------------------------------------------

CALL test.sign_in('ada');
SELECT test.refused('DECLARE kept CURSOR WITH HOLD FOR ' || query, '55000', 'a cursor WITH HOLD would keep rows of the organization beyond this transaction',
                    'Fetch within the transaction%', 'under a context refused: WITH HOLD FOR ' || query) FROM unnest('{SELECT id FROM app.finding,VALUES (1)}'::text[]) query;
SELECT test.refused($$ DO 'BEGIN EXECUTE ''DECLARE kept CURSOR WITH HOLD FOR SELECT id FROM app.finding''; END' $$, '55000', '%WITH HOLD%', '%', 'in a function too');
SELECT lives_ok('DECLARE passing CURSOR WITHOUT HOLD FOR SELECT id FROM app.finding', 'a cursor without HOLD may be declared');
CALL test.sign_out();
SELECT test.refused('DECLARE kept CURSOR WITH HOLD FOR VALUES (1)', '55000', '%WITH HOLD%', '%', 'nor after signing out, in the same transaction');
ROLLBACK TO SAVEPOINT nobody;

DECLARE early CURSOR WITH HOLD FOR SELECT pg_temp.findings() AS id;
SELECT test.refused($$ SELECT tenancy.authenticate(test.token('ada')) $$, '55000', 'a cursor WITH HOLD would keep rows%', '%', 'nor does one declared before hold rows of who comes after');
SAVEPOINT t;
CLOSE early;
SELECT is(tenancy.authenticate(test.token('ada')), test.acme(), 'once it is closed one may authenticate');
ROLLBACK TO SAVEPOINT t;
SELECT is(tenancy.authenticate_session(test.token('ada')), test.acme(), 'a session''s own identity may hold cursors');
SELECT lives_ok('DECLARE late CURSOR WITH HOLD FOR SELECT id FROM app.finding', 'declared later too');
SELECT is(tenancy.whoami() ->> 'scope', 'session', 'whoami tells the scope');
SELECT test.refused($$ SELECT tenancy.authenticate(test.token('ada')) $$, '55000', 'a cursor WITH HOLD would keep rows%', '%', 'but then the identity cannot become the transaction''s');
ROLLBACK TO SAVEPOINT nobody;
SAVEPOINT u;
DECLARE undone CURSOR WITH HOLD FOR VALUES (1);
ROLLBACK TO SAVEPOINT u;
SELECT is(tenancy.authenticate(test.token('ada')), test.acme(), 'a cursor that went with its savepoint is no obstacle');
ROLLBACK TO SAVEPOINT nobody;

-- The session within its transaction ----------------------------------------------------------------------------------------

SELECT is(tenancy.authenticate_session(test.token('ada'), correlation_id => 'session'), test.acme(), 'authenticate_session returns the organization');
SELECT is((SELECT array_agg(id ORDER BY id) FROM app.finding), '{1,2,3}', 'and gives access to its rows');
SELECT pg_temp.refused_as_sealed($$ SELECT tenancy.authenticate(test.token('bob')) $$, 'the transaction is sealed to it');
CALL test.sign_out();
SELECT is(tenancy.whoami(), '{"authenticated": false}', 'sign_out ends it');

RESET SESSION AUTHORIZATION;
SELECT * FROM finish();
ROLLBACK;
