-- A row rebuilt from its events. Code: src/audit/history/, core/src/audit/history/.

-- A set, and without SET search_path, so that Postgres puts it into the query that calls it. The operators are qualified: a
-- caller could bring others along.
CREATE FUNCTION tenancy.actor_for_members(actor tenancy.event_actor, organization uuid) RETURNS SETOF tenancy.event_actor
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
SELECT actor.id, actor.method,
       CASE WHEN o.own THEN actor.subject END, CASE WHEN o.own THEN actor.issuer END, CASE WHEN o.own THEN actor.role END,
       CASE WHEN o.own THEN actor.organization END, CASE WHEN o.member THEN actor.session_id END,
       CASE WHEN o.own THEN actor.correlation_id END, CASE WHEN o.own THEN actor.reason END,
       actor.session_user_name, CASE WHEN o.member THEN actor.current_user_name END,
       CASE WHEN o.member THEN actor.client_address END, CASE WHEN o.member THEN actor.application_name END
  FROM (SELECT actor.organization OPERATOR(pg_catalog.=) actor_for_members.organization AS own,
               actor.organization OPERATOR(pg_catalog.=) actor_for_members.organization AND actor.method OPERATOR(pg_catalog.<>) 'assumed' AS member) o
$$;
COMMENT ON FUNCTION tenancy.actor_for_members(tenancy.event_actor, uuid) IS
'What members of the organization see of an actor: of their own members all, of an operator who assumed the organization not from where, of anybody
else only the method and the database role. tenancy.organization_audit_trail and tenancy.row_history show that. It reads nothing but its arguments.';

CREATE FUNCTION tenancy.row_history("table" regclass, key jsonb)
    RETURNS TABLE (event uuid, organization uuid, "position" bigint, occurred_at timestamptz, operation text, subject text, role text, method text,
        session_user_name text, correlation_id text, old_values jsonb, new_values jsonb, "row" jsonb, undisclosed text[], complete boolean)
    LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_row_history_wrapper';
COMMENT ON FUNCTION tenancy.row_history(regclass, jsonb) IS
'The events of the row with that primary key ({"id": 7}) in the order in which it was changed, each with the row as it was after it, without the columns
that were NULL; row is NULL after a deletion, and when the row got another key. undisclosed names columns whose value an event does not hold: secret, or beyond tenancy.audit_value_limit.
Table, schema and columns are followed through other names. complete is false where more than that may be missing: an erased payload, a history that
began before the table was protected, a column that has been dropped, or added with a default since; a next event that came upon another state; two events of a transaction that may have come either
way. tenancy_auditor sees the events of every organization, whoever has a context and the permission read in the domain
audit those of the own one. Reads the events of all months.';

CREATE FUNCTION tenancy.row_as_of("table" regclass, key jsonb, at timestamptz, partial boolean DEFAULT false) RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_row_as_of_wrapper';
COMMENT ON FUNCTION tenancy.row_as_of(regclass, jsonb, timestamptz, boolean) IS
'The row with that primary key as its events tell it for that time, as tenancy.row_history has it; NULL if there was none. A change counts from when it was
made, if it was committed. Raises 55000 where the events do not tell all of it, unless partial is true: then what they tell.';
