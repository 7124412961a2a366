//! Who may do what with secrets and action types: each function for each role, domain, scope and state, against the
//! permissions that a function asks for. And what a member of another organization learns, which is nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::action_types::{act, prepare, request};
use crate::common::*;
use crate::secrets::with_a_key;
use tokio_postgres::Client;

/// What a function asks for. It fails with 42501 where a permission is missing, with 42704 where the secret is not to
/// be seen.
enum Needs {
    Nothing,
    /// A permission in the domain that is named.
    InDomain(&'static str),
    /// `read`, to see the secret, and a permission in its domain.
    OfSecret(&'static str),
    /// What depends on scope and state of the version.
    ToReveal,
    /// A permission in the domain `action`.
    ForActions(&'static str),
    /// A permission in the domain `exception`.
    ForExceptions(&'static str),
    /// A permission in the domain `review`.
    ForReviews(&'static str),
    /// A context, and no permission.
    Context,
}

/// A function that applications may call, what it asks for, and a call.
struct Rule(&'static str, Needs, &'static str);

const RULES: [Rule; 36] = [
    Rule("put_secret", Needs::InDomain("create"), "'new', 'v', domain => '{domain}', scope => '{scope}'"),
    Rule("secret_recipient", Needs::InDomain("create"), "'{domain}'"),
    Rule("reveal_secret", Needs::ToReveal, "'{name}', 'test', {version}, 'instance.stop'"),
    Rule("destroy_secret", Needs::OfSecret("destroy"), "'{name}', 'test'"),
    Rule("begin_rotation", Needs::OfSecret("rotate"), "'{name}', 'another value'"),
    Rule("supply_value", Needs::OfSecret("rotate"), "'{name}', {version}, 'another value'"),
    Rule("promote", Needs::OfSecret("rotate"), "'{name}', {version}"),
    Rule("roll_back", Needs::OfSecret("rotate"), "'{name}', 'test'"),
    Rule("retire", Needs::OfSecret("rotate"), "'{name}', {version}, 'test'"),
    Rule("abandon_rotation", Needs::OfSecret("rotate"), "'{name}', 'test'"),
    Rule("report_health", Needs::OfSecret("report"), "'{name}', {version}, true"),
    Rule("set_secret_policy", Needs::OfSecret("update"), "'{name}', NULL, NULL, NULL, NULL, NULL, NULL, NULL"),
    Rule("external_id", Needs::OfSecret("read"), "'{name}'"),
    Rule("forget_keys", Needs::Nothing, ""),
    Rule("request_action_type", Needs::ForActions("request"), "'{action}', 'test'"),
    Rule("decide_action_type", Needs::ForActions("approve"), "'{request}', true, 'test'"),
    Rule("withdraw_action_type", Needs::ForActions("approve"), "'{action}', 'test'"),
    Rule("action_approval", Needs::ForActions("read"), "'{action}'"),
    Rule("define_exception_kind", Needs::ForExceptions("define"), "'own', 'test', '{}', 'test', tenancy.org_id()"),
    Rule(
        "add_exception",
        Needs::ForExceptions("request"),
        "'finding', 'new', 'a reason that says enough', now() + interval '1 day'",
    ),
    Rule("decide_exception", Needs::ForExceptions("approve"), "'{exception}', true, 'test'"),
    Rule("amend_exception", Needs::ForExceptions("request"), "'{exception}', now() + interval '2 days'"),
    Rule("revoke_exception", Needs::ForExceptions("approve"), "'{exception}', 'test'"),
    Rule("excepted", Needs::ForExceptions("read"), "'finding'"),
    Rule("exception_of", Needs::ForExceptions("read"), "'finding', '{target}'"),
    Rule("is_excepted", Needs::Context, "'finding', '{target}'"),
    Rule("open_review", Needs::ForReviews("open"), "'memberships', 'test', now() + interval '1 day'"),
    Rule("assign_review", Needs::ForReviews("open"), "'{review}', '{1}', 'dora'"),
    Rule("close_review", Needs::ForReviews("open"), "'{review}'"),
    Rule("cancel_review", Needs::ForReviews("open"), "'{review}', 'test'"),
    Rule("schedule_review", Needs::ForReviews("open"), "'memberships', '30 days', '10 days'"),
    Rule("end_review_schedule", Needs::ForReviews("open"), "'{schedule}', 'test'"),
    Rule("decide", Needs::ForReviews("decide"), "'{review}', 1, 'keep', 'test'"),
    Rule("decide_many", Needs::ForReviews("decide"), "'{review}', '{1}', 'keep', 'test'"),
    Rule("refresh_item", Needs::ForReviews("decide"), "'{review}', 1"),
    Rule("review_report", Needs::ForReviews("read"), "'{review}'"),
];

const DOMAINS: [&str; 2] = ["secret", "finance"];
const SCOPES: [&str; 2] = ["read_only", "write"];

/// Each state of a version, and how the version with that number comes to it.
const STATES: [(&str, i32, &[&str]); 7] = [
    ("announced", 2, &["begin_rotation('{name}')"]),
    ("pending", 2, &["begin_rotation('{name}', 'value 2')"]),
    ("verified", 2, &["begin_rotation('{name}', 'value 2')", "report_health('{name}', 2, true)"]),
    ("failed", 2, &["begin_rotation('{name}', 'value 2')", "report_health('{name}', 2, false)"]),
    ("current", 1, &[]),
    (
        "previous",
        1,
        &["begin_rotation('{name}', 'value 2')", "report_health('{name}', 2, true)", "promote('{name}', 2)"],
    ),
    ("retired", 2, &["begin_rotation('{name}', 'value 2')", "abandon_rotation('{name}', 'test')"]),
];

/// A version of a secret.
struct Version {
    name: String,
    domain: &'static str,
    scope: &'static str,
    state: &'static str,
    number: i32,
}

impl Version {
    fn all() -> Vec<Version> {
        let mut all = Vec::new();
        for domain in DOMAINS {
            for scope in SCOPES {
                let version = |(state, number, _)| Version {
                    name: format!("{domain} {scope} {state}"),
                    domain,
                    scope,
                    state,
                    number,
                };
                all.extend(STATES.map(version));
            }
        }
        all
    }

    fn fill(&self, text: &str) -> String {
        let text = text.replace("{name}", &self.name).replace("{version}", &self.number.to_string());
        text.replace("{domain}", self.domain).replace("{scope}", self.scope)
    }
}

/// How far a caller gets.
#[derive(Debug, PartialEq)]
pub enum Access {
    Unknown,
    Denied,
    /// The function did its work, or refused it for another reason.
    Granted,
}

pub fn access(done: &Result<Vec<Vec<Option<String>>>, Refusal>) -> Access {
    match done {
        Err(refusal) if refusal.sqlstate == "42704" => Access::Unknown,
        Err(refusal) if refusal.sqlstate == "42501" => Access::Denied,
        _ => Access::Granted,
    }
}

/// A role: what it may do in the domain `secret`.
type May = BTreeSet<&'static str>;

fn granted(may: &May, all: &[&str]) -> Access {
    if all.iter().all(|action| may.contains(action)) { Access::Granted } else { Access::Denied }
}

impl Needs {
    fn expected(&self, may: &May, version: &Version) -> Access {
        match self {
            Needs::Nothing | Needs::Context => Access::Granted,
            Needs::InDomain(action)
            | Needs::ForActions(action)
            | Needs::ForExceptions(action)
            | Needs::ForReviews(action) => granted(may, &[action]),
            Needs::OfSecret(_) if !may.contains("read") => Access::Unknown,
            Needs::OfSecret(action) => granted(may, &[action]),
            Needs::ToReveal if !may.contains("read") && !may.contains("reveal") => Access::Unknown,
            Needs::ToReveal => {
                let handed_out = ["current", "previous"].contains(&version.state);
                let action = if handed_out { "reveal" } else { "rotate" };
                let all = [action, "reveal_write"];
                granted(may, &all[..if version.scope == "write" { 2 } else { 1 }])
            }
        }
    }
}

/// Roles of these actions: none and all of them, each alone and with `read`, and all but each.
fn roles(actions: &BTreeSet<&'static str>) -> BTreeSet<May> {
    let mut roles = BTreeSet::from([May::new(), actions.clone()]);
    for action in actions {
        roles.insert(May::from([*action]));
        roles.insert(May::from([*action, "read"]));
        roles.insert(actions.iter().copied().filter(|other| other != action).collect());
    }
    roles
}

/// The actions that a domain has, by the rules.
fn actions(of_secrets: bool) -> BTreeSet<&'static str> {
    let mut actions = BTreeSet::from(["read"]);
    for Rule(_, needs, _) in &RULES {
        match needs {
            Needs::InDomain(action) | Needs::OfSecret(action) if of_secrets => {
                actions.insert(action);
            }
            Needs::ToReveal if of_secrets => actions.extend(["reveal", "rotate", "reveal_write"]),
            Needs::ForActions(action) if !of_secrets => {
                actions.insert(action);
            }
            _ => (),
        }
    }
    actions
}

/// Has a member of Acme with a role that may do this in the domain.
async fn member(superuser: &Client, name: &str, domain: &str, may: &May) {
    let grants: Vec<String> =
        may.iter().map(|action| format!(", tenancy.grant_permission('{name}', '{domain}', '{action}')")).collect();
    let sql = format!(
        "SELECT tenancy.create_role('{name}'), tenancy.set_membership('{ACME}', '{name}', '{name}'){}",
        grants.concat()
    );
    run(superuser, &sql).await;
}

/// What is there for all organizations.
async fn begin(superuser: &Client) {
    with_a_key(superuser).await;
    prepare(superuser).await;
    run(superuser, "SELECT tenancy.set_guardrail('literal_secret', 'off', 'test')").await;
}

/// Acme has an approved action type, and a secret for each domain, scope and state.
async fn with_secrets(database: &Database, client: &Client) -> Vec<Version> {
    let id = act(client, &database.token("alice"), &request("instance.stop")).await.unwrap();
    let approve = format!("SELECT tenancy.decide_action_type('{id}', true, 'test')");
    act(client, &database.token("dora"), &approve).await.unwrap();
    let all = Version::all();
    as_tenant(client, &database.token("alice")).await;
    for version in &all {
        let put = "SELECT tenancy.put_secret('{name}', 'value 1', domain => '{domain}', scope => '{scope}')";
        run(client, &version.fill(put)).await;
        let (_, _, calls) = STATES.iter().find(|(state, _, _)| *state == version.state).unwrap();
        for call in *calls {
            run(client, &format!("SELECT tenancy.{}", version.fill(call))).await;
        }
        let state = "SELECT v.state FROM tenancy.secret_version v JOIN tenancy.secret s ON s.id = v.secret
                      WHERE s.name = '{name}' AND number = {version}";
        assert_eq!(value(client, &version.fill(state)).await, version.state);
    }
    run(client, "COMMIT").await;
    all
}

/// Runs a call within the open transaction, and takes it back.
pub async fn attempt(client: &Client, function: &str, arguments: &str) -> Result<Vec<Vec<Option<String>>>, Refusal> {
    run(client, "SAVEPOINT before").await;
    let done = try_rows(client, &format!("SELECT tenancy.{function}({arguments})")).await;
    run(client, "ROLLBACK TO before; RELEASE before").await;
    done
}

/// Called by views in the name of whoever reads them. They tell nothing of a secret.
const OF_VIEWS: [&str; 5] =
    ["clock", "database_posture_for_caller", "posture_scope", "rotation_due_at", "unusable_keys"];

/// The matrix of these is in `tests/member_access.rs`.
const OF_MEMBERS: [&str; 7] = [
    "add_member",
    "allowed_actions",
    "change_member",
    "define_role",
    "drop_member",
    "drop_role",
    "effective_permissions",
];

/// The matrix of these is in `tests/break_glass.rs`.
const OF_BREAK_GLASS: [&str; 9] = [
    "approve_break_glass",
    "break_glass",
    "break_glass_report",
    "cancel_break_glass",
    "deny_break_glass",
    "end_break_glass",
    "request_break_glass",
    "set_break_glass_policy",
    "sign_off_break_glass",
];

/// The functions of the catalog that an application may call, and that files of these folders or names declare.
pub async fn callable(superuser: &Client, of: &[&str]) -> BTreeSet<String> {
    let callable = "SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'tenancy'::regnamespace
                       AND has_function_privilege('tenancy_application', oid, 'EXECUTE')";
    let callable = column(superuser, callable).await;
    let mut declared = BTreeSet::new();
    for place in of {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(place);
        let files = match path.is_dir() {
            true => std::fs::read_dir(path).unwrap().map(|file| file.unwrap().path()).collect(),
            false => vec![path],
        };
        for file in files {
            let text = std::fs::read_to_string(file).unwrap();
            let name = |rest: &str| rest.split('(').next().unwrap().to_owned();
            declared.extend(text.split("FUNCTION tenancy.").skip(1).map(name));
            declared.extend(text.split("PROCEDURE tenancy.").skip(1).map(name));
        }
    }
    callable.into_iter().filter(|name| declared.contains(name)).collect()
}

#[test]
fn each_function_of_secrets_that_an_application_may_call_has_a_rule_here() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        let theirs = callable(&superuser, &["sql/secrets", "sql/controls"]).await;
        let ruled = RULES.iter().map(|Rule(function, _, _)| *function).chain(OF_VIEWS).chain(OF_MEMBERS);
        let ruled = ruled.chain(OF_BREAK_GLASS).map(str::to_owned);
        assert_eq!(theirs, ruled.collect());
    });
}

#[test]
fn a_role_gets_as_far_as_its_permissions_in_the_domain_of_the_secret() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        begin(&superuser).await;
        let versions = with_secrets(database, &client).await;
        let mut tried = 0;
        for (n, may) in roles(&actions(true)).iter().enumerate() {
            let role = format!("role {n}");
            member(&superuser, &role, "secret", may).await;
            as_tenant(&client, &database.token(&role)).await;
            let seen = column(&client, "SELECT name FROM tenancy.secret ORDER BY name").await;
            let readable = |version: &&Version| version.domain == "secret" && may.contains("read");
            let mut names: Vec<&str> = versions.iter().filter(readable).map(|version| &version.name[..]).collect();
            names.sort_unstable();
            assert_eq!(seen, names, "{may:?}");
            for version in &versions {
                let may = if version.domain == "secret" { may } else { &May::new() };
                for Rule(function, needs, arguments) in &RULES {
                    if matches!(
                        needs,
                        Needs::ForActions(_) | Needs::ForExceptions(_) | Needs::ForReviews(_) | Needs::Context
                    ) {
                        continue;
                    }
                    let done = attempt(&client, function, &version.fill(arguments)).await;
                    let what = format!("{function} of {}, {may:?}: {done:?}", version.name);
                    assert_eq!(access(&done), needs.expected(may, version), "{what}");
                    if matches!(needs, Needs::ToReveal) && access(&done) == Access::Granted {
                        let has_value = !["announced", "retired"].contains(&version.state);
                        let revealed = done.map(|rows| rows[0][0].clone().unwrap());
                        let value = format!("value {}", version.number);
                        match revealed {
                            Ok(revealed) => assert_eq!((revealed, has_value), (value, true), "{what}"),
                            Err(refusal) => assert_eq!((&refusal.sqlstate[..], has_value), ("55000", false), "{what}"),
                        }
                    }
                    tried += 1;
                }
            }
            run(&client, "ROLLBACK").await;
        }
        assert!(tried > 5_000, "{tried}");
    });
}

#[test]
fn a_role_gets_as_far_with_action_types_as_its_permissions_in_their_domain() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        begin(&superuser).await;
        with_secrets(database, &client).await;
        // One action type is approved, the other one is asked for.
        let asked = act(&client, &database.token("dora"), &request("disk.delete")).await.unwrap();
        let approved = "SELECT id FROM tenancy.action_type_request WHERE action_type = 'instance.stop'";
        let approved = value(&superuser, approved).await;
        for (n, may) in roles(&actions(false)).iter().enumerate() {
            let role = format!("role {n}");
            member(&superuser, &role, "action", may).await;
            as_tenant(&client, &database.token(&role)).await;
            for (action, id) in [("instance.stop", &approved), ("disk.delete", &asked)] {
                for Rule(function, needs, arguments) in &RULES {
                    let Needs::ForActions(needed) = needs else {
                        continue;
                    };
                    let arguments = arguments.replace("{action}", action).replace("{request}", id);
                    let done = attempt(&client, function, &arguments).await;
                    assert_eq!(access(&done), granted(may, &[needed]), "{function} of {action}, {may:?}: {done:?}");
                }
            }
            run(&client, "ROLLBACK").await;
        }
    });
}

#[test]
fn a_role_gets_as_far_with_exceptions_as_its_permissions_in_their_domain() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        begin(&superuser).await;
        let ask = |target: &str| {
            format!(
                "SELECT tenancy.add_exception('finding', '{target}', 'a reason that says enough',
                                              now() + interval '9 days')"
            )
        };
        let (alice, dora) = (database.token("alice"), database.token("dora"));
        // One exception in each state that somebody brings about.
        let mut exceptions = Vec::new();
        for (target, then) in [
            ("requested", ""),
            ("active", "decide_exception('{id}', true, 'test')"),
            ("denied", "decide_exception('{id}', false, 'test')"),
            ("cancelled", "revoke_exception('{id}', 'test')"),
            ("revoked", "decide_exception('{id}', true, 'test'), tenancy.revoke_exception('{id}', 'test')"),
        ] {
            let id = act(&client, &alice, &ask(target)).await.unwrap();
            if !then.is_empty() {
                act(&client, &dora, &format!("SELECT tenancy.{}", then.replace("{id}", &id))).await.unwrap();
            }
            let state = format!("SELECT state FROM tenancy.exception WHERE id = '{id}'");
            assert_eq!(value(&superuser, &state).await, target);
            exceptions.push((target, id));
        }
        let actions = RULES.iter().filter_map(|Rule(_, needs, _)| match needs {
            Needs::ForExceptions(action) => Some(*action),
            _ => None,
        });
        let mut tried = 0;
        for (n, may) in roles(&actions.collect()).iter().enumerate() {
            let role = format!("role {n}");
            member(&superuser, &role, "exception", may).await;
            as_tenant(&client, &database.token(&role)).await;
            let seen = count(&client, "SELECT count(*) FROM tenancy.exception").await;
            assert_eq!(seen, if may.contains("read") { 5 } else { 0 }, "{may:?}");
            for (target, id) in &exceptions {
                for Rule(function, needs, arguments) in &RULES {
                    let expected = match needs {
                        Needs::ForExceptions(needed) => granted(may, &[needed]),
                        Needs::Context => Access::Granted,
                        _ => continue,
                    };
                    let arguments = arguments.replace("{exception}", id).replace("{target}", target);
                    let done = attempt(&client, function, &arguments).await;
                    assert_eq!(access(&done), expected, "{function} of {target}, {may:?}: {done:?}");
                    tried += 1;
                }
            }
            run(&client, "ROLLBACK").await;
        }
        assert!(tried > 400, "{tried}");
    });
}

#[test]
fn a_role_gets_as_far_with_reviews_as_its_permissions_in_their_domain() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        begin(&superuser).await;
        let (alice, dora) = (database.token("alice"), database.token("dora"));
        let schedule = "SELECT tenancy.schedule_review('memberships', '90 days', '10 days')";
        let schedule = act(&client, &alice, schedule).await.unwrap();
        // One review in each state.
        let mut reviews = Vec::new();
        for (state, then) in [
            ("open", ""),
            ("closed", "decide_many('{id}', '{1}', 'keep', 'test'); SELECT tenancy.close_review('{id}')"),
            ("cancelled", "cancel_review('{id}', 'test')"),
        ] {
            let open = "SELECT tenancy.open_review('memberships', 'test', now() + interval '1 day',
                                                   filter => '{\"subject\": \"alice\"}')";
            let id = act(&client, &alice, open).await.unwrap();
            if !then.is_empty() {
                act(&client, &dora, &format!("SELECT tenancy.{}", then.replace("{id}", &id))).await.unwrap();
            }
            let stored = format!("SELECT state FROM tenancy.review WHERE id = '{id}'");
            assert_eq!(value(&superuser, &stored).await, state);
            reviews.push((state, id));
        }
        let actions = RULES.iter().filter_map(|Rule(_, needs, _)| match needs {
            Needs::ForReviews(action) => Some(*action),
            _ => None,
        });
        let mut tried = 0;
        for (n, may) in roles(&actions.collect()).iter().enumerate() {
            let role = format!("role {n}");
            member(&superuser, &role, "review", may).await;
            as_tenant(&client, &database.token(&role)).await;
            let seen = count(&client, "SELECT count(*) FROM tenancy.review").await;
            assert_eq!(seen, if may.contains("read") { 3 } else { 0 }, "{may:?}");
            for (state, id) in &reviews {
                for Rule(function, needs, arguments) in &RULES {
                    let Needs::ForReviews(needed) = needs else { continue };
                    let arguments = arguments.replace("{review}", id).replace("{schedule}", &schedule);
                    let done = attempt(&client, function, &arguments).await;
                    assert_eq!(access(&done), granted(may, &[needed]), "{function}, {state}, {may:?}: {done:?}");
                    tried += 1;
                }
            }
            run(&client, "ROLLBACK").await;
        }
        assert!(tried >= 8 * 30, "{tried}");
    });
}

/// All that a member reads of the extension's tables and views.
async fn all_that_is_read(client: &Client) -> BTreeMap<String, String> {
    let relations = "SELECT oid::regclass FROM pg_class WHERE relnamespace = 'tenancy'::regnamespace
                        AND relkind IN ('r', 'p', 'v', 'm') AND has_table_privilege(oid, 'SELECT') ORDER BY 1";
    let mut read = BTreeMap::new();
    for relation in column(client, relations).await {
        let rows = format!("SELECT coalesce(string_agg(r::text, E'\\n' ORDER BY r::text), '') FROM {relation} r");
        read.insert(relation, value(client, &rows).await);
    }
    read
}

/// What the server counts of this transaction's use of each table and index of the extension.
async fn accesses(client: &Client) -> Vec<Vec<Option<String>>> {
    let sql = "SELECT oid::regclass, pg_stat_get_xact_numscans(oid), pg_stat_get_xact_tuples_returned(oid),
                      pg_stat_get_xact_tuples_fetched(oid), pg_stat_get_xact_blocks_fetched(oid)
                 FROM pg_class WHERE relnamespace = 'tenancy'::regnamespace AND relkind IN ('r', 'p', 'i', 'I')
                ORDER BY oid";
    rows(client, sql).await
}

/// What a call does there.
async fn work(client: &Client, function: &str, arguments: &str) -> (Refusal, BTreeMap<String, Vec<i64>>) {
    let before = accesses(client).await;
    let refusal = attempt(client, function, arguments).await.unwrap_err();
    let after = accesses(client).await;
    let number = |text: &Option<String>| text.as_ref().unwrap().parse::<i64>().unwrap();
    let used = before.iter().zip(&after).map(|(before, after)| {
        let counts = before[1..].iter().zip(&after[1..]).map(|(before, after)| number(after) - number(before));
        (before[0].clone().unwrap(), counts.collect())
    });
    (refusal, used.filter(|(_, counts): &(_, Vec<i64>)| counts.iter().any(|count| *count != 0)).collect())
}

#[test]
fn another_organization_learns_neither_of_a_secret_nor_how_many_there_are() {
    in_database(async |database| {
        let (superuser, client, bob) =
            (database.superuser().await, database.application().await, database.application().await);
        begin(&superuser).await;
        // So that the test may count what a call reads.
        run(&superuser, "SELECT tenancy.set_guardrail('statement_statistics', 'off', 'test')").await;
        let token = database.token("bob");
        act(&bob, &token, "SELECT tenancy.put_secret('of Globex', 'v', domain => 'finance')").await.unwrap();
        seal_all(&superuser).await;
        as_tenant(&bob, &token).await;
        // One transaction, which sees what others commit, and in which time stands still.
        let before = all_that_is_read(&bob).await;
        assert!(before["tenancy.secret"].contains("of Globex"), "bob reads his own: {before:?}");

        let versions = with_secrets(database, &client).await;
        as_tenant(&client, &database.token("alice")).await;
        for version in versions.iter().filter(|version| version.state == "current") {
            let reveal = version.fill("'{name}', 'test', NULL, 'instance.stop'");
            try_rows(&client, &format!("SELECT tenancy.reveal_secret({reveal})")).await.unwrap();
        }
        run(&client, "COMMIT").await;
        seal_all(&superuser).await;
        let after = all_that_is_read(&bob).await;
        // Ages are not those of the transaction.
        let without_ages = |rows: &str| {
            let is_age = |field: &&str| field.len() > 8 && field.as_bytes()[2] == b':' && field.as_bytes()[5] == b':';
            rows.split(',').filter(|field| !is_age(field)).collect::<Vec<_>>().join(",")
        };
        for (relation, rows) in &before {
            assert_eq!(without_ages(&after[relation]), without_ages(rows), "{relation}");
        }
        // The same answer and the same work, whether somebody has the secret or nobody.
        let mut compared = 0;
        for Rule(function, needs, arguments) in &RULES {
            if !matches!(needs, Needs::OfSecret(_) | Needs::ToReveal) {
                continue;
            }
            for version in &versions {
                let nobodys = Version { name: version.name.replace(' ', "_"), ..*version };
                let mut works = Vec::new();
                // A call that plans a query reads more than the next one, now and then.
                while works.len() < 5 && works.last().is_none_or(|(theirs, nobodys)| theirs != nobodys) {
                    let (their_refusal, their_work) = work(&bob, function, &version.fill(arguments)).await;
                    let (mut refusal, work) = work(&bob, function, &nobodys.fill(arguments)).await;
                    refusal.message = refusal.message.replace(&nobodys.name, &version.name);
                    assert_eq!((&refusal, &refusal.sqlstate[..]), (&their_refusal, "42704"), "{function}");
                    assert!(!work.is_empty(), "{function} looks for the secret");
                    works.push((their_work, work));
                }
                let (their_work, work) = works.last().unwrap();
                assert_eq!(work, their_work, "{function} of {}", version.name);
                compared += 1;
            }
        }
        assert!(compared > 250, "{compared}");
        let (_, of_theirs) = work(&bob, "promote", &versions[0].fill("'{name}', 1")).await;
        let (_, of_his_own) = work(&bob, "promote", "'of Globex', 1").await;
        assert_ne!(of_theirs, of_his_own, "the counts tell a secret that is found");
        // A name is free, whoever else has it.
        let put = "'{name}', 'v', domain => '{domain}'";
        attempt(&bob, "put_secret", &versions[0].fill(put)).await.unwrap();
    });
}
