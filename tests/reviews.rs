//! Reviews: what is decided about the state that was seen, what a close does, and what two sessions do at once.

use crate::action_types::act;
use crate::common::*;
use crate::rotation_model::{at, with_a_clock};
use crate::secrets::with_a_key;
use futures_util::future::join;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio_postgres::Client;

const LEVELS: [&str; 3] = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"];

/// Acme has the admins alice, dora and emil, and mia and max, who are members without permissions to review.
async fn prepare(superuser: &Client) {
    let sql = format!(
        "SELECT tenancy.set_membership('{ACME}', who, 'admin') FROM unnest('{{dora,emil}}'::text[]) who;
         SELECT tenancy.set_membership('{ACME}', who, 'member') FROM unnest('{{mia,max}}'::text[]) who"
    );
    run(superuser, &sql).await;
}

fn open(kind: &str, more: &str) -> String {
    format!("SELECT tenancy.open_review('{kind}', 'quarterly', now() + interval '30 days'{more})")
}

fn decide(review: &str, item: &str, decision: &str, more: &str) -> String {
    format!("SELECT tenancy.decide('{review}', {item}, '{decision}', 'as it should be'{more})")
}

fn close(review: &str) -> String {
    format!("SELECT count(*) FROM tenancy.close_review('{review}')")
}

fn refresh(review: &str, item: &str) -> String {
    format!("SELECT tenancy.refresh_item('{review}', {item})")
}

/// The number of the item that is about a member.
async fn of_member(superuser: &Client, review: &str, subject: &str) -> String {
    let sql = format!(
        "SELECT number FROM tenancy.review_item WHERE review = '{review}' AND what ->> 'subject' = '{subject}'"
    );
    value(superuser, &sql).await
}

/// Outcome and detail of an item.
async fn outcome(superuser: &Client, review: &str, item: &str) -> (String, String) {
    let sql = format!("SELECT outcome, detail FROM tenancy.review_item WHERE review = '{review}' AND number = {item}");
    let mut row = rows(superuser, &sql).await.pop().unwrap();
    let detail = row.pop().unwrap().unwrap_or_default();
    (row.pop().unwrap().unwrap_or_default(), detail)
}

async fn role(superuser: &Client, subject: &str) -> String {
    let sql = format!(
        "SELECT coalesce((SELECT role FROM tenancy.membership
                           WHERE organization = '{ACME}' AND subject = '{subject}'), 'none')"
    );
    value(superuser, &sql).await
}

/// Has a person keep all that nobody has decided about, but for what is about that person.
async fn keep_the_rest(database: &Database, superuser: &Client, who: &str, review: &str) {
    let sql = format!(
        "SELECT array_agg(number)::text FROM tenancy.review_item
          WHERE review = '{review}' AND decision IS NULL AND what ->> 'subject' <> '{who}'"
    );
    let rest = value(superuser, &sql).await;
    let sql = format!("SELECT tenancy.decide_many('{review}', '{rest}', 'keep', 'still needed')");
    act(&database.application().await, &database.token(who), &sql).await.unwrap();
}

#[test]
fn what_is_decided_is_done_at_the_close_and_its_report_can_be_proved() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        let (alice, dora) = (database.token("alice"), database.token("dora"));
        let review = act(&client, &alice, &open("memberships", "")).await.unwrap();
        let [mia, max, of_alice] = [
            of_member(&superuser, &review, "mia").await,
            of_member(&superuser, &review, "max").await,
            of_member(&superuser, &review, "alice").await,
        ];
        act(&client, &alice, &decide(&review, &mia, "revoke", "")).await.unwrap();
        let change = r#", change => '{"role": "viewer"}'"#;
        act(&client, &alice, &decide(&review, &max, "change", change)).await.unwrap();
        let early = act(&client, &alice, &close(&review)).await.unwrap_err();
        assert_eq!((&early.sqlstate[..], early.message.contains("are not decided")), ("55000", true));
        keep_the_rest(database, &superuser, "alice", &review).await;
        // Of the own membership somebody else decides.
        act(&client, &dora, &decide(&review, &of_alice, "keep", "")).await.unwrap();
        assert_eq!(role(&superuser, "mia").await, "member", "not before the close");
        let items = value(&superuser, &format!("SELECT items FROM tenancy.review WHERE id = '{review}'")).await;
        assert_eq!(act(&client, &alice, &close(&review)).await.unwrap(), items, "it returns all of them");
        assert_eq!((role(&superuser, "mia").await, role(&superuser, "max").await), ("none".into(), "viewer".into()));
        assert_eq!(outcome(&superuser, &review, &mia).await.0, "applied");
        assert_eq!(outcome(&superuser, &review, &of_alice).await.0, "kept");
        let again = act(&client, &alice, &close(&review)).await.unwrap_err();
        assert_eq!((&again.sqlstate[..], again.message.contains("is closed")), ("55000", true));
        let late = act(&client, &alice, &decide(&review, &max, "keep", "")).await.unwrap_err();
        assert_eq!(late.sqlstate, "55000");

        // Whoever has the report computes both digests.
        let report = format!("SELECT tenancy.review_report('{review}')::text");
        let report: Value = serde_json::from_str(&act(&client, &alice, &report).await.unwrap()).unwrap();
        let mut header = report["report"].clone();
        let all = header.as_object_mut().unwrap().remove("items").unwrap();
        let mut lines = format!("{header}\n");
        let mut opening = Sha256::new();
        for item in all.as_array().unwrap() {
            lines += &format!("{item}\n");
            opening.update(unhex(item["opening_digest"].as_str().unwrap()));
            let snapshot = Sha256::digest(item["snapshot"].as_str().unwrap());
            assert_eq!(item["snapshot_digest"], hex(&snapshot).as_str(), "the digest is of the text");
        }
        assert_eq!(report["digest"], hex(&Sha256::digest(&lines)).as_str());
        assert_eq!(report["report"]["items_digest"], hex(&opening.finalize()).as_str());
        seal_all(&superuser).await;
        let of_event = |operation: &str, member: &str| {
            format!("SELECT new_values ->> '{member}' FROM tenancy.audit_trail WHERE operation = '{operation}'")
        };
        let digest = value(&superuser, &of_event("review_closed", "report_digest")).await;
        assert_eq!(report["digest"], digest.as_str(), "and the event of the close has it");
        let digest = value(&superuser, &of_event("review_opened", "items_digest")).await;
        assert_eq!(report["report"]["items_digest"], digest.as_str(), "as that of the opening has the other");
        let operations = "SELECT string_agg(operation, ' ' ORDER BY id) FROM tenancy.audit_trail
                           WHERE domain = 'review' AND result = 'success'";
        assert_eq!(
            value(&superuser, operations).await.replace("review_", ""),
            "opened decided decided decided decided closed"
        );
        let why = "SELECT reason FROM tenancy.audit_trail WHERE operation = 'delete' AND table_name = 'membership'";
        assert_eq!(value(&superuser, why).await, "as it should be", "the row's event says why");
        assert_audit_is_whole(&superuser).await;
    });
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn a_decision_is_about_the_state_that_was_seen() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        let (alice, dora) = (database.token("alice"), database.token("dora"));
        let review = act(&client, &alice, &open("memberships", "")).await.unwrap();
        let (mia, max) = (of_member(&superuser, &review, "mia").await, of_member(&superuser, &review, "max").await);
        let set = |subject: &str, role: &str| format!("SELECT tenancy.set_membership('{ACME}', '{subject}', '{role}')");

        // Changed before the decision.
        run(&superuser, &set("mia", "admin")).await;
        let stale = act(&client, &alice, &decide(&review, &mia, "keep", "")).await.unwrap_err();
        assert_eq!((&stale.sqlstate[..], stale.message.contains("is not as its snapshot has it")), ("40001", true));
        let many = format!("SELECT tenancy.decide_many('{review}', '{{{mia},{max}}}', 'keep', 'test')");
        assert_eq!(act(&client, &alice, &many).await.unwrap_err().sqlstate, "40001", "all or none");
        let decided = format!("SELECT count(*) FROM tenancy.review_item WHERE review = '{review}' AND decision <> ''");
        assert_eq!(count(&superuser, &decided).await, 0);
        act(&client, &alice, &refresh(&review, &mia)).await.unwrap();
        act(&client, &alice, &refresh(&review, &mia)).await.unwrap();
        let digest = format!(
            "SELECT encode(snapshot_digest, 'hex') FROM tenancy.review_item WHERE review = '{review}' AND number = \
                {mia}"
        );
        let seen = value(&superuser, &digest).await;
        let other = act(&client, &alice, &decide(&review, &mia, "keep", ", seen => sha256('')")).await.unwrap_err();
        assert_eq!((&other.sqlstate[..], other.message.contains("that was shown")), ("40001", true));
        let shown = format!(", seen => '\\x{seen}'");
        act(&client, &alice, &decide(&review, &mia, "keep", &shown)).await.unwrap();

        // Changed between the decision and the close.
        act(&client, &dora, &decide(&review, &max, "revoke", "")).await.unwrap();
        run(&superuser, &set("max", "viewer")).await;
        keep_the_rest(database, &superuser, "dora", &review).await;
        let of_dora = of_member(&superuser, &review, "dora").await;
        act(&client, &alice, &decide(&review, &of_dora, "keep", "")).await.unwrap();
        // Gone between the decision and the close.
        run(&superuser, &format!("SELECT tenancy.remove_membership('{ACME}', 'emil')")).await;
        act(&client, &alice, &close(&review)).await.unwrap();
        let (state, detail) = outcome(&superuser, &review, &max).await;
        assert_eq!((&state[..], detail.contains("has changed")), ("stale", true));
        assert_eq!(role(&superuser, "max").await, "viewer", "nothing was done");
        assert_eq!(outcome(&superuser, &review, &mia).await.0, "kept");
        let emil = of_member(&superuser, &review, "emil").await;
        assert_eq!(outcome(&superuser, &review, &emil).await.0, "gone");

        seal_all(&superuser).await;
        let refreshed = "SELECT count(*) || ' ' || bool_and(new_values ->> 'before' <> new_values ->> 'after')
                           FROM tenancy.audit_trail WHERE operation = 'review_refreshed'";
        assert_eq!(value(&superuser, refreshed).await, "1 true", "the second call changed nothing");
        let finding = format!(
            "SELECT state || ' ' || count FROM tenancy.posture
              WHERE organization = '{ACME}' AND control = 'controls.review_findings'"
        );
        assert_eq!(value(&superuser, &finding).await, "warn 1");
    });
}

#[test]
fn nobody_decides_about_themselves() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        let (alice, dora) = (database.token("alice"), database.token("dora"));
        let review = act(&client, &alice, &open("memberships", "")).await.unwrap();
        let own = of_member(&superuser, &review, "alice").await;
        for sql in [
            decide(&review, &own, "keep", ""),
            decide(&review, &own, "revoke", ", apply_now => true"),
            format!("SELECT tenancy.decide_many('{review}', '{{{own}}}', 'keep', 'test')"),
            refresh(&review, &own),
            format!("SELECT tenancy.assign_review('{review}', '{{{own}}}', 'alice')"),
        ] {
            let refusal = act(&client, &alice, &sql).await.unwrap_err();
            assert_eq!((&refusal.sqlstate[..], refusal.message.contains("is about")), ("42501", true), "{sql}");
        }

        // With one reviewer nobody is left for the reviewer's own item, which says why at the close.
        let alone = format!("{}{}", open("memberships", ", '{alice}'"), "");
        let review = act(&client, &alice, &alone).await.unwrap();
        let other = act(&client, &dora, &decide(&review, "1", "keep", "")).await.unwrap_err();
        assert_eq!((&other.sqlstate[..], other.message.contains("somebody else decides")), ("42501", true));
        let own = of_member(&superuser, &review, "alice").await;
        assert_eq!(act(&client, &dora, &decide(&review, &own, "keep", "")).await.unwrap_err().sqlstate, "42501");
        keep_the_rest(database, &superuser, "alice", &review).await;
        let early = act(&client, &alice, &close(&review)).await.unwrap_err();
        assert_eq!((&early.sqlstate[..], early.message.contains("1 items")), ("55000", true), "{}", early.message);
        act(&client, &alice, &format!("SELECT tenancy.assign_review('{review}', '{{{own}}}', 'dora')")).await.unwrap();
        act(&client, &dora, &decide(&review, &own, "keep", "")).await.unwrap();
        act(&client, &alice, &close(&review)).await.unwrap();

        // With two each gets about half, and the own one goes to the other.
        let review = act(&client, &alice, &open("memberships", ", '{alice,dora}'")).await.unwrap();
        let shares = format!(
            "SELECT max(n) - min(n) <= 2 AND count(*) = 2
               FROM (SELECT count(*) AS n FROM tenancy.review_item WHERE review = '{review}' GROUP BY \
                   assignee_subject) s"
        );
        assert_eq!(value(&superuser, &shares).await, "t");
        let own = format!(
            "SELECT count(*) FROM tenancy.review_item
              WHERE review = '{review}' AND what ->> 'subject' = assignee_subject"
        );
        assert_eq!(count(&superuser, &own).await, 0);
    });
}

#[test]
fn what_a_rule_forbids_fails_and_the_rest_is_done() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        run(
            &superuser,
            "SELECT tenancy.create_role('steward'), tenancy.grant_permission('steward', 'review', '*'),
                                tenancy.grant_permission('steward', 'finding', 'read')",
        )
        .await;
        let sql = format!(
            "SELECT tenancy.set_membership('{ACME}', 'dora', 'steward'), tenancy.remove_membership('{ACME}', 'carol')"
        );
        run(&superuser, &sql).await;
        let (alice, dora) = (database.token("alice"), database.token("dora"));
        let review = act(&client, &alice, &open("memberships", "")).await.unwrap();
        let number = async |subject: &str| of_member(&superuser, &review, subject).await;
        // dora may review, and gives no more than she holds.
        let more = decide(&review, &number("mia").await, "change", r#", change => '{"role": "admin"}'"#);
        let refusal = act(&client, &dora, &more).await.unwrap_err();
        assert_eq!((&refusal.sqlstate[..], refusal.message.contains("more than they hold")), ("42501", true));
        // What she may give, and does not hold any more at the close.
        let given = decide(&review, &number("mia").await, "change", r#", change => '{"role": "steward"}'"#);
        act(&client, &dora, &given).await.unwrap();
        // The admins remove each other: the second of them is the last.
        act(&client, &dora, &decide(&review, &number("alice").await, "revoke", "")).await.unwrap();
        act(&client, &dora, &decide(&review, &number("emil").await, "revoke", "")).await.unwrap();
        act(&client, &dora, &decide(&review, &number("max").await, "revoke", "")).await.unwrap();
        let of_dora = number("dora").await;
        act(&client, &alice, &decide(&review, &of_dora, "keep", "")).await.unwrap();
        keep_the_rest(database, &superuser, "dora", &review).await;
        run(&superuser, &format!("SELECT tenancy.set_membership('{ACME}', 'dora', 'viewer')")).await;
        act(&client, &alice, &close(&review)).await.unwrap();
        let failed = format!(
            "SELECT string_agg(what ->> 'subject', ' ' ORDER BY what ->> 'subject') FROM tenancy.review_item
              WHERE review = '{review}' AND outcome = 'failed' AND what ->> 'subject' <> 'mia'"
        );
        let failed = value(&superuser, &failed).await;
        assert!(failed == "alice" || failed == "emil", "one of the admins stays: {failed}");
        let (state, detail) = outcome(&superuser, &review, &number(&failed).await).await;
        assert_eq!(
            (&state[..], detail.contains("no active member who may do everything")),
            ("failed", true),
            "{detail}"
        );
        assert_eq!(role(&superuser, "max").await, "none", "the others are done");
        let (state, detail) = outcome(&superuser, &review, &number("mia").await).await;
        assert_eq!(
            (&state[..], &detail[..]),
            ("failed", "nobody gives more than they hold"),
            "not at the close either"
        );
        assert_eq!(role(&superuser, "mia").await, "member");
        let finding = format!(
            "SELECT state FROM tenancy.posture
              WHERE organization = '{ACME}' AND control = 'controls.review_findings'"
        );
        assert_eq!(value(&superuser, &finding).await, "warn");
    });
}

#[test]
fn members_who_are_changed_by_one_statement_come_to_the_same_end_as_one_by_one() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        let sql = format!(
            "SELECT tenancy.create_role('manager'), tenancy.grant_permission('manager', 'review', '*'),
                    tenancy.grant_permission('manager', 'member', '*');
             SELECT tenancy.set_membership('{ACME}', who, 'viewer')
               FROM unnest('{{bert,dave,fred,gina,hank,ivan}}'::text[]) who;
             SELECT tenancy.set_membership('{ACME}', 'carl', 'manager'),
                    tenancy.set_membership('{ACME}', 'zoe', 'admin', valid_until => now() + interval '90 days'),
                    tenancy.remove_membership('{ACME}', 'carol');
             CREATE TABLE public.written (number bigserial);
             CREATE FUNCTION public.count_statement() RETURNS trigger LANGUAGE plpgsql
                 AS 'BEGIN INSERT INTO public.written DEFAULT VALUES; RETURN NULL; END';
             CREATE TRIGGER counted AFTER UPDATE ON tenancy.membership EXECUTE FUNCTION public.count_statement();
             CREATE FUNCTION public.fail() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''not this one''; END'"
        );
        run(&superuser, &sql).await;
        let [alice, zoe, carl] = ["alice", "zoe", "carl"].map(|subject| database.token(subject));
        let review = act(&client, &zoe, &open("memberships", "")).await.unwrap();
        for (by, who, role) in [
            // The only admin without an end, who stays: bert becomes one after that.
            (&zoe, "alice", "viewer"),
            (&zoe, "bert", "admin"),
            // carl may not give the role any more that he has decided to give dave.
            (&zoe, "carl", "viewer"),
            (&carl, "dave", "manager"),
            (&zoe, "fred", "member"),
            (&zoe, "gina", "member"),
            (&zoe, "hank", "member"),
            (&zoe, "ivan", "member"),
        ] {
            let number = of_member(&superuser, &review, who).await;
            let change = decide(&review, &number, "change", &format!(r#", change => '{{"role": "{role}"}}'"#));
            act(&client, by, &change).await.unwrap();
        }
        let of_zoe = of_member(&superuser, &review, "zoe").await;
        act(&client, &alice, &decide(&review, &of_zoe, "keep", "")).await.unwrap();
        keep_the_rest(database, &superuser, "zoe", &review).await;
        let outcomes = format!(
            "SELECT what ->> 'subject' || ' ' || outcome || coalesce(' ' || detail, '') FROM tenancy.review_item
              WHERE review = '{review}' AND decision = 'change' ORDER BY number"
        );
        let expected = |fred: &str| {
            let alice =
                format!("alice failed every member of organization {ACME} who may do everything would have an end");
            let dave = "dave failed nobody gives more than they hold";
            let [bert, carl] = ["bert applied", "carl applied"];
            [&alice, bert, carl, dave, fred, "gina applied", "hank applied", "ivan applied"].map(str::to_owned)
        };
        let owner = database.superuser().await;
        as_tenant(&owner, &zoe).await;
        run(&owner, &close(&review)).await;
        assert_eq!(column(&owner, &outcomes).await, expected("fred applied"));
        // bert, carl, and all after them.
        assert_eq!(count(&owner, "SELECT count(*) FROM public.written").await, 3);
        run(&owner, "ROLLBACK").await;
        // One whose statement fails is none of the others' concern.
        let fails = "CREATE TRIGGER fails BEFORE UPDATE ON tenancy.membership FOR EACH ROW
                         WHEN (NEW.subject = 'fred') EXECUTE FUNCTION public.fail()";
        run(&superuser, fails).await;
        act(&client, &zoe, &close(&review)).await.unwrap();
        assert_eq!(column(&superuser, &outcomes).await, expected("fred failed not this one"));
        assert_eq!((&role(&superuser, "fred").await[..], &role(&superuser, "gina").await[..]), ("viewer", "member"));
    });
}

#[test]
fn each_kind_is_kept_changed_and_revoked() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        with_a_key(&superuser).await;
        crate::action_types::prepare(&superuser).await;
        let (alice, dora, emil) = (database.token("alice"), database.token("dora"), database.token("emil"));
        let item = async |review: &str, name: &str, value_of: &str| {
            let sql = format!(
                "SELECT number FROM tenancy.review_item
                  WHERE review = '{review}' AND snapshot ->> '{name}' = '{value_of}'"
            );
            value(&superuser, &sql).await
        };

        // Roles of the organization's own.
        for (name, rules) in [("unused", "finding:read"), ("used", "finding:read"), ("wide", "finding:*")] {
            act(&client, &alice, &format!("SELECT tenancy.define_role('{name}', '{{{rules}}}')")).await.unwrap();
        }
        act(&client, &alice, "SELECT tenancy.change_member('max', 'used')").await.unwrap();
        let review = act(&client, &alice, &open("roles", "")).await.unwrap();
        act(&client, &dora, &decide(&review, &item(&review, "name", "unused").await, "revoke", "")).await.unwrap();
        let used = item(&review, "name", "used").await;
        act(&client, &dora, &decide(&review, &used, "revoke", "")).await.unwrap();
        let change = r#", change => '{"permissions": ["finding:read", "!invoice:*"]}'"#;
        act(&client, &dora, &decide(&review, &item(&review, "name", "wide").await, "change", change)).await.unwrap();
        act(&client, &alice, &close(&review)).await.unwrap();
        let (state, detail) = outcome(&superuser, &review, &used).await;
        assert_eq!((&state[..], &detail[..]), ("failed", "1 members have the role \"used\""));
        let rules = format!(
            "SELECT string_agg(p.role || ' ' || p.domain || ' ' || p.effect, ', ' ORDER BY p.role, p.domain)
               FROM tenancy.role_permission p WHERE p.organization = '{ACME}'"
        );
        assert_eq!(value(&superuser, &rules).await, "used finding allow, wide finding allow, wide invoice deny");

        // Exceptions: a change asks for another one, which others approve.
        let mut exceptions = Vec::new();
        for target in ["a", "b", "c"] {
            let add = format!(
                "SELECT tenancy.add_exception('finding', '{target}', 'a reason that says enough',
                                              now() + interval '30 days')"
            );
            let id = act(&client, &alice, &add).await.unwrap();
            act(&client, &dora, &format!("SELECT tenancy.decide_exception('{id}', true, 'test')")).await.unwrap();
            exceptions.push(id);
        }
        let review = act(&client, &alice, &open("exceptions", r#", filter => '{"kind": "finding"}'"#)).await.unwrap();
        let own = act(&client, &alice, &decide(&review, "1", "keep", "")).await.unwrap_err();
        assert_eq!(own.sqlstate, "42501", "requester and owner do not decide");
        let [a, b, c] = [
            item(&review, "target", "a").await,
            item(&review, "target", "b").await,
            item(&review, "target", "c").await,
        ];
        act(&client, &dora, &decide(&review, &a, "keep", "")).await.unwrap();
        act(&client, &dora, &decide(&review, &b, "revoke", ", apply_now => true")).await.unwrap();
        let in_force = "SELECT string_agg(target, ' ' ORDER BY target) FROM tenancy.excepted('finding')";
        assert_eq!(act(&client, &alice, in_force).await.unwrap(), "a c", "at once");
        let again = act(&client, &dora, &decide(&review, &b, "keep", "")).await.unwrap_err();
        assert_eq!((&again.sqlstate[..], again.message.contains("done already")), ("55000", true));
        let change = r#", change => '{"owner_subject": "emil"}'"#;
        act(&client, &dora, &decide(&review, &c, "change", change)).await.unwrap();
        act(&client, &alice, &close(&review)).await.unwrap();
        let (state, detail) = outcome(&superuser, &review, &c).await;
        assert_eq!((&state[..], detail.starts_with("asked for as exception ")), ("applied", true), "{detail}");
        let asked = format!(
            "SELECT requested_subject || ' ' || owner_subject || ' ' || state FROM tenancy.exception
              WHERE replaces = '{}'",
            exceptions[2]
        );
        assert_eq!(value(&superuser, &asked).await, "dora emil requested");

        // Secrets.
        for name in ["one", "two"] {
            act(&client, &alice, &format!("SELECT tenancy.put_secret('{name}', 'value', kind => 'api_token')"))
                .await
                .unwrap();
        }
        let review = act(&client, &alice, &open("secrets", "")).await.unwrap();
        act(&client, &dora, &decide(&review, &item(&review, "name", "one").await, "revoke", "")).await.unwrap();
        let two = item(&review, "name", "two").await;
        act(&client, &dora, &decide(&review, &two, "change", r#", change => '{"owner_subject": "emil"}'"#))
            .await
            .unwrap();
        act(&client, &alice, &close(&review)).await.unwrap();
        let secrets = "SELECT string_agg(name || ' ' || owner_subject || ' ' || (destroyed_at IS NULL), ', '
                                         ORDER BY name) FROM tenancy.secret";
        assert_eq!(value(&superuser, secrets).await, "one alice false, two emil true");

        // Approvals of action types.
        let request = act(&client, &alice, &crate::action_types::request("instance.stop")).await.unwrap();
        act(&client, &dora, &format!("SELECT tenancy.decide_action_type('{request}', true, 'test')")).await.unwrap();
        let review = act(&client, &alice, &open("action_types", "")).await.unwrap();
        let change = act(&client, &emil, &decide(&review, "1", "change", ", change => '{}'")).await.unwrap_err();
        assert_eq!(
            (&change.sqlstate[..], change.message.contains("not changed")),
            ("22023", true),
            "{}",
            change.message
        );
        act(&client, &emil, &decide(&review, "1", "revoke", "")).await.unwrap();
        act(&client, &alice, &close(&review)).await.unwrap();
        assert_eq!(act(&client, &alice, "SELECT tenancy.action_approval('instance.stop')").await.unwrap(), "");

        // Grants of break-glass: one in force ends, one that is over cannot, and none comes again once it was kept.
        run(&superuser, "SELECT tenancy.set_guardrail('unrecorded_break_glass', 'off', 'no worker seals here')").await;
        let mut grants = Vec::new();
        for _ in 0..2 {
            let ask = "SELECT tenancy.request_break_glass('the night job has failed', permissions => '{finding:*}')";
            let id = act(&client, &alice, ask).await.unwrap();
            act(&client, &dora, &format!("SELECT tenancy.approve_break_glass('{id}', 'test')")).await.unwrap();
            act(&client, &alice, &format!("SELECT tenancy.break_glass('{id}')")).await.unwrap();
            grants.push(id);
        }
        act(&client, &alice, &format!("SELECT tenancy.end_break_glass('{}', 'test')", grants[1])).await.unwrap();
        let review = act(&client, &dora, &open("break_glass", "")).await.unwrap();
        let own = act(&client, &alice, &decide(&review, "1", "keep", "")).await.unwrap_err();
        assert_eq!(own.sqlstate, "42501", "nor does the beneficiary");
        act(&client, &emil, &decide(&review, &item(&review, "state", "active").await, "revoke", "")).await.unwrap();
        let over = item(&review, "state", "ended").await;
        act(&client, &emil, &decide(&review, &over, "revoke", "")).await.unwrap();
        act(&client, &dora, &close(&review)).await.unwrap();
        assert_eq!(outcome(&superuser, &review, &over).await.0, "failed");
        let states = "SELECT string_agg(state, ' ' ORDER BY id) FROM tenancy.break_glass_grant";
        assert_eq!(value(&superuser, states).await, "revoked ended");
        let review = act(&client, &dora, &open("break_glass", "")).await.unwrap();
        assert_eq!(value(&superuser, &format!("SELECT items FROM tenancy.review WHERE id = '{review}'")).await, "1");
        act(&client, &emil, &decide(&review, "1", "keep", "")).await.unwrap();
        act(&client, &dora, &close(&review)).await.unwrap();
        assert_eq!(act(&client, &dora, &open("break_glass", "")).await.unwrap_err().sqlstate, "22023");

        seal_all(&superuser).await;
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn another_organization_learns_nothing_of_reviews() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        let (alice, bob) = (database.token("alice"), database.token("bob"));
        let review = act(&client, &alice, &open("memberships", "")).await.unwrap();
        let schedule = "SELECT tenancy.schedule_review('memberships', '90 days', '14 days')";
        let schedule = act(&client, &alice, schedule).await.unwrap();
        for sql in [
            decide(&review, "1", "keep", ""),
            format!("SELECT tenancy.decide_many('{review}', '{{1}}', 'keep', 'test')"),
            format!("SELECT tenancy.assign_review('{review}', '{{1}}', 'bob')"),
            refresh(&review, "1"),
            close(&review),
            format!("SELECT tenancy.cancel_review('{review}', 'test')"),
            format!("SELECT tenancy.review_report('{review}')"),
            format!("SELECT tenancy.end_review_schedule('{schedule}', 'test')"),
        ] {
            let theirs = act(&client, &bob, &sql).await.unwrap_err();
            let nobodys =
                |text: &str| text.replace(&review, &GLOBEX.to_string()).replace(&schedule, &GLOBEX.to_string());
            let unknown = act(&client, &bob, &nobodys(&sql)).await.unwrap_err();
            assert_eq!(theirs.sqlstate, "42704", "{sql}");
            assert_eq!((nobodys(&theirs.message), theirs.detail), (unknown.message, unknown.detail), "{sql}");
        }
        for table in ["review", "review_item", "review_schedule"] {
            let count = format!("SELECT count(*) > 0 FROM tenancy.{table}");
            assert_eq!(act(&client, &bob, &count).await.unwrap(), "f", "{table}");
            assert_eq!(act(&client, &alice, &count).await.unwrap(), "t", "{table}");
            assert_eq!(
                act(&client, &database.token("mia"), &count).await.unwrap(),
                "f",
                "{table}: without review:read"
            );
        }
        let bobs = act(&client, &bob, &open("memberships", "")).await.unwrap();
        let seen = format!(
            "SELECT count(*) FROM tenancy.review_item WHERE review = '{bobs}'
                               AND snapshot ->> 'subject' NOT IN ('bob', 'carol')"
        );
        assert_eq!(count(&superuser, &seen).await, 0, "his review is of his organization");
    });
}

#[test]
fn bad_input_is_refused_and_leaves_nothing() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        let alice = database.token("alice");
        let review = act(&client, &alice, &open("memberships", "")).await.unwrap();
        let now = "now() + interval '1 day'";
        let items = |items: &str| format!("SELECT tenancy.decide_many('{review}', {items}, 'keep', 'test')");
        let mia = of_member(&superuser, &review, "mia").await;
        for (sql, sqlstate) in [
            (format!("SELECT tenancy.open_review('people', 't', {now})"), "22023"),
            (format!("SELECT tenancy.open_review(NULL, 't', {now})"), "22004"),
            (format!("SELECT tenancy.open_review('memberships', ' ', {now})"), "22023"),
            ("SELECT tenancy.open_review('memberships', 't', now())".into(), "22023"),
            ("SELECT tenancy.open_review('memberships', 't', 'infinity')".into(), "22023"),
            ("SELECT tenancy.open_review('memberships', 't', NULL)".into(), "22004"),
            (open("roles", ""), "22023"),
            (open("memberships", ", '{}'"), "22023"),
            (open("memberships", ", '{nobody}'"), "22023"),
            (open("memberships", ", '{mia}'"), "22023"),
            (open("memberships", ", '{alice,NULL}'"), "22004"),
            (open("memberships", ", filter => '{\"rolle\": \"admin\"}'"), "22023"),
            (open("memberships", ", filter => '{\"role\": {\"a\": 1}}'"), "22023"),
            (open("memberships", ", filter => '[]'"), "22023"),
            (open("memberships", ", filter => '{\"role\": \"nobody has it\"}'"), "22023"),
            (decide(&review, "0", "keep", ""), "42704"),
            (decide(&review, "-1", "keep", ""), "42704"),
            (decide(&review, "2147483647", "keep", ""), "42704"),
            (decide(&review, "NULL", "keep", ""), "22004"),
            (decide(&review, &mia, "drop", ""), "22023"),
            (decide(&review, &mia, "change", ""), "22023"),
            (decide(&review, &mia, "change", ", change => '{}'"), "22023"),
            (decide(&review, &mia, "change", ", change => '{\"role\": 1}'"), "22023"),
            (decide(&review, &mia, "change", ", change => '{\"rolle\": \"viewer\"}'"), "22023"),
            (decide(&review, &mia, "change", ", change => '{\"valid_until\": \"soon\"}'"), "22023"),
            (decide(&review, &mia, "change", ", change => '{\"role\": \"no such role\"}'"), "42704"),
            (decide(&review, &mia, "keep", ", change => '{\"role\": \"viewer\"}'"), "22023"),
            (decide(&review, &mia, "keep", ", apply_now => true"), "22023"),
            (decide(&review, &mia, "keep", ", seen => '\\x00'"), "22023"),
            (decide(&review, &mia, "keep", &format!(", evidence => '{{{GLOBEX}}}'")), "42704"),
            (format!("SELECT tenancy.decide('{review}', {mia}, 'keep', ' ')"), "22023"),
            (format!("SELECT tenancy.decide('{review}', {mia}, 'keep', E'a\\tb')"), "22023"),
            (items("'{}'"), "22023"),
            (items("'{1,NULL}'"), "22023"),
            (items("'{1,0}'"), "42704"),
            (items("(SELECT array_agg(n) FROM generate_series(1, 10001) n)"), "22023"),
            (items("'{1}'").replace("'keep'", "'change'"), "22023"),
            (format!("SELECT tenancy.assign_review('{review}', '{{1}}', 'nobody')"), "22023"),
            (format!("SELECT tenancy.cancel_review('{review}', ' ')"), "22023"),
            ("SELECT tenancy.schedule_review('memberships', '1 hour', '1 hour')".into(), "22023"),
            ("SELECT tenancy.schedule_review('memberships', '100 years', '1 hour')".into(), "22023"),
            ("SELECT tenancy.schedule_review('memberships', '1 month', '0')".into(), "22023"),
            ("SELECT tenancy.schedule_review('memberships', '1 month', '31 days')".into(), "22023"),
            (format!("SET LOCAL transaction_read_only = on; {}", open("memberships", "")), "25006"),
        ] {
            let refusal = act(&client, &alice, &sql).await.unwrap_err();
            assert_eq!(refusal.sqlstate, sqlstate, "{sql}: {}", refusal.message);
        }
        let decided = "SELECT count(*) FROM tenancy.review_item WHERE decision IS NOT NULL";
        assert_eq!(count(&superuser, decided).await, 0);
        assert_eq!(count(&superuser, "SELECT count(*) FROM tenancy.review").await, 1);
        assert_eq!(count(&superuser, "SELECT count(*) FROM tenancy.review_schedule").await, 0);
        // Without a context, and under an assumed organization.
        assert_eq!(refused(&client, &open("memberships", "")).await.sqlstate, "28000");
        for sql in [open("memberships", ""), decide(&review, &mia, "keep", ""), close(&review)] {
            run(&superuser, &format!("BEGIN; SELECT tenancy.assume_organization('{ACME}', 'test')")).await;
            let refusal = refused_within(&superuser, &sql).await;
            assert_eq!((&refusal.sqlstate[..], refusal.message.contains("assumed")), ("42501", true), "{sql}");
            run(&superuser, "ROLLBACK").await;
        }
        // Nobody writes the tables by hand.
        for sql in [
            "UPDATE tenancy.review_item SET decision = 'keep'",
            "DELETE FROM tenancy.review_item",
            "TRUNCATE tenancy.review CASCADE",
        ] {
            assert_eq!(refused(&superuser, sql).await.sqlstate, "42501", "{sql}");
        }
    });
}

#[test]
fn of_a_close_and_a_decision_at_once_one_comes_first() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        prepare(&superuser).await;
        let (one, other) = (database.application().await, database.application().await);
        let (alice, dora) = (database.token("alice"), database.token("dora"));
        for round in 0..9 {
            let level = LEVELS[round % 3];
            let review = act(&one, &alice, &open("memberships", r#", filter => '{"role": "member"}'"#)).await.unwrap();
            let all = format!("SELECT tenancy.decide_many('{review}', '{{1,2}}', 'keep', 'test')");
            act(&one, &alice, &all).await.unwrap();
            let mia = of_member(&superuser, &review, "mia").await;
            for (client, token) in [(&one, &alice), (&other, &dora)] {
                run(client, &format!("BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM pg_class")).await;
                authenticate(client, token).await.unwrap();
            }
            let call = async |client: &Client, sql: String| {
                let done = try_rows(client, &sql).await;
                run(client, if done.is_ok() { "COMMIT" } else { "ROLLBACK" }).await;
                done.err()
            };
            let (closed, decided) =
                join(call(&one, close(&review)), call(&other, decide(&review, &mia, "revoke", ""))).await;
            for lost in [&closed, &decided].into_iter().flatten() {
                assert!(["55000", "40001"].contains(&&lost.sqlstate[..]), "{level}: {lost:?}");
            }
            if closed.is_some() {
                act(&one, &alice, &close(&review)).await.unwrap();
            }
            let expected = if decided.is_none() { "applied" } else { "kept" };
            assert_eq!(outcome(&superuser, &review, &mia).await.0, expected, "{level}: {closed:?} {decided:?}");
            assert_eq!(role(&superuser, "mia").await, if decided.is_none() { "none" } else { "member" }, "{level}");
            run(&superuser, &format!("SELECT tenancy.set_membership('{ACME}', 'mia', 'member')")).await;
        }
        // Two who close at once close it once.
        for round in 0..6 {
            let level = LEVELS[round % 3];
            let review = act(&one, &alice, &open("memberships", r#", filter => '{"role": "member"}'"#)).await.unwrap();
            act(&one, &alice, &format!("SELECT tenancy.decide_many('{review}', '{{1,2}}', 'keep', 'test')"))
                .await
                .unwrap();
            for (client, token) in [(&one, &alice), (&other, &dora)] {
                run(client, &format!("BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM pg_class")).await;
                authenticate(client, token).await.unwrap();
            }
            let call = async |client: &Client| {
                let done = try_rows(client, &close(&review)).await;
                run(client, if done.is_ok() { "COMMIT" } else { "ROLLBACK" }).await;
                done.err()
            };
            let (first, second) = join(call(&one), call(&other)).await;
            assert!(first.is_some() != second.is_some(), "{level}: {first:?} {second:?}");
        }
        seal_all(&superuser).await;
        let twice = "SELECT count(*) FROM tenancy.review v WHERE 1 <> (
                       SELECT count(*) FROM tenancy.audit_trail t
                        WHERE t.operation = 'review_closed' AND t.new_values ->> 'review' = v.id::text)";
        assert_eq!(count(&superuser, twice).await, 0);
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn what_an_administrator_changes_during_a_close_is_not_overwritten() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        prepare(&superuser).await;
        let (client, admin) = (database.application().await, database.superuser().await);
        let alice = database.token("alice");
        let review = act(&client, &alice, &open("memberships", r#", filter => '{"subject": "mia"}'"#)).await.unwrap();
        act(&client, &alice, &decide(&review, "1", "revoke", "")).await.unwrap();
        run(&admin, &format!("BEGIN; SELECT tenancy.set_membership('{ACME}', 'mia', 'admin')")).await;
        let closing = async { act(&client, &alice, &close(&review)).await };
        let changing = async {
            eventually(&superuser, SOMEBODY_WAITS).await;
            run(&admin, "COMMIT").await;
        };
        let (closed, ()) = join(closing, changing).await;
        closed.unwrap();
        assert_eq!(outcome(&superuser, &review, "1").await.0, "stale");
        assert_eq!(role(&superuser, "mia").await, "admin");
    });
}

#[test]
fn who_loses_the_right_while_waiting_for_the_organization_does_nothing_with_reviews() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        prepare(&superuser).await;
        let (client, admin) = (database.application().await, database.superuser().await);
        let (alice, dora) = (database.token("alice"), database.token("dora"));
        let only_mia = open("memberships", r#", filter => '{"subject": "mia"}'"#);
        let review = act(&client, &alice, &only_mia).await.unwrap();
        for sql in [decide(&review, "1", "revoke", ""), close(&review), only_mia] {
            let lose = format!(
                "BEGIN; SELECT FROM tenancy.organization WHERE id = '{ACME}' FOR UPDATE;
                 SELECT tenancy.set_membership('{ACME}', 'dora', 'viewer')"
            );
            run(&admin, &lose).await;
            let calling = async { act(&client, &dora, &sql).await };
            let losing = async {
                eventually(&superuser, SOMEBODY_WAITS).await;
                run(&admin, "COMMIT").await;
            };
            let (called, ()) = join(calling, losing).await;
            let refusal = called.expect_err(&sql);
            assert_eq!((&refusal.sqlstate[..], refusal.message.contains("by itself now")), ("42501", true), "{sql}");
            run(&admin, &format!("SELECT tenancy.set_membership('{ACME}', 'dora', 'admin')")).await;
        }
        let states = "SELECT string_agg(v.state || ' ' || (i.decision IS NULL), ', ') FROM tenancy.review v
                        JOIN tenancy.review_item i ON i.review = v.id";
        assert_eq!(value(&superuser, states).await, "open true");
    });
}

#[test]
fn a_review_is_of_all_that_is_committed_whatever_the_snapshot_of_its_transaction_shows() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        prepare(&superuser).await;
        let client = database.application().await;
        for level in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
            run(&client, &format!("BEGIN ISOLATION LEVEL {level}")).await;
            authenticate(&client, &database.token("alice")).await.unwrap();
            let newcomer = format!("new in {level}");
            run(&superuser, &format!("SELECT tenancy.set_membership('{ACME}', '{newcomer}', 'viewer')")).await;
            let refused = try_rows(&client, &open("memberships", "")).await.err().map(|refusal| refusal.sqlstate);
            let expected = (level != "READ COMMITTED").then(|| "40001".to_owned());
            assert_eq!(refused, expected, "{level}");
            run(&client, "COMMIT").await;
            if expected.is_some() {
                act(&client, &database.token("alice"), &open("memberships", "")).await.unwrap();
            }
            let shown = format!(
                "SELECT count(*) FROM tenancy.review v JOIN tenancy.review_item i ON i.review = v.id
                  WHERE v.id = (SELECT id FROM tenancy.review ORDER BY opened_at DESC LIMIT 1)
                    AND i.what ->> 'subject' = '{newcomer}'"
            );
            assert_eq!(count(&superuser, &shown).await, 1, "{level}");
        }
        assert_eq!(count(&superuser, "SELECT count(*) FROM tenancy.review").await, 3, "what is refused leaves nothing");
    });
}

#[test]
fn a_dump_carries_reviews() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        let alice = database.token("alice");
        let review = act(&client, &alice, &open("memberships", ", '{alice,dora}'")).await.unwrap();
        let schedule = "SELECT tenancy.schedule_review('memberships', '90 days', '14 days')";
        act(&client, &alice, schedule).await.unwrap();
        let all = "SELECT v::text FROM tenancy.review v UNION ALL SELECT i::text FROM tenancy.review_item i UNION ALL
                   SELECT s::text FROM tenancy.review_schedule s ORDER BY 1";
        let before = column(&superuser, all).await;
        let name = database.restore_a_dump().await;
        let mut config = database.config();
        let copy = connect(config.dbname(&name)).await;
        assert_eq!(column(&copy, all).await, before);
        run(&copy, "BEGIN").await;
        authenticate(&copy, &alice).await.unwrap();
        let item = "SELECT number FROM tenancy.review_item WHERE assignee_subject = 'alice' LIMIT 1";
        let item = value(&copy, item).await;
        run(&copy, &decide(&review, &item, "keep", "")).await;
        drop(copy);
        run(&superuser, &format!("DROP DATABASE {name} (FORCE)")).await;
    });
}

const DAY: i64 = 86_400;

#[test]
fn schedules_open_reviews_and_what_nobody_closes_is_told() {
    with_a_clock("review_schedule", async |database, superuser| {
        prepare(superuser).await;
        let client = database.superuser().await;
        at(&client, 0).await;
        at(superuser, 0).await;
        run(&client, "BEGIN").await;
        authenticate(&client, &database.token("alice")).await.unwrap();
        let schedule = |every: &str| {
            format!("SELECT tenancy.schedule_review('memberships', '{every}', '10 days', '{{alice,dora}}')")
        };
        let id = value(&client, &schedule("60 days")).await;
        assert_eq!(value(&client, &schedule("30 days")).await, id, "the same kind and filter is the same schedule");
        run(&client, "COMMIT").await;
        let settle = async |what: &str| {
            let sql = format!("SELECT count FROM tenancy.settle_due() WHERE what = '{what}'");
            value(superuser, &sql).await
        };
        assert_eq!(settle("review_due").await, "1", "the first one at once");
        assert_eq!(settle("review_due").await, "0");
        at(superuser, 30 * DAY - 1).await;
        assert_eq!(settle("review_due").await, "0");
        // Who has left is left out, and a schedule that was missed goes on at its own times.
        run(superuser, &format!("SELECT tenancy.remove_membership('{ACME}', 'dora')")).await;
        at(superuser, 100 * DAY).await;
        let missing = format!(
            "SELECT state || ' ' || count FROM tenancy.posture
              WHERE organization = '{ACME}' AND control = 'controls.reviews_missing'"
        );
        assert_eq!(value(superuser, &missing).await, "fail 1");
        assert_eq!(settle("review_due").await, "1");
        assert_eq!(value(superuser, &missing).await, "ok 0");
        let next = "SELECT extract(epoch FROM next_at - scheduled_at)::bigint / 86400 FROM tenancy.review_schedule";
        assert_eq!(value(superuser, next).await, "120");
        let reviewers = "SELECT reviewer_subjects::text FROM tenancy.review ORDER BY opened_at DESC LIMIT 1";
        assert_eq!(value(superuser, reviewers).await, "{alice}");

        // The first one was due long ago.
        let overdue = format!(
            "SELECT state || ' ' || count FROM tenancy.posture
              WHERE organization = '{ACME}' AND control = 'controls.reviews_overdue'"
        );
        assert_eq!(value(superuser, &overdue).await, "fail 1");
        let alerts = "SELECT count(*) FROM tenancy.alert WHERE kind = 'review_overdue'";
        assert_eq!(count(superuser, alerts).await, 1, "once, with the call before");
        assert_eq!(settle("review_overdue").await, "0");
        let hits = "SELECT count(*) FROM tenancy.guardrail_trial('overdue_review')";
        assert_eq!(count(superuser, hits).await, 1);
        // Where the guardrail does not wait, what is due is closed with what is decided.
        run(superuser, "SELECT tenancy.set_guardrail('overdue_review', 'enforce', 'test')").await;
        assert_eq!(settle("review_over").await, "1");
        let closed = "SELECT count(*) FROM tenancy.review WHERE state = 'closed' AND closed_subject IS NULL";
        assert_eq!(count(superuser, closed).await, 1);
        let undecided = "SELECT bool_and(outcome = 'undecided' AND detail = 'nobody decided')::text
                           FROM tenancy.review_item WHERE outcome IS NOT NULL AND what ->> 'subject' <> 'dora'";
        assert_eq!(value(superuser, undecided).await, "true");

        let end = format!("SELECT tenancy.end_review_schedule('{id}', 'test')");
        at(&client, 100 * DAY).await;
        run(&client, "BEGIN").await;
        authenticate(&client, &database.token("alice")).await.unwrap();
        run(&client, &format!("{end}; COMMIT")).await;
        at(superuser, 200 * DAY).await;
        assert_eq!(settle("review_due").await, "0");
    });
}

#[test]
fn an_exception_that_nobody_decides_about_becomes_what_its_kind_says_or_the_guardrail() {
    with_a_clock("review_lapse", async |database, superuser| {
        prepare(superuser).await;
        let client = database.superuser().await;
        let kinds = ["lapse", "keep", "escalate"];
        for kind in kinds {
            let sql = format!(
                "SELECT tenancy.define_exception_kind('{kind}', 'test',
                                                      '{{\"approvals\": 0, \"on_no_review\": \"{kind}\"}}', 'test')"
            );
            run(superuser, &sql).await;
        }
        let mut review = String::new();
        for (begin, guardrail, left, hits) in
            [(0, "warn", "escalate keep", 2), (40, "off", "escalate keep", 2), (80, "enforce", "", 2)]
        {
            run(superuser, &format!("SELECT tenancy.set_guardrail('unreviewed_exception', '{guardrail}', 'test')"))
                .await;
            at(&client, begin * DAY).await;
            run(&client, "BEGIN").await;
            authenticate(&client, &database.token("alice")).await.unwrap();
            let due = "tenancy.clock() + interval '10 days'";
            for kind in kinds {
                let add = format!(
                    "SELECT tenancy.add_exception('{kind}', '{guardrail}', 'a reason that says enough',
                                                  tenancy.clock() + interval '30 days')"
                );
                run(&client, &add).await;
            }
            review = value(&client, &format!("SELECT tenancy.open_review('exceptions', 'test', {due})")).await;
            at(&client, (begin + 10) * DAY - 1).await;
            run(&client, "SAVEPOINT s").await;
            assert_eq!(refused_within(&client, &close(&review)).await.sqlstate, "55000", "a second too early");
            run(&client, "ROLLBACK TO s").await;
            at(&client, (begin + 10) * DAY).await;
            run(&client, &close(&review)).await;
            let active = format!(
                "SELECT coalesce(string_agg(kind, ' ' ORDER BY kind), '') FROM tenancy.exception
                  WHERE target = '{guardrail}' AND state = 'active'"
            );
            assert_eq!(value(&client, &active).await, left, "{guardrail}");
            let excepted = format!("SELECT tenancy.is_excepted('lapse', '{guardrail}')");
            assert_eq!(value(&client, &excepted).await, "f", "what has lapsed counts no more");
            run(&client, "COMMIT").await;
            let trial =
                "SELECT coalesce(sum(hits), 0) FROM tenancy.guardrail_trial('unreviewed_exception', '10 years')";
            assert_eq!(value(superuser, trial).await, hits.to_string(), "{guardrail}");
        }
        let outcomes =
            format!("SELECT string_agg(DISTINCT outcome, ' ') FROM tenancy.review_item WHERE review = '{review}'");
        assert_eq!(value(superuser, &outcomes).await, "lapsed");
        let events = "SELECT count(*) = (SELECT count(*) FROM tenancy.exception WHERE state = 'lapsed')
                        FROM tenancy.audit_trail WHERE operation = 'exception_lapsed'";
        seal_all(superuser).await;
        assert_eq!(value(superuser, events).await, "t");
    });
}
