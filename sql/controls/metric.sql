-- Figures for a monitoring system such as Prometheus. Names and labels are stable: docs/monitoring.md lists them, and a
-- test compares the two. Queries of exporters: examples/monitoring/.

CREATE FUNCTION tenancy.metrics(secret_names boolean DEFAULT false)
    RETURNS TABLE (name text, labels jsonb, value double precision, help text)
    -- To compile expressions that run once takes a second.
    LANGUAGE sql VOLATILE PARALLEL UNSAFE ROWS 100 SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
    AS $$
    -- The owner of the function is an auditor of every organization.
    WITH secret AS MATERIALIZED (SELECT * FROM tenancy.secret_posture),
         lag AS (SELECT * FROM tenancy.audit_lag),
         checkpoint AS (SELECT * FROM tenancy.checkpoint_status)
    SELECT 'pg_tenancy_unsealed_events', '{}'::jsonb, l.unsealed_events::double precision,
           'Events that are committed and not sealed.' FROM lag l
    UNION ALL
    SELECT 'pg_tenancy_unsealed_seconds', '{}', l.unsealed_seconds, 'Age of the oldest of these.' FROM lag l
    UNION ALL
    SELECT 'pg_tenancy_waiting_sessions', '{}', l.waiting_sessions,
           'Sessions that wait because too many events are unsealed.' FROM lag l
    UNION ALL
    SELECT 'pg_tenancy_uncheckpointed_events', '{}', c.uncheckpointed_events,
           'Sealed events that no checkpoint covers.' FROM checkpoint c
    UNION ALL
    SELECT 'pg_tenancy_checkpoint_age_seconds', '{}', extract(epoch FROM c.age),
           'Age of the newest checkpoint.' FROM checkpoint c WHERE c.age IS NOT NULL
    UNION ALL
    SELECT 'pg_tenancy_verification_age_seconds', '{}', extract(epoch FROM now() - max(v.verified_at)),
           'Age of the last verification of the audit without findings.'
      FROM tenancy.verification v HAVING max(v.verified_at) IS NOT NULL
    UNION ALL
    SELECT 'pg_tenancy_guardrail_state', jsonb_build_object('guardrail', g.name),
           array_position('{off,warn,enforce}', g.state) - 1, '0 off, 1 warn, 2 enforce.'
      FROM tenancy.guardrail_states() g
    UNION ALL
    SELECT 'pg_tenancy_organization_count', jsonb_build_object('status', o.status), count(*), 'Organizations.'
      FROM tenancy.organization o GROUP BY o.status
    UNION ALL
    SELECT 'pg_tenancy_protected_tables', '{}', count(*), 'Tables that tenancy.protect has protected.'
      FROM tenancy.protected_tables()
    UNION ALL
    SELECT 'pg_tenancy_secret_count', jsonb_build_object('organization', s.organization, 'severity', s.severity),
           count(*),
           'Secrets by the highest severity of their findings.'
      FROM secret s GROUP BY s.organization, s.severity
    UNION ALL
    SELECT 'pg_tenancy_secret_findings_count', jsonb_build_object('organization', s.organization, 'finding', f),
           count(*),
           'Secrets with a finding of tenancy.secret_posture; none: no series.'
      FROM secret s CROSS JOIN LATERAL unnest(s.findings) f GROUP BY s.organization, f
    UNION ALL
    SELECT 'pg_tenancy_secret_age_seconds_max', jsonb_build_object('organization', s.organization),
           extract(epoch FROM max(s.age)), 'Age of the oldest current value.'
      FROM secret s GROUP BY s.organization
    UNION ALL
    SELECT 'pg_tenancy_rotations_under_way', jsonb_build_object('state', n.state), count(s.secret),
           'Rotations that are open or observing.'
      FROM unnest('{open,observing}'::text[]) n (state) LEFT JOIN secret s ON s.state = n.state GROUP BY n.state
    UNION ALL
    SELECT 'pg_tenancy_secret_key_usable', jsonb_build_object('key', e.id),
           (NOT e.id = ANY (u.keys))::integer,
           'Whether a key-encryption key of the provider ring works.'
      -- Each call tries every key.
      FROM (SELECT tenancy.unusable_keys() AS keys OFFSET 0) u
     CROSS JOIN tenancy.key_encryption_key e WHERE e.provider = 'ring' AND e.state <> 'retired'
    UNION ALL
    SELECT 'pg_tenancy_data_key_count', jsonb_build_object('key', e.id), count(d.id),
           'Data keys that are wrapped under a key-encryption key.'
      FROM tenancy.key_encryption_key e
      LEFT JOIN tenancy.data_key d ON d.key_encryption_key = e.id AND d.state <> 'destroyed'
     WHERE e.state <> 'retired' GROUP BY e.id
    UNION ALL
    SELECT 'pg_tenancy_action_requests_open', '{}', count(*), 'Requests for action types that wait for a decision.'
      FROM tenancy.action_type_request q WHERE q.state = 'requested' AND q.decide_before > tenancy.clock()
    UNION ALL
    SELECT 'pg_tenancy_action_approvals_in_force', '{}', count(*), 'Approvals of action types that are in force.'
      FROM tenancy.action_type_request q WHERE q.state = 'approved' AND q.ends_at > tenancy.clock()
    UNION ALL
    SELECT 'pg_tenancy_exception_requests_open', '{}', count(*), 'Requests for exceptions that wait for a decision.'
      FROM tenancy.exception_end e WHERE e.state = 'requested' AND e.ends_at > tenancy.clock()
    UNION ALL
    SELECT 'pg_tenancy_exceptions_in_force', jsonb_build_object('kind', e.kind), count(*),
           'Exceptions that are in force.'
      FROM tenancy.exception_end e WHERE e.state = 'active' AND e.ends_at > tenancy.clock() GROUP BY e.kind
    UNION ALL
    SELECT 'pg_tenancy_reviews_open', jsonb_build_object('overdue', (n.overdue)::text), count(v.id),
           'Reviews that are not closed.'
      FROM (VALUES (false), (true)) n (overdue)
      LEFT JOIN tenancy.review v ON v.state = 'open' AND (v.due_at <= tenancy.clock()) = n.overdue
     GROUP BY n.overdue
    UNION ALL
    SELECT 'pg_tenancy_alerts_total', jsonb_build_object('kind', a.kind), count(*), 'Alerts that were raised.'
      FROM tenancy.alert a GROUP BY a.kind
    UNION ALL
    SELECT 'pg_tenancy_secret_age_seconds', jsonb_build_object('organization', s.organization, 'secret', s.name),
           extract(epoch FROM s.age), 'Age of the current value of a secret.'
      FROM secret s WHERE metrics.secret_names
    UNION ALL
    SELECT 'pg_tenancy_secret_rotation_due_seconds',
           jsonb_build_object('organization', s.organization, 'secret', s.name),
           extract(epoch FROM s.rotation_due_at - tenancy.clock()),
           'Time until the rotation of a secret is due; negative: overdue.'
      FROM secret s WHERE metrics.secret_names
$$;
COMMENT ON FUNCTION tenancy.metrics(boolean) IS
'Figures about the whole database for a monitoring system, in the data model of Prometheus. They have ids of
organizations as labels, and neither names nor values of any row.

- secret_names: Also returns the metrics that have a label secret, with the name of each secret.

- name: Name of the metric, with its unit. Names are stable.
- labels: An object of labels, all of them text.
- value: The figure. Durations are seconds.
- help: What it is.';

CREATE VIEW tenancy.metric WITH (security_invoker = true) AS
SELECT m.name, m.labels, m.value, m.help FROM tenancy.metrics() m;
COMMENT ON VIEW tenancy.metric IS 'The rows of tenancy.metrics(), without names of secrets.';
