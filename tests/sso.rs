//! Single sign-on over real connections: who gets in once it is enforced, and that nobody is locked out for good.

use crate::common::issuer::AUDIENCE;
use crate::common::*;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tokio_postgres::Client;

/// Acme's own identity provider.
const SSO: &str = "https://sso.acme.example/";
const FINDINGS: &str = r#"SELECT count(*) FROM "Finding""#;
const CONNECTION: &str = "(SELECT id FROM tenancy.sso_connection WHERE name = 'Acme SSO')";

/// A token of Acme's provider, in the form of OpenID Connect, with what `change` adds or replaces.
fn sso_token(sso: &Issuer, subject: &str, change: Value) -> String {
    let mut claims = sso.claims(subject);
    claims["iss"] = json!(SSO);
    claims["amr"] = json!(["pwd", "hwk"]);
    claims["email"] = json!(format!("{subject}@acme.example"));
    for (name, value) in change.as_object().into_iter().flatten() {
        claims[name] = value.clone();
    }
    sso.sign(Algorithm::ES256, &claims)
}

/// Registers Acme's provider and its members there, and a connection with a verified domain in the state testing.
async fn set_up(admin: &Client) -> Issuer {
    let sso = Issuer::generate();
    let sql = "SELECT tenancy.set_issuer($1, ARRAY[$2], $3, leeway_seconds => 0)";
    admin.execute(sql, &[&SSO, &AUDIENCE, &sso.public_key_set()]).await.unwrap();
    run(
        admin,
        &format!(
            "SELECT tenancy.set_membership('{ACME}', 'sso-alice', 'admin', '{SSO}');
             SELECT tenancy.set_membership('{ACME}', 'sso-victor', 'reader', '{SSO}');
             SELECT tenancy.create_sso_connection('{ACME}', 'Acme SSO', '{SSO}', accepted_amr => '{{hwk,mfa}}');
             SELECT tenancy.add_sso_domain({CONNECTION}, 'acme.example');
             SELECT tenancy.verify_sso_domain(connection, name, challenge) FROM tenancy.sso_domain;
             SELECT tenancy.set_sso_break_glass({CONNECTION}, 'alice', 'https://id.example/');
             SELECT tenancy.set_sso_state({CONNECTION}, 'testing')"
        ),
    )
    .await;
    sso
}

async fn test_sso(admin: &Client, token: &str) -> (bool, String) {
    let sql = format!("SELECT succeeded, reason FROM tenancy.test_sso({CONNECTION}, $1)");
    let row = admin.query_one(&sql, &[&token]).await.unwrap();
    (row.get(0), row.get(1))
}

async fn set_state(admin: &Client, state: &str) {
    run(admin, &format!("SELECT tenancy.set_sso_state({CONNECTION}, '{state}')")).await;
}

/// As [`set_up`], tested and enforced.
async fn enforced(admin: &Client) -> Issuer {
    let sso = set_up(admin).await;
    let (succeeded, reason) = test_sso(admin, &sso_token(&sso, "sso-victor", json!({}))).await;
    assert!(succeeded, "{reason}");
    set_state(admin, "enforced").await;
    sso
}

/// The method by which a transaction of its own with this token gets in, or the message of the refusal.
async fn way_in(client: &Client, token: &str) -> String {
    run(client, "BEGIN").await;
    let way = match authenticate(client, token).await {
        Ok(()) => {
            assert_eq!(count(client, FINDINGS).await, 5);
            whoami(client).await["method"].as_str().unwrap().to_owned()
        }
        Err(refusal) => {
            assert_eq!(refusal.sqlstate, "28000", "{refusal:?}");
            refusal.message
        }
    };
    run(client, "ROLLBACK").await;
    way
}

const REFUSED: &str = "the organization requires single sign-on";

#[test]
fn once_enforced_only_tokens_of_single_sign_on_enter_the_organization() {
    in_database(async |database| {
        let (client, admin) = (database.application().await, database.owner().await);
        let sso = set_up(&admin).await;
        let good = sso_token(&sso, "sso-victor", json!({}));
        for (token, way) in [(&database.token("victor"), "token"), (&good, "token")] {
            assert_eq!(way_in(&client, token).await, way, "before it is enforced");
        }
        assert!(test_sso(&admin, &good).await.0);
        set_state(&admin, "enforced").await;
        let supabase = json!({"amr": [{"method": "mfa", "timestamp": now()}], "aal": "aal2"});
        for (token, way) in [
            (good, "token"),
            (sso_token(&sso, "sso-alice", supabase), "token"),
            (database.token("victor"), REFUSED),
            (database.token("carol"), "the subject is a member of several organizations, and none is named"),
            (sso_token(&sso, "sso-victor", json!({"amr": ["pwd"]})), REFUSED),
            (sso_token(&sso, "sso-victor", json!({"amr": null})), REFUSED),
            (sso_token(&sso, "sso-victor", json!({"email": "victor@globex.example"})), REFUSED),
            (sso_token(&sso, "sso-victor", json!({"email_verified": false})), REFUSED),
            (database.token("alice"), "break-glass"),
        ] {
            assert_eq!(way_in(&client, &token).await, way);
        }
        // The other organization is entered as before, also by a member of both.
        for subject in ["bob", "carol"] {
            run(&client, "BEGIN").await;
            client.execute("SELECT tenancy.authenticate($1, $2)", &[&database.token(subject), &GLOBEX]).await.unwrap();
            assert_eq!(count(&client, FINDINGS).await, 7);
            run(&client, "ROLLBACK; BEGIN").await;
            let sql = "SELECT tenancy.authenticate($1, $2)";
            let refusal = client.execute(sql, &[&database.token(subject), &ACME]).await.unwrap_err();
            let expected = if subject == "carol" {
                REFUSED
            } else {
                "the token is valid, but its subject has no active membership here"
            };
            assert_eq!(Refusal::of(&refusal).message, expected);
            run(&client, "ROLLBACK").await;
        }
    });
}

#[test]
fn the_refusal_says_which_condition_and_nothing_of_settings_or_token() {
    in_database(async |database| {
        let (client, admin) = (database.application().await, database.owner().await);
        let sso = enforced(&admin).await;
        for (token, condition) in [
            (database.token("victor"), "issuer"),
            (sso_token(&sso, "sso-victor", json!({"amr": ["pwd", "sms"]})), "\"amr\""),
            (sso_token(&sso, "sso-victor", json!({"email": "v@private.example"})), "\"email\""),
        ] {
            run(&client, "BEGIN").await;
            let refusal = authenticate(&client, &token).await.unwrap_err();
            run(&client, "ROLLBACK").await;
            assert_eq!(refusal.message, REFUSED);
            assert!(refusal.detail.as_ref().unwrap().contains(condition), "{refusal:?}");
            assert!(!refusal.hint.as_ref().unwrap().is_empty());
            let all = format!("{refusal:?}");
            for value in
                ["acme.example", "hwk", "mfa", "sms", "private.example", "alice", "victor", "Acme", "id.example"]
            {
                assert!(!all.contains(value), "{value} in {all}");
            }
        }
    });
}

#[test]
fn enforcement_and_its_end_count_from_the_next_authentication_on_whatever_the_snapshot() {
    in_database(async |database| {
        let (client, other, admin) =
            (database.application().await, database.application().await, database.owner().await);
        let sso = set_up(&admin).await;
        assert!(test_sso(&admin, &sso_token(&sso, "sso-victor", json!({}))).await.0);
        let token = database.token("victor");
        run(&client, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await;
        as_tenant(&other, &token).await;
        run(&admin, "BEGIN").await;
        set_state(&admin, "enforced").await;
        run(&client, "SAVEPOINT s").await;
        authenticate(&client, &token).await.expect("the enforcement is not committed yet");
        run(&client, "ROLLBACK TO s").await;
        run(&admin, "COMMIT").await;
        assert_eq!(authenticate(&client, &token).await.unwrap_err().message, REFUSED);
        run(&client, "ROLLBACK").await;
        assert_eq!(count(&other, FINDINGS).await, 5, "a transaction that is in stays in");
        run(&other, "COMMIT").await;
        assert_eq!(way_in(&other, &token).await, REFUSED);
        set_state(&admin, "testing").await;
        assert_eq!(way_in(&other, &token).await, "token");
    });
}

#[test]
fn changing_what_is_enforced_in_one_transaction_never_opens_the_door() {
    in_database(async |database| {
        let (client, admin) = (database.application().await, database.owner().await);
        let sso = enforced(&admin).await;
        let (old, new) = (json!({"acr": null}), json!({"acr": "gold"}));
        run(&admin, "BEGIN").await;
        set_state(&admin, "testing").await;
        assert_eq!(way_in(&client, &database.token("victor")).await, REFUSED, "others see the door shut");
        run(&admin, &format!("SELECT tenancy.alter_sso_connection({CONNECTION}, accepted_acr => '{{gold}}')")).await;
        assert!(!test_sso(&admin, &sso_token(&sso, "sso-victor", old.clone())).await.0);
        let early = format!("SELECT tenancy.set_sso_state({CONNECTION}, 'enforced')");
        assert_eq!(refused_within(&admin, &early).await.sqlstate, "55000");
        assert!(test_sso(&admin, &sso_token(&sso, "sso-victor", new.clone())).await.0);
        set_state(&admin, "enforced").await;
        assert_eq!(way_in(&client, &sso_token(&sso, "sso-victor", old.clone())).await, "token", "not committed yet");
        run(&admin, "COMMIT").await;
        assert_eq!(way_in(&client, &sso_token(&sso, "sso-victor", old)).await, REFUSED);
        assert_eq!(way_in(&client, &sso_token(&sso, "sso-victor", new)).await, "token");
    });
}

#[test]
fn a_provider_that_fails_locks_members_out_but_not_the_break_glass_admin() {
    in_database(async |database| {
        let (client, admin, superuser) =
            (database.application().await, database.owner().await, database.superuser().await);
        let sso = enforced(&admin).await;
        let good = sso_token(&sso, "sso-victor", json!({}));
        // The provider lost its keys; it was disabled; its row is gone, past the foreign key that forbids it.
        let keys = Issuer::generate().public_key_set();
        let lost_keys =
            format!("SELECT tenancy.set_issuer('{SSO}', ARRAY['{AUDIENCE}'], '{keys}', leeway_seconds => 0)");
        let disabled = format!("SELECT tenancy.set_issuer_status('{SSO}', 'disabled')");
        let delete = format!("DELETE FROM tenancy.issuer WHERE issuer = '{SSO}'");
        assert_eq!(refused(&superuser, &delete).await.sqlstate, "23503");
        let deleted = format!("SET session_replication_role = replica; {delete}; RESET session_replication_role");
        assert_eq!(way_in(&client, &good).await, "token");
        for failure in [lost_keys, disabled, deleted] {
            run(&superuser, &failure).await;
            assert_ne!(way_in(&client, &good).await, "token", "{failure}");
            assert_eq!(way_in(&client, &database.token("victor")).await, REFUSED, "{failure}");
            assert_eq!(way_in(&client, &database.token("alice")).await, "break-glass", "{failure}");
        }
        // And the administrator of the database opens the door again.
        set_state(&admin, "testing").await;
        assert_eq!(way_in(&client, &database.token("victor")).await, "token");
    });
}

#[test]
fn the_broken_glass_stands_in_every_event_of_its_transaction_and_in_no_other() {
    in_database(async |database| {
        let (client, admin, superuser) =
            (database.application().await, database.owner().await, database.superuser().await);
        let sso = enforced(&admin).await;
        let change = r#"UPDATE "Finding" SET title = title || '!' WHERE id = 1; INSERT INTO cloud_account
            (external_id) VALUES (gen_random_uuid()); COMMIT"#;
        as_tenant(&client, &database.token("alice")).await;
        run(&client, change).await;
        as_tenant(&client, &sso_token(&sso, "sso-alice", json!({}))).await;
        run(&client, change).await;
        seal(&superuser).await;
        assert_audit_is_whole(&superuser).await;
        let sql = "SELECT subject || ' ' || method || ' ' || count(*) FROM tenancy.audit_trail
                    WHERE subject IS NOT NULL GROUP BY subject, method ORDER BY 1";
        assert_eq!(column(&superuser, sql).await, ["alice break-glass 2", "sso-alice token 2"]);
    });
}

#[test]
fn an_outcome_survives_without_token_or_claims_and_without_an_identity() {
    in_database(async |database| {
        let (admin, superuser) = (database.owner().await, database.superuser().await);
        let sso = set_up(&admin).await;
        let token = sso_token(&sso, "sso-victor", json!({"email": "secret-address@elsewhere.example", "amr": ["hwk"]}));
        let stranger = sso_token(&sso, "sso-stranger", json!({}));
        let elsewhere = sso_token(&sso, "sso-victor", json!({"iss": "https://secret-issuer.example/"}));
        let forged = sso_token(&Issuer::generate(), "secret-subject", json!({}));
        for token in [&token, &stranger, &elsewhere, &forged, "not a token"] {
            assert!(!test_sso(&admin, token).await.0);
            assert_eq!(whoami(&admin).await, json!({"authenticated": false}));
        }
        assert_eq!(count(&admin, "SELECT count(*) FROM tenancy.sso_test WHERE NOT succeeded").await, 5);
        let subjects = "SELECT coalesce(subject, '-') FROM tenancy.sso_test ORDER BY tested_at";
        assert_eq!(column(&admin, subjects).await, ["sso-victor", "sso-stranger", "-", "-", "-"]);
        let kept = column(
            &superuser,
            "SELECT to_jsonb(t)::text FROM tenancy.sso_test t UNION ALL SELECT payload::text FROM tenancy.event WHERE \
                table_name = 'sso_test'",
        )
        .await;
        assert_eq!(kept.len(), 10);
        for kept in kept {
            assert!(!kept.contains("secret") && !kept.contains("eyJ") && !kept.contains("hwk"), "{kept}");
        }
        // In a transaction that has an identity, a test changes nothing of it.
        as_tenant(&admin, &database.token("bob")).await;
        assert!(test_sso(&admin, &sso_token(&sso, "sso-victor", json!({}))).await.0);
        assert_eq!(value(&admin, "SELECT tenancy.subject()").await, "bob");
        run(&admin, "ROLLBACK").await;
    });
}

#[test]
fn a_break_glass_admin_of_the_same_provider_is_warned_of() {
    in_database(async |database| {
        let admin = database.owner().await;
        let sso = set_up(&admin).await;
        assert!(test_sso(&admin, &sso_token(&sso, "sso-victor", json!({}))).await.0);
        let warnings = |database: &Database| {
            let sql = format!(
                "SELECT tenancy.set_sso_state({CONNECTION}, 'testing'), tenancy.set_sso_state({CONNECTION}, 'enforced')"
            );
            let done = database.program("psql").args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-c", &sql]).output().unwrap();
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            assert!(done.status.success(), "{said}");
            said.matches("WARNING:  the break-glass admin comes through the issuer of the connection").count()
        };
        assert_eq!(warnings(database), 0);
        run(&admin, &format!("SELECT tenancy.set_sso_break_glass({CONNECTION}, 'sso-alice', '{SSO}')")).await;
        assert_eq!(warnings(database), 1);
    });
}

#[test]
fn settings_that_change_while_they_are_enforced_are_not_enforced_untested() {
    in_database(async |database| {
        let (one, other) = (database.owner().await, database.owner().await);
        let sso = set_up(&one).await;
        assert!(test_sso(&one, &sso_token(&sso, "sso-victor", json!({}))).await.0);
        run(&one, &format!("BEGIN; SELECT tenancy.alter_sso_connection({CONNECTION}, accepted_acr => '{{gold}}')"))
            .await;
        let enforce = format!("SELECT tenancy.set_sso_state({CONNECTION}, 'enforced')");
        let (refusal, ()) = futures_util::future::join(refused(&other, &enforce), async {
            eventually(&database.superuser().await, "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)").await;
            run(&one, "COMMIT").await;
        })
        .await;
        assert_eq!(refusal.sqlstate, "55000", "{refusal:?}");
        assert!(refusal.detail.unwrap().starts_with("No test sign-in has succeeded"));
    });
}

#[test]
fn of_two_organizations_that_verify_a_domain_at_once_one_gets_it() {
    in_database(async |database| {
        let (one, other) = (database.owner().await, database.owner().await);
        set_up(&one).await;
        let verify = "SELECT tenancy.verify_sso_domain(connection, name, challenge) FROM tenancy.sso_domain WHERE \
            name = 'contested.example' AND organization = ";
        for (client, organization, name) in [(&one, ACME, "First"), (&other, GLOBEX, "Second")] {
            let add = format!(
                "SELECT tenancy.add_sso_domain(tenancy.create_sso_connection('{organization}', '{name}', '{SSO}'), \
                    'contested.example')"
            );
            run(client, &format!("BEGIN; {add}; COMMIT; BEGIN")).await;
        }
        assert_eq!(value(&one, &format!("{verify}'{ACME}'")).await, "t");
        let second = format!("{verify}'{GLOBEX}'");
        let (refusal, ()) = futures_util::future::join(refused(&other, &second), async {
            eventually(&database.superuser().await, "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)").await;
            run(&one, "COMMIT").await;
        })
        .await;
        assert_eq!(refusal.sqlstate, "23505", "{refusal:?}");
    });
}

#[test]
fn a_restored_dump_enforces_what_was_enforced_and_its_audit_is_whole() {
    in_database(async |database| {
        let (admin, superuser) = (database.owner().await, database.superuser().await);
        let sso = enforced(&admin).await;
        seal(&superuser).await;
        set_state(&admin, "testing").await; // an event that is not sealed
        set_state(&admin, "enforced").await;
        let restored = database.restore_a_dump().await;

        let there = connect(database.config().dbname(&restored)).await;
        for table in ["sso_connection", "sso_domain", "sso_test"] {
            let rows = format!("SELECT to_jsonb(t)::text FROM tenancy.{table} t ORDER BY 1");
            let kept = column(&superuser, &rows).await;
            assert!(!kept.is_empty());
            assert_eq!(column(&there, &rows).await, kept, "{table}");
        }
        // What a restore brings has its events already.
        let events = "SELECT table_name || ' ' || method || ' ' || count(*) FROM tenancy.audit_trail
                       WHERE domain = 'sso' AND operation = 'insert' GROUP BY table_name, method ORDER BY 1";
        assert_eq!(column(&superuser, events).await, ["sso_connection none 1", "sso_domain none 1", "sso_test none 1"]);
        assert_eq!(column(&there, events).await, ["sso_connection none 1", "sso_domain none 1", "sso_test none 1"]);
        seal(&there).await;
        assert_audit_is_whole(&there).await;
        let client = connect(database.config().dbname(&restored).user(APPLICATION)).await;
        assert_eq!(way_in(&client, &database.token("victor")).await, REFUSED);
        assert_eq!(way_in(&client, &sso_token(&sso, "sso-victor", json!({}))).await, "token");
        assert_eq!(way_in(&client, &database.token("alice")).await, "break-glass");
        set_state(&there, "testing").await;
        seal(&there).await;
        assert_audit_is_whole(&there).await;
        drop((there, client));
        run(&superuser, &format!("DROP DATABASE {restored} WITH (FORCE)")).await;
    });
}
