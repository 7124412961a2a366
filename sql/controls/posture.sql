-- The posture of the whole extension: each control with its state, what is wrong and how to mend it. Code: none, SQL
-- alone. The posture of single secrets: sql/secrets/posture.sql.

CREATE FUNCTION tenancy.database_posture()
    RETURNS TABLE (control text, state text, count bigint, oldest timestamptz, meaning text, mend text)
    LANGUAGE sql VOLATILE PARALLEL UNSAFE ROWS 30 SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
    AS $$
    SELECT 'guardrails.' || g.name,
           CASE WHEN g.state = 'enforce' THEN 'ok' WHEN g.state = 'off' THEN 'off'
                WHEN g.default_state = 'enforce' THEN 'warn' ELSE 'ok' END,
           NULL::bigint, NULL::timestamptz, g.meaning,
           format('SELECT tenancy.set_guardrail(%L, %L, reason => ...)', g.name, 'enforce')
      FROM tenancy.guardrail_states() g
    UNION ALL
    SELECT c.name, CASE WHEN c.errors > 0 THEN 'fail' WHEN c.warnings > 0 THEN 'warn' ELSE 'ok' END,
           c.errors + c.warnings, NULL, c.meaning, 'SELECT * FROM tenancy.advise(''warning'')'
      FROM (SELECT count(*) FILTER (WHERE d.severity = 'error') AS errors, count(*) AS findings,
                   count(*) FILTER (WHERE d.severity = 'error' AND t.is_table) AS table_errors,
                   count(*) FILTER (WHERE t.is_table) AS tables
              FROM tenancy.advise('warning') d
             CROSS JOIN LATERAL (
                   SELECT d.rule IN ('unprotected_table', 'parent_unprotected', 'partition_unprotected')
                 ) t (is_table)) a
     CROSS JOIN LATERAL (VALUES
           ('isolation.unprotected_tables', a.table_errors, a.tables - a.table_errors,
            'Tables with an organization column that are not protected.'),
           ('isolation.advisor', a.errors - a.table_errors, a.findings - a.tables - a.errors + a.table_errors,
            'Other findings of the advisor. warn: warnings; fail: errors.')) c (name, errors, warnings, meaning)
    UNION ALL
    SELECT 'audit.unsealed_events',
           CASE WHEN l.unsealed_seconds >= 3600 OR l.given_up THEN 'fail' WHEN l.unsealed_seconds >= 300 THEN 'warn'
                ELSE 'ok' END,
           l.unsealed_events, CASE WHEN l.unsealed_events > 0 THEN now() - l.unsealed_seconds * interval '1 second' END,
           'Events that are committed and not sealed: they could vanish without a trace. warn: for 5 minutes; fail: for
an hour, or writers were let through.',
           'preload the library, or call tenancy.seal() regularly'
      FROM tenancy.audit_lag l
    UNION ALL
    SELECT 'audit.checkpoint',
           CASE WHEN s.made_at IS NULL THEN 'off'
                WHEN s.uncheckpointed_events = 0 OR s.age < interval '1 hour' THEN 'ok'
                WHEN s.age < interval '1 day' THEN 'warn' ELSE 'fail' END,
           s.uncheckpointed_events, s.made_at,
           'Events that no signed checkpoint covers: nobody outside could prove that they are not rewritten. warn: after
an hour; fail: after a day; off: no checkpoint was ever made.',
           'set tenancy.signing_key_file and tenancy.checkpoint_interval, or call tenancy.checkpoint()'
      FROM tenancy.checkpoint_status s
    UNION ALL
    SELECT 'audit.verification',
           CASE WHEN v.verified_at IS NULL THEN 'off' WHEN v.verified_at > now() - interval '8 days' THEN 'ok'
                WHEN v.verified_at > now() - interval '31 days' THEN 'warn' ELSE 'fail' END,
           NULL, v.verified_at,
           'The last verification of the audit without findings. warn: older than 8 days; fail: than 31 days; off: there
was none.',
           'SELECT * FROM tenancy.verify_audit()'
      FROM (SELECT max(w.verified_at) AS verified_at FROM tenancy.verification w) v
    UNION ALL
    SELECT 'keys.key_encryption_keys',
           CASE WHEN k.keys = 0 THEN 'off' WHEN k.unusable > 0 THEN 'fail' WHEN NOT k.is_chosen THEN 'warn'
                ELSE 'ok' END,
           k.unusable, NULL,
           'Key-encryption keys of the provider ring that do not work. warn: none is current; off: none is registered.',
           'SELECT * FROM tenancy.key_status()'
      FROM (SELECT count(*) AS keys, coalesce(bool_or(e.is_current), false) AS is_chosen,
                   cardinality(tenancy.unusable_keys())::bigint AS unusable
              FROM tenancy.key_encryption_key e WHERE e.state <> 'retired') k
    UNION ALL
    SELECT 'keys.data_keys',
           CASE WHEN d.keys = 0 THEN 'off' WHEN d.elsewhere > 0 THEN 'warn' ELSE 'ok' END, d.elsewhere, d.oldest,
           'Data keys that are wrapped under a key-encryption key that is not the current one; off: there are none.',
           'CALL tenancy.rewrap_data_keys()'
      FROM (SELECT count(*) AS keys, count(*) FILTER (WHERE NOT e.is_current) AS elsewhere,
                   min(d.wrapped_at) FILTER (WHERE NOT e.is_current) AS oldest
              FROM tenancy.data_key d JOIN tenancy.key_encryption_key e ON e.id = d.key_encryption_key
             WHERE d.state <> 'destroyed') d
$$;
COMMENT ON FUNCTION tenancy.database_posture() IS
'The rows of tenancy.posture that are of no organization. It runs the advisor with the rights of the extension''s owner,
reads catalogs and no row of the application, and changes nothing.';

CREATE FUNCTION tenancy.database_posture_for_caller()
    RETURNS TABLE (control text, state text, count bigint, oldest timestamptz, meaning text, mend text)
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE ROWS 30 SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF pg_has_role('tenancy_auditor', 'USAGE') THEN
        RETURN QUERY SELECT * FROM tenancy.database_posture();
    END IF;
END
$$;
COMMENT ON FUNCTION tenancy.database_posture_for_caller() IS
'Internal: tenancy.database_posture for an auditor, and no row for anybody else.';

CREATE VIEW tenancy.exception_ending WITH (security_barrier) AS
SELECT e.organization, e.exception, e.kind, e.target, e.owner_issuer, e.owner_subject, e.ends_at,
       e.ends_at - t.now AS remaining,
       EXISTS (SELECT FROM tenancy.exception r WHERE r.replaces = e.exception AND r.state = 'requested') AS amended
  FROM tenancy.posture_scope() o
 CROSS JOIN LATERAL (SELECT tenancy.clock() AS now OFFSET 0) t
 -- OFFSET 0 keeps the order: without a context it is an error, whatever rows there are.
 CROSS JOIN LATERAL (SELECT * FROM tenancy.exception_end c WHERE c.organization = o.organization OFFSET 0) e
 WHERE e.state = 'active' AND e.ends_at > t.now AND e.ends_at - e.notice <= t.now
   AND (o.every_domain OR tenancy.allowed('exception', 'read'));
COMMENT ON VIEW tenancy.exception_ending IS
'Exceptions in force that end within the notice of their kind. Members see those of the context''s organization with the
permission exception:read, auditors those of every organization. Raises 28000 for a member without a context.';
COMMENT ON COLUMN tenancy.exception_ending.organization IS 'The organization.';
COMMENT ON COLUMN tenancy.exception_ending.exception IS 'Id of the exception, in tenancy.exception.';
COMMENT ON COLUMN tenancy.exception_ending.kind IS 'Its kind.';
COMMENT ON COLUMN tenancy.exception_ending.target IS 'What is excepted.';
COMMENT ON COLUMN tenancy.exception_ending.owner_issuer IS 'Issuer of the owner. With owner_subject it names a member.';
COMMENT ON COLUMN tenancy.exception_ending.owner_subject IS 'Subject of the owner.';
COMMENT ON COLUMN tenancy.exception_ending.ends_at IS 'When it ends.';
COMMENT ON COLUMN tenancy.exception_ending.remaining IS 'Time until then.';
COMMENT ON COLUMN tenancy.exception_ending.amended IS 'Whether somebody asks for an exception in its place.';

CREATE VIEW tenancy.posture WITH (security_barrier) AS
WITH finding AS MATERIALIZED (
         SELECT p.organization, p.secret, p.valued_at, p.findings FROM tenancy.secret_posture p),
     of_secrets AS (
         SELECT f.organization, i.control, count(DISTINCT f.secret) AS count, min(f.valued_at) AS oldest,
                bool_or(i.severity = 'error') AS fails, bool_or(i.severity = 'warning') AS warns
           FROM finding f CROSS JOIN LATERAL unnest(f.findings) u JOIN tenancy.secret_finding i ON i.name = u
          GROUP BY f.organization, i.control),
     control AS (
         SELECT i.control, string_agg(i.meaning, ' ') AS meaning, string_agg(DISTINCT i.mend, '; ') AS mend
           FROM tenancy.secret_finding i GROUP BY i.control)
SELECT o.organization, 'secrets.' || c.control AS control,
       CASE WHEN f.fails THEN 'fail' WHEN f.warns THEN 'warn'
            WHEN EXISTS (SELECT FROM finding any_of WHERE any_of.organization = o.organization) THEN 'ok'
            ELSE 'off' END AS state,
       coalesce(f.count, 0) AS count, f.oldest, c.meaning, c.mend
  FROM tenancy.posture_scope() o
 CROSS JOIN control c
  LEFT JOIN of_secrets f ON f.organization = o.organization AND f.control = c.control
UNION ALL
SELECT o.organization, 'identity.single_sign_on',
       CASE WHEN s.connections = 0 THEN 'off' WHEN s.enforced > 0 THEN 'ok' ELSE 'warn' END,
       s.connections - s.enforced, s.oldest,
       'Connections that are set up and not enforced. warn: none is enforced; off: there is no connection.',
       'SELECT tenancy.set_sso_state(connection, ''enforced''), see docs/single-sign-on.md'
  FROM tenancy.posture_scope() o
 CROSS JOIN LATERAL (
       SELECT count(*) AS connections, count(*) FILTER (WHERE c.state = 'enforced') AS enforced,
              min(c.created_at) FILTER (WHERE c.state <> 'enforced') AS oldest
         FROM tenancy.sso_connection c WHERE c.organization = o.organization) s
 WHERE o.every_domain OR tenancy.allowed('sso', 'read')
UNION ALL
SELECT o.organization, 'identity.admins',
       CASE WHEN a.members = 0 THEN 'off' WHEN a.admins = 0 THEN 'fail'
            WHEN a.lasting = 0 AND a.ends_at <= tenancy.clock() + interval '14 days' THEN 'warn' ELSE 'ok' END,
       CASE WHEN a.lasting = 0 THEN a.admins ELSE 0 END, NULL,
       'Active members whose role permits everything, if all of them have an end. warn: the last one ends within 14 days; '
           'fail: there is none.',
       'SELECT tenancy.add_member(subject, ''admin''), or tenancy.change_member(subject, valid_until => ''infinity'')'
  FROM tenancy.posture_scope() o
 CROSS JOIN LATERAL (
       SELECT count(*) AS members, count(*) FILTER (WHERE r.permits_everything) AS admins,
              count(*) FILTER (WHERE r.permits_everything AND (m.valid_until IS NULL OR m.valid_until = 'infinity'))
                  AS lasting,
              max(m.valid_until) FILTER (WHERE r.permits_everything) AS ends_at
         FROM tenancy.membership m
         LEFT JOIN (SELECT p.organization, p.role, bool_or(p.domain = '*' AND p.action = '*')
                                                       AND bool_and(p.effect = 'allow') AS permits_everything
                      FROM tenancy.role_permission p GROUP BY p.organization, p.role) r
           ON r.organization = m.role_organization AND r.role = m.role
        WHERE m.organization = o.organization AND m.status = 'active'
          AND (m.valid_until IS NULL OR m.valid_until > tenancy.clock())) a
 WHERE o.every_domain OR tenancy.allowed('member', 'read')
UNION ALL
SELECT o.organization, 'identity.dormant_members',
       CASE WHEN r.since IS NULL THEN 'off' WHEN d.members = 0 THEN 'ok' ELSE 'warn' END, d.members, d.oldest,
       'Active members who have not signed in for tenancy.dormant_after. off: the guardrail dormant_member is off.',
       'SELECT tenancy.drop_member(subject, reason), or tenancy.change_member(subject, status => ''active'')'
  FROM tenancy.posture_scope() o
 -- OFFSET 0 keeps the order: the library, which knows the setting, is loaded by then.
 CROSS JOIN LATERAL (SELECT tenancy.clock() AS now OFFSET 0) t
 CROSS JOIN LATERAL (
       SELECT min(g.on_since) AS since, t.now - current_setting('tenancy.dormant_after')::interval AS latest
         FROM tenancy.guardrail g
        WHERE g.name = 'dormant_member'
          AND g.organization IN ('00000000-0000-0000-0000-000000000000', o.organization)) r
 CROSS JOIN LATERAL (
       SELECT count(*) AS members, min(l.active_at) AS oldest
         FROM tenancy.membership m
         LEFT JOIN tenancy.member_activity a USING (issuer, subject, organization)
        CROSS JOIN LATERAL (
              SELECT greatest(m.created_at, m.reinstated_at, a.signed_in_at, r.since) AS active_at) l
        WHERE m.organization = o.organization AND r.since IS NOT NULL AND m.status = 'active'
          AND (m.valid_until IS NULL OR m.valid_until > t.now) AND l.active_at <= r.latest) d
 WHERE o.every_domain OR tenancy.allowed('member', 'read')
UNION ALL
SELECT o.organization, 'controls.action_requests',
       CASE WHEN r.oldest <= tenancy.clock() - interval '7 days' THEN 'warn' ELSE 'ok' END, r.requests, r.oldest,
       'Requests for action types that nobody has decided. warn: for 7 days.',
       'SELECT tenancy.decide_action_type(request, approve, reason)'
  FROM tenancy.posture_scope() o
 CROSS JOIN LATERAL (
       SELECT count(*) AS requests, min(q.requested_at) AS oldest FROM tenancy.action_type_request q
        WHERE q.organization = o.organization AND q.state = 'requested' AND q.decide_before > tenancy.clock()) r
 WHERE o.every_domain OR tenancy.allowed('action', 'read')
UNION ALL
SELECT o.organization, 'controls.' || c.control,
       CASE WHEN c.warns THEN 'warn' WHEN x.known THEN 'ok' ELSE 'off' END, c.count, c.oldest, c.meaning, c.mend
  FROM tenancy.posture_scope() o
 CROSS JOIN LATERAL (
       SELECT count(*) > 0 AS known,
              count(*) FILTER (WHERE f.waits) AS requests, min(e.requested_at) FILTER (WHERE f.waits) AS waits_since,
              count(*) FILTER (WHERE f.orphaned) AS orphans, min(e.requested_at) FILTER (WHERE f.orphaned) AS orphaned,
              count(*) FILTER (WHERE f.ends) AS endings, min(e.requested_at) FILTER (WHERE f.ends) AS ends
         FROM tenancy.exception_end e
        CROSS JOIN LATERAL (
              SELECT e.state = 'requested' AND e.ends_at > tenancy.clock() AS waits,
                     e.state = 'active' AND e.ends_at > tenancy.clock() AND NOT EXISTS (
                         SELECT FROM tenancy.membership m
                          WHERE m.organization = e.organization AND m.issuer = e.owner_issuer
                            AND m.subject = e.owner_subject AND m.status = 'active'
                            AND (m.valid_until IS NULL OR m.valid_until > tenancy.clock())) AS orphaned,
                     e.state = 'active' AND e.ends_at > tenancy.clock() AND e.ends_at - e.notice <= tenancy.clock()
                     AND NOT EXISTS (SELECT FROM tenancy.exception r
                                      WHERE r.replaces = e.exception AND r.state = 'requested') AS ends) f
        WHERE e.organization = o.organization) x
 CROSS JOIN LATERAL (VALUES
       ('exception_requests', x.waits_since <= tenancy.clock() - interval '7 days', x.requests, x.waits_since,
        'Exceptions that are asked for and that nobody has decided. warn: for 7 days.',
        'SELECT tenancy.decide_exception(exception, approve, reason)'),
       ('exception_owners', x.orphans > 0, x.orphans, x.orphaned,
        'Exceptions in force whose owner is no active member. warn: there are some.',
        'SELECT tenancy.amend_exception(exception, owner_subject => ...), or tenancy.revoke_exception'),
       ('exceptions_ending', x.endings > 0, x.endings, x.ends,
        'Exceptions in force that end within the notice of their kind, and that nobody asks to go on. warn: there are
some.',
        'SELECT * FROM tenancy.exception_ending')) c (control, warns, count, oldest, meaning, mend)
 WHERE o.every_domain OR tenancy.allowed('exception', 'read')
UNION ALL
SELECT o.organization, c.control, CASE WHEN c.count = 0 THEN 'ok' ELSE c.if_any END, c.count, c.oldest, c.meaning,
       c.mend
  FROM tenancy.posture_scope() o
 CROSS JOIN LATERAL (
       SELECT count(*) FILTER (WHERE g.state = 'active' AND g.ends_at > tenancy.clock()) AS active,
              min(g.activated_at) FILTER (WHERE g.state = 'active' AND g.ends_at > tenancy.clock()) AS active_since,
              count(*) FILTER (WHERE d.is_overdue) AS overdue, min(d.over_at) FILTER (WHERE d.is_overdue) AS over_since,
              count(*) FILTER (WHERE d.is_inappropriate) AS inappropriate,
              min(g.signed_off_at) FILTER (WHERE d.is_inappropriate) AS inappropriate_since,
              count(*) FILTER (WHERE d.is_unused) AS unused,
              min(g.signed_off_at) FILTER (WHERE d.is_unused) AS unused_since
         FROM tenancy.break_glass_grant g
        CROSS JOIN LATERAL (
              SELECT coalesce(g.over_at, g.ends_at) AS over_at,
                     g.state IN ('active', 'ended', 'revoked')
                         AND coalesce(g.over_at, g.ends_at) + g.sign_off_within <= tenancy.clock() AS is_overdue,
                     g.verdict = 'inappropriate' AND g.signed_off_at > tenancy.clock() - interval '90 days'
                         AS is_inappropriate,
                     cardinality(g.unused) > 0 AND g.signed_off_at > tenancy.clock() - interval '90 days' AS is_unused
              ) d
        WHERE g.organization = o.organization) g
 CROSS JOIN LATERAL (
       SELECT count(*) AS pairs, min(p.since) AS since
         FROM (SELECT min(a.approved_at) AS since
                 FROM tenancy.break_glass_grant u JOIN tenancy.break_glass_approval a ON a.grant_id = u.id
                WHERE u.organization = o.organization AND a.approved_at > tenancy.clock() - interval '90 days'
                GROUP BY u.beneficiary_issuer, u.beneficiary_subject, a.issuer, a.subject HAVING count(*) >= 3) p) s
 CROSS JOIN LATERAL (VALUES
       ('controls.break_glass_unsigned', 'fail', g.overdue, g.over_since,
        'Grants of break-glass that are over and not signed off in time.',
        'SELECT tenancy.sign_off_break_glass(grant_id, verdict, comment)'),
       ('controls.break_glass_active', 'warn', g.active, g.active_since, 'Grants of break-glass that are used now.',
        'SELECT tenancy.end_break_glass(grant_id, reason)'),
       ('controls.break_glass_inappropriate', 'warn', g.inappropriate, g.inappropriate_since,
        'Grants of break-glass whose use was not appropriate, signed off within 90 days.',
        'SELECT tenancy.break_glass_report(grant_id)'),
       ('controls.break_glass_pairs', 'warn', s.pairs, s.since,
        'Pairs of an approver and a person who used break-glass with 3 approvals or more within 90 days.',
        'have others approve, or ask for two with tenancy.set_break_glass_policy'),
       ('controls.break_glass_unused', 'warn', g.unused, g.unused_since,
        'Grants of break-glass, signed off within 90 days, with permissions or overrides that nothing needed.',
        'ask for less the next time: SELECT unused FROM tenancy.break_glass_grant')) c
           (control, if_any, count, oldest, meaning, mend)
 WHERE o.every_domain OR tenancy.allowed('break_glass', 'read')
UNION ALL
SELECT o.organization, 'controls.' || c.control,
       CASE WHEN NOT r.known THEN 'off' WHEN c.count = 0 THEN 'ok' ELSE c.if_any END, c.count, c.oldest, c.meaning,
       c.mend
  FROM tenancy.posture_scope() o
 CROSS JOIN LATERAL (
       SELECT count(*) > 0 AS known, count(*) FILTER (WHERE f.overdue) AS overdue,
              min(v.due_at) FILTER (WHERE f.overdue) AS due_since
         FROM tenancy.review v
        CROSS JOIN LATERAL (SELECT v.state = 'open' AND v.due_at <= tenancy.clock() AS overdue) f
        WHERE v.organization = o.organization) r
 CROSS JOIN LATERAL (
       -- A day is for settle_due to come.
       SELECT count(*) AS missing, min(s.next_at) AS since FROM tenancy.review_schedule s
        WHERE s.organization = o.organization AND s.next_at + interval '24 hours' <= tenancy.clock()) s
 CROSS JOIN LATERAL (
       SELECT count(*) AS findings, min(l.closed_at) AS since
         FROM (SELECT DISTINCT ON (v.kind) v.id, v.closed_at FROM tenancy.review v
                WHERE v.organization = o.organization AND v.state = 'closed' ORDER BY v.kind, v.closed_at DESC) l
         JOIN tenancy.review_item i ON i.review = l.id AND i.outcome IN ('failed', 'stale', 'undecided')) i
 CROSS JOIN LATERAL (VALUES
       ('reviews_overdue', 'fail', r.overdue, r.due_since, 'Reviews that are due and not closed.',
        'SELECT * FROM tenancy.close_review(review)'),
       ('reviews_missing', 'fail', s.missing, s.since,
        'Reviews that a schedule should have opened a day ago or longer.', 'SELECT * FROM tenancy.settle_due()'),
       ('review_findings', 'warn', i.findings, i.since,
        'Items of the newest closed review of each kind that nobody decided about, that had changed, or that a rule kept
from being changed.',
        'mend them by hand, or have the next review decide: SELECT tenancy.open_review(kind, title, due_at)')) c
           (control, if_any, count, oldest, meaning, mend)
 WHERE o.every_domain OR tenancy.allowed('review', 'read')
UNION ALL
SELECT NULL, d.control, d.state, d.count, d.oldest, d.meaning, d.mend FROM tenancy.database_posture_for_caller() d;
COMMENT ON VIEW tenancy.posture IS
'A row for each control of the extension. Members see those of the context''s organization that they may read, auditors
those of every organization and those of the database. Raises 28000 for a member without a context.';
COMMENT ON COLUMN tenancy.posture.organization IS 'The organization; NULL for a control of the whole database.';
COMMENT ON COLUMN tenancy.posture.control IS 'Name of the control; docs/monitoring.md lists them.';
COMMENT ON COLUMN tenancy.posture.state IS
'ok; warn: somebody should look; fail: what the control is for is not given; off: the control is not used.';
COMMENT ON COLUMN tenancy.posture.count IS 'How many things are to be mended; NULL where nothing is counted.';
COMMENT ON COLUMN tenancy.posture.oldest IS
'How old the oldest of them is. For secrets: when its current value came.';
COMMENT ON COLUMN tenancy.posture.meaning IS 'What the control is about, and when it is not ok.';
COMMENT ON COLUMN tenancy.posture.mend IS 'What to do, or where to look.';
