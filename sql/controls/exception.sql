-- Exceptions: what is let pass for a time, for a reason, after others have approved it. Code: src/controls/. The
-- library reads the tables by the order of their columns.

CREATE TABLE tenancy.exception_kind (
    organization uuid NOT NULL,
    name text COLLATE "C" NOT NULL CHECK (name ~ '^[a-z][a-z0-9_.:-]{0,62}$'),
    built_in boolean NOT NULL,
    description text NOT NULL,
    min_reason integer NOT NULL CHECK (min_reason BETWEEN 1 AND 500),
    max_duration interval NOT NULL CHECK (max_duration > '0'),
    approvals integer NOT NULL CHECK (approvals BETWEEN 0 AND 2),
    broad boolean NOT NULL,
    notice interval NOT NULL CHECK (notice >= '0'),
    on_no_review text COLLATE "C" NOT NULL CHECK (on_no_review IN ('keep', 'escalate', 'lapse')),
    reason text NOT NULL,
    defined_at timestamptz NOT NULL,
    defined_by text NOT NULL,
    PRIMARY KEY (organization, name, built_in),
    CHECK (NOT built_in OR organization = '00000000-0000-0000-0000-000000000000')
);
COMMENT ON TABLE tenancy.exception_kind IS
'Kinds of exceptions and their rules, for all organizations or for one. Of the rules for all and those of the
organization, the stricter counts. Written by tenancy.define_exception_kind. Members read the kinds for all, and those
of their organization with the permission exception:read.';
COMMENT ON COLUMN tenancy.exception_kind.organization IS
'The organization that the rules are for; 00000000-0000-0000-0000-000000000000 for all.';
COMMENT ON COLUMN tenancy.exception_kind.name IS 'Name of the kind.';
COMMENT ON COLUMN tenancy.exception_kind.built_in IS
'Whether the row came with the extension. It has no effect beside another one for all organizations.';
COMMENT ON COLUMN tenancy.exception_kind.description IS 'What the exceptions are from, for whoever decides.';
COMMENT ON COLUMN tenancy.exception_kind.min_reason IS 'How many characters a reason has at least.';
COMMENT ON COLUMN tenancy.exception_kind.max_duration IS 'How far away the end of an exception may be.';
COMMENT ON COLUMN tenancy.exception_kind.approvals IS
'How many must approve; for the target * one more. 0: an exception is active at once.';
COMMENT ON COLUMN tenancy.exception_kind.broad IS 'Whether the target * is allowed, which stands for every target.';
COMMENT ON COLUMN tenancy.exception_kind.notice IS 'How long before its end an exception is an alert.';
COMMENT ON COLUMN tenancy.exception_kind.on_no_review IS
'What becomes of an exception that a review leaves undecided: lapse, it ends; escalate, it is a finding; keep.';
COMMENT ON COLUMN tenancy.exception_kind.reason IS 'Why the rules were set.';
COMMENT ON COLUMN tenancy.exception_kind.defined_at IS 'When the rules were set.';
COMMENT ON COLUMN tenancy.exception_kind.defined_by IS
'Who set them: the subject of the context, or the database role that logged in.';

INSERT INTO tenancy.exception_kind
SELECT '00000000-0000-0000-0000-000000000000', k.name, true, k.description, 20, '2160 hours', 1, false, '336 hours',
       'lapse', 'comes with the extension', now(), 'pg_tenancy'
  FROM (VALUES ('finding', 'A finding of a scanner that is not mended yet, by the id of the finding.'),
               ('action_override', 'An action that is not in force for a resource, by the id of the resource.'))
       k (name, description);

CREATE TABLE tenancy.exception (
    id uuid PRIMARY KEY,
    organization uuid NOT NULL REFERENCES tenancy.organization,
    kind text COLLATE "C" NOT NULL,
    target text COLLATE "C" NOT NULL CHECK (octet_length(target) BETWEEN 1 AND 500),
    state text COLLATE "C" NOT NULL CHECK (state IN
        ('requested', 'active', 'denied', 'cancelled', 'superseded', 'revoked', 'expired', 'lapsed')),
    reason text NOT NULL,
    ticket text,
    evidence uuid[] NOT NULL,
    expires_at timestamptz NOT NULL,
    approvals integer NOT NULL CHECK (approvals BETWEEN 0 AND 3),
    -- No foreign key to the table itself, of which pg_dump would warn: functions alone write it.
    replaces uuid,
    requested_at timestamptz NOT NULL,
    requested_issuer text NOT NULL,
    requested_subject text NOT NULL,
    owner_issuer text NOT NULL,
    owner_subject text NOT NULL,
    active_from timestamptz,
    ended_at timestamptz,
    ended_issuer text,
    ended_subject text,
    end_reason text,
    CHECK (state <> 'active' OR active_from IS NOT NULL),
    CHECK ((state IN ('requested', 'active')) = (ended_at IS NULL))
);
-- Of one target, one is active and one is asked for.
CREATE UNIQUE INDEX exception_active_idx ON tenancy.exception (organization, kind, target) WHERE state = 'active';
CREATE UNIQUE INDEX exception_requested_idx ON tenancy.exception (organization, kind, target)
    WHERE state = 'requested';
COMMENT ON TABLE tenancy.exception IS
'Exceptions of organizations: requests, what is in force, and what was. One is in force while its state is active, until
expires_at or until its kind bounds it: tenancy.is_excepted says so. Written by tenancy.add_exception and its like.
Members read the exceptions of their organization with the permission exception:read, auditors read all.';
COMMENT ON COLUMN tenancy.exception.id IS 'Time-ordered id (UUID version 7).';
COMMENT ON COLUMN tenancy.exception.organization IS 'The organization that it is for.';
COMMENT ON COLUMN tenancy.exception.kind IS 'Its kind, in tenancy.exception_kind.';
COMMENT ON COLUMN tenancy.exception.target IS 'What is excepted, 1 to 500 bytes; * for every target of the kind.';
COMMENT ON COLUMN tenancy.exception.state IS
'requested, active, denied, cancelled, superseded, revoked, expired or lapsed. What has ended by its time counts no
more, also before this column says expired.';
COMMENT ON COLUMN tenancy.exception.reason IS 'Why it was asked for.';
COMMENT ON COLUMN tenancy.exception.ticket IS 'Where it is discussed.';
COMMENT ON COLUMN tenancy.exception.evidence IS 'Ids of events of the organization, in tenancy.event.';
COMMENT ON COLUMN tenancy.exception.expires_at IS 'When it ends.';
COMMENT ON COLUMN tenancy.exception.approvals IS 'How many must approve it.';
COMMENT ON COLUMN tenancy.exception.replaces IS 'The exception whose place it takes once it is active.';
COMMENT ON COLUMN tenancy.exception.requested_at IS 'When it was asked for.';
COMMENT ON COLUMN tenancy.exception.requested_issuer IS
'Issuer of the requester. With requested_subject it names a person.';
COMMENT ON COLUMN tenancy.exception.requested_subject IS 'Subject of the requester.';
COMMENT ON COLUMN tenancy.exception.owner_issuer IS 'Issuer of the owner. With owner_subject it names a member.';
COMMENT ON COLUMN tenancy.exception.owner_subject IS 'Subject of the owner, who answers for it.';
COMMENT ON COLUMN tenancy.exception.active_from IS 'When it came into force; NULL before.';
COMMENT ON COLUMN tenancy.exception.ended_at IS 'When it ended, or the request for it; NULL before.';
COMMENT ON COLUMN tenancy.exception.ended_issuer IS 'Issuer of whoever ended it; NULL for time.';
COMMENT ON COLUMN tenancy.exception.ended_subject IS 'Subject of whoever ended it.';
COMMENT ON COLUMN tenancy.exception.end_reason IS 'Why it was ended.';

CREATE TABLE tenancy.exception_approval (
    exception uuid NOT NULL REFERENCES tenancy.exception,
    issuer text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    organization uuid NOT NULL,
    reason text NOT NULL,
    approved_at timestamptz NOT NULL,
    PRIMARY KEY (exception, issuer, subject)
);
COMMENT ON TABLE tenancy.exception_approval IS
'Who approved an exception. Written by tenancy.decide_exception. Read as tenancy.exception is.';
COMMENT ON COLUMN tenancy.exception_approval.exception IS 'The exception, in tenancy.exception.';
COMMENT ON COLUMN tenancy.exception_approval.issuer IS 'Issuer of the approver. With subject it names a person.';
COMMENT ON COLUMN tenancy.exception_approval.subject IS 'Subject of the approver.';
COMMENT ON COLUMN tenancy.exception_approval.organization IS 'The organization of the exception.';
COMMENT ON COLUMN tenancy.exception_approval.reason IS 'Why it was approved.';
COMMENT ON COLUMN tenancy.exception_approval.approved_at IS 'When it was approved.';

SELECT pg_extension_config_dump('tenancy.exception_kind', 'WHERE NOT built_in');
SELECT pg_extension_config_dump('tenancy.exception', '');
SELECT pg_extension_config_dump('tenancy.exception_approval', '');

-- What tenancy.is_excepted reads is remembered by each session until it changes. Code:
-- src/controls/exception_memory.rs.
CREATE TYPE tenancy.exception_signal AS ();
REVOKE ALL ON TYPE tenancy.exception_signal FROM PUBLIC;
COMMENT ON TYPE tenancy.exception_signal IS
'Internal: sessions learn of a change of the exceptions by an invalidation message for this type. It has no other use.';

CREATE FUNCTION tenancy.announce_exception_change() RETURNS trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_announce_exception_change';
COMMENT ON FUNCTION tenancy.announce_exception_change() IS
'Internal: trigger of the tables of exceptions. At the commit every session discards what it has remembered of them.';

DO $$
DECLARE
    kept text;
BEGIN
    FOREACH kept IN ARRAY ARRAY['exception_kind', 'exception', 'exception_approval'] LOOP
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
            USING (organization = tenancy.org_id() AND tenancy.allowed(''exception'', ''read''))', kept);
        EXECUTE format('COMMENT ON POLICY own_organization ON tenancy.%I IS
            ''Members read the rows of the context''''s organization, with the permission exception:read.''', kept);
    END LOOP;
    -- FOR EACH ROW, because logical replication fires no statement triggers. TRUNCATE is a change of the table itself.
    FOREACH kept IN ARRAY ARRAY['exception_kind', 'exception'] LOOP
        EXECUTE format(
            'CREATE TRIGGER announce_exception_change AFTER INSERT OR UPDATE OR DELETE ON tenancy.%I
                 FOR EACH ROW EXECUTE FUNCTION tenancy.announce_exception_change()', kept);
        EXECUTE format('ALTER TABLE tenancy.%I ENABLE ALWAYS TRIGGER announce_exception_change', kept);
        EXECUTE format('COMMENT ON TRIGGER announce_exception_change ON tenancy.%I IS
            ''Makes every session discard what it has remembered of the table.''', kept);
    END LOOP;
END
$$;
-- Administrators define kinds without a context.
ALTER POLICY every_organization ON tenancy.exception_kind TO tenancy_admin, tenancy_auditor;
COMMENT ON POLICY every_organization ON tenancy.exception_kind IS
'Administrators and auditors read the kinds of every organization.';
ALTER POLICY own_organization ON tenancy.exception_kind TO tenancy_application, tenancy_operator
    USING (organization = tenancy.org_id() AND tenancy.allowed('exception', 'read')
           OR organization = '00000000-0000-0000-0000-000000000000' AND tenancy.org_id() IS NOT NULL);
COMMENT ON POLICY own_organization ON tenancy.exception_kind IS
'Members read the kinds for all, and those of the context''s organization with the permission exception:read.';

CREATE INDEX exception_replaces_idx ON tenancy.exception (replaces) WHERE state = 'requested';

CREATE VIEW tenancy.exception_end WITH (security_barrier) AS
SELECT e.id AS exception, e.organization, e.kind, e.target, e.state, e.owner_issuer, e.owner_subject, e.requested_at,
       CASE WHEN e.state = 'requested' THEN e.expires_at
            WHEN e.target = '*' AND NOT k.broad THEN e.active_from
            ELSE least(e.expires_at, e.active_from + k.max_duration) END AS ends_at,
       k.notice
  FROM tenancy.exception e
 CROSS JOIN LATERAL (
       SELECT bool_and(d.broad) AS broad, min(d.max_duration) AS max_duration, max(d.notice) AS notice
         FROM tenancy.exception_kind d
        WHERE d.organization IN (e.organization, '00000000-0000-0000-0000-000000000000') AND d.name = e.kind
          AND NOT (d.built_in AND EXISTS (
                   SELECT FROM tenancy.exception_kind r
                    WHERE r.organization = d.organization AND r.name = d.name AND NOT r.built_in))) k
 WHERE e.state IN ('requested', 'active');
COMMENT ON VIEW tenancy.exception_end IS
'Internal: when what is requested or active ends. An exception for every target has ended where its kind has none.';

CREATE FUNCTION tenancy.define_exception_kind(
    name text, description text, settings jsonb, reason text, organization uuid DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_define_exception_kind_wrapper';
COMMENT ON FUNCTION tenancy.define_exception_kind(text, text, jsonb, text, uuid) IS
'Sets the rules of a kind of exceptions, for all organizations or for one. They count at once, also for exceptions that
are active: an end that is further away than max_duration after the approval comes earlier. The change is an event.
Members of tenancy_admin set rules for all and for each organization; a member of an organization those of the
context''s organization, with the permission exception:define. An organization''s are never looser than those for all.

- name: 1 to 63 characters a-z, 0-9, _ . : -, the first a letter.
- description: What the exceptions are from, 1 to 1000 bytes.
- settings: An object; what is absent is as for all organizations, or has its default. min_reason: characters that a
  reason has at least, 1 to 500 (20). max_duration: how far away the end may be, at most 3660 days (90 days). approvals:
  how many must approve, 0 to 2 (1). broad: whether the target * is allowed, which needs one approval more (false).
  notice: how long before the end an alert is raised (14 days). on_no_review: lapse, keep or escalate (lapse). A month
  counts as 30 days.
- reason: Why, 1 to 1000 bytes.
- organization: The organization; NULL for all.

Raises 22023 for a setting that is unknown, out of its range or looser than for all organizations, and for another
argument that is not allowed, 22004 for a NULL. Raises 42501 without the permission, 28000 without a context, 42704 for
another organization or none, 25006 in a read-only transaction or on a standby.';

CREATE FUNCTION tenancy.add_exception(
    kind text, target text, reason text, expires_at timestamptz, owner_subject text DEFAULT NULL,
    owner_issuer text DEFAULT NULL, ticket text DEFAULT NULL, evidence uuid[] DEFAULT '{}') RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_add_exception_wrapper';
COMMENT ON FUNCTION tenancy.add_exception(text, text, text, timestamptz, text, text, text, uuid[]) IS
'Asks for an exception in the context''s organization. Returns its id. It is active once as many have approved it as its
kind asks for (tenancy.decide_exception), or at once where nobody must. The same call again returns the same id.

- kind: Name of a kind, in tenancy.exception_kind.
- target: What is excepted, 1 to 500 bytes; * for every target of the kind, if the kind is broad.
- reason: Why, at least min_reason characters of the kind and at most 2000 bytes. It says more than kind and target.
- expires_at: When it ends, at most max_duration of the kind away.
- owner_subject: Subject of an active member who answers for it; NULL: the caller.
- owner_issuer: Issuer of the owner; NULL: that of the caller.
- ticket: Where it is discussed, 1 to 1000 bytes.
- evidence: Ids of events of the organization, at most 1000.

Raises 42501 without the permission exception:request or (assumed_refused) for an operator without a token, 28000
without a context, 42704 for an unknown kind or event, 55000 (exception_state) if the target is excepted already or
somebody else asks for it, 22023 and 22004 for an argument that is not allowed, 40001 after a change by another session,
25006 in a read-only transaction or on a standby.';

CREATE FUNCTION tenancy.decide_exception(exception uuid, approve boolean, reason text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_decide_exception_wrapper';
COMMENT ON FUNCTION tenancy.decide_exception(uuid, boolean, text) IS
'Approves or denies an exception that is asked for. With the last approval that its kind asks for it is active, and the
exception that it replaces is superseded. One denial denies it. Neither the requester nor the owner may approve: persons
are compared by issuer and subject (guardrail self_approved_exception). Whoever decides holds the permission in the role
by what is committed now, without what an elevation adds. The rules of the kind count as they are now.

- exception: Id of the exception, from tenancy.add_exception or tenancy.amend_exception.
- approve: true approves, false denies.
- reason: Why, 1 to 2000 bytes.

Raises 42501 without the permission exception:approve, (self_approval) for requester and owner, or (assumed_refused) for
an operator without a token, 28000 without a context, 42704 for an exception that the organization does not have, 55000
(exception_state) for one that is not asked for any more, whose end its kind does not allow now, whose owner is no
active member, or that the same person has approved. Raises 22023 and 22004 for an argument that is not allowed, 40001
after a change by another session, 25006 in a read-only transaction or on a standby.';

CREATE FUNCTION tenancy.amend_exception(
    exception uuid, expires_at timestamptz DEFAULT NULL, reason text DEFAULT NULL, owner_subject text DEFAULT NULL,
    owner_issuer text DEFAULT NULL) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_amend_exception_wrapper';
COMMENT ON FUNCTION tenancy.amend_exception(uuid, timestamptz, text, text, text) IS
'Asks for an exception in the place of an active one, with another end, reason or owner. Returns its id. The old one
stays in force until the new one is approved as any other (tenancy.decide_exception), and no longer than its own end.
The same call again returns the same id.

- exception: Id of an active exception.
- expires_at: When the new one ends; NULL: as the old one.
- reason: Why, as in tenancy.add_exception; NULL: as the old one.
- owner_subject: Subject of an active member; NULL: as the old one.
- owner_issuer: Issuer of the owner; NULL: that of the caller.

Raises 42501 without the permission exception:request or (assumed_refused) for an operator without a token, 28000
without a context, 42704 for an exception that the organization does not have, 55000 (exception_state) for one that is
not active, or whose target somebody asks an exception for. Raises 22023 and 22004 for an argument that is not allowed,
40001 after a change by another session, 25006 in a read-only transaction or on a standby.';

CREATE FUNCTION tenancy.revoke_exception(exception uuid, reason text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_revoke_exception_wrapper';
COMMENT ON FUNCTION tenancy.revoke_exception(uuid, text) IS
'Ends an exception: one that is active is revoked, with what is asked for in its place, and one that is asked for is
cancelled. It counts in the next statement of every session, also in transactions that have begun before. The permission
exception:approve ends each, requester and owner end theirs.

- exception: Id of the exception.
- reason: Why, 1 to 2000 bytes.

Raises 42501 without the permission, 28000 without a context, 42704 for an exception that the organization does not
have, 55000 (exception_state) for one that has ended, 22023 and 22004 for an argument that is not allowed, 40001 after a
change by another session, 25006 in a read-only transaction or on a standby.';

CREATE FUNCTION tenancy.is_excepted(kind text, target text) RETURNS boolean
    LANGUAGE c STABLE PARALLEL SAFE STRICT AS 'MODULE_PATHNAME', 'tenancy_is_excepted';
COMMENT ON FUNCTION tenancy.is_excepted(text, text) IS
'Returns whether an exception for the target, or for every target of the kind, is in force in the context''s
organization. It needs no permission, and is fast enough for policies and for each row of a list: a session remembers
the exceptions in force until one is changed. Each call compares with the clock. A change by another session counts from
the next statement on, in every isolation level.

- kind: Name of the kind. Of an unknown one there are no exceptions.
- target: The target, compared byte by byte.

Raises 28000 without a context.';

CREATE FUNCTION tenancy.excepted(kind text) RETURNS TABLE (target text, exception uuid, expires_at timestamptz)
    LANGUAGE c STABLE PARALLEL RESTRICTED STRICT ROWS 100 AS 'MODULE_PATHNAME', 'tenancy_excepted_wrapper';
COMMENT ON FUNCTION tenancy.excepted(text) IS
'Returns the exceptions of a kind that are in force in the context''s organization, to join with. Needs the permission
exception:read.

- target: The target; * for every target, which a join has to compare as such.
- exception: Id of the exception, in tenancy.exception.
- expires_at: When it ends, which its kind may bound further than its row says.

Raises 42501 without the permission, 28000 without a context.';

CREATE FUNCTION tenancy.exception_of(kind text, target text) RETURNS tenancy.exception
    LANGUAGE c STABLE PARALLEL RESTRICTED STRICT AS 'MODULE_PATHNAME', 'tenancy_exception_of';
COMMENT ON FUNCTION tenancy.exception_of(text, text) IS
'Returns the exception for which tenancy.is_excepted is true, to show why: that of the target, or else that for every
target. NULL if there is none. Needs the permission exception:read.

- kind: Name of the kind.
- target: The target.

Raises 42501 without the permission, 28000 without a context.';
