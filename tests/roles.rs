//! Roles and members that an organization's own admins keep: what each role permits, that nobody gives more than they
//! hold, and that the last admin stays.

use crate::action_types::act;
use crate::common::*;
use futures_util::future::join;
use pg_tenancy_core::controls::permission_set::{PermissionSet, Rule};
use rand::prelude::*;
use rand::rngs::StdRng;
use tokio_postgres::Client;

const LEVELS: [&str; 3] = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"];

const ADMINS: &str = "SELECT coalesce(string_agg(subject, ' ' ORDER BY subject), '') FROM tenancy.membership
    WHERE organization = 'aaaaaaaa-0000-4000-8000-000000000001' AND status = 'active' AND role IN ('admin', 'boss', \
        'chief')";

/// Runs a statement as a member in a transaction of their own; what refused it, by its name in the errors.
async fn refusal(client: &Client, token: &str, sql: &str) -> Option<String> {
    act(client, token, sql).await.err().map(|refusal| refusal.sqlstate)
}

/// Takes carol away, who is an admin of both organizations: alice is the last one of Acme.
async fn alice_alone(superuser: &Client) {
    run(superuser, &format!("SELECT tenancy.remove_membership('{ACME}', 'carol')")).await;
}

#[test]
fn the_roles_of_the_extension_permit_what_they_say_and_stay_as_they_are() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        let may = async |role: &str, domain: &str, action: &str| {
            run(&superuser, &format!("SELECT tenancy.set_membership('{ACME}', 'tess', '{role}')")).await;
            let asked = format!("SELECT tenancy.allowed('{domain}', '{action}')");
            act(&client, &database.token("tess"), &asked).await.unwrap() == "t"
        };
        let own = ["audit", "secret", "sso", "member", "role", "guardrail", "posture", "action", "break_glass"];
        for (role, domain, expected) in [
            ("viewer", "finding", [true, false, false, false]),
            ("member", "finding", [true, true, true, false]),
            ("admin", "finding", [true; 4]),
            ("auditor", "finding", [false; 4]),
        ] {
            for (action, expected) in ["read", "create", "update", "delete"].into_iter().zip(expected) {
                assert_eq!(may(role, domain, action).await, expected, "{role} {domain}:{action}");
                for domain in own {
                    let expected = role == "admin"
                        || role == "auditor" && action == "read" && !["secret", "sso"].contains(&domain);
                    assert_eq!(may(role, domain, action).await, expected, "{role} {domain}:{action}");
                }
            }
        }
        for sql in [
            "SELECT tenancy.create_role('viewer', 'mine')",
            "SELECT tenancy.grant_permission('viewer', 'secret', 'reveal')",
            "SELECT tenancy.deny_permission('admin', 'secret', 'reveal')",
            "SELECT tenancy.revoke_permission('admin', '*', '*')",
            "SELECT tenancy.remove_denial('viewer', 'secret', 'read')",
            "DELETE FROM tenancy.role WHERE name = 'auditor'",
            "UPDATE tenancy.role SET is_builtin = false WHERE name = 'admin'",
            "INSERT INTO tenancy.role (name, is_builtin) VALUES ('root', true)",
            "UPDATE tenancy.role_permission SET domain = 'x' WHERE role = 'member'",
        ] {
            assert_eq!(refused(&superuser, sql).await.sqlstate, "42939", "{sql}");
        }
    });
}

#[test]
fn a_membership_names_a_role_of_all_or_of_its_own_organization() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        let alice = database.token("alice");
        act(&client, &alice, "SELECT tenancy.define_role('boss', '{*:*}')").await.unwrap();
        act(&client, &database.token("bob"), "SELECT tenancy.define_role('boss', '{finding:read}')").await.unwrap();
        // A constraint, whoever writes.
        let steal = |of: &str| {
            format!(
                "UPDATE tenancy.membership SET role = 'boss', role_organization = '{of}'
                  WHERE organization = '{GLOBEX}' AND subject = 'carol'"
            )
        };
        assert_eq!(refused(&superuser, &steal(&ACME.to_string())).await.sqlstate, "23514");
        assert_eq!(refused(&superuser, &steal("00000000-0000-0000-0000-000000000000")).await.sqlstate, "23503");
        run(&superuser, &steal(&GLOBEX.to_string())).await;
        // Each means its own role by the name.
        let own = "SELECT string_agg(domain || ':' || action, ' ') FROM tenancy.effective_permissions()";
        run(&superuser, &format!("SELECT tenancy.set_membership('{ACME}', 'carol', 'boss')")).await;
        for (organization, expected) in [(ACME, "*:*"), (GLOBEX, "finding:read")] {
            run(&client, "BEGIN").await;
            let token = database.token("carol");
            client.query("SELECT tenancy.authenticate($1, $2)", &[&token, &organization]).await.unwrap();
            assert_eq!(value(&client, own).await, expected);
            run(&client, "COMMIT").await;
        }
        // A name is one role in an organization.
        let of_all = refused(&superuser, "SELECT tenancy.create_role('boss')").await;
        assert_eq!((of_all.sqlstate.as_str(), of_all.message.contains("2 organizations")), ("23505", true));
        let taken = act(&client, &alice, "SELECT tenancy.define_role('reader', '{finding:read}')").await.unwrap_err();
        assert_eq!(taken.sqlstate, "23505");
        // With an organization go its roles.
        run(&superuser, "SELECT tenancy.create_organization('Gone', 'dddddddd-0000-4000-8000-000000000004')").await;
        run(&superuser, "INSERT INTO tenancy.role VALUES ('dddddddd-0000-4000-8000-000000000004', 'gone')").await;
        run(&superuser, "DELETE FROM tenancy.organization WHERE name = 'Gone'").await;
        assert_eq!(count(&superuser, "SELECT count(*) FROM tenancy.role WHERE name = 'gone'").await, 0);
    });
}

#[test]
fn a_role_of_all_and_one_of_an_organization_that_are_made_at_once_do_not_share_a_name() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        let alice = database.token("alice");
        for round in 0..9 {
            let level = LEVELS[round % 3];
            run(&superuser, &format!("BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM pg_class")).await;
            run(&client, &format!("BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM pg_class")).await;
            authenticate(&client, &alice).await.unwrap();
            let end = async |client: &Client, sql: &str| {
                let done = try_rows(client, sql).await;
                run(client, if done.is_ok() { "COMMIT" } else { "ROLLBACK" }).await;
                done.err()
            };
            let (of_all, own) = (
                format!("SELECT tenancy.create_role('role {round}')"),
                format!("SELECT tenancy.define_role('role {round}', '{{finding:read}}')"),
            );
            let (one, other) = join(end(&superuser, &of_all), end(&client, &own)).await;
            let refused: Vec<_> = [one, other].into_iter().flatten().collect();
            assert!(refused.len() == 1 && ["23505", "40001"].contains(&&*refused[0].sqlstate), "{level}: {refused:?}");
            let roles = format!("SELECT count(*) FROM tenancy.role WHERE name = 'role {round}'");
            assert_eq!(count(&superuser, &roles).await, 1);
        }
    });
}

#[test]
fn a_role_permits_what_was_defined_last_and_nothing_of_a_definition_that_a_snapshot_does_not_show() {
    in_database(async |database| {
        let (client, other) = (database.application().await, database.application().await);
        let alice = database.token("alice");
        for level in LEVELS {
            let define = |rules: &str| format!("SELECT tenancy.define_role('narrow', '{{{rules}}}')");
            act(&client, &alice, &define("finding:read")).await.unwrap();
            run(&client, &format!("BEGIN ISOLATION LEVEL {level}")).await;
            authenticate(&client, &alice).await.unwrap();
            run(&client, "SELECT count(*) FROM tenancy.role").await;
            act(&other, &alice, &define("finding:read, secret:reveal")).await.unwrap();
            let done = try_rows(&client, &define("finding:read, finding:update")).await;
            run(&client, if done.is_ok() { "COMMIT" } else { "ROLLBACK" }).await;
            assert_eq!(done.err().map(|refusal| refusal.sqlstate), (level != LEVELS[0]).then(|| "40001".to_owned()));
            let rules = "SELECT string_agg(domain || ':' || action, ' ' ORDER BY domain, action)
                           FROM tenancy.role_permission WHERE role = 'narrow'";
            let expected =
                if level == LEVELS[0] { "finding:read finding:update" } else { "finding:read secret:reveal" };
            assert_eq!(act(&client, &alice, rules).await.unwrap(), expected, "{level}");
        }
    });
}

/// A set of few rules over few names, so that sets often lie within each other.
fn some_rules(random: &mut StdRng) -> Vec<String> {
    let rule = |random: &mut StdRng| {
        let mark = if random.random_bool(0.25) { "!" } else { "" };
        let domain = ["finding", "invoice", "*"].choose(random).unwrap();
        format!("{mark}{domain}:{}", ["read", "update", "*"].choose(random).unwrap())
    };
    (0..random.random_range(1..5)).map(|_| rule(random)).collect()
}

fn set(rules: &[String]) -> PermissionSet {
    rules.iter().map(|rule| Rule::parse(rule).unwrap()).collect()
}

fn array(rules: &[String]) -> String {
    format!("'{{{}}}'", rules.join(","))
}

#[test]
fn nobody_gives_more_than_they_hold() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        let seed: u64 = rand::rng().random();
        let mut random = StdRng::seed_from_u64(seed);
        let alice = database.token("alice");
        let (mut given, mut refused) = (0, 0);
        for round in 0..60 {
            // Whoever keeps members and roles holds that as well.
            let mut held = some_rules(&mut random);
            held.extend(["member:*", "role:*"].map(str::to_owned));
            let other = some_rules(&mut random);
            let define =
                |name: &str, rules: &[String]| format!("SELECT tenancy.define_role('{name}', {})", array(rules));
            for sql in [define("keeper", &held), define("other", &other)] {
                act(&client, &alice, &sql).await.unwrap();
            }
            run(&superuser, &format!("SELECT tenancy.set_membership('{ACME}', 'kim', 'keeper')")).await;
            let kim = database.token("kim");
            for (domain, sql) in [
                ("member", format!("SELECT tenancy.add_member('new {round}', 'other')")),
                ("role", define(&format!("own {round}"), &other)),
            ] {
                let may = set(&held).allows(domain, "create") && set(&other).within(&set(&held));
                if may {
                    given += 1
                } else {
                    refused += 1
                }
                let what = format!("{seed}: {other:?} by {held:?}: {sql}");
                match act(&client, &kim, &sql).await {
                    Ok(_) => assert!(may, "{what}"),
                    Err(refusal) => assert!(!may && refusal.sqlstate == "42501", "{what}: {refusal:?}"),
                }
            }
        }
        assert!(given > 0 && refused > 0, "{seed}: {given} given, {refused} refused");
    });
}

#[test]
fn what_the_giver_lost_since_the_sign_in_is_not_given() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        act(&client, &database.token("alice"), "SELECT tenancy.define_role('boss', '{*:*}')").await.unwrap();
        run(&superuser, &format!("SELECT tenancy.set_membership('{ACME}', 'kim', 'boss')")).await;
        for level in LEVELS {
            run(&client, &format!("BEGIN ISOLATION LEVEL {level}")).await;
            authenticate(&client, &database.token("kim")).await.unwrap();
            let lost = [
                "UPDATE tenancy.membership SET status = 'suspended' WHERE subject = 'kim'",
                "INSERT INTO tenancy.role_permission SELECT organization, name, 'invoice', 'pay', 'deny' FROM \
                    tenancy.role
                  WHERE name = 'boss'",
                &format!("SELECT tenancy.set_membership('{ACME}', 'kim', 'member')"),
            ];
            for (sql, sqlstate) in lost.iter().zip(["28000", "42501", "42501"]) {
                let other = database.superuser().await;
                run(&other, sql).await;
                run(&client, "SAVEPOINT s").await;
                let refused = refused(&client, "SELECT tenancy.add_member('new', 'admin')").await;
                assert_eq!(refused.sqlstate, sqlstate, "{level}: {refused:?}");
                run(&client, "ROLLBACK TO s").await;
                run(&other, &format!("SELECT tenancy.set_membership('{ACME}', 'kim', 'boss')")).await;
                run(&other, "DELETE FROM tenancy.role_permission WHERE role = 'boss' AND effect = 'deny'").await;
            }
            run(&client, "ROLLBACK").await;
        }
        // Nobody makes their own membership longer.
        let (in_a_day, in_two) = ("now() + interval '1 day'", "now() + interval '2 days'");
        run(&superuser, &format!("SELECT tenancy.set_membership('{ACME}', 'kim', 'admin', valid_until => {in_a_day})"))
            .await;
        let longer = format!("SELECT tenancy.change_member('kim', valid_until => {in_two})");
        assert_eq!(refusal(&client, &database.token("kim"), &longer).await.as_deref(), Some("42501"));
        assert_eq!(refusal(&client, &database.token("alice"), &longer).await, None);
    });
}

#[test]
fn what_the_giver_gained_since_the_sign_in_is_not_given() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        act(&client, &database.token("alice"), "SELECT tenancy.define_role('keeper', '{member:*}')").await.unwrap();
        let give = "SELECT tenancy.add_member('new', 'admin')";
        for level in LEVELS {
            for gained in [
                &format!("SELECT tenancy.set_membership('{ACME}', 'kim', 'admin')"),
                "INSERT INTO tenancy.role_permission SELECT organization, name, '*', '*', 'allow' FROM tenancy.role
                  WHERE name = 'keeper'",
            ] {
                run(&superuser, &format!("SELECT tenancy.set_membership('{ACME}', 'kim', 'keeper')")).await;
                run(&client, &format!("BEGIN ISOLATION LEVEL {level}")).await;
                authenticate(&client, &database.token("kim")).await.unwrap();
                run(&superuser, gained).await;
                let refused = refused(&client, give).await;
                let too_much = (refused.sqlstate.as_str(), refused.message.contains("more than they hold"));
                assert_eq!(too_much, ("42501", true), "{level}: {refused:?}");
                run(&client, "ROLLBACK").await;
                // The next transaction has it.
                act(&client, &database.token("kim"), give).await.unwrap();
                run(&superuser, &format!("SELECT tenancy.remove_membership('{ACME}', 'new')")).await;
                run(&superuser, "DELETE FROM tenancy.role_permission WHERE role = 'keeper' AND domain = '*'").await;
            }
        }
    });
}

#[test]
fn the_last_admin_stays_whatever_is_called() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        alice_alone(&superuser).await;
        let alice = database.token("alice");
        for sql in [
            "SELECT tenancy.drop_member('alice', 'leaves')",
            "SELECT tenancy.change_member('alice', role => 'viewer')",
            "SELECT tenancy.change_member('alice', status => 'suspended')",
            "SELECT tenancy.change_member('alice', valid_until => now() + interval '1 year')",
        ] {
            let refused = act(&client, &alice, sql).await.unwrap_err();
            assert_eq!(
                (refused.sqlstate.as_str(), refused.hint.unwrap().contains("add_member")),
                ("55000", true),
                "{sql}"
            );
            // A member has no reason that passes.
            let reason = format!("SET LOCAL tenancy.override_reason = 'please'; {sql}");
            assert_eq!(refusal(&client, &alice, &reason).await.as_deref(), Some("55000"), "{sql}");
        }
        let by_operators = [
            format!("SELECT tenancy.remove_membership('{ACME}', 'alice')"),
            format!("SELECT tenancy.set_membership('{ACME}', 'alice', 'reader')"),
            format!("SELECT tenancy.set_membership('{ACME}', 'alice', 'admin', status => 'suspended')"),
            format!(
                "SELECT tenancy.set_membership('{ACME}', 'alice', 'admin', valid_until => now() + interval '1 year')"
            ),
            format!("DELETE FROM tenancy.membership WHERE organization = '{ACME}'"),
        ];
        for sql in &by_operators {
            assert_eq!(refused(&superuser, sql).await.sqlstate, "55000", "{sql}");
        }
        // An administrator of the database passes with a reason, which is an event.
        let [remove, ..] = &by_operators;
        run(
            &superuser,
            &format!("BEGIN; SET LOCAL tenancy.override_reason = 'the company is closed'; {remove}; COMMIT"),
        )
        .await;
        let events =
            "SELECT count(*) FROM tenancy.event WHERE operation = 'override' AND reason = 'the company is closed'";
        assert_eq!(count(&superuser, events).await, 1);
        let posture = format!(
            "SELECT state || ' ' || count FROM tenancy.posture WHERE control = 'identity.admins' AND organization = \
                '{ACME}'"
        );
        assert_eq!(value(&superuser, &posture).await, "fail 0");
        // One whose only admins end may lose none of those either, and an organization without any is left alone.
        let until = "valid_until => now() + interval '1 day'";
        run(&superuser, &format!("SELECT tenancy.set_membership('{ACME}', 'alice', 'admin', {until})")).await;
        assert_eq!(refused(&superuser, remove).await.sqlstate, "55000");
        assert_eq!(value(&superuser, &posture).await, "warn 1");
        assert_eq!(refusal(&client, &alice, "SELECT tenancy.change_member('victor', role => 'admin')").await, None);
        assert_eq!(value(&superuser, &posture).await, "ok 0");
        assert_eq!(refusal(&client, &alice, "SELECT tenancy.drop_member('alice', 'leaves')").await, None);
        run(&superuser, &format!("SELECT tenancy.set_membership('{INITECH}', 'ian', 'reader')")).await;
        run(&superuser, &format!("SELECT tenancy.remove_membership('{INITECH}', 'ian')")).await;
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn the_last_admin_stays_whatever_becomes_of_the_role() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        let alice = database.token("alice");
        alice_alone(&superuser).await;
        run(&superuser, "SELECT tenancy.create_role('chief'), tenancy.grant_permission('chief', '*', '*')").await;
        act(&client, &alice, "SELECT tenancy.define_role('boss', '{*:*}')").await.unwrap();
        for (role, narrower) in [
            (
                "chief",
                &[
                    "SELECT tenancy.revoke_permission('chief', '*', '*')",
                    "SELECT tenancy.deny_permission('chief', 'a', 'b')",
                ][..],
            ),
            ("boss", &["DELETE FROM tenancy.role_permission WHERE role = 'boss'"]),
        ] {
            run(
                &superuser,
                &format!(
                    "SELECT tenancy.set_membership('{ACME}', 'dora', '{role}'),
                                             tenancy.set_membership('{ACME}', 'alice', 'reader')"
                ),
            )
            .await;
            for sql in narrower {
                let refused = refused(&superuser, sql).await;
                assert_eq!(
                    (refused.sqlstate.as_str(), refused.message.contains(&ACME.to_string())),
                    ("55000", true),
                    "{sql}"
                );
            }
            if role == "boss" {
                for permissions in ["{*:read}", "{*:*, !invoice:delete}", "{}"] {
                    let sql = format!("SELECT tenancy.define_role('boss', '{permissions}')");
                    assert_eq!(
                        refusal(&client, &database.token("dora"), &sql).await.as_deref(),
                        Some("55000"),
                        "{sql}"
                    );
                }
            }
            run(&superuser, &format!("SELECT tenancy.set_membership('{ACME}', 'alice', 'admin')")).await;
            // Another admin is there: now it may be narrower.
            for sql in narrower {
                run(&superuser, sql).await;
            }
        }
    });
}

#[test]
fn two_admins_who_remove_each_other_at_once_leave_one() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        let (one, other) = (database.application().await, database.application().await);
        alice_alone(&superuser).await;
        run(&superuser, "SELECT tenancy.create_role('chief')").await;
        let restored = format!(
            "SET tenancy.override_reason = 'test'; SELECT tenancy.grant_permission('chief', '*', '*'),
                    tenancy.set_membership('{ACME}', 'alice', 'admin'), tenancy.set_membership('{ACME}', 'dora', \
                        'chief');
             RESET tenancy.override_reason"
        );
        let (alice, dora) = (database.token("alice"), database.token("dora"));
        let narrower = "SELECT tenancy.revoke_permission('chief', '*', '*')";
        for (first, second) in [
            ("SELECT tenancy.drop_member('dora', 'test')", "SELECT tenancy.drop_member('alice', 'test')"),
            (
                "SELECT tenancy.change_member('dora', status => 'suspended')",
                "SELECT tenancy.drop_member('alice', 'test')",
            ),
            (
                "SELECT tenancy.change_member('dora', role => 'viewer')",
                "SELECT tenancy.change_member('alice', role => 'viewer')",
            ),
            (narrower, "SELECT tenancy.drop_member('alice', 'test')"),
            ("SELECT tenancy.change_member('alice', role => 'chief')", narrower),
        ] {
            for level in LEVELS {
                for _ in 0..3 {
                    run(&superuser, &restored).await;
                    if first.contains("'chief')") {
                        // dora is no admin here: alice alone takes the role that is narrowed.
                        run(&superuser, &format!("SELECT tenancy.set_membership('{ACME}', 'dora', 'reader')")).await;
                    }
                    let begin = async |client: &Client, token: &str, sql: &str| {
                        run(client, &format!("BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM pg_class")).await;
                        if sql != narrower {
                            authenticate(client, token).await.unwrap();
                        }
                    };
                    let by = |sql: &str, client| if sql == narrower { &superuser } else { client };
                    let (left, right) = (by(first, &one), by(second, &other));
                    begin(left, &alice, first).await;
                    begin(
                        right,
                        if second.contains("dora") || first.contains("chief") { &alice } else { &dora },
                        second,
                    )
                    .await;
                    let runs = async |client: &Client, sql: &str| {
                        let done = try_rows(client, sql).await;
                        run(client, if done.is_ok() { "COMMIT" } else { "ROLLBACK" }).await;
                        done.err()
                    };
                    let (a, b) = join(runs(left, first), runs(right, second)).await;
                    let refusals: Vec<_> = [a, b].into_iter().flatten().collect();
                    let fits = |state: &str| ["55000", "40001", "28000", "42501"].contains(&state);
                    assert_eq!(refusals.len(), 1, "{level}: {first} / {second}: {refusals:?}");
                    assert!(fits(&refusals[0].sqlstate), "{level}: {first} / {second}: {refusals:?}");
                    let admins = format!(
                        "SELECT count(*) FROM tenancy.membership m WHERE m.organization = '{ACME}' AND m.status = \
                            'active'
                            AND EXISTS (SELECT FROM tenancy.role_permission p WHERE p.role = m.role AND p.domain = '*'
                                           AND p.action = '*')"
                    );
                    assert_eq!(count(&superuser, &admins).await, 1, "{level}: {first} / {second}");
                }
            }
        }
        assert_eq!(value(&superuser, ADMINS).await.split(' ').count(), 1);
    });
}

#[test]
fn another_organization_learns_nothing_of_members_and_roles() {
    in_database(async |database| {
        let client = database.application().await;
        let (alice, bob) = (database.token("alice"), database.token("bob"));
        act(&client, &alice, "SELECT tenancy.define_role('boss', '{*:*}')").await.unwrap();
        act(&client, &alice, "SELECT tenancy.add_member('ann', 'boss')").await.unwrap();
        for sql in [
            "SELECT tenancy.add_member('new', 'boss')",
            "SELECT tenancy.change_member('bob', role => 'boss')",
            "SELECT tenancy.drop_role('boss')",
            "SELECT tenancy.drop_member('ann', 'test')",
            "SELECT tenancy.change_member('ann', status => 'suspended')",
            "SELECT * FROM tenancy.effective_permissions('ann')",
        ] {
            let unknown = |text: &str| text.replace("boss", "nope").replace("ann", "nope");
            let theirs = act(&client, &bob, sql).await.unwrap_err();
            let nobodys = act(&client, &bob, &unknown(sql)).await.unwrap_err();
            assert_eq!((unknown(&theirs.message), theirs.sqlstate), (nobodys.message, nobodys.sqlstate), "{sql}");
            assert_eq!((theirs.detail, theirs.hint), (nobodys.detail, nobodys.hint), "{sql}");
        }
        let seen = "SELECT count(*) FROM tenancy.role WHERE name = 'boss'";
        assert_eq!(act(&client, &bob, seen).await.unwrap(), "0");
        assert_eq!(act(&client, &alice, seen).await.unwrap(), "1");
        let seen = "SELECT count(*) FROM tenancy.role_permission WHERE role = 'boss'";
        assert_eq!(
            (act(&client, &bob, seen).await.unwrap(), act(&client, &alice, seen).await.unwrap()),
            ("0".into(), "1".into())
        );
        let foreign = format!("SELECT count(*) FROM tenancy.membership WHERE organization = '{ACME}'");
        assert_eq!(act(&client, &bob, &foreign).await.unwrap(), "0");
        // Without the permission nothing is seen of one's own.
        let victor = database.token("victor");
        act(&client, &alice, "SELECT tenancy.define_role('narrow', '{finding:read}')").await.unwrap();
        act(&client, &alice, "SELECT tenancy.change_member('victor', role => 'narrow')").await.unwrap();
        for table in ["role", "role_permission", "membership"] {
            let seen = format!("SELECT count(*) FROM tenancy.{table}");
            assert_eq!(act(&client, &victor, &seen).await.unwrap(), "0", "{table}");
        }
    });
}

#[test]
fn each_function_asks_for_its_permission_and_each_change_is_an_event() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        let alice = database.token("alice");
        let calls = [
            ("member:create", "SELECT tenancy.add_member('ann', 'narrow')"),
            ("member:update", "SELECT tenancy.change_member('ann', status => 'suspended', reason => 'on leave')"),
            ("member:read", "SELECT count(*) FROM tenancy.effective_permissions('alice')"),
            ("member:delete", "SELECT tenancy.drop_member('ann', 'has left')"),
            ("role:create", "SELECT tenancy.define_role('fresh', '{finding:read}')"),
            ("role:update", "SELECT tenancy.define_role('fresh', '{finding:read, !finding:delete}')"),
            ("role:delete", "SELECT tenancy.drop_role('fresh')"),
        ];
        act(&client, &alice, "SELECT tenancy.define_role('narrow', '{finding:read}')").await.unwrap();
        act(&client, &alice, "SELECT tenancy.change_member('victor', role => 'narrow')").await.unwrap();
        let events = "SELECT count(*) FROM tenancy.event WHERE domain IN ('membership', 'role') AND result = 'success'";
        for (permission, sql) in calls {
            let define =
                |permissions: &str| format!("SELECT tenancy.define_role('narrow', '{{finding:*, {permissions}}}')");
            let (domain, action) = permission.split_once(':').unwrap();
            for others in ["", &format!("*:*, !{permission}"), &format!("{domain}:*, !*:{action}")] {
                act(&client, &alice, &define(others).replace(", }", "}")).await.unwrap();
                let refused = act(&client, &database.token("victor"), sql).await.unwrap_err();
                assert_eq!(refused.sqlstate, "42501", "{sql} with {others}: {refused:?}");
            }
            act(&client, &alice, &define(permission)).await.unwrap();
            let before = count(&superuser, events).await;
            act(&client, &database.token("victor"), sql).await.unwrap();
            let written = count(&superuser, events).await - before;
            assert_eq!(
                written,
                i64::from(!sql.contains("effective"))
                    + i64::from(sql.contains("'{finding:read}'"))
                    + i64::from(sql.contains("drop_role")) * 2,
                "{sql}"
            );
        }
        let reasons = "SELECT string_agg(reason, ', ' ORDER BY occurred_at) FROM tenancy.event
                        WHERE domain = 'membership' AND reason IS NOT NULL";
        assert_eq!(value(&superuser, reasons).await, "on leave, has left");
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn what_changes_counts_from_the_next_transaction_on() {
    in_database(async |database| {
        let (client, other) = (database.application().await, database.application().await);
        let alice = database.token("alice");
        act(
            &other,
            &alice,
            "SELECT tenancy.define_role('narrow', '{finding:read, finding:update, cloud_account:read}')",
        )
        .await
        .unwrap();
        act(&other, &alice, "SELECT tenancy.change_member('victor', role => 'narrow')").await.unwrap();
        as_tenant(&client, &database.token("victor")).await;
        act(&other, &alice, "SELECT tenancy.define_role('narrow', '{finding:read, !finding:update}')").await.unwrap();
        assert_eq!(value(&client, "SELECT tenancy.allowed('finding', 'update')").await, "t");
        run(&client, "COMMIT").await;
        as_tenant(&client, &database.token("victor")).await;
        assert_eq!(value(&client, "SELECT tenancy.allowed('finding', 'update')").await, "f");
        assert_eq!(value(&client, "SELECT tenancy.allowed_actions('finding')::text").await, "{read}");
        let rules = "SELECT string_agg(concat_ws(' ', domain, action, effect, source), '; ') FROM \
            tenancy.effective_permissions()";
        assert_eq!(value(&client, rules).await, "finding read allow role narrow; finding update deny role narrow");
        run(&client, "COMMIT").await;
    });
}

/// Columns as arguments, of which the answers are remembered, against the rules.
#[test]
fn an_answer_that_is_remembered_is_that_of_the_rules() {
    in_database(async |database| {
        let client = database.application().await;
        let seed: u64 = rand::rng().random();
        let mut random = StdRng::seed_from_u64(seed);
        let long = "x".repeat(60);
        for _ in 0..30 {
            let rules = some_rules(&mut random);
            let define = format!("SELECT tenancy.define_role('narrow', {})", array(&rules));
            act(&client, &database.token("alice"), &define).await.unwrap();
            act(&client, &database.token("alice"), "SELECT tenancy.change_member('victor', role => 'narrow')")
                .await
                .unwrap();
            as_tenant(&client, &database.token("victor")).await;
            let asked = format!(
                "SELECT d, a, tenancy.allowed(d, a) FROM generate_series(1, 3) n,
                        unnest('{{finding,invoice,new,{long},findin}}'::text[]) d, \
                            unnest('{{read,update,delete,gread}}'::text[]) a"
            );
            for row in rows(&client, &asked).await {
                let [domain, action, answer] = [0, 1, 2].map(|n| row[n].clone().unwrap());
                let expected = set(&rules).allows(&domain, &action);
                assert_eq!(answer == "t", expected, "{seed}: {rules:?} {domain}:{action}");
            }
            let refused =
                "SELECT tenancy.authorize(d, a) FROM (VALUES ('finding', 'read'), ('finding', 'delete')) v (d, a)";
            let may = ["read", "delete"].iter().all(|action| set(&rules).allows("finding", action));
            assert_eq!(try_rows(&client, refused).await.is_ok(), may, "{seed}: {rules:?}");
            run(&client, "ROLLBACK").await;
        }
    });
}

#[test]
fn what_cannot_be_meant_is_refused_and_leaves_nothing() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        let alice = database.token("alice");
        let many = format!(
            "SELECT tenancy.define_role('big', ARRAY(SELECT 'd' || n || ':read' FROM generate_series(1, {}) n))",
            1025
        );
        let long = "x".repeat(2001);
        let cases = [
            ("22023", "SELECT tenancy.add_member('', 'viewer')".to_owned()),
            ("22023", "SELECT tenancy.add_member(E'a\\nb', 'viewer')".into()),
            ("22004", "SELECT tenancy.add_member(NULL, 'viewer')".into()),
            ("22004", "SELECT tenancy.add_member('ann', NULL)".into()),
            ("42704", "SELECT tenancy.add_member('ann', 'nope')".into()),
            ("42704", "SELECT tenancy.add_member('ann', 'viewer', 'https://nobody.example/')".into()),
            ("22023", "SELECT tenancy.add_member('ann', 'viewer', valid_until => now() - interval '1 second')".into()),
            ("22023", "SELECT tenancy.add_member('ann', 'viewer', valid_until => '-infinity')".into()),
            ("23505", "SELECT tenancy.add_member('victor', 'viewer')".into()),
            ("42704", "SELECT tenancy.change_member('nobody', role => 'viewer')".into()),
            ("22023", "SELECT tenancy.change_member('victor', status => 'gone')".into()),
            ("22023", "SELECT tenancy.change_member('victor', valid_until => '2020-01-01')".into()),
            ("22023", format!("SELECT tenancy.change_member('victor', role => 'viewer', reason => '{long}')")),
            ("22004", "SELECT tenancy.drop_member('victor', NULL)".into()),
            ("22023", "SELECT tenancy.drop_member('victor', '   ')".into()),
            ("22004", "SELECT tenancy.define_role('big', NULL)".into()),
            ("22004", "SELECT tenancy.define_role('big', '{finding:read, NULL}')".into()),
            ("22023", many),
            ("22023", "SELECT tenancy.define_role(' big', '{finding:read}')".into()),
            ("22023", "SELECT tenancy.define_role('', '{finding:read}')".into()),
            ("22023", "SELECT tenancy.define_role('big', '{finding}')".into()),
            ("22023", "SELECT tenancy.define_role('big', '{a:b:c}')".into()),
            ("22023", "SELECT tenancy.define_role('big', '{!}')".into()),
            ("23505", "SELECT tenancy.define_role('admin', '{finding:read}')".into()),
            ("42704", "SELECT tenancy.drop_role('nope')".into()),
            ("42704", "SELECT tenancy.drop_role('viewer')".into()),
        ];
        let state = "SELECT (SELECT json_agg(m ORDER BY subject, organization)::text FROM tenancy.membership m)
                            || (SELECT count(*) FROM tenancy.role)";
        let before = value(&superuser, state).await;
        for (sqlstate, sql) in cases {
            let refused = act(&client, &alice, &sql).await.expect_err(&sql);
            assert_eq!(refused.sqlstate, sqlstate, "{sql}: {refused:?}");
        }
        assert_eq!(value(&superuser, state).await, before);
        // Nobody has a context, or nothing can be written.
        let call = "SELECT tenancy.add_member('ann', 'viewer')";
        assert_eq!(refused(&client, call).await.sqlstate, "28000");
        run(&client, "BEGIN READ ONLY").await;
        authenticate(&client, &alice).await.unwrap();
        assert_eq!(refused(&client, call).await.sqlstate, "25006");
        run(&client, "ROLLBACK").await;
        // In use, and repeated.
        act(&client, &alice, "SELECT tenancy.define_role('narrow', '{finding:read}')").await.unwrap();
        act(&client, &alice, "SELECT tenancy.add_member('ann', 'narrow')").await.unwrap();
        let in_use = act(&client, &alice, "SELECT tenancy.drop_role('narrow')").await.unwrap_err();
        assert_eq!((in_use.sqlstate.as_str(), in_use.message.contains("1 members")), ("55000", true));
        let events = "SELECT count(*) FROM tenancy.event WHERE domain IN ('membership', 'role')";
        let before = count(&superuser, events).await;
        act(&client, &alice, "SELECT tenancy.change_member('ann', role => 'narrow')").await.unwrap();
        act(&client, &alice, "SELECT tenancy.define_role('narrow', '{finding:read}')").await.unwrap();
        assert_eq!(count(&superuser, events).await, before, "a call that changes nothing is no event");
    });
}
