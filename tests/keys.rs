//! Keys that change under open sessions: files, retirement, revocation, and what is remembered of a token.

use std::time::Duration;

use crate::common::issuer::{AUDIENCE, ISSUER};
use crate::common::*;
use jsonwebtoken::Algorithm;
use serde_json::json;
use tokio::time::sleep;
use tokio_postgres::Client;

/// The verdict on the token in a transaction of its own.
async fn verdict(client: &Client, token: &str) -> Result<(), String> {
    run(client, "BEGIN").await;
    let outcome = authenticate(client, token).await;
    run(client, "ROLLBACK").await;
    outcome.map(|_| ()).map_err(|refusal| refusal.message)
}

/// Registers the issuer with the file `name`, which holds the keys of `issuer`.
async fn register_file(superuser: &Client, name: &str, issuer: &Issuer) {
    write_key_file(superuser, name, &issuer.key_set()).await;
    let sql = "SELECT tenancy.set_issuer($1, ARRAY[$2], jwks_file => $3, leeway_seconds => 0)";
    superuser.execute(sql, &[&ISSUER, &AUDIENCE, &name]).await.unwrap();
}

async fn remove_key_file(superuser: &Client, name: &str) {
    let folder = value(superuser, "SELECT current_setting('tenancy.jwks_directory')").await;
    superuser
        .batch_execute(&format!("COPY (SELECT 1) TO PROGRAM 'cat > /dev/null; rm \"{folder}/{name}\"'"))
        .await
        .unwrap();
}

/// What the set-up functions of another session do to a token that this session has just accepted, and so remembers.
#[test]
fn what_another_session_ends_is_ended_for_a_token_that_was_just_accepted() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        let token = database.token("alice");
        let cases = [
            (
                format!("SELECT tenancy.retire_key('{ISSUER}', 'HS256')"),
                format!("SELECT tenancy.retire_key('{ISSUER}', 'HS256', 'infinity')"),
                "the key that signed the token is retired",
            ),
            (
                format!("SELECT tenancy.revoke_session('{ISSUER}', 'session of alice')"),
                "SELECT tenancy.purge_revocations('tomorrow')".to_owned(),
                "the token was revoked",
            ),
            (
                format!("SELECT tenancy.revoke_subject('{ISSUER}', 'alice', now() + interval '1 second')"),
                "SELECT tenancy.purge_revocations('tomorrow')".to_owned(),
                "the token was revoked",
            ),
            (
                format!("SELECT tenancy.set_issuer_status('{ISSUER}', 'disabled')"),
                format!("SELECT tenancy.set_issuer_status('{ISSUER}', 'active')"),
                "is not known",
            ),
            (
                "UPDATE tenancy.issuer SET audiences = '{another}'".to_owned(),
                format!("UPDATE tenancy.issuer SET audiences = '{{{AUDIENCE}}}'"),
                "the token is meant for another audience",
            ),
        ];
        for (end, again, message) in cases {
            assert_eq!(verdict(&client, &token).await, Ok(()), "before {end}");
            run(&superuser, &end).await;
            let refusal = verdict(&client, &token).await.expect_err(&end);
            assert!(refusal.contains(message), "{end}: {refusal}");
            run(&superuser, &again).await;
            assert_eq!(verdict(&client, &token).await, Ok(()), "after {again}");
        }
    });
}

#[test]
fn a_remembered_token_still_expires() {
    in_database(async |database| {
        let client = database.application().await;
        let mut claims = database.issuer.claims("alice");
        claims["exp"] = json!(now() + 2);
        let token = database.issuer.sign(Algorithm::ES256, &claims);
        assert_eq!(verdict(&client, &token).await, Ok(()));
        assert_eq!(verdict(&client, &token).await, Ok(()), "remembered");
        sleep(Duration::from_millis(2_100)).await;
        assert_eq!(verdict(&client, &token).await, Err("the token has expired".to_owned()));
    });
}

#[test]
fn a_key_retires_by_itself_when_its_time_comes() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        let [old, new] = [Algorithm::ES256, Algorithm::EdDSA]
            .map(|algorithm| database.issuer.sign(algorithm, &database.issuer.claims("alice")));
        run(&superuser, &format!("SELECT tenancy.retire_key('{ISSUER}', 'ES256', clock_timestamp() + interval '2 s')"))
            .await;
        assert_eq!((verdict(&client, &old).await, verdict(&client, &new).await), (Ok(()), Ok(())), "the overlap");
        sleep(Duration::from_millis(2_100)).await;
        assert_eq!(verdict(&client, &old).await, Err("the key that signed the token is retired".to_owned()));
        assert_eq!(verdict(&client, &new).await, Ok(()));
    });
}

#[test]
fn a_changed_key_file_counts_at_once_in_sessions_that_have_read_the_old_one() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        let file = format!("{}.json", database.name);
        let rotated = Issuer::generate();
        let (old, new) = (database.token("alice"), rotated.token("alice"));
        register_file(&superuser, &file, &database.issuer).await;
        assert_eq!(verdict(&client, &old).await, Ok(()));
        assert_eq!(verdict(&client, &new).await, Err("the token's signature is not valid".to_owned()));
        write_key_file(&superuser, &file, &rotated.key_set()).await;
        assert_eq!(verdict(&client, &old).await, Err("the token's signature is not valid".to_owned()));
        assert_eq!(verdict(&client, &new).await, Ok(()));
        remove_key_file(&superuser, &file).await;
    });
}

#[test]
fn a_broken_key_file_leaves_the_last_good_keys_in_use() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        let file = format!("{}.json", database.name);
        let [hmac, public] = [Algorithm::HS256, Algorithm::ES256]
            .map(|algorithm| database.issuer.sign(algorithm, &database.issuer.claims("alice")));
        register_file(&superuser, &file, &database.issuer).await;
        assert_eq!(verdict(&client, &hmac).await, Ok(()));

        for broken in [r#"{"keys": [{"kty""#, r#"{"keys": []}"#, ""] {
            write_key_file(&superuser, &file, broken).await;
            assert_eq!(verdict(&client, &hmac).await, Ok(()), "{broken:?}");
            assert_eq!(verdict(&client, &public).await, Ok(()), "{broken:?}");
        }
        remove_key_file(&superuser, &file).await;
        assert_eq!(verdict(&client, &hmac).await, Ok(()), "gone");
        // A change of the issuer's row makes the session load it anew, and there is still no file.
        run(&superuser, &format!("SELECT tenancy.retire_key('{ISSUER}', 'unused')")).await;
        assert_eq!(verdict(&client, &hmac).await, Ok(()), "gone, and the issuer changed");

        // A session that has never read the file goes by the public keys that the issuer was registered with.
        let newcomer = database.application().await;
        assert_eq!(verdict(&newcomer, &public).await, Ok(()));
        assert_eq!(verdict(&newcomer, &hmac).await, Err("the issuer may not use the algorithm HS256".to_owned()));

        // And when the file is back, so are its keys.
        write_key_file(&superuser, &file, &database.issuer.key_set()).await;
        assert_eq!(verdict(&newcomer, &hmac).await, Ok(()));
        remove_key_file(&superuser, &file).await;
    });
}

#[test]
fn a_broken_key_file_is_told_once_per_version() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        let file = format!("{}.json", database.name);
        register_file(&superuser, &file, &database.issuer).await;
        let folder = value(&superuser, "SELECT current_setting('tenancy.jwks_directory')").await;
        let authenticate =
            format!("BEGIN;\nSELECT tenancy.authenticate('{}') \\g /dev/null\nCOMMIT;\n", database.token("alice"));
        let spoil = |with: &str| format!("COPY (SELECT '{with}') TO PROGRAM 'cat > \"{folder}/{file}\"';\n");
        let (once, twice) = (spoil("x"), spoil("xy"));
        let script = [&authenticate, &once, &authenticate, &authenticate, &twice, &authenticate].map(String::as_str);
        let told = run_script(database.program("psql"), script.concat().as_bytes());
        let warnings =
            told.matches("WARNING:  the key file of the issuer cannot be used; the last good keys stay in use");
        assert_eq!(warnings.count(), 2, "{told}");
        remove_key_file(&superuser, &file).await;
    });
}
