-- Who may what. PUBLIC gets nothing; each line below is a decision.

REVOKE ALL ON ALL TABLES IN SCHEMA tenancy FROM PUBLIC;
REVOKE ALL ON ALL ROUTINES IN SCHEMA tenancy FROM PUBLIC;

GRANT USAGE ON SCHEMA tenancy TO tenancy_application, tenancy_admin, tenancy_operator, tenancy_auditor,
    tenancy_custodian;

-- Authenticating, and reading the own context. Policies and defaults call these in the name of whoever queries.
GRANT EXECUTE ON FUNCTION
    tenancy.authenticate(text, uuid, text),
    tenancy.pre_request(),
    tenancy.org_id(),
    tenancy.org_id_text(),
    tenancy.org_id_bigint(),
    tenancy.org_id(text, text),
    tenancy.org_id_text(text, text),
    tenancy.org_id_bigint(text, text),
    tenancy.subject(),
    tenancy.actor_role(),
    tenancy.claims(),
    tenancy.correlation_id(),
    tenancy.whoami(),
    tenancy.allowed(text, text),
    tenancy.authorize(text, text),
    tenancy.sign_out(),
    tenancy.record_event(text, text, json, text, text)
TO tenancy_application, tenancy_admin, tenancy_operator;
-- Whoever owns tables still has to be given this.
GRANT EXECUTE ON FUNCTION tenancy.begin_maintenance(text) TO tenancy_admin;
-- Nobody else: who may assume an organization needs no token.
GRANT EXECUTE ON FUNCTION tenancy.assume_organization(uuid, text, text, text) TO tenancy_operator;

-- Setting up. The trigger functions, because CREATE TRIGGER asks for EXECUTE; called otherwise they refuse.
GRANT EXECUTE ON FUNCTION
    tenancy.set_issuer(text, text[], text, text[], text, integer, text, text, text, text, text, text, text),
    tenancy.refresh_issuer_keys(text),
    tenancy.retire_key(text, text, timestamptz),
    tenancy.set_issuer_status(text, text),
    tenancy.create_organization(text, uuid, text, bigint),
    tenancy.set_organization_status(uuid, text),
    tenancy.create_role(text, text),
    tenancy.grant_permission(text, text, text[]),
    tenancy.revoke_permission(text, text, text[]),
    tenancy.deny_permission(text, text, text[]),
    tenancy.remove_denial(text, text, text[]),
    tenancy.set_membership(uuid, text, text, text, text, timestamptz),
    tenancy.remove_membership(uuid, text, text),
    tenancy.set_external_organization(uuid, text, text),
    tenancy.remove_external_organization(text, text),
    tenancy.set_external_role(text, text, text),
    tenancy.remove_external_role(text, text),
    tenancy.revoke_session(text, text, text),
    tenancy.revoke_subject(text, text, timestamptz, text),
    tenancy.purge_revocations(timestamptz),
    tenancy.create_sso_connection(uuid, text, text, text[], text[], text[]),
    tenancy.alter_sso_connection(uuid, text, text, text[], text[], text[]),
    tenancy.drop_sso_connection(uuid),
    tenancy.add_sso_domain(uuid, text),
    tenancy.verify_sso_domain(uuid, text, text[]),
    tenancy.remove_sso_domain(uuid, text),
    tenancy.set_sso_break_glass(uuid, text, text),
    tenancy.set_sso_state(uuid, text),
    tenancy.test_sso(uuid, text),
    tenancy.plan(regclass, text, text, text, text, text, jsonb, text[], boolean),
    tenancy.protect(regclass, text, text, text, text, text, jsonb, text[]),
    tenancy.backfill(regclass, text, text, bigint, bigint),
    tenancy.authorize_action(),
    tenancy.check_reference(),
    tenancy.check_references(regclass, text),
    tenancy.remember_schema(text, boolean, text),
    tenancy.organization_columns(text),
    tenancy.protect_schema(text, text),
    tenancy.unprotect_schema(text),
    tenancy.exclude(regclass, text),
    tenancy.include(regclass),
    tenancy.exclusions(),
    tenancy.protected_tables(),
    tenancy.drift(),
    tenancy.advise(text),
    tenancy.unprotect(regclass),
    tenancy.audit_row(),
    tenancy.audit_truncate()
TO tenancy_admin;
GRANT EXECUTE ON PROCEDURE tenancy.backfill_in_batches(regclass, text, text, integer) TO tenancy_admin;
-- tenancy.issuer holds public keys and names of files, no secret.
GRANT SELECT ON tenancy.organization, tenancy.role, tenancy.role_permission, tenancy.membership,
    tenancy.member_activity, tenancy.issuer, tenancy.retired_key,
    tenancy.external_organization, tenancy.external_role, tenancy.revoked_session, tenancy.revoked_subject,
    tenancy.sso_connection, tenancy.sso_domain, tenancy.sso_test, tenancy.protected_schema,
        tenancy.exclusion
TO tenancy_admin, tenancy_auditor;

-- Row-level security binds what members see of them.
GRANT SELECT ON tenancy.role, tenancy.role_permission, tenancy.membership, tenancy.member_activity
TO tenancy_application, tenancy_operator;

-- Reading and checking what happened.
GRANT SELECT ON tenancy.coverage TO tenancy_auditor;
GRANT SELECT ON tenancy.event, tenancy.event_batch, tenancy.event_actor, tenancy.block, tenancy.seal, tenancy.entry,
    tenancy.tree_node,
    tenancy.incarnation, tenancy.audit_trail
TO tenancy_auditor;
GRANT EXECUTE ON FUNCTION tenancy.seal() TO tenancy_auditor, tenancy_admin;
GRANT EXECUTE ON FUNCTION tenancy.create_audit_partitions(timestamptz, integer) TO tenancy_admin;
GRANT EXECUTE ON FUNCTION tenancy.lowest_id(timestamptz), tenancy.place_of(uuid, uuid, xid8), tenancy.refusal_queue(),
    tenancy.throttle_state()
    TO tenancy_auditor;
GRANT EXECUTE ON FUNCTION tenancy.exclusions(), tenancy.protected_tables(), tenancy.drift(),
    tenancy.advise(text),
    tenancy.organization_columns(text) TO tenancy_auditor;

-- Verifying.
GRANT SELECT ON tenancy.verification TO tenancy_auditor;
GRANT SELECT ON tenancy.verify_progress TO tenancy_auditor, tenancy_admin;
GRANT EXECUTE ON FUNCTION tenancy.verify_audit(uuid, boolean, bigint, bigint, integer), tenancy.verify_checkpoint(text,
    text, integer), tenancy.verify_progress() TO tenancy_auditor, tenancy_admin;

-- Erasing takes evidence away: no role may until it is granted. What was erased, auditors see.
GRANT SELECT ON tenancy.erasure TO tenancy_auditor;

-- They ask by themselves whether the caller is an auditor, or a member who may read the audit.
GRANT EXECUTE ON FUNCTION tenancy.row_history(regclass, jsonb), tenancy.row_as_of(regclass, jsonb, timestamptz, boolean)
TO tenancy_application, tenancy_admin, tenancy_operator, tenancy_auditor;

-- The index by which they find the events of a row. Nobody has to read it.
GRANT EXECUTE ON FUNCTION tenancy.rebuild_row_index() TO tenancy_auditor, tenancy_admin;

-- Evidence. Row-level security binds who may read it.
GRANT EXECUTE ON FUNCTION tenancy.add_evidence(bytea, text, text, text, timestamptz, text, text, uuid[], text)
TO tenancy_application, tenancy_admin, tenancy_operator;
GRANT EXECUTE ON FUNCTION tenancy.export_evidence(uuid, timestamptz, timestamptz, bigint)
TO tenancy_application, tenancy_admin, tenancy_operator, tenancy_auditor;
GRANT SELECT ON tenancy.evidence TO tenancy_application, tenancy_admin, tenancy_operator, tenancy_auditor;

-- Checkpoints. What they hold is public once they are handed out; the row of a checkpoint is there after its commit
-- only.
GRANT SELECT ON tenancy.checkpoint, tenancy.head_leaf, tenancy.head_node, tenancy.signing_key,
    tenancy.checkpoint_status, tenancy.audit_lag
TO tenancy_auditor;
GRANT EXECUTE ON FUNCTION tenancy.oldest_open_transaction() TO tenancy_auditor;
GRANT EXECUTE ON FUNCTION
    tenancy.checkpoint(),
    tenancy.inclusion_proof(uuid, bigint, bigint),
    tenancy.consistency_proof(uuid, bigint, bigint),
    tenancy.tree_root(uuid, bigint),
    tenancy.event_proof(uuid),
    tenancy.checkpoint_inclusion_proof(bigint, bigint, text),
    tenancy.checkpoint_consistency_proof(bigint, bigint, text),
    tenancy.head_proof(uuid, bigint, text),
    tenancy.verify_inclusion(bytea, bigint, bigint, bytea[], bytea),
    tenancy.verify_consistency(bigint, bytea, bigint, bytea, bytea[])
TO tenancy_auditor, tenancy_admin;

-- Members read the events of their own organization through a view whose owner the policies bind.
GRANT SELECT ON tenancy.event_batch, tenancy.event_actor, tenancy.seal TO tenancy_trail;
-- Called in views, in the name of whoever reads them.
GRANT EXECUTE ON FUNCTION tenancy.unpack_events(uuid, integer, integer, timestamptz, bytea) TO tenancy_application,
    tenancy_admin, tenancy_operator, tenancy_auditor;
GRANT EXECUTE ON FUNCTION tenancy.unpack_entries(bigint, bigint, bytea), tenancy.batch_of(uuid)
    TO tenancy_application, tenancy_admin, tenancy_operator,
    tenancy_auditor;
GRANT SELECT ON tenancy.organization_audit_trail TO tenancy_application, tenancy_admin, tenancy_operator;
GRANT EXECUTE ON FUNCTION tenancy.actor_for_members(tenancy.event_actor, uuid) TO tenancy_application, tenancy_admin,
    tenancy_operator;

-- Tables whose reading is recorded.
GRANT EXECUTE ON FUNCTION tenancy.set_sensitive(regclass, boolean, text, text) TO tenancy_admin;
GRANT SELECT ON tenancy.sensitive_table TO tenancy_admin, tenancy_auditor;

-- What was archived. Detaching and attaching is granted to nobody: a superuser says who may.
GRANT SELECT ON tenancy.archive TO tenancy_admin, tenancy_auditor;
GRANT EXECUTE ON FUNCTION tenancy.seal_digest(uuid, uuid, bigint) TO tenancy_auditor;

-- Keys of secrets. Whoever manages them reads no wrapped key, and whoever reveals a value manages none.
GRANT EXECUTE ON FUNCTION
    tenancy.add_key_encryption_key(text, text, text),
    tenancy.set_current_key_encryption_key(text, text),
    tenancy.retire_key_encryption_key(text, text),
    tenancy.rotate_data_key(uuid, text),
    tenancy.begin_rewrap(integer, text),
    tenancy.rewrap_batch(),
    tenancy.end_rewrap()
TO tenancy_custodian;
GRANT EXECUTE ON PROCEDURE tenancy.rewrap_data_keys(integer, text) TO tenancy_custodian;
GRANT EXECUTE ON FUNCTION tenancy.key_status() TO tenancy_custodian, tenancy_auditor;
GRANT EXECUTE ON FUNCTION tenancy.forget_keys() TO tenancy_custodian, tenancy_application, tenancy_admin,
    tenancy_operator;
GRANT SELECT ON tenancy.key_encryption_key, tenancy.rewrap_run, tenancy.rewrap_progress
TO tenancy_custodian, tenancy_auditor;

-- Secrets. Functions ask for the permission of the role, row-level security binds who reads what is told of them.
GRANT EXECUTE ON FUNCTION
    tenancy.put_secret(text, text, text, text, text, text, text, timestamptz, boolean),
    tenancy.secret_recipient(text),
    tenancy.reveal_secret(text, text, integer, text, bytea),
    tenancy.destroy_secret(text, text),
    tenancy.external_id(text),
    tenancy.begin_rotation(text, text, text, text, timestamptz, boolean),
    tenancy.supply_value(text, integer, text, text, timestamptz, boolean),
    tenancy.report_health(text, integer, boolean, text, timestamptz),
    tenancy.promote(text, integer),
    tenancy.roll_back(text, text),
    tenancy.retire(text, integer, text),
    tenancy.abandon_rotation(text, text),
    tenancy.set_secret_policy(text, interval, integer, interval, integer, interval, text, text)
TO tenancy_application, tenancy_admin, tenancy_operator;
GRANT SELECT ON tenancy.secret_kind, tenancy.secret, tenancy.secret_version, tenancy.rotation, tenancy.health_report
TO tenancy_application, tenancy_admin, tenancy_operator, tenancy_auditor;
GRANT EXECUTE ON FUNCTION tenancy.verify_secrets(uuid) TO tenancy_custodian, tenancy_auditor;
GRANT EXECUTE ON FUNCTION tenancy.begin_reseal(uuid, integer), tenancy.reseal_batch(), tenancy.end_reseal()
TO tenancy_custodian;
GRANT EXECUTE ON PROCEDURE tenancy.reseal_secrets(uuid, integer) TO tenancy_custodian;
GRANT SELECT ON tenancy.secret_use TO tenancy_application, tenancy_admin, tenancy_operator, tenancy_auditor;
GRANT SELECT ON tenancy.reveal_journal TO tenancy_auditor;

-- What is to be said of them. The views read as their owner, and functions within them as whoever asks.
GRANT SELECT ON tenancy.secret_posture, tenancy.secret_finding
TO tenancy_application, tenancy_admin, tenancy_operator, tenancy_auditor;
GRANT EXECUTE ON FUNCTION tenancy.allowed(text, text) TO tenancy_auditor;
GRANT EXECUTE ON FUNCTION tenancy.posture_scope(), tenancy.clock(), tenancy.unusable_keys(),
    tenancy.rotation_due_at(timestamptz, interval)
TO tenancy_application, tenancy_admin, tenancy_operator, tenancy_auditor;

-- Action types: an administrator adds them for all, members ask for and approve them in their organization.
GRANT EXECUTE ON FUNCTION tenancy.add_action_type(text, text) TO tenancy_admin;
GRANT EXECUTE ON FUNCTION
    tenancy.request_action_type(text, text, interval),
    tenancy.decide_action_type(uuid, boolean, text),
    tenancy.withdraw_action_type(text, text),
    tenancy.action_approval(text)
TO tenancy_application, tenancy_admin, tenancy_operator;
-- Exceptions: what is excepted is asked in policies; the functions ask for the permissions of the context's role.
GRANT EXECUTE ON FUNCTION
    tenancy.define_exception_kind(text, text, jsonb, text, uuid),
    tenancy.add_exception(text, text, text, timestamptz, text, text, text, uuid[]),
    tenancy.decide_exception(uuid, boolean, text),
    tenancy.amend_exception(uuid, timestamptz, text, text, text),
    tenancy.revoke_exception(uuid, text),
    tenancy.is_excepted(text, text),
    tenancy.excepted(text),
    tenancy.exception_of(text, text),
    tenancy.open_review(text, text, timestamptz, text[], jsonb),
    tenancy.assign_review(uuid, integer[], text, text),
    tenancy.decide(uuid, integer, text, text, bytea, jsonb, uuid[], boolean),
    tenancy.decide_many(uuid, integer[], text, text),
    tenancy.refresh_item(uuid, integer),
    tenancy.close_review(uuid),
    tenancy.cancel_review(uuid, text),
    tenancy.review_report(uuid),
    tenancy.schedule_review(text, interval, interval, text[], jsonb),
    tenancy.end_review_schedule(uuid, text)
TO tenancy_application, tenancy_admin, tenancy_operator;
GRANT SELECT ON tenancy.exception_kind, tenancy.exception, tenancy.exception_approval, tenancy.exception_ending,
    tenancy.review, tenancy.review_item, tenancy.review_schedule
TO tenancy_application, tenancy_admin, tenancy_operator, tenancy_auditor;
GRANT EXECUTE ON FUNCTION tenancy.settle_due() TO tenancy_admin;
GRANT SELECT ON tenancy.action_type, tenancy.action_type_request, tenancy.alert
TO tenancy_application, tenancy_admin, tenancy_operator, tenancy_auditor;

-- Guardrails. Functions ask for the rights of an administrator or for the permission of the role.
GRANT EXECUTE ON FUNCTION tenancy.set_guardrail(text, text, text, uuid), tenancy.clear_guardrail(text, uuid, text)
TO tenancy_application, tenancy_admin;
GRANT EXECUTE ON FUNCTION tenancy.guardrails(), tenancy.guardrail_trial(text, interval)
TO tenancy_application, tenancy_admin, tenancy_operator, tenancy_auditor;
GRANT SELECT ON tenancy.guardrail TO tenancy_application, tenancy_admin, tenancy_operator, tenancy_auditor;

-- Members and roles: an organization's own admins.
GRANT EXECUTE ON FUNCTION
    tenancy.add_member(text, text, text, timestamptz),
    tenancy.change_member(text, text, text, timestamptz, text, text),
    tenancy.drop_member(text, text, text),
    tenancy.effective_permissions(text, text),
    tenancy.define_role(text, text[], text),
    tenancy.drop_role(text),
    tenancy.allowed_actions(text)
TO tenancy_application, tenancy_admin, tenancy_operator;

-- Break-glass: functions ask for the permission of the role, or for the rights of an administrator.
GRANT EXECUTE ON FUNCTION
    tenancy.set_break_glass_policy(jsonb, text, uuid),
    tenancy.request_break_glass(text, text, interval, text[], text[], text, text),
    tenancy.approve_break_glass(uuid, text),
    tenancy.deny_break_glass(uuid, text),
    tenancy.cancel_break_glass(uuid),
    tenancy.break_glass(uuid),
    tenancy.end_break_glass(uuid, text),
    tenancy.break_glass_report(uuid),
    tenancy.sign_off_break_glass(uuid, text, text, uuid[])
TO tenancy_application, tenancy_admin, tenancy_operator;
GRANT SELECT ON tenancy.break_glass_policy, tenancy.break_glass_grant, tenancy.break_glass_approval
TO tenancy_application, tenancy_admin, tenancy_operator, tenancy_auditor;

-- The posture of all controls, and figures for monitoring. Members see their organization's. docs/monitoring.md has the
-- grants of a role that reads the figures alone.
GRANT SELECT ON tenancy.posture TO tenancy_application, tenancy_admin, tenancy_operator, tenancy_auditor;
GRANT EXECUTE ON FUNCTION tenancy.database_posture_for_caller()
TO tenancy_application, tenancy_admin, tenancy_operator, tenancy_auditor;
GRANT EXECUTE ON FUNCTION tenancy.database_posture(), tenancy.metrics(boolean) TO tenancy_auditor;
GRANT SELECT ON tenancy.metric TO tenancy_auditor;
