//! Secrets over real connections: who stores and destroys them, what others see, and what two sessions do at once.

use crate::common::*;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use futures_util::future::join;
use pg_tenancy_core::secrets::delivery::{self, Delivery, Submission};
use pg_tenancy_core::secrets::key::SecretKey;
use tokio_postgres::Client;
use uuid::Uuid;

/// Begins with secrets: a key of the test server's ring, and an editor who may read and create them.
pub async fn with_a_key(superuser: &Client) {
    let sql = "SELECT tenancy.add_key_encryption_key('first', 'test'),
                      tenancy.set_current_key_encryption_key('first', 'test'),
                      tenancy.grant_permission('reader', 'secret', 'read', 'create')";
    run(superuser, sql).await;
}

/// Stores a value as an application should, which never writes it into a statement.
pub async fn put(client: &Client, name: &str, value: &str) -> Result<Uuid, Refusal> {
    let put = client.query_one("SELECT tenancy.put_secret($1, $2)", &[&name, &value]).await;
    put.map(|row| row.get(0)).map_err(|error| Refusal::of(&error))
}

/// Reveals the current value.
pub async fn reveal(client: &Client, name: &str) -> Result<String, Refusal> {
    let revealed = client.query_one("SELECT tenancy.reveal_secret($1, 'test')", &[&name]).await;
    revealed.map(|row| row.get(0)).map_err(|error| Refusal::of(&error))
}

/// The key of the context's organization, which values are sealed to before they are sent.
pub struct Recipient {
    id: Uuid,
    key: Vec<u8>,
}

impl Recipient {
    pub async fn of(client: &Client) -> Self {
        let row = client.query_one("SELECT key_id, public_key FROM tenancy.secret_recipient()", &[]).await.unwrap();
        Recipient { id: Uuid::parse_str(row.get(0)).unwrap(), key: row.get(1) }
    }

    /// A value for the secret of that organization and name, as the functions take it.
    pub fn sealed(&self, organization: Uuid, name: &str, value: impl AsRef<[u8]>) -> String {
        let message = delivery::submit(&self.key, &Submission { organization, name }, value.as_ref()).unwrap();
        BASE64_STANDARD.encode([&self.id.as_bytes()[..], &message].concat())
    }
}

#[test]
fn what_was_stored_is_revealed_in_every_session_and_kind_of_transaction() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        with_a_key(&superuser).await;
        as_tenant(&client, &database.token("alice")).await;
        let values = ["x".to_owned(), "ä€\u{10ffff}\n'\";".to_owned(), "64".repeat(32), "x".repeat(65_536)];
        for (n, value) in values.iter().enumerate() {
            put(&client, &format!("value {n}"), value).await.unwrap();
            assert_eq!(
                reveal(&client, &format!("value {n}")).await.as_deref(),
                Ok(value.as_str()),
                "in its transaction"
            );
        }
        run(&client, "COMMIT").await;
        let other = database.application().await;
        for isolation in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE", "SERIALIZABLE, READ ONLY, DEFERRABLE"] {
            as_tenant(&other, &database.token("alice")).await;
            run(&other, "COMMIT").await;
            run(&other, &format!("BEGIN ISOLATION LEVEL {isolation}")).await;
            authenticate(&other, &database.token("alice")).await.unwrap();
            for (n, value) in values.iter().enumerate() {
                assert_eq!(reveal(&other, &format!("value {n}")).await.as_deref(), Ok(value.as_str()), "{isolation}");
            }
            run(&other, "COMMIT").await;
        }
        // What was destroyed a moment ago is not read with an older snapshot.
        run(&other, "BEGIN ISOLATION LEVEL REPEATABLE READ").await;
        authenticate(&other, &database.token("alice")).await.unwrap();
        assert_eq!(count(&other, "SELECT count(*) FROM tenancy.secret").await, 4);
        as_tenant(&client, &database.token("alice")).await;
        run(&client, "SELECT tenancy.destroy_secret('value 0', 'test'); COMMIT").await;
        assert_eq!(reveal(&other, "value 0").await.unwrap_err().sqlstate, "42704");
    });
}

#[test]
fn a_value_is_revealed_to_who_may_have_it_and_nobody_else() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        with_a_key(&superuser).await;
        as_tenant(&client, &database.token("alice")).await;
        put(&client, "aws", "a value").await.unwrap();
        run(&client, "SELECT tenancy.put_secret('of finance', 'v', domain => 'finance'); COMMIT").await;
        run(&superuser, "SELECT tenancy.revoke_permission('reader', '*', 'read')").await;

        as_tenant(&client, &database.token("victor")).await;
        let seen = refused_within(&client, "SELECT tenancy.reveal_secret('aws', 'test')").await;
        assert_eq!((seen.sqlstate.as_str(), seen.message.contains("may not reveal")), ("42501", true), "{seen:?}");
        let unseen = refused_within(&client, "SELECT tenancy.reveal_secret('of finance', 'test')").await;
        let absent = refused_within(&client, "SELECT tenancy.reveal_secret('of nobody', 'test')").await;
        assert_eq!(unseen.message.replace("finance", "nobody"), absent.message);
        assert_eq!((&unseen.sqlstate, &unseen.hint, &unseen.detail), (&absent.sqlstate, &absent.hint, &absent.detail));
        let version = refused_within(&client, "SELECT tenancy.reveal_secret('aws', 'test', 7)").await;
        assert_eq!(version.message, seen.message, "nor does it tell which versions there are");
        run(&client, "COMMIT").await;

        as_tenant(&client, &database.token("bob")).await;
        let theirs = reveal(&client, "aws").await.unwrap_err();
        assert_eq!((theirs.sqlstate.as_str(), theirs.message.as_str()), ("42704", "there is no secret \"aws\""));
        run(&client, "ROLLBACK").await;

        run(&superuser, "SELECT tenancy.grant_permission('reader', 'secret', 'reveal')").await;
        as_tenant(&client, &database.token("victor")).await;
        assert_eq!(reveal(&client, "aws").await.as_deref(), Ok("a value"));
        for version in ["2", "0", "-1", "2147483647"] {
            let unknown =
                refused_within(&client, &format!("SELECT tenancy.reveal_secret('aws', 'x', {version})")).await;
            assert_eq!((unknown.sqlstate.as_str(), unknown.message.contains("has no version")), ("42704", true));
        }
        run(&client, "COMMIT").await;
        assert_eq!(reveal(&client, "aws").await.unwrap_err().sqlstate, "28000", "without a context");
    });
}

#[test]
fn a_value_that_is_sealed_may_stand_in_a_statement() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        with_a_key(&superuser).await;
        run(&superuser, "SELECT tenancy.set_guardrail('literal_secret', 'enforce', 'test')").await;
        as_tenant(&client, &database.token("alice")).await;
        let sealed = Recipient::of(&client).await.sealed(ACME, "aws", b"a value");
        run(&client, &format!("SELECT tenancy.put_secret('aws', '{sealed}', sealed => true)")).await;
        assert_eq!(reveal(&client, "aws").await.as_deref(), Ok("a value"));
        let clear = refused_within(&client, "SELECT tenancy.put_secret('gcp', 'a value')").await;
        assert_eq!(clear.message, "the value stands in the text of the statement");
    });
}

#[test]
fn a_value_travels_sealed_both_ways() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        with_a_key(&superuser).await;
        as_tenant(&client, &database.token("alice")).await;
        let recipient = Recipient::of(&client).await;
        let seal = |organization, name, value: &[u8]| recipient.sealed(organization, name, value);
        let put = async |name: &str, text: &str| {
            let sql = "SELECT tenancy.put_secret($1, $2, sealed => true)::text";
            client.batch_execute("SAVEPOINT before").await.unwrap();
            let put = client.query_one(sql, &[&name, &text]).await.map_err(|error| Refusal::of(&error)).map(drop);
            if put.is_err() {
                client.batch_execute("ROLLBACK TO before").await.unwrap();
            }
            put
        };
        put("aws", &seal(ACME, "aws", b"a value")).await.unwrap();
        assert_eq!(reveal(&client, "aws").await.as_deref(), Ok("a value"));
        let good = seal(ACME, "gcp", b"a value");
        let mut altered = BASE64_STANDARD.decode(&good).unwrap();
        *altered.last_mut().unwrap() ^= 1;
        for (bad, why) in [
            (seal(ACME, "aws", b"v"), "for another secret"),
            (seal(GLOBEX, "gcp", b"v"), "for another organization"),
            (seal(ACME, "gcp", b"a\0b"), "a zero byte"),
            (seal(ACME, "gcp", b"\xff"), "not UTF-8"),
            (seal(ACME, "gcp", b""), "empty"),
            (seal(ACME, "gcp", &[b'x'; 65_537]), "too long"),
            (seal(ACME, "gcp", &[b'x'; 200_000]), "much too long"),
            (BASE64_STANDARD.encode(&altered), "altered"),
            (BASE64_STANDARD.encode(&altered[..20]), "cut off"),
            (BASE64_STANDARD.encode(&BASE64_STANDARD.decode(&good).unwrap()[16..]), "without the key's id"),
            ("a value".to_owned(), "not sealed"),
            (String::new(), "nothing"),
        ] {
            let refusal = put("gcp", &bad).await.expect_err(why);
            assert_eq!(refusal.sqlstate, "22023", "{why}: {refusal:?}");
        }
        put("gcp", &good).await.unwrap();
        let message = seal(ACME, "aws", b"another value");
        let begin = "SELECT tenancy.begin_rotation('aws', $1, sealed => true)";
        assert_eq!(client.query_one(begin, &[&message]).await.unwrap().get::<_, i32>(0), 2);
        client.batch_execute("SELECT tenancy.begin_rotation('gcp'); SAVEPOINT before").await.unwrap();
        let supply = "SELECT tenancy.supply_value('gcp', 2, $1, sealed => true)";
        let of_aws = client.query_one(supply, &[&message]).await.map_err(|error| Refusal::of(&error).sqlstate);
        assert_eq!(of_aws.map(drop), Err("22023".to_owned()), "for another secret");
        client.batch_execute("ROLLBACK TO before").await.unwrap();
        client.query_one(supply, &[&seal(ACME, "gcp", b"another value")]).await.unwrap();
        for (name, text) in [("aws", "another value"), ("gcp", "another value")] {
            let sql = format!("SELECT tenancy.reveal_secret('{name}', 'test', version => 2)");
            assert_eq!(value(&client, &sql).await, text, "the new version");
        }
        run(&client, "COMMIT").await;

        let private_key = SecretKey::generate();
        let public_key = delivery::public_key(&private_key).unwrap();
        as_tenant(&client, &database.token("alice")).await;
        let sql = "SELECT tenancy.reveal_secret('aws', 'nightly import', recipient => $1)";
        let message: String = client.query_one(sql, &[&public_key.as_slice()]).await.unwrap().get(0);
        let message = BASE64_STANDARD.decode(message).unwrap();
        let delivery = Delivery { organization: ACME, name: "aws", version: 1, purpose: "nightly import" };
        assert_eq!(delivery::receive(&private_key, &delivery, &message).unwrap()[..], *b"a value");
        for low in [&[0u8; 32][..], &[9; 31], &[9; 33], &[]] {
            run(&client, "SAVEPOINT before").await;
            let refusal = Refusal::of(&client.query_one(sql, &[&low]).await.unwrap_err());
            assert_eq!(refusal.sqlstate, "22023", "{low:?}: {refusal:?}");
            run(&client, "ROLLBACK TO before").await;
        }
        run(&client, "COMMIT").await;

        // Two ask at once for the first key of an organization, and get the same one.
        let other = database.application().await;
        let ask = async |client: &Client| {
            as_tenant(client, &database.token("bob")).await;
            let id = value(client, "SELECT key_id FROM tenancy.secret_recipient()").await;
            run(client, "COMMIT").await;
            id
        };
        let (one, two) = join(ask(&client), ask(&other)).await;
        assert_eq!(one, two);
    });
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

        run(&superuser, "SELECT tenancy.revoke_permission('reader', '*', 'read')").await;
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

/// Stores a role at AWS whose owner would like to choose the external id.
async fn put_role(client: &Client, name: &str) {
    let role = r#"{"role_arn": "arn:aws:iam::123456789012:role/costs", "external_id": "chosen"}"#;
    client.query_one("SELECT tenancy.put_secret($1, $2, 'aws_role')", &[&name, &role]).await.unwrap();
}

#[test]
fn the_external_id_of_a_role_is_made_for_its_secret_and_chosen_by_nobody() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        with_a_key(&superuser).await;
        let external_id = async |name: &str| value(&client, &format!("SELECT tenancy.external_id('{name}')")).await;
        // Two organizations hand over the same role.
        as_tenant(&client, &database.token("bob")).await;
        put_role(&client, "costs").await;
        let of_bob = external_id("costs").await;
        run(&client, "COMMIT").await;
        as_tenant(&client, &database.token("alice")).await;
        put_role(&client, "costs").await;
        put_role(&client, "costs too").await;
        let (one, other) = (external_id("costs").await, external_id("costs too").await);
        assert_eq!([&one, &other, &of_bob].map(|id| Uuid::parse_str(id).unwrap().get_version_num()), [4; 3]);
        assert!(one != other && one != of_bob, "{one}, {other}, {of_bob}");

        let role = r#"{"role_arn": "arn:aws:iam::123456789012:role/costs-2"}"#;
        client.query_one("SELECT tenancy.begin_rotation('costs', $1)", &[&role]).await.unwrap();
        run(&client, "SELECT tenancy.report_health('costs', 2, true), tenancy.promote('costs', 2); COMMIT").await;
        run(&client, "BEGIN READ ONLY").await;
        authenticate(&client, &database.token("alice")).await.unwrap();
        assert_eq!(external_id("costs").await, one, "after a rotation, and where nothing can be written");
        run(&client, "COMMIT").await;
        let event = "SELECT new_values ->> 'external_id' FROM tenancy.audit_trail
                      WHERE operation = 'put' AND new_values ->> 'name' = 'costs too'";
        assert_eq!(value(&superuser, event).await, other);
    });
}

#[test]
fn the_external_id_of_a_role_is_told_to_who_may_read_its_secret_and_nobody_else() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        with_a_key(&superuser).await;
        as_tenant(&client, &database.token("alice")).await;
        for name in ["costs", "destroyed"] {
            put_role(&client, name).await;
        }
        let role = r#"{"role_arn": "arn:aws:iam::123456789012:role/finance"}"#;
        let put = "SELECT tenancy.put_secret('of finance', $1, 'aws_role', domain => 'finance')";
        client.query_one(put, &[&role]).await.unwrap();
        run(&client, "SELECT tenancy.destroy_secret('destroyed', 'test'); COMMIT").await;
        run(&superuser, "SELECT tenancy.revoke_permission('reader', '*', 'read')").await;

        for (subject, unseen) in
            [("alice", vec!["destroyed"]), ("victor", vec!["destroyed", "of finance"]), ("bob", vec!["costs"])]
        {
            as_tenant(&client, &database.token(subject)).await;
            if subject != "bob" {
                let told = value(&client, "SELECT tenancy.external_id('costs')").await;
                assert_eq!(value(&client, "SELECT external_id FROM tenancy.secret WHERE name = 'costs'").await, told);
            }
            let absent = refused_within(&client, "SELECT tenancy.external_id('of nobody')").await;
            assert_eq!((absent.sqlstate.as_str(), absent.message.contains("no secret")), ("42704", true), "{absent:?}");
            for name in unseen {
                let refusal = refused_within(&client, &format!("SELECT tenancy.external_id('{name}')")).await;
                assert_eq!(refusal.message, absent.message.replace("of nobody", name), "{subject}");
                assert_eq!(
                    (refusal.sqlstate, &refusal.hint, &refusal.detail),
                    ("42704".into(), &absent.hint, &absent.detail)
                );
            }
            run(&client, "COMMIT").await;
        }
        assert_eq!(
            refused(&client, "SELECT tenancy.external_id('costs')").await.sqlstate,
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
        put_role(&client, "role").await;
        let external_id = "SELECT tenancy.external_id('role')";
        let told = value(&client, external_id).await;
        run(&client, "SELECT tenancy.destroy_secret('destroyed', 'test'); COMMIT").await;
        let all = "SELECT s::text FROM tenancy.secret s UNION ALL SELECT v::text FROM tenancy.secret_version v
                   UNION ALL SELECT v::text FROM tenancy.sealed_value v
                   UNION ALL SELECT d::text FROM tenancy.data_key d ORDER BY 1";
        let before = column(&superuser, all).await;
        assert_eq!(before.len(), 3 + 3 + 2 + 2);
        let name = database.restore_a_dump().await;
        let mut config = database.config();
        let copy = connect(config.dbname(&name)).await;
        assert_eq!(column(&copy, all).await, before);
        let change = refused(&copy, "UPDATE tenancy.secret SET scope = 'write'").await;
        assert_eq!(change.sqlstate, "42501", "the guard is on in the copy: {}", change.message);
        as_tenant(&copy, &database.token("alice")).await;
        assert_eq!(value(&copy, external_id).await, told, "the role's owner need not change its trust policy");
        run(&copy, "COMMIT").await;
        drop(copy);
        run(&superuser, &format!("DROP DATABASE {name} (FORCE)")).await;
    });
}
