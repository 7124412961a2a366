-- What time has changed, noted by a call. Code: src/controls/settling.rs.

CREATE TABLE tenancy.notice (
    kind text COLLATE "C" NOT NULL,
    subject uuid NOT NULL,
    due_at timestamptz NOT NULL,
    noticed_at timestamptz NOT NULL,
    PRIMARY KEY (kind, subject, due_at)
);
COMMENT ON TABLE tenancy.notice IS
'What tenancy.settle_due has raised an alert of, so that it raises each once. No role may read the table.';
COMMENT ON COLUMN tenancy.notice.kind IS 'Kind of the alert.';
COMMENT ON COLUMN tenancy.notice.subject IS 'Id of the secret, the rotation, the request or the review that it is about.';
COMMENT ON COLUMN tenancy.notice.due_at IS
'When it was due. What is due at another time, such as a deadline that has moved, is another alert.';
COMMENT ON COLUMN tenancy.notice.noticed_at IS 'When the alert was raised.';

SELECT pg_extension_config_dump('tenancy.notice', '');

CREATE TRIGGER keep_controls BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON tenancy.notice
    FOR EACH STATEMENT EXECUTE FUNCTION tenancy.keep_controls();
ALTER TABLE tenancy.notice ENABLE ALWAYS TRIGGER keep_controls;
COMMENT ON TRIGGER keep_controls ON tenancy.notice IS 'Refuses changes that do not come from the extension.';
ALTER TABLE tenancy.notice ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE FUNCTION tenancy.settle_due() RETURNS TABLE (what text, count bigint)
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_settle_due_wrapper';
COMMENT ON FUNCTION tenancy.settle_due() IS
'Notes what time has changed, in every organization: it records that approvals, exceptions and requests have expired,
and alerts of what is due. The background worker calls it each tenancy.settle_interval; without the worker, have a
scheduler call it. Nothing depends on it: what has ended counts as ended before.

- what: action_expired, exception_expired, break_glass_over, review_due (opened by its schedule) and review_over (closed
  by the guardrail overdue_review), which are events, or the kind of an alert: approval_ending, exception_ending,
  review_overdue, rotation_overdue, rotation_stuck, secret_expiring, sign_off_overdue.
- count: How many were noted by this call, at most 1000 of each. Call it again after 1000.

Two calls at the same moment note nothing twice. Raises 25006 in a read-only transaction or on a standby.';
