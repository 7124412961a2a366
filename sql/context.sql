-- The context: who acts, for which organization. Code: src/context/.

-- The accessors cost less than the comparison they stand in; their plans should be those of a constant.

CREATE FUNCTION tenancy.org_id() RETURNS uuid
    LANGUAGE c STABLE PARALLEL SAFE COST 0.01 AS 'MODULE_PATHNAME', 'tenancy_org_id';
COMMENT ON FUNCTION tenancy.org_id() IS
'The organization that this transaction is authenticated for. Raises 28000 when there is none or its token has expired.
Policies call it directly, never as (SELECT tenancy.org_id()): the planner then sees the value, and estimates and
parallel plans are those of a constant.';

CREATE FUNCTION tenancy.org_id_text() RETURNS text
    LANGUAGE c STABLE PARALLEL SAFE COST 0.01 AS 'MODULE_PATHNAME', 'tenancy_org_id_text';
COMMENT ON FUNCTION tenancy.org_id_text() IS
'The organization as columns of type text hold it (tenancy.organization.text_id). Raises as tenancy.org_id() does.';

CREATE FUNCTION tenancy.org_id_bigint() RETURNS bigint
    LANGUAGE c STABLE PARALLEL SAFE COST 0.01 AS 'MODULE_PATHNAME', 'tenancy_org_id_bigint';
COMMENT ON FUNCTION tenancy.org_id_bigint() IS
'The organization as columns of type integer or bigint hold it (tenancy.organization.integer_id). Raises as
tenancy.org_id() does, and 42704 when the organization has no integer id.';

-- The same with a question. Not STRICT: a policy passes constants, and a NULL is an error and no NULL organization.

CREATE FUNCTION tenancy.org_id(domain text, action text) RETURNS uuid
    LANGUAGE c STABLE PARALLEL SAFE COST 0.01 AS 'MODULE_PATHNAME', 'tenancy_org_id_for';
COMMENT ON FUNCTION tenancy.org_id(text, text) IS
'The organization that this transaction is authenticated for, when the role of the context may do the action in the domain, otherwise 42501.
The generated policies compare with it: one comparison a row isolates and asks for the permission. Several actions stand with commas between them. Raises 28000 without a context, 22004 for a NULL.';

CREATE FUNCTION tenancy.org_id_text(domain text, action text) RETURNS text
    LANGUAGE c STABLE PARALLEL SAFE COST 0.01 AS 'MODULE_PATHNAME', 'tenancy_org_id_text_for';
COMMENT ON FUNCTION tenancy.org_id_text(text, text) IS
'tenancy.org_id(domain, action) for columns of type text.';

CREATE FUNCTION tenancy.org_id_bigint(domain text, action text) RETURNS bigint
    LANGUAGE c STABLE PARALLEL SAFE COST 0.01 AS 'MODULE_PATHNAME', 'tenancy_org_id_bigint_for';
COMMENT ON FUNCTION tenancy.org_id_bigint(text, text) IS
'tenancy.org_id(domain, action) for columns of type integer or bigint. Raises 42704 too when the organization has no integer id.';

CREATE FUNCTION tenancy.subject() RETURNS text
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tenancy_subject_wrapper';
COMMENT ON FUNCTION tenancy.subject() IS
'The "sub" claim of the verified token (RFC 7519 section 4.1.2), unique within its issuer. Raises 28000 without a context.';

CREATE FUNCTION tenancy.actor_role() RETURNS text
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tenancy_actor_role_wrapper';
COMMENT ON FUNCTION tenancy.actor_role() IS
'The role of the membership that the transaction acts under (tenancy.role), not a database role. Raises 28000 without a context.';

CREATE FUNCTION tenancy.claims() RETURNS jsonb
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tenancy_claims_wrapper';
COMMENT ON FUNCTION tenancy.claims() IS
'All claims of the verified token as a JSON object. Raises 28000 without a context.';

CREATE FUNCTION tenancy.correlation_id() RETURNS text
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tenancy_correlation_id_wrapper';
COMMENT ON FUNCTION tenancy.correlation_id() IS
'The correlation id given to tenancy.authenticate; NULL when none was given. It stands in every audit event of the transaction.';

CREATE FUNCTION tenancy.whoami() RETURNS jsonb
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tenancy_whoami_wrapper';
COMMENT ON FUNCTION tenancy.whoami() IS
'What the transaction is authenticated as: authenticated, expired, scope (transaction or session), method, organization, subject, issuer, role, session_id,
correlation_id, expires_at and permissions ("domain:action"). {"authenticated": false} without a context; never raises for want of one.';

CREATE FUNCTION tenancy.allowed(domain text, action text) RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tenancy_allowed_wrapper';
COMMENT ON FUNCTION tenancy.allowed(text, text) IS
'Whether the role of the context may do the action in the domain. NULL for a NULL argument. Raises 28000 without a context.';

CREATE FUNCTION tenancy.authorize_support(internal) RETURNS internal
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tenancy_authorize_support';
COMMENT ON FUNCTION tenancy.authorize_support(internal) IS
'Planner support for tenancy.authorize: it removes no rows, so it does not change estimates.';

CREATE FUNCTION tenancy.authorize(domain text, action text) RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL SAFE COST 0.01 SUPPORT tenancy.authorize_support AS 'MODULE_PATHNAME', 'tenancy_authorize';
COMMENT ON FUNCTION tenancy.authorize(text, text) IS
'True when the role of the context may do the action in the domain, otherwise 42501. Call it before an operation that is not
a change of rows; the generated policies ask by tenancy.org_id(domain, action) for those. NULL for a NULL argument, which no policy passes. Raises 28000 without a context.';

CREATE FUNCTION tenancy.sign_out() RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_sign_out_wrapper';
COMMENT ON FUNCTION tenancy.sign_out() IS
'Leaves the rest of the transaction without a context, and the session, if it has one. The end of the transaction does the
former by itself. The transaction still refuses another subject or organization.';

CREATE FUNCTION tenancy.begin_maintenance(reason text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_begin_maintenance_wrapper';
COMMENT ON FUNCTION tenancy.begin_maintenance(text) IS
'For the rest of the transaction the role in force reads and writes the rows of all organizations in the protected tables that it owns, or
whose owner''s rights it has: a data migration. Policies are lifted table by table for what its statements name, views and functions run with
their owners'' rights; triggers, foreign keys and the audit are as ever. The beginning is an event ("maintenance", of no organization) with the reason, of at
most 1000 bytes, and a line in the server''s log. A new row needs its organization in the statement. Raises 22004 without a reason, 25006 where nothing can
be written, 28000 where the transaction has an identity; afterwards none can be had in it.';

CREATE FUNCTION tenancy.authenticate_session(token text, organization uuid DEFAULT NULL, correlation_id text DEFAULT NULL) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_authenticate_session_wrapper';
COMMENT ON FUNCTION tenancy.authenticate_session(text, uuid, text) IS
'As tenancy.authenticate, but the identity stays with the connection: until tenancy.sign_out, RESET ALL, DISCARD ALL, another
authenticate_session or the end of the token. Each transaction checks at its first use that the membership is still there.
No role may call it until it is granted: behind a pooler in transaction mode the identity would be that of the next client.
GRANT EXECUTE only to roles whose clients have each a connection of their own.';
