use diesel::prelude::*;
use diesel::result::Error;
use diesel::sql_types::{Nullable, Text};

/// One transaction as the member that the token names.
pub fn with_identity<T>(
    connection: &mut PgConnection,
    token: &str,
    correlation_id: Option<&str>,
    work: impl FnOnce(&mut PgConnection) -> Result<T, Error>,
) -> Result<T, Error> {
    connection.transaction(|connection| {
        diesel::sql_query("SELECT tenancy.authenticate($1, correlation_id => $2)")
            .bind::<Text, _>(token)
            .bind::<Nullable<Text>, _>(correlation_id)
            .execute(connection)?;
        work(connection)
    })
}

// diesel shows no SQLSTATE, but the name of an error, which has the place of a constraint's. No, bad or expired token; no
// membership:
const UNAUTHENTICATED: &str = "audience_refused claim_invalid context_expired context_missing context_sealed \
    issuer_unknown key_retired key_unknown membership_missing organization_conflict organization_unnamed role_conflict \
    role_missing scope_missing signature_invalid sso_required token_expired token_malformed token_not_yet_valid \
    token_refused token_revoked";
// The role may not:
const FORBIDDEN: &str = "action_not_approved cross_tenant_change elevation_ended permission_denied";

/// What an API answers.
pub fn status_of(error: &Error) -> u16 {
    let Error::DatabaseError(_, refused) = error else { return 500 };
    match refused.constraint_name().and_then(|name| name.strip_prefix("tenancy_")) {
        Some(name) if UNAUTHENTICATED.split(' ').any(|listed| listed == name) => 401,
        Some(name) if FORBIDDEN.split(' ').any(|listed| listed == name) => 403,
        _ => 500,
    }
}
