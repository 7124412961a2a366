//! Break-glass: who asks, who approves, who uses it for how long, and what two sessions do at once.

use crate::action_types::act;
use crate::common::*;
use crate::secrets::with_a_key;
use futures_util::future::join;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio_postgres::Client;

const LEVELS: [&str; 3] = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"];

/// Acme has two more admins, and nora, who reads findings and may ask for break-glass and use it.
pub async fn prepare(superuser: &Client) {
    let sql = format!(
        "SELECT tenancy.set_membership('{ACME}', 'dora', 'admin'), tenancy.set_membership('{ACME}', 'emil', 'admin'),
                tenancy.create_role('oncall'), tenancy.grant_permission('oncall', 'finding', 'read'),
                tenancy.grant_permission('oncall', 'break_glass', 'request', 'use'),
                tenancy.set_membership('{ACME}', 'nora', 'oncall'),
                tenancy.set_guardrail('unrecorded_break_glass', 'off', 'no worker here')"
    );
    run(superuser, &sql).await;
}

pub fn request(more: &str) -> String {
    format!("SELECT tenancy.request_break_glass('the night job has failed'{more})")
}

pub const FINDINGS: &str = ", permissions => '{finding:*}'";

pub fn approve(id: &str) -> String {
    format!("SELECT tenancy.approve_break_glass('{id}', 'seen')")
}

pub fn elevate(id: &str) -> String {
    format!("SELECT tenancy.break_glass('{id}')")
}

pub fn end(id: &str) -> String {
    format!("SELECT tenancy.end_break_glass('{id}', 'enough')")
}

pub fn sign_off(id: &str) -> String {
    format!("SELECT tenancy.sign_off_break_glass('{id}', 'appropriate', 'as it should be')")
}

pub const CHANGE: &str = r#"UPDATE "Finding" SET title = 'mended' WHERE id = 1 RETURNING title"#;

/// A grant of findings for nora, which dora has approved.
pub async fn approved(database: &Database, client: &Client, more: &str) -> String {
    let id = act(client, &database.token("nora"), &request(&format!("{FINDINGS}{more}"))).await.unwrap();
    act(client, &database.token("dora"), &approve(&id)).await.unwrap();
    id
}

pub async fn state(superuser: &Client, id: &str) -> String {
    value(superuser, &format!("SELECT state FROM tenancy.break_glass_grant WHERE id = '{id}'")).await
}

#[test]
fn what_another_approves_counts_for_a_while_and_a_third_person_signs_it_off() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        let nora = database.token("nora");
        let id = approved(database, &client, ", duration => '10 minutes'").await;
        assert_eq!(act(&client, &nora, CHANGE).await.unwrap_err().sqlstate, "42501", "the role alone changes nothing");
        as_tenant(&client, &nora).await;
        let end_at = value(&client, &elevate(&id)).await;
        assert_eq!(value(&client, &elevate(&id)).await, end_at, "again it changes nothing");
        assert_eq!(value(&client, CHANGE).await, "mended");
        run(&client, "COMMIT").await;
        let lasts = format!(
            "SELECT state = 'active' AND ends_at - activated_at = '10 minutes' AND ends_at = '{end_at}'
               FROM tenancy.break_glass_grant WHERE id = '{id}'"
        );
        assert_eq!(value(&superuser, &lasts).await, "t", "the duration runs from the activation");
        let without = act(&client, &nora, CHANGE).await.unwrap_err();
        assert_eq!(without.sqlstate, "42501", "it is for transactions that ask for it");
        assert_eq!(act(&client, &database.token("dora"), &sign_off(&id)).await.unwrap_err().sqlstate, "55000");
        act(&client, &nora, &end(&id)).await.unwrap();
        assert_eq!(act(&client, &nora, &elevate(&id)).await.unwrap_err().sqlstate, "55000");

        seal_all(&superuser).await;
        let alice = database.token("alice");
        let report = format!("SELECT tenancy.break_glass_report('{id}')::text");
        let report: Value = serde_json::from_str(&act(&client, &alice, &report).await.unwrap()).unwrap();
        let events = report["report"]["events"].as_array().unwrap();
        let change = events.iter().find(|event| event["operation"] == "update").expect("the change");
        let title = |values: &Value| {
            let values: Value = serde_json::from_str(values.as_str().unwrap()).unwrap();
            values["title"].as_str().unwrap().to_owned()
        };
        assert_eq!((title(&change["new"]), title(&change["old"])), ("mended".into(), "acme finding 1".into()));
        let bytes = serde_json::to_vec(&report["report"]).unwrap();
        let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(report["digest"], digest.as_str(), "anybody computes the digest of what is told");

        let own = act(&client, &nora, &sign_off(&id)).await.unwrap_err();
        assert_eq!(own.sqlstate, "42501", "{}", own.message);
        act(&client, &alice, &sign_off(&id)).await.unwrap();
        assert_eq!(state(&superuser, &id).await, "signed_off");
        seal_all(&superuser).await;
        let signed = "SELECT new_values ->> 'report_digest' FROM tenancy.audit_trail
                       WHERE operation = 'break_glass_signed_off'";
        let digest = value(&superuser, signed).await;
        let later = format!("SELECT tenancy.break_glass_report('{id}') ->> 'digest'");
        assert_eq!(act(&client, &alice, &later).await.unwrap(), digest, "the report can be proved later");
        let operations = "SELECT string_agg(operation, ' ' ORDER BY id) FROM tenancy.audit_trail
                           WHERE domain = 'break_glass' AND result = 'success'
                             AND operation <> 'statement'";
        assert_eq!(
            value(&superuser, operations).await.replace("break_glass_", ""),
            "requested approved activated ended signed_off",
            "a transition is one event"
        );
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn what_a_grant_adds_is_given_on_only_where_the_guardrail_lets_it() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        let permissions = ", permissions => '{member:create, finding:update}'";
        let id = act(&client, &database.token("nora"), &request(permissions)).await.unwrap();
        act(&client, &database.token("dora"), &approve(&id)).await.unwrap();
        let define = |name: &str, rules: &str| format!("SELECT tenancy.define_role('{name}', '{{{rules}}}')");
        for (name, rules) in [("within", "finding:read, finding:update"), ("beyond", "finding:read, finding:delete")] {
            act(&client, &database.token("alice"), &define(name, rules)).await.unwrap();
        }
        let hits = "SELECT count(*) FROM tenancy.event WHERE operation = 'guardrail' AND result = 'warned'
                       AND payload -> 'new' ->> 'guardrail' = 'grant_under_elevation'";
        for (state, passes, warned) in [("enforce", false, 0), ("warn", true, 1), ("off", true, 1)] {
            run(&superuser, &format!("SELECT tenancy.set_guardrail('grant_under_elevation', '{state}', 'test')")).await;
            as_tenant(&client, &database.token("nora")).await;
            run(&client, &elevate(&id)).await;
            let beyond = refused_within(&client, "SELECT tenancy.add_member('beyond', 'beyond')").await;
            assert_eq!((&beyond.sqlstate[..], beyond.message.contains("more than")), ("42501", true), "{state}");
            match passes {
                true => run(&client, &format!("SELECT tenancy.add_member('{state}', 'within')")).await,
                false => {
                    let within = refused_within(&client, "SELECT tenancy.add_member('within', 'within')").await;
                    assert_eq!((&within.sqlstate[..], within.message.contains("adds")), ("42501", true), "{state}");
                }
            }
            run(&client, "COMMIT").await;
            assert_eq!(count(&superuser, hits).await, warned, "{state}");
        }
    });
}

#[test]
fn whoever_works_under_a_grant_can_end_it_and_approves_nothing_by_it() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        let exception = "SELECT tenancy.add_exception('finding', 'disk', 'a reason that says enough', now() + '1 day')";
        let exception = act(&client, &database.token("alice"), exception).await.unwrap();
        let id = act(&client, &database.token("nora"), &request(", permissions => '{exception:*}'")).await.unwrap();
        act(&client, &database.token("dora"), &approve(&id)).await.unwrap();
        as_tenant(&client, &database.token("nora")).await;
        run(&client, &elevate(&id)).await;
        let decide = format!("SELECT tenancy.decide_exception('{exception}', true, 'test')");
        let refusal = refused_within(&client, &decide).await;
        assert_eq!((&refusal.sqlstate[..], refusal.message.contains("by itself")), ("42501", true), "{refusal:?}");
        run(&client, &end(&id)).await;
        assert!(refused(&client, CHANGE).await.message.contains("has ended"));
        run(&client, "ROLLBACK").await;
        assert_eq!(state(&superuser, &id).await, "active", "the end was rolled back");
        as_tenant(&client, &database.token("nora")).await;
        run(&client, &elevate(&id)).await;
        run(&client, &end(&id)).await;
        run(&client, "COMMIT").await;
        assert_eq!(state(&superuser, &id).await, "ended");
    });
}

#[test]
fn who_loses_the_right_while_waiting_for_the_organization_decides_about_no_grant() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        let alice = database.token("alice");
        for (name, rules) in [("seconder", "finding:*, break_glass:*"), ("finder", "finding:*")] {
            act(&client, &alice, &format!("SELECT tenancy.define_role('{name}', '{{{rules}}}')")).await.unwrap();
        }
        let become_one = |role: &str| format!("SELECT tenancy.set_membership('{ACME}', 'sam', '{role}')");
        run(&superuser, &become_one("seconder")).await;
        let (sam, other) = (database.token("sam"), database.superuser().await);
        let asked = act(&client, &database.token("nora"), &request(FINDINGS)).await.unwrap();
        let used = approved(database, &client, ", ticket => 'T-1'").await;
        act(&client, &database.token("nora"), &elevate(&used)).await.unwrap();
        let deny = format!("SELECT tenancy.deny_break_glass('{asked}', 'no')");
        for sql in [approve(&asked), deny, end(&used)] {
            // What is asked for lies within the role of sam all the time.
            let lose = format!("SELECT FROM tenancy.organization WHERE id = '{ACME}' FOR UPDATE");
            run(&other, &format!("BEGIN; {lose}; {}", become_one("finder"))).await;
            let losing = async {
                eventually(&superuser, SOMEBODY_WAITS).await;
                run(&other, "COMMIT").await;
            };
            let (decided, ()) = join(act(&client, &sam, &sql), losing).await;
            let refusal = decided.expect_err(&sql);
            assert_eq!((&refusal.sqlstate[..], refusal.message.contains("by itself now")), ("42501", true), "{sql}");
            run(&superuser, &become_one("seconder")).await;
        }
        let states = (state(&superuser, &asked).await, state(&superuser, &used).await);
        assert_eq!(states, ("requested".to_owned(), "active".to_owned()));
        act(&client, &sam, &approve(&asked)).await.unwrap();
    });
}

#[test]
fn neither_who_asks_nor_who_gains_approves_it() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        let (alice, dora) = (database.token("alice"), database.token("dora"));
        let for_dora = request(", overrides => '{overdue_rotation}', for_subject => 'dora'");
        let id = act(&client, &alice, &for_dora).await.unwrap();
        for interested in [&alice, &dora] {
            let hurry = format!("SET LOCAL tenancy.override_reason = 'hurry'; {}", approve(&id));
            let refusal = act(&client, interested, &hurry).await.unwrap_err();
            assert_eq!((refusal.sqlstate.as_str(), refusal.message.contains("not approved by")), ("42501", true));
        }
        assert_eq!(state(&superuser, &id).await, "requested");
        let operator = format!("BEGIN; SELECT tenancy.assume_organization('{ACME}', 'test'); {}", approve(&id));
        assert_eq!(refused(&superuser, &operator).await.sqlstate, "42501");
        run(&superuser, "ROLLBACK; SELECT tenancy.set_guardrail('self_approved_break_glass', 'warn', 'test')").await;
        act(&client, &alice, &approve(&id)).await.unwrap();
        assert_eq!(state(&superuser, &id).await, "approved");
        let bypass = "SELECT count(*) FROM tenancy.audit_trail
                       WHERE operation = 'guardrail' AND result = 'warned'
                         AND new_values ->> 'guardrail' = 'self_approved_break_glass'";
        assert_eq!(count(&superuser, bypass).await, 1, "who passed the guardrail is recorded");
    });
}

#[test]
fn an_activation_stays_whatever_becomes_of_the_transaction() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        let nora = database.token("nora");
        let id = approved(database, &client, "").await;
        as_tenant(&client, &nora).await;
        let end_at = value(&client, &elevate(&id)).await;
        assert_eq!(value(&client, CHANGE).await, "mended");
        run(&client, "ROLLBACK").await;
        assert_eq!(state(&superuser, &id).await, "active");
        as_tenant(&client, &nora).await;
        assert_eq!(value(&client, &elevate(&id)).await, end_at, "its time goes on");
        run(&client, "ROLLBACK").await;

        // In a READ ONLY transaction, within a savepoint that is taken back, and of a session that is killed.
        let id = approved(database, &client, ", ticket => 'second'").await;
        run(&client, "BEGIN READ ONLY").await;
        authenticate(&client, &nora).await.unwrap();
        run(&client, &format!("SAVEPOINT s; {}; ROLLBACK TO s", elevate(&id))).await;
        assert_eq!(state(&superuser, &id).await, "active");
        assert_eq!(refused_within(&client, CHANGE).await.sqlstate, "42501", "the elevation was rolled back");
        run(&client, &format!("ROLLBACK TO s; {}", elevate(&id))).await;
        assert_eq!(refused_within(&client, CHANGE).await.sqlstate, "25006");
        let pid = value(&client, "SELECT pg_backend_pid()").await;
        run(&superuser, &format!("SELECT pg_terminate_backend({pid}, 5000)")).await;
        assert_eq!(state(&superuser, &id).await, "active");
        let activated = "SELECT count(*) FROM tenancy.audit_trail WHERE operation = 'break_glass_activated'
                            AND subject = 'nora' AND method = 'token'";
        assert_eq!(count(&superuser, activated).await, 2, "each activation is one event, by who asked for it");
    });
}

#[test]
fn a_revocation_counts_in_the_next_statement_of_an_open_transaction() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        let admin = database.application().await;
        prepare(&superuser).await;
        let (nora, dora) = (database.token("nora"), database.token("dora"));
        for (round, level) in LEVELS.into_iter().enumerate() {
            let id = approved(database, &admin, &format!(", ticket => '{round}'")).await;
            run(&client, &format!("BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM pg_class")).await;
            authenticate(&client, &nora).await.unwrap();
            run(&client, &elevate(&id)).await;
            run(&client, r#"DECLARE c CURSOR FOR SELECT title FROM "Finding"; FETCH c; SAVEPOINT s"#).await;
            assert_eq!(value(&client, CHANGE).await, "mended", "{level}");
            act(&admin, &dora, &end(&id)).await.unwrap();
            for sql in [CHANGE, "FETCH c", "SELECT 1"] {
                let refusal = refused_within(&client, sql).await;
                assert_eq!(refusal.sqlstate, "42501", "{level}, {sql}: {}", refusal.message);
                run(&client, "ROLLBACK TO s").await;
            }
            run(&client, "ROLLBACK").await;
            assert_eq!(state(&superuser, &id).await, "revoked");
            // Nor does a suspended beneficiary go on.
            let id = approved(database, &admin, &format!(", ticket => 'again {round}'")).await;
            as_tenant(&client, &nora).await;
            run(&client, &elevate(&id)).await;
            act(&admin, &dora, "SELECT tenancy.change_member('nora', status => 'suspended')").await.unwrap();
            assert_eq!(refused_within(&client, "SELECT 1").await.sqlstate, "42501");
            run(&client, "ROLLBACK").await;
            assert_eq!(state(&superuser, &id).await, "revoked");
            act(&admin, &dora, "SELECT tenancy.change_member('nora', status => 'active')").await.unwrap();
            // Nor one whom who administers the database suspends or removes.
            for (number, gone) in [
                format!("SELECT tenancy.set_membership('{ACME}', 'nora', 'oncall', status => 'suspended')"),
                format!("SELECT tenancy.remove_membership('{ACME}', 'nora')"),
            ]
            .into_iter()
            .enumerate()
            {
                let id = approved(database, &admin, &format!(", ticket => 'gone {round} {number}'")).await;
                as_tenant(&client, &nora).await;
                run(&client, &elevate(&id)).await;
                run(&superuser, &gone).await;
                assert_eq!(refused_within(&client, "SELECT 1").await.sqlstate, "42501");
                run(&client, "ROLLBACK").await;
                assert_eq!(state(&superuser, &id).await, "revoked", "{gone}");
                run(&superuser, &format!("SELECT tenancy.set_membership('{ACME}', 'nora', 'oncall')")).await;
            }
        }
        let revoked = "SELECT count(*) FROM tenancy.audit_trail WHERE operation = 'break_glass_revoked'";
        assert_eq!(count(&superuser, revoked).await, 12);
    });
}

#[test]
fn a_grant_ends_by_its_time_within_a_transaction() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        let id = approved(database, &client, ", duration => '2 seconds'").await;
        run(&client, "BEGIN ISOLATION LEVEL REPEATABLE READ").await;
        authenticate(&client, &database.token("nora")).await.unwrap();
        run(&client, &elevate(&id)).await;
        let over = format!("SELECT clock_timestamp() > ends_at FROM tenancy.break_glass_grant WHERE id = '{id}'");
        eventually(&superuser, &over).await;
        assert_eq!(refused_within(&client, CHANGE).await.sqlstate, "42501");
        run(&client, "ROLLBACK").await;
        // Time decides, settle_due records.
        assert_eq!(state(&superuser, &id).await, "active");
        run(&superuser, "SELECT tenancy.settle_due()").await;
        assert_eq!(state(&superuser, &id).await, "ended");
        let at = format!("SELECT over_at = ends_at FROM tenancy.break_glass_grant WHERE id = '{id}'");
        assert_eq!(value(&superuser, &at).await, "t");
    });
}

#[test]
fn what_an_organization_sets_is_stricter_and_counts_at_request_approval_and_use() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        let (nora, alice, dora) = (database.token("nora"), database.token("alice"), database.token("dora"));
        let set = |settings: &str| {
            format!("SELECT tenancy.set_break_glass_policy('{settings}', 'test', organization => '{ACME}')")
        };
        run(&superuser, r#"SELECT tenancy.set_break_glass_policy('{"max_duration": "2 hours"}', 'test')"#).await;
        for (wrong, names) in [
            (r#"{"max_duration": "3 hours"}"#, "max_duration"),
            (r#"{"approvals": 0}"#, "approvals"),
            (r#"{"approvals": 4}"#, "approvals"),
            (r#"{"colour": "red"}"#, "colour"),
            (r#"{"max_duration": "soon"}"#, "max_duration"),
            (r#"{"overrides": ["last_admin"]}"#, "last_admin"),
            (r#"{"ticket_pattern": "("}"#, "ticket_pattern"),
        ] {
            let refusal = act(&client, &alice, &set(wrong)).await.unwrap_err();
            assert_eq!((refusal.sqlstate.as_str(), refusal.message.contains(names)), ("22023", true), "{refusal:?}");
        }
        let two = request(&format!("{FINDINGS}, duration => '2 hours'"));
        let id = act(&client, &nora, &two).await.unwrap();
        assert_eq!(act(&client, &nora, &two).await.unwrap(), id, "the same again is the same");
        act(&client, &alice, &set(r#"{"max_duration": "1 hour"}"#)).await.unwrap();
        assert_eq!(
            act(&client, &nora, &request(", duration => '2 hours', permissions => '{a:b}'"))
                .await
                .unwrap_err()
                .sqlstate,
            "22023",
            "at the request"
        );
        assert_eq!(act(&client, &dora, &approve(&id)).await.unwrap_err().sqlstate, "22023", "at the approval");
        act(&client, &alice, &set(r#"{"max_duration": null}"#)).await.unwrap();
        act(&client, &dora, &approve(&id)).await.unwrap();
        act(&client, &alice, &set(r#"{"ceiling": ["finding:read"]}"#)).await.unwrap();
        assert_eq!(act(&client, &nora, &elevate(&id)).await.unwrap_err().sqlstate, "42501", "at the use");
        act(&client, &alice, &set(r#"{"ceiling": null, "approvals": 2}"#)).await.unwrap();
        assert_eq!(act(&client, &nora, &elevate(&id)).await.unwrap_err().sqlstate, "42501", "at the use");
        act(&client, &alice, &set(r#"{"approvals": null}"#)).await.unwrap();
        act(&client, &nora, &elevate(&id)).await.unwrap();
    });
}

#[test]
fn requests_that_do_not_fit_are_refused() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        let nora = database.token("nora");
        let blank = "SELECT tenancy.request_break_glass(' ', permissions => '{a:b}')".to_owned();
        let wrong = [
            (blank, "22023"),
            (request(""), "22023"),
            (request(", permissions => '{!a:b}'"), "22023"),
            (request(", permissions => '{a}'"), "22023"),
            (request(", permissions => '{a:b:c}'"), "22023"),
            (request(", permissions => '{!}'"), "22023"),
            (request(", permissions => '{NULL}'"), "22004"),
            (request(", permissions => '{a:b}', duration => '0'"), "22023"),
            (request(", permissions => '{a:b}', duration => '-1 minute'"), "22023"),
            (request(", permissions => '{a:b}', duration => '1 month'"), "22023"),
            (request(", permissions => '{a:b}', duration => '4 hours 0.000001 seconds'"), "22023"),
            (request(", permissions => '{a:b}', duration => NULL"), "22004"),
            (request(", overrides => '{last_admin}'"), "42501"),
            (request(", overrides => '{self_approved_break_glass}'"), "42501"),
            (request(", permissions => '{a:b}', for_subject => 'victor'"), "42501"),
            (request(", permissions => '{a:b}', for_subject => 'bob'"), "42501"),
            (request(", permissions => '{a:b}', for_subject => 'nobody'"), "42501"),
        ];
        for (sql, sqlstate) in wrong {
            let refusal = act(&client, &nora, &sql).await.unwrap_err();
            assert_eq!(refusal.sqlstate, sqlstate, "{sql}: {}", refusal.message);
        }
        for n in 0..3 {
            act(&client, &nora, &request(&format!("{FINDINGS}, ticket => '{n}'"))).await.unwrap();
        }
        let fourth = request(&format!("{FINDINGS}, ticket => '4'"));
        assert_eq!(act(&client, &nora, &fourth).await.unwrap_err().sqlstate, "55000", "max_open");
        assert_eq!(count(&superuser, "SELECT count(*) FROM tenancy.break_glass_grant").await, 3);
    });
}

#[test]
fn another_organization_learns_nothing_of_break_glass() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        let bob = database.token("bob");
        let id = approved(database, &client, "").await;
        let nobodys = GLOBEX.to_string();
        let calls = [
            approve(&id),
            format!("SELECT tenancy.deny_break_glass('{id}', 'no')"),
            format!("SELECT tenancy.cancel_break_glass('{id}')"),
            elevate(&id),
            end(&id),
            sign_off(&id),
            format!("SELECT tenancy.break_glass_report('{id}')"),
        ];
        for sql in calls {
            let theirs = act(&client, &bob, &sql).await.unwrap_err();
            let none = act(&client, &bob, &sql.replace(&id, &nobodys)).await.unwrap_err();
            assert_eq!(theirs.message.replace(&id, &nobodys), none.message);
            assert_eq!((&*theirs.sqlstate, theirs.detail, theirs.hint), ("42704", none.detail, none.hint), "{sql}");
        }
        for table in ["break_glass_grant", "break_glass_approval"] {
            let seen = format!("SELECT count(*) FROM tenancy.{table}");
            assert_eq!(act(&client, &bob, &seen).await.unwrap(), "0");
            assert_eq!(act(&client, &database.token("nora"), &seen).await.unwrap(), "1", "the own is seen always");
        }
        // In the organization a grant is its beneficiary's.
        let others = act(&client, &database.token("alice"), &elevate(&id)).await.unwrap_err();
        assert_eq!(others.sqlstate, "42501");
        assert_eq!(state(&superuser, &id).await, "approved");
        let forged = "INSERT INTO tenancy.break_glass_approval SELECT * FROM tenancy.break_glass_approval";
        assert_eq!(refused(&superuser, forged).await.sqlstate, "42501", "no superuser either");
    });
}

#[test]
fn an_overdue_sign_off_keeps_the_next_grant_away_where_the_guardrail_says_so() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        let nora = database.token("nora");
        let policy = r#"SELECT tenancy.set_break_glass_policy('{"sign_off_within": "1 second"}', 'test')"#;
        run(&superuser, policy).await;
        let id = approved(database, &client, "").await;
        act(&client, &nora, &format!("{}; {}", elevate(&id), "SELECT 1")).await.unwrap();
        act(&client, &nora, &end(&id)).await.unwrap();
        let overdue = format!(
            "SELECT clock_timestamp() > over_at + sign_off_within FROM tenancy.break_glass_grant WHERE id = '{id}'"
        );
        eventually(&superuser, &overdue).await;
        run(&superuser, "SELECT tenancy.settle_due()").await;
        let alerts = "SELECT count(*) FROM tenancy.alert WHERE kind = 'sign_off_overdue'";
        assert_eq!(count(&superuser, alerts).await, 1);
        run(&superuser, "SELECT tenancy.set_guardrail('unsigned_break_glass', 'enforce', 'test')").await;
        let next = request(&format!("{FINDINGS}, ticket => 'next'"));
        assert_eq!(act(&client, &nora, &next).await.unwrap_err().sqlstate, "55000");
        seal_all(&superuser).await;
        act(&client, &database.token("alice"), &sign_off(&id)).await.unwrap();
        act(&client, &nora, &next).await.unwrap();
    });
}

#[test]
fn of_two_calls_at_once_each_counts_once_or_not_at_all() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        prepare(&superuser).await;
        let (one, other) = (database.application().await, database.application().await);
        let (nora, dora, emil) = (database.token("nora"), database.token("dora"), database.token("emil"));
        for round in 0..9 {
            let level = LEVELS[round % 3];
            let both = async |first: (&String, &str), second: (&String, &str)| {
                let runs = async |client: &Client, (token, sql): (&String, &str)| {
                    run(client, &format!("BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM pg_class")).await;
                    authenticate(client, token).await.unwrap();
                    let done = try_rows(client, sql).await;
                    run(client, if done.is_ok() { "COMMIT" } else { "ROLLBACK" }).await;
                    done.err().map(|refusal| refusal.sqlstate)
                };
                join(runs(&one, first), runs(&other, second)).await
            };
            let fine = |done: &Option<String>| done.iter().all(|state| ["55000", "40001", "42501"].contains(&&**state));
            let asked = request(&format!("{FINDINGS}, ticket => '{round}'"));
            let id = act(&one, &nora, &asked).await.unwrap();
            // Of the only approval that is needed and a cancellation one comes first.
            let cancel = format!("SELECT tenancy.cancel_break_glass('{id}')");
            let (approval, cancelled) = both((&dora, &approve(&id)), (&nora, &cancel)).await;
            assert!(fine(&approval) && fine(&cancelled) && approval.is_some() != cancelled.is_some(), "{level}");
            let is = state(&superuser, &id).await;
            assert_eq!(is, if approval.is_none() { "approved" } else { "cancelled" });

            let asked = request(&format!("{FINDINGS}, ticket => 'b{round}'"));
            let id = act(&one, &nora, &asked).await.unwrap();
            let (first, second) = both((&dora, &approve(&id)), (&emil, &approve(&id))).await;
            assert!(fine(&first) && fine(&second) && first.is_some() != second.is_some(), "{first:?} {second:?}");
            let approvals = format!("SELECT count(*) FROM tenancy.break_glass_approval WHERE grant_id = '{id}'");
            assert_eq!(count(&superuser, &approvals).await, 1);

            let (used, revoked) = both((&nora, &elevate(&id)), (&dora, &end(&id))).await;
            assert!(fine(&used) && fine(&revoked), "{used:?} {revoked:?}");
            if revoked.is_none() {
                assert_eq!(act(&one, &nora, &elevate(&id)).await.unwrap_err().sqlstate, "55000");
            }
            // What is still open would be too much for the next round.
            let open = "SELECT id FROM tenancy.break_glass_grant WHERE state IN ('approved', 'active')";
            for id in column(&superuser, open).await {
                act(&one, &dora, &end(&id)).await.unwrap();
            }
        }
        seal_all(&superuser).await;
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn a_grant_passes_the_guardrails_that_it_names_and_each_passing_is_recorded() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        with_a_key(&superuser).await;
        run(&superuser, "SELECT tenancy.set_guardrail('literal_secret', 'enforce', 'test')").await;
        let alice = database.token("alice");
        let put = "SELECT tenancy.put_secret('s', 'a value')";
        assert_eq!(act(&client, &alice, put).await.unwrap_err().sqlstate, "22023");
        for (name, passes) in [("overdue_rotation", false), ("literal_secret", true)] {
            let asked = request(&format!(", overrides => '{{{name}}}'"));
            let id = act(&client, &alice, &asked).await.unwrap();
            act(&client, &database.token("dora"), &approve(&id)).await.unwrap();
            as_tenant(&client, &alice).await;
            run(&client, &elevate(&id)).await;
            let done = try_rows(&client, put).await;
            run(&client, "COMMIT").await;
            assert_eq!(done.is_ok(), passes, "{name}: {done:?}");
            let passings = format!(
                "SELECT count(*) FROM tenancy.audit_trail WHERE operation = 'guardrail' AND grant_id = '{id}'
                    AND new_values ->> 'guardrail' = 'literal_secret'"
            );
            assert_eq!(count(&superuser, &passings).await, i64::from(passes));
        }
        let put = put.replace("'s'", "'t'");
        assert_eq!(act(&client, &alice, &put).await.unwrap_err().sqlstate, "22023", "without the elevation");
    });
}

#[test]
fn each_function_asks_for_its_permission_and_no_other() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        let policy = format!("SELECT tenancy.set_break_glass_policy('{{}}', 'test', organization => '{ACME}')");
        let of_nora = request(", overrides => '{overdue_rotation}', for_subject => 'nora'");
        // What each needs, and the call, where {id} is a grant in that state which is somebody else's.
        let calls = [
            ("request", "", of_nora),
            ("policy", "", policy),
            ("approve", "requested", approve("{id}")),
            ("approve", "requested", "SELECT tenancy.deny_break_glass('{id}', 'no')".to_owned()),
            ("approve", "approved", end("{id}")),
            ("approve", "active", end("{id}")),
            ("sign_off", "ended", sign_off("{id}")),
            ("read", "active", "SELECT tenancy.break_glass_report('{id}') ->> 'digest'".to_owned()),
        ];
        let actions = ["request", "policy", "approve", "sign_off", "read", "use"];
        for action in actions {
            let role = format!(
                "SELECT tenancy.create_role('{action}'), tenancy.grant_permission('{action}', 'audit', 'read'),
                        tenancy.grant_permission('{action}', 'break_glass', '{action}'),
                        tenancy.set_membership('{ACME}', '{action}', '{action}')"
            );
            run(&superuser, &role).await;
        }
        let (nora, dora) = (database.token("nora"), database.token("dora"));
        run(&superuser, r#"SELECT tenancy.set_break_glass_policy('{"max_open": 100}', 'test')"#).await;
        for (number, (needs, state, call)) in calls.iter().enumerate() {
            for action in actions {
                let asked = request(&format!(", overrides => '{{overdue_rotation}}', ticket => '{number} {action}'"));
                let id = act(&client, &nora, &asked).await.unwrap();
                if ["approved", "active", "ended"].contains(state) {
                    act(&client, &dora, &approve(&id)).await.unwrap();
                }
                if ["active", "ended"].contains(state) {
                    act(&client, &nora, &elevate(&id)).await.unwrap();
                }
                if *state == "ended" {
                    act(&client, &nora, &end(&id)).await.unwrap();
                    seal_all(&superuser).await;
                }
                let done = act(&client, &database.token(action), &call.replace("{id}", &id)).await;
                match done {
                    Ok(_) => assert_eq!(action, *needs, "{action} was let to {call}"),
                    Err(refusal) => {
                        let denied = refusal.sqlstate == "42501" && refusal.message.contains("may not");
                        assert!(action != *needs && denied, "{action}, {call}: {refusal:?}");
                    }
                }
            }
        }
    });
}

#[test]
fn a_dump_carries_break_glass() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        approved(database, &client, "").await;
        run(&superuser, r#"SELECT tenancy.set_break_glass_policy('{"approvals": 2}', 'test')"#).await;
        let all = "SELECT g::text FROM tenancy.break_glass_grant g UNION ALL
                   SELECT a::text FROM tenancy.break_glass_approval a UNION ALL
                   SELECT p::text FROM tenancy.break_glass_policy p ORDER BY 1";
        let before = column(&superuser, all).await;
        assert_eq!(before.len(), 3);
        let name = database.restore_a_dump().await;
        let mut config = database.config();
        let copy = connect(config.dbname(&name)).await;
        assert_eq!(column(&copy, all).await, before);
        let change = refused(&copy, "UPDATE tenancy.break_glass_grant SET state = 'approved'").await;
        assert_eq!(change.sqlstate, "42501", "the guard is on in the copy: {}", change.message);
        drop(copy);
        run(&superuser, &format!("DROP DATABASE {name} (FORCE)")).await;
    });
}
