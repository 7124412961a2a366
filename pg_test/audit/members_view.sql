-- Members read the events of their own organization through a view; row-level security holds whatever is granted.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(41);

SELECT tenancy.create_role('clerk'), tenancy.grant_permission('clerk', 'finding', '*'), tenancy.set_membership(test.acme(), 'carl', 'clerk') \g /dev/null
SELECT tenancy.create_role('reviewer'), tenancy.grant_permission('reviewer', 'audit', 'read'), tenancy.grant_permission('reviewer', 'finding', 'read', 'update'), tenancy.set_membership(test.acme(), 'rita', 'reviewer') \g /dev/null
SELECT tenancy.create_organization('New', 'cccccccc-0000-4000-8000-000000000003'), tenancy.set_membership('cccccccc-0000-4000-8000-000000000003', 'nina', 'reader'),
       tenancy.set_membership('cccccccc-0000-4000-8000-000000000003', 'ned', 'clerk') \g /dev/null

-- What there is to read -------------------------------------------------------------------------------------------------

-- A transaction has one identity, and its events are sealed by a later one; the suite is one transaction, so what others did and
-- the places of all are written by hand.
UPDATE app.finding SET title = 'changed by a superuser' WHERE id IN (2, 4);
CREATE FUNCTION pg_temp.acted(method text, subject text, organization uuid, reason text, of_event uuid) RETURNS void LANGUAGE sql AS $$
    WITH actor AS (
        INSERT INTO tenancy.event_actor
        SELECT overlay(gen_random_uuid()::text PLACING left(tenancy.lowest_id(now())::text, 13) FROM 1)::uuid, method, subject, 'https://secret.issuer/', 'secret role', organization, 'secret session', 'secret request', reason,
               'login_role', 'current_role', '192.0.2.7', 'secret program'
        RETURNING id)
    INSERT INTO tenancy.event_batch
    SELECT tenancy.batch_of(overlay(gen_random_uuid()::text PLACING left(tenancy.lowest_id(now())::text, 13) FROM 1)::uuid), of_event, actor.id, pg_current_xact_id(), 1, 1, now(), 'insert', 'finding', 'app', 'finding', 'success', NULL, '{}', '{}', NULL,
           sha256(actor.id::text::bytea), NULL, '\x47cbabd1', 2, sha256(''), sha256(actor.id::text::bytea)
      FROM actor
$$;
SELECT pg_temp.acted('assumed', 'ops', test.acme(), 'ticket 7', test.acme()) \g /dev/null
SELECT pg_temp.acted('token', 'bob', test.bolt(), NULL, test.acme()), pg_temp.acted('break-glass', 'bob', test.bolt(), NULL, test.bolt()) \g /dev/null
CREATE FUNCTION pg_temp.entry(id uuid, events integer, hash bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT uuid_send(id) || decode(lpad(to_hex(events - 1), 2, '0'), 'hex') || hash $$;
CREATE FUNCTION pg_temp.seal_all() RETURNS void LANGUAGE sql AS $$
    INSERT INTO tenancy.seal
    SELECT e.organization, (SELECT coalesce(max(s.block), 0) + 1 FROM tenancy.seal s), coalesce((SELECT max(s.position) FROM tenancy.seal s WHERE s.organization = e.organization), 0) + sum(e.events),
           coalesce((SELECT max(s.leaves) FROM tenancy.seal s WHERE s.organization = e.organization), 0) + count(*), sha256(''), '', string_agg(pg_temp.entry(e.id, e.events, e.hash), '' ORDER BY e.occurred_at, e.id)
      FROM tenancy.event_batch e WHERE e.domain = 'finding' AND NOT EXISTS (SELECT FROM tenancy.entry s WHERE s.batch = e.id)
     GROUP BY e.organization
$$;
SELECT pg_temp.seal_all() \g /dev/null

CREATE FUNCTION pg_temp.sign_in(subject text, organization uuid DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS $$
BEGIN PERFORM tenancy.authenticate(test.token(subject), organization); END $$;

-- Who sees nothing of it -------------------------------------------------------------------------------------------------------

SAVEPOINT member;
SET LOCAL ROLE test_application;
SELECT test.refused('SELECT * FROM tenancy.organization_audit_trail', '28000', 'without a context there is an error, not an empty trail');
ROLLBACK TO member;
SET LOCAL ROLE test_application;
SELECT pg_temp.sign_in('carl') \g /dev/null
SELECT test.refused('SELECT * FROM tenancy.organization_audit_trail', '42501', '%read%audit%', '%', 'a member without the permission is refused');
SELECT test.refused('SELECT count(*) FROM tenancy.organization_audit_trail WHERE false OR position = -1', '42501', 'whatever the query asks for');
ROLLBACK TO member;
SET LOCAL ROLE test_application;
SELECT pg_temp.sign_in('ned') \g /dev/null
SELECT test.refused('SELECT * FROM tenancy.organization_audit_trail', '42501', 'also where there is nothing to see');
ROLLBACK TO member;
SET LOCAL ROLE test_application;
SELECT pg_temp.sign_in('nina') \g /dev/null
SELECT is((SELECT count(*) FROM tenancy.organization_audit_trail), 0::bigint, 'an organization without events has an empty trail');
ROLLBACK TO member;
SET LOCAL ROLE test_application;
SELECT pg_temp.sign_in('bob') \g /dev/null
SELECT test.same('SELECT position, row_key FROM tenancy.organization_audit_trail ORDER BY 1',
    $$ VALUES (1, '{}'::json), (2, '{"id":4}') $$, 'the other organization has its own');
ROLLBACK TO member;
SELECT test.refused($$ SELECT tenancy.create_organization('Nobody', '00000000-0000-0000-0000-000000000000') $$, '23514', 'nobody becomes a member of the nil UUID, whose events are nobody''s');

-- What a member sees ----------------------------------------------------------------------------------------------------------

SET LOCAL application_name = 'the members'' program';
SELECT tenancy.authenticate(test.token('rita'), correlation_id => 'req-1') \g /dev/null
SET LOCAL ROLE test_application;
UPDATE app.finding SET severity = 4 WHERE id = 1;
SELECT tenancy.record_event('report.exported', 'finding', '{"rows": 3}') \g /dev/null
RESET ROLE;
SELECT pg_temp.seal_all() \g /dev/null
UPDATE app.finding SET title = 'not sealed' WHERE id = 3;
SAVEPOINT member;
SET LOCAL ROLE test_application;
SELECT is((SELECT array_agg(position ORDER BY position) FROM tenancy.organization_audit_trail), (SELECT array_agg(n::bigint) FROM generate_series(1, 5) n),
    'a member with the permission sees every sealed event of the organization, at its place');
SELECT is((SELECT count(*) FROM tenancy.organization_audit_trail t WHERE t::text LIKE '%bolt%' OR t::text LIKE '%not sealed%'), 0::bigint, 'none of another one, and none without a place');
SELECT test.same($$ SELECT subject, role, method, correlation_id, domain, table_schema, table_name, row_key, old_values, new_values, result, application_name, session_id
        FROM tenancy.organization_audit_trail WHERE subject = 'rita' AND operation = 'update' $$,
    $$ VALUES ('rita', 'reviewer', 'token', 'req-1', 'finding', 'app', 'finding', '{"id":1}'::json, '{"severity":3}'::json, '{"severity":4}'::json, 'success', 'the members'' program', 'session of rita') $$,
    'of a member it tells who, what and from where');
SELECT test.same($$ SELECT operation, data FROM tenancy.organization_audit_trail WHERE data IS NOT NULL $$, $$ VALUES ('report.exported', '{"rows": 3}'::json) $$, 'recorded operations too');
SELECT test.same($$ SELECT subject, method, access_reason, session_user_name, session_id, client_address, application_name FROM tenancy.organization_audit_trail WHERE method = 'assumed' $$,
    $$ VALUES ('ops', 'assumed', 'ticket 7', 'login_role', NULL, NULL, NULL) $$, 'of an operator who, why and under which role, not from where');
SELECT test.same($$ SELECT method, session_user_name, subject, role, issuer, session_id, access_reason, correlation_id, client_address, application_name FROM tenancy.organization_audit_trail WHERE session_user_name = 'login_role' AND method = 'token' $$,
    $$ VALUES ('token', 'login_role', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL) $$, 'of a member of another organization nothing but how they got in');
SELECT test.same($$ SELECT subject, role, correlation_id, method, session_user_name FROM tenancy.row_history('app.finding', '{}') ORDER BY method $$,
    $$ VALUES ('ops', 'secret role', 'secret request', 'assumed', 'login_role'), (NULL, NULL, NULL, 'token', 'login_role') $$, 'the history of a row tells no more of either');
SELECT is_empty($$ SELECT event, subject, role, method, session_user_name, correlation_id FROM tenancy.row_history('app.finding', '{}')
    EXCEPT SELECT id, subject, role, method, session_user_name, correlation_id FROM tenancy.organization_audit_trail $$, 'but the same');
SELECT test.same($$ SELECT method, client_address, application_name, new_values FROM tenancy.organization_audit_trail WHERE new_values ->> 'title' LIKE 'changed%' $$,
    $$ VALUES ('none', NULL, NULL, '{"title":"changed by a superuser"}'::json) $$, 'of a superuser that it was one, not from where');
SELECT is((SELECT count(*) FROM tenancy.organization_audit_trail t WHERE t::text LIKE '%secret%' AND subject IS DISTINCT FROM 'ops'), 0::bigint, 'nothing else of them stands in any column');

-- An operator of the member's own, found before that of Postgres, is not asked whose an actor is.
RESET ROLE;
CREATE SCHEMA hostile;
CREATE FUNCTION hostile.always(uuid, uuid) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE FUNCTION hostile.always(text, text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE OPERATOR hostile.= (FUNCTION = hostile.always, LEFTARG = uuid, RIGHTARG = uuid);
CREATE OPERATOR hostile.<> (FUNCTION = hostile.always, LEFTARG = text, RIGHTARG = text);
GRANT USAGE ON SCHEMA hostile TO test_application;
SET LOCAL ROLE test_application;
SET LOCAL search_path = hostile, test, public, pg_catalog;
SELECT test.same($$ SELECT method, session_user_name, subject, role, session_id, client_address, application_name FROM tenancy.organization_audit_trail
        WHERE session_user_name OPERATOR(pg_catalog.=) 'login_role' AND method OPERATOR(pg_catalog.<>) 'none' ORDER BY method $$,
    $$ VALUES ('assumed', 'login_role', 'ops', 'secret role', NULL, NULL, NULL), ('token', 'login_role', NULL, NULL, NULL, NULL, NULL) $$, 'nor with an operator of the member''s own in the search_path');
RESET search_path;

-- What an attacker in the session of a member tries: the row of another organization reaches no function and no error.
CREATE TEMP TABLE seen (value text);
CREATE FUNCTION pg_temp.look(value text) RETURNS boolean LANGUAGE plpgsql STRICT COST 0.0000001 AS $$ BEGIN INSERT INTO seen VALUES (value); RETURN true; END $$;
SET LOCAL enable_nestloop = off;
SELECT count(*) FROM tenancy.organization_audit_trail WHERE pg_temp.look(method) AND pg_temp.look(row_key::text) AND pg_temp.look(position::text) \g /dev/null
SELECT is_empty($$ SELECT value FROM seen WHERE value ~ 'bbbbbbbb|break-glass|"id":[45]}' OR (SELECT count(*) < 10 FROM seen) $$, 'a function that looks at all it is handed sees nothing else');
RESET enable_nestloop;
CREATE FUNCTION pg_temp.spy() RETURNS text LANGUAGE plpgsql AS $$
DECLARE found text := '';
    r record;
BEGIN
    FOR r IN SELECT session_user_name, 1 / CASE WHEN row_key::text LIKE '{"id":4}' THEN 0 ELSE 1 END FROM tenancy.organization_audit_trail LOOP found := found || r.session_user_name; END LOOP;
    RETURN 'nothing';
EXCEPTION WHEN division_by_zero THEN RETURN 'a row of another organization';
END $$;
SELECT is(pg_temp.spy(), 'nothing', 'an expression that fails on a row of another organization does not meet one');
SELECT throws_ok(statement, '42501', NULL, 'a member may not: ' || statement) FROM unnest(ARRAY['SELECT * FROM tenancy.event', 'SELECT * FROM tenancy.event_batch', 'SELECT * FROM tenancy.event_actor', 'SELECT * FROM tenancy.seal',
    'SELECT * FROM tenancy.audit_trail', 
    'CREATE OR REPLACE VIEW tenancy.organization_audit_trail AS SELECT 1', 'ALTER TABLE tenancy.event_batch DISABLE ROW LEVEL SECURITY', 'DROP POLICY members ON tenancy.event_batch']) statement;
SELECT throws_ok('INSERT INTO tenancy.organization_audit_trail (id) VALUES (NULL)', '55000', NULL, 'nor write through the view');
SET LOCAL row_security = off;
SELECT throws_ok('SELECT * FROM tenancy.organization_audit_trail', '42501', NULL, 'row_security = off shows nothing');
ROLLBACK TO member;

-- What a grant by mistake shows -----------------------------------------------------------------------------------------------

GRANT SELECT ON ALL TABLES IN SCHEMA tenancy TO test_application, test_stranger;
GRANT EXECUTE ON FUNCTION tenancy.unpack_events(uuid, integer, integer, timestamptz, bytea) TO test_application, test_stranger;
SAVEPOINT granted;
SET LOCAL ROLE test_application;
SELECT is((SELECT count(*) FROM tenancy.event) + (SELECT count(*) FROM tenancy.event_actor) + (SELECT count(*) FROM tenancy.seal) + (SELECT count(*) FROM tenancy.audit_trail),
          0::bigint, 'granted by mistake, the tables show a member nothing');
SELECT is((SELECT count(*) FROM pg_inherits, LATERAL (SELECT test.rows('SELECT 1 FROM ' || inhrelid::regclass) AS found) f
            WHERE inhparent IN ('tenancy.event_batch'::regclass, 'tenancy.event_actor'::regclass) AND found <> '[]'), 0::bigint, 'nor does a partition');
RESET ROLE;
SET LOCAL SESSION AUTHORIZATION test_auditor;
SELECT throws_ok('SELECT * FROM tenancy.organization_audit_trail', '42501', NULL, 'an auditor has no use for the view');
RESET SESSION AUTHORIZATION;
GRANT SELECT ON tenancy.organization_audit_trail TO test_stranger;
SELECT throws_ok('SET LOCAL SESSION AUTHORIZATION test_stranger; SELECT * FROM tenancy.organization_audit_trail', '42501', NULL, 'nor a stranger whom it was granted');
ROLLBACK TO granted;
SELECT is((SELECT count(*) FROM tenancy.organization_audit_trail), 5::bigint, 'a superuser sees through it what the context allows, as anybody else');
SELECT is((SELECT count(*) FROM pg_class WHERE relnamespace = 'tenancy'::regnamespace AND relkind IN ('r', 'p') AND (relrowsecurity AND relforcerowsecurity) IS FALSE
             AND (relname ~ '^(event_batch|event_actor)(_\d{4}_\d\d)?$' OR relname = 'seal')), 0::bigint, 'every partition is closed');
SELECT tenancy.create_audit_partitions('2030-01-01', 0) \g /dev/null
SELECT is((SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE oid = 'tenancy.event_batch_2030_01'::regclass), true, 'and so is one that is made later');

-- What nobody is kept from ----------------------------------------------------------------------------------------------------

SET LOCAL SESSION AUTHORIZATION test_auditor;
SELECT cmp_ok((SELECT count(DISTINCT organization) FROM tenancy.audit_trail), '>=', 2::bigint, 'an auditor sees every organization, without a context');
SELECT is((SELECT count(*) FROM tenancy.audit_trail WHERE subject IS NULL AND method = 'token'), 0::bigint, 'and whoever acted');
RESET SESSION AUTHORIZATION;

-- What it costs -----------------------------------------------------------------------------------------------------------------

CREATE FUNCTION pg_temp.many(organization uuid, first bigint) RETURNS void LANGUAGE sql AS $$
    WITH event AS (
        INSERT INTO tenancy.event_batch
        SELECT (left(tenancy.lowest_id(now())::text, 14) || '7000-' || left(organization::text, 4) || '-' || lpad(to_hex(n), 9, '0') || '000')::uuid, organization,
               (SELECT id FROM tenancy.event_actor ORDER BY id LIMIT 1), '7', n, 1, now(), 'insert', 'finding', 'app', 'finding', 'success', NULL, '{}', '{}', NULL, sha256(''), NULL, NULL, 2, sha256(''), sha256('')
          FROM generate_series(1, 20000) n RETURNING id, ordinal, hash)
    INSERT INTO tenancy.seal
    SELECT organization, 1000 + (ordinal - 1) / 20, first + max(ordinal), first + max(ordinal), sha256(''), '', string_agg(pg_temp.entry(id, 1, hash), '' ORDER BY ordinal)
      FROM event GROUP BY organization, (ordinal - 1) / 20
$$;
SELECT pg_temp.many(test.acme(), 10), pg_temp.many(test.bolt(), 10) \g /dev/null
ANALYZE tenancy.seal, tenancy.event_batch, tenancy.event_actor;
CREATE FUNCTION pg_temp.plan() RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN RETURN QUERY EXECUTE 'EXPLAIN (ANALYZE, TIMING off) SELECT * FROM tenancy.organization_audit_trail ORDER BY block DESC, position DESC LIMIT 50'; END $$;
SELECT tenancy.set_guardrail('statement_statistics', 'off', 'the test reads plans') \g /dev/null
SET LOCAL ROLE test_application;
CREATE TEMP TABLE plan AS SELECT p AS line FROM pg_temp.plan() p;
SELECT is((SELECT count(*) FROM plan WHERE line ~ 'Index Scan Backward using seal_pkey .*actual rows=[34][. ]'), 1::bigint, 'the newest events are read from the end of one''s own chain');
SELECT is_empty($$ SELECT line FROM plan WHERE line ~ '^ *->? *Sort|actual (time=\S+ )?rows=\d{3}' $$, 'and no other organization''s are looked at');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
