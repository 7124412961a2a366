-- Reviews: others look at what there is, item by item, and what they decide is done at the close. Code: src/controls/.

CREATE TABLE tenancy.review (
    id uuid PRIMARY KEY,
    organization uuid NOT NULL REFERENCES tenancy.organization,
    kind text COLLATE "C" NOT NULL CHECK (kind IN
        ('exceptions', 'memberships', 'roles', 'secrets', 'break_glass', 'action_types')),
    title text NOT NULL,
    state text COLLATE "C" NOT NULL CHECK (state IN ('open', 'closed', 'cancelled')),
    filter jsonb NOT NULL,
    reviewer_issuers text[] NOT NULL,
    reviewer_subjects text[] NOT NULL CHECK (cardinality(reviewer_subjects) = cardinality(reviewer_issuers)),
    due_at timestamptz NOT NULL,
    items integer NOT NULL CHECK (items BETWEEN 1 AND 1000000),
    items_digest bytea NOT NULL CHECK (octet_length(items_digest) = 32),
    -- No foreign key: a schedule may end before its reviews.
    schedule uuid,
    opened_at timestamptz NOT NULL,
    opened_issuer text,
    opened_subject text,
    closed_at timestamptz,
    closed_issuer text,
    closed_subject text,
    close_reason text,
    report_digest bytea CHECK (octet_length(report_digest) = 32),
    CHECK ((state = 'open') = (closed_at IS NULL)),
    CHECK ((state = 'closed') = (report_digest IS NOT NULL))
);
CREATE INDEX review_open_idx ON tenancy.review (due_at) WHERE state = 'open';
CREATE INDEX review_kind_idx ON tenancy.review (organization, kind, closed_at);
COMMENT ON TABLE tenancy.review IS
'Reviews of organizations: what others look at, item by item, until when, and what became of it. Written by
tenancy.open_review and its like. Members read the reviews of their organization with the permission review:read,
auditors read all.';
COMMENT ON COLUMN tenancy.review.id IS 'Time-ordered id (UUID version 7).';
COMMENT ON COLUMN tenancy.review.organization IS 'The organization that is reviewed.';
COMMENT ON COLUMN tenancy.review.kind IS
'exceptions (in force), memberships, roles (the organization''s own), secrets (of the scope write, and long-lived),
break_glass (grants that were used and not reviewed before), or action_types (approvals in force).';
COMMENT ON COLUMN tenancy.review.title IS 'Its title, for readers.';
COMMENT ON COLUMN tenancy.review.state IS
'open; closed: what was decided is done; cancelled: it was given up, and nothing of it is done.';
COMMENT ON COLUMN tenancy.review.filter IS 'Members that the snapshot of each item has.';
COMMENT ON COLUMN tenancy.review.reviewer_issuers IS 'Issuers of the reviewers; none: everybody with review:decide.';
COMMENT ON COLUMN tenancy.review.reviewer_subjects IS 'Subjects of the reviewers, in the order of the issuers.';
COMMENT ON COLUMN tenancy.review.due_at IS 'When it is due. From then on it is closed with what is decided.';
COMMENT ON COLUMN tenancy.review.items IS 'How many items it has; the event of the opening says so too.';
COMMENT ON COLUMN tenancy.review.items_digest IS
'SHA-256 over the opening_digest of all items, in the order of their numbers. The event of the opening has it, so no
item can be left out or put in later.';
COMMENT ON COLUMN tenancy.review.schedule IS 'The schedule that opened it, in tenancy.review_schedule; NULL for a member.';
COMMENT ON COLUMN tenancy.review.opened_at IS 'When it was opened, and its snapshots were taken.';
COMMENT ON COLUMN tenancy.review.opened_issuer IS 'Issuer of the member who opened it; NULL for a schedule.';
COMMENT ON COLUMN tenancy.review.opened_subject IS 'Subject of that member.';
COMMENT ON COLUMN tenancy.review.closed_at IS 'When it was closed or cancelled; NULL before.';
COMMENT ON COLUMN tenancy.review.closed_issuer IS
'Issuer of the member who closed or cancelled it; NULL where time did (guardrail overdue_review).';
COMMENT ON COLUMN tenancy.review.closed_subject IS 'Subject of that member.';
COMMENT ON COLUMN tenancy.review.close_reason IS 'Why it was cancelled.';
COMMENT ON COLUMN tenancy.review.report_digest IS
'Digest of the report of a closed review, as tenancy.review_report returns it and as the event of the close has it.';

CREATE TABLE tenancy.review_item (
    review uuid NOT NULL REFERENCES tenancy.review,
    number integer NOT NULL CHECK (number > 0),
    organization uuid NOT NULL,
    what jsonb NOT NULL,
    about jsonb NOT NULL,
    snapshot jsonb NOT NULL,
    snapshot_digest bytea NOT NULL CHECK (octet_length(snapshot_digest) = 32),
    opening_digest bytea NOT NULL CHECK (octet_length(opening_digest) = 32),
    assignee_issuer text,
    assignee_subject text,
    decision text COLLATE "C" CHECK (decision IN ('keep', 'change', 'revoke')),
    change jsonb,
    comment text,
    evidence uuid[],
    decided_at timestamptz,
    decided_issuer text,
    decided_subject text,
    outcome text COLLATE "C"
        CHECK (outcome IN ('kept', 'applied', 'failed', 'stale', 'gone', 'lapsed', 'undecided')),
    detail text,
    PRIMARY KEY (review, number),
    CHECK ((assignee_issuer IS NULL) = (assignee_subject IS NULL)),
    CHECK ((decision IS NULL) = (decided_at IS NULL) AND (decision IS NULL) = (decided_subject IS NULL)),
    CHECK (change IS NULL OR decision = 'change')
);
CREATE INDEX review_item_what_idx ON tenancy.review_item (organization, what) WHERE outcome IN ('kept', 'applied');
COMMENT ON TABLE tenancy.review_item IS
'The items of reviews: each with the state that it was in, and what was decided about that. Read as tenancy.review is.';
COMMENT ON COLUMN tenancy.review_item.review IS 'The review, in tenancy.review.';
COMMENT ON COLUMN tenancy.review_item.number IS 'Number within the review, from 1.';
COMMENT ON COLUMN tenancy.review_item.organization IS 'The organization of the review.';
COMMENT ON COLUMN tenancy.review_item.what IS
'What it is: {"issuer", "subject"} of a member, {"role"}, or the id of an exception, secret, grant or request.';
COMMENT ON COLUMN tenancy.review_item.about IS
'Whom it is about, as an array of {"issuer", "subject"}: they do not decide. The member; requester and owner of an
exception; owner of a secret; requester and beneficiary of a grant; requester of an approval.';
COMMENT ON COLUMN tenancy.review_item.snapshot IS
'The state that is decided about. Times are UTC, such as 2026-01-31T08:00:00.000000Z.';
COMMENT ON COLUMN tenancy.review_item.snapshot_digest IS 'SHA-256 of the snapshot as Postgres writes it, sha256(convert_to(snapshot::text, ''UTF8'')).';
COMMENT ON COLUMN tenancy.review_item.opening_digest IS
'The digest of the snapshot at the opening. It differs where tenancy.refresh_item has taken a newer one.';
COMMENT ON COLUMN tenancy.review_item.assignee_issuer IS 'Issuer of the reviewer who decides; NULL: nobody, or anybody.';
COMMENT ON COLUMN tenancy.review_item.assignee_subject IS 'Subject of that reviewer.';
COMMENT ON COLUMN tenancy.review_item.decision IS 'keep, change or revoke; NULL until somebody decides.';
COMMENT ON COLUMN tenancy.review_item.change IS 'What is changed, of a decision to change; see tenancy.decide.';
COMMENT ON COLUMN tenancy.review_item.comment IS 'Why it was decided so.';
COMMENT ON COLUMN tenancy.review_item.evidence IS 'Ids of events of the organization, in tenancy.event.';
COMMENT ON COLUMN tenancy.review_item.decided_at IS 'When it was decided.';
COMMENT ON COLUMN tenancy.review_item.decided_issuer IS 'Issuer of whoever decided.';
COMMENT ON COLUMN tenancy.review_item.decided_subject IS 'Subject of whoever decided.';
COMMENT ON COLUMN tenancy.review_item.outcome IS
'kept; applied: changed or revoked; failed: a rule forbids it; stale: it is not as it was seen, so nothing was done;
gone: it is not there any more; lapsed: nobody decided, so it has ended; undecided: nobody decided, and it is as before.
NULL until the close.';
COMMENT ON COLUMN tenancy.review_item.detail IS 'What there is to say about the outcome.';

CREATE TABLE tenancy.review_schedule (
    id uuid PRIMARY KEY,
    organization uuid NOT NULL REFERENCES tenancy.organization,
    kind text COLLATE "C" NOT NULL,
    every interval NOT NULL CHECK (every >= '1 day'),
    due_after interval NOT NULL CHECK (due_after > '0'),
    filter jsonb NOT NULL,
    reviewer_issuers text[] NOT NULL,
    reviewer_subjects text[] NOT NULL,
    next_at timestamptz NOT NULL,
    scheduled_at timestamptz NOT NULL,
    scheduled_issuer text NOT NULL,
    scheduled_subject text NOT NULL,
    UNIQUE (organization, kind, filter)
);
CREATE INDEX review_schedule_next_idx ON tenancy.review_schedule (next_at);
COMMENT ON TABLE tenancy.review_schedule IS
'When reviews open by themselves, through tenancy.settle_due. Written by tenancy.schedule_review and
tenancy.end_review_schedule. Read as tenancy.review is.';
COMMENT ON COLUMN tenancy.review_schedule.id IS 'Time-ordered id (UUID version 7).';
COMMENT ON COLUMN tenancy.review_schedule.organization IS 'The organization that is reviewed.';
COMMENT ON COLUMN tenancy.review_schedule.kind IS 'Kind of the reviews, as in tenancy.review.';
COMMENT ON COLUMN tenancy.review_schedule.every IS 'Time from one opening to the next, in which a month has 30 days.';
COMMENT ON COLUMN tenancy.review_schedule.due_after IS 'Time from the opening of a review until it is due.';
COMMENT ON COLUMN tenancy.review_schedule.filter IS 'As in tenancy.review.';
COMMENT ON COLUMN tenancy.review_schedule.reviewer_issuers IS 'As in tenancy.review. Who has left is left out.';
COMMENT ON COLUMN tenancy.review_schedule.reviewer_subjects IS 'As in tenancy.review.';
COMMENT ON COLUMN tenancy.review_schedule.next_at IS 'When the next review is to open.';
COMMENT ON COLUMN tenancy.review_schedule.scheduled_at IS 'When it was scheduled, or last changed.';
COMMENT ON COLUMN tenancy.review_schedule.scheduled_issuer IS 'Issuer of the member who did so.';
COMMENT ON COLUMN tenancy.review_schedule.scheduled_subject IS 'Subject of that member.';

SELECT pg_extension_config_dump('tenancy.review', '');
SELECT pg_extension_config_dump('tenancy.review_item', '');
SELECT pg_extension_config_dump('tenancy.review_schedule', '');

DO $$
DECLARE
    kept text;
BEGIN
    FOREACH kept IN ARRAY ARRAY['review', 'review_item', 'review_schedule'] LOOP
        EXECUTE format(
            'CREATE TRIGGER keep_controls BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON tenancy.%I
                 FOR EACH STATEMENT EXECUTE FUNCTION tenancy.keep_controls()', kept);
        EXECUTE format('ALTER TABLE tenancy.%I ENABLE ALWAYS TRIGGER keep_controls', kept);
        EXECUTE format('COMMENT ON TRIGGER keep_controls ON tenancy.%I IS
            ''Refuses changes that do not come from the extension.''', kept);
        EXECUTE format('ALTER TABLE tenancy.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', kept);
        EXECUTE format('CREATE POLICY every_organization ON tenancy.%I FOR SELECT
            TO tenancy_auditor USING (true)', kept);
        EXECUTE format('COMMENT ON POLICY every_organization ON tenancy.%I IS
            ''Auditors read the rows of every organization.''', kept);
        EXECUTE format('CREATE POLICY own_organization ON tenancy.%I FOR SELECT
            TO tenancy_application, tenancy_admin, tenancy_operator
            USING (organization = tenancy.org_id() AND tenancy.allowed(''review'', ''read''))', kept);
        EXECUTE format('COMMENT ON POLICY own_organization ON tenancy.%I IS
            ''Members read the rows of the context''''s organization, with the permission review:read.''', kept);
    END LOOP;
END
$$;

CREATE FUNCTION tenancy.utc_text(at timestamptz) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT CASE WHEN pg_catalog.isfinite(at)
                THEN pg_catalog.to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') END;
END;
COMMENT ON FUNCTION tenancy.utc_text(timestamptz) IS
'Internal: a time as text, whatever the time zone and the date style of the session are; NULL for an infinite one.';

-- Each branch is of one kind, so that the planner leaves out the others. A state says nothing that goes by by itself.
CREATE VIEW tenancy.reviewable WITH (security_barrier) AS
SELECT m.organization, 'memberships' AS kind, NULL::uuid AS id, m.issuer COLLATE "C" AS issuer,
       m.subject COLLATE "C" AS name, a.person AS what, jsonb_build_array(a.person) AS about,
       a.person || jsonb_build_object(
           'role', m.role,
           'own_role', m.role_organization <> '00000000-0000-0000-0000-000000000000',
           'status', m.status,
           'valid_until', tenancy.utc_text(m.valid_until),
           'created_at', tenancy.utc_text(m.created_at),
           'privileged', EXISTS (SELECT FROM tenancy.role_permission p
                                  WHERE p.organization = m.role_organization AND p.role = m.role
                                    AND p.domain = '*' AND p.action = '*' AND p.effect = 'allow')
                         AND NOT EXISTS (SELECT FROM tenancy.role_permission p
                                          WHERE p.organization = m.role_organization AND p.role = m.role
                                            AND p.effect = 'deny')) AS snapshot
  FROM tenancy.membership m
 CROSS JOIN LATERAL (SELECT jsonb_build_object('issuer', m.issuer, 'subject', m.subject) AS person) a
 WHERE m.valid_until IS NULL OR m.valid_until > tenancy.clock()
UNION ALL
SELECT r.organization, 'roles', NULL, NULL, r.name, jsonb_build_object('role', r.name), '[]',
       jsonb_build_object(
           'name', r.name,
           'description', r.description,
           'created_at', tenancy.utc_text(r.created_at),
           'permissions', (SELECT coalesce(jsonb_agg(t.rule ORDER BY t.rule COLLATE "C"), '[]')
                             FROM tenancy.role_permission p
                            CROSS JOIN LATERAL (
                                  SELECT CASE p.effect WHEN 'deny' THEN '!' ELSE '' END || p.domain || ':' || p.action
                                ) t (rule)
                            WHERE p.organization = r.organization AND p.role = r.name))
  FROM tenancy.role r
 WHERE r.organization <> '00000000-0000-0000-0000-000000000000'
UNION ALL
SELECT e.organization, 'exceptions', e.id, NULL, NULL, jsonb_build_object('exception', e.id),
       jsonb_build_array(jsonb_build_object('issuer', e.requested_issuer, 'subject', e.requested_subject),
                         jsonb_build_object('issuer', e.owner_issuer, 'subject', e.owner_subject)),
       jsonb_build_object(
           'kind', e.kind, 'target', e.target, 'reason', e.reason, 'ticket', e.ticket,
           'requested_at', tenancy.utc_text(e.requested_at),
           'requested_issuer', e.requested_issuer, 'requested_subject', e.requested_subject,
           'owner_issuer', e.owner_issuer, 'owner_subject', e.owner_subject,
           'active_from', tenancy.utc_text(e.active_from),
           'expires_at', tenancy.utc_text(e.expires_at),
           'approvals', e.approvals)
  FROM tenancy.exception e
 WHERE e.state = 'active'
   AND EXISTS (SELECT FROM tenancy.exception_end n WHERE n.exception = e.id AND n.ends_at > tenancy.clock())
UNION ALL
SELECT s.organization, 'secrets', s.id, NULL, NULL, jsonb_build_object('secret', s.id),
       CASE WHEN s.owner_issuer IS NULL THEN '[]'
            ELSE jsonb_build_array(jsonb_build_object('issuer', s.owner_issuer, 'subject', s.owner_subject)) END,
       jsonb_build_object(
           'name', s.name, 'kind', s.kind, 'scope', s.scope, 'domain', s.domain, 'description', s.description,
           'owner_issuer', s.owner_issuer, 'owner_subject', s.owner_subject,
           'long_lived', k.long_lived,
           'rotate_every_seconds', extract(epoch FROM coalesce(s.rotate_every, k.rotate_every))::bigint,
           'created_at', tenancy.utc_text(s.created_at))
  FROM tenancy.secret s JOIN tenancy.secret_kind k ON k.name = s.kind
 WHERE s.destroyed_at IS NULL AND (s.scope = 'write' OR k.long_lived)
UNION ALL
SELECT g.organization, 'break_glass', g.id, NULL, NULL, jsonb_build_object('grant', g.id),
       jsonb_build_array(jsonb_build_object('issuer', g.requested_issuer, 'subject', g.requested_subject),
                         jsonb_build_object('issuer', g.beneficiary_issuer, 'subject', g.beneficiary_subject)),
       jsonb_build_object(
           'state', CASE WHEN g.state = 'active' AND g.ends_at <= tenancy.clock() THEN 'ended' ELSE g.state END,
           'reason', g.reason, 'ticket', g.ticket,
           'permissions', to_jsonb(g.permissions), 'overrides', to_jsonb(g.overrides),
           'requested_issuer', g.requested_issuer, 'requested_subject', g.requested_subject,
           'beneficiary_issuer', g.beneficiary_issuer, 'beneficiary_subject', g.beneficiary_subject,
           'activated_at', tenancy.utc_text(g.activated_at), 'verdict', g.verdict)
  FROM tenancy.break_glass_grant g
 WHERE g.activated_at IS NOT NULL
UNION ALL
SELECT q.organization, 'action_types', q.id, NULL, NULL, jsonb_build_object('request', q.id),
       jsonb_build_array(jsonb_build_object('issuer', q.requested_issuer, 'subject', q.requested_subject)),
       jsonb_build_object(
           'action_type', q.action_type, 'reason', q.reason,
           'requested_issuer', q.requested_issuer, 'requested_subject', q.requested_subject,
           'decided_issuer', q.decided_issuer, 'decided_subject', q.decided_subject,
           'decided_at', tenancy.utc_text(q.decided_at),
           'ends_at', tenancy.utc_text(q.ends_at))
  FROM tenancy.action_type_request q
 WHERE q.state = 'approved' AND q.ends_at > tenancy.clock();
COMMENT ON VIEW tenancy.reviewable IS
'Internal: what there is to review now, with its state. id, issuer and name find one.';

CREATE FUNCTION tenancy.open_review(
    kind text, title text, due_at timestamptz, reviewers text[] DEFAULT NULL, filter jsonb DEFAULT '{}') RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_open_review_wrapper';
COMMENT ON FUNCTION tenancy.open_review(text, text, timestamptz, text[], jsonb) IS
'Opens a review of the context''s organization, and returns its id. One consistent snapshot is taken of all that there
is of the kind: each item is decided about as it was then. The event of the opening has the number of items and a digest
over all of them. Needs the permission review:open.

- kind: exceptions, memberships, roles, secrets, break_glass or action_types; see tenancy.review.
- title: Title for readers, 1 to 1000 bytes.
- due_at: When it is due, within 366 days.
- reviewers: Subjects of active members who decide, each about an equal share; where several issuers are registered,
  issuer and subject with a blank between. By default everybody with the permission review:decide may decide about
  each item. An item that is about a reviewer goes to another one.
- filter: Members that the snapshot of an item must have, such as {"privileged": true} or {"role": "admin"}.

Raises 42501 without the permission or (assumed_refused) for an operator without a token, 28000 without a context, 22023
and 22004 for an argument that is not allowed, also where there is nothing to review or more than 1,000,000 items.
Raises 40001 in a transaction that began before the last change of what is reviewed, 25006 in a read-only transaction or
on a standby.';

CREATE FUNCTION tenancy.assign_review(review uuid, items integer[], subject text, issuer text DEFAULT NULL)
    RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_assign_review_wrapper';
COMMENT ON FUNCTION tenancy.assign_review(uuid, integer[], text, text) IS
'Has somebody else decide about items of an open review. Nobody else can then. Needs the permission review:open.

- review: Id of the review.
- items: Numbers of its items, at most 10000.
- subject: Subject of an active member whom none of the items is about.
- issuer: Issuer of that member; NULL: that of the caller.

Raises 42501 without the permission, (self_approval) for an item that is about the member, or (assumed_refused) for an
operator without a token, 28000 without a context, 42704 for a review or an item that the organization does not have,
55000 (review_state) for a review that is not open or an item that is applied. Raises 22023 and 22004 for an argument
that is not allowed, 25006 in a read-only transaction or on a standby.';

CREATE FUNCTION tenancy.decide(
    review uuid, item integer, decision text, comment text, seen bytea DEFAULT NULL, change jsonb DEFAULT NULL,
    evidence uuid[] DEFAULT '{}', apply_now boolean DEFAULT false) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_decide_wrapper';
COMMENT ON FUNCTION tenancy.decide(uuid, integer, text, text, bytea, jsonb, uuid[], boolean) IS
'Decides about an item of an open review, as its snapshot has it. The decision is done at the close, and can be made
anew until then. Needs the permission review:decide.

- review: Id of the review.
- item: Number of the item.
- decision: keep; revoke: it ends; change: it goes on in another way, where the kind has that.
- comment: Why, 1 to 2000 bytes.
- seen: Digest of the state that the client has shown, snapshot_digest in tenancy.review_item; NULL: not compared.
- change: What is changed. Of memberships role, status and valid_until, as in tenancy.change_member; of roles
  permissions and description, as in tenancy.define_role; of exceptions expires_at, reason, owner_subject and
  owner_issuer, which asks for an amendment as tenancy.amend_exception does; of secrets owner_subject and owner_issuer.
  What it gives lies within what the reviewer holds.
- evidence: Ids of events of the organization.
- apply_now: With revoke: it is done at once and not at the close.

Revoking ends a membership, drops a role, revokes an exception, destroys a secret, ends a grant of break-glass that is
in force, or withdraws an approval. Raises 40001 (review_stale) for an item that is not as the snapshot has it:
tenancy.refresh_item takes its new state. Raises 42501 without the permission, (self_approval) for whom the item is
about, for an item of another reviewer, (more_than_held) for a change that gives more than the reviewer holds, or
(assumed_refused) for an operator without a token, 28000 without a context, 42704 for a review or an item that the
organization does not have, 55000 (review_state) for a review that is not open or an item that is applied. Raises 22023
and 22004 for an argument that is not allowed, 25006 in a read-only transaction or on a standby.';

CREATE FUNCTION tenancy.decide_many(review uuid, items integer[], decision text, comment text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_decide_many_wrapper';
COMMENT ON FUNCTION tenancy.decide_many(uuid, integer[], text, text) IS
'Decides about many items at once, keep or revoke, as tenancy.decide does about one: all of them or, after an error,
none. One event names them all.

- review: Id of the review.
- items: Numbers of its items, at most 10000.
- decision: keep or revoke.
- comment: Why, 1 to 2000 bytes.

Raises what tenancy.decide raises, naming the item.';

CREATE FUNCTION tenancy.refresh_item(review uuid, item integer) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_refresh_item_wrapper';
COMMENT ON FUNCTION tenancy.refresh_item(uuid, integer) IS
'Takes the state of an item as it is now for the one that is decided about. What was decided about the old one is
decided anew; an event has both digests. Nothing changes where the state is the same. Needs the permission
review:decide.

- review: Id of the review.
- item: Number of the item.

Raises what tenancy.decide raises, and 55000 (review_state) for an item of something that is not there any more.';

CREATE FUNCTION tenancy.close_review(review uuid) RETURNS TABLE (item integer, outcome text, detail text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 1000 AS 'MODULE_PATHNAME', 'tenancy_close_review_wrapper';
COMMENT ON FUNCTION tenancy.close_review(uuid) IS
'Closes a review: once all is decided, or when it is due. What was decided is done in this transaction. What a rule
forbids, such as to remove the last admin, fails and stays a finding, as does what is not as the reviewer saw it. Of
what nobody decided, an exception ends if its kind says so (or the guardrail unreviewed_exception), and everything else
stays and is a finding. Needs the permission review:open.

- item: Number of the item.
- outcome: As in tenancy.review_item.
- detail: What there is to say about the outcome.

Raises 42501 without the permission or (assumed_refused) for an operator without a token, 28000 without a context, 42704
for a review that the organization does not have, 55000 (review_state) for one that is not open, or that is neither
decided nor due. Raises 22004 for an argument that is NULL, 40001 after a change by another session, 25006 in a
read-only transaction or on a standby.';

CREATE FUNCTION tenancy.cancel_review(review uuid, reason text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_cancel_review_wrapper';
COMMENT ON FUNCTION tenancy.cancel_review(uuid, text) IS
'Gives an open review up. What was decided is not done; what was applied at once stays so. Needs the permission
review:open.

- review: Id of the review.
- reason: Why, 1 to 2000 bytes.

Raises 42501 without the permission or (assumed_refused) for an operator without a token, 28000 without a context, 42704
for a review that the organization does not have, 55000 (review_state) for one that is not open, 22023 and 22004 for an
argument that is not allowed, 25006 in a read-only transaction or on a standby.';

CREATE FUNCTION tenancy.review_report(review uuid) RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_review_report_wrapper';
COMMENT ON FUNCTION tenancy.review_report(uuid) IS
'Returns the report of a review. Needs the permission review:read.

- review: Id of the review.

The members are "report" and "digest", a SHA-256 in hexadecimal digits. Of a closed review it is the digest in the event
of the close, so the report can be proved later: see docs/reviews.md. Raises 42501 without the permission, 28000 without
a context, 42704 for a review that the organization does not have, 54000 for a report that a jsonb cannot hold,
whose items can be read in tenancy.review_item, and 22004 for an argument that is NULL.';

CREATE FUNCTION tenancy.schedule_review(
    kind text, every interval, due_after interval, reviewers text[] DEFAULT NULL, filter jsonb DEFAULT '{}')
    RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_schedule_review_wrapper';
COMMENT ON FUNCTION tenancy.schedule_review(text, interval, interval, text[], jsonb) IS
'Has reviews open by themselves, the first one with the next tenancy.settle_due. Returns the id of the schedule. The
same kind and filter again change the schedule that there is. Needs the permission review:open.

- kind: As in tenancy.open_review.
- every: From one opening to the next, 1 day to 366 days. A month has 30 days.
- due_after: From the opening of a review until it is due, at most as long as every.
- reviewers: As in tenancy.open_review. Who is no active member any more is left out.
- filter: As in tenancy.open_review.

Raises 42501 without the permission or (assumed_refused) for an operator without a token, 28000 without a context, 22023
and 22004 for an argument that is not allowed, 25006 in a read-only transaction or on a standby.';

CREATE FUNCTION tenancy.end_review_schedule(schedule uuid, reason text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_end_review_schedule_wrapper';
COMMENT ON FUNCTION tenancy.end_review_schedule(uuid, text) IS
'Ends a schedule. The reviews that it has opened stay as they are. Needs the permission review:open.

- schedule: Id of the schedule.
- reason: Why, 1 to 2000 bytes.

Raises 42501 without the permission or (assumed_refused) for an operator without a token, 28000 without a context, 42704
for a schedule that the organization does not have, 22023 and 22004 for an argument that is not allowed, 25006 in a
read-only transaction or on a standby.';
