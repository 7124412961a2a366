-- Changes of the security model are events: of the extension's own tables, of policies, grants and protected tables.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(83);

-- tenancy.event asks for the rights of whoever reads it.
CREATE FUNCTION test.events() RETURNS SETOF tenancy.event LANGUAGE sql SECURITY DEFINER AS 'SELECT * FROM tenancy.event WHERE transaction = pg_current_xact_id()';
CREATE VIEW test.event AS
SELECT e.*, a.subject, a.role, a.method, a.session_user_name, a.current_user_name, (e.payload -> 'old')::jsonb AS old, (e.payload -> 'new')::jsonb AS new
  FROM test.events() e JOIN tenancy.event_actor a ON a.id = e.actor
 WHERE e.transaction = pg_current_xact_id();
CREATE FUNCTION test.nobody() RETURNS uuid LANGUAGE sql IMMUTABLE AS $$ SELECT '00000000-0000-0000-0000-000000000000'::uuid $$;

-- Runs the statement and returns what the newest events say, the oldest first.
CREATE FUNCTION test.ids() RETURNS uuid[] LANGUAGE sql SECURITY DEFINER AS $$ SELECT array_agg(id) FROM tenancy.event WHERE transaction = pg_current_xact_id() $$;
CREATE FUNCTION test.since(before uuid[]) RETURNS SETOF test.event LANGUAGE sql SECURITY DEFINER AS $$
    SELECT * FROM test.event e WHERE e.id <> ALL (before) ORDER BY e.occurred_at, e.organization, e.ordinal
$$;
CREATE FUNCTION test.after(statement text) RETURNS TABLE (organization uuid, operation text, domain text, what text, old jsonb, new jsonb) LANGUAGE plpgsql AS $$
DECLARE
    before uuid[] := test.ids();
BEGIN
    EXECUTE statement;
    RETURN QUERY SELECT e.organization, e.operation, e.domain, e.table_name, e.old, e.new FROM test.since(before) e;
END
$$;

-- The extension's own tables ---------------------------------------------------------------------------------------------

SELECT is_empty($$
    SELECT c.relname FROM pg_class c
     WHERE c.relnamespace = 'tenancy'::regnamespace AND c.relkind IN ('r', 'p')
       AND NOT (EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgenabled = 'A' AND t.tgfoid IN ('tenancy.audit_row'::regproc, 'tenancy.refuse_change'::regproc, 'tenancy.keep_secret_keys'::regproc, 'tenancy.keep_controls'::regproc, 'tenancy.keep_member_activity'::regproc))
                -- 32: TRUNCATE
                AND EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgenabled = 'A' AND t.tgtype & 32 <> 0))
       -- Made of the events, and made anew at any time.
       AND c.relname <> 'row_index'
$$, 'every table of the extension either writes an event for each change or refuses it');

SET LOCAL SESSION AUTHORIZATION test_owner;
SELECT test.same($$ SELECT organization, operation, what, old, new - 'created_at' FROM test.after('SELECT tenancy.create_organization(''Cole'', ''cccccccc-0000-4000-8000-000000000003'', ''cole'')') $$,
    $$ VALUES ('cccccccc-0000-4000-8000-000000000003'::uuid, 'insert', 'organization', NULL::jsonb, '{"id": "cccccccc-0000-4000-8000-000000000003", "name": "Cole", "text_id": "cole", "status": "active"}'::jsonb) $$,
    'a new organization is the first event of its own chain');
SELECT test.same($$ SELECT organization, operation, old, new FROM test.after(format('SELECT tenancy.set_organization_status(%L, ''suspended'')', test.bolt())) $$,
    $$ VALUES (test.bolt(), 'update', '{"status": "active"}'::jsonb, '{"status": "suspended"}'::jsonb) $$, 'a suspended one has an event');
SELECT test.same($$ SELECT organization, operation, domain, new ->> 'subject', new ->> 'role' FROM test.after(format('SELECT tenancy.set_membership(%L, ''new'', ''reader'')', test.acme())) $$,
    $$ VALUES (test.acme(), 'insert', 'membership', 'new', 'reader') $$, 'a new member is an event of the organization');
SELECT test.same($$ SELECT organization, operation, old, new FROM test.after(format('SELECT tenancy.set_membership(%L, ''new'', ''admin'')', test.acme())) $$,
    $$ VALUES (test.acme(), 'update', '{"role": "reader"}'::jsonb, '{"role": "admin"}'::jsonb) $$, 'another role is an event with the old one and the new');
SELECT test.same($$ SELECT organization, operation, old ->> 'role' FROM test.after(format('SELECT tenancy.remove_membership(%L, ''new'')', test.acme())) $$,
    $$ VALUES (test.acme(), 'delete', 'admin') $$, 'a member who leaves is an event');
SELECT test.same($$ SELECT organization, operation, domain, new - 'created_at' FROM test.after('SELECT tenancy.create_role(''guest'')') $$,
    $$ VALUES (test.nobody(), 'insert', 'role', jsonb_build_object('name', 'guest', 'is_builtin', false, 'organization', test.nobody())) $$, 'a new role is an event of no organization');
SELECT test.same($$ SELECT organization, operation, what, new - 'organization' FROM test.after('SELECT tenancy.grant_permission(''guest'', ''finding'', ''read'', ''delete'')') $$,
    $$ VALUES (test.nobody(), 'insert', 'role_permission', '{"role": "guest", "action": "read", "domain": "finding", "effect": "allow"}'::jsonb), (test.nobody(), 'insert', 'role_permission', '{"role": "guest", "action": "delete", "domain": "finding", "effect": "allow"}') $$,
    'each permission that is given is an event');
SELECT test.same($$ SELECT operation, what, old ->> 'action' FROM test.after('SELECT tenancy.revoke_permission(''guest'', ''finding'', ''delete'')') $$,
    $$ VALUES ('delete', 'role_permission', 'delete') $$, 'and each that is taken');
SELECT test.same($$ SELECT organization, operation, what, new ->> 'issuer' FROM test.after('SELECT tenancy.set_issuer(''https://other.test/'', ''{a}'', test.public_jwks())') $$,
    $$ VALUES (test.nobody(), 'insert', 'issuer', 'https://other.test/') $$, 'a new issuer is an event');
SELECT test.same($$ SELECT operation, what, old - 'revision', new - 'revision' FROM test.after('SELECT tenancy.set_issuer_status(''https://other.test/'', ''disabled'')') $$,
    $$ VALUES ('update', 'issuer', '{"status": "active"}'::jsonb, '{"status": "disabled"}'::jsonb) $$, 'a disabled one is an event');
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
RESET ROLE;
SELECT is((SELECT count(*) FROM test.event WHERE subject = 'bob'), 0::bigint, 'signing in writes no event');
SELECT is((SELECT count(*) FROM test.event WHERE session_user_name = 'test_owner' AND domain = 'role'), 4::bigint, 'each names the database user');
SELECT ok((SELECT bool_and(payload::text !~ '"(k|d|p|q)":') FROM test.event WHERE table_name = 'issuer'), 'no key that signs is in them');
SET LOCAL session_replication_role = replica;
SELECT test.same($$ SELECT operation, what FROM test.after('UPDATE tenancy.role SET description = ''x'' WHERE name = ''guest''') $$, $$ VALUES ('update', 'role') $$, 'session_replication_role does not switch it off');
RESET session_replication_role;

-- Statements -----------------------------------------------------------------------------------------------------------

-- What the statement wrote in the domain schema, in the chain of nobody. A table's state is in the events of tables, most
-- of which are about something else.
CREATE FUNCTION test.told(statement text) RETURNS TABLE (operation text, object text, new jsonb) LANGUAGE sql AS $$
    SELECT a.operation, concat_ws(' ', a.new ->> 'object_type', a.new ->> 'object_identity'),
           a.new - '{command,object_type,object_identity,owner,row_security,force_row_security}'::text[]
      FROM test.after(statement) a WHERE a.domain = 'schema' AND a.organization = test.nobody()
$$;

-- The library is loaded by now, so statements on roles and event triggers are heard of whatever the loading.
SELECT test.same(format('SELECT operation, object, new FROM test.told(%L)', statement), format('VALUES (%L, %L, %L::jsonb)', operation, object, new), statement) FROM (VALUES
    (1, 'CREATE POLICY extra ON app.finding AS RESTRICTIVE FOR SELECT TO test_application, test_owner USING (severity > 1)', 'create_policy', 'policy extra on app.finding',
        '{"policy_command": "SELECT", "permissive": false, "roles": ["test_application", "test_owner"], "using": "(severity > 1)", "check": null}'),
    (2, 'ALTER POLICY extra ON app.finding TO PUBLIC USING (true)', 'alter_policy', 'policy extra on app.finding',
        '{"policy_command": "SELECT", "permissive": false, "roles": ["public"], "using": "true", "check": null}'),
    (3, 'ALTER POLICY extra ON app.finding RENAME TO other', 'alter_policy', 'policy other on app.finding',
        '{"policy_command": "SELECT", "permissive": false, "roles": ["public"], "using": "true", "check": null, "renamed_from": "extra", "renamed_to": "other"}'),
    (4, 'DROP POLICY other ON app.finding', 'drop_policy', 'policy other on app.finding', '{}'),
    (5, 'GRANT SELECT, UPDATE (title, severity) ON app.finding TO test_stranger WITH GRANT OPTION', 'grant', 'table app.finding',
        '{"privileges": ["SELECT"], "columns": [{"privilege": "UPDATE", "columns": ["title", "severity"]}], "grantees": ["test_stranger"], "grant_option": true}'),
    (6, 'REVOKE GRANT OPTION FOR SELECT ON app.finding FROM test_stranger', 'revoke', 'table app.finding', '{"privileges": ["SELECT"], "grantees": ["test_stranger"], "grant_option": true}'),
    (7, 'REVOKE ALL ON app.finding FROM test_stranger', 'revoke', 'table app.finding', '{"privileges": ["ALL"], "grantees": ["test_stranger"], "grant_option": false}'),
    (8, 'GRANT USAGE ON SCHEMA app TO PUBLIC', 'grant', 'schema app', '{"privileges": ["USAGE"], "grantees": ["public"], "grant_option": false}'),
    (9, 'GRANT SELECT ON tenancy.membership TO test_stranger', 'grant', 'table tenancy.membership', '{"privileges": ["SELECT"], "grantees": ["test_stranger"], "grant_option": false}'),
    (10, 'GRANT EXECUTE ON FUNCTION tenancy.seal() TO test_stranger', 'grant', 'function tenancy.seal()', '{"privileges": ["EXECUTE"], "grantees": ["test_stranger"], "grant_option": false}'),
    (11, 'ALTER DEFAULT PRIVILEGES FOR ROLE test_owner IN SCHEMA app GRANT SELECT ON TABLES TO test_stranger', 'alter_default_privileges', 'default privileges app',
        '{"roles": ["test_owner"], "schemas": ["app"], "privileges": ["SELECT"], "grantees": ["test_stranger"], "grant_option": false}'),
    (12, 'CREATE INDEX by_title ON app.finding (title)', 'create_index', 'index app.by_title', '{}'),
    (13, 'ALTER TABLE app.finding ADD COLUMN note text DEFAULT ''hush''', 'alter_table', 'table app.finding', '{"actions": [{"action": "add_column", "name": "note"}]}'),
    (14, 'ALTER TABLE app.finding RENAME COLUMN note TO remark', 'alter_table', 'table column app.finding.remark', '{"renamed_from": "note", "renamed_to": "remark"}'),
    (15, 'ALTER TABLE app.finding ADD CONSTRAINT short CHECK (remark <> ''hush, no'')', 'alter_table', 'table app.finding', '{"actions": [{"action": "add_constraint", "name": "short"}]}'),
    (17, 'CREATE RULE nothing AS ON DELETE TO app.finding WHERE false DO NOTHING', 'create_rule', 'rule nothing on app.finding', '{}'),
    (18, 'DROP RULE nothing ON app.finding', 'drop_rule', 'rule nothing on app.finding', '{}'),
    (19, 'CREATE TRIGGER mine BEFORE INSERT ON app.finding FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()', 'create_trigger', 'trigger mine on app.finding', '{"enabled": "O", "function": "pg_catalog.suppress_redundant_updates_trigger"}'),
    (20, 'ALTER TABLE app.finding DISABLE TRIGGER mine', 'alter_table', 'table app.finding', '{"actions": [{"action": "disable_trigger", "name": "mine"}]}'),
    (21, 'DROP TRIGGER mine ON app.finding', 'drop_trigger', 'trigger mine on app.finding', '{}'),
    (22, 'ALTER TABLE app.finding OWNER TO test_stranger', 'alter_table', 'table app.finding', '{"actions": [{"action": "owner", "name": "test_stranger"}]}'),
    (23, 'ALTER TABLE app.finding OWNER TO test_owner', 'alter_table', 'table app.finding', '{"actions": [{"action": "owner", "name": "test_owner"}]}'),
    (24, 'ALTER TABLE app.finding RENAME TO found', 'alter_table', 'table app.found', '{"renamed_from": "finding", "renamed_to": "found"}'),
    (25, 'ALTER TABLE app.found RENAME TO finding', 'alter_table', 'table app.finding', '{"renamed_from": "found", "renamed_to": "finding"}'),
    (26, 'ALTER FUNCTION tenancy.seal() COST 7', 'alter_function', 'function tenancy.seal()', '{}'),
    (27, 'DROP OWNED BY test_stranger', 'drop_owned', 'role test_stranger', '{"roles": ["test_stranger"], "to": null}'),
    (28, 'GRANT tenancy_admin TO test_stranger WITH ADMIN OPTION', 'grant_role', 'role tenancy_admin', NULL),
    (29, 'REVOKE tenancy_admin FROM test_stranger', 'revoke_role', 'role tenancy_admin', NULL),
    (30, 'ALTER ROLE test_stranger BYPASSRLS PASSWORD ''hush''', 'alter_role', 'role test_stranger', '{"bypassrls": true}'),
    (31, 'ALTER ROLE test_stranger SET row_security = off', 'alter_role', 'role test_stranger', '{"setting": "row_security", "action": "set"}'),
    (32, 'ALTER ROLE test_stranger RESET tenancy.override_reason', 'alter_role', 'role test_stranger', '{"setting": "tenancy.override_reason", "action": "reset"}'),
    (33, 'CREATE ROLE test_power SUPERUSER PASSWORD ''hush''', 'create_role', 'role test_power', '{"superuser": true}'),
    (34, 'ALTER ROLE test_power RENAME TO test_powerful', 'alter_role', 'role test_powerful', '{"renamed_from": "test_power"}'),
    (35, 'DROP ROLE test_powerful', 'drop_role', 'role test_powerful', '{"roles": ["test_powerful"]}'),
    (36, 'ALTER EVENT TRIGGER tenancy_guard_ddl DISABLE', 'alter_event_trigger', 'event trigger tenancy_guard_ddl', '{"enabled": "D"}'),
    (37, 'ALTER EVENT TRIGGER tenancy_guard_ddl ENABLE ALWAYS', 'alter_event_trigger', 'event trigger tenancy_guard_ddl', '{"enabled": "A"}'),
    (38, 'ALTER TABLE tenancy.event_batch DISABLE TRIGGER append_only', 'capture_off', 'table tenancy.event_batch', '{"actions": [{"action": "disable_trigger", "name": "append_only"}]}'),
    (39, 'ALTER TABLE tenancy.event_batch ENABLE TRIGGER append_only', 'capture_off', 'table tenancy.event_batch', '{"actions": [{"action": "enable_trigger", "name": "append_only"}]}'),
    (40, 'ALTER TABLE tenancy.event_batch ENABLE ALWAYS TRIGGER append_only', 'capture_on', 'table tenancy.event_batch', '{"actions": [{"action": "enable_always_trigger", "name": "append_only"}]}')
) AS v (n, statement, operation, object, new) WHERE new IS NOT NULL ORDER BY n;
SELECT test.same(format('SELECT operation, object, new -> ''roles'', new -> ''grantees'' FROM test.told(%L)', statement), format('VALUES (%L, ''role tenancy_admin'', ''["tenancy_admin"]''::jsonb, ''["test_stranger"]''::jsonb)', operation), statement) FROM (VALUES
    (1, 'GRANT tenancy_admin TO test_stranger WITH ADMIN OPTION', 'grant_role'), (2, 'REVOKE tenancy_admin FROM test_stranger', 'revoke_role')) AS v (n, statement, operation) ORDER BY n;
SELECT test.same($$ SELECT operation, object FROM test.told('ALTER TABLE app.finding DROP CONSTRAINT short') ORDER BY object $$,
    $$ VALUES ('alter_table', 'table app.finding'), ('alter_table', 'table constraint short on app.finding') $$, 'what a statement drops is told besides');

-- Nothing of it concerns a table that is not protected; a policy does, wherever it is.
CREATE SCHEMA aside;
CREATE TABLE aside.note (id integer);
SELECT is_empty(format('SELECT * FROM test.told(%L)', statement), 'no event: ' || statement) FROM unnest(ARRAY['CREATE TABLE aside.more (id integer)', 'ALTER TABLE aside.note ADD body text',
    'GRANT SELECT ON aside.note TO test_stranger', 'CREATE ROLE test_plain', 'ALTER ROLE test_plain PASSWORD ''hush''', 'ALTER ROLE test_plain SET work_mem = ''5MB''', 'CREATE TEMPORARY TABLE finding (id integer)', 'DROP TABLE aside.more']) statement;
SELECT test.same($$ SELECT operation, object FROM test.told('CREATE POLICY open ON aside.note USING (true)') $$, $$ VALUES ('create_policy', 'policy open on aside.note') $$, 'a policy of any table is an event');

-- What tenancy.protect runs is one event, and what somebody lets it run besides is another.
CREATE TABLE app.step (id integer PRIMARY KEY, organization_id uuid);
SELECT test.same($$ SELECT operation, object, new - 'steps' FROM test.told('SELECT tenancy.protect(''app.step'', backfill => ''test.acme()'')') $$,
    $$ VALUES ('override', 'table app.step', '{"statement": "tenancy.backfill", "column": "organization_id"}'::jsonb),
              ('protect', 'table app.step', '{"organization_column": "organization_id", "domain": "step", "through": null, "null_rows": null}'::jsonb) $$, 'protecting a table is one event, and a back-fill past the policies another');
SELECT is_empty($$ SELECT * FROM test.told('SELECT tenancy.protect(''app.step'')') $$, 'and none when there is nothing left to do');
SELECT test.same($$ SELECT operation, object, new ->> 'organization_column' FROM test.told('SELECT tenancy.unprotect(''app.step'')') $$, $$ VALUES ('unprotect', 'table app.step', 'organization_id') $$, 'so is taking that back');
CREATE FUNCTION app.hidden() RETURNS uuid LANGUAGE plpgsql AS $$ BEGIN GRANT SELECT ON app.finding TO test_stranger; RETURN test.acme(); END $$;
INSERT INTO app.step VALUES (1, NULL);
SELECT test.same($$ SELECT operation, object FROM test.told('SELECT tenancy.protect(''app.step'', backfill => ''app.hidden()'')') $$, $$ VALUES ('grant', 'table app.finding'), ('override', 'table app.step'), ('protect', 'table app.step') $$,
    'a statement hidden in a step of protect is an event of its own');
CREATE TABLE app.part (id integer PRIMARY KEY, organization_id uuid NOT NULL) PARTITION BY RANGE (id);
SELECT test.same($$ SELECT operation, object FROM test.told('SELECT tenancy.protect(''app.part'')') $$, $$ VALUES ('protect', 'table app.part') $$, 'a partitioned table is protected in one event');
SELECT test.same($$ SELECT operation, object FROM test.told('CREATE TABLE app.part_1 PARTITION OF app.part FOR VALUES FROM (0) TO (9)') WHERE object ~ '^table' $$,
    $$ VALUES ('create_table', 'table app.part_1'), ('protect', 'table app.part') $$, 'a new partition is told of, and that it is protected');
SELECT test.same($$ SELECT operation, object FROM test.told('DROP TABLE app.part') ORDER BY object $$, $$ VALUES ('drop_table', 'table app.part'), ('drop_table', 'table app.part_1') $$, 'a protected table that is dropped is told of, with its partitions');

-- Who it was.
SET LOCAL SESSION AUTHORIZATION test_owner;
CALL test.sign_in('bob');
CREATE POLICY mine ON app.finding FOR SELECT USING (false);
CALL test.sign_out();
RESET SESSION AUTHORIZATION;
SELECT test.same($$ SELECT subject, role, method, session_user_name, current_user_name, organization FROM test.event WHERE new ->> 'object_identity' = 'mine on app.finding' AND operation = 'create_policy' $$,
    $$ VALUES ('bob', 'admin', 'token', 'test_owner', 'test_owner', test.nobody()) $$, 'a statement is attributed to the actor of the context and to the database user');
SELECT ok((SELECT bool_and(payload::text !~ 'hush') FROM test.event WHERE domain = 'schema'), 'no password, default or check is in the events');
SET LOCAL session_replication_role = replica;
SELECT test.same($$ SELECT operation FROM test.told('DROP POLICY mine ON app.finding') $$, $$ VALUES ('drop_policy') $$, 'session_replication_role does not switch it off');
RESET session_replication_role;
SELECT test.refused('SELECT ' || call, '39P01', 'this function can only be called as an event trigger', '%', 'refused: ' || call) FROM unnest(ARRAY['tenancy.audit_ddl()', 'tenancy.audit_drop()']) call;

SELECT * FROM finish();
ROLLBACK;
