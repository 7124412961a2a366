//! Rotations over real connections: who may do what, what others see, what two sessions do at once, and what a
//! transaction with an old snapshot may not.

use crate::common::*;
use crate::secrets::{put, with_a_key};
use futures_util::future::join;
use tokio_postgres::Client;

/// What contradicts the invariants of rotations, of all secrets; no row where all is well.
pub const VIOLATIONS: &str = "
    SELECT s.name || ' has ' || count(v.*) || ' current versions'
      FROM tenancy.secret s LEFT JOIN tenancy.secret_version v ON v.secret = s.id AND v.state = 'current'
     WHERE s.destroyed_at IS NULL GROUP BY s.id HAVING count(v.*) <> 1
    UNION ALL
    SELECT s.name || ' ' || v.number || ' is ' || v.state || ' and its value is another thing'
      FROM tenancy.secret s JOIN tenancy.secret_version v ON v.secret = s.id
      LEFT JOIN tenancy.sealed_value x ON (x.secret, x.number) = (v.secret, v.number)
     WHERE (v.state IN ('announced', 'retired')) <> (x.sealed IS NULL) OR sha256(x.sealed) <> v.sealed_digest
    UNION ALL
    SELECT s.name || ' has ' || count(*) || ' live versions'
      FROM tenancy.secret s JOIN tenancy.secret_version v ON v.secret = s.id AND v.state <> 'retired'
      JOIN tenancy.secret_kind k ON k.name = s.kind
     GROUP BY s.id, k.name HAVING count(*) > coalesce(s.max_live_versions, k.max_live_versions)
    UNION ALL
    SELECT s.name || ' lacks a number' FROM tenancy.secret s JOIN tenancy.secret_version v ON v.secret = s.id
     GROUP BY s.id HAVING count(*) <> max(v.number) OR min(v.number) <> 1
    UNION ALL
    SELECT s.name || ' has several rotations' FROM tenancy.secret s JOIN tenancy.rotation r ON r.secret = s.id
     WHERE r.state IN ('open', 'observing') GROUP BY s.id HAVING count(*) > 1
    UNION ALL
    SELECT s.name || ' is ' || r.state || ' from ' || f.state || ' to ' || t.state
      FROM tenancy.secret s JOIN tenancy.rotation r ON r.secret = s.id
      JOIN tenancy.secret_version f ON (f.secret, f.number) = (s.id, r.from_version)
      JOIN tenancy.secret_version t ON (t.secret, t.number) = (s.id, r.to_version)
     WHERE r.state = 'open' AND NOT (f.state = 'current' AND t.state IN ('announced', 'pending', 'verified', 'failed'))
        OR r.state = 'observing' AND NOT (f.state = 'previous' AND t.state = 'current')
    UNION ALL
    SELECT s.name || ' ' || v.number || ' is previous outside of a rotation'
      FROM tenancy.secret s JOIN tenancy.secret_version v ON v.secret = s.id AND v.state = 'previous'
     WHERE NOT EXISTS (SELECT FROM tenancy.rotation r
                        WHERE r.secret = s.id AND r.from_version = v.number AND r.state = 'observing')
    UNION ALL
    SELECT s.name || ' ' || v.number || ' was promoted without a report'
      FROM tenancy.secret s JOIN tenancy.secret_version v ON v.secret = s.id AND v.number > 1
     WHERE v.promoted_at IS NOT NULL
       AND NOT EXISTS (SELECT FROM tenancy.health_report h
                        WHERE (h.secret, h.version, h.healthy) = (s.id, v.number, true)
                          AND h.checked_at >= v.valued_at AND h.reported_at <= v.promoted_at)
    UNION ALL
    SELECT s.name || ' ' || h.version || ' has a report of another time'
      FROM tenancy.secret s JOIN tenancy.health_report h ON h.secret = s.id
      JOIN tenancy.secret_version v ON (v.secret, v.number) = (s.id, h.version)
     WHERE h.checked_at > h.reported_at OR h.checked_at < v.valued_at OR v.valued_at IS NULL";

pub async fn assert_invariants(superuser: &Client) {
    assert_eq!(column(superuser, VIOLATIONS).await, [""; 0]);
}

/// The states of a secret's versions, and of its rotations.
pub async fn states(superuser: &Client, name: &str) -> String {
    let sql = format!(
        "SELECT (SELECT string_agg(v.state, ' ' ORDER BY v.number) FROM tenancy.secret_version v WHERE v.secret = s.id)
                || '; ' || coalesce((SELECT string_agg(r.state, ' ' ORDER BY r.to_version)
                                       FROM tenancy.rotation r WHERE r.secret = s.id), 'none')
           FROM tenancy.secret s WHERE s.name = '{name}'"
    );
    value(superuser, &sql).await
}

/// One call of a function, with the name of the secret for `%`.
pub fn call(call: &str, name: &str) -> String {
    format!("SELECT tenancy.{}", call.replace('%', &format!("'{name}'")))
}

/// What a call answered, or its error without the name of the secret.
async fn outcome(client: &Client, sql: &str, name: &str) -> String {
    match try_rows(client, sql).await {
        Ok(rows) => format!("{:?}", rows.into_iter().flatten().flatten().collect::<Vec<_>>()),
        Err(refusal) => format!("{} {}", refusal.sqlstate, refusal.message.replace(name, "%")),
    }
}

/// One call in a transaction of its own.
async fn one_call(client: &Client, token: &str, sql: &str, name: &str) -> String {
    as_tenant(client, token).await;
    let outcome = outcome(client, sql, name).await;
    client.batch_execute("COMMIT").await.unwrap();
    outcome
}

pub const CALLS: [&str; 8] = [
    "begin_rotation(%, 'another')",
    "supply_value(%, 2, 'supplied')",
    "report_health(%, 2, true)",
    "report_health(%, 2, false)",
    "promote(%, 2)",
    "roll_back(%, 'test')",
    "retire(%, 1, 'test')",
    "abandon_rotation(%, 'test')",
];

/// How to get from the first version to each state of the second.
const STATES: [(&str, &[&str]); 5] = [
    ("announced", &["begin_rotation(%)"]),
    ("pending", &["begin_rotation(%, 'new')"]),
    ("verified", &["begin_rotation(%, 'new')", "report_health(%, 2, true)"]),
    ("observing", &["begin_rotation(%, 'new')", "report_health(%, 2, true)", "promote(%, 2)"]),
    (
        "proved",
        &["begin_rotation(%, 'new')", "report_health(%, 2, true)", "promote(%, 2)", "report_health(%, 2, true)"],
    ),
];

/// A secret in one of [`STATES`].
async fn prepare(client: &Client, token: &str, name: &str, steps: &[&str]) {
    as_tenant(client, token).await;
    put(client, name, "first").await.unwrap();
    // Without an observation a previous version can be retired as soon as the new one has proved itself. What fails
    // is rolled back by hand then.
    let no_observation = format!("SELECT tenancy.set_secret_policy('{name}', NULL, NULL, NULL, NULL, '0', NULL, NULL)");
    run(client, &format!("{no_observation}; COMMIT")).await;
    for step in steps {
        // Each in its own transaction, as it is done.
        as_tenant(client, token).await;
        run(client, &format!("{}; COMMIT", call(step, name))).await;
    }
}

#[test]
fn another_organization_learns_nothing_of_a_rotation() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        with_a_key(&superuser).await;
        prepare(&client, &database.token("alice"), "aws", STATES[4].1).await;
        let before = states(&superuser, "aws").await;
        as_tenant(&client, &database.token("bob")).await;
        for table in ["rotation", "health_report"] {
            assert_eq!(count(&client, &format!("SELECT count(*) FROM tenancy.{table}")).await, 0, "{table}");
        }
        let policy = "set_secret_policy(%, NULL, NULL, NULL, NULL, NULL, NULL, NULL)";
        for each in CALLS.into_iter().chain([policy]) {
            let theirs = refused_within(&client, &call(each, "aws")).await;
            let nobodys = refused_within(&client, &call(each, "gcp")).await;
            assert_eq!((theirs.sqlstate.as_str(), theirs.message.as_str()), ("42704", "there is no secret \"aws\""));
            assert_eq!((theirs.message.replace("aws", "gcp"), theirs.detail), (nobodys.message, nobodys.detail));
        }
        run(&client, "COMMIT").await;
        assert_eq!(states(&superuser, "aws").await, before);
    });
}

#[test]
fn a_role_rotates_and_reports_what_it_may_in_the_domain_of_the_secret() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        with_a_key(&superuser).await;
        run(&superuser, "SELECT tenancy.grant_permission('reader', 'secret', 'report')").await;
        prepare(&client, &database.token("alice"), "aws", STATES[1].1).await;
        as_tenant(&client, &database.token("alice")).await;
        let elsewhere = "SELECT tenancy.put_secret('of finance', 'v', domain => 'finance'),
                                tenancy.begin_rotation('of finance', 'w'),
                                tenancy.report_health('of finance', 2, true)";
        run(&client, &format!("{elsewhere}; COMMIT")).await;
        run(&superuser, "SELECT tenancy.revoke_permission('reader', '*', 'read')").await;

        as_tenant(&client, &database.token("victor")).await;
        assert_eq!(value(&client, &call("report_health(%, 2, true)", "aws")).await, "verified");
        for each in CALLS.into_iter().filter(|call| !call.starts_with("report")) {
            let refusal = refused_within(&client, &call(each, "aws")).await;
            assert_eq!(refusal.sqlstate, "42501", "{each}");
            assert!(refusal.message.contains("may not rotate in domain \"secret\""), "{}", refusal.message);
        }
        let policy = "SELECT tenancy.set_secret_policy('aws', NULL, NULL, NULL, NULL, NULL, 'victor', NULL)";
        let refusal = refused_within(&client, policy).await;
        assert!(refusal.message.contains("may not update in domain \"secret\""), "{}", refusal.message);
        for each in CALLS {
            let unseen = refused_within(&client, &call(each, "of finance")).await;
            assert_eq!(
                (unseen.sqlstate.as_str(), unseen.message.as_str()),
                ("42704", "there is no secret \"of finance\"")
            );
        }
        assert_eq!(count(&client, "SELECT count(*) FROM tenancy.rotation").await, 1);
        assert_eq!(count(&client, "SELECT count(*) FROM tenancy.health_report").await, 1);
        run(&client, "COMMIT").await;
        assert_eq!(refused(&client, "SELECT tenancy.begin_rotation('aws')").await.sqlstate, "28000");
        assert_invariants(&superuser).await;
    });
}

#[test]
fn a_call_that_is_repeated_is_no_second_transition() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        with_a_key(&superuser).await;
        let token = database.token("alice");
        for (state, steps) in STATES {
            for (number, each) in CALLS.into_iter().enumerate() {
                let name = format!("{state} {number}");
                prepare(&client, &token, &name, steps).await;
                // Without a time of its own a report says that the value was tried again.
                let now = value(&superuser, "SELECT clock_timestamp()").await;
                let each = each.replace("true)", &format!("true, checked_at => '{now}')"));
                let each = each.replace("false)", &format!("false, checked_at => '{now}')"));
                let sql = call(&each, &name);
                let reports = "SELECT count(*) FROM tenancy.health_report";
                let first = one_call(&client, &token, &sql, &name).await;
                let after = (states(&superuser, &name).await, count(&superuser, reports).await);
                let again = one_call(&client, &token, &sql, &name).await;
                let after_that = (states(&superuser, &name).await, count(&superuser, reports).await);
                assert_eq!(after_that, after, "{each} twice when {state}");
                assert!(again == first || again.starts_with("55000"), "{each} twice when {state}: {first}, {again}");
            }
        }
        assert_invariants(&superuser).await;
        seal_all(&superuser).await;
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn of_two_rotations_that_begin_at_once_one_does() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        with_a_key(&superuser).await;
        let (one, other) = (database.application().await, database.application().await);
        let token = database.token("alice");
        for round in 0..20 {
            let name = format!("secret {round}");
            prepare(&one, &token, &name, &[]).await;
            let (of_one, of_other) =
                (call("begin_rotation(%, 'one')", &name), call("begin_rotation(%, 'other')", &name));
            let begin = join(one_call(&one, &token, &of_one, &name), one_call(&other, &token, &of_other, &name)).await;
            let outcomes = [begin.0, begin.1];
            assert!(outcomes.contains(&"[\"2\"]".to_owned()), "{outcomes:?}");
            assert!(outcomes.contains(&"55000 a rotation of the secret \"%\" is under way".to_owned()), "{outcomes:?}");
            assert_eq!(states(&superuser, &name).await, "current pending; open");
        }
        assert_invariants(&superuser).await;
    });
}

/// Each pair of calls, in each state: the second one begins while the first one is not committed. What comes out is
/// what comes out of one after the other.
#[test]
fn of_two_calls_at_once_one_comes_after_the_other() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        with_a_key(&superuser).await;
        let (one, other) = (database.application().await, database.application().await);
        let token = database.token("alice");
        let pid = value(&other, "SELECT pg_backend_pid()").await;
        let waits = format!("SELECT cardinality(pg_blocking_pids({pid})) > 0");
        for (state, steps) in STATES {
            for (n, first) in CALLS.into_iter().enumerate() {
                for (m, second) in CALLS.into_iter().enumerate() {
                    let at_once = format!("{state} {n} {m}");
                    prepare(&one, &token, &at_once, steps).await;
                    as_tenant(&one, &token).await;
                    as_tenant(&other, &token).await;
                    let answer = outcome(&one, &call(first, &at_once), &at_once).await;
                    let second_sql = call(second, &at_once);
                    let waiting = outcome(&other, &second_sql, &at_once);
                    let commit = async {
                        // One that was refused has nothing that another one would wait for.
                        if answer.starts_with('[') {
                            eventually(&superuser, &waits).await;
                        }
                        run(&one, "COMMIT").await;
                    };
                    let (after, ()) = join(waiting, commit).await;
                    run(&other, "COMMIT").await;

                    let in_turn = format!("{state} {n} then {m}");
                    prepare(&one, &token, &in_turn, steps).await;
                    let turns = [
                        one_call(&one, &token, &call(first, &in_turn), &in_turn).await,
                        one_call(&one, &token, &call(second, &in_turn), &in_turn).await,
                    ];
                    assert_eq!([answer, after], turns, "{first} and {second} when {state}");
                    let (at_once, in_turn) = (states(&superuser, &at_once).await, states(&superuser, &in_turn).await);
                    assert_eq!(at_once, in_turn, "{first} and {second} when {state}");
                }
            }
        }
        assert_invariants(&superuser).await;
    });
}

/// A transaction that has its snapshot from before another call: it answers as if it came after that, or has to be
/// run again.
#[test]
fn a_transaction_with_an_old_snapshot_makes_no_transition_of_an_old_state() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        with_a_key(&superuser).await;
        let (one, other) = (database.application().await, database.application().await);
        let token = database.token("alice");
        let destroy = "destroy_secret(%, 'test')";
        let mut conflicts = 0;
        for level in ["REPEATABLE READ", "SERIALIZABLE"] {
            for (state, steps) in [("current", &[][..])].into_iter().chain(STATES) {
                for (n, first) in CALLS.into_iter().enumerate() {
                    for (m, second) in CALLS.into_iter().chain([destroy]).enumerate() {
                        // All pairs are tried at one level, and each call once at the other.
                        if level == "SERIALIZABLE" && n != m {
                            continue;
                        }
                        let name = format!("{level} {state} {n} {m}");
                        prepare(&one, &token, &name, steps).await;
                        run(&other, &format!("BEGIN ISOLATION LEVEL {level}")).await;
                        authenticate(&other, &token).await.unwrap();
                        run(&other, "SELECT count(*) FROM tenancy.secret_version").await;
                        one_call(&one, &token, &call(first, &name), &name).await;
                        let outcome = outcome(&other, &call(second, &name), &name).await;
                        let committed = other.batch_execute("COMMIT").await;
                        let conflict = outcome.starts_with("40001")
                            || committed.is_err_and(|error| Refusal::of(&error).sqlstate == "40001");
                        conflicts += usize::from(conflict);
                        if conflict {
                            continue;
                        }
                        let in_turn = format!("{name} in turn");
                        prepare(&one, &token, &in_turn, steps).await;
                        one_call(&one, &token, &call(first, &in_turn), &in_turn).await;
                        let turn = one_call(&one, &token, &call(second, &in_turn), &in_turn).await;
                        assert_eq!(outcome, turn, "{second} after {first} when {state}");
                        let (late, in_turn) = (states(&superuser, &name).await, states(&superuser, &in_turn).await);
                        assert_eq!(late, in_turn, "{second} after {first} when {state}");
                    }
                }
            }
        }
        assert!(conflicts > 0);
        assert_invariants(&superuser).await;
    });
}

#[test]
fn a_rotation_that_is_rolled_back_with_its_savepoint_leaves_nothing() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        with_a_key(&superuser).await;
        let token = database.token("alice");
        prepare(&client, &token, "aws", STATES[2].1).await;
        let before = states(&superuser, "aws").await;
        as_tenant(&client, &token).await;
        run(&client, "SAVEPOINT s; SELECT tenancy.promote('aws', 2); ROLLBACK TO s; COMMIT").await;
        assert_eq!(states(&superuser, "aws").await, before);
        as_tenant(&client, &token).await;
        run(&client, "SELECT tenancy.promote('aws', 2); PREPARE TRANSACTION 'promote'").await;
        assert_eq!(states(&superuser, "aws").await, before);
        run(&client, "COMMIT PREPARED 'promote'").await;
        assert_eq!(states(&superuser, "aws").await, "previous current; observing");
        assert_invariants(&superuser).await;
        seal_all(&superuser).await;
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn a_dump_carries_rotations_and_reports() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        with_a_key(&superuser).await;
        let token = database.token("alice");
        prepare(&client, &token, "aws", STATES[4].1).await;
        let all =
            "SELECT r::text FROM tenancy.rotation r UNION ALL SELECT h::text FROM tenancy.health_report h ORDER BY 1";
        let before = column(&superuser, all).await;
        assert_eq!(before.len(), 3);
        let name = database.restore_a_dump().await;
        let mut config = database.config();
        let copy = connect(config.dbname(&name)).await;
        assert_eq!(column(&copy, all).await, before);
        assert_invariants(&copy).await;
        let change = refused(&copy, "UPDATE tenancy.health_report SET healthy = false").await;
        assert_eq!(change.sqlstate, "42501", "the guard is on in the copy: {}", change.message);
        as_tenant(&copy, &token).await;
        run(&copy, "SELECT tenancy.retire('aws', 1, 'test'); COMMIT").await;
        assert_eq!(states(&copy, "aws").await, "retired current; completed");
        drop(copy);
        run(&superuser, &format!("DROP DATABASE {name} (FORCE)")).await;
    });
}
