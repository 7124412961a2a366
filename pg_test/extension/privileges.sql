-- Privileges: PUBLIC has nothing, and each role of the extension what it was given and nothing more.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(94);

CREATE VIEW test.member AS
SELECT d.classid, d.objid FROM pg_depend d
 WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_tenancy');

-- PUBLIC --------------------------------------------------------------------------------------------------------------

SELECT is_empty($$
    SELECT p.oid::regprocedure, a.privilege_type FROM pg_proc p JOIN test.member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid,
           aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0
$$, 'PUBLIC may execute no function of the extension');
SELECT is_empty($$
    SELECT c.oid::regclass, a.privilege_type FROM pg_class c JOIN test.member m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid,
           aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a WHERE a.grantee = 0
$$, 'PUBLIC may neither read nor write a table of the extension');
SELECT is_empty($$
    SELECT attrelid::regclass, attname FROM pg_attribute JOIN test.member m ON m.classid = 'pg_class'::regclass AND m.objid = attrelid WHERE attacl IS NOT NULL
$$, 'no column has privileges of its own');
SELECT is_empty($$
    SELECT a.privilege_type FROM pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a WHERE n.nspname = 'tenancy' AND a.grantee = 0
$$, 'PUBLIC may not look into the schema');
SELECT is_empty($$ SELECT rolname FROM pg_roles WHERE rolname LIKE 'tenancy\_%' AND has_schema_privilege(oid, 'tenancy', 'CREATE') $$,
                'no role of the extension may create anything in the schema');

-- Roles: a new function or table fails here until somebody has decided who may use it. -----------------------------------

SELECT bag_eq($$
    SELECT r.rolname::text, p.proname::text FROM pg_proc p JOIN test.member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid,
           aclexplode(p.proacl) a JOIN pg_roles r ON r.oid = a.grantee WHERE r.rolname LIKE 'tenancy\_%'
$$, $$
    SELECT 'tenancy_application' AS role, unnest('{add_evidence,actor_role,allowed,authenticate,authorize,claims,correlation_id,org_id,org_id,org_id_bigint,org_id_bigint,org_id_text,org_id_text,pre_request,record_event,sign_out,subject,whoami}'::text[]) AS function
    UNION ALL SELECT 'tenancy_admin', unnest('{add_evidence,actor_role,allowed,authenticate,authorize,claims,correlation_id,org_id,org_id,org_id_bigint,org_id_bigint,org_id_text,org_id_text,pre_request,record_event,sign_out,subject,whoami,begin_maintenance,
        set_issuer,set_issuer_status,create_organization,set_organization_status,create_role,grant_permission,revoke_permission,deny_permission,remove_denial,set_membership,remove_membership,
        refresh_issuer_keys,retire_key,set_external_organization,remove_external_organization,set_external_role,remove_external_role,revoke_session,revoke_subject,purge_revocations,
        create_sso_connection,alter_sso_connection,drop_sso_connection,add_sso_domain,verify_sso_domain,remove_sso_domain,set_sso_break_glass,set_sso_state,test_sso,
        plan,protect,unprotect,backfill,backfill_in_batches,authorize_action,check_reference,check_references,set_sensitive,remember_schema,organization_columns,protect_schema,unprotect_schema,exclude,include,exclusions,protected_tables,drift,advise,audit_row,audit_truncate,seal,rebuild_row_index,verify_audit,create_audit_partitions}'::text[])
    UNION ALL SELECT unnest('{tenancy_application,tenancy_admin,tenancy_operator}'::text[]), 'actor_for_members'
    UNION ALL SELECT role, unnest('{unpack_events,unpack_entries,batch_of}'::text[]) FROM unnest('{tenancy_application,tenancy_admin,tenancy_operator,tenancy_auditor}'::text[]) role
    UNION ALL SELECT role, unnest('{row_history,row_as_of}'::text[]) FROM unnest('{tenancy_application,tenancy_admin,tenancy_operator,tenancy_auditor}'::text[]) role
    UNION ALL SELECT 'tenancy_operator', unnest('{add_evidence,actor_role,allowed,authenticate,authorize,claims,correlation_id,org_id,org_id,org_id_bigint,org_id_bigint,org_id_text,org_id_text,pre_request,record_event,sign_out,subject,whoami,assume_organization}'::text[])
    UNION ALL SELECT 'tenancy_auditor', unnest('{seal,rebuild_row_index,place_of,oldest_open_transaction,seal_digest,verify_audit,lowest_id,refusal_queue,throttle_state,exclusions,protected_tables,drift,advise,organization_columns}'::text[])
    UNION ALL SELECT role, unnest('{checkpoint,inclusion_proof,consistency_proof,tree_root,checkpoint_inclusion_proof,checkpoint_consistency_proof,
        event_proof,head_proof,verify_inclusion,verify_consistency}'::text[]) FROM unnest('{tenancy_admin,tenancy_auditor}'::text[]) role
    UNION ALL SELECT unnest('{tenancy_admin,tenancy_auditor}'::text[]), 'verify_progress'
    UNION ALL SELECT 'tenancy_custodian', unnest('{add_key_encryption_key,set_current_key_encryption_key,retire_key_encryption_key,rotate_data_key,rewrap_data_keys,begin_rewrap,rewrap_batch,end_rewrap,reseal_secrets,begin_reseal,reseal_batch,end_reseal}'::text[])
    UNION ALL SELECT role, unnest('{key_status,verify_secrets}'::text[]) FROM unnest('{tenancy_custodian,tenancy_auditor}'::text[]) role
    UNION ALL SELECT unnest('{tenancy_custodian,tenancy_application,tenancy_admin,tenancy_operator}'::text[]), 'forget_keys'
    UNION ALL SELECT role, unnest('{put_secret,secret_recipient,reveal_secret,destroy_secret,external_id,begin_rotation,supply_value,report_health,promote,roll_back,retire,abandon_rotation,set_secret_policy}'::text[]) FROM unnest('{tenancy_application,tenancy_admin,tenancy_operator}'::text[]) role
    UNION ALL SELECT 'tenancy_admin', 'add_action_type'
    UNION ALL SELECT role, unnest('{set_guardrail,clear_guardrail}'::text[]) FROM unnest('{tenancy_application,tenancy_admin}'::text[]) role
    UNION ALL SELECT role, unnest('{guardrails,guardrail_trial}'::text[]) FROM unnest('{tenancy_application,tenancy_admin,tenancy_operator,tenancy_auditor}'::text[]) role
    UNION ALL SELECT role, unnest('{define_exception_kind,add_exception,decide_exception,amend_exception,revoke_exception,is_excepted,excepted,exception_of,open_review,assign_review,decide,decide_many,refresh_item,close_review,cancel_review,review_report,schedule_review,end_review_schedule}'::text[]) FROM unnest('{tenancy_application,tenancy_admin,tenancy_operator}'::text[]) role
    UNION ALL SELECT role, unnest('{add_member,change_member,drop_member,effective_permissions,define_role,drop_role,allowed_actions}'::text[]) FROM unnest('{tenancy_application,tenancy_admin,tenancy_operator}'::text[]) role
    UNION ALL SELECT role, unnest('{approve_break_glass,break_glass,break_glass_report,cancel_break_glass,deny_break_glass,end_break_glass,request_break_glass,set_break_glass_policy,sign_off_break_glass}'::text[]) FROM unnest('{tenancy_application,tenancy_admin,tenancy_operator}'::text[]) role
    UNION ALL SELECT role, unnest('{request_action_type,decide_action_type,withdraw_action_type,action_approval}'::text[]) FROM unnest('{tenancy_application,tenancy_admin,tenancy_operator}'::text[]) role
    UNION ALL SELECT role, unnest('{posture_scope,clock,unusable_keys,rotation_due_at,database_posture_for_caller}'::text[]) FROM unnest('{tenancy_application,tenancy_admin,tenancy_operator,tenancy_auditor}'::text[]) role
    UNION ALL SELECT 'tenancy_auditor', unnest('{allowed,database_posture,metrics}'::text[])
    UNION ALL SELECT 'tenancy_admin', 'settle_due'
    UNION ALL SELECT unnest('{tenancy_admin,tenancy_auditor}'::text[]), 'verify_checkpoint'
    UNION ALL SELECT unnest('{tenancy_application,tenancy_admin,tenancy_operator,tenancy_auditor}'::text[]), 'export_evidence'
$$, 'each role may execute what is listed here');
SELECT bag_eq($$
    SELECT r.rolname::text, c.relname::text, a.privilege_type FROM pg_class c JOIN test.member m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid,
           aclexplode(c.relacl) a JOIN pg_roles r ON r.oid = a.grantee WHERE r.rolname LIKE 'tenancy\_%'
$$, $$
    SELECT 'tenancy_admin' AS role, unnest('{organization,role,role_permission,membership,member_activity,issuer,retired_key,external_organization,external_role,revoked_session,revoked_subject,sso_connection,sso_domain,sso_test,protected_schema,exclusion,sensitive_table,archive}'::text[]) AS relation, 'SELECT' AS privilege
    UNION ALL SELECT 'tenancy_auditor', 'erasure', 'SELECT'
    UNION ALL SELECT role, unnest('{role,role_permission,membership,member_activity}'::text[]), 'SELECT' FROM unnest('{tenancy_application,tenancy_operator}'::text[]) role
    UNION ALL SELECT unnest('{tenancy_application,tenancy_admin,tenancy_operator}'::text[]), 'organization_audit_trail', 'SELECT'
    UNION ALL SELECT 'tenancy_trail', unnest('{event_batch,event_actor,seal}'::text[]), 'SELECT'
    -- What an owner has: from Postgres 17 on one more.
    UNION ALL SELECT 'tenancy_trail', 'organization_audit_trail', privilege_type FROM pg_class c, aclexplode(acldefault('r', c.relowner))
              WHERE c.oid = 'tenancy.organization_audit_trail'::regclass
    UNION ALL SELECT unnest('{tenancy_application,tenancy_admin,tenancy_operator,tenancy_auditor}'::text[]), 'evidence', 'SELECT'
    UNION ALL SELECT 'tenancy_auditor', unnest('{organization,role,role_permission,membership,member_activity,issuer,retired_key,external_organization,external_role,revoked_session,revoked_subject,sso_connection,sso_domain,sso_test,protected_schema,exclusion,sensitive_table,archive,event,event_batch,event_actor,block,seal,entry,tree_node,incarnation,audit_trail,verification,reveal_journal}'::text[]), 'SELECT'
    UNION ALL SELECT 'tenancy_auditor', unnest('{coverage,checkpoint,head_leaf,head_node,signing_key,checkpoint_status,audit_lag}'::text[]), 'SELECT'
    UNION ALL SELECT unnest('{tenancy_admin,tenancy_auditor}'::text[]), 'verify_progress', 'SELECT'
    UNION ALL SELECT role, unnest('{secret_kind,secret,secret_version,secret_use,rotation,health_report}'::text[]), 'SELECT' FROM unnest('{tenancy_application,tenancy_admin,tenancy_operator,tenancy_auditor}'::text[]) role
    UNION ALL SELECT role, unnest('{secret_posture,secret_finding,posture}'::text[]), 'SELECT' FROM unnest('{tenancy_application,tenancy_admin,tenancy_operator,tenancy_auditor}'::text[]) role
    UNION ALL SELECT 'tenancy_auditor', 'metric', 'SELECT'
    UNION ALL SELECT role, unnest('{action_type,action_type_request,alert,guardrail,break_glass_policy,break_glass_grant,break_glass_approval}'::text[]), 'SELECT' FROM unnest('{tenancy_application,tenancy_admin,tenancy_operator,tenancy_auditor}'::text[]) role
    UNION ALL SELECT role, unnest('{exception_kind,exception,exception_approval,exception_ending,review,review_item,review_schedule}'::text[]), 'SELECT' FROM unnest('{tenancy_application,tenancy_admin,tenancy_operator,tenancy_auditor}'::text[]) role
    UNION ALL SELECT role, unnest('{key_encryption_key,rewrap_run,rewrap_progress}'::text[]), 'SELECT' FROM unnest('{tenancy_custodian,tenancy_auditor}'::text[]) role
$$, 'each role may read what is listed here, and none may write');
SELECT is_empty($$ SELECT i.issuer FROM tenancy.issuer i WHERE i::text LIKE '%"oct"%' OR i::text LIKE '%' || test.base64url(test.signing_key()) || '%' $$,
                'what they may read of an issuer holds no secret');

-- In deed -------------------------------------------------------------------------------------------------------------

SET LOCAL SESSION AUTHORIZATION test_stranger;
SELECT throws_ok('SELECT tenancy.' || call, '42501', NULL, 'a stranger may not call ' || call)
  FROM unnest('{org_id(),whoami(),authenticate(NULL),seal(),"protect(''app.finding'')","create_organization(''x'')"}'::text[]) call;
SELECT throws_ok('SELECT * FROM tenancy.' || name, '42501', NULL, 'a stranger may not read ' || name) FROM unnest('{organization_audit_trail,organization,role,role_permission,issuer,membership,event_batch,event_actor,block,seal,entry,head_leaf,head_node,tree_node,row_index,incarnation,audit_trail,verification,verify_progress}'::text[]) name;
RESET SESSION AUTHORIZATION;

SET LOCAL SESSION AUTHORIZATION test_application;
SELECT throws_ok('SELECT * FROM tenancy.' || name, '42501', NULL, 'an application may not read ' || name) FROM unnest('{organization,issuer,event_batch,event_actor,block,seal,entry,head_leaf,head_node,tree_node,row_index,incarnation,audit_trail,verification,verify_progress}'::text[]) name;
SELECT throws_ok('SELECT tenancy.' || call, '42501', NULL, 'an application may not call ' || call)
  FROM unnest(ARRAY['set_issuer(''x'', ''{x}'', ''{}'')', 'set_issuer_status(''x'', ''active'')', 'create_organization(''x'')', 'set_organization_status(test.acme(), ''active'')', 'create_role(''x'')',
                    'grant_permission(''reader'', ''*'', ''*'')', 'revoke_permission(''reader'', ''*'', ''*'')', 'set_membership(test.bolt(), ''ada'', ''admin'')', 'remove_membership(test.bolt(), ''bob'')',
                    'plan(''app.finding'')', 'protect(''app.finding'')', 'unprotect(''app.finding'')', 'audit_row()', 'audit_truncate()', 'refuse_change()', 'seal()', 'verify_audit()']) call;
SELECT throws_ok('CREATE TABLE tenancy.mine ()', '42501', NULL, 'an application may not create a table in the schema');
SELECT throws_ok('CREATE FUNCTION tenancy.org_id(integer) RETURNS uuid LANGUAGE sql RETURN NULL::uuid', '42501', NULL, 'nor a function');
SELECT throws_ok('CREATE OR REPLACE FUNCTION tenancy.org_id() RETURNS uuid LANGUAGE sql AS ''SELECT NULL::uuid''', '42501', NULL, 'nor replace one');
RESET SESSION AUTHORIZATION;

SET LOCAL SESSION AUTHORIZATION test_owner;
SELECT throws_ok(format('INSERT INTO tenancy.%1$s SELECT * FROM tenancy.%1$s', name), '42501', NULL, 'an administrator may not write ' || name) FROM unnest('{organization,role,role_permission,issuer,membership,event_batch,event_actor,block,seal}'::text[]) name;
SELECT throws_ok(format('DELETE FROM tenancy.%s', name), '42501', NULL, 'an administrator may not delete from ' || name) FROM unnest('{organization,role,role_permission,issuer,membership,event_batch,event_actor,block,seal}'::text[]) name;
SELECT throws_ok('SELECT * FROM tenancy.audit_trail', '42501', NULL, 'an administrator may not read the events');
RESET SESSION AUTHORIZATION;

SET LOCAL SESSION AUTHORIZATION test_auditor;
SELECT lives_ok('SELECT * FROM tenancy.audit_trail', 'an auditor may read the events');
SELECT lives_ok('SELECT * FROM tenancy.verify_audit()', 'an auditor may verify them');
SELECT throws_ok('SELECT tenancy.authenticate(NULL)', '42501', NULL, 'an auditor may not authenticate');
SELECT throws_ok(format('DELETE FROM tenancy.%s', name), '42501', NULL, 'an auditor may not delete from ' || name) FROM unnest('{event_batch,event_actor,block,seal}'::text[]) name;
RESET SESSION AUTHORIZATION;

SELECT * FROM finish();
ROLLBACK;
