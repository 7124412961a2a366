-- Who may see which events: row-level security on the audit's tables, and the view for members. Code: none, SQL alone.

-- The library writes these tables below SQL, and the extension's functions read them as a superuser: neither is bound.
-- The view belongs to a role that is, so that what it shows is filtered by the tables themselves. A grant that somebody
-- gives by mistake shows nothing: no policy is for anybody else, and a partition has none.
DO $$
DECLARE
    policy record;
BEGIN
    FOR policy IN
        SELECT *, $own$organization = tenancy.org_id() AND tenancy.authorize('audit', 'read')$own$ AS own
          FROM unnest(ARRAY['event_batch', 'event_actor', 'seal']) AS name
    LOOP
        EXECUTE format('ALTER TABLE tenancy.%1$I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', policy.name);
        EXECUTE format('CREATE POLICY auditors ON tenancy.%I FOR SELECT TO tenancy_auditor USING (true)', policy.name);
        EXECUTE format('COMMENT ON POLICY auditors ON tenancy.%I IS ''Auditors see every organization.''', policy.name);
        -- Who acted on an organization need not be of it; the view reaches them through the event alone.
        EXECUTE format('CREATE POLICY members ON tenancy.%I FOR SELECT TO tenancy_trail USING (%s)', policy.name,
            CASE WHEN policy.name = 'event_actor' THEN $all$tenancy.authorize('audit', 'read')$all$
                ELSE policy.own END);
        EXECUTE format('COMMENT ON POLICY members ON tenancy.%I IS ''tenancy.organization_audit_trail reads the context''''s organization, with the permission audit:read.''', policy.name);
    END LOOP;
END
$$;

-- Not a security_barrier, which would be planned by itself and read a whole chain for its newest events. Postgres puts
-- the policies of seal and event_batch before any condition of the query (those of event_actor let all pass), and
-- OFFSET 0 keeps such a condition from the actors of other events: it is not moved into a subquery that has one.
CREATE VIEW tenancy.organization_audit_trail AS
SELECT coalesce(n.last - b.events + e.place + 1, n.last) AS "position", coalesce(e.id, n.batch) AS id,
       e.occurred_at, a.subject, a.role, a.method, b.operation, b.domain, b.table_schema, b.table_name, e.row_key,
       e.payload -> 'old' AS old_values, e.payload -> 'new' AS new_values,
       e.payload -> 'digests' AS digests, e.payload -> 'commitments' AS commitments,
       e.payload -> 'data' AS data, b.result, b.reason, a.access_reason, a.correlation_id, a.issuer, a.session_id,
       a.session_user_name, a.client_address, a.application_name, a.grant_id, s.block, n.batch, n.leaf, n.batch_hash
  FROM tenancy.seal s
  -- As in tenancy.entry, which would ask for the rights of the reader.
 CROSS JOIN LATERAL tenancy.unpack_entries(s."position", s.leaves, s.entries) n
  LEFT JOIN tenancy.event_batch b ON b.id = n.batch
  -- As in tenancy.event, which would ask for the rights of the reader.
  LEFT JOIN LATERAL (
       SELECT 0 AS place, b.id, b.occurred_at, b.row_key, b.payload WHERE b.packed IS NULL
        UNION ALL
       SELECT u.place, u.id, u.event_occurred_at, u.row_key, u.payload
         FROM tenancy.unpack_events(b.id, b.ordinal, b.events, b.occurred_at, b.packed) u) e ON true
  LEFT JOIN LATERAL (
       SELECT o.method, o.session_user_name, o.subject, o.role, o.issuer, o.reason AS access_reason, o.correlation_id,
           o.session_id,
              o.client_address, o.application_name, o.grant_id
         FROM tenancy.event_actor w
        CROSS JOIN LATERAL tenancy.actor_for_members(w, s.organization) o
        WHERE w.id = b.actor
       OFFSET 0) a ON true
 -- The policies say the same of each row; here it is asked once, and also where there is no row.
 WHERE tenancy.authorize('audit', 'read');
ALTER VIEW tenancy.organization_audit_trail OWNER TO tenancy_trail;
COMMENT ON VIEW tenancy.organization_audit_trail IS
'The sealed events of the context''s organization, in the order of its chain. For members with the permission
audit:read. An event appears once it is sealed; an archived batch appears as one row without content, at
the position of its last event. Raises 28000 without a context, 42501 without the permission.

The columns are position, id, occurred_at, subject, role, method, operation, domain, table_schema, table_name,
row_key, old_values, new_values, digests, commitments, data, result, reason, access_reason (the reason of an
operator), correlation_id, issuer, session_id, session_user_name, client_address, application_name, grant_id (of a
break-glass), block, and of the batch: batch (its id), leaf (its number in the chain) and batch_hash. In the order
block, position, the newest events are found quickly.

The permission audit:read shows old and new values of every domain, whatever else the role may read. Of actors who
are no members of the organization, the view shows what tenancy.actor_for_members returns.';
