-- What is to be said of each secret: how old its value is, who proved it, who uses it, and what somebody should mend.
-- Code: src/secrets/posture.rs; the findings themselves are here.

CREATE FUNCTION tenancy.clock() RETURNS timestamptz
    LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tenancy_clock_wrapper';
COMMENT ON FUNCTION tenancy.clock() IS
'Returns the time by which secrets and approvals are judged, which is that of the server.';

CREATE FUNCTION tenancy.unusable_keys() RETURNS text[]
    LANGUAGE c STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_unusable_keys_wrapper';
COMMENT ON FUNCTION tenancy.unusable_keys() IS
'Returns the ids of the key-encryption keys of the provider ring that are not retired and do not open what was wrapped
under them. Keys of the provider command are not tried, which takes a call of tenancy.key_status.';

CREATE FUNCTION tenancy.rotation_due_at(valued_at timestamptz, rotate_every interval) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT valued_at OPERATOR(pg_catalog.+) pg_catalog.make_interval(
        secs => pg_catalog.date_part('epoch', rotate_every));
END;
COMMENT ON FUNCTION tenancy.rotation_due_at(timestamptz, interval) IS
'Returns when the rotation of a value is due. The interval counts as a number of seconds, in which a month has 30 days,
so that no time zone changes the answer.';

CREATE VIEW tenancy.secret_finding WITH (security_invoker = true) AS
SELECT * FROM (VALUES
    ('failing', 'error', 'health', 'The last health report of the current version is negative.',
     'tenancy.roll_back, or tenancy.begin_rotation with a value that works'),
    ('unverified', 'warning', 'health', 'No health report proves the current version.',
     'try the value, and tell the result with tenancy.report_health'),
    ('stale_health', 'info', 'health', 'The last health report of the current version is older than health_max_age.',
     'try the value, and tell the result with tenancy.report_health'),
    ('overdue', 'error', 'rotation', 'The current value is older than rotate_every.', 'tenancy.begin_rotation'),
    ('due', 'warning', 'rotation', 'The current value has used up nine tenths of rotate_every.',
     'tenancy.begin_rotation'),
    ('rotation_stuck', 'error', 'rotation', 'A rotation is past its deadline.',
     'go on with it, or tenancy.abandon_rotation'),
    ('announced', 'info', 'rotation', 'A rotation waits for its value.', 'tenancy.supply_value'),
    ('previous_lingering', 'warning', 'rotation',
     'The version before the current one was observed long enough and is not retired.', 'tenancy.retire'),
    ('expired', 'error', 'expiry', 'The current credential has ended at the provider.', 'tenancy.begin_rotation'),
    ('expiring', 'warning', 'expiry', 'The current credential ends at the provider within 14 days.',
     'tenancy.begin_rotation'),
    ('orphaned', 'warning', 'ownership', 'The owner is no active member of the organization.',
     'tenancy.set_secret_policy with another owner_subject'),
    ('unused_write', 'warning', 'use', 'Nobody has revealed a credential of the scope write for 45 days.',
     'tenancy.destroy_secret, once it is deleted at the provider'),
    ('unused', 'info', 'use', 'Nobody has revealed the secret for 45 days.',
     'tenancy.destroy_secret, once it is deleted at the provider'),
    ('reused', 'warning', 'reuse', 'Another secret of the organization has the same value.',
     'a credential of its own for each use'),
    ('key_missing', 'error', 'keys', 'The key-encryption key of the value is missing, or another one has its id.',
     'put the key back, see tenancy.key_status'),
    ('old_data_key', 'warning', 'keys',
     'The value is sealed under a data key of more than 2 years (NIST SP 800-57 part 1, 5.3.6), or one that is not the current.',
     'tenancy.rotate_data_key, then CALL tenancy.reseal_secrets'),
    ('old_key', 'warning', 'keys', 'The data key is wrapped under a key-encryption key that is not the current.',
     'CALL tenancy.rewrap_data_keys'),
    ('long_lived', 'info', 'long_lived', 'The value is valid until somebody changes it.',
     'a role or a federated identity at the provider, where it has them')
) AS finding (name, severity, control, meaning, mend);
COMMENT ON VIEW tenancy.secret_finding IS
'What tenancy.secret_posture can find. The columns are name, severity (error, warning or info), control (the part after
secrets. in tenancy.posture), meaning, and mend: what ends the finding.';

CREATE FUNCTION tenancy.posture_scope() RETURNS TABLE (organization uuid, every_domain boolean)
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 1 SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF pg_has_role('tenancy_auditor', 'USAGE') THEN
        RETURN QUERY SELECT o.id, true FROM tenancy.organization o;
    ELSE
        RETURN QUERY SELECT tenancy.org_id(), false;
    END IF;
END
$$;
COMMENT ON FUNCTION tenancy.posture_scope() IS
'Internal: the organizations whose posture the caller may see, and whether in every domain. An auditor sees all, a
member that of the context, in the domains in which the role may read. Raises 28000 without a context.';

-- Row-level security would be asked for each row of each table; here it is asked once for each secret. That join comes
-- first: behind more than join_collapse_limit tables, the planner would read every organization's secrets before it.
CREATE VIEW tenancy.secret_posture WITH (security_barrier) AS
SELECT s.organization, s.id AS secret, s.name, s.kind, s.scope, s.domain, s.owner_issuer, s.owner_subject,
       coalesce(r.state, 'settled') AS state, c.number AS version, c.valued_at, t.now - c.valued_at AS age,
       a.rotation_due_at,
       c.expires_at, v.live_versions, h.healthy AS last_health, t.now - h.checked_at AS health_age,
       u.last_used_at, CASE s.scope WHEN 'write' THEN u.last_used_at END AS last_write_used_at,
       d.key_encryption_key, t.now - d.created_at AS data_key_age,
       CASE WHEN f.findings && '{failing,overdue,rotation_stuck,expired,key_missing}' THEN 'error'
            WHEN f.findings && '{unverified,due,previous_lingering,expiring,orphaned,unused_write,reused,old_data_key,old_key}'
            THEN 'warning'
            WHEN f.findings <> '{}' THEN 'info'
            ELSE 'ok' END AS severity,
       f.findings
  FROM (SELECT tenancy.clock() AS now, (SELECT tenancy.unusable_keys()) AS unusable_keys OFFSET 0) AS t
 CROSS JOIN tenancy.posture_scope() o
  JOIN tenancy.secret s ON s.organization = o.organization AND s.destroyed_at IS NULL
        AND (o.every_domain OR tenancy.allowed(s.domain, 'read'))
  JOIN tenancy.secret_kind k ON k.name = s.kind
  LEFT JOIN tenancy.secret_version c ON c.secret = s.id AND c.state = 'current'
  LEFT JOIN tenancy.data_key d ON d.id = c.data_key
  LEFT JOIN tenancy.key_encryption_key e ON e.id = d.key_encryption_key
  LEFT JOIN tenancy.rotation r ON r.secret = s.id AND r.state IN ('open', 'observing')
  LEFT JOIN tenancy.membership m ON m.organization = s.organization AND m.issuer = s.owner_issuer
        AND m.subject = s.owner_subject AND m.status = 'active'
 CROSS JOIN LATERAL (
       SELECT count(*)::integer AS live_versions, bool_or(w.state = 'announced') AS announced,
              max(w.superseded_at) FILTER (WHERE w.state = 'previous') AS superseded_at
         FROM tenancy.secret_version w WHERE w.secret = s.id AND w.state <> 'retired') v
  LEFT JOIN LATERAL (
       SELECT i.healthy, i.checked_at FROM tenancy.health_report i
        WHERE i.secret = s.id AND i.version = c.number ORDER BY i.checked_at DESC, i.healthy LIMIT 1) h ON true
 CROSS JOIN LATERAL (SELECT max(l.last_used_at) AS last_used_at FROM tenancy.secret_use l WHERE l.secret = s.id) u
 CROSS JOIN LATERAL (
       SELECT tenancy.rotation_due_at(c.valued_at, coalesce(s.rotate_every, k.rotate_every)) AS rotation_due_at,
              t.now - greatest(u.last_used_at, s.created_at) >= interval '45 days' AS unused) a
 CROSS JOIN LATERAL (
       SELECT array_remove(ARRAY[
           CASE WHEN NOT h.healthy THEN 'failing' END,
           CASE WHEN c.verified_at IS NULL AND h.healthy IS DISTINCT FROM true
                 AND NOT EXISTS (SELECT FROM tenancy.health_report i
                                  WHERE i.secret = s.id AND i.version = c.number AND i.healthy) THEN 'unverified' END,
           CASE WHEN h.healthy AND t.now - h.checked_at > coalesce(s.health_max_age, k.health_max_age)
                THEN 'stale_health' END,
           CASE WHEN t.now >= a.rotation_due_at THEN 'overdue'
                WHEN t.now - a.rotation_due_at >= -coalesce(s.rotate_every, k.rotate_every) / 10 THEN 'due' END,
           CASE WHEN r.deadline <= t.now THEN 'rotation_stuck' END,
           CASE WHEN v.announced THEN 'announced' END,
           CASE WHEN t.now - v.superseded_at >= coalesce(s.observe_for, k.observe_for) THEN 'previous_lingering' END,
           CASE WHEN c.expires_at <= t.now THEN 'expired'
                WHEN c.expires_at <= t.now + interval '14 days' THEN 'expiring' END,
           CASE WHEN m.organization IS NULL OR m.valid_until <= t.now THEN 'orphaned' END,
           CASE WHEN a.unused THEN CASE s.scope WHEN 'write' THEN 'unused_write' ELSE 'unused' END END,
           CASE WHEN EXISTS (SELECT FROM tenancy.secret_version x
                              WHERE x.organization = s.organization AND x.fingerprint = c.fingerprint
                                AND x.secret <> s.id AND x.state <> 'retired') THEN 'reused' END,
           CASE WHEN d.key_encryption_key = ANY (t.unusable_keys) THEN 'key_missing' END,
           CASE WHEN d.state <> 'current' OR t.now - d.created_at >= interval '730 days' THEN 'old_data_key' END,
           CASE WHEN NOT e.is_current THEN 'old_key' END,
           CASE WHEN k.long_lived THEN 'long_lived' END], NULL) AS findings
       -- Not merged into the severity, which would find everything anew.
       OFFSET 0) f;
COMMENT ON VIEW tenancy.secret_posture IS
'A row for each secret that is not destroyed, with what somebody should mend. Members see those of the context''s
organization in whose domain they have the permission read, auditors those of every organization. Raises 28000 for a
member without a context.';
COMMENT ON COLUMN tenancy.secret_posture.organization IS 'The organization of the secret.';
COMMENT ON COLUMN tenancy.secret_posture.secret IS 'The secret, in tenancy.secret.';
COMMENT ON COLUMN tenancy.secret_posture.name IS 'Name of the secret.';
COMMENT ON COLUMN tenancy.secret_posture.kind IS 'Its kind, in tenancy.secret_kind.';
COMMENT ON COLUMN tenancy.secret_posture.scope IS 'read_only or write.';
COMMENT ON COLUMN tenancy.secret_posture.domain IS 'Domain of its permissions.';
COMMENT ON COLUMN tenancy.secret_posture.owner_issuer IS 'Issuer of the owner.';
COMMENT ON COLUMN tenancy.secret_posture.owner_subject IS 'Subject of the owner.';
COMMENT ON COLUMN tenancy.secret_posture.state IS
'open or observing, as the rotation that is under way; settled without one.';
COMMENT ON COLUMN tenancy.secret_posture.version IS 'Number of the current version.';
COMMENT ON COLUMN tenancy.secret_posture.valued_at IS 'When the current value came.';
COMMENT ON COLUMN tenancy.secret_posture.age IS 'How old the current value is.';
COMMENT ON COLUMN tenancy.secret_posture.rotation_due_at IS 'valued_at and rotate_every: from then on it is overdue.';
COMMENT ON COLUMN tenancy.secret_posture.expires_at IS 'When the current credential ends at the provider.';
COMMENT ON COLUMN tenancy.secret_posture.live_versions IS 'How many versions are not retired.';
COMMENT ON COLUMN tenancy.secret_posture.last_health IS
'Whether the last health report of the current version is positive; NULL without one.';
COMMENT ON COLUMN tenancy.secret_posture.health_age IS 'How old that report is.';
COMMENT ON COLUMN tenancy.secret_posture.last_used_at IS
'When a version of it was last revealed, as far as a sealer has taken in the records of reveals.';
COMMENT ON COLUMN tenancy.secret_posture.last_write_used_at IS 'The same for the scope write; NULL for read_only.';
COMMENT ON COLUMN tenancy.secret_posture.key_encryption_key IS 'Id of the key that its data key is wrapped under.';
COMMENT ON COLUMN tenancy.secret_posture.data_key_age IS 'How old its data key is.';
COMMENT ON COLUMN tenancy.secret_posture.severity IS
'The highest severity of its findings: error, warning or info; ok without any.';
COMMENT ON COLUMN tenancy.secret_posture.findings IS 'Names of rows of tenancy.secret_finding.';
