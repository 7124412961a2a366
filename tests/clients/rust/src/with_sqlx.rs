use sqlx::{Error, PgPool, Postgres, Transaction};

/// A transaction as the member that the token names: work with it, then commit.
pub async fn identity(
    pool: &PgPool,
    token: &str,
    correlation_id: Option<&str>,
) -> Result<Transaction<'static, Postgres>, Error> {
    let mut transaction = pool.begin().await?;
    sqlx::query("SELECT tenancy.authenticate($1, correlation_id => $2)")
        .persistent(false) // no name, for PgBouncer before 1.21
        .bind(token)
        .bind(correlation_id)
        .execute(&mut *transaction)
        .await?;
    Ok(transaction)
}

/// What an API answers: the SQLSTATE says who is to blame.
pub fn status_of(error: &Error) -> u16 {
    match error.as_database_error().and_then(|refused| refused.code()).as_deref() {
        Some("28000") => 401, // no, bad or expired token; no membership
        Some("42501") => 403, // the role may not
        _ => 500,
    }
}
