//! Exceptions: who asks, who approves, what two sessions do at once, and that every way to ask gives one answer.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::action_types::act;
use crate::common::*;
use crate::rotation_model::{Random, at, since_2001, with_a_clock};
use crate::worker::on_a_server;
use futures_util::future::join;
use tokio_postgres::Client;

const LEVELS: [&str; 3] = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"];

/// More admins of Acme, and kinds that need no approval and two.
async fn prepare(superuser: &Client) {
    let sql = format!(
        "SELECT tenancy.set_membership('{ACME}', who, 'admin') FROM unnest('{{dora,emil,frida}}'::text[]) who;
         SELECT tenancy.define_exception_kind('free', 'test', '{{\"approvals\": 0, \"broad\": true}}', 'test'),
                tenancy.define_exception_kind('two', 'test', '{{\"approvals\": 2}}', 'test')"
    );
    run(superuser, &sql).await;
}

fn add(kind: &str, target: &str, more: &str) -> String {
    format!(
        "SELECT tenancy.add_exception('{kind}', '{target}', 'a reason that says enough',
                                      date_trunc('day', now()) + interval '30 days'{more})"
    )
}

fn decide(id: &str, approve: bool) -> String {
    format!("SELECT tenancy.decide_exception('{id}', {approve}, 'test')")
}

fn amend(id: &str, days: u32) -> String {
    format!("SELECT tenancy.amend_exception('{id}', date_trunc('day', now()) + interval '{days} days')")
}

fn revoke(id: &str) -> String {
    format!("SELECT tenancy.revoke_exception('{id}', 'test')")
}

fn asked(kind: &str, target: &str) -> String {
    format!("SELECT tenancy.is_excepted('{kind}', '{target}')")
}

async fn state(superuser: &Client, id: &str) -> String {
    value(superuser, &format!("SELECT state FROM tenancy.exception WHERE id = '{id}'")).await
}

/// Has an exception that is in force, of a kind that needs one approval.
async fn active(database: &Database, client: &Client, target: &str) -> String {
    let id = act(client, &database.token("alice"), &add("finding", target, "")).await.unwrap();
    act(client, &database.token("dora"), &decide(&id, true)).await.unwrap();
    id
}

#[test]
fn neither_requester_nor_owner_approve_whom_issuer_and_subject_tell() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        let (alice, dora, emil) = (database.token("alice"), database.token("dora"), database.token("emil"));
        let frida = database.token("frida");
        let id = act(&client, &alice, &add("two", "t", ", 'dora'")).await.unwrap();
        for (who, own) in [("the requester", &alice), ("the owner", &dora)] {
            let refusal = act(&client, own, &decide(&id, true)).await.unwrap_err();
            assert_eq!((&refusal.sqlstate[..], refusal.message.contains("neither by")), ("42501", true), "{who}");
            // The guardrail cannot be passed by a reason.
            let passed = format!("SET LOCAL tenancy.override_reason = 'hurry'; {}", decide(&id, true));
            assert_eq!(act(&client, own, &passed).await.unwrap_err().sqlstate, "42501");
        }
        act(&client, &emil, &decide(&id, true)).await.unwrap();
        assert_eq!(state(&superuser, &id).await, "requested", "one of two");
        let again = act(&client, &emil, &decide(&id, true)).await.unwrap_err();
        assert_eq!((&again.sqlstate[..], again.message.contains("the same person")), ("55000", true));
        act(&client, &frida, &decide(&id, true)).await.unwrap();
        assert_eq!(act(&client, &alice, &asked("two", "t")).await.unwrap(), "t");

        // Who may not approve any more does not, and an owner who has left owns nothing new.
        let id = act(&client, &alice, &add("finding", "u", ", 'dora'")).await.unwrap();
        run(&superuser, &format!("SELECT tenancy.set_membership('{ACME}', 'emil', 'reader')")).await;
        assert_eq!(act(&client, &emil, &decide(&id, true)).await.unwrap_err().sqlstate, "42501");
        run(&superuser, &format!("SELECT tenancy.set_membership('{ACME}', 'dora', 'admin', status => 'suspended')"))
            .await;
        let left = act(&client, &frida, &decide(&id, true)).await.unwrap_err();
        assert_eq!((&left.sqlstate[..], left.message.contains("no active member")), ("55000", true));
        run(&superuser, &format!("SELECT tenancy.set_membership('{ACME}', 'dora', 'admin', status => 'active')")).await;
        act(&client, &frida, &decide(&id, true)).await.unwrap();

        // Requester and owner end what is theirs, without the permission to approve.
        let owned = act(&client, &frida, &add("finding", "v", ", 'victor'")).await.unwrap();
        act(&client, &alice, &decide(&owned, true)).await.unwrap();
        let victor = database.token("victor");
        assert_eq!(act(&client, &victor, &revoke(&id)).await.unwrap_err().sqlstate, "42501", "another's");
        act(&client, &victor, &revoke(&owned)).await.unwrap();
        assert_eq!(state(&superuser, &owned).await, "revoked");

        seal_all(&superuser).await;
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn a_refused_approval_is_an_event() {
    on_a_server("exceptions", async |server| {
        let database = Database::create(server.config("postgres")).await;
        let (superuser, client) = (database.superuser().await, database.application().await);
        let alice = database.token("alice");
        let id = act(&client, &alice, &add("finding", "t", "")).await.unwrap();
        act(&client, &alice, &decide(&id, true)).await.unwrap_err();
        let refused = "SELECT count(*) = 1 FROM tenancy.audit_trail WHERE domain = 'exception' AND subject = 'alice'
                          AND result <> 'success' AND reason LIKE 'self_approval%'";
        eventually(&superuser, refused).await;
    });
}

#[test]
fn an_operator_who_assumed_the_organization_asks_for_nothing_and_approves_nothing() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        let id = act(&client, &database.token("alice"), &add("finding", "t", "")).await.unwrap();
        let in_force = active(database, &client, "in force").await;
        for call in [add("finding", "u", ""), decide(&id, true), decide(&id, false), amend(&in_force, 40)] {
            run(&superuser, &format!("BEGIN; SELECT tenancy.assume_organization('{ACME}', 'test')")).await;
            let refusal = refused_within(&superuser, &call).await;
            assert_eq!((&refusal.sqlstate[..], refusal.message.contains("assumed")), ("42501", true), "{call}");
            assert_eq!(value(&superuser, &asked("finding", "in force")).await, "t", "it may ask");
            run(&superuser, "ROLLBACK").await;
        }
    });
}

#[test]
fn another_organization_learns_nothing_of_exceptions() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        let id = active(database, &client, "t").await;
        let bob = database.token("bob");
        for sql in [decide(&id, true), decide(&id, false), amend(&id, 40), revoke(&id)] {
            let theirs = act(&client, &bob, &sql).await.unwrap_err();
            let nobodys = act(&client, &bob, &sql.replace(&id, &GLOBEX.to_string())).await.unwrap_err();
            assert_eq!(theirs.message.replace(&id, &GLOBEX.to_string()), nobodys.message, "{sql}");
            assert_eq!((theirs.sqlstate, theirs.detail, theirs.hint), (nobodys.sqlstate, nobodys.detail, nobodys.hint));
        }
        let local = format!("SELECT tenancy.define_exception_kind('local', 'test', '{{}}', 'test', '{ACME}')");
        run(&superuser, &local).await;
        assert_eq!(act(&client, &bob, &asked("finding", "t")).await.unwrap(), "f");
        for relation in ["excepted('finding')", "exception", "exception_approval", "exception_ending"] {
            let count = format!("SELECT count(*) FROM tenancy.{relation}");
            assert_eq!(act(&client, &bob, &count).await.unwrap(), "0", "{relation}");
        }
        let kinds = "SELECT string_agg(name, ' ' ORDER BY name) FROM tenancy.exception_kind WHERE NOT built_in";
        assert_eq!(act(&client, &bob, kinds).await.unwrap(), "free two");
        assert_eq!(act(&client, &database.token("alice"), kinds).await.unwrap(), "free local two");
        let add = add("local", "t", "");
        assert_eq!(act(&client, &bob, &add).await.unwrap_err().message, "there is no kind of exceptions \"local\"");
        assert_eq!(state(&superuser, &id).await, "active", "it is as it was");
    });
}

#[test]
fn a_change_counts_in_the_next_statement_of_every_session() {
    in_database(async |database| {
        let (superuser, admin) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        let (alice, dora) = (database.token("alice"), database.token("dora"));
        let ask = asked("finding", "t");
        for level in LEVELS {
            let client = database.application().await;
            run(&client, &format!("BEGIN ISOLATION LEVEL {level}; PREPARE ask AS {ask}")).await;
            authenticate(&client, &alice).await.unwrap();
            assert_eq!(value(&client, "EXECUTE ask").await, "f");
            let id = active(database, &admin, "t").await;
            assert_eq!(value(&client, "EXECUTE ask").await, "t", "{level}: an approval");
            let row = "SELECT (tenancy.exception_of('finding', 't')).id";
            assert_eq!(value(&client, row).await, id, "{level}: with its row, whatever the snapshot");
            act(&admin, &dora, &revoke(&id)).await.unwrap();
            assert_eq!(value(&client, "EXECUTE ask").await, "f", "{level}: a revocation");
            // A kind that becomes stricter, and one as it was.
            let id = active(database, &admin, "t").await;
            assert_eq!(value(&client, "EXECUTE ask").await, "t");
            let kind = |longest: &str| {
                format!(
                    "SELECT tenancy.define_exception_kind('finding', 'test', '{{\"max_duration\": \"{longest}\"}}',
                                                          'test')"
                )
            };
            run(&superuser, &kind("1 microsecond")).await;
            assert_eq!(value(&client, "EXECUTE ask").await, "f", "{level}: a stricter kind");
            run(&superuser, &kind("90 days")).await;
            assert_eq!(value(&client, "EXECUTE ask").await, "f", "{level}: what has ended stays so");
            assert_eq!(state(&superuser, &id).await, "expired");
            // A transaction that is prepared changes nothing until it is committed.
            let id = active(database, &admin, "t").await;
            as_tenant(&admin, &dora).await;
            let name = format!("revoke {id}");
            run(&admin, &format!("{}; PREPARE TRANSACTION '{name}'", revoke(&id))).await;
            assert_eq!(value(&client, "EXECUTE ask").await, "t", "{level}: prepared");
            run(&admin, &format!("COMMIT PREPARED '{name}'")).await;
            assert_eq!(value(&client, "EXECUTE ask").await, "f", "{level}: committed");
        }
    });
}

#[test]
fn parallel_workers_and_functions_answer_as_the_session_does() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        let sql = "CREATE TABLE asked AS SELECT 't' || n AS target FROM generate_series(1, 1000) n;
                   CREATE FUNCTION ask(target text) RETURNS boolean LANGUAGE plpgsql AS $$
                   BEGIN RETURN tenancy.is_excepted('free', target); END $$;
                   GRANT SELECT ON asked TO PUBLIC";
        run(&superuser, sql).await;
        let forced = if major() < 16 { "force_parallel_mode" } else { "debug_parallel_query" };
        run(&client, &format!("SET {forced} = on; SET parallel_setup_cost = 0; SET min_parallel_table_scan_size = 0"))
            .await;
        as_tenant(&client, &database.token("alice")).await;
        for n in 1..=10 {
            run(&client, &add("free", &format!("t{n}"), "")).await;
        }
        run(&client, "COMMIT").await;
        as_tenant(&client, &database.token("alice")).await;
        let plan = "EXPLAIN SELECT count(*) FROM asked WHERE tenancy.is_excepted('free', target)";
        assert!(column(&client, plan).await.iter().any(|line| line.contains("Gather")));
        for (cache, counted) in [("100000", "10"), ("5", "10"), ("0", "10")] {
            let other = database.superuser().await;
            run(&other, &format!("SET {forced} = on; SET tenancy.exception_cache = {cache}; BEGIN")).await;
            authenticate(&other, &database.token("alice")).await.unwrap();
            let count = "SELECT count(*) FROM asked WHERE tenancy.is_excepted('free', target)";
            assert_eq!(value(&other, count).await, counted, "{cache}");
            assert_eq!(
                value(&other, &count.replace("tenancy.is_excepted('free', target)", "ask(target)")).await,
                counted
            );
        }
        run(&client, "COMMIT").await;
    });
}

/// Has two sessions call at the same moment, each in a transaction that is committed if the call is not refused.
async fn both(
    level: &str,
    one: (&Client, &str, &str),
    other: (&Client, &str, &str),
) -> (Option<Refusal>, Option<Refusal>) {
    for (client, token, _) in [&one, &other] {
        run(client, &format!("BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM pg_class")).await;
        authenticate(client, token).await.unwrap();
    }
    let calls = async |(client, _, sql): (&Client, &str, &str)| {
        let done = try_rows(client, sql).await;
        run(client, if done.is_ok() { "COMMIT" } else { "ROLLBACK" }).await;
        done.err()
    };
    join(calls(one), calls(other)).await
}

fn lost_the_race(refusal: &Option<Refusal>) -> bool {
    refusal.as_ref().is_none_or(|refusal| ["55000", "40001"].contains(&&refusal.sqlstate[..]))
}

#[test]
fn of_two_who_approve_at_once_both_count_and_of_approval_and_denial_one_does() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        prepare(&superuser).await;
        let (one, other) = (database.application().await, database.application().await);
        let (alice, dora, emil) = (database.token("alice"), database.token("dora"), database.token("emil"));
        for round in 0..12 {
            let level = LEVELS[round % 3];
            let target = format!("t{round}");
            let id = act(&one, &alice, &add("two", &target, "")).await.unwrap();
            let approve = decide(&id, true);
            let (first, second) = both(level, (&one, &dora, &approve), (&other, &emil, &approve)).await;
            assert!(lost_the_race(&first) && lost_the_race(&second), "{level}: {first:?} {second:?}");
            for (token, lost) in [(&dora, first.is_some()), (&emil, second.is_some())] {
                if lost {
                    act(&one, token, &approve).await.unwrap();
                }
            }
            assert_eq!(act(&one, &alice, &asked("two", &target)).await.unwrap(), "t", "{level}");

            let id = act(&one, &alice, &add("finding", &target, "")).await.unwrap();
            let (approve, deny) = (decide(&id, true), decide(&id, false));
            let (first, second) = both(level, (&one, &dora, &approve), (&other, &emil, &deny)).await;
            assert!(first.is_some() != second.is_some(), "{level}: {first:?} {second:?}");
            assert!(lost_the_race(&first) && lost_the_race(&second), "{level}: {first:?} {second:?}");
            assert_eq!(state(&superuser, &id).await, if first.is_none() { "active" } else { "denied" });

            // The requester takes it back while somebody approves.
            let id = act(&one, &alice, &add("finding", &format!("u{round}"), "")).await.unwrap();
            let (approve, revoke) = (decide(&id, true), revoke(&id));
            let (approved, taken) = both(level, (&one, &dora, &approve), (&other, &alice, &revoke)).await;
            assert!(lost_the_race(&approved) && lost_the_race(&taken), "{level}: {approved:?} {taken:?}");
            let expected = match (&approved, &taken) {
                (None, None) => "revoked",
                (None, Some(_)) => "active",
                (Some(_), _) => "cancelled",
            };
            assert_eq!(state(&superuser, &id).await, expected, "{level}: {approved:?} {taken:?}");
        }
        seal_all(&superuser).await;
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn of_supersede_and_revoke_at_once_nothing_that_was_revoked_is_in_force() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        prepare(&superuser).await;
        let (one, other) = (database.application().await, database.application().await);
        let (alice, dora, emil) = (database.token("alice"), database.token("dora"), database.token("emil"));
        let mut seen = std::collections::BTreeSet::new();
        for round in 0..24 {
            let level = LEVELS[round % 3];
            let target = format!("t{round}");
            let old = active(database, &one, &target).await;
            let new = act(&one, &alice, &amend(&old, 60)).await.unwrap();
            let (approve, revoke) = (decide(&new, true), revoke(&old));
            let (approved, revoked) = if round % 2 == 0 {
                both(level, (&one, &dora, &approve), (&other, &emil, &revoke)).await
            } else {
                let (revoked, approved) = both(level, (&one, &emil, &revoke), (&other, &dora, &approve)).await;
                (approved, revoked)
            };
            assert!(approved.is_some() != revoked.is_some(), "{level}: {approved:?} {revoked:?}");
            assert!(lost_the_race(&approved) && lost_the_race(&revoked), "{level}: {approved:?} {revoked:?}");
            let states = (state(&superuser, &old).await, state(&superuser, &new).await);
            let expected = if approved.is_none() { ("superseded", "active") } else { ("revoked", "cancelled") };
            assert_eq!((&states.0[..], &states.1[..]), expected, "{level}");
            let in_force = act(&one, &alice, &asked("finding", &target)).await.unwrap();
            assert_eq!(in_force == "t", approved.is_none(), "{level}");
            seen.insert(approved.is_none());
        }
        assert_eq!(seen.len(), 2, "each came first sometimes");
        // Each transition is one event.
        seal_all(&superuser).await;
        let events = "SELECT count(*) FROM tenancy.exception e WHERE 1 <> (
                        SELECT count(*) FROM tenancy.audit_trail t
                         WHERE t.new_values ->> 'exception' = e.id::text AND t.operation = 'exception_' || CASE e.state
                               WHEN 'active' THEN 'approved' ELSE e.state END)";
        assert_eq!(count(&superuser, events).await, 0);
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn of_two_who_ask_at_once_one_request_comes() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        prepare(&superuser).await;
        let (one, other) = (database.application().await, database.application().await);
        let (alice, dora) = (database.token("alice"), database.token("dora"));
        for round in 0..6 {
            let level = LEVELS[round % 3];
            for kind in ["finding", "free"] {
                let add = add(kind, &format!("t{round}"), "");
                let (first, second) = both(level, (&one, &alice, &add), (&other, &dora, &add)).await;
                assert!(first.is_some() != second.is_some(), "{level}: {first:?} {second:?}");
                assert!(lost_the_race(&first) && lost_the_race(&second), "{level}: {first:?} {second:?}");
            }
        }
        assert_eq!(count(&superuser, "SELECT count(*) FROM tenancy.exception").await, 12);
    });
}

#[test]
fn a_dump_carries_exceptions_and_their_kinds() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        let kind =
            "SELECT tenancy.define_exception_kind('finding', 'anew', '{\"max_duration\": \"366 days\"}', 'test')";
        run(&superuser, kind).await;
        let id = active(database, &client, "t").await;
        act(&client, &database.token("alice"), &amend(&id, 200)).await.unwrap();
        let all = "SELECT k::text FROM tenancy.exception_kind k WHERE NOT built_in UNION ALL
                   SELECT e::text FROM tenancy.exception e UNION ALL
                   SELECT a::text FROM tenancy.exception_approval a ORDER BY 1";
        let before = column(&superuser, all).await;
        assert_eq!(before.len(), 6);
        let name = database.restore_a_dump().await;
        let mut config = database.config();
        let copy = connect(config.dbname(&name)).await;
        assert_eq!(column(&copy, all).await, before);
        let change = refused(&copy, "UPDATE tenancy.exception SET state = 'active'").await;
        assert_eq!(change.sqlstate, "42501", "the guard is on in the copy: {}", change.message);
        run(&copy, "BEGIN").await;
        authenticate(&copy, &database.token("alice")).await.unwrap();
        assert_eq!(value(&copy, &asked("finding", "t")).await, "t");
        run(&copy, &add("finding", "more than 90 days", "").replace("30 days", "300 days")).await;
        drop(copy);
        run(&superuser, &format!("DROP DATABASE {name} (FORCE)")).await;
    });
}

#[test]
fn an_exception_ends_at_the_microsecond_and_is_told_before_and_after() {
    with_a_clock("exception_end", async |database, superuser| {
        prepare(superuser).await;
        run(superuser, "SELECT tenancy.set_guardrail('self_approved_exception', 'off', 'test')").await;
        let client = database.superuser().await;
        let ends = since_2001(0) + 20 * 86_400_000_000;
        let moment = |from_end: i64| format!("SET tenancy.test_clock = '{}'", ends + from_end);
        let day = 86_400_000_000_i64;
        at(&client, 0).await;
        let reason = "'a reason that says enough'";
        let time = "timestamptz '2001-01-21 00:00:00+00'";
        run(&client, "BEGIN").await;
        authenticate(&client, &database.token("alice")).await.unwrap();
        let add =
            |target: &str, at: &str| format!("SELECT tenancy.add_exception('finding', '{target}', {reason}, {at})");
        let id = value(&client, &add("t", time)).await;
        run(&client, &decide(&id, true)).await;
        let late = value(&client, &add("late", time)).await;
        run(&client, "COMMIT").await;
        let settle = "SELECT string_agg(what || ' ' || count, ', ') FILTER (WHERE count > 0) FROM tenancy.settle_due()";
        let ask = "SELECT tenancy.is_excepted('finding', 't'), (SELECT count(*) FROM tenancy.excepted('finding')),
                          (tenancy.exception_of('finding', 't')).id, (SELECT count(*) FROM tenancy.exception_ending)";
        for (from_end, in_force, ending, due) in [
            (-14 * day - 1, true, "0", ""),
            (-14 * day, true, "1", "exception_ending 1"),
            (-14 * day, true, "1", ""),
            (-1, true, "1", ""),
            (0, false, "0", "exception_expired 2"),
            (0, false, "0", ""),
            (day, false, "0", ""),
        ] {
            run(&client, &moment(from_end)).await;
            run(&client, "BEGIN").await;
            authenticate(&client, &database.token("alice")).await.unwrap();
            // Before anything is recorded.
            let answers = rows(&client, ask).await.remove(0);
            let expected = if in_force { ["t", "1", &id, ending] } else { ["f", "0", "", ending] };
            let answers: Vec<String> = answers.into_iter().map(Option::unwrap_or_default).collect();
            assert_eq!(answers, expected, "{from_end}");
            if from_end == 0 {
                let refusal = refused_within(&client, &decide(&late, true)).await;
                assert!(refusal.sqlstate == "55000" && refusal.message.ends_with("is expired"), "{refusal:?}");
            }
            run(&client, "COMMIT").await;
            let settled = rows(&client, settle).await[0][0].clone().unwrap_or_default();
            assert_eq!(settled, due, "{from_end}");
        }
        // Within one statement that runs across the end, no call after it is true.
        let id = "SELECT count(*) FROM tenancy.exception WHERE state = 'expired' AND ended_at = expires_at";
        assert_eq!(count(superuser, id).await, 2);
        let events = "SELECT string_agg(operation, ' ' ORDER BY id) FROM tenancy.audit_trail WHERE domain = 'exception'
                         AND operation LIKE 'exception%ed' AND new_values ->> 'target' = 't'";
        assert_eq!(value(superuser, events).await, "exception_requested exception_approved exception_expired");
        let alerts = "SELECT string_agg(kind || ' ' || (detail ->> 'target'), ', '
                                        ORDER BY kind, detail ->> 'target') FROM tenancy.alert";
        assert_eq!(
            value(superuser, alerts).await,
            "exception_ending t, exception_requested late, exception_requested t"
        );
    });
}

#[test]
fn nothing_outlives_its_end_within_a_statement() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        as_tenant(&client, &database.token("alice")).await;
        // It is in force for a moment that a loaded machine does not miss, and the statement asks until it is not.
        let sql = "SELECT tenancy.add_exception('free', 't', 'a reason that says enough',
                                                clock_timestamp() + interval '2 seconds');
                   CREATE FUNCTION pg_temp.ask() RETURNS text LANGUAGE plpgsql AS $$
                   DECLARE n bigint := 0; BEGIN
                       WHILE tenancy.is_excepted('free', 't') LOOP n := n + 1; END LOOP;
                       RETURN (n > 0) || ' ' || (clock_timestamp() >= expires_at) FROM tenancy.exception;
                   END $$";
        run(&client, sql).await;
        assert_eq!(value(&client, "SELECT pg_temp.ask()").await, "true true");
        let within = "SELECT bool_or(tenancy.is_excepted('free', 't')) FROM generate_series(1, 1000)";
        assert_eq!(value(&client, within).await, "f");
        run(&client, "COMMIT").await;
    });
}

/// Every kind and target that the model asks for.
const KINDS: [&str; 4] = ["free", "finding", "narrow", "nothing"];
const TARGETS: [&str; 5] = ["a", "b", "c", "d", "*"];

/// Kind, target, and what each way to ask says of it: memory or index, list, row, view, and the rules in plain SQL.
const WAYS: &str = "
    SELECT k, t, tenancy.is_excepted(k, t) AS asked,
           EXISTS (SELECT FROM tenancy.excepted(k) x WHERE x.target IN (t, '*') AND x.expires_at > tenancy.clock()),
           (tenancy.exception_of(k, t)).id IS NOT NULL AND (tenancy.exception_of(k, t)).target IN (t, '*'),
           {committed}
      FROM unnest('{free,finding,narrow,nothing}'::text[]) k, unnest('{a,b,c,d,*}'::text[]) t ORDER BY 1, 2";

/// By a snapshot of the statement. What the transaction has written is in it.
const COMMITTED: &str = "
           EXISTS (SELECT FROM tenancy.exception_end x WHERE x.state = 'active' AND x.kind = k
                      AND x.organization = tenancy.org_id() AND x.target IN (t, '*') AND x.ends_at > tenancy.clock()),
           EXISTS (SELECT FROM tenancy.exception e
                    WHERE e.organization = tenancy.org_id() AND e.state = 'active' AND e.kind = k
                      AND e.target IN (t, '*') AND e.expires_at > tenancy.clock()
                      AND NOT EXISTS (
                          SELECT FROM tenancy.exception_kind d
                           WHERE d.name = e.kind AND d.organization IN (tenancy.org_id(), tenancy_nil)
                             AND (NOT d.built_in OR NOT EXISTS (
                                      SELECT FROM tenancy.exception_kind r WHERE r.name = d.name AND NOT r.built_in
                                         AND r.organization = d.organization))
                             AND (e.active_from + d.max_duration <= tenancy.clock()
                                  OR e.target = '*' AND NOT d.broad)))";

/// What each target's exceptions are by a session; panics unless all ways agree.
async fn agreed(client: &Client, snapshot: bool, what: &str) -> Vec<(String, bool)> {
    let committed = if snapshot {
        COMMITTED.replace("tenancy_nil", "'00000000-0000-0000-0000-000000000000'")
    } else {
        "true, true".into()
    };
    let mut agreed = Vec::new();
    for row in rows(client, &WAYS.replace("{committed}", &committed)).await {
        let row: Vec<String> = row.into_iter().map(Option::unwrap_or_default).collect();
        let compared = if snapshot { &row[2..] } else { &row[2..5] };
        assert!(compared.iter().all(|answer| *answer == row[2]), "{what}: {row:?}");
        agreed.push((format!("{} {}", row[0], row[1]), row[2] == "t"));
    }
    agreed
}

/// A call of a random kind, as SQL that may be refused.
fn random_call(random: &mut Random, now: i64) -> String {
    let (kind, target) = (random.pick(&KINDS[..3]), random.pick(&TARGETS));
    let state = random.pick(&["requested", "active", "active", "expired"]);
    let id = format!(
        "(SELECT id FROM tenancy.exception WHERE state = '{state}' ORDER BY md5(id::text || '{}') LIMIT 1)",
        random.below(1 << 40)
    );
    let end = now
        + [1_000_000, 60_000_000, 3_600_000_000, 7_200_000_000][random.below(4) as usize]
            * (1 + random.below(9) as i64);
    let end = format!("timestamptz 'epoch' + {end} * interval '1 microsecond'");
    match random.below(12) {
        0..=3 => format!("SELECT tenancy.add_exception('{kind}', '{target}', 'a reason that says enough', {end})"),
        4..=6 => format!("SELECT tenancy.decide_exception({id}, {}, 'test')", !random.one_in(8)),
        7 => format!("SELECT tenancy.amend_exception({id}, {end})"),
        8 => format!("SELECT tenancy.revoke_exception({id}, 'test')"),
        9 => "SELECT * FROM tenancy.settle_due()".to_owned(),
        _ => {
            let organization = random.pick(&["", &format!(", '{ACME}'")]).to_owned();
            let settings = format!(
                "{{\"approvals\": {}, \"broad\": {}, \"max_duration\": \"{} seconds\"}}",
                u8::from(kind != "free"),
                kind != "narrow" && !random.one_in(3),
                1 + random.below(400_000)
            );
            format!("SELECT tenancy.define_exception_kind('{kind}', 'test', '{settings}', 'test'{organization})")
        }
    }
}

#[test]
fn whatever_is_called_every_way_to_ask_gives_one_answer() {
    let seed = std::env::var("EXCEPTION_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() & 0xffff_ffff).unwrap()
    });
    println!("again with EXCEPTION_SEED={seed}");
    with_a_clock("exceptions", async |database, superuser| {
        prepare(superuser).await;
        let kind = "SELECT tenancy.set_guardrail('self_approved_exception', 'off', 'test'),
                           tenancy.define_exception_kind('narrow', 'test', '{}', 'test')";
        run(superuser, kind).await;
        let mut random = Random(seed);
        let (writer, reader, outsider) =
            (database.superuser().await, database.superuser().await, database.superuser().await);
        let alice = database.token("alice");
        let mut now = since_2001(0);
        // Savepoints of the writer's transaction, if it has begun; whether the reader's transaction is of a snapshot.
        let (mut savepoints, mut reading) = (None, false);
        let (mut done, mut in_force) = (0, 0);
        for step in 0..1000 {
            if random.one_in(4) {
                now += [1, 1_000_000, 600_000_000][random.below(3) as usize] * random.below(20) as i64;
            }
            for client in [&writer, &reader, &outsider] {
                run(client, &format!("SET tenancy.test_clock = '{now}'")).await;
            }
            let cache = random.pick(&["100000", "100000", "3", "0"]);
            run(&writer, &format!("SET tenancy.exception_cache = {cache}")).await;
            if savepoints.is_none() {
                run(&writer, "BEGIN").await;
                authenticate(&writer, &alice).await.unwrap();
                savepoints = Some(0);
            }
            let depth = savepoints.as_mut().unwrap();
            let call = random_call(&mut random, now);
            run(&writer, "SAVEPOINT call").await;
            if try_rows(&writer, &call).await.is_ok() {
                done += 1;
            } else {
                run(&writer, "ROLLBACK TO call").await;
            }
            run(&writer, "RELEASE call").await;
            let seed = format!("EXCEPTION_SEED={seed}, step {step} after {call}");
            let own = agreed(&writer, true, &seed).await;
            in_force += own.iter().filter(|(_, answer)| *answer).count();
            match random.below(10) {
                0..=2 => {
                    *depth += 1;
                    run(&writer, &format!("SAVEPOINT s{depth}")).await;
                }
                3 | 4 if *depth > 0 => {
                    run(&writer, &format!("ROLLBACK TO s{depth}")).await;
                    agreed(&writer, true, &format!("{seed}, rolled back to s{depth}")).await;
                }
                5 if *depth > 0 => {
                    run(&writer, &format!("RELEASE s{depth}")).await;
                    *depth -= 1;
                }
                6 | 7 => {
                    run(&writer, random.pick(&["COMMIT", "COMMIT", "ROLLBACK"])).await;
                    savepoints = None;
                }
                _ => (),
            }
            // Another session with a snapshot of its own, and one that begins anew.
            if !reading {
                let level = random.pick(&["READ COMMITTED", "REPEATABLE READ"]);
                run(&reader, &format!("BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM pg_class")).await;
                authenticate(&reader, &alice).await.unwrap();
                reading = true;
            }
            let others = agreed(&reader, false, &format!("{seed}, the reader")).await;
            run(&outsider, "BEGIN").await;
            authenticate(&outsider, &alice).await.unwrap();
            let committed = agreed(&outsider, true, &format!("{seed}, the outsider")).await;
            run(&outsider, "COMMIT").await;
            assert_eq!(others, committed, "{seed}: the reader and whoever begins anew");
            if random.one_in(4) {
                run(&reader, "COMMIT").await;
                reading = false;
            }
        }
        assert!(done > 250 && in_force > 150, "{done} calls, {in_force} times excepted");
    });
}
