-- What CREATE EXTENSION makes: one schema, everything described, every function as careful as it was meant to be.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(25);

CREATE VIEW test.member AS
SELECT d.classid, d.objid, pg_describe_object(d.classid, d.objid, 0) AS what
  FROM pg_depend d
 WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
   AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_tenancy');

CREATE VIEW test.extension_function AS
SELECT p.* FROM pg_proc p JOIN test.member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid;

CREATE VIEW test.extension_relation AS
SELECT c.* FROM pg_class c JOIN test.member m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid;

SELECT is((SELECT extversion FROM pg_extension WHERE extname = 'pg_tenancy'),
          (SELECT default_version FROM pg_available_extensions WHERE name = 'pg_tenancy'),
          'the installed version is the one that the control file names');

SELECT results_eq(
    $$ SELECT n.nspname, e.extrelocatable FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE extname = 'pg_tenancy' $$,
    $$ VALUES ('tenancy'::name, false) $$,
    'the extension lives in the schema "tenancy" and cannot be moved out of it');

SELECT is((SELECT superuser AND NOT trusted FROM pg_available_extension_versions WHERE name = 'pg_tenancy' AND installed), true,
          'only a superuser may create the extension');

SELECT cmp_ok((SELECT count(*) FROM test.member), '>', 30::bigint, 'the extension has members to look at');

SELECT is_empty($$
    SELECT what FROM test.member
     WHERE classid IN ('pg_proc'::regclass, 'pg_class'::regclass, 'pg_type'::regclass)
       AND (pg_identify_object(classid, objid, 0)).schema IS DISTINCT FROM 'tenancy'
$$, 'every function, relation and type of the extension is in its schema');

-- Comments ------------------------------------------------------------------------------------------------------------

SELECT is_empty($$
    SELECT what FROM test.member
     WHERE coalesce(obj_description(objid, classid::regclass::name), '') = ''
       -- The row types of tables, and arrays of them, are members too from Postgres 18 on; their tables speak for them.
       AND NOT (classid = 'pg_type'::regclass AND EXISTS (
           SELECT FROM pg_type t LEFT JOIN pg_type e ON e.oid = t.typelem WHERE t.oid = objid AND 0 NOT IN (coalesce(nullif(t.typrelid, 0), e.typrelid))))
$$, 'every object of the extension has a comment');

SELECT is_empty($$
    SELECT c.relname, a.attname
      FROM test.extension_relation c JOIN pg_attribute a ON a.attrelid = c.oid
     WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped AND coalesce(col_description(c.oid, a.attnum), '') = ''
$$, 'every column of every table has a comment');

SELECT is_empty($$
    SELECT t.tgrelid::regclass, t.tgname
      FROM pg_trigger t JOIN test.extension_relation c ON c.oid = t.tgrelid
     WHERE NOT t.tgisinternal AND coalesce(obj_description(t.oid, 'pg_trigger'), '') = ''
$$, 'every trigger of the extension has a comment');

SELECT is_empty($$
    SELECT rolname FROM pg_roles
     WHERE rolname LIKE 'tenancy\_%' AND coalesce(shobj_description(oid, 'pg_authid'), '') = ''
$$, 'every role that the extension makes has a comment');

SELECT isnt(coalesce(obj_description('tenancy'::regnamespace, 'pg_namespace'), ''), '', 'the schema has a comment');

SELECT results_eq($$
    SELECT rolname, rolcanlogin OR rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls OR rolreplication
      FROM pg_roles WHERE rolname LIKE 'tenancy\_%' ORDER BY 1
$$, $$ VALUES ('tenancy_admin'::name, false), ('tenancy_application', false), ('tenancy_auditor', false), ('tenancy_custodian', false), ('tenancy_operator', false), ('tenancy_trail', false) $$,
    'the roles that the extension makes can neither log in nor do anything by themselves');

-- Functions -----------------------------------------------------------------------------------------------------------

SELECT is_empty($$
    SELECT oid::regprocedure FROM test.extension_function
     WHERE prosecdef AND NOT coalesce(proconfig @> '{"search_path=pg_catalog, pg_temp"}', false)
$$, 'every SECURITY DEFINER function has a fixed search_path with pg_temp last');

SELECT is_empty($$ SELECT oid::regprocedure FROM test.extension_function WHERE proleakproof $$,
    'no function is LEAKPROOF');

SELECT is_empty($$
    SELECT oid::regprocedure FROM test.extension_function
     WHERE prosecdef AND NOT (SELECT rolsuper FROM pg_roles r WHERE r.oid = proowner)
$$, 'every SECURITY DEFINER function belongs to a superuser, so nobody else can replace it');

-- A new function fails here until somebody has decided what it is.
SELECT results_eq($$
    SELECT proname, provolatile, proparallel, proisstrict, prosecdef FROM test.extension_function ORDER BY proname
$$, $$ VALUES
    ('abandon_rotation'::name,   'v'::"char", 'u'::"char", false, false),
    ('action_approval',          'v', 'u', false, false),
    ('actor_for_members',        'i', 's', false, false),
    ('actor_role',               's', 's', false, false),
    ('add_action_type',          'v', 'u', false, true),
    ('add_evidence',             'v', 'u', false, false),
    ('add_exception',            'v', 'u', false, false),
    ('add_key_encryption_key',   'v', 'u', false, true),
    ('add_member',               'v', 'u', false, false),
    ('add_sso_domain',           'v', 'u', false, true),
    ('advise',                   'v', 'u', false, false),
    ('allowed',                  's', 's', true,  false),
    ('allowed_actions',          's', 'u', false, false),
    ('alter_sso_connection',     'v', 'u', false, true),
    ('amend_exception',          'v', 'u', false, false),
    ('announce_break_glass_change', 'v', 'u', false, false),
    ('announce_exception_change','v', 'u', false, false),
    ('announce_identity_change', 'v', 'u', false, false),
    ('approve_break_glass',      'v', 'u', false, false),
    ('archive_audit',            'v', 'u', false, true),
    ('assign_review',            'v', 'u', false, false),
    ('assume_organization',      'v', 'u', false, false),
    ('attach_audit',             'v', 'u', false, true),
    ('audit_ddl',                'v', 'u', false, false),
    ('audit_drop',               'v', 'u', false, false),
    ('audit_row',                'v', 'u', false, false),
    ('audit_truncate',           'v', 'u', false, false),
    ('authenticate',             'v', 'u', false, true),
    ('authenticate_session',     'v', 'u', false, true),
    ('authorize',                's', 's', true,  false),
    ('authorize_action',         'v', 'u', false, false),
    ('authorize_support',        'i', 's', true,  false),
    ('backfill',                 'v', 'u', false, false),
    ('backfill_in_batches',      'v', 'u', false, false),
    ('batch_of',                 'i', 's', true, false),
    ('begin_maintenance',        'v', 'u', false, false),
    ('begin_reseal',             'v', 'u', false, true),
    ('begin_rewrap',             'v', 'u', false, true),
    ('begin_rotation',           'v', 'u', false, false),
    ('break_glass',              'v', 'u', false, false),
    ('break_glass_report',       'v', 'u', false, false),
    ('cancel_break_glass',       'v', 'u', false, false),
    ('cancel_review',            'v', 'u', false, false),
    ('change_member',            'v', 'u', false, false),
    ('check_audit_month',        'v', 'u', false, false),
    ('check_audit_table',        'v', 'u', false, false),
    ('check_reference',          'v', 'u', false, false),
    ('check_references',         'v', 'u', false, false),
    ('checkpoint',               'v', 'u', false, true),
    ('checkpoint_consistency_proof', 's', 's', false, true),
    ('checkpoint_inclusion_proof', 's', 's', false, true),
    ('claims',                   's', 's', false, false),
    ('clear_guardrail',          'v', 'u', false, false),
    ('clock',                    's', 'r', false, false),
    ('close_review',             'v', 'u', false, false),
    ('consistency_proof',        's', 's', false, true),
    ('correlation_id',           's', 's', false, false),
    ('create_audit_partitions',  'v', 'u', false, true),
    ('create_organization',      'v', 'u', false, true),
    ('create_role',              'v', 'u', false, true),
    ('create_sso_connection',    'v', 'u', false, true),
    ('database_posture',         'v', 'u', false, true),
    ('database_posture_for_caller','v', 'u', false, false),
    ('decide',                   'v', 'u', false, false),
    ('decide_action_type',       'v', 'u', false, false),
    ('decide_exception',         'v', 'u', false, false),
    ('decide_many',              'v', 'u', false, false),
    ('define_exception_kind',    'v', 'u', false, false),
    ('define_role',              'v', 'u', false, false),
    ('deny_break_glass',         'v', 'u', false, false),
    ('deny_permission',          'v', 'u', true,  true),
    ('destroy_data_keys',        'v', 'u', false, true),
    ('destroy_secret',           'v', 'u', false, false),
    ('drift',                    'v', 'u', false, false),
    ('drop_member',              'v', 'u', false, false),
    ('drop_own_roles',           'v', 'u', false, false),
    ('drop_role',                'v', 'u', false, false),
    ('drop_roles',               'v', 'u', false, false),
    ('drop_sso_connection',      'v', 'u', false, true),
    ('effective_permissions',    's', 'u', false, false),
    ('end_break_glass',          'v', 'u', false, false),
    ('end_reseal',               'v', 'u', false, true),
    ('end_review_schedule',      'v', 'u', false, false),
    ('end_rewrap',               'v', 'u', false, true),
    ('erase_payload',            'v', 'u', false, false),
    ('erase_row_payloads',       'v', 'u', false, false),
    ('event_proof',              's', 's', false, true),
    ('excepted',                 's', 'r', true, false),
    ('exception_of',             's', 'r', true, false),
    ('exclude',                  'v', 'u', false, true),
    ('exclusions',               's', 's', false, true),
    ('export_evidence',          'v', 'u', false, false),
    ('external_id',              's', 'r', false, false),
    ('forget_keys',              'v', 'u', false, true),
    ('grant_permission',         'v', 'u', true,  true),
    ('guard_ddl',                'v', 'u', false, false),
    ('guard_drop',               'v', 'u', false, false),
    ('guard_rewrite',            'v', 'u', false, false),
    ('guard_start',              'v', 'u', false, false),
    ('guardrail_states',         's', 'u', false, false),
    ('guardrail_trial',          's', 'u', false, false),
    ('guardrails',               's', 'u', false, false),
    ('head_proof',               's', 's', false, true),
    ('hold_role',                'v', 'u', false, false),
    ('include',                  'v', 'u', false, true),
    ('inclusion_proof',          's', 's', false, true),
    ('is_dormant',               's', 'u', true, false),
    ('is_excepted',              's', 's', true, false),
    ('keep_admin',               'v', 'u', false, false),
    ('keep_append_only',         'v', 'u', false, false),
    ('keep_builtin_role',        'v', 'u', false, false),
    ('keep_controls',            'v', 'u', false, false),
    ('keep_member_activity',     'v', 'u', false, false),
    ('keep_secret_keys',         'v', 'u', false, false),
    ('keep_signing_key',         'v', 'u', false, false),
    ('key_status',               'v', 'u', false, true),
    ('lock_audit_month',         'v', 'u', false, false),
    ('lock_sso_connection',      'v', 'u', false, false),
    ('lowest_id',                'i', 's', false, false),
    ('may_break_glass',          's', 's', false, false),
    ('metrics',                  'v', 'u', false, true),
    ('oldest_open_transaction',  's', 'r', false, true),
    ('open_review',              'v', 'u', false, false),
    ('org_id',                   's', 's', false, false),
    ('org_id',                   's', 's', false, false),
    ('org_id_bigint',            's', 's', false, false),
    ('org_id_bigint',            's', 's', false, false),
    ('org_id_text',              's', 's', false, false),
    ('org_id_text',              's', 's', false, false),
    ('organization_columns',     's', 's', false, false),
    ('place_of',                 's', 's', true,  false),
    ('plan',                     'v', 'u', false, false),
    ('posture_scope',            's', 'r', false, false),
    ('pre_request',              'v', 'u', false, false),
    ('promote',                  'v', 'u', false, false),
    ('protect',                  'v', 'u', false, false),
    ('protect_schema',           'v', 'u', false, false),
    ('protected_tables',         's', 'r', false, false),
    ('purge_revocations',        'v', 'u', true,  true),
    ('put_secret',               'v', 'u', false, false),
    ('rebuild_row_index',        'v', 'u', false, true),
    ('record_event',             'v', 'u', false, false),
    ('refresh_issuer_keys',      'v', 'u', false, true),
    ('refresh_item',             'v', 'u', false, false),
    ('refusal_queue',            'v', 's', false, false),
    ('refuse_change',            'v', 'u', false, false),
    ('remember_schema',          'v', 'u', false, true),
    ('remove_denial',            'v', 'u', true,  true),
    ('remove_external_organization', 'v', 'u', true, true),
    ('remove_external_role',     'v', 'u', true,  true),
    ('remove_membership',        'v', 'u', false, true),
    ('remove_sso_domain',        'v', 'u', false, true),
    ('renew_issuer',             'v', 'u', false, false),
    ('renew_revision',           'v', 'u', false, false),
    ('renew_sensitive_tables',   'v', 'u', false, false),
    ('report_health',            'v', 'u', false, false),
    ('request_action_type',      'v', 'u', false, false),
    ('request_break_glass',      'v', 'u', false, false),
    ('require_argument',         'i', 's', false, false),
    ('require_free_role_name',   'v', 'u', true,  false),
    ('require_issuer',           's', 's', false, false),
    ('reseal_batch',             'v', 'u', false, true),
    ('reseal_secrets',           'v', 'u', false, false),
    ('retire',                   'v', 'u', false, false),
    ('retire_key',               'v', 'u', false, true),
    ('retire_key_encryption_key', 'v', 'u', false, true),
    ('reveal_secret',            'v', 'u', false, false),
    ('review_report',            'v', 'u', false, false),
    ('revoke_exception',         'v', 'u', false, false),
    ('revoke_permission',        'v', 'u', true,  true),
    ('revoke_session',           'v', 'u', false, true),
    ('revoke_subject',           'v', 'u', false, true),
    ('rewrap_batch',             'v', 'u', false, true),
    ('rewrap_data_keys',         'v', 'u', false, false),
    ('roll_back',                'v', 'u', false, false),
    ('rotate_data_key',          'v', 'u', false, true),
    ('rotation_due_at',          'i', 's', false, false),
    ('row_as_of',                'v', 'u', false, false),
    ('row_history',              'v', 'u', false, false),
    ('schedule_review',          'v', 'u', false, false),
    ('seal',                     'v', 'u', false, true),
    ('seal_digest',              'v', 'u', false, true),
    ('secret_recipient',         'v', 'u', false, false),
    ('set_break_glass_policy',   'v', 'u', false, false),
    ('set_current_key_encryption_key', 'v', 'u', false, true),
    ('set_external_organization', 'v', 'u', false, true),
    ('set_external_role',        'v', 'u', false, true),
    ('set_guardrail',            'v', 'u', false, false),
    ('set_issuer',               'v', 'u', false, true),
    ('set_issuer_status',        'v', 'u', true,  true),
    ('set_membership',           'v', 'u', false, true),
    ('set_organization_status',  'v', 'u', true,  true),
    ('set_secret_policy',        'v', 'u', false, false),
    ('set_sensitive',            'v', 'u', false, true),
    ('set_sso_break_glass',      'v', 'u', false, true),
    ('set_sso_state',            'v', 'u', false, true),
    ('settle_due',               'v', 'u', false, true),
    ('sign_off_break_glass',     'v', 'u', false, false),
    ('sign_out',                 'v', 'u', false, false),
    ('subject',                  's', 's', false, false),
    ('supply_value',             'v', 'u', false, false),
    ('test_sso',                 'v', 'u', false, true),
    ('throttle_state',           'v', 's', false, false),
    ('tree_root',                's', 's', false, true),
    ('unpack_entries',           'i', 's', true,  false),
    ('unpack_events',            'i', 's', true,  false),
    ('unprotect',                'v', 'u', true,  false),
    ('unprotect_schema',         'v', 'u', false, false),
    ('unusable_keys',            's', 'u', false, true),
    ('utc_text',                 's', 's', false, false),
    ('verify_audit',             'v', 'u', false, true),
    ('verify_checkpoint',        'v', 'u', false, true),
    ('verify_consistency',       'i', 's', true,  false),
    ('verify_inclusion',         'i', 's', true,  false),
    ('verify_progress',          'v', 'r', false, false),
    ('verify_secrets',           'v', 'u', false, true),
    ('verify_sso_domain',        'v', 'u', false, true),
    ('whoami',                   's', 's', false, false),
    ('withdraw_action_type',     'v', 'u', false, false)
$$, 'volatility, parallel safety, strictness and SECURITY DEFINER of every function are as meant');

SELECT is_empty($$
    SELECT oid::regprocedure FROM test.extension_function
     WHERE pronargs > 0 AND 'internal'::regtype <> ALL (proargtypes) AND (proargnames IS NULL OR '' = ANY (proargnames[1:pronargs]))
$$, 'every argument has a name');

-- Relations -----------------------------------------------------------------------------------------------------------

SELECT results_eq($$ SELECT relname, relkind FROM test.extension_relation ORDER BY relname $$, $$ VALUES
    ('action_type'::name, 'r'::"char"), ('action_type_request', 'r'), ('alert', 'r'), ('archive', 'r'), ('audit_lag', 'v'), ('audit_trail', 'v'), ('block', 'r'), ('break_glass_approval', 'r'), ('break_glass_grant', 'r'), ('break_glass_policy', 'r'),
    ('checkpoint', 'r'), ('checkpoint_status', 'v'),
    ('coverage', 'r'), ('data_key', 'r'),
    ('entry', 'v'), ('erasure', 'r'),
    ('event', 'v'), ('event_actor', 'p'), ('event_batch', 'p'), ('evidence', 'r'), ('exception', 'r'), ('exception_approval', 'r'), ('exception_end', 'v'), ('exception_ending', 'v'), ('exception_kind', 'r'), ('exclusion', 'r'), ('external_organization', 'r'), ('external_role', 'r'),
    ('guardrail', 'r'), ('head_leaf', 'r'), ('head_node', 'r'), ('health_report', 'r'), ('incarnation', 'r'), ('issuer', 'r'), ('key_encryption_key', 'r'), ('member_activity', 'r'), ('membership', 'r'), ('metric', 'v'), ('notice', 'r'), ('organization', 'r'), ('organization_audit_trail', 'v'), ('posture', 'v'), ('protected_schema', 'r'), ('retired_key', 'r'), ('reveal_journal', 'r'), ('review', 'r'), ('review_item', 'r'), ('review_schedule', 'r'), ('reviewable', 'v'), ('revoked_session', 'r'), ('revoked_subject', 'r'), ('rewrap_progress', 'v'), ('rewrap_run', 'r'),
    ('role', 'r'), ('role_permission', 'r'), ('rotation', 'r'), ('row_index', 'r'), ('seal', 'r'), ('sealed_value', 'r'), ('secret', 'r'), ('secret_finding', 'v'), ('secret_kind', 'r'), ('secret_posture', 'v'), ('secret_use', 'r'), ('secret_version', 'r'), ('sensitive_table', 'r'),
    ('signing_key', 'r'),
    ('sso_connection', 'r'), ('sso_domain', 'r'), ('sso_test', 'r'), ('tree_node', 'r'),
    ('verification', 'r'), ('verify_progress', 'v')
$$, 'the extension has these tables and views and no others');

SELECT is_empty($$
    SELECT relname FROM test.extension_relation
     WHERE relkind = 'v' AND NOT coalesce(reloptions @> '{security_invoker=true}', false)
       -- It shows of the audit's tables, which members may not read, what the policies show to its owner.
       AND NOT (relname = 'organization_audit_trail' AND relowner = 'tenancy_trail'::regrole)
       -- They ask once for each secret what the policies ask for each row of several tables.
       AND NOT (relname IN ('exception_end', 'exception_ending', 'posture', 'reviewable', 'secret_posture') AND reloptions @> '{security_barrier=true}')
$$, 'every view asks for the rights of whoever reads it, belongs to a role that the policies bind, or asks itself');

SELECT is_empty($$
    SELECT c.relname FROM test.extension_relation c
     WHERE c.relkind = 'r' AND c.relname NOT IN ('row_index', 'secret_kind', 'reveal_journal')
       AND c.oid <> ALL (SELECT unnest(extconfig) FROM pg_extension WHERE extname = 'pg_tenancy')
$$, 'the rows of every table are part of a dump, but for those that are made of others, come with the extension or are about files');

SELECT results_eq($$
    SELECT tgrelid::regclass::text, tgenabled FROM pg_trigger WHERE tgname = 'append_only' AND NOT (SELECT relispartition FROM pg_class c WHERE c.oid = tgrelid) ORDER BY 1
$$, $$ VALUES ('tenancy.archive', 'A'::"char"), ('tenancy.block', 'A'), ('tenancy.checkpoint', 'A'), ('tenancy.coverage', 'A'),
    ('tenancy.erasure', 'A'),
    ('tenancy.event_actor', 'A'), ('tenancy.event_batch', 'A'), ('tenancy.evidence', 'A'), ('tenancy.head_leaf', 'A'), ('tenancy.head_node', 'A'), ('tenancy.incarnation', 'A'), ('tenancy.seal', 'A'), ('tenancy.signing_key', 'A'),
    ('tenancy.tree_node', 'A'), ('tenancy.verification', 'A') $$,
    'the guard of the audit''s tables fires under session_replication_role = replica too');

SELECT lives_ok('DROP EXTENSION pg_tenancy CASCADE', 'the extension can be dropped');
SELECT is((SELECT count(*) FROM pg_class WHERE relnamespace = 'tenancy'::regnamespace) + (SELECT count(*) FROM pg_proc WHERE pronamespace = 'tenancy'::regnamespace),
          0::bigint, 'it leaves nothing behind in the schema');
SELECT lives_ok('CREATE EXTENSION pg_tenancy', 'it can be created again where its roles exist already');

DROP EXTENSION pg_tenancy CASCADE;
DROP SCHEMA tenancy;
CREATE SCHEMA tenancy AUTHORIZATION test_stranger;
SELECT test.refused('CREATE EXTENSION pg_tenancy', '42501',
    '%schema "tenancy" exists and belongs to a role that is no superuser%', 'Rename it or drop it%',
    'a schema that somebody else made beforehand is refused');
DROP SCHEMA tenancy;
GRANT CREATE ON DATABASE :"DBNAME" TO test_stranger;
SET LOCAL SESSION AUTHORIZATION test_stranger;
SELECT test.refused('CREATE EXTENSION pg_tenancy', '42501', 'permission denied to create extension "pg_tenancy"',
    'Must be superuser to create this extension.', 'a role that is no superuser is refused, and told why');
RESET SESSION AUTHORIZATION;

SELECT * FROM finish();
ROLLBACK;
