-- Changes of the security model are events: of the extension's own tables, of policies, grants and protected tables.
BEGIN;
\ir helpers/fixture.sql
SELECT plan(22);

CREATE VIEW test.event AS
SELECT e.*, a.subject, a.role, a.method, a.session_user_name, a.current_user_name, (e.payload -> 'old')::jsonb AS old, (e.payload -> 'new')::jsonb AS new
  FROM tenancy.event e JOIN tenancy.event_actor a ON a.id = e.actor
 WHERE e.transaction = pg_current_xact_id();
GRANT SELECT ON test.event, tenancy.event, tenancy.event_actor TO PUBLIC;
-- Who reads everybody's events.
GRANT tenancy_auditor TO test_owner;
CREATE FUNCTION test.nobody() RETURNS uuid LANGUAGE sql IMMUTABLE AS $$ SELECT '00000000-0000-0000-0000-000000000000'::uuid $$;

-- Runs the statement and returns what the newest events say, the oldest first.
CREATE FUNCTION test.after(statement text) RETURNS TABLE (organization uuid, operation text, domain text, what text, old jsonb, new jsonb) LANGUAGE plpgsql AS $$
DECLARE
    before uuid[] := (SELECT array_agg(id) FROM test.event);
BEGIN
    EXECUTE statement;
    RETURN QUERY SELECT e.organization, e.operation, e.domain, e.table_name, e.old, e.new FROM test.event e WHERE e.id <> ALL (before) ORDER BY e.occurred_at, e.organization, e.ordinal;
END
$$;

-- The extension's own tables ---------------------------------------------------------------------------------------------

SELECT is_empty($$
    SELECT c.relname FROM pg_class c
     WHERE c.relnamespace = 'tenancy'::regnamespace AND c.relkind IN ('r', 'p')
       AND (SELECT count(*) FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgenabled = 'A' AND t.tgfoid IN ('tenancy.audit_row'::regproc, 'tenancy.audit_truncate'::regproc)) <> 2
       AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgenabled = 'A' AND t.tgfoid IN ('tenancy.refuse_change'::regproc, 'tenancy.keep_signing_key'::regproc))
$$, 'every table of the extension either writes an event for each change or refuses it');

SET LOCAL SESSION AUTHORIZATION test_owner;
SELECT test.same($$ SELECT organization, operation, what, old, new - 'created_at' FROM test.after('SELECT tenancy.create_organization(''Cole'', ''cccccccc-0000-4000-8000-000000000003'', ''cole'')') $$,
    $$ VALUES ('cccccccc-0000-4000-8000-000000000003'::uuid, 'insert', 'organization', NULL::jsonb, '{"id": "cccccccc-0000-4000-8000-000000000003", "name": "Cole", "text_id": "cole", "status": "active"}'::jsonb) $$,
    'a new organization is the first event of its own chain');
SELECT test.same($$ SELECT organization, operation, old, new FROM test.after(format('SELECT tenancy.set_organization_status(%L, ''suspended'')', test.bolt())) $$,
    $$ VALUES (test.bolt(), 'update', '{"status": "active"}'::jsonb, '{"status": "suspended"}'::jsonb) $$, 'a suspended one has an event');
SELECT test.same($$ SELECT organization, operation, domain, new ->> 'subject', new ->> 'role' FROM test.after(format('SELECT tenancy.set_membership(%L, ''new'', ''viewer'')', test.acme())) $$,
    $$ VALUES (test.acme(), 'insert', 'membership', 'new', 'viewer') $$, 'a new member is an event of the organization');
SELECT test.same($$ SELECT organization, operation, old, new FROM test.after(format('SELECT tenancy.set_membership(%L, ''new'', ''admin'')', test.acme())) $$,
    $$ VALUES (test.acme(), 'update', '{"role": "viewer"}'::jsonb, '{"role": "admin"}'::jsonb) $$, 'another role is an event with the old one and the new');
SELECT test.same($$ SELECT organization, operation, old ->> 'role' FROM test.after(format('SELECT tenancy.remove_membership(%L, ''new'')', test.acme())) $$,
    $$ VALUES (test.acme(), 'delete', 'admin') $$, 'a member who leaves is an event');
SELECT test.same($$ SELECT organization, operation, domain, new - 'created_at' FROM test.after('SELECT tenancy.create_role(''guest'')') $$,
    $$ VALUES (test.nobody(), 'insert', 'role', '{"name": "guest"}'::jsonb) $$, 'a new role is an event of no organization');
SELECT test.same($$ SELECT organization, operation, what, new FROM test.after('SELECT tenancy.grant_permission(''guest'', ''finding'', ''read'', ''delete'')') $$,
    $$ VALUES (test.nobody(), 'insert', 'role_permission', '{"role": "guest", "action": "read", "domain": "finding"}'::jsonb), (test.nobody(), 'insert', 'role_permission', '{"role": "guest", "action": "delete", "domain": "finding"}') $$,
    'each permission that is given is an event');
SELECT test.same($$ SELECT operation, what, old ->> 'action' FROM test.after('SELECT tenancy.revoke_permission(''guest'', ''finding'', ''delete'')') $$,
    $$ VALUES ('delete', 'role_permission', 'delete') $$, 'and each that is taken');
SELECT test.same($$ SELECT organization, operation, what, new ->> 'issuer' FROM test.after('SELECT tenancy.set_issuer(''https://other.test/'', ''{a}'', test.public_jwks())') $$,
    $$ VALUES (test.nobody(), 'insert', 'issuer', 'https://other.test/') $$, 'a new issuer is an event');
SELECT test.same($$ SELECT operation, what, old, new FROM test.after('SELECT tenancy.set_issuer_status(''https://other.test/'', ''disabled'')') $$,
    $$ SELECT operation, table_name, old, new FROM test.event WHERE table_name = 'issuer' AND old ->> 'status' = 'active' AND new ->> 'status' = 'disabled' $$, 'a disabled one is an event');
SELECT test.same($$ SELECT operation, what FROM test.after('SELECT tenancy.retire_key(''https://other.test/'', ''k1'')') $$,
    $$ VALUES ('insert', 'retired_key') $$, 'a retired key is one event, though it gives the issuer a new revision');
SELECT test.same($$ SELECT operation, what, new ->> 'role' FROM test.after('SELECT tenancy.set_external_role(''https://other.test/'', ''org:guest'', ''guest'')') $$,
    $$ VALUES ('insert', 'external_role', 'guest') $$, 'the meaning of a provider''s role is an event');
SELECT test.same($$ SELECT organization, what, new ->> 'external_id' FROM test.after(format('SELECT tenancy.set_external_organization(%L, ''https://other.test/'', ''org_1'')', test.acme())) $$,
    $$ VALUES (test.acme(), 'external_organization', 'org_1') $$, 'a provider''s name of an organization is an event of the organization');
SELECT test.same($$ SELECT organization, domain, what, new ->> 'reason' FROM test.after('SELECT tenancy.revoke_session(''https://other.test/'', ''s1'', ''stolen'')') $$,
    $$ VALUES (test.nobody(), 'revocation', 'revoked_session', 'stolen') $$, 'a revoked session is an event');
SELECT test.same($$ SELECT domain, what, new ->> 'subject' FROM test.after('SELECT tenancy.revoke_subject(''https://other.test/'', ''ada'')') $$,
    $$ VALUES ('revocation', 'revoked_subject', 'ada') $$, 'a revoked subject is an event');
SELECT test.same($$ SELECT count(*), count(*) FILTER (WHERE operation = 'delete') FROM test.after('SELECT tenancy.purge_revocations(''infinity'')') $$, 'VALUES (2, 2)', 'and so is each revocation that is cleared away');
RESET SESSION AUTHORIZATION;
SELECT test.same($$ SELECT organization, what FROM test.after(format('DELETE FROM tenancy.organization WHERE id = %L', test.acme())) WHERE operation = 'delete' AND what <> 'external_organization' GROUP BY 1, 2 ORDER BY 2 $$,
    $$ VALUES (test.acme(), 'membership'), (test.acme(), 'organization') $$, 'what goes with an organization is in its chain');

SELECT tenancy.set_organization_status(test.bolt(), 'active') \g /dev/null
SET LOCAL ROLE test_application;
CALL test.sign_in('bob');
SELECT is((SELECT count(*) FROM test.event WHERE subject = 'bob'), 0::bigint, 'signing in writes no event');
RESET ROLE;
SELECT is((SELECT count(*) FROM test.event WHERE session_user_name = 'test_owner' AND domain = 'role'), 4::bigint, 'each names the database user');
SELECT ok((SELECT bool_and(payload::text !~ '"(k|d|p|q)":') FROM test.event WHERE table_name = 'issuer'), 'no key that signs is in them');
SET LOCAL session_replication_role = replica;
SELECT test.same($$ SELECT operation, what FROM test.after('UPDATE tenancy.role SET description = ''x'' WHERE name = ''guest''') $$, $$ VALUES ('update', 'role') $$, 'session_replication_role does not switch it off');
RESET session_replication_role;

SELECT * FROM finish();
ROLLBACK;
