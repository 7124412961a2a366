-- The advisor: for each rule a leak that it catches, the remediation that it prints, run as it is, and a clean case.
BEGIN;
\ir ../helpers/fixture.sql
\ir ../helpers/leak.sql
SELECT plan(229);
SET LOCAL client_min_messages = error;
SET LOCAL tenancy.override_reason = 'leaks to be found';

-- What a well-kept schema has beside the table of the fixture.
SET LOCAL SESSION AUTHORIZATION test_owner;
CREATE TABLE app."Account" (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), "organizationId" uuid NOT NULL, name text NOT NULL, UNIQUE ("organizationId", name));
CREATE TABLE app.note (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, organization_id uuid NOT NULL, account uuid REFERENCES app."Account", state text, amount bigint);
CREATE INDEX ON app.note (organization_id, state);
CREATE TABLE app.reading (n integer, organization_id uuid NOT NULL) PARTITION BY RANGE (n);
CREATE TABLE app.reading_1 PARTITION OF app.reading FOR VALUES FROM (0) TO (10);
CREATE TABLE app.step (id uuid PRIMARY KEY, finding integer REFERENCES app.finding);
SELECT tenancy.protect('app."Account"'), tenancy.protect('app.note'), tenancy.protect('app.reading'), tenancy.protect('app.step', through => 'finding') \g /dev/null
CREATE VIEW app.good_view WITH (security_invoker = true) AS SELECT * FROM app.note;
GRANT SELECT, INSERT, UPDATE, DELETE ON app."Account", app.note, app.reading, app.reading_1, app.step TO test_application;
GRANT SELECT ON app.good_view TO test_application;
RESET SESSION AUTHORIZATION;

SELECT is_empty($$ SELECT rule, object, detail FROM tenancy.advise('warning') WHERE object LIKE 'app.%' AND object <> 'app.finding_pkey' $$, 'a well-kept schema has no warnings');
SELECT test.refused($$ SELECT * FROM tenancy.advise('all') $$, '22023', '%', '%', 'a severity is one of three');
SELECT is((SELECT count(*) FROM tenancy.advise() WHERE rule IS NULL OR severity IS NULL OR object IS NULL OR detail IS NULL OR why IS NULL OR remediation IS NULL OR key <> rule || ':' || object), 0::bigint, 'every finding is whole');

CREATE ROLE test_leaky LOGIN;
CREATE ROLE test_boss NOLOGIN BYPASSRLS;
CREATE TYPE app.mood AS ENUM ('good', 'bad');
CREATE FUNCTION app.yes() RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$ BEGIN RETURN true; END $$;
CREATE FUNCTION app.serial_yes() RETURNS boolean LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN true; END $$;
CREATE FUNCTION app.whose() RETURNS text LANGUAGE sql STABLE AS $$ SELECT current_setting('app.tenant', true) $$;
CREATE FOREIGN DATA WRAPPER test_wrapper;
CREATE SERVER test_server FOREIGN DATA WRAPPER test_wrapper;

-- An event of a transaction that has been over for a while.
CREATE FUNCTION pg_temp.write_old(age interval) RETURNS void LANGUAGE sql AS $$
    INSERT INTO tenancy.event_batch (id, organization, actor, transaction, ordinal, events, occurred_at, operation, domain, result, payload, payload_salt, payload_digest, encoding, prev_hash, hash)
    SELECT n.id, organization, actor, '3', 1, 1, now() - age, operation, domain, result, payload, payload_salt, payload_digest, encoding, prev_hash, sha256('old')
      FROM tenancy.event_batch, LATERAL (SELECT tenancy.lowest_id(now() - age) AS id) n LIMIT 1
$$;

SELECT test.leak(rule, leak, object, severity) FROM (VALUES
    ('unprotected_table', 'CREATE TABLE app.bare (id integer, org_id uuid NOT NULL)', 'app.bare', 'error'),
    ('unprotected_table', 'CREATE TABLE app."Parted" (id integer, "organizationId" uuid NOT NULL) PARTITION BY RANGE (id)', 'app."Parted"', 'error'),
    ('partition_unprotected', 'ALTER EVENT TRIGGER tenancy_guard_ddl DISABLE; CREATE TABLE app.reading_2 PARTITION OF app.reading FOR VALUES FROM (10) TO (20)', 'app.reading_2', 'error'),
    ('partition_unprotected', 'ALTER EVENT TRIGGER tenancy_guard_ddl DISABLE; CREATE TABLE app.heir () INHERITS (app.note)', 'app.heir', 'error'),
    ('row_security_disabled', 'ALTER TABLE app.note DISABLE ROW LEVEL SECURITY', 'app.note', 'error'),
    ('policy_not_forced', 'ALTER TABLE app.note NO FORCE ROW LEVEL SECURITY', 'app.note', 'warning'),
    ('permissive_past_tenant', 'CREATE TABLE app.own (org_id uuid NOT NULL); ALTER TABLE app.own ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY all_of_it ON app.own USING (true)', 'app.own.all_of_it', 'error'),
    ('foreign_policy', 'CREATE POLICY more ON app.note FOR SELECT USING (true)', 'app.note.more', 'warning'),
    ('foreign_policy', 'CREATE POLICY less ON app.note AS RESTRICTIVE FOR SELECT USING (true)', 'app.note.less', 'info'),
    ('drift', 'ALTER POLICY tenancy_isolation ON app.note USING (true)', 'app.note', 'error'),
    ('drift', 'DROP POLICY tenancy_isolation ON app.note', 'app.note', 'error'),
    ('drift', 'ALTER TABLE app.note DISABLE TRIGGER tenancy_audit', 'app.note', 'error'),
    ('drift', 'ALTER TABLE app.note ALTER organization_id DROP DEFAULT', 'app.note', 'warning'),
    ('drift', 'ALTER TABLE app.reading_1 DISABLE ROW LEVEL SECURITY', 'app.reading', 'error'),
    ('policy_trusts_setting', 'CREATE POLICY bypass ON app.note USING (current_setting(''app.bypass'', true) = ''on'')', 'app.note.bypass', 'warning'),
    ('policy_trusts_setting', 'CREATE TABLE app.own (org_id uuid NOT NULL); CREATE POLICY usual ON app.own USING (org_id = current_setting(''app.tenant'')::uuid)', 'app.own.usual', 'warning'),
    ('bypassrls_role', 'ALTER ROLE test_leaky BYPASSRLS; GRANT tenancy_application TO test_leaky', 'test_leaky', 'error'),
    ('bypassrls_role', 'ALTER ROLE test_leaky SUPERUSER; GRANT tenancy_application TO test_leaky', 'test_leaky', 'error'),
    ('bypassrls_role', 'GRANT test_boss TO test_leaky; GRANT tenancy_application TO test_leaky', 'test_leaky / test_boss', 'error'),
    ('owner_is_application', 'ALTER TABLE app.note OWNER TO test_leaky; GRANT tenancy_application TO test_leaky', 'app.note / test_leaky', 'error'),
    ('owner_is_application', 'GRANT test_owner TO test_leaky; GRANT tenancy_application TO test_leaky', 'app.note / test_leaky', 'error'),
    ('view_without_security_invoker', 'CREATE VIEW app.all_notes AS SELECT * FROM app.note', 'app.all_notes', 'error'),
    ('view_without_security_invoker', 'CREATE VIEW app.outer_view AS SELECT * FROM app.good_view', 'app.outer_view', 'error'),
    ('view_without_security_invoker', 'CREATE VIEW app.all_notes AS SELECT * FROM app.note; ALTER VIEW app.all_notes OWNER TO test_owner', 'app.all_notes', 'warning'),
    ('materialized_view', 'CREATE MATERIALIZED VIEW app.sums AS SELECT count(*) FROM app.note; GRANT SELECT ON app.sums TO test_application, PUBLIC', 'app.sums', 'error'),
    ('security_definer_reads_tenant_table', 'CREATE FUNCTION app.notes() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = app AS ''SELECT count(*) FROM note''', 'app.notes()', 'error'),
    ('security_definer_reads_tenant_table', 'CREATE PROCEDURE app.notes() LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog BEGIN ATOMIC DELETE FROM app."Account"; END; ALTER PROCEDURE app.notes() OWNER TO test_owner', 'app.notes()', 'info'),
    ('security_definer_without_search_path', 'CREATE FUNCTION app.f(a integer, b text) RETURNS integer LANGUAGE sql SECURITY DEFINER AS ''SELECT 1''', 'app.f(integer,text)', 'warning'),
    ('volatile_policy', 'CREATE POLICY slow ON app.note AS RESTRICTIVE USING (app.yes())', 'app.note.slow', 'warning'),
    ('volatile_policy', 'CREATE POLICY slow ON app.note AS RESTRICTIVE USING (app.serial_yes())', 'app.note.slow', 'info'),
    ('immutable_context_function', 'ALTER FUNCTION app.whose() IMMUTABLE; CREATE POLICY frozen ON app.note AS RESTRICTIVE USING (app.whose() = ''x'')', 'app.whose()', 'error'),
    ('leakproof_function', 'ALTER FUNCTION app.yes() LEAKPROOF', 'app.yes()', 'warning'),
    ('foreign_table', 'CREATE FOREIGN TABLE app.far (org_id uuid) SERVER test_server; GRANT SELECT ON app.far TO test_application', 'app.far', 'error'),
    ('event_trigger_disabled', 'ALTER EVENT TRIGGER tenancy_guard_drop DISABLE', 'tenancy_guard_drop', 'error'),
    ('event_trigger_disabled', 'ALTER EVENT TRIGGER tenancy_guard_ddl ENABLE', 'tenancy_guard_ddl', 'error'),
    ('unique_across_tenants', 'ALTER TABLE app.note ADD CONSTRAINT one_state UNIQUE (state)', 'app.one_state', 'warning'),
    ('unique_across_tenants', 'CREATE UNIQUE INDEX one_amount ON app.note (amount) WHERE state IS NULL', 'app.one_amount', 'warning'),
    ('unique_across_tenants', 'CREATE UNIQUE INDEX one_lower ON app.note (lower(state))', 'app.one_lower', 'warning'),
    ('unique_across_tenants', 'ALTER TABLE app.note ADD CONSTRAINT no_two EXCLUDE USING btree (amount WITH =)', 'app.no_two', 'warning'),
    ('unique_across_tenants', 'CREATE TABLE app.keyed (id uuid PRIMARY KEY, org_id uuid NOT NULL); SELECT tenancy.protect(''app.keyed'')', 'app.keyed_pkey', 'info'),
    ('foreign_key_across_tenants', 'ALTER TABLE app.note ADD other uuid CONSTRAINT crossing REFERENCES app."Account"', 'app.note.crossing', 'warning'),
    ('foreign_key_across_tenants', 'ALTER TABLE app.note ADD other uuid CONSTRAINT crossing REFERENCES app."Account" ON DELETE CASCADE', 'app.note.crossing', 'error'),
    ('table_of_tenants', 'CREATE TABLE app.team (id uuid PRIMARY KEY); CREATE TABLE app.doc (tenant_id uuid NOT NULL REFERENCES app.team ON DELETE CASCADE); SELECT tenancy.exclude(''app.team'', ''x''); SELECT tenancy.protect(''app.doc''); SELECT tenancy.include(''app.team'')', 'app.team', 'error'),
    ('table_of_tenants', 'CREATE TABLE app."Team" ("Id" bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY); CREATE TABLE app.doc ("teamId" bigint NOT NULL REFERENCES app."Team"); SELECT tenancy.exclude(''app."Team"'', ''x''); SELECT tenancy.protect(''app.doc'', ''teamId''); SELECT tenancy.include(''app."Team"'')', 'app."Team"', 'error'),
    ('action_from_outside', 'CREATE TABLE app.person (id integer PRIMARY KEY); ALTER TABLE app.note ADD owner integer CONSTRAINT owner REFERENCES app.person ON DELETE CASCADE', 'app.note.owner', 'error'),
    ('action_from_outside', 'CREATE TABLE app.person (id integer PRIMARY KEY); ALTER TABLE app.note ADD owner integer CONSTRAINT "own er" REFERENCES app.person ON UPDATE SET NULL DEFERRABLE', 'app.note."own er"', 'error'),
    ('action_from_outside', 'CREATE TABLE app.person (id integer PRIMARY KEY); ALTER TABLE app.step ADD owner integer CONSTRAINT owner REFERENCES app.person ON UPDATE SET DEFAULT', 'app.step.owner', 'error'),
    ('action_from_outside', 'CREATE TABLE app.team (id uuid PRIMARY KEY); SELECT tenancy.exclude(''app.team'', ''kept elsewhere''); CREATE TABLE app.doc (tenant_id uuid NOT NULL CONSTRAINT team REFERENCES app.team ON UPDATE CASCADE); SELECT tenancy.protect(''app.doc'')', 'app.doc.team', 'error'),
    ('child_table_without_column', 'CREATE TABLE app.team (id uuid PRIMARY KEY); SELECT tenancy.protect(''app.team'', ''id''); CREATE TABLE app.later (account_id uuid NOT NULL REFERENCES app.team)', 'app.later', 'warning'),
    ('child_table_without_column', 'CREATE TABLE app.child (id integer PRIMARY KEY, note bigint REFERENCES app.note)', 'app.child', 'warning'),
    ('missing_organization_index', 'DROP INDEX app.note_organization_id_state_idx', 'app.note', 'warning'),
    ('nullable_organization_column', 'ALTER TABLE app.note ALTER organization_id DROP NOT NULL', 'app.note', 'warning'),
    ('policy_casts_column', 'CREATE TABLE app.own (org_id uuid NOT NULL); CREATE POLICY usual ON app.own USING (org_id::text = current_setting(''app.tenant''))', 'app.own.usual', 'warning'),
    ('public_grant', 'GRANT SELECT ON app.note TO PUBLIC', 'app.note', 'warning'),
    ('truncate_privilege', 'GRANT TRUNCATE ON app.reading_1 TO test_application', 'app.reading_1 / test_application', 'warning'),
    ('references_privilege', 'GRANT REFERENCES ON app.note TO test_application', 'app.note / test_application', 'warning'),
    ('trigger_privilege', 'GRANT TRIGGER ON app.note TO PUBLIC', 'app.note / PUBLIC', 'warning'),
    ('default_privileges', 'ALTER DEFAULT PRIVILEGES FOR ROLE test_owner IN SCHEMA app GRANT ALL ON TABLES TO test_application', 'test_owner in app / test_application', 'warning'),
    ('default_privileges', 'ALTER DEFAULT PRIVILEGES FOR ROLE test_owner GRANT SELECT ON TABLES TO PUBLIC', 'test_owner / PUBLIC', 'warning'),
    ('publication_of_tenant_table', 'CREATE PUBLICATION p FOR TABLE app.note', 'p / app.note', 'warning'),
    ('publication_of_tenant_table', 'CREATE PUBLICATION p FOR ALL TABLES', 'p / app.note', 'warning'),
    ('publication_of_tenant_table', 'CREATE PUBLICATION p FOR TABLES IN SCHEMA app', 'p / app.note', 'warning'),
    ('sequence_betrays_volume', 'GRANT SELECT ON SEQUENCE app.note_id_seq TO test_application', 'app.note_id_seq / test_application', 'info'),
    ('schema_create_public', 'GRANT CREATE ON SCHEMA app TO PUBLIC', 'app', 'warning'),
    ('sealing_stands_still', 'SELECT pg_temp.write_old(''10 minutes'')', 'tenancy.seal', 'warning'),
    ('sealing_stands_still', 'SELECT pg_temp.write_old(''2 hours'')', 'tenancy.seal', 'error'),
    ('statistics_granted', 'GRANT pg_monitor TO test_application', 'role test_application', 'warning'),
    ('statistics_granted', 'GRANT pg_read_all_stats TO test_application', 'role test_application', 'warning'),
    ('index_lost_not_leakproof', 'ALTER TABLE app.note ADD mood app.mood; CREATE INDEX by_mood ON app.note (organization_id, mood)', 'app.by_mood', 'info'),
    ('index_lost_not_leakproof', 'ALTER TABLE app.note ADD price numeric; CREATE INDEX by_price ON app.note (organization_id, price)', 'app.by_price', 'info'),
    ('index_lost_not_leakproof', 'CREATE INDEX by_lower ON app.note (organization_id, lower(state))', 'app.by_lower', 'info'),
    ('index_lost_not_leakproof', 'CREATE INDEX by_like ON app.note (organization_id, state text_pattern_ops)', 'app.by_like', 'info'),
    ('index_lost_not_leakproof', 'ALTER TABLE app.note ADD j jsonb; CREATE INDEX by_json ON app.note USING gin (j)', 'app.by_json', 'info')
) AS v (rule, leak, object, severity);

-- Excluded tables are left alone, row filters make a publication one tenant's, and the server is new enough or not.
CREATE TABLE app.rates (id integer, org_id uuid NOT NULL);
SELECT is((SELECT count(*) FROM tenancy.advise() WHERE object = 'app.rates' AND rule = 'unprotected_table'), 1::bigint, 'an unprotected table is found');
SELECT tenancy.exclude('app.rates', 'the same for all') \g /dev/null
SELECT is((SELECT count(*) FROM tenancy.advise() WHERE object = 'app.rates'), 0::bigint, 'and left alone once it is excluded');
CREATE PUBLICATION filtered FOR TABLE app.note WHERE (organization_id = 'aaaaaaaa-0000-4000-8000-000000000001');
SELECT is_empty($$ SELECT FROM tenancy.advise() WHERE rule = 'publication_of_tenant_table' $$, 'a publication with a row filter is somebody''s decision');
SELECT is((SELECT count(*) FROM tenancy.advise() WHERE rule = 'server_too_old'),
          (current_setting('server_version_num')::integer < CASE current_setting('server_version_num')::integer / 10000 WHEN 15 THEN 150019 WHEN 16 THEN 160015 WHEN 17 THEN 170011 ELSE 180005 END)::integer::bigint,
          'a server that lacks a known fix is told of');

SET LOCAL SESSION AUTHORIZATION test_owner;
SELECT lives_ok('SELECT * FROM tenancy.advise()', 'an admin of the extension may ask');
SET LOCAL SESSION AUTHORIZATION test_auditor;
SELECT lives_ok('SELECT * FROM tenancy.advise()', 'so may an auditor');
SET LOCAL SESSION AUTHORIZATION test_application;
SELECT throws_ok('SELECT * FROM tenancy.advise()', '42501', NULL, 'an application may not');
RESET SESSION AUTHORIZATION;

SELECT * FROM finish();
ROLLBACK;
