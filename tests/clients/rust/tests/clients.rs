//! sqlx and diesel behind PgBouncer.

const GLOBEX: &str = "bbbbbbbb-0000-4000-8000-000000000002";
const OWN: [(&str, &[&str]); 2] =
    [("ALICE", &["acme one", "acme two", "acme three"]), ("BOB", &["globex one", "globex two"])];

fn token(of: &str) -> String {
    std::env::var(format!("TOKEN_{of}")).unwrap_or_default()
}

mod sqlx {
    use pg_tenancy_clients::with_sqlx::{identity, status_of};
    use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
    use sqlx::{Acquire, Error, PgConnection, PgPool};

    use super::{GLOBEX, OWN, token};

    /// PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE name the pooler.
    async fn pool() -> PgPool {
        PgPoolOptions::new().max_connections(4).connect_with(PgConnectOptions::new()).await.unwrap()
    }

    async fn texts(connection: &mut PgConnection, sql: &str) -> Result<Vec<String>, Error> {
        sqlx::query_scalar(sql).persistent(false).fetch_all(connection).await
    }

    async fn titles(connection: &mut PgConnection) -> Result<Vec<String>, Error> {
        texts(connection, "SELECT title FROM invoice WHERE id < 1000 ORDER BY id").await
    }

    async fn execute(connection: &mut PgConnection, sql: &str) -> Result<u64, Error> {
        Ok(sqlx::query(sql).persistent(false).execute(connection).await?.rows_affected())
    }

    async fn smuggle(connection: &mut PgConnection) -> Result<u64, Error> {
        let insert = format!("INSERT INTO invoice (organization_id, title) VALUES ('{GLOBEX}', 'smuggled')");
        execute(connection, &insert).await
    }

    async fn shown_to(pool: &PgPool, subject: &str) -> Result<Vec<String>, Error> {
        titles(&mut *identity(pool, &token(subject), None).await?).await
    }

    /// In a transaction, because sqlx prepares a statement in a step of its own: outside of one, PgBouncer may give the
    /// next step another server connection, which does not know the statement (26000).
    async fn shown_to_nobody(pool: &PgPool) -> Result<Vec<String>, Error> {
        titles(&mut *pool.begin().await?).await
    }

    async fn titled(pool: &PgPool, subject: &str, title: &str) -> Result<Vec<String>, Error> {
        let sql = format!("SELECT title FROM invoice WHERE title = '{title}'");
        texts(&mut *identity(pool, &token(subject), None).await?, &sql).await
    }

    #[track_caller]
    fn refused<T: std::fmt::Debug>(outcome: Result<T, Error>, sqlstate: &str, status: u16) {
        let error = outcome.unwrap_err();
        let code = error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned());
        assert_eq!((code.as_deref(), status_of(&error)), (Some(sqlstate), status), "{error}");
    }

    #[tokio::test]
    async fn each_member_sees_their_own_rows_and_nobody_sees_any_afterwards() {
        let pool = pool().await;
        for _ in 0..10 {
            for (subject, own) in OWN {
                assert_eq!(shown_to(&pool, subject).await.unwrap(), own);
                refused(shown_to_nobody(&pool).await, "28000", 401);
            }
        }
        assert_eq!(status_of(&Error::RowNotFound), 500);
    }

    #[tokio::test]
    async fn requests_at_the_same_time_see_their_own_rows() {
        let pool = pool().await;
        let requests: Vec<_> = (0..20)
            .map(|n| {
                let pool = pool.clone();
                tokio::spawn(async move { shown_to(&pool, OWN[n % 2].0).await.unwrap() == OWN[n % 2].1 })
            })
            .collect();
        for request in requests {
            assert!(request.await.unwrap());
        }
    }

    #[tokio::test]
    async fn the_rows_of_another_organization_are_not_found_by_their_id() {
        let pool = pool().await;
        let mut alice = identity(&pool, &token("ALICE"), None).await.unwrap();
        assert_eq!(texts(&mut alice, "SELECT title FROM invoice WHERE id = 1").await.unwrap(), ["acme one"]);
        assert!(texts(&mut alice, "SELECT title FROM invoice WHERE id = 101").await.unwrap().is_empty());
        assert_eq!(execute(&mut alice, "UPDATE invoice SET total = 0 WHERE id = 101").await.unwrap(), 0);
        assert_eq!(execute(&mut alice, "DELETE FROM invoice WHERE id = 101").await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_new_row_belongs_to_the_organization_of_the_member() {
        let pool = pool().await;
        let mut bob = identity(&pool, &token("BOB"), Some("sqlx-7")).await.unwrap();
        let insert = "INSERT INTO invoice (title) VALUES ('of sqlx') RETURNING organization_id::text";
        assert_eq!(texts(&mut bob, insert).await.unwrap(), [GLOBEX]);
        bob.commit().await.unwrap();
        assert_eq!(titled(&pool, "BOB", "of sqlx").await.unwrap().len(), 1);
        assert!(titled(&pool, "ALICE", "of sqlx").await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn without_a_good_token_nothing_is_shown() {
        let pool = pool().await;
        refused(shown_to(&pool, "OF_NOBODY").await, "28000", 401);
        refused(shown_to(&pool, "EXPIRED").await, "28000", 401);
    }

    #[tokio::test]
    async fn a_reader_reads_and_may_not_write() {
        let pool = pool().await;
        assert_eq!(shown_to(&pool, "VICTOR").await.unwrap(), OWN[0].1);
        let mut victor = identity(&pool, &token("VICTOR"), None).await.unwrap();
        refused(execute(&mut victor, "UPDATE invoice SET total = 0 WHERE id = 1").await, "42501", 403);
    }

    #[tokio::test]
    async fn a_nested_transaction_undoes_its_own_work_and_keeps_the_member() {
        let pool = pool().await;
        let mut alice = identity(&pool, &token("ALICE"), None).await.unwrap();
        execute(&mut alice, "INSERT INTO invoice (title) VALUES ('kept by sqlx')").await.unwrap();
        let mut nested = alice.begin().await.unwrap();
        execute(&mut nested, "INSERT INTO invoice (title) VALUES ('undone by sqlx')").await.unwrap();
        refused(smuggle(&mut nested).await, "42501", 403);
        nested.rollback().await.unwrap();
        assert_eq!(titles(&mut alice).await.unwrap(), OWN[0].1);
        alice.commit().await.unwrap();
        assert_eq!(titled(&pool, "ALICE", "kept by sqlx").await.unwrap().len(), 1);
        assert!(titled(&pool, "ALICE", "undone by sqlx").await.unwrap().is_empty());
        assert!(titled(&pool, "BOB", "kept by sqlx").await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_follows_a_swallowed_error_is_not_committed() {
        let pool = pool().await;
        let mut alice = identity(&pool, &token("ALICE"), None).await.unwrap();
        execute(&mut alice, "INSERT INTO invoice (title) VALUES ('swallowed by sqlx')").await.unwrap();
        execute(&mut alice, "SELECT 1 / 0").await.unwrap_err();
        alice.commit().await.unwrap();
        assert!(titled(&pool, "ALICE", "swallowed by sqlx").await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_was_not_committed_is_undone_and_leaves_nothing_to_the_next_user() {
        let pool = pool().await;
        let mut alice = identity(&pool, &token("ALICE"), None).await.unwrap();
        assert!(execute(&mut alice, "DELETE FROM invoice").await.unwrap() >= 3);
        drop(alice);
        for (subject, own) in OWN {
            refused(shown_to_nobody(&pool).await, "28000", 401);
            assert_eq!(shown_to(&pool, subject).await.unwrap(), own);
        }
    }
}

mod diesel {
    use diesel::connection::CacheSize;
    use diesel::prelude::*;
    use diesel::result::Error;
    use pg_tenancy_clients::with_diesel::{status_of, with_identity};

    use super::{OWN, token};

    diesel::table! {
        invoice (id) {
            id -> BigInt,
            title -> Text,
        }
    }

    /// PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE name the pooler.
    fn connect() -> PgConnection {
        let mut connection = PgConnection::establish("").unwrap();
        connection.set_prepared_statement_cache_size(CacheSize::Disabled);
        connection
    }

    fn titles(connection: &mut PgConnection) -> Result<Vec<String>, Error> {
        invoice::table.filter(invoice::id.lt(1000)).order(invoice::id).select(invoice::title).load(connection)
    }

    fn titled(connection: &mut PgConnection, subject: &str, title: &str) -> usize {
        with_identity(connection, &token(subject), None, |connection| {
            invoice::table.filter(invoice::title.eq(title)).select(invoice::title).load::<String>(connection)
        })
        .unwrap()
        .len()
    }

    fn insert(connection: &mut PgConnection, title: &str) -> Result<usize, Error> {
        diesel::insert_into(invoice::table).values(invoice::title.eq(title)).execute(connection)
    }

    #[track_caller]
    fn refused<T: std::fmt::Debug>(outcome: Result<T, Error>, name: Option<&str>, status: u16) {
        let error = outcome.unwrap_err();
        let Error::DatabaseError(_, refusal) = &error else { panic!("{error}") };
        assert_eq!((refusal.constraint_name(), status_of(&error)), (name, status), "{error}");
    }

    #[test]
    fn each_member_sees_their_own_rows_and_nobody_sees_any_afterwards() {
        let mut connections = [connect(), connect()];
        for _ in 0..10 {
            for (subject, own) in OWN {
                for connection in &mut connections {
                    assert_eq!(with_identity(connection, &token(subject), None, titles).unwrap(), own);
                    refused(connection.transaction(titles), Some("tenancy_context_missing"), 401);
                }
            }
        }
        assert_eq!(status_of(&Error::NotFound), 500);
    }

    #[test]
    fn the_rows_of_another_organization_are_not_found_by_their_id() {
        with_identity(&mut connect(), &token("ALICE"), None, |connection| {
            let title = |id| invoice::table.find(id).select(invoice::title);
            assert_eq!(title(1).first::<String>(connection)?, "acme one");
            assert_eq!(title(101).first::<String>(connection), Err(Error::NotFound));
            let other = invoice::table.find(101);
            assert_eq!(diesel::update(other).set(invoice::title.eq("stolen")).execute(connection)?, 0);
            assert_eq!(diesel::delete(other).execute(connection)?, 0);
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn a_new_row_belongs_to_the_organization_of_the_member() {
        let mut connection = connect();
        with_identity(&mut connection, &token("BOB"), Some("diesel-7"), |bob| insert(bob, "of diesel")).unwrap();
        assert_eq!(titled(&mut connection, "BOB", "of diesel"), 1);
        assert_eq!(titled(&mut connection, "ALICE", "of diesel"), 0);
    }

    #[test]
    fn without_a_good_token_nothing_is_shown() {
        let mut connection = connect();
        let malformed = with_identity(&mut connection, "", None, titles);
        refused(malformed, Some("tenancy_token_malformed"), 401);
        let expired = with_identity(&mut connection, &token("EXPIRED"), None, titles);
        refused(expired, Some("tenancy_token_expired"), 401);
    }

    #[test]
    fn a_reader_reads_and_may_not_write() {
        let mut connection = connect();
        assert_eq!(with_identity(&mut connection, &token("VICTOR"), None, titles).unwrap(), OWN[0].1);
        let write = with_identity(&mut connection, &token("VICTOR"), None, |connection| {
            diesel::update(invoice::table.find(1)).set(invoice::title.eq("changed")).execute(connection)
        });
        refused(write, Some("tenancy_permission_denied"), 403);
    }

    #[test]
    fn a_nested_transaction_undoes_its_own_work_and_keeps_the_member() {
        let mut connection = connect();
        with_identity(&mut connection, &token("ALICE"), None, |connection| {
            insert(connection, "kept by diesel")?;
            let nested = connection.transaction(|connection| {
                insert(connection, "undone by diesel")?;
                diesel::sql_query("SELECT 1 / 0").execute(connection)
            });
            refused(nested, None, 500);
            assert_eq!(titles(connection)?, OWN[0].1);
            Ok(())
        })
        .unwrap();
        assert_eq!(titled(&mut connection, "ALICE", "kept by diesel"), 1);
        assert_eq!(titled(&mut connection, "ALICE", "undone by diesel"), 0);
        assert_eq!(titled(&mut connection, "BOB", "kept by diesel"), 0);
    }

    #[test]
    fn an_error_of_the_application_undoes_everything_and_leaves_nothing_to_the_next_user() {
        let mut connection = connect();
        let failed = with_identity(&mut connection, &token("ALICE"), None, |connection| {
            assert!(diesel::delete(invoice::table).execute(connection)? >= 3);
            Err::<(), _>(Error::RollbackTransaction)
        });
        assert_eq!(failed, Err(Error::RollbackTransaction));
        for (subject, own) in OWN {
            refused(connection.transaction(titles), Some("tenancy_context_missing"), 401);
            assert_eq!(with_identity(&mut connection, &token(subject), None, titles).unwrap(), own);
        }
    }
}
