-- Break-glass: more permissions for one person, for a reason, for a while, under other eyes. Code: src/controls/. The
-- library reads the grants by the order of their columns.

CREATE TABLE tenancy.break_glass_policy (
    organization uuid PRIMARY KEY,
    max_duration interval,
    request_expires interval,
    activate_within interval,
    approvals integer,
    approver_permissions text[],
    ceiling text[],
    overrides text[],
    sign_off_within interval,
    max_open integer,
    ticket_pattern text,
    reason text NOT NULL,
    changed_at timestamptz NOT NULL,
    changed_by text NOT NULL,
    changed_issuer text,
    changed_subject text
);
COMMENT ON TABLE tenancy.break_glass_policy IS
'What break-glass may be, for all organizations (the nil UUID) and for each. A column that is NULL is not set: the
default is in force, or what is set for all. Where both are set the stricter is in force. Written by
tenancy.set_break_glass_policy. Members read it with the permission break_glass:read.';
COMMENT ON COLUMN tenancy.break_glass_policy.organization IS 'The organization; the nil UUID for all of them.';
COMMENT ON COLUMN tenancy.break_glass_policy.max_duration IS
'How long a grant is active at most; by default 4 hours, never more than 24.';
COMMENT ON COLUMN tenancy.break_glass_policy.request_expires IS
'How long a request waits for its approvals; by default 4 hours.';
COMMENT ON COLUMN tenancy.break_glass_policy.activate_within IS
'How long an approved grant waits for its activation; by default 8 hours.';
COMMENT ON COLUMN tenancy.break_glass_policy.approvals IS 'How many must approve: 0 to 3, by default 1.';
COMMENT ON COLUMN tenancy.break_glass_policy.approver_permissions IS
'Permissions of which each must be held by an approver of its own, so that people of different kinds approve; by default
none beside break_glass:approve.';
COMMENT ON COLUMN tenancy.break_glass_policy.ceiling IS
'Permissions that a grant lies within; by default every permission may be granted.';
COMMENT ON COLUMN tenancy.break_glass_policy.overrides IS
'Names of the guardrails that a grant may pass; by default all that can be passed at all.';
COMMENT ON COLUMN tenancy.break_glass_policy.sign_off_within IS
'How long after the end of a grant its sign-off is due; by default 3 days.';
COMMENT ON COLUMN tenancy.break_glass_policy.max_open IS
'How many grants of one person are requested, approved or active at a time at most; by default 3.';
COMMENT ON COLUMN tenancy.break_glass_policy.ticket_pattern IS
'Regular expression that the ticket of a request matches as a whole. Where it is set, a ticket is needed.';
COMMENT ON COLUMN tenancy.break_glass_policy.reason IS 'Why it was last changed.';
COMMENT ON COLUMN tenancy.break_glass_policy.changed_at IS 'When it was last changed.';
COMMENT ON COLUMN tenancy.break_glass_policy.changed_by IS 'The database role that logged in for it.';
COMMENT ON COLUMN tenancy.break_glass_policy.changed_issuer IS 'Issuer of the member who changed it, if one did.';
COMMENT ON COLUMN tenancy.break_glass_policy.changed_subject IS 'Subject of the member who changed it.';

CREATE TABLE tenancy.break_glass_grant (
    id uuid PRIMARY KEY,
    organization uuid NOT NULL REFERENCES tenancy.organization,
    state text COLLATE "C" NOT NULL CHECK (state IN
        ('requested', 'approved', 'denied', 'cancelled', 'expired', 'active', 'ended', 'revoked', 'signed_off')),
    reason text NOT NULL,
    ticket text,
    duration interval NOT NULL CHECK (duration > '0' AND duration <= '24 hours'),
    permissions text[] NOT NULL,
    overrides text[] NOT NULL,
    requested_at timestamptz NOT NULL,
    requested_issuer text COLLATE "C" NOT NULL,
    requested_subject text COLLATE "C" NOT NULL,
    beneficiary_issuer text COLLATE "C" NOT NULL,
    beneficiary_subject text COLLATE "C" NOT NULL,
    decide_before timestamptz NOT NULL,
    activate_within interval NOT NULL,
    activate_before timestamptz,
    activated_at timestamptz,
    ends_at timestamptz,
    over_at timestamptz,
    closed_issuer text,
    closed_subject text,
    closed_reason text,
    sign_off_within interval NOT NULL,
    signed_off_at timestamptz,
    signed_off_issuer text,
    signed_off_subject text,
    verdict text COLLATE "C" CHECK (verdict IN ('appropriate', 'inappropriate')),
    sign_off_comment text,
    evidence uuid[],
    report_position bigint,
    report_digest bytea,
    unused text[],
    CHECK (state NOT IN ('approved', 'active') OR activate_before IS NOT NULL),
    CHECK ((activated_at IS NULL) = (ends_at IS NULL)),
    CHECK (state NOT IN ('active', 'ended') OR ends_at IS NOT NULL),
    CHECK ((state = 'signed_off') = (signed_off_at IS NOT NULL)),
    CHECK ((state = 'signed_off') = (verdict IS NOT NULL)),
    CHECK (state <> 'signed_off' OR (signed_off_issuer, signed_off_subject) <> (requested_issuer, requested_subject)
           AND (signed_off_issuer, signed_off_subject) <> (beneficiary_issuer, beneficiary_subject))
);
CREATE INDEX break_glass_grant_beneficiary_idx
    ON tenancy.break_glass_grant (organization, beneficiary_issuer, beneficiary_subject)
    WHERE state NOT IN ('denied', 'cancelled', 'expired', 'signed_off');
COMMENT ON TABLE tenancy.break_glass_grant IS
'Grants of break-glass: who asked, for whom, for what and how long, and what became of it. A grant is in force while its
state is active and ends_at has not passed. Written by tenancy.request_break_glass and its like. Members read the grants
of their organization with the permission break_glass:read; whoever asked for a grant or uses it reads it always.';
COMMENT ON COLUMN tenancy.break_glass_grant.id IS
'Time-ordered id (UUID version 7). The events of whoever works under the grant contain it.';
COMMENT ON COLUMN tenancy.break_glass_grant.organization IS 'The organization that the grant is for.';
COMMENT ON COLUMN tenancy.break_glass_grant.state IS
'requested, approved, denied, cancelled, expired, active, ended, revoked or signed_off. What has ended by its time
counts no more, also before this column says expired or ended.';
COMMENT ON COLUMN tenancy.break_glass_grant.reason IS 'Why it is needed.';
COMMENT ON COLUMN tenancy.break_glass_grant.ticket IS 'The ticket or incident that it is for.';
COMMENT ON COLUMN tenancy.break_glass_grant.duration IS 'How long it is active, from its activation on.';
COMMENT ON COLUMN tenancy.break_glass_grant.permissions IS 'What it permits, beside what the role permits.';
COMMENT ON COLUMN tenancy.break_glass_grant.overrides IS 'Names of the guardrails that it passes.';
COMMENT ON COLUMN tenancy.break_glass_grant.requested_at IS 'When it was requested.';
COMMENT ON COLUMN tenancy.break_glass_grant.requested_issuer IS
'Issuer of the requester. With requested_subject it names a person.';
COMMENT ON COLUMN tenancy.break_glass_grant.requested_subject IS 'Subject of the requester.';
COMMENT ON COLUMN tenancy.break_glass_grant.beneficiary_issuer IS 'Issuer of the person who may use it.';
COMMENT ON COLUMN tenancy.break_glass_grant.beneficiary_subject IS 'Subject of the person who may use it.';
COMMENT ON COLUMN tenancy.break_glass_grant.decide_before IS 'When it is too late to approve it.';
COMMENT ON COLUMN tenancy.break_glass_grant.activate_within IS
'How long it waits for its activation once it is approved.';
COMMENT ON COLUMN tenancy.break_glass_grant.activate_before IS
'When it is too late to activate it; NULL until it is approved.';
COMMENT ON COLUMN tenancy.break_glass_grant.activated_at IS 'When the beneficiary began to use it; NULL before.';
COMMENT ON COLUMN tenancy.break_glass_grant.ends_at IS 'When its time is over; NULL until it is activated.';
COMMENT ON COLUMN tenancy.break_glass_grant.over_at IS
'When it ended, by its time or by a call; NULL until that is recorded, and where it was never activated.';
COMMENT ON COLUMN tenancy.break_glass_grant.closed_issuer IS
'Issuer of whoever denied, cancelled, ended or revoked it; NULL where time did.';
COMMENT ON COLUMN tenancy.break_glass_grant.closed_subject IS
'Subject of whoever denied, cancelled, ended or revoked it.';
COMMENT ON COLUMN tenancy.break_glass_grant.closed_reason IS 'Why it was denied, ended or revoked.';
COMMENT ON COLUMN tenancy.break_glass_grant.sign_off_within IS 'How long after its end its sign-off is due.';
COMMENT ON COLUMN tenancy.break_glass_grant.signed_off_at IS 'When it was signed off; NULL before.';
COMMENT ON COLUMN tenancy.break_glass_grant.signed_off_issuer IS 'Issuer of whoever signed it off.';
COMMENT ON COLUMN tenancy.break_glass_grant.signed_off_subject IS 'Subject of whoever signed it off.';
COMMENT ON COLUMN tenancy.break_glass_grant.verdict IS 'appropriate or inappropriate; NULL until it is signed off.';
COMMENT ON COLUMN tenancy.break_glass_grant.sign_off_comment IS 'What whoever signed it off says of it.';
COMMENT ON COLUMN tenancy.break_glass_grant.evidence IS
'Ids of pieces of evidence, in tenancy.evidence. The last one is the report itself.';
COMMENT ON COLUMN tenancy.break_glass_grant.report_position IS
'Position of the last sealed event of the organization that the report at the sign-off could tell of.';
COMMENT ON COLUMN tenancy.break_glass_grant.report_digest IS
'SHA-256 of the report at the sign-off, which the event of the sign-off has too.';
COMMENT ON COLUMN tenancy.break_glass_grant.unused IS
'What the grant gave and nothing needed, as the report tells: permissions, and names of guardrails.';

CREATE TABLE tenancy.break_glass_approval (
    id uuid PRIMARY KEY,
    organization uuid NOT NULL REFERENCES tenancy.organization,
    grant_id uuid NOT NULL REFERENCES tenancy.break_glass_grant,
    issuer text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    held text[] NOT NULL,
    reason text NOT NULL,
    approved_at timestamptz NOT NULL,
    UNIQUE (grant_id, issuer, subject)
);
COMMENT ON TABLE tenancy.break_glass_approval IS
'Who has approved which grant of break-glass. Written by tenancy.approve_break_glass. Whoever reads a grant reads its
approvals.';
COMMENT ON COLUMN tenancy.break_glass_approval.id IS 'Time-ordered id (UUID version 7).';
COMMENT ON COLUMN tenancy.break_glass_approval.organization IS 'The organization of the grant.';
COMMENT ON COLUMN tenancy.break_glass_approval.grant_id IS 'The grant, in tenancy.break_glass_grant.';
COMMENT ON COLUMN tenancy.break_glass_approval.issuer IS 'Issuer of the approver. With subject it names a person.';
COMMENT ON COLUMN tenancy.break_glass_approval.subject IS 'Subject of the approver.';
COMMENT ON COLUMN tenancy.break_glass_approval.held IS
'Which of the approver_permissions of the policy the approver held.';
COMMENT ON COLUMN tenancy.break_glass_approval.reason IS 'Why it was approved.';
COMMENT ON COLUMN tenancy.break_glass_approval.approved_at IS 'When it was approved.';

SELECT pg_extension_config_dump('tenancy.break_glass_policy', '');
SELECT pg_extension_config_dump('tenancy.break_glass_grant', '');
SELECT pg_extension_config_dump('tenancy.break_glass_approval', '');

-- What tenancy.break_glass reads is remembered by each session until it changes. Code:
-- src/controls/break_glass_memory.rs.
CREATE TYPE tenancy.break_glass_signal AS ();
REVOKE ALL ON TYPE tenancy.break_glass_signal FROM PUBLIC;
COMMENT ON TYPE tenancy.break_glass_signal IS
'Internal: sessions learn of a change of break-glass by an invalidation message for this type. It has no other use.';

CREATE FUNCTION tenancy.announce_break_glass_change() RETURNS trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_announce_break_glass_change';
COMMENT ON FUNCTION tenancy.announce_break_glass_change() IS
'Internal: trigger of the tables of break-glass. At the commit every session discards what it has remembered of them.';

DO $$
DECLARE
    kept text;
BEGIN
    FOREACH kept IN ARRAY ARRAY['break_glass_policy', 'break_glass_grant', 'break_glass_approval'] LOOP
        EXECUTE format(
            'CREATE TRIGGER keep_controls BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON tenancy.%I
                 FOR EACH STATEMENT EXECUTE FUNCTION tenancy.keep_controls()', kept);
        EXECUTE format('ALTER TABLE tenancy.%I ENABLE ALWAYS TRIGGER keep_controls', kept);
        EXECUTE format('COMMENT ON TRIGGER keep_controls ON tenancy.%I IS
            ''Refuses changes that do not come from the extension.''', kept);
        EXECUTE format('ALTER TABLE tenancy.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', kept);
        EXECUTE format(
            'CREATE POLICY every_organization ON tenancy.%I FOR SELECT TO tenancy_auditor USING (true)', kept);
        EXECUTE format('COMMENT ON POLICY every_organization ON tenancy.%I IS
            ''Auditors read the rows of every organization.''', kept);
        -- FOR EACH ROW, because logical replication fires no statement triggers. TRUNCATE is a change of the table
        -- itself.
        EXECUTE format(
            'CREATE TRIGGER announce_break_glass_change AFTER INSERT OR UPDATE OR DELETE ON tenancy.%I
                 FOR EACH ROW EXECUTE FUNCTION tenancy.announce_break_glass_change()', kept);
        EXECUTE format('ALTER TABLE tenancy.%I ENABLE ALWAYS TRIGGER announce_break_glass_change', kept);
        EXECUTE format('COMMENT ON TRIGGER announce_break_glass_change ON tenancy.%I IS
            ''Makes every session discard what it has remembered of the table.''', kept);
    END LOOP;
END
$$;
CREATE POLICY own_organization ON tenancy.break_glass_policy FOR SELECT
    TO tenancy_application, tenancy_admin, tenancy_operator
    USING (organization IN (tenancy.org_id(), '00000000-0000-0000-0000-000000000000')
           AND tenancy.allowed('break_glass', 'read'));
COMMENT ON POLICY own_organization ON tenancy.break_glass_policy IS
'Members read what is set for all and for the context''s organization, with the permission break_glass:read.';
CREATE POLICY own_organization ON tenancy.break_glass_grant FOR SELECT
    TO tenancy_application, tenancy_admin, tenancy_operator
    USING (organization = tenancy.org_id()
           AND (tenancy.allowed('break_glass', 'read')
                OR tenancy.subject() = beneficiary_subject AND tenancy.whoami() ->> 'issuer' = beneficiary_issuer
                OR tenancy.subject() = requested_subject AND tenancy.whoami() ->> 'issuer' = requested_issuer));
COMMENT ON POLICY own_organization ON tenancy.break_glass_grant IS
'Members read the grants of the context''s organization with the permission break_glass:read, and their own always.';
CREATE POLICY own_organization ON tenancy.break_glass_approval FOR SELECT
    TO tenancy_application, tenancy_admin, tenancy_operator
    USING (organization = tenancy.org_id()
           AND EXISTS (SELECT FROM tenancy.break_glass_grant g WHERE g.id = grant_id));
COMMENT ON POLICY own_organization ON tenancy.break_glass_approval IS
'Whoever reads a grant reads its approvals.';

CREATE FUNCTION tenancy.set_break_glass_policy(settings jsonb, reason text, organization uuid DEFAULT NULL)
    RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_set_break_glass_policy_wrapper';
COMMENT ON FUNCTION tenancy.set_break_glass_policy(jsonb, text, uuid) IS
'Sets what break-glass may be, for all organizations or for one. What is not named stays as it is, and null takes back
what was set. The policy of an organization is as strict as the one for all, or stricter; where that becomes stricter
later, it counts. A change counts for grants that are requested or approved by then, too. It is an event.

- settings: An object with max_duration, request_expires, activate_within, sign_off_within (intervals as texts),
  approvals, max_open (numbers), approver_permissions, ceiling, overrides (arrays of texts), ticket_pattern (text).
  tenancy.break_glass_policy describes each.
- reason: Why, 1 to 2000 bytes.
- organization: The organization; NULL for all of them.

A member of tenancy_admin may set every policy. Under a context, a member with the permission break_glass:policy may set
that of the context''s organization.

Raises 22023 for a setting that is not known, not allowed, or looser than the policy for all, 22004 for NULL, 42704 for
an unknown organization, also for another than the context''s, 42501 without the permission, 28000 without a context,
40001 after a change by another session, 25006 in a read-only transaction or on a standby.';

CREATE FUNCTION tenancy.request_break_glass(reason text, ticket text DEFAULT NULL, duration interval DEFAULT '1 hour',
    permissions text[] DEFAULT '{}', overrides text[] DEFAULT '{}', for_subject text DEFAULT NULL,
    for_issuer text DEFAULT NULL) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_request_break_glass_wrapper';
COMMENT ON FUNCTION tenancy.request_break_glass(text, text, interval, text[], text[], text, text) IS
'Asks for break-glass in the context''s organization: permissions that a person gets beside those of the role, and
guardrails that the person may pass, for a while. Returns the id of the grant. Others approve it with
tenancy.approve_break_glass; then the person uses it with tenancy.break_glass. The same request again returns the same
id while it waits.

- reason: Why it is needed, 1 to 2000 bytes.
- ticket: The ticket or incident, 1 to 1000 bytes, of the form that the policy asks for.
- duration: How long it is active, from its activation on: more than 0 and at most what the policy allows. A month
  counts as 30 days.
- permissions: As in tenancy.define_role: domain:action.
- overrides: Names of guardrails, of those that the policy lets pass.
- for_subject, for_issuer: The person who uses it: an active member with the permission break_glass:use. By default
  the caller, or the subject of the caller''s issuer.

Raises 42501 without the permission break_glass:request, (elevation_refused) for more than the policy allows or a person
who may not use it, (assumed_refused) for an operator who assumed the organization, 28000 without a context, 55000
(grant_state) where the person has as many open grants as the policy allows, (sign_off_overdue) while one of the
person''s is not signed off in time (guardrail unsigned_break_glass), 22023 and 22004 for an argument that is not
allowed, 40001 after a change by another session, 25006 in a read-only transaction or on a standby.';

CREATE FUNCTION tenancy.approve_break_glass(grant_id uuid, reason text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_approve_break_glass_wrapper';
COMMENT ON FUNCTION tenancy.approve_break_glass(uuid, text) IS
'Approves a request for break-glass. Neither who asked nor who uses it can approve it (guardrail
self_approved_break_glass), and each approver counts once. Nobody approves more than the own role permits. With the last
approval that the policy asks for, the grant waits for its activation.

- grant_id: The grant, from tenancy.request_break_glass.
- reason: Why, 1 to 2000 bytes.

Raises 42501 without the permission break_glass:approve, (self_approval) for who asked or uses it, (more_than_held)
for permissions that the approver does not hold, (elevation_refused) for what the policy does not allow any more,
(assumed_refused) for an operator who assumed the organization, 28000 without a context, 42704 for a grant that the
organization does not have, 55000 (grant_state) for one that is not requested any more or was approved by the same
person before, 22023 and 22004 for an argument that is not allowed, 40001 after a change by another session, 25006 in
a read-only transaction or on a standby.';

CREATE FUNCTION tenancy.deny_break_glass(grant_id uuid, reason text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_deny_break_glass_wrapper';
COMMENT ON FUNCTION tenancy.deny_break_glass(uuid, text) IS
'Denies a request for break-glass, also where others have approved it and more approvals are needed.

- grant_id: The grant, from tenancy.request_break_glass.
- reason: Why, 1 to 2000 bytes.

Raises 42501 without the permission break_glass:approve and (assumed_refused) for an operator who assumed the
organization, 28000 without a context, 42704 for a grant that the organization does not have, 55000 (grant_state) for
one that is not requested any more, 22023 and 22004 for an argument that is not allowed, 40001 after a change by
another session, 25006 in a read-only transaction or on a standby.';

CREATE FUNCTION tenancy.cancel_break_glass(grant_id uuid) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_cancel_break_glass_wrapper';
COMMENT ON FUNCTION tenancy.cancel_break_glass(uuid) IS
'Takes the own request for break-glass back, before it has its approvals.

- grant_id: The grant, from tenancy.request_break_glass.

Raises 42704 for a grant that the caller has not asked for, 28000 without a context, 55000 (grant_state) for one that
is not requested any more, 22004 for NULL, 40001 after a change by another session, 25006 in a read-only transaction
or on a standby.';

CREATE FUNCTION tenancy.break_glass(grant_id uuid) RETURNS timestamptz
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_break_glass_wrapper';
COMMENT ON FUNCTION tenancy.break_glass(uuid) IS
'Elevates the transaction by a grant of break-glass of the caller, and returns the end of the grant. It is called
after tenancy.authenticate, in each transaction that needs it. The first call activates the grant: its duration runs
from then on, whatever becomes of the transaction, because another process records it before the transaction is
elevated. The identity of the transaction stays, and what the role denies stays denied. Every statement asks whether
the grant is still in force. Call it before other statements: a lock that the transaction holds on the organization
keeps the activation from being recorded.

- grant_id: The grant, from tenancy.request_break_glass, once it is approved.

Raises 42501 (elevation_refused) for the grant of somebody else, without the permission break_glass:use, and for what
the policy does not allow any more, 28000 without a context, 42704 for a grant that the organization does not have,
55000 (grant_state) for one that is not approved or over, (break_glass_unrecorded) where the activation cannot be
recorded (guardrail unrecorded_break_glass), 22004 for NULL.';

CREATE FUNCTION tenancy.end_break_glass(grant_id uuid, reason text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_end_break_glass_wrapper';
COMMENT ON FUNCTION tenancy.end_break_glass(uuid, text) IS
'Ends a grant of break-glass. The beneficiary ends one that is active. With the permission break_glass:approve, others
revoke one that is active or approved. It counts in the next statement of every session, also in transactions that have
begun before.

- grant_id: The grant, from tenancy.request_break_glass.
- reason: Why, 1 to 2000 bytes.

Raises 42501 without the permission, 28000 without a context, 42704 for a grant that the organization does not have,
55000 (grant_state) for one that is neither approved nor active, 22023 and 22004 for an argument that is not allowed,
40001 after a change by another session, 25006 in a read-only transaction or on a standby.';

CREATE FUNCTION tenancy.break_glass_report(grant_id uuid) RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_break_glass_report_wrapper';
COMMENT ON FUNCTION tenancy.break_glass_report(uuid) IS
'Tells what was done under a grant of break-glass: who asked, for whom, why, who approved it, its times, the statements
by command and tables, what they needed of the grant and what nothing needed, and every sealed event with old and new
values. Returns an object:

- report: What is told, up to through_position of the organization''s events. Old and new values are texts, which
  contain the JSON of the events. For a grant that is signed off it is what it was then.
- digest: SHA-256 of the report, written without blanks and with the members of each object sorted by their names.
- later_events: How many events of the grant the report does not tell of, because they are not sealed or came later.
- complete: Whether there are none.

Raises 42501 without the permissions break_glass:read and audit:read, 28000 without a context, 42704 for a grant that
the organization does not have, 22004 for NULL.';

CREATE FUNCTION tenancy.sign_off_break_glass(grant_id uuid, verdict text, comment text, evidence uuid[] DEFAULT '{}')
    RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_sign_off_break_glass_wrapper';
COMMENT ON FUNCTION tenancy.sign_off_break_glass(uuid, text, text, uuid[]) IS
'Signs a grant of break-glass off that has ended or was revoked. The caller is a third person, who neither asked for it
nor used it. The event of the sign-off has the digest of the report (tenancy.break_glass_report). The report is
registered as evidence too, with source tenancy.break_glass_report and relation derived-from: exports prove it.

- verdict: appropriate or inappropriate.
- comment: What there is to say, 1 to 2000 bytes.
- evidence: Ids of pieces of evidence, in tenancy.evidence.

Raises 42501 without the permission break_glass:sign_off, (self_approval) for who asked for it or used it,
(assumed_refused) for an operator who assumed the organization, 28000 without a context, 42704 for a grant that the
organization does not have, 55000 (grant_state) for one that is not over, is signed off, or has events that are not
sealed, 22023 and 22004 for an argument that is not allowed, 40001 after a change by another session, 25006 in a
read-only transaction or on a standby.';
