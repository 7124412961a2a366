//! Secrets over real connections: who stores and destroys them, what others see, and what two sessions do at once.

use crate::common::*;
use futures_util::future::join;
use tokio_postgres::Client;

/// Begins with secrets: a key of the test server's ring, and an editor who may read and create them.
pub async fn with_a_key(superuser: &Client) {
    let sql = "SELECT tenancy.add_key_encryption_key('first', 'test'),
                      tenancy.set_current_key_encryption_key('first', 'test'),
                      tenancy.grant_permission('viewer', 'secret', 'read', 'create')";
    run(superuser, sql).await;
}

/// Stores a value as an application should, which never writes it into a statement.
pub async fn put(client: &Client, name: &str, value: &str) -> Result<uuid::Uuid, Refusal> {
    let put = client.query_one("SELECT tenancy.put_secret($1, $2)", &[&name, &value]).await;
    put.map(|row| row.get(0)).map_err(|error| Refusal::of(&error))
}

#[test]
fn another_organization_learns_nothing_of_a_secret() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        with_a_key(&superuser).await;
        as_tenant(&client, &database.token("alice")).await;
        put(&client, "aws", "the same value").await.unwrap();
        run(&client, "COMMIT").await;

        as_tenant(&client, &database.token("bob")).await;
        assert_eq!(value(&client, "SELECT tenancy.org_id()").await, GLOBEX.to_string());
        for table in ["secret", "secret_version"] {
            assert_eq!(count(&client, &format!("SELECT count(*) FROM tenancy.{table}")).await, 0, "{table}");
        }
        let theirs = refused_within(&client, "SELECT tenancy.destroy_secret('aws', 'mine')").await;
        let nobodys = refused_within(&client, "SELECT tenancy.destroy_secret('gcp', 'mine')").await;
        assert_eq!(theirs.message.replace("aws", "gcp"), nobodys.message);
        assert_eq!((theirs.sqlstate, theirs.detail, theirs.hint), (nobodys.sqlstate, nobodys.detail, nobodys.hint));
        put(&client, "aws", "the same value").await.unwrap();
        run(&client, "COMMIT").await;
        let fingerprints = "SELECT count(DISTINCT fingerprint) FROM tenancy.secret_version";
        assert_eq!(count(&superuser, fingerprints).await, 2, "equality does not show across organizations");
    });
}

#[test]
fn a_role_does_with_secrets_what_it_may_in_their_domain() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        with_a_key(&superuser).await;
        as_tenant(&client, &database.token("alice")).await;
        put(&client, "of alice", "v").await.unwrap();
        run(&client, "SELECT tenancy.put_secret('of finance', 'v', domain => 'finance'); COMMIT").await;

        run(&superuser, "SELECT tenancy.revoke_permission('viewer', '*', 'read')").await;
        as_tenant(&client, &database.token("victor")).await;
        put(&client, "of victor", "v").await.unwrap();
        assert_eq!(column(&client, "SELECT name FROM tenancy.secret ORDER BY 1").await, ["of alice", "of victor"]);
        assert_eq!(count(&client, "SELECT count(*) FROM tenancy.secret_version").await, 2);
        let elsewhere = refused_within(&client, "SELECT tenancy.put_secret('n', 'v', domain => 'finance')").await;
        assert_eq!((elsewhere.sqlstate.as_str(), elsewhere.message.contains("may not create")), ("42501", true));
        let seen = refused_within(&client, "SELECT tenancy.destroy_secret('of alice', 'why')").await;
        assert_eq!((seen.sqlstate.as_str(), seen.message.contains("may not destroy")), ("42501", true));
        let unseen = refused_within(&client, "SELECT tenancy.destroy_secret('of finance', 'why')").await;
        assert_eq!((unseen.sqlstate.as_str(), unseen.message.as_str()), ("42704", "there is no secret \"of finance\""));
        run(&client, "COMMIT").await;
        assert_eq!(
            refused(&client, "SELECT tenancy.put_secret('n', 'v')").await.sqlstate,
            "28000",
            "without a context"
        );
    });
}

#[test]
fn of_two_who_store_under_one_name_one_does_and_an_organization_gets_one_key() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        with_a_key(&superuser).await;
        let (one, other) = (database.application().await, database.application().await);
        for round in 0..10 {
            let name = format!("secret {round}");
            as_tenant(&one, &database.token("alice")).await;
            as_tenant(&other, &database.token("alice")).await;
            let store = async |client: &Client| {
                let put = put(client, &name, "v").await;
                run(client, "COMMIT").await;
                put
            };
            let (first, second) = join(store(&one), store(&other)).await;
            let refusals: Vec<_> = [first, second].into_iter().filter_map(Result::err).collect();
            assert_eq!(refusals.iter().map(|refusal| refusal.sqlstate.as_str()).collect::<Vec<_>>(), ["23505"]);
        }
        let keys = "SELECT purpose, count(*) FROM tenancy.data_key GROUP BY 1 ORDER BY 1";
        let one_each = ["fingerprint", "seal"].map(|purpose| vec![Some(purpose.to_owned()), Some("1".to_owned())]);
        assert_eq!(rows(&superuser, keys).await, one_each);
        assert_eq!(count(&superuser, "SELECT count(*) FROM tenancy.sealed_value").await, 10);
        seal_all(&superuser).await;
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn a_dump_carries_secrets_and_seals_nothing_twice() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        with_a_key(&superuser).await;
        as_tenant(&client, &database.token("alice")).await;
        put(&client, "kept", "a value").await.unwrap();
        put(&client, "destroyed", "another value").await.unwrap();
        run(&client, "SELECT tenancy.destroy_secret('destroyed', 'test'); COMMIT").await;
        let all = "SELECT s::text FROM tenancy.secret s UNION ALL SELECT v::text FROM tenancy.secret_version v
                   UNION ALL SELECT v::text FROM tenancy.sealed_value v
                   UNION ALL SELECT d::text FROM tenancy.data_key d ORDER BY 1";
        let before = column(&superuser, all).await;
        assert_eq!(before.len(), 2 + 2 + 1 + 2);
        let name = database.restore_a_dump().await;
        let mut config = database.config();
        let copy = connect(config.dbname(&name)).await;
        assert_eq!(column(&copy, all).await, before);
        let change = refused(&copy, "UPDATE tenancy.secret SET scope = 'write'").await;
        assert_eq!(change.sqlstate, "42501", "the guard is on in the copy: {}", change.message);
        drop(copy);
        run(&superuser, &format!("DROP DATABASE {name} (FORCE)")).await;
    });
}
