//! Action types: who asks, who approves, and what two sessions do at once.

use crate::common::*;
use crate::secrets::with_a_key;
use futures_util::future::join;
use tokio_postgres::Client;

const LEVELS: [&str; 3] = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"];

/// Adds action types, and a second admin of Acme.
pub async fn prepare(superuser: &Client) {
    let sql = format!(
        "SELECT tenancy.add_action_type('instance.stop', 'test'), tenancy.add_action_type('disk.delete', 'test'),
                tenancy.set_membership('{ACME}', 'dora', 'admin')"
    );
    run(superuser, &sql).await;
}

/// Runs statements in a transaction of their own, as a member.
pub async fn act(client: &Client, token: &str, sql: &str) -> Result<String, Refusal> {
    as_tenant(client, token).await;
    let done = try_rows(client, sql).await;
    run(client, "COMMIT").await;
    done.map(|rows| rows.into_iter().next().and_then(|row| row.into_iter().next().flatten()).unwrap_or_default())
}

pub fn request(action_type: &str) -> String {
    format!("SELECT tenancy.request_action_type('{action_type}', 'test')")
}

fn decide(id: &str, approve: bool) -> String {
    format!("SELECT tenancy.decide_action_type('{id}', {approve}, 'test')")
}

const WITHDRAW: &str = "SELECT tenancy.withdraw_action_type('instance.stop', 'test')";
const APPROVAL: &str = "SELECT tenancy.action_approval('instance.stop')";

#[test]
fn one_asks_and_another_approves_whom_issuer_and_subject_tell() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        let (alice, dora) = (database.token("alice"), database.token("dora"));
        let id = act(&client, &alice, &request("instance.stop")).await.unwrap();
        let own = act(&client, &alice, &decide(&id, true)).await.unwrap_err();
        assert_eq!((own.sqlstate.as_str(), own.message.contains("the person who made it")), ("42501", true));
        // The guardrail cannot be passed by a reason.
        let passed = format!("SET LOCAL tenancy.override_reason = 'hurry'; {}", decide(&id, true));
        assert_eq!(act(&client, &alice, &passed).await.unwrap_err().sqlstate, "42501");
        assert_eq!(act(&client, &alice, APPROVAL).await.unwrap(), "");
        act(&client, &dora, &decide(&id, true)).await.unwrap();
        assert_eq!(act(&client, &alice, APPROVAL).await.unwrap(), id);

        // The same subject of another issuer is another person.
        let operator = format!(
            "BEGIN; SELECT tenancy.assume_organization('{ACME}', 'test');
             SELECT tenancy.request_action_type('disk.delete', 'test')"
        );
        let id = column(&superuser, &operator).await.pop().unwrap();
        run(&superuser, "COMMIT").await;
        let login = value(&superuser, "SELECT session_user").await;
        run(&superuser, &format!("SELECT tenancy.set_membership('{ACME}', '{login}', 'admin')")).await;
        act(&client, &database.token(&login), &decide(&id, true)).await.unwrap();
        let people = format!(
            "SELECT requested_subject = decided_subject AND requested_issuer <> decided_issuer
               FROM tenancy.action_type_request WHERE id = '{id}'"
        );
        assert_eq!(value(&superuser, &people).await, "t");

        seal_all(&superuser).await;
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn a_role_does_with_action_types_what_it_may() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        let grants = format!(
            "SELECT tenancy.create_role('asker'), tenancy.create_role('approver'), tenancy.create_role('none'),
                    tenancy.grant_permission('asker', 'action', 'request'),
                    tenancy.grant_permission('approver', 'action', 'approve', 'read'),
                    tenancy.set_membership('{ACME}', 'asker', 'asker'),
                    tenancy.set_membership('{ACME}', 'approver', 'approver'),
                    tenancy.set_membership('{ACME}', 'none', 'none')"
        );
        run(&superuser, &grants).await;
        // Who may: request, approve, deny, withdraw their own, withdraw another's, read.
        let roles = [
            ("alice", [true, true, true, true, true, true]),
            ("asker", [true, false, false, true, false, false]),
            ("approver", [false, true, true, true, true, true]),
            ("victor", [false, false, false, false, false, true]),
            ("none", [false, false, false, false, false, false]),
        ];
        for (who, may) in roles {
            let token = database.token(who);
            let clear = async || {
                act(&client, &database.token("alice"), WITHDRAW).await.ok();
            };
            for (n, may) in may.into_iter().enumerate() {
                clear().await;
                // Own requests are of whoever may make some, and otherwise dora's.
                let own = n == 3 && roles.iter().any(|(name, may)| *name == who && may[0]);
                let asks = if own { token.clone() } else { database.token("dora") };
                let id = match n {
                    0 => String::new(),
                    _ => act(&client, &asks, &request("instance.stop")).await.unwrap(),
                };
                let sql = match n {
                    0 => request("instance.stop"),
                    1 => decide(&id, true),
                    2 => decide(&id, false),
                    3 | 4 => WITHDRAW.to_owned(),
                    _ => APPROVAL.to_owned(),
                };
                let done = act(&client, &token, &sql).await;
                match done {
                    Ok(_) => assert!(may, "{who} was let to {sql}"),
                    Err(refusal) => assert!(!may && refusal.sqlstate == "42501", "{who}, {sql}: {refusal:?}"),
                }
                let seen = act(&client, &token, "SELECT count(*) FROM tenancy.action_type_request").await.unwrap();
                let reads = roles.iter().any(|(name, may)| *name == who && may[5]);
                assert_eq!(seen != "0", reads, "{who} sees {seen}");
            }
        }
    });
}

#[test]
fn another_organization_learns_nothing_of_what_is_approved() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        let id = act(&client, &database.token("alice"), &request("instance.stop")).await.unwrap();
        let bob = database.token("bob");
        for sql in [decide(&id, true), decide(&id, false)] {
            let theirs = act(&client, &bob, &sql).await.unwrap_err();
            let nobodys = act(&client, &bob, &sql.replace(&id, &GLOBEX.to_string())).await.unwrap_err();
            assert_eq!(theirs.message.replace(&id, &GLOBEX.to_string()), nobodys.message);
            assert_eq!((theirs.sqlstate, theirs.detail, theirs.hint), (nobodys.sqlstate, nobodys.detail, nobodys.hint));
        }
        act(&client, &database.token("dora"), &decide(&id, true)).await.unwrap();
        assert_eq!(act(&client, &bob, APPROVAL).await.unwrap(), "");
        assert_eq!(act(&client, &bob, "SELECT count(*) FROM tenancy.action_type_request").await.unwrap(), "0");
        assert_eq!(act(&client, &bob, WITHDRAW).await.unwrap_err().sqlstate, "55000");
        assert_eq!(act(&client, &database.token("alice"), APPROVAL).await.unwrap(), id, "it is as it was");
    });
}

#[test]
fn of_two_who_decide_at_once_one_does() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        prepare(&superuser).await;
        run(&superuser, &format!("SELECT tenancy.set_membership('{ACME}', 'emil', 'admin')")).await;
        let (one, other) = (database.application().await, database.application().await);
        let (dora, emil) = (database.token("dora"), database.token("emil"));
        for round in 0..12 {
            let id = act(&one, &database.token("alice"), &request("instance.stop")).await.unwrap();
            let level = LEVELS[round % 3];
            for (client, token) in [(&one, &dora), (&other, &emil)] {
                run(client, &format!("BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM pg_class")).await;
                authenticate(client, token).await.unwrap();
            }
            let decides = async |client: &Client, approve| {
                let done = try_rows(client, &decide(&id, approve)).await;
                let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
                run(client, end).await;
                done.err()
            };
            let (first, second) = join(decides(&one, true), decides(&other, false)).await;
            let approved = first.is_none();
            let refusals: Vec<_> = [first, second].into_iter().flatten().collect();
            assert_eq!(refusals.len(), 1, "{level}: {refusals:?}");
            assert!(["55000", "40001"].contains(&refusals[0].sqlstate.as_str()), "{level}: {refusals:?}");
            let state = format!("SELECT state FROM tenancy.action_type_request WHERE id = '{id}'");
            assert_eq!(value(&superuser, &state).await, if approved { "approved" } else { "denied" });
            act(&one, &dora, WITHDRAW).await.ok();
        }
        let decisions =
            "SELECT count(*) FROM tenancy.audit_trail WHERE operation IN ('action_approved', 'action_denied')";
        assert_eq!(count(&superuser, decisions).await, 12, "a decision is one event");
        seal_all(&superuser).await;
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn of_two_who_ask_at_once_one_request_comes_and_a_withdrawal_meets_a_decision() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        prepare(&superuser).await;
        let (one, other) = (database.application().await, database.application().await);
        let (alice, dora) = (database.token("alice"), database.token("dora"));
        for round in 0..12 {
            let level = LEVELS[round % 3];
            let both = async |first: &str, second: &str| {
                for (client, token) in [(&one, &alice), (&other, &dora)] {
                    run(client, &format!("BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM pg_class")).await;
                    authenticate(client, token).await.unwrap();
                }
                let runs = async |client: &Client, sql: &str| {
                    let done = try_rows(client, sql).await;
                    run(client, if done.is_ok() { "COMMIT" } else { "ROLLBACK" }).await;
                    done.err().map(|refusal| refusal.sqlstate)
                };
                join(runs(&one, first), runs(&other, second)).await
            };
            let refused =
                |sqlstate: &Option<String>| sqlstate.iter().all(|state| ["55000", "40001"].contains(&&**state));
            let (first, second) = both(&request("instance.stop"), &request("instance.stop")).await;
            assert!(first.is_some() != second.is_some() && refused(&first) && refused(&second), "{first:?} {second:?}");
            let id = value(&superuser, "SELECT id FROM tenancy.action_type_request WHERE state = 'requested'").await;
            let asked = format!("SELECT requested_subject FROM tenancy.action_type_request WHERE id = '{id}'");
            let approve = decide(&id, true);
            let (withdrawal, decision) = match value(&superuser, &asked).await.as_str() {
                "alice" => both(WITHDRAW, &approve).await,
                _ => {
                    let (decision, withdrawal) = both(&approve, WITHDRAW).await;
                    (withdrawal, decision)
                }
            };
            assert!(refused(&withdrawal) && refused(&decision), "{withdrawal:?} {decision:?}");
            assert!(withdrawal.is_none() || decision.is_none());
            // What was withdrawn stays so, whichever came first.
            let approved = act(&one, &alice, APPROVAL).await.unwrap();
            assert_eq!(approved.is_empty(), withdrawal.is_none());
            act(&one, &alice, WITHDRAW).await.ok();
        }
    });
}

#[test]
fn a_withdrawal_counts_in_the_next_statement_of_every_session() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        prepare(&superuser).await;
        with_a_key(&superuser).await;
        let (client, admin) = (database.application().await, database.application().await);
        let (alice, dora) = (database.token("alice"), database.token("dora"));
        for level in LEVELS {
            let id = act(&client, &alice, &request("instance.stop")).await.unwrap();
            run(&client, &format!("BEGIN ISOLATION LEVEL {level}; PREPARE ask AS {APPROVAL}")).await;
            authenticate(&client, &alice).await.unwrap();
            assert_eq!(value(&client, "EXECUTE ask").await, "");
            act(&admin, &dora, &decide(&id, true)).await.unwrap();
            assert_eq!(value(&client, "EXECUTE ask").await, id, "{level}: an approval");
            run(&client, &format!("SELECT tenancy.put_secret('{level}', 'v', scope => 'write')")).await;
            run(&client, "COMMIT").await;

            run(&client, &format!("BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM pg_class")).await;
            authenticate(&client, &alice).await.unwrap();
            assert_eq!(value(&client, "EXECUTE ask").await, id);
            act(&admin, &dora, WITHDRAW).await.unwrap();
            assert_eq!(value(&client, "EXECUTE ask").await, "", "{level}: a withdrawal");
            let put = refused_within(&client, "SELECT tenancy.put_secret('late', 'v', scope => 'write')").await;
            assert_eq!((put.sqlstate.as_str(), put.message.contains("approved action type")), ("42501", true));
            run(&client, "SAVEPOINT s; ROLLBACK TO s; COMMIT; DEALLOCATE ask").await;
        }
        let approvals = "SELECT count(*) FROM tenancy.audit_trail t JOIN tenancy.action_type_request r
                             ON r.id = (t.new_values ->> 'approval')::uuid WHERE t.operation = 'put'";
        assert_eq!(count(&superuser, approvals).await, 3, "the event of a write value names its approval");
    });
}

#[test]
fn no_write_value_is_stored_while_the_last_approval_is_withdrawn() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        prepare(&superuser).await;
        with_a_key(&superuser).await;
        let (one, other) = (database.application().await, database.application().await);
        let (alice, dora) = (database.token("alice"), database.token("dora"));
        let id = act(&one, &alice, &request("instance.stop")).await.unwrap();
        act(&one, &dora, &decide(&id, true)).await.unwrap();
        // The withdrawal waits for whoever stores, and whoever stores waits for the withdrawal.
        as_tenant(&one, &alice).await;
        run(&one, "SELECT tenancy.put_secret('early', 'v', scope => 'write')").await;
        as_tenant(&other, &dora).await;
        let (withdrawn, ()) = join(try_rows(&other, WITHDRAW), async {
            eventually(&superuser, "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'").await;
            run(&one, "COMMIT").await;
        })
        .await;
        withdrawn.unwrap();
        as_tenant(&one, &alice).await;
        let (put, ()) = join(try_rows(&one, "SELECT tenancy.put_secret('late', 'v', scope => 'write')"), async {
            eventually(&superuser, "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'").await;
            run(&other, "COMMIT").await;
        })
        .await;
        assert_eq!(put.unwrap_err().sqlstate, "42501");
        run(&one, "ROLLBACK").await;
        assert_eq!(column(&superuser, "SELECT name FROM tenancy.secret").await, ["early"]);
    });
}

#[test]
fn a_rotation_of_a_write_value_takes_an_approval_too() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        with_a_key(&superuser).await;
        let (alice, dora) = (database.token("alice"), database.token("dora"));
        let approve = async || {
            let id = act(&client, &alice, &request("instance.stop")).await.unwrap();
            act(&client, &dora, &decide(&id, true)).await.unwrap();
            id
        };
        let first = approve().await;
        act(&client, &alice, "SELECT tenancy.put_secret('stop', 'one', scope => 'write')").await.unwrap();
        act(&client, &alice, WITHDRAW).await.unwrap();
        let begin = "SELECT tenancy.begin_rotation('stop', 'two')";
        assert_eq!(act(&client, &alice, begin).await.unwrap_err().sqlstate, "42501");
        // Without a value nothing is stored yet.
        act(&client, &alice, "SELECT tenancy.begin_rotation('stop')").await.unwrap();
        let supply = "SELECT tenancy.supply_value('stop', 2, 'two')";
        assert_eq!(act(&client, &alice, supply).await.unwrap_err().sqlstate, "42501");
        let second = approve().await;
        act(&client, &alice, supply).await.unwrap();
        let approvals = "SELECT new_values ->> 'approval' FROM tenancy.audit_trail
                          WHERE operation IN ('put', 'supply') ORDER BY id";
        assert_eq!(column(&superuser, approvals).await, [first, second]);
    });
}

#[test]
fn a_write_value_is_revealed_for_an_action_type_that_is_approved_now() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        with_a_key(&superuser).await;
        let (alice, dora, victor) = (database.token("alice"), database.token("dora"), database.token("victor"));
        let id = act(&client, &alice, &request("instance.stop")).await.unwrap();
        act(&client, &dora, &decide(&id, true)).await.unwrap();
        act(&client, &alice, "SELECT tenancy.put_secret('stop', 'a value', scope => 'write')").await.unwrap();
        run(&superuser, "SELECT tenancy.grant_permission('reader', 'secret', 'reveal')").await;
        let reveal = |action_type: &str| format!("SELECT tenancy.reveal_secret('stop', 'test', NULL, {action_type})");
        let refused_to = async |token: &str, action_type: &str| {
            let refusal = act(&client, token, &reveal(action_type)).await.unwrap_err();
            (refusal.sqlstate, refusal.message)
        };
        let approved = "'instance.stop'";
        for (token, action_type, words) in [
            (&alice, "NULL", "none is named"),
            (&alice, "'disk.delete'", "\"disk.delete\" is not approved"),
            (&alice, "'nothing'", "\"nothing\" is not approved"),
            (&victor, approved, "may not reveal_write"),
        ] {
            let (sqlstate, message) = refused_to(token, action_type).await;
            assert!(sqlstate == "42501" && message.contains(words), "{message}");
        }
        for name in ["''", "'Instance.stop'", "repeat('a', 64)", "E'a\\nb'"] {
            assert_eq!(refused_to(&alice, name).await.0, "22023", "{name}");
        }
        assert_eq!(act(&client, &alice, &reveal(approved)).await.unwrap(), "a value");

        // A withdrawal counts in a transaction that had begun, whatever its snapshot.
        let admin = database.application().await;
        for level in LEVELS {
            run(&client, &format!("BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM pg_class")).await;
            authenticate(&client, &alice).await.unwrap();
            assert_eq!(value(&client, &reveal(approved)).await, "a value");
            act(&admin, &dora, WITHDRAW).await.unwrap();
            let late = refused_within(&client, &reveal(approved)).await;
            assert_eq!((late.sqlstate.as_str(), late.message.contains("is not approved")), ("42501", true), "{level}");
            run(&client, "COMMIT").await;
            let id = act(&admin, &alice, &request("instance.stop")).await.unwrap();
            act(&admin, &dora, &decide(&id, true)).await.unwrap();
        }
        seal_all(&superuser).await;
        let events = "SELECT count(*) FROM tenancy.audit_trail t JOIN tenancy.action_type_request r
                          ON r.id = (t.new_values ->> 'approval')::uuid
                         AND r.action_type = t.new_values ->> 'action_type'
                       WHERE t.operation = 'reveal' AND t.result = 'success'";
        assert_eq!(count(&superuser, events).await, 4, "the event of a reveal names its approval");
        let denied = "SELECT count(*) FROM tenancy.audit_trail WHERE operation = 'reveal' AND result = 'denied'
                         AND reason = 'action_not_approved' AND new_values ->> 'approval' IS NULL";
        assert_eq!(count(&superuser, denied).await, 6);
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn an_operator_without_a_token_reveals_nothing_unless_the_guardrail_lets_it() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        with_a_key(&superuser).await;
        act(&client, &database.token("alice"), "SELECT tenancy.put_secret('s', 'a value')").await.unwrap();
        let reveal = format!(
            "BEGIN; SET LOCAL tenancy.override_reason = 'hurry';
             SELECT tenancy.assume_organization('{ACME}', 'test'); SELECT tenancy.reveal_secret('s', 'test')"
        );
        let refusal = refused(&superuser, &reveal).await;
        assert_eq!((refusal.sqlstate.as_str(), refusal.message.contains("without a token")), ("42501", true));
        run(&superuser, "ROLLBACK; SELECT tenancy.set_guardrail('operator_reveal', 'warn', 'test')").await;
        assert_eq!(column(&superuser, &reveal).await.pop().unwrap(), "a value");
        run(&superuser, "COMMIT").await;
        let warned = "SELECT (new_values ->> 'guardrail') || ' ' || (new_values ->> 'object') FROM tenancy.audit_trail
                       WHERE operation = 'guardrail' AND result = 'warned' ORDER BY id";
        assert_eq!(column(&superuser, warned).await, ["literal_secret s", "operator_reveal s"]);
        seal_all(&superuser).await;
        let events = "SELECT result || ' ' || coalesce(reason, '') FROM tenancy.audit_trail
                       WHERE operation = 'reveal' ORDER BY id";
        assert_eq!(column(&superuser, events).await, ["denied operator_reveal", "success "]);
    });
}

#[test]
fn a_dump_carries_approvals() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        let id = act(&client, &database.token("alice"), &request("instance.stop")).await.unwrap();
        act(&client, &database.token("dora"), &decide(&id, true)).await.unwrap();
        act(&client, &database.token("alice"), &request("disk.delete")).await.unwrap();
        let all = "SELECT t::text FROM tenancy.action_type t UNION ALL
                   SELECT r::text FROM tenancy.action_type_request r ORDER BY 1";
        let before = column(&superuser, all).await;
        assert_eq!(before.len(), 4);
        let name = database.restore_a_dump().await;
        let mut config = database.config();
        let copy = connect(config.dbname(&name)).await;
        assert_eq!(column(&copy, all).await, before);
        let change = refused(&copy, "UPDATE tenancy.action_type_request SET state = 'approved'").await;
        assert_eq!(change.sqlstate, "42501", "the guard is on in the copy: {}", change.message);
        drop(copy);
        run(&superuser, &format!("DROP DATABASE {name} (FORCE)")).await;
    });
}

#[test]
fn whoever_takes_the_guard_of_approvals_away_is_recorded() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        act(&client, &database.token("alice"), &request("instance.stop")).await.unwrap();
        seal_all(&superuser).await;
        let table = "tenancy.action_type_request";
        run(&superuser, &format!("ALTER TABLE {table} DISABLE TRIGGER keep_controls")).await;
        run(&superuser, &format!("UPDATE {table} SET state = 'denied', decided_at = now()")).await;
        run(&superuser, &format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER keep_controls")).await;
        seal_all(&superuser).await;
        let sql = "SELECT count(*) > 0 FROM tenancy.audit_trail
                    WHERE operation = 'capture_off' AND table_name = 'action_type_request'";
        assert_eq!(value(&superuser, sql).await, "t");
        // The sealer finds what is done without a statement.
        let catalog = "SET allow_system_table_mods = on; UPDATE pg_trigger SET tgenabled = 'D'
                        WHERE tgname = 'keep_controls' AND tgrelid = 'tenancy.action_type'::regclass";
        run(&superuser, catalog).await;
        seal_all(&superuser).await;
        let gaps = "SELECT count(*) FROM tenancy.audit_trail WHERE operation = 'gap'";
        assert_eq!(count(&superuser, gaps).await, 1);
    });
}
