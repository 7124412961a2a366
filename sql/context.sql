-- The context: who acts, for which organization. Code: src/context/.

-- The accessors cost less than the comparison they stand in; their plans should be those of a constant.

CREATE FUNCTION tenancy.org_id() RETURNS uuid
    LANGUAGE c STABLE PARALLEL SAFE COST 0.01 AS 'MODULE_PATHNAME', 'tenancy_org_id';
COMMENT ON FUNCTION tenancy.org_id() IS
'Returns the id of the context''s organization, for columns of type uuid.

Policies call the function bare, not as (SELECT tenancy.org_id()). The planner then sees the value, so estimates and
parallel plans are those of a constant.

Raises 28000 without a context and after the token of the context has expired.';

CREATE FUNCTION tenancy.org_id_text() RETURNS text
    LANGUAGE c STABLE PARALLEL SAFE COST 0.01 AS 'MODULE_PATHNAME', 'tenancy_org_id_text';
COMMENT ON FUNCTION tenancy.org_id_text() IS
'Returns the text_id of the context''s organization, for columns of type text and varchar. See
tenancy.organization.text_id. Errors as tenancy.org_id().';

CREATE FUNCTION tenancy.org_id_bigint() RETURNS bigint
    LANGUAGE c STABLE PARALLEL SAFE COST 0.01 AS 'MODULE_PATHNAME', 'tenancy_org_id_bigint';
COMMENT ON FUNCTION tenancy.org_id_bigint() IS
'Returns the integer_id of the context''s organization, for columns of type integer and bigint. See
tenancy.organization.integer_id. Raises 42704 if the organization has no integer_id. Other errors as
tenancy.org_id().';

-- The same with a question. Not STRICT: a policy passes constants, and a NULL is an error and no NULL organization.

CREATE FUNCTION tenancy.org_id(domain text, action text) RETURNS uuid
    LANGUAGE c STABLE PARALLEL SAFE COST 0.01 AS 'MODULE_PATHNAME', 'tenancy_org_id_for';
COMMENT ON FUNCTION tenancy.org_id(text, text) IS
'Returns the id of the context''s organization if the role of the context may do the action in the domain. The
policies of tenancy.protect compare with this function: one comparison per row isolates the tenant and checks the
permission. Policies and views of your own can do the same. The argument action may name several actions, separated
by commas; the role then needs each of them. Raises 42501 (permission_denied) without the permission, 22004 for a
NULL argument, 28000 without a context.';

CREATE FUNCTION tenancy.org_id_text(domain text, action text) RETURNS text
    LANGUAGE c STABLE PARALLEL SAFE COST 0.01 AS 'MODULE_PATHNAME', 'tenancy_org_id_text_for';
COMMENT ON FUNCTION tenancy.org_id_text(text, text) IS
'As tenancy.org_id(domain, action), for columns of type text and varchar.';

CREATE FUNCTION tenancy.org_id_bigint(domain text, action text) RETURNS bigint
    LANGUAGE c STABLE PARALLEL SAFE COST 0.01 AS 'MODULE_PATHNAME', 'tenancy_org_id_bigint_for';
COMMENT ON FUNCTION tenancy.org_id_bigint(text, text) IS
'As tenancy.org_id(domain, action), for columns of type integer and bigint. Raises 42704 if the organization has no
integer_id.';

CREATE FUNCTION tenancy.subject() RETURNS text
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tenancy_subject_wrapper';
COMMENT ON FUNCTION tenancy.subject() IS
'Returns the "sub" claim of the context''s token (RFC 7519 section 4.1.2). A subject is unique only within its issuer.
Raises 28000 without a context.';

CREATE FUNCTION tenancy.actor_role() RETURNS text
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tenancy_actor_role_wrapper';
COMMENT ON FUNCTION tenancy.actor_role() IS
'Returns the role of the context: a row of tenancy.role, not a database role. It is the role of the membership, unless
the issuer takes roles from a claim. Raises 28000 without a context.';

CREATE FUNCTION tenancy.claims() RETURNS jsonb
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tenancy_claims_wrapper';
COMMENT ON FUNCTION tenancy.claims() IS
'Returns all claims of the context''s token as a JSON object. Raises 28000 without a context.';

CREATE FUNCTION tenancy.correlation_id() RETURNS text
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tenancy_correlation_id_wrapper';
COMMENT ON FUNCTION tenancy.correlation_id() IS
'Returns the correlation id that was passed to tenancy.authenticate. Each audit event of the transaction has it. NULL
if none was passed, and NULL without a context.';

CREATE FUNCTION tenancy.whoami() RETURNS jsonb
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tenancy_whoami_wrapper';
COMMENT ON FUNCTION tenancy.whoami() IS
'Describes the context as a JSON object. Its members are authenticated, expired, scope (transaction or session),
method, organization, subject, issuer, role, session_id, correlation_id, expires_at and permissions, an array of
"domain:action" with a leading ! for what is denied. Its member elevation is NULL, or has grant, permissions, overrides
and ends_at of the break-glass grant that elevates the transaction. Without a context the result is
{"authenticated": false}; the function does not raise an error then.';

CREATE FUNCTION tenancy.allowed(domain text, action text) RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tenancy_allowed';
COMMENT ON FUNCTION tenancy.allowed(text, text) IS
'Returns whether the role of the context may do the action in the domain. For example, an application shows or hides a
button with it. NULL for a NULL argument. Raises 28000 without a context.';

CREATE FUNCTION tenancy.authorize_support(internal) RETURNS internal
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tenancy_authorize_support';
COMMENT ON FUNCTION tenancy.authorize_support(internal) IS
'Internal: planner support function of tenancy.authorize, which keeps that call from changing estimates. It cannot be
called from SQL.';

CREATE FUNCTION tenancy.authorize(domain text, action text) RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL SAFE COST 0.01 SUPPORT tenancy.authorize_support AS 'MODULE_PATHNAME',
        'tenancy_authorize';
COMMENT ON FUNCTION tenancy.authorize(text, text) IS
'Returns true if the role of the context may do the action in the domain, and raises 42501 (permission_denied)
otherwise. Call it before an operation that changes no row, such as a call to a cloud provider. Policies of
tenancy.protect check changes of rows by tenancy.org_id(domain, action). NULL for a NULL argument: do not treat NULL
as permission. Raises 28000 without a context.';

CREATE FUNCTION tenancy.sign_out() RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_sign_out_wrapper';
COMMENT ON FUNCTION tenancy.sign_out() IS
'Removes the context of the transaction, and that of the session if there is one. The end of the transaction removes
the context of the transaction without this call. The transaction still refuses every other subject and organization.';

CREATE FUNCTION tenancy.begin_maintenance(reason text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_begin_maintenance_wrapper';
COMMENT ON FUNCTION tenancy.begin_maintenance(text) IS
'Lets the role in force read and write the rows of all organizations until the transaction ends, for example in a data
migration. It applies to protected tables that the role owns, or whose owner''s rights it has. Granted to
tenancy_admin.

Policies are lifted only for the tables that its statements name. Views and functions run with their owners'' rights.
Triggers, foreign keys and the audit work as usual. An INSERT must name the organization of the new row.

The call records an event (operation maintenance, of no organization) and writes a line to the server''s log, both
with the reason. The reason has at most 1000 bytes. The events of changed rows have the method maintenance.

Raises 22004 without a reason, 25006 in a read-only transaction or on a standby, 28000 (context_sealed) if the
transaction has an identity. The transaction cannot authenticate afterwards.';

CREATE FUNCTION tenancy.authenticate_session(token text, organization uuid DEFAULT NULL, correlation_id text DEFAULT
    NULL) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_authenticate_session_wrapper';
COMMENT ON FUNCTION tenancy.authenticate_session(text, uuid, text) IS
'Authenticates as tenancy.authenticate does, for the session instead of the transaction. The context ends with
tenancy.sign_out, RESET ALL, DISCARD ALL, another authenticate_session, or the expiry of the token. Each transaction
checks the membership at its first use of the context and raises 28000 (membership_missing) if it has ended.

No role may call the function until EXECUTE is granted. Grant it only to roles whose clients have a connection of
their own: a pooler in transaction mode would give the identity to the next client.';
