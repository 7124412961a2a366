-- A row rebuilt from its events. Code: src/audit/history/, core/src/audit/history/.

-- A set, and without SET search_path, so that Postgres puts it into the query that calls it. The operators are
-- qualified: a caller could bring others along.
CREATE FUNCTION tenancy.actor_for_members(actor tenancy.event_actor, organization uuid) RETURNS SETOF
    tenancy.event_actor
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
SELECT actor.id, actor.method,
       CASE WHEN o.own THEN actor.subject END, CASE WHEN o.own THEN actor.issuer END, CASE WHEN o.own
           THEN actor.role END,
       CASE WHEN o.own THEN actor.organization END, CASE WHEN o.member THEN actor.session_id END,
       CASE WHEN o.own THEN actor.correlation_id END, CASE WHEN o.own THEN actor.reason END,
       actor.session_user_name, CASE WHEN o.member THEN actor.current_user_name END,
       CASE WHEN o.member THEN actor.client_address END, CASE WHEN o.member THEN actor.application_name END,
       CASE WHEN o.own THEN actor.grant_id END
  FROM (SELECT actor.organization OPERATOR(pg_catalog.=) actor_for_members.organization AS own,
               actor.organization OPERATOR(pg_catalog.=) actor_for_members.organization
                   AND actor.method OPERATOR(pg_catalog.<>) 'assumed' AS member) o
$$;
COMMENT ON FUNCTION tenancy.actor_for_members(tenancy.event_actor, uuid) IS
'Returns an actor with the columns that members of the organization may see; the others are NULL. The view
tenancy.organization_audit_trail and tenancy.row_history use it. It reads nothing but its arguments. What is shown
depends on the actor:

- A member of the organization, break-glass included: everything.
- An operator who assumed the organization: subject and session_user_name (the login role), role, reason and
  correlation_id; not session_id, current_user_name, client_address and application_name.
- A database role without a context: method (none) and session_user_name; not client_address and application_name.
- An owner of tables in tenancy.begin_maintenance: method (maintenance) and session_user_name; not the reason,
  client_address and application_name.
- A member of another organization, through a function of a superuser: method and session_user_name only.';

CREATE FUNCTION tenancy.row_history("table" regclass, key jsonb)
    RETURNS TABLE (event uuid, organization uuid, "position" bigint, occurred_at timestamptz, operation text, subject
        text, role text, method text,
        session_user_name text, correlation_id text, old_values jsonb, new_values jsonb, "row" jsonb, undisclosed
            text[], complete boolean)
    LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_row_history_wrapper';
COMMENT ON FUNCTION tenancy.row_history(regclass, jsonb) IS
'Returns the events of a row in the order of its changes, each with the row after the change.

- key: The columns of the primary key, such as {"id": 7}, compared by value.

In the result, row has the columns that are not NULL. It is NULL if no row has the key any more, after a deletion or
a change of the key. A row whose key was changed is followed back through its former keys. Renames of schema, table
and columns are followed by the events of ALTER; events of another table under a former name are left out.
undisclosed lists columns whose value an event has only as digest or commitment: secret ones, and those beyond
tenancy.audit_value_limit. A rewrite (ALTER COLUMN ... TYPE) makes its columns undisclosed. Events of triggers that
change the row again are in the order in which each found the state that the previous one left.

The column complete is false if values are undisclosed or may be missing:

- a payload was erased;
- the history began before the table was protected, until a deletion records the rest;
- a column was dropped, or added with a default, since;
- the next event found another state, because a change was not captured;
- two events of one transaction may have happened in either order.

tenancy_auditor without a context sees the events of every organization. With a context, the caller sees the events
of its organization and needs the permission audit:read. Of actors, members see what tenancy.organization_audit_trail
shows. The function finds events of all months by the former and present names of the table, its partitions and
children, through tenancy.row_index.

Raises 42501 without the permission, 28000 with neither a context nor tenancy_auditor, 42P17 (row_key_missing) for a
table without a primary key.';

CREATE FUNCTION tenancy.row_as_of("table" regclass, key jsonb, at timestamptz, partial boolean DEFAULT false) RETURNS
    jsonb
    LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_row_as_of_wrapper';
COMMENT ON FUNCTION tenancy.row_as_of(regclass, jsonb, timestamptz, boolean) IS
'Returns the row with a primary key as it was at a time, rebuilt from its events as in tenancy.row_history. NULL if
there was no row. A change counts from the time when it was made, not from its commit. Values have the form of the
events, so jsonb_populate_record(NULL::"Finding", ...) makes a row of the table.

- partial: Returns what the events contain if they do not contain everything.

Raises 55000 (history_incomplete) if the events do not contain everything and partial is false, and if the time
occurred twice because the clock was set back. Other errors as tenancy.row_history.';
