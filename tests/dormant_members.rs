//! Members who have not signed in for long: the guardrail `dormant_member`.

use crate::action_types::act;
use crate::common::*;
use crate::reads::{drained, on_a_server};
use crate::standby::{Standby, catch_up};
use tokio_postgres::Client;

/// What would be refused with 28000 by the guardrail has this detail.
const LONG: &str = "The member has not signed in for a long time.";

/// Sets the guardrail in the first organization.
fn set(state: &str) -> String {
    format!("SELECT tenancy.set_guardrail('dormant_member', '{state}', 'test', '{ACME}')")
}

/// Runs what only the extension may do.
async fn forge(superuser: &Client, sql: &str) {
    let triggers = [("guardrail", "keep_controls"), ("member_activity", "keep_member_activity")];
    let set =
        |how: &str| triggers.map(|(table, name)| format!("ALTER TABLE tenancy.{table} {how} TRIGGER {name};")).concat();
    run(superuser, &format!("{} {sql}; {}", set("DISABLE"), set("ENABLE ALWAYS"))).await;
}

/// Puts back by so many days what the time of a member counts from.
async fn make_older(superuser: &Client, days: u32) {
    let older =
        |table: &str, column: &str| format!("UPDATE tenancy.{table} SET {column} = {column} - interval '{days} days'");
    let all = [
        older("member_activity", "signed_in_at"),
        older("membership", "created_at"),
        older("membership", "reinstated_at"),
        older("guardrail", "on_since"),
    ];
    forge(superuser, &all.join("; ")).await;
}

/// Signs in on a new connection, which remembers nobody.
async fn sign_in(database: &Database, subject: &str) -> Option<Refusal> {
    let client = database.application().await;
    run(&client, "BEGIN").await;
    authenticate(&client, &database.token(subject)).await.err()
}

/// Who has a recorded sign-in.
async fn recorded(superuser: &Client) -> String {
    drained(superuser).await;
    value(superuser, "SELECT coalesce(string_agg(subject, ' ' ORDER BY subject), '') FROM tenancy.member_activity")
        .await
}

#[test]
fn who_has_not_signed_in_for_long_is_refused_until_somebody_lets_them_in_again() {
    on_a_server("dormant", "50ms", async |server| {
        let database = &Database::create(server.config()).await;
        let superuser = database.superuser().await;
        let more = format!(
            "SELECT tenancy.set_membership('{ACME}', 'dora', 'admin'),
                    tenancy.set_membership('{ACME}', 'emil', 'member')"
        );
        run(&superuser, &more).await;
        assert_eq!(sign_in(database, "emil").await, None);
        assert_eq!(recorded(&superuser).await, "", "nothing is recorded where the guardrail is off");

        // Nobody is refused for the time before sign-ins were recorded.
        make_older(&superuser, 1000).await;
        run(&superuser, &set("enforce")).await;
        make_older(&superuser, 89).await;
        assert_eq!(sign_in(database, "alice").await, None);
        assert_eq!(sign_in(database, "bob").await, None);
        assert_eq!(recorded(&superuser).await, "alice", "of the organization whose guardrail it is");

        // A day less than 90, and then no more.
        make_older(&superuser, 1).await;
        let refusal = sign_in(database, "emil").await.unwrap();
        assert_eq!((&*refusal.sqlstate, refusal.detail.as_deref()), ("28000", Some(LONG)));
        assert_eq!(sign_in(database, "alice").await, None);
        assert_eq!(sign_in(database, "bob").await, None);
        drained(&superuser).await;
        let denied = "SELECT count(*) FROM tenancy.audit_trail WHERE operation = 'authenticate' AND result = 'denied'
                         AND subject = 'emil'";
        assert_eq!(count(&superuser, denied).await, 1);
        assert_eq!(recorded(&superuser).await, "alice", "a sign-in that is refused is none");

        // The posture counts who would be refused: emil and dora.
        let posture = format!(
            "SELECT state || ' ' || count FROM tenancy.posture
              WHERE control = 'identity.dormant_members' AND organization = '{ACME}'"
        );
        let counted = "SELECT 'warn ' || count(*) FROM tenancy.membership m
                        WHERE m.status = 'active' AND tenancy.is_dormant(m.organization, m.issuer, m.subject)";
        let (posture_now, counted_now) = (value(&superuser, &posture).await, value(&superuser, counted).await);
        assert_eq!(posture_now, counted_now);

        // Nobody lets themselves in; an admin does, and it is an event.
        let client = database.application().await;
        let again = "SELECT tenancy.change_member('emil', status => 'active', reason => 'is back from leave')";
        act(&client, &database.token("alice"), again).await.unwrap();
        assert_eq!(sign_in(database, "emil").await, None);
        let reinstated =
            "SELECT count(*) FROM tenancy.audit_trail WHERE table_name = 'membership' AND operation = 'update'
                             AND reason = 'is back from leave' AND new_values ->> 'reinstated_at' IS NOT NULL";
        assert_eq!(count(&superuser, reinstated).await, 1);
        // Said again it changes nothing.
        act(&client, &database.token("alice"), again).await.unwrap();
        assert_eq!(count(&superuser, reinstated).await, 1);
        assert!(sign_in(database, "dora").await.is_some());
        run(&superuser, &format!("SELECT tenancy.set_membership('{ACME}', 'dora', 'admin')")).await;
        assert_eq!(sign_in(database, "dora").await, None);

        drained(&superuser).await;

        // Without a break the time goes on, whatever the state; after one it begins anew.
        make_older(&superuser, 91).await;
        run(&superuser, &set("warn")).await;
        run(&superuser, &set("enforce")).await;
        assert!(sign_in(database, "dora").await.is_some());
        run(&superuser, &set("off")).await;
        run(&superuser, &set("enforce")).await;
        assert_eq!(sign_in(database, "dora").await, None);
    });
}

#[test]
fn a_sign_in_is_recorded_whatever_becomes_of_its_transaction() {
    on_a_server("dormant-record", "50ms", async |server| {
        let database = &Database::create(server.config()).await;
        let superuser = database.superuser().await;
        run(&superuser, &set("warn")).await;
        let client = database.application().await;
        run(&client, "BEGIN READ ONLY").await;
        authenticate(&client, &database.token("alice")).await.unwrap();
        run(&client, "ROLLBACK").await;
        assert_eq!(recorded(&superuser).await, "alice");
        // Once a day: neither this session nor another records another one.
        let first = value(&superuser, "SELECT signed_in_at FROM tenancy.member_activity").await;
        for session in [&client, &database.application().await] {
            as_tenant(session, &database.token("alice")).await;
            run(session, "COMMIT").await;
        }
        drained(&superuser).await;
        assert_eq!(value(&superuser, "SELECT signed_in_at FROM tenancy.member_activity").await, first);
        // A day later another one does.
        let older = "UPDATE tenancy.member_activity SET signed_in_at = signed_in_at - interval '1 day'";
        assert_eq!(refused(&superuser, older).await.sqlstate, "42501");
        forge(&superuser, older).await;
        assert_eq!(sign_in(database, "alice").await, None);
        drained(&superuser).await;
        let later = format!("SELECT signed_in_at > '{first}' FROM tenancy.member_activity");
        assert_eq!(value(&superuser, &later).await, "t");

        // Who is warned of is let in, and counts as active from then on.
        make_older(&superuser, 91).await;
        let warned = "SELECT count(*) FROM tenancy.audit_trail WHERE operation = 'guardrail' AND result = 'warned'
                         AND subject = 'alice' AND new_values ->> 'guardrail' = 'dormant_member'";
        let client = database.application().await;
        for _ in 0..2 {
            as_tenant(&client, &database.token("alice")).await;
            run(&client, "COMMIT").await;
            // Whether the next one is told from memory is not certain.
            drained(&superuser).await;
        }
        assert_eq!(count(&superuser, warned).await, 1);
        run(&superuser, &set("enforce")).await;
        assert_eq!(sign_in(database, "alice").await, None);

        // A membership that is being dropped holds the worker up no more than one that is gone.
        let dropping = database.superuser().await;
        let drop =
            "BEGIN; SET LOCAL tenancy.override_reason = 'test'; DELETE FROM tenancy.membership WHERE subject = 'alice'";
        run(&dropping, drop).await;
        assert_eq!(sign_in(database, "alice").await, None);
        assert_eq!(recorded(&superuser).await, "alice");
        run(&dropping, "COMMIT").await;
        assert_eq!(recorded(&superuser).await, "", "it goes with the membership");
    });
}

#[test]
fn a_standby_refuses_whom_the_primary_refuses() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        let refusal = refused(&superuser, &set("warn")).await;
        assert_eq!((&*refusal.sqlstate, refusal.message.contains("recorded")), ("55000", true), "{refusal:?}");
        // As if the worker had been switched off since.
        let forced = format!(
            "INSERT INTO tenancy.guardrail (name, organization, state, reason, changed_by, changed_at, on_since)
             VALUES ('dormant_member', '{ACME}', 'enforce', 'test', 'test', now(), now() - interval '91 days');
             INSERT INTO tenancy.member_activity SELECT organization, issuer, subject, now() FROM tenancy.membership
              WHERE subject = 'alice'"
        );
        run(&superuser, &format!("SELECT tenancy.set_membership('{ACME}', 'dora', 'admin')")).await;
        make_older(&superuser, 100).await;
        forge(&superuser, &forced).await;
        let Some(standby) = Standby::start() else {
            skipped("the server is not one to be copied");
            return;
        };
        let there = standby.application(database).await;
        catch_up(&superuser, &there).await;
        for (subject, sqlstate) in [("alice", None), ("dora", Some("28000"))] {
            run(&there, "BEGIN").await;
            let refusal = authenticate(&there, &database.token(subject)).await.err();
            assert_eq!(refusal.map(|refusal| refusal.sqlstate).as_deref(), sqlstate, "{subject}");
            run(&there, "ROLLBACK").await;
        }
    });
}
