//! Identity over real connections: whose token is accepted, whose is not, and from when on.

use std::path::PathBuf;

use crate::common::issuer::{AUDIENCE, ISSUER, base64url};
use crate::common::*;
use futures_util::future::join_all;
use jsonwebtoken::Algorithm;
use serde_json::json;
use tokio_postgres::Client;

const FINDINGS: &str = r#"SELECT count(*) FROM "Finding""#;

#[test]
fn tokens_of_every_algorithm_authenticate() {
    in_database(async |database| {
        let client = database.application().await;
        for algorithm in [Algorithm::HS256, Algorithm::ES256, Algorithm::EdDSA] {
            let token = database.issuer.sign(algorithm, &database.issuer.claims("alice"));
            as_tenant(&client, &token).await;
            assert_eq!(value(&client, "SELECT tenancy.org_id()").await, ACME.to_string(), "{algorithm:?}");
            assert_eq!(count(&client, FINDINGS).await, 5, "{algorithm:?}");
            run(&client, "COMMIT").await;
        }
    });
}

#[test]
fn what_the_token_says_is_what_the_accessors_say() {
    in_database(async |database| {
        let client = database.application().await;
        run(&client, "BEGIN").await;
        let sql = "SELECT tenancy.authenticate($1, NULL, 'request 7')::text";
        let organization: String = client.query_one(sql, &[&database.token("alice")]).await.unwrap().get(0);
        assert_eq!(organization, ACME.to_string());
        let who = whoami(&client).await;
        let expected = json!([true, false, "token", ACME, "alice", ISSUER, "admin", "session of alice", "request 7"]);
        let names = "authenticated expired method organization subject issuer role session_id correlation_id";
        assert_eq!(names.split(' ').map(|name| who[name].clone()).collect::<serde_json::Value>(), expected);
        assert_eq!(value(&client, "SELECT tenancy.subject()").await, "alice");
        assert_eq!(value(&client, "SELECT tenancy.actor_role()").await, "admin");
        assert_eq!(value(&client, "SELECT tenancy.correlation_id()").await, "request 7");
        assert_eq!(value(&client, "SELECT tenancy.claims() ->> 'aud'").await, AUDIENCE);
    });
}

/// Tokens that must be refused, by what is wrong with them.
fn refused_tokens(ours: &Issuer) -> Vec<(&'static str, String)> {
    let claims = |member: &str, value: serde_json::Value| {
        let mut claims = ours.claims("alice");
        claims[member] = value;
        claims
    };
    let sign = |claims: &serde_json::Value| ours.sign(Algorithm::HS256, claims);
    let good = ours.token("alice");
    let (input, signature) = good.rsplit_once('.').unwrap();
    let (header, _) = input.split_once('.').unwrap();
    let other_claims = base64url(claims("sub", json!("bob")).to_string());
    let none = base64url(json!({"alg": "none", "kid": "HS256"}).to_string());
    let stranger = Issuer::generate();
    vec![
        ("signed by another HMAC key", stranger.token("alice")),
        ("signed by another P-256 key", stranger.sign(Algorithm::ES256, &ours.claims("alice"))),
        ("signed by another Ed25519 key", stranger.sign(Algorithm::EdDSA, &ours.claims("alice"))),
        ("claims replaced under the signature", format!("{header}.{other_claims}.{signature}")),
        ("alg none with a signature", format!("{none}.{}.{signature}", base64url(ours.claims("alice").to_string()))),
        ("alg none without a signature", format!("{none}.{}.", base64url(ours.claims("alice").to_string()))),
        ("expired", sign(&claims("exp", json!(now() - 1)))),
        ("not yet valid", sign(&claims("nbf", json!(now() + 600)))),
        ("another audience", sign(&claims("aud", json!("another-database")))),
        ("an unknown issuer", sign(&claims("iss", json!("https://elsewhere.example/")))),
        ("an issuer without its last slash", sign(&claims("iss", json!("https://id.example")))),
        ("no subject", sign(&claims("sub", json!(null)))),
        ("an unknown kid", ours.sign_as("another", Algorithm::HS256, &ours.claims("alice"))),
        ("the kid of a key of another algorithm", ours.sign_as("ES256", Algorithm::HS256, &ours.claims("alice"))),
        ("no kid of a key: HS512", ours.sign_as("HS256", Algorithm::HS512, &ours.claims("alice"))),
        ("larger than 16 KiB", sign(&claims("padding", json!("x".repeat(16 * 1024))))),
        ("no token", "not a token".to_owned()),
        ("empty", String::new()),
        ("a subject who is no member", sign(&claims("sub", json!("stranger")))),
        ("an organization that the subject is no member of", sign(&claims("org_id", json!("globex")))),
        ("an organization that does not exist", sign(&claims("org_id", json!("nowhere")))),
    ]
}

/// What the server has logged so far; empty where the log cannot be found.
fn server_log() -> String {
    let log = std::env::var("PG_TENANCY_DATA").map(|data| PathBuf::from(data).with_file_name("server.log"));
    log.ok()
        .and_then(|path| std::fs::read(path).ok())
        .map_or_else(String::new, |log| String::from_utf8_lossy(&log).into())
}

#[test]
fn a_token_that_is_not_good_is_refused_without_being_repeated_anywhere() {
    in_database(async |database| {
        let client = database.application().await;
        let tokens = refused_tokens(&database.issuer);
        for (what, token) in &tokens {
            run(&client, "BEGIN").await;
            let refusal = authenticate(&client, token).await.expect_err(what);
            assert_eq!(refusal.sqlstate, "28000", "{what}: {refusal:?}");
            assert!(refusal.hint.as_ref().is_some_and(|hint| !hint.is_empty()), "{what}: {refusal:?}");
            run(&client, "ROLLBACK").await;
            assert_eq!(whoami(&client).await, json!({"authenticated": false}), "{what}");
            if let Some((_, signature)) = token.rsplit_once('.').filter(|(_, signature)| !signature.is_empty()) {
                assert!(!format!("{refusal:?}").contains(signature), "{what}: {refusal:?}");
                assert!(!server_log().contains(signature), "{what}: the log has the signature");
            }
        }
        let logged = server_log();
        assert!(
            std::env::var("PG_TENANCY_DATA").is_err() || logged.contains("the token's signature is not valid"),
            "the log that was searched is not the one that is written"
        );
    });
}

/// A statement that holds the token as a literal is logged by default settings: the log is not the extension's. Its
/// error fields are.
#[test]
fn a_token_in_the_text_of_a_statement_does_not_reach_the_fields_of_the_error() {
    in_database(async |database| {
        let client = database.application().await;
        for (what, token) in refused_tokens(&database.issuer) {
            let Some((_, signature)) = token.rsplit_once('.').filter(|(_, signature)| !signature.is_empty()) else {
                continue;
            };
            let refusal = refused(&client, &format!("SELECT tenancy.authenticate('{token}')")).await;
            assert_eq!(refusal.sqlstate, "28000", "{what}");
            assert!(!format!("{refusal:?}").contains(signature), "{what}: {refusal:?}");
            let log = server_log();
            let fields = log.lines().filter(|line| !line.contains("STATEMENT:  "));
            assert!(!fields.into_iter().any(|line| line.contains(signature)), "{what}");
        }
    });
}

#[test]
fn the_caller_chooses_among_the_organizations_of_a_member_and_no_other() {
    in_database(async |database| {
        let client = database.application().await;
        let token = database.token("carol");
        run(&client, "BEGIN").await;
        let refusal = authenticate(&client, &token).await.unwrap_err();
        assert_eq!(refusal.sqlstate, "28000");
        assert!(refusal.hint.unwrap().contains("organization =>"));
        for (organization, findings) in [(ACME, 5), (GLOBEX, 7)] {
            run(&client, "ROLLBACK; BEGIN").await;
            client.execute("SELECT tenancy.authenticate($1, $2)", &[&token, &organization]).await.unwrap();
            assert_eq!(count(&client, FINDINGS).await, findings);
        }
        for organization in [INITECH, uuid::Uuid::nil()] {
            run(&client, "ROLLBACK; BEGIN").await;
            let sql = "SELECT tenancy.authenticate($1, $2)";
            let refusal = Refusal::of(&client.execute(sql, &[&token, &organization]).await.unwrap_err());
            assert_eq!(refusal.sqlstate, "28000");
        }
    });
}

const SUSPEND: &str =
    "SELECT tenancy.set_membership('aaaaaaaa-0000-4000-8000-000000000001', 'alice', 'admin', status => 'suspended')";

async fn is_refused(client: &Client, token: &str) -> bool {
    match authenticate(client, token).await {
        Ok(()) => false,
        Err(refusal) => {
            assert_eq!((refusal.sqlstate.as_str(), refusal.hint.is_some()), ("28000", true));
            true
        }
    }
}

#[test]
fn a_suspended_member_is_refused_in_the_next_transaction() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        let token = database.token("alice");
        as_tenant(&client, &token).await;
        run(&superuser, SUSPEND).await;
        run(&client, "COMMIT; BEGIN").await;
        assert!(is_refused(&client, &token).await);
    });
}

#[test]
fn a_suspension_reaches_snapshots_that_are_older_than_it() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        let (token, other) = (database.token("alice"), database.token("bob"));
        for level in ["REPEATABLE READ", "SERIALIZABLE"] {
            run(&client, &format!("BEGIN ISOLATION LEVEL {level}; SAVEPOINT nobody")).await;
            authenticate(&client, &other).await.unwrap();
            assert_eq!(count(&client, FINDINGS).await, 7); // the snapshot is taken
            run(&client, "ROLLBACK TO nobody").await;
            run(&superuser, "BEGIN").await;
            run(&superuser, SUSPEND).await;
            run(&client, "SAVEPOINT s").await;
            assert!(!is_refused(&client, &token).await, "refused before the suspension was committed");
            run(&superuser, "COMMIT").await;
            assert!(is_refused(&client, &token).await, "{level}");
            run(&client, "ROLLBACK").await;
            run(&superuser, &SUSPEND.replace("suspended", "active")).await;
        }
    });
}

#[test]
fn a_suspended_organization_and_a_disabled_issuer_let_nobody_in() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        let token = database.token("alice");
        let switches = [
            (format!("SELECT tenancy.set_organization_status('{ACME}', 'suspended')"), "suspended", "active"),
            (format!("SELECT tenancy.set_issuer_status('{ISSUER}', 'disabled')"), "disabled", "active"),
        ];
        for (sql, off, on) in switches {
            run(&client, "BEGIN").await;
            assert!(!is_refused(&client, &token).await);
            run(&client, "COMMIT; BEGIN").await;
            run(&superuser, &sql).await;
            assert!(is_refused(&client, &token).await, "{sql}");
            run(&client, "ROLLBACK").await;
            run(&superuser, &sql.replace(off, on)).await;
        }
    });
}

#[test]
fn a_membership_that_ends_by_itself_ends_within_the_transaction() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        let sql =
            "SELECT tenancy.set_membership($1, 'alice', 'admin', valid_until => clock_timestamp() + interval '1 s')";
        superuser.execute(sql, &[&ACME]).await.unwrap();
        let token = database.token("alice");
        as_tenant(&client, &token).await;
        assert_eq!(count(&client, FINDINGS).await, 5);
        run(&client, "SELECT pg_sleep(1.1)").await;
        assert_eq!(refused(&client, FINDINGS).await.sqlstate, "28000");
        run(&client, "ROLLBACK; BEGIN").await;
        assert!(is_refused(&client, &token).await);
    });
}

#[test]
fn a_rotated_key_is_seen_by_a_session_that_has_the_old_one_parsed() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        let old = database.token("alice");
        as_tenant(&client, &old).await;
        let rotated = Issuer::generate();
        run(&superuser, "BEGIN").await;
        register(&superuser, &rotated).await;
        run(&client, "COMMIT; BEGIN").await;
        assert!(!is_refused(&client, &old).await, "the rotation is not committed yet");
        run(&client, "COMMIT; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await;
        run(&superuser, "COMMIT").await;
        assert!(is_refused(&client, &old).await, "a token of the old key");
        run(&client, "ROLLBACK; BEGIN").await;
        assert!(!is_refused(&client, &rotated.token("alice")).await, "a token of the new key");
    });
}

#[test]
fn a_rotation_that_was_rolled_back_leaves_the_keys_as_they_were() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        let rotated = Issuer::generate();
        run(&superuser, "BEGIN").await;
        register(&superuser, &rotated).await;
        assert!(!is_refused(&superuser, &rotated.token("alice")).await);
        run(&superuser, "ROLLBACK; BEGIN").await;
        assert!(!is_refused(&superuser, &database.token("alice")).await);
        assert!(is_refused(&superuser, &rotated.token("alice")).await);
    });
}

#[test]
fn a_permission_counts_from_the_next_authentication_on() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        let token = database.token("victor");
        let insert = r#"INSERT INTO "Finding" (title) VALUES ('by a reader')"#;
        as_tenant(&client, &token).await;
        run(&superuser, "SELECT tenancy.grant_permission('reader', 'finding', 'create')").await;
        assert_eq!(refused(&client, insert).await.sqlstate, "42501");
        run(&client, "ROLLBACK").await;
        as_tenant(&client, &token).await;
        run(&client, insert).await;
        run(&client, "ROLLBACK").await;
        run(&superuser, "SELECT tenancy.revoke_permission('reader', 'finding', 'create')").await;
        as_tenant(&client, &token).await;
        assert_eq!(refused(&client, insert).await.sqlstate, "42501");
    });
}

#[test]
fn a_read_only_transaction_can_authenticate() {
    in_database(async |database| {
        let client = database.application().await;
        run(&client, "BEGIN READ ONLY").await;
        authenticate(&client, &database.token("alice")).await.unwrap();
        assert_eq!(count(&client, FINDINGS).await, 5);
    });
}

#[test]
fn only_the_roles_of_the_extension_may_authenticate_or_set_up() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        for sql in [
            "SELECT * FROM tenancy.issuer",
            "SELECT * FROM tenancy.event",
            "SELECT * FROM tenancy.event_batch",
            "UPDATE tenancy.membership SET role = 'admin'",
            "SELECT tenancy.set_membership('aaaaaaaa-0000-4000-8000-000000000001', 'bob', 'admin')",
            "SELECT tenancy.create_organization('Mallory')",
            "SELECT tenancy.seal()",
            "SELECT * FROM tenancy.verify_audit()",
        ] {
            assert_eq!(refused(&client, sql).await.sqlstate, "42501", "{sql}");
        }
        let stranger = format!("stranger_of_{}", database.name);
        run(&superuser, &format!("CREATE ROLE {stranger}; SET ROLE {stranger}")).await;
        assert_eq!(refused(&superuser, "SELECT tenancy.authenticate('')").await.sqlstate, "42501");
        assert_eq!(refused(&superuser, "SELECT tenancy.whoami()").await.sqlstate, "42501");
        run(&superuser, &format!("RESET ROLE; DROP ROLE {stranger}")).await;
    });
}

#[test]
fn many_sessions_authenticate_at_once_and_each_stays_itself() {
    in_database(async |database| {
        let sessions = (0..8).map(async |n| {
            let client = database.application().await;
            let (subject, organization, findings) = [("alice", ACME, 5), ("bob", GLOBEX, 7)][n % 2];
            let algorithm = [Algorithm::HS256, Algorithm::ES256, Algorithm::EdDSA][n % 3];
            for _ in 0..20 {
                as_tenant(&client, &database.issuer.sign(algorithm, &database.issuer.claims(subject))).await;
                assert_eq!(value(&client, "SELECT tenancy.org_id()").await, organization.to_string());
                assert_eq!(count(&client, FINDINGS).await, findings);
                run(&client, "COMMIT").await;
            }
        });
        join_all(sessions).await;
    });
}
