//! Tests of plans for facts written by hand.

use super::provenance::{NoKey, PlainReference, Provenance, write};
use super::*;
use crate::policy::facts::{Check, Column, Facts, Index, Name, Policy, Reference, TableFamily, Trigger};
use crate::policy::options::{Actions, Backfill, NullRows, Options, parse_actions};
use serde_json::json;
use std::collections::BTreeMap;

const ISOLATION: &str = policies::ISOLATION;

fn column(name: &str, data_type: &str) -> Column {
    let quoted = if name.chars().any(char::is_uppercase) { format!("\"{name}\"") } else { name.to_owned() };
    Column { name: name.into(), quoted, data_type: data_type.into(), not_null: true, ..Column::default() }
}

fn facts(columns: Vec<Column>) -> Facts {
    Facts {
        oid: 1,
        table: "public.\"CloudAccount\"".into(),
        name: "CloudAccount".into(),
        schema_quoted: "public".into(),
        kind: "r".into(),
        owned: true,
        columns,
        ..Facts::default()
    }
}

fn subject(table: &Facts) -> TableFamily {
    TableFamily { table: table.clone(), members: Vec::new(), others: BTreeMap::new() }
}

fn plan_with(table: &Facts, options: &Options) -> Vec<Step> {
    protect(&subject(table), options).unwrap()
}

fn plan_of(table: &Facts) -> Vec<Step> {
    plan_with(table, &Options::default())
}

fn texts(steps: &[Step]) -> Vec<&str> {
    steps.iter().map(|step| step.sql.as_str()).collect()
}

/// The recorded state of a table that had row-level security before `protect`.
fn earlier() -> Provenance {
    Provenance {
        column: "org_id".into(),
        domain: "account".into(),
        through: None,
        null_rows: None,
        actions: Actions::new(),
        secret_columns: Vec::new(),
        index: None,
        references: Vec::new(),
        previous_default: Some("gen_random_uuid()".into()),
        was_nullable: false,
        row_security: true,
        force_row_security: false,
    }
}

fn refusal(table: &Facts, column: Option<&str>) -> &'static str {
    refusal_with(&subject(table), &Options { column, ..Options::default() })
}

fn refusal_with(subject: &TableFamily, options: &Options) -> &'static str {
    protect(subject, options).unwrap_err().kind.name
}

/// A protected parent, and a child that references it.
fn family(child_columns: Vec<Column>) -> TableFamily {
    let name = |name: &str| Name { name: name.into(), quoted: name.into(), data_type: "bigint".into() };
    let reference = Reference {
        name: "fk".into(),
        quoted: "fk".into(),
        child: 1,
        parent: 2,
        child_columns: vec![name("account")],
        parent_columns: vec![name("id")],
        match_type: "s".into(),
        on_update: "a".into(),
        on_delete: "c".into(),
        validated: true,
        ..Reference::default()
    };
    let parent = Facts {
        oid: 2,
        table: "public.account".into(),
        name: "account".into(),
        columns: vec![column("id", "bigint"), column("org_id", "uuid")],
        indexes: vec![Index {
            name: "account_pkey".into(),
            columns: vec!["id".into()],
            unique: true,
            ..Index::default()
        }],
        provenance: Some(write(&earlier())),
        ..facts(Vec::new())
    };
    let table = Facts { references: vec![reference], ..facts(child_columns) };
    TableFamily { table, members: Vec::new(), others: BTreeMap::from([(2, parent)]) }
}

#[test]
fn the_organization_column_is_the_only_usual_one_or_that_of_the_schema_or_the_one_named() {
    let one = facts(vec![column("owner", "uuid"), column("organizationId", "uuid")]);
    assert!(plan_of(&one)[0].sql.ends_with("(\"organizationId\")"));
    let both = facts(vec![column("tenant_id", "uuid"), column("organizationId", "uuid"), column("owner", "uuid")]);
    assert_eq!(refusal(&both, None), "COLUMN_AMBIGUOUS");
    let told = |name: &str| Facts { schema_column: Some(name.into()), ..both.clone() };
    assert!(plan_of(&told("owner"))[0].sql.ends_with("(owner)"));
    assert!(plan_of(&told("tenant_id"))[0].sql.ends_with("(tenant_id)"));
    assert_eq!(refusal(&told("elsewhere"), None), "COLUMN_AMBIGUOUS");
    assert!(plan_with(&both, &Options { column: Some("owner"), ..Options::default() })[0].sql.ends_with("(owner)"));
}

#[test]
fn a_column_that_cannot_hold_an_organization_is_refused() {
    assert_eq!(refusal(&facts(vec![column("id", "uuid")]), None), "COLUMN_MISSING");
    assert_eq!(refusal(&facts(vec![column("org_id", "uuid")]), Some("nobody")), "COLUMN_MISSING");
    assert_eq!(refusal(&facts(vec![column("org_id", "jsonb")]), None), "COLUMN_UNSUITABLE");
    let nullable = Column { not_null: false, ..column("org_id", "uuid") };
    assert_eq!(refusal(&facts(vec![nullable]), None), "COLUMN_UNSUITABLE");
    let generated = Column { generated: true, ..column("org_id", "uuid") };
    assert_eq!(refusal(&facts(vec![generated]), None), "COLUMN_UNSUITABLE");
}

#[test]
fn what_is_no_ordinary_table_is_refused() {
    let table = facts(vec![column("org_id", "uuid")]);
    for kind in ["v", "m", "f", "S"] {
        assert_eq!(refusal(&Facts { kind: kind.into(), ..table.clone() }, None), "TABLE_UNSUITABLE", "{kind}");
    }
    assert_eq!(refusal(&Facts { temporary: true, ..table.clone() }, None), "TABLE_UNSUITABLE");
    assert_eq!(refusal(&Facts { system: true, ..table.clone() }, None), "TABLE_UNSUITABLE");
    assert_eq!(refusal(&Facts { parents: vec!["public.root".into()], ..table.clone() }, None), "TABLE_UNSUITABLE");
    let foreign = Facts { kind: "f".into(), ..table.clone() };
    let tree = TableFamily { members: vec![foreign], ..subject(&Facts { kind: "p".into(), ..table }) };
    assert_eq!(refusal_with(&tree, &Options::default()), "TABLE_UNSUITABLE");
}

#[test]
fn the_isolation_is_restrictive_and_compares_by_the_columns_type() {
    for (data_type, left, function) in [
        ("uuid", "org_id", "org_id"),
        ("text", "org_id", "org_id_text"),
        ("character varying", "(org_id)::text", "org_id_text"),
        ("integer", "org_id", "org_id_bigint"),
        ("bigint", "org_id", "org_id_bigint"),
    ] {
        let steps = plan_of(&facts(vec![column("org_id", data_type)]));
        let asking = |action| format!("({left} = tenancy.{function}('cloud_account'::text, '{action}'::text))");
        for wanted in [
            format!("AS RESTRICTIVE FOR SELECT TO PUBLIC USING ({})", asking("read")),
            format!("AS RESTRICTIVE FOR INSERT TO PUBLIC WITH CHECK ({})", asking("create")),
            format!("AS RESTRICTIVE FOR UPDATE TO PUBLIC USING ({0}) WITH CHECK ({0})", asking("update")),
            format!("AS RESTRICTIVE FOR DELETE TO PUBLIC USING ({})", asking("delete")),
        ] {
            assert!(steps.iter().any(|step| step.sql.ends_with(&wanted)), "{wanted}");
        }
    }
}

fn foreign(name: &str, permissive: bool, command: &str, using: &str) -> Policy {
    let using = Some(using.to_owned());
    Policy { name: name.into(), permissive, command: command.into(), to_public: true, using, check: None }
}

#[test]
fn rows_are_let_through_only_where_the_table_has_no_permissive_policy() {
    let permits = |policies: Vec<Policy>| {
        let table = Facts { policies, ..facts(vec![column("org_id", "uuid")]) };
        let commands = |step: &Step| step.sql.split(" AS PERMISSIVE FOR ").nth(1).map(str::to_owned);
        plan_of(&table).iter().filter_map(commands).collect::<Vec<_>>().join(", ")
    };
    let row = "(('tenancy.org_id(text,text)'::regprocedure IS NOT NULL))";
    let all = format!(
        "SELECT TO PUBLIC USING {row}, INSERT TO PUBLIC WITH CHECK {row}, \
         UPDATE TO PUBLIC USING {row} WITH CHECK {row}, DELETE TO PUBLIC USING {row}"
    );
    assert_eq!(permits(vec![]), all);
    assert_eq!(permits(vec![foreign("theirs", false, "*", "ok")]), all, "a restrictive one shows nothing");
    assert_eq!(permits(vec![foreign("theirs", true, "*", "ok")]), "");
    assert!(permits(vec![foreign("theirs", true, "r", "ok")]).starts_with("INSERT"));
    assert!(!permits(vec![foreign("theirs", true, "d", "ok")]).contains("DELETE"));
}

#[test]
fn a_permissive_policy_of_theirs_that_comes_later_takes_the_place_of_ours() {
    let ours = foreign("tenancy_read", true, "r", "true");
    let table =
        Facts { policies: vec![ours, foreign("theirs", true, "r", "ok")], ..facts(vec![column("org_id", "uuid")]) };
    let steps = plan_of(&table);
    let last = steps.last().unwrap();
    assert!(
        last.sql.starts_with("DROP POLICY tenancy_read") && last.state == State::Todo && !last.is_security_relevant()
    );
}

#[test]
fn the_earlier_layout_is_brought_up_without_a_moment_of_less() {
    let authorize = "tenancy.authorize('cloud_account'::text, 'read'::text)";
    let table = Facts {
        policies: vec![
            foreign(ISOLATION, false, "*", "(org_id = tenancy.org_id())"),
            foreign("tenancy_read", true, "r", authorize),
        ],
        provenance: Some(write(&Provenance { domain: "cloud_account".into(), ..earlier() })),
        ..facts(vec![column("org_id", "uuid")])
    };
    let steps = plan_of(&table);
    let sql = texts(&steps);
    let place = |start: &str| sql.iter().position(|sql| sql.starts_with(start)).unwrap_or_else(|| panic!("{start}"));
    let aside = place("ALTER POLICY tenancy_isolation ON public.\"CloudAccount\" RENAME TO tenancy_isolation_before");
    let isolation = place("CREATE POLICY tenancy_isolation ON");
    let delete = place("CREATE POLICY tenancy_isolation_delete ON");
    let read = place("ALTER POLICY tenancy_read ON public.\"CloudAccount\" TO PUBLIC USING (('tenancy.org_id");
    let comment = place("COMMENT ON POLICY tenancy_isolation ON");
    let gone = place("DROP POLICY tenancy_isolation_before ON");
    assert!(aside < isolation && isolation < delete && delete < read && read < comment && comment < gone);
    assert!(steps[isolation].is_security_relevant());
}

#[test]
fn every_step_of_an_untouched_table_is_to_do() {
    let steps = plan_of(&facts(vec![column("organizationId", "uuid")]));
    assert!(steps.iter().all(|step| step.state == State::Todo));
    assert!(steps.iter().any(|step| step.sql.contains("('organizationId', 'cloud_account')")));
}

#[test]
fn a_policy_changed_by_hand_is_made_anew() {
    let mut table = facts(vec![column("org_id", "uuid")]);
    table.policies.push(Policy {
        name: ISOLATION.into(),
        permissive: false,
        command: "r".into(),
        to_public: true,
        using: Some("true".into()),
        check: None,
    });
    let steps = plan_of(&table);
    let step = steps.iter().find(|step| step.sql.contains(ISOLATION)).unwrap();
    assert!(step.sql.starts_with("ALTER POLICY tenancy_isolation ON public.\"CloudAccount\" TO PUBLIC USING ((org_id"));
    assert_eq!(step.state, State::Todo);
}

#[test]
fn an_index_of_the_user_serves_and_is_not_taken_away() {
    let mut table = facts(vec![column("org_id", "uuid")]);
    table.indexes.push(Index { name: "theirs".into(), columns: vec!["org_id".into()], ..Index::default() });
    let steps = plan_of(&table);
    assert_eq!(steps[0].state, State::Done);
    assert!(steps.last().unwrap().sql.contains("\"index\":null"));
}

#[test]
fn the_name_of_the_index_avoids_those_that_are_taken() {
    let mut table = facts(vec![column("org_id", "uuid")]);
    table.taken_names = vec!["CloudAccount_tenancy_idx".into(), "CloudAccount_tenancy_idx1".into()];
    assert!(plan_of(&table)[0].sql.contains("\"CloudAccount_tenancy_idx2\""));
}

#[test]
fn a_protected_table_cannot_change_its_column_but_keeps_its_domain() {
    let mut table = facts(vec![column("org_id", "uuid"), column("tenant_id", "uuid")]);
    table.provenance = Some(write(&earlier()));
    assert_eq!(refusal(&table, Some("tenant_id")), "ARGUMENT_INVALID");
    assert!(plan_of(&table).iter().any(|step| step.sql.contains("'account'::text")));
}

#[test]
fn unprotect_puts_back_what_was_there_before() {
    let mut table = facts(vec![Column { default: Some("tenancy.org_id()".into()), ..column("org_id", "uuid") }]);
    assert_eq!(unprotect(&subject(&table)).unwrap(), []);
    table.row_security = true;
    table.force_row_security = true;
    table.provenance = Some(write(&earlier()));
    let sql: Vec<String> = unprotect(&subject(&table)).unwrap().into_iter().map(|step| step.sql).collect();
    let table = "ALTER TABLE public.\"CloudAccount\"";
    assert_eq!(
        sql,
        [
            format!("{table} NO FORCE ROW LEVEL SECURITY"),
            format!("{table} ALTER COLUMN org_id SET DEFAULT gen_random_uuid()"),
        ]
    );
}

#[test]
fn a_domain_is_the_tables_name_in_snake_case() {
    for (table, domain) in [
        ("Invoice", "invoice"),
        ("CloudAccount", "cloud_account"),
        ("finding", "finding"),
        ("HTTPLog2Day", "httplog2_day"),
    ] {
        assert_eq!(target::usual_domain(table), domain);
    }
}

#[test]
fn a_nullable_column_needs_a_word_on_what_null_means() {
    let nullable = Column { not_null: false, ..column("org_id", "uuid") };
    let table = facts(vec![nullable]);
    assert_eq!(refusal(&table, None), "COLUMN_UNSUITABLE");
    let shared = plan_with(&table, &Options { null_rows: Some(NullRows::Shared), ..Options::default() });
    let isolation: Vec<&str> = texts(&shared).into_iter().filter(|sql| sql.contains("RESTRICTIVE")).collect();
    assert_eq!(isolation.len(), 4);
    let own = "(org_id = tenancy.org_id('cloud_account'::text, 'read'::text))";
    assert!(isolation[0].contains(&format!("FOR SELECT TO PUBLIC USING (({own} OR (org_id IS NULL)))")));
    assert!(isolation[1..].iter().all(|sql| !sql.contains("IS NULL")), "nobody writes a shared row");
    let nobody = plan_with(&table, &Options { null_rows: Some(NullRows::Nobody), ..Options::default() });
    assert!(texts(&nobody).iter().all(|sql| !sql.contains("IS NULL")));
}

#[test]
fn another_meaning_of_null_changes_what_is_read() {
    let mut table = facts(vec![Column { not_null: false, ..column("org_id", "uuid") }]);
    let own = "(org_id = tenancy.org_id('cloud_account'::text, 'read'::text))";
    table.policies.push(foreign(ISOLATION, false, "r", &format!("({own} OR (org_id IS NULL))")));
    let steps = plan_with(&table, &Options { null_rows: Some(NullRows::Nobody), ..Options::default() });
    let changed = format!("ALTER POLICY tenancy_isolation ON public.\"CloudAccount\" TO PUBLIC USING ({own})");
    assert!(texts(&steps).contains(&changed.as_str()), "{:?}", texts(&steps));
}

fn backfill() -> Option<Backfill<'static>> {
    Some(Backfill { expression: "(SELECT 'it''s')", data_type: "uuid".into() })
}

#[test]
fn a_missing_column_is_added_and_filled_before_anything_else() {
    let table = facts(vec![column("id", "bigint")]);
    let options = Options { column: Some("org_id"), backfill: backfill(), ..Options::default() };
    let steps = plan_with(&table, &options);
    let name = "public.\"CloudAccount\"";
    assert_eq!(
        texts(&steps)[..3],
        [
            format!("ALTER TABLE {name} ADD COLUMN \"org_id\" uuid"),
            format!("SELECT tenancy.backfill('{name}', 'org_id', '(SELECT ''it''''s'')')"),
            format!("ALTER TABLE {name} ALTER COLUMN \"org_id\" SET NOT NULL"),
        ]
    );
    assert!(steps.last().unwrap().sql.contains("\"was_nullable\":true"));
    assert_eq!(
        refusal_with(&subject(&table), &Options { backfill: backfill(), ..Options::default() }),
        "COLUMN_MISSING"
    );
}

#[test]
fn online_nothing_scans_the_table_under_an_exclusive_lock() {
    let mut table = facts(vec![Column { not_null: false, ..column("org_id", "uuid") }]);
    let options = Options { backfill: backfill(), online: true, ..Options::default() };
    let steps = plan_with(&table, &options);
    for part in ["CALL tenancy.backfill_in_batches", "NOT VALID", "VALIDATE CONSTRAINT", "CREATE INDEX CONCURRENTLY"] {
        assert!(texts(&steps).iter().any(|sql| sql.contains(part)), "{part}");
    }
    assert!(steps.iter().filter(|step| step.sql.contains("CONCURRENTLY")).all(|step| !step.in_transaction));
    let place = |part: &str| texts(&steps).iter().position(|sql| sql.contains(part)).unwrap();
    assert!(place("SET DEFAULT") < place("backfill_in_batches"), "rows written meanwhile have their organization");
    assert_eq!(texts(&steps).iter().filter(|sql| sql.contains("SET DEFAULT")).count(), 1);
    // Interrupted between two steps.
    table.checks = vec![Check { name: "tenancy_organization_not_null".into(), validated: true }];
    table.broken_indexes = vec!["\"CloudAccount_tenancy_idx\"".into()];
    let rest = plan_with(&table, &options);
    let left = |part: &str| rest.iter().any(|step| step.state == State::Todo && step.sql.contains(part));
    assert!(!left("NOT VALID") && !left("VALIDATE CONSTRAINT") && left("SET NOT NULL") && left("DROP CONSTRAINT"));
    assert!(left("DROP INDEX CONCURRENTLY public.\"CloudAccount_tenancy_idx\""));
}

#[test]
fn a_foreign_key_between_protected_tables_gets_the_organization() {
    let mut family = family(vec![column("account", "bigint"), column("org_id", "uuid")]);
    let steps = protect(&family, &Options::default()).unwrap();
    let sql = texts(&steps).join("\n");
    assert!(
        sql.contains("ALTER TABLE public.account ADD CONSTRAINT \"account_tenancy_key\" UNIQUE (org_id, id)"),
        "{sql}"
    );
    assert!(sql.contains(
        "DROP CONSTRAINT fk, ADD CONSTRAINT fk FOREIGN KEY (account, org_id) REFERENCES public.account (id, org_id) \
         ON DELETE CASCADE NOT VALID"
    ));
    assert!(sql.contains("ALTER TABLE public.\"CloudAccount\" VALIDATE CONSTRAINT fk"));
    family.table.references[0].on_delete = "n".into();
    let sql = texts(&protect(&family, &Options::default()).unwrap()).join("\n");
    assert!(sql.contains("ON DELETE SET NULL (account)"), "the organization stays");
    family.others.get_mut(&2).unwrap().owned = false;
    let steps = protect(&family, &Options::default()).unwrap();
    assert_eq!(steps.iter().filter(|step| step.state == State::Manual).count(), 5);
}

#[test]
fn a_foreign_key_that_carries_the_organization_is_done_or_somebody_elses() {
    let mut family = family(vec![column("account", "bigint"), column("org_id", "uuid")]);
    let organization = Name { name: "org_id".into(), quoted: "org_id".into(), data_type: "uuid".into() };
    let reference = &mut family.table.references[0];
    reference.child_columns.insert(0, organization.clone());
    reference.parent_columns.insert(0, organization);
    let theirs = protect(&family, &Options::default()).unwrap();
    assert!(!texts(&theirs).join("\n").contains("FOREIGN KEY"));
    let before = PlainReference {
        child_organization: "org_id".into(),
        parent_organization: "org_id".into(),
        match_full: false,
        names_columns: false,
        validated: true,
        comment: None,
    };
    let comment = write(&before);
    family.table.references[0].comment = Some(comment);
    let parent = family.others.get_mut(&2).unwrap();
    parent.indexes.push(Index {
        name: "k".into(),
        quoted: "k".into(),
        columns: vec!["org_id".into(), "id".into()],
        unique: true,
        primary: false,
        comment: Some(write(&NoKey {})),
    });
    let ours = protect(&family, &Options::default()).unwrap();
    let about: Vec<&Step> = ours
        .iter()
        .filter(|step| (step.sql.contains("fk") || step.sql.contains(" k ")) && !step.sql.contains("ON POLICY"))
        .collect();
    assert!(about.len() == 5 && about.iter().all(|step| step.state == State::Done), "{about:?}");
    let undone = unprotect(&family).unwrap();
    assert!(undone[0].sql.ends_with(
        "ADD CONSTRAINT fk FOREIGN KEY (account) REFERENCES public.account (id) ON DELETE CASCADE NOT VALID"
    ));
}

#[test]
fn a_child_without_the_column_is_scoped_through_its_foreign_key() {
    let family = family(vec![column("id", "bigint"), column("account", "bigint")]);
    for through in ["fk", "account"] {
        let steps = protect(&family, &Options { through: Some(through), ..Options::default() }).unwrap();
        let sql = texts(&steps).join("\n");
        assert!(sql.contains(
            "(EXISTS ( SELECT FROM public.account tenancy_parent WHERE \
             ((tenancy_parent.id = \"CloudAccount\".account) AND (tenancy_parent.org_id = \
             tenancy.org_id('cloud_account'::text, 'read'::text)))))"
        ));
        assert!(sql.contains("tenancy.audit_row('account', 'cloud_account', 'public.account', 'id', 'org_id')"));
        assert!(!sql.contains("SET DEFAULT") && !sql.contains("ADD CONSTRAINT"));
    }
    let through = |through| Options { through: Some(through), ..Options::default() };
    assert_eq!(refusal_with(&family, &through("other")), "TABLE_UNSUITABLE");
    let mut unprotected = family.clone();
    unprotected.others.get_mut(&2).unwrap().provenance = None;
    assert_eq!(refusal_with(&unprotected, &through("fk")), "TABLE_UNSUITABLE");
    let both = Options { column: Some("id"), ..through("fk") };
    assert_eq!(refusal_with(&family, &both), "ARGUMENT_INVALID");
}

#[test]
fn partitions_get_what_they_do_not_inherit() {
    let root = Facts { kind: "p".into(), ..facts(vec![column("org_id", "uuid")]) };
    let partition = Facts {
        oid: 3,
        table: "public.part".into(),
        name: "part".into(),
        partition: true,
        parents: vec![root.table.clone()],
        ..facts(vec![column("org_id", "uuid")])
    };
    let tree = TableFamily { members: vec![partition], ..subject(&root) };
    let steps = protect(&tree, &Options::default()).unwrap();
    let about =
        |table: &str| texts(&steps).into_iter().filter(|sql| sql.contains(table)).collect::<Vec<_>>().join("\n");
    let part = about("public.part");
    assert!(part.contains("CREATE POLICY tenancy_isolation") && part.contains("FORCE ROW LEVEL SECURITY"));
    assert!(part.contains("audit_truncate") && !part.contains("audit_row"), "Postgres clones the row trigger");
    assert!(!part.contains("CREATE INDEX"), "and the index");
    assert!(about("CloudAccount").contains("CREATE TRIGGER tenancy_audit_of_partitions"));
}

#[test]
fn a_custom_action_is_a_trigger_and_goes_with_its_name() {
    let mut table = facts(vec![column("org_id", "uuid"), column("status", "text")]);
    let actions = parse_actions(&json!({"close": {"column": "status", "values": ["closed"]}}).to_string()).unwrap();
    let steps = plan_with(&table, &Options { actions: Some(actions), ..Options::default() });
    assert!(texts(&steps).join("\n").contains(
        "CREATE TRIGGER tenancy_action_close AFTER INSERT OR UPDATE ON public.\"CloudAccount\" FOR EACH ROW \
         EXECUTE FUNCTION tenancy.authorize_action('cloud_account', 'close', 'states', 'status', 'closed')"
    ));
    table.triggers = vec![Trigger {
        name: "tenancy_action_close".into(),
        definition: String::new(),
        enabled: "A".into(),
        cloned: false,
    }];
    assert!(texts(&plan_of(&table)).iter().any(|sql| sql.starts_with("DROP TRIGGER tenancy_action_close")));
    let unknown = parse_actions(&json!({"close": {"columns": ["nope"]}}).to_string()).unwrap();
    let options = Options { actions: Some(unknown), ..Options::default() };
    assert_eq!(refusal_with(&subject(&table), &options), "COLUMN_MISSING");
}

fn secret(names: &[&str]) -> Options<'static> {
    Options { secret_columns: Some(names.iter().map(|name| (*name).to_owned()).collect()), ..Options::default() }
}

#[test]
fn secret_columns_are_arguments_of_the_audit_trigger_and_stay_until_others_are_named() {
    let mut table = facts(vec![column("org_id", "uuid"), column("email", "text"), column("it's", "text")]);
    let call = "tenancy.audit_row('org_id', 'cloud_account', 'secret', 'email', 'it''s')";
    let marked = texts(&plan_with(&table, &secret(&["email", "it's"]))).join("\n");
    assert!(marked.contains(call), "{marked}");
    assert!(marked.contains("tenancy.audit_truncate('org_id', 'cloud_account')"), "TRUNCATE tells no value");
    let provenance = Provenance { secret_columns: vec!["email".into(), "it's".into()], ..earlier() };
    table.provenance = Some(write(&provenance));
    assert!(texts(&plan_of(&table)).join("\n").contains("'secret', 'email', 'it''s')"));
    assert!(!texts(&plan_with(&table, &secret(&[]))).join("\n").contains("'secret'"));
}

#[test]
fn a_column_that_events_tell_all_the_same_cannot_be_secret() {
    let mut table = facts(vec![column("org_id", "uuid"), column("id", "text"), column("email", "text")]);
    table.indexes.push(Index { name: "k".into(), columns: vec!["id".into()], primary: true, ..Index::default() });
    for name in ["org_id", "id", "nope", "back\\slash"] {
        assert_eq!(refusal_with(&subject(&table), &secret(&[name])), "SECRET_COLUMN_INVALID", "{name}");
    }
    table.columns.push(Column { computed_from: vec!["email".into()], ..column("lower_email", "text") });
    assert_eq!(refusal_with(&subject(&table), &secret(&["email"])), "SECRET_COLUMN_INVALID", "computed from it");
    assert!(protect(&subject(&table), &secret(&["email", "lower_email"])).is_ok());
    table.provenance = Some(write(&Provenance { secret_columns: vec!["gone".into()], ..earlier() }));
    assert_eq!(refusal(&table, None), "SECRET_COLUMN_INVALID", "a secret column that was renamed is not forgotten");
}
