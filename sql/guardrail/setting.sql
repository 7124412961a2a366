-- Setting guardrails, for all organizations or for one, and listing them. Code: src/controls/guardrail_setting.rs,
-- src/guardrail/.

CREATE TRIGGER keep_controls BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON tenancy.guardrail
    FOR EACH STATEMENT EXECUTE FUNCTION tenancy.keep_controls();
ALTER TABLE tenancy.guardrail ENABLE ALWAYS TRIGGER keep_controls;
COMMENT ON TRIGGER keep_controls ON tenancy.guardrail IS 'Refuses changes that do not come from the extension.';
ALTER TABLE tenancy.guardrail ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own_organization ON tenancy.guardrail FOR SELECT TO tenancy_application, tenancy_operator
    USING (organization = tenancy.org_id() AND tenancy.allowed('guardrail', 'read'));
COMMENT ON POLICY own_organization ON tenancy.guardrail IS
'Members read what is set for the context''s organization, with the permission guardrail:read.';
CREATE POLICY every_organization ON tenancy.guardrail FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
COMMENT ON POLICY every_organization ON tenancy.guardrail IS
'Administrators and auditors read what is set for all organizations and for each.';

CREATE FUNCTION tenancy.guardrail_states()
    RETURNS TABLE (name text, state text, default_state text, meaning text)
    LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_guardrail_states_wrapper';
COMMENT ON FUNCTION tenancy.guardrail_states() IS
'Internal: the states of guardrails that bind all organizations, for tenancy.posture and tenancy.metrics.';

CREATE FUNCTION tenancy.guardrails()
    RETURNS TABLE (name text, state text, scope text, default_state text, meaning text, changed_by text,
        changed_at timestamptz, reason text, hits bigint)
    LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_guardrails_wrapper';
COMMENT ON FUNCTION tenancy.guardrails() IS
'Lists every guardrail. Under a context, it tells what is in force in the context''s organization, otherwise what is in
force where an organization has set nothing. Members need the permission guardrail:read. tenancy_admin and
tenancy_auditor may call it without a context too.

The columns are name, state (in force), scope (organization: an organization may have a state of its own; database: it
may not), default_state, meaning, and of the state that is set: changed_by (the subject of the person, or the database
role), changed_at and reason. Members see these of their own organization''s state alone. hits tells how often the
guardrail warned within 30 days, as tenancy.guardrail_trial does; NULL for members without the permission audit:read.

Raises 28000 without a context, 42501 without the permission.';

CREATE FUNCTION tenancy.set_guardrail(name text, state text, reason text, organization uuid DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_set_guardrail_wrapper';
COMMENT ON FUNCTION tenancy.set_guardrail(text, text, text, uuid) IS
'Sets the state of a guardrail, for all organizations or for one. The stricter of the two is in force. The new state
applies to all sessions at once. The reason is stored, and the change is an audit event, of the organization if it is
set for one. A state that is less strict than before also raises the alert guardrail_loosened. The same call again
changes nothing.

- state: off, warn or enforce.
- reason: Why, 1 to 1000 bytes.
- organization: The organization; NULL sets it for all of them. Only a guardrail of the scope organization can be set
  for one.

A member of tenancy_admin may set every state. Under a context, a member with the permission guardrail:update may set a
state of the context''s organization that is not less strict than the one in force there.

Raises 42704 for an unknown guardrail or organization, also for another organization than the context''s, 22023 for
another state and for an organization where the guardrail has none, 22004 for NULL, 42501 without the permission and
(guardrail_refused) for a state that is less strict, 28000 without a context, 40001 after a change by another session,
25006 in a read-only transaction or on a standby.';

CREATE FUNCTION tenancy.clear_guardrail(name text, organization uuid, reason text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_clear_guardrail_wrapper';
COMMENT ON FUNCTION tenancy.clear_guardrail(text, uuid, text) IS
'Clears the state that was set for an organization, where the state of all organizations is in force again, or for all
of them, which gives the guardrail its default state. The rules are those of tenancy.set_guardrail: a member clears the
state of the own organization only where nothing less strict is in force then. Without a state that was set, nothing
happens.

- organization: The organization; NULL for all of them.
- reason: Why, 1 to 1000 bytes.

Raises as tenancy.set_guardrail.';

CREATE FUNCTION tenancy.guardrail_trial(name text, since interval DEFAULT '30 days')
    RETURNS TABLE (organization uuid, hits bigint, subjects bigint, first_at timestamptz, last_at timestamptz,
        example uuid)
    LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_guardrail_trial_wrapper';
COMMENT ON FUNCTION tenancy.guardrail_trial(text, interval) IS
'Tells what a guardrail would have refused, had it been enforced: of each organization the number of times that it
warned instead, by how many persons or database roles, when for the first and the last time, and the id of the first
event, for tenancy.audit_trail. A transaction that is warned of the same object several times counts once.

- since: How far to look back, more than 0. A month counts as 30 days.

tenancy_auditor and tenancy_admin see every organization, and what concerns none (the nil UUID). The function reads the
partitions of the events from that time on. Under a context, members with the permissions guardrail:read and audit:read
see their organization, once its events are sealed.

Raises 42704 for an unknown guardrail, 22023 and 22004 for an argument that is not allowed, 28000 without a context,
42501 without the permissions.';
