-- PostgREST: the token of the request, verified here. No library code: it calls tenancy.authenticate.

CREATE FUNCTION tenancy.pre_request() RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- '' once a transaction of this connection has set it, NULL before.
    setting text := nullif(current_setting('request.headers', true), '');
    headers json;
    bearer text;
    organization uuid;
BEGIN
    IF setting IS NULL THEN
        RETURN;
    END IF;
    BEGIN
        headers := setting::json;
        -- Raises for anything but an object.
        PERFORM json_object_keys(headers);
    EXCEPTION WHEN invalid_text_representation OR invalid_parameter_value THEN
        RAISE EXCEPTION 'the setting request.headers is not a JSON object'
            USING ERRCODE = 'invalid_authorization_specification', HINT = 'Let PostgREST set it: version 9 or later.';
    END;
    IF headers ->> 'authorization' IS NULL THEN
        RETURN;
    END IF;
    -- One scheme, one token (RFC 6750 section 2.1); a list of credentials has a comma or a space, and no token has.
    bearer := substring(headers ->> 'authorization' FROM '^\s*[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/=-]+)\s*$');
    IF bearer IS NULL THEN
        RAISE EXCEPTION 'the Authorization header does not hold exactly one bearer token'
            USING ERRCODE = 'invalid_authorization_specification', HINT =
                'Send it as "Authorization: Bearer" and the access token.';
    END IF;
    BEGIN
        organization := nullif(headers ->> 'x-organization-id', '')::uuid;
    EXCEPTION WHEN invalid_text_representation THEN
        RAISE EXCEPTION 'the X-Organization-Id header is not a uuid'
            USING ERRCODE = 'invalid_parameter_value', HINT =
                'Send the id that tenancy.organization has, or leave the header out.';
    END;
    PERFORM tenancy.authenticate(
        token => bearer, organization => organization,
        correlation_id => coalesce(nullif(headers ->> 'x-correlation-id', ''), nullif(headers ->> 'x-request-id', '')));
END
$$;
COMMENT ON FUNCTION tenancy.pre_request() IS
'Authenticates the transaction with the bearer token of an HTTP request, for the setting db-pre-request of PostgREST.
The function verifies the token itself and trusts no claims that PostgREST has verified.

It reads the headers from the setting request.headers. Authorization contains the token. X-Organization-Id, a uuid,
and X-Correlation-Id or X-Request-Id become the arguments of tenancy.authenticate. Without an Authorization header
the function does nothing, and the request has no context.

Raises 28000 for a header or token that is not accepted, 22023 for an X-Organization-Id that is no uuid or a
correlation id that is too long.';
