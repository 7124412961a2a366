//! Who may do what with members and roles: each function of the catalog that members call, for each role, by the
//! permissions it has in the domains `member` and `role`, and for each state of what the call is about.

use std::collections::BTreeSet;

use crate::action_types::act;
use crate::common::*;
use crate::secret_access::{Access, access, attempt, callable};

/// What a call needs: a permission, and that what it is about is there.
enum Needs {
    /// A context, and no permission.
    Context,
    Permission(&'static str),
    /// For others than oneself.
    OfOthers(&'static str),
    /// The first for a role that is there, the second for one that is not, either for a name that is taken.
    Role(&'static str, &'static str),
}

/// A function, what it asks for, and a call. `{member}` and `{role}` must be there where the call names them, but for
/// what it makes.
struct Rule(&'static str, Needs, &'static str);

const RULES: [Rule; 9] = [
    Rule("add_member", Needs::Permission("member:create"), "'new', '{role}'"),
    Rule("change_member", Needs::Permission("member:update"), "'{member}', status => 'suspended'"),
    Rule("change_member", Needs::Permission("member:update"), "'{member}', role => '{role}'"),
    Rule("drop_member", Needs::Permission("member:delete"), "'{member}', 'test'"),
    Rule("effective_permissions", Needs::OfOthers("member:read"), "'{member}'"),
    Rule("define_role", Needs::Role("role:update", "role:create"), "'{role}', '{finding:read}'"),
    Rule("drop_role", Needs::Permission("role:delete"), "'{role}'"),
    Rule("allowed_actions", Needs::Context, "'{role}'"),
    Rule("effective_permissions", Needs::Context, ""),
];

/// Of members, each in another state; the caller is one as well.
const MEMBERS: [&str; 5] = ["of an active one", "of a suspended one", "of one whose time is over", "nobody", "self"];
/// Roles: of the organization, without members and with one, of every organization, of another one, and of none.
const ROLES: [&str; 5] = ["unused", "used", "of all", "of another", "none"];

/// Functions of the sign-in, which ask for no permission. Their rules are in `tests/identity.rs` and
/// `tests/postgrest.rs`.
const OF_IDENTITY: [&str; 2] = ["authenticate", "pre_request"];

/// Permissions that a role has.
type May = BTreeSet<&'static str>;

/// Roles of these permissions: none and all of them, each alone, and all but each.
fn roles() -> BTreeSet<May> {
    let mut all = May::new();
    for Rule(_, needs, _) in &RULES {
        match needs {
            Needs::Context => (),
            Needs::Permission(one) | Needs::OfOthers(one) => drop(all.insert(one)),
            Needs::Role(one, other) => all.extend([one, other]),
        }
    }
    let mut roles = BTreeSet::from([May::new(), all.clone()]);
    for permission in &all {
        roles.insert(May::from([*permission]));
        roles.insert(all.iter().copied().filter(|other| other != permission).collect());
    }
    roles
}

fn expected(rule: &Rule, may: &May, member: &str, role: &str) -> Access {
    let Rule(function, needs, arguments) = rule;
    let permitted = match needs {
        Needs::Context => true,
        Needs::Permission(needed) => may.contains(needed),
        Needs::OfOthers(needed) => member == "self" || may.contains(needed),
        Needs::Role(change, make) => match role {
            "unused" | "used" => may.contains(change),
            "of all" => may.contains(change) || may.contains(make),
            _ => may.contains(make),
        },
    };
    let no_member = arguments.contains("{member}") && member == "nobody";
    // A role of every organization is none that the organization could drop.
    let own = *function == "drop_role" && role == "of all";
    let no_role = arguments.contains("{role}") && (own || ["of another", "none"].contains(&role));
    let makes = matches!(needs, Needs::Role(..) | Needs::Context);
    match permitted {
        false => Access::Denied,
        true if no_member || no_role && !makes => Access::Unknown,
        true => Access::Granted,
    }
}

#[test]
fn each_function_of_members_that_an_application_may_call_has_a_rule_here() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        let theirs = callable(&superuser, &["sql/identity/", "sql/controls/member.sql"]).await;
        let ruled: BTreeSet<String> =
            RULES.iter().map(|Rule(function, _, _)| *function).chain(OF_IDENTITY).map(str::to_owned).collect();
        assert_eq!(theirs, ruled);
    });
}

#[test]
fn a_role_gets_as_far_with_members_and_roles_as_its_permissions_in_their_domains() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        let (alice, bob) = (database.token("alice"), database.token("bob"));
        let run_all = format!(
            "SELECT tenancy.create_role('of all'), tenancy.grant_permission('of all', 'finding', 'read');
             SELECT tenancy.set_membership('{ACME}', who, 'of all') FROM unnest('{{{}}}'::text[]) who;
             UPDATE tenancy.membership SET status = 'suspended' WHERE subject = 'of a suspended one';
             UPDATE tenancy.membership SET valid_until = '2020-01-01' WHERE subject = 'of one whose time is over'",
            MEMBERS[..3].join(",")
        );
        run(&superuser, &run_all).await;
        for (whose, role) in [(&alice, "unused"), (&alice, "used"), (&bob, "of another")] {
            let define = format!("SELECT tenancy.define_role('{role}', '{{finding:read, invoice:read}}')");
            act(&client, whose, &define).await.unwrap();
        }
        act(&client, &alice, "SELECT tenancy.add_member('theirs', 'used')").await.unwrap();
        let mut tried = 0;
        for (n, may) in roles().iter().enumerate() {
            let name = format!("role {n}");
            let permissions: Vec<&str> = may.iter().copied().chain(["finding:read", "invoice:read"]).collect();
            let define = format!("SELECT tenancy.define_role('{name}', '{{{}}}')", permissions.join(","));
            act(&client, &alice, &define).await.unwrap();
            act(&client, &alice, &format!("SELECT tenancy.add_member('{name}', '{name}')")).await.unwrap();
            as_tenant(&client, &database.token(&name)).await;
            for rule in &RULES {
                let Rule(function, _, arguments) = rule;
                let members = if arguments.contains("{member}") { &MEMBERS[..] } else { &["nobody"] };
                let asked = if arguments.contains("{role}") { &ROLES[..] } else { &["none"] };
                for (member, role) in members.iter().flat_map(|member| asked.iter().map(move |role| (member, role))) {
                    let subject = if *member == "self" { &name } else { *member };
                    let arguments = arguments.replace("{member}", subject).replace("{role}", role);
                    let done = attempt(&client, function, &arguments).await;
                    let expected = expected(rule, may, member, role);
                    assert_eq!(access(&done), expected, "{function}({arguments}), {may:?}: {done:?}");
                    tried += 1;
                }
            }
            run(&client, "ROLLBACK").await;
        }
        assert!(tried > 700, "{tried}");
    });
}
