-- Action types: what credentials with the scope write are for, and which of them an organization has approved. Code:
-- src/controls/. The library reads both tables by the order of their columns.

CREATE TABLE tenancy.action_type (
    name text COLLATE "C" PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9_.:-]{0,62}$'),
    description text NOT NULL,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL
);
COMMENT ON TABLE tenancy.action_type IS
'Types of actions that change something at a provider, such as stopping an instance. An organization approves one
before a credential of the scope write is stored or revealed for it. Written by tenancy.add_action_type.';
COMMENT ON COLUMN tenancy.action_type.name IS 'Name of the action type.';
COMMENT ON COLUMN tenancy.action_type.description IS 'What the actions do, for whoever decides.';
COMMENT ON COLUMN tenancy.action_type.created_at IS 'When the action type was added.';
COMMENT ON COLUMN tenancy.action_type.created_by IS 'The database role that logged in.';

CREATE TABLE tenancy.action_type_request (
    id uuid PRIMARY KEY,
    organization uuid NOT NULL REFERENCES tenancy.organization,
    action_type text COLLATE "C" NOT NULL REFERENCES tenancy.action_type,
    state text COLLATE "C" NOT NULL CHECK (state IN ('requested', 'approved', 'denied', 'expired', 'withdrawn')),
    reason text NOT NULL,
    valid_for interval NOT NULL,
    requested_at timestamptz NOT NULL,
    decide_before timestamptz NOT NULL,
    requested_issuer text NOT NULL,
    requested_subject text NOT NULL,
    decided_at timestamptz,
    decided_issuer text,
    decided_subject text,
    decision_reason text,
    ends_at timestamptz,
    withdrawn_at timestamptz,
    withdrawn_issuer text,
    withdrawn_subject text,
    withdrawal_reason text,
    CHECK (state <> 'approved' OR ends_at IS NOT NULL),
    CHECK (state NOT IN ('approved', 'denied') OR decided_at IS NOT NULL),
    CHECK ((state = 'withdrawn') = (withdrawn_at IS NOT NULL))
);
CREATE UNIQUE INDEX action_type_request_open_idx ON tenancy.action_type_request (organization, action_type)
    WHERE state = 'requested';
CREATE INDEX action_type_request_live_idx ON tenancy.action_type_request (organization, action_type)
    WHERE state IN ('requested', 'approved');
COMMENT ON TABLE tenancy.action_type_request IS
'Requests of organizations to approve an action type, and what became of them. An approval is in force while its state
is approved and ends_at has not passed. Written by tenancy.request_action_type and its like. Members read the requests
of their organization with the permission action:read.';
COMMENT ON COLUMN tenancy.action_type_request.id IS
'Time-ordered id (UUID version 7). The events of a reveal contain it as the id of the approval.';
COMMENT ON COLUMN tenancy.action_type_request.organization IS 'The organization that the approval is for.';
COMMENT ON COLUMN tenancy.action_type_request.action_type IS 'The action type, in tenancy.action_type.';
COMMENT ON COLUMN tenancy.action_type_request.state IS
'requested, approved, denied, expired or withdrawn. What has ended by its time counts no more, also before this column
says expired.';
COMMENT ON COLUMN tenancy.action_type_request.reason IS 'Why it was requested.';
COMMENT ON COLUMN tenancy.action_type_request.valid_for IS 'How long the approval is in force once it is given.';
COMMENT ON COLUMN tenancy.action_type_request.requested_at IS 'When it was requested.';
COMMENT ON COLUMN tenancy.action_type_request.decide_before IS
'When it is too late to decide: 30 days after the request.';
COMMENT ON COLUMN tenancy.action_type_request.requested_issuer IS
'Issuer of the requester. With requested_subject it names a person.';
COMMENT ON COLUMN tenancy.action_type_request.requested_subject IS 'Subject of the requester.';
COMMENT ON COLUMN tenancy.action_type_request.decided_at IS 'When it was approved or denied; NULL before.';
COMMENT ON COLUMN tenancy.action_type_request.decided_issuer IS 'Issuer of whoever decided.';
COMMENT ON COLUMN tenancy.action_type_request.decided_subject IS 'Subject of whoever decided.';
COMMENT ON COLUMN tenancy.action_type_request.decision_reason IS 'Why it was approved or denied.';
COMMENT ON COLUMN tenancy.action_type_request.ends_at IS 'When the approval ends; NULL until it is given.';
COMMENT ON COLUMN tenancy.action_type_request.withdrawn_at IS 'When it was withdrawn; NULL before.';
COMMENT ON COLUMN tenancy.action_type_request.withdrawn_issuer IS 'Issuer of whoever withdrew it.';
COMMENT ON COLUMN tenancy.action_type_request.withdrawn_subject IS 'Subject of whoever withdrew it.';
COMMENT ON COLUMN tenancy.action_type_request.withdrawal_reason IS 'Why it was withdrawn.';

SELECT pg_extension_config_dump('tenancy.action_type', '');
SELECT pg_extension_config_dump('tenancy.action_type_request', '');

CREATE FUNCTION tenancy.keep_controls() RETURNS trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_keep_controls';
COMMENT ON FUNCTION tenancy.keep_controls() IS
'Trigger function of the tables of approvals: refuses every change that does not come from a function of the extension
or from the restore of a dump, to superusers too. Raises 42501.';

DO $$
DECLARE
    kept text;
BEGIN
    FOREACH kept IN ARRAY ARRAY['action_type', 'action_type_request'] LOOP
        EXECUTE format(
            'CREATE TRIGGER keep_controls BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON tenancy.%I
                 FOR EACH STATEMENT EXECUTE FUNCTION tenancy.keep_controls()', kept);
        EXECUTE format('ALTER TABLE tenancy.%I ENABLE ALWAYS TRIGGER keep_controls', kept);
        EXECUTE format('COMMENT ON TRIGGER keep_controls ON tenancy.%I IS
            ''Refuses changes that do not come from the extension.''', kept);
        EXECUTE format('ALTER TABLE tenancy.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', kept);
    END LOOP;
END
$$;
CREATE POLICY everybody ON tenancy.action_type FOR SELECT
    TO tenancy_application, tenancy_admin, tenancy_operator, tenancy_auditor USING (true);
COMMENT ON POLICY everybody ON tenancy.action_type IS 'Action types are the same for every organization.';
CREATE POLICY own_organization ON tenancy.action_type_request FOR SELECT
    TO tenancy_application, tenancy_admin, tenancy_operator
    USING (organization = tenancy.org_id() AND tenancy.allowed('action', 'read'));
COMMENT ON POLICY own_organization ON tenancy.action_type_request IS
'Members read the requests of the context''s organization, with the permission action:read.';
CREATE POLICY every_organization ON tenancy.action_type_request FOR SELECT TO tenancy_auditor USING (true);
COMMENT ON POLICY every_organization ON tenancy.action_type_request IS
'Auditors read the requests of every organization.';

CREATE FUNCTION tenancy.add_action_type(name text, description text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_add_action_type_wrapper';
COMMENT ON FUNCTION tenancy.add_action_type(text, text) IS
'Adds a type of actions that organizations can approve. It is the same for all of them, and in force for none until it
is approved there. The addition is an event of no organization.

- name: 1 to 63 characters a-z, 0-9, _ . : -, the first a letter.
- description: What the actions do, 1 to 1000 bytes.

Raises 23505 (action_type_exists) for a name that is taken, 22023 and 22004 for an argument that is not allowed, 25006
in a read-only transaction or on a standby.';

CREATE FUNCTION tenancy.request_action_type(action_type text, reason text, valid_for interval DEFAULT '90 days')
    RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_request_action_type_wrapper';
COMMENT ON FUNCTION tenancy.request_action_type(text, text, interval) IS
'Asks for the approval of an action type in the context''s organization. Returns the id of the request, which somebody
else decides with tenancy.decide_action_type within 30 days. The same request again returns the same id. An approval
that is in force stays so until its own end.

- reason: Why it is needed, 1 to 1000 bytes.
- valid_for: How long the approval is in force once it is given: more than 0 and at most 366 days. A month counts as 30
  days.

Raises 42501 without the permission action:request, 28000 without a context, 42704 for an unknown action type, 55000
(approval_state) while another request for it is open, 22023 and 22004 for an argument that is not allowed, 40001 after
a change by another session, 25006 in a read-only transaction or on a standby.';

CREATE FUNCTION tenancy.decide_action_type(request uuid, approve boolean, reason text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_decide_action_type_wrapper';
COMMENT ON FUNCTION tenancy.decide_action_type(uuid, boolean, text) IS
'Approves or denies a request for an action type. An approval is in force at once, for the time that the request names.
Whoever asked cannot approve: requester and approver are compared by issuer and subject (guardrail
self_approved_action). Whoever decides holds the permission in the role by what is committed now, without what an
elevation adds.

- request: Id of the request, from tenancy.request_action_type.
- approve: true approves, false denies.
- reason: Why, 1 to 1000 bytes.

Raises 42501 without the permission action:approve or (self_approval) for the requester, 28000 without a context, 42704
for a request that the organization does not have, 55000 (approval_state) for one that is decided, withdrawn or expired,
22023 and 22004 for an argument that is not allowed, 40001 after a change by another session, 25006 in a read-only
transaction or on a standby.';

CREATE FUNCTION tenancy.withdraw_action_type(action_type text, reason text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_withdraw_action_type_wrapper';
COMMENT ON FUNCTION tenancy.withdraw_action_type(text, text) IS
'Withdraws an action type in the context''s organization: every approval of it that is in force, and the open request.
It counts in the next statement of every session, also in transactions that have begun before. The permission
action:approve withdraws all of them, action:request those that the caller asked for.

- reason: Why, 1 to 1000 bytes.

Raises 42501 without the permission, 28000 without a context, 42704 for an unknown action type, 55000 (approval_state)
if there is nothing to withdraw, 22023 and 22004 for an argument that is not allowed, 40001 after a change by another
session, 25006 in a read-only transaction or on a standby.';

CREATE FUNCTION tenancy.action_approval(action_type text DEFAULT NULL) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_action_approval_wrapper';
COMMENT ON FUNCTION tenancy.action_approval(text) IS
'Returns the id of the approval of an action type that is in force in the context''s organization, or NULL. Of several
it is the one that lasts longest. A withdrawal counts at once, also in a transaction that has begun before.

- action_type: Name of the action type; NULL for any.

Raises 42501 without the permission action:read, 28000 without a context.';
