//! `tenancy.plan`, `tenancy.protect` and `tenancy.unprotect`: facts from the catalogs, steps to the server.
//!
//! They run with the rights of the caller: Postgres itself refuses whoever does not own the table.

use crate::audit;
use crate::pg::backend_local::BackendLocal;
use crate::pg::ddl::event_trigger::Table;
use crate::pg::ddl::statement;
use crate::pg::json::Jsonb;
use crate::pg::planning::expression;
use crate::pg::report::{OrRaise, notice};
use crate::pg::settings::scoped::{CANONICAL_SETTINGS, with_settings};
use crate::pg::spi::{self, Query, argument};
use crate::pg::tables::table::{IndexKey, find};
use crate::pg::transaction;
use crate::pg::user;
use pg_tenancy_core::error::{self, Result, require_not_null};
use pg_tenancy_core::policy::facts::{Facts, TableFamily};
use pg_tenancy_core::policy::on_one_line;
use pg_tenancy_core::policy::options::{self, Backfill, NullRows, Options};
use pg_tenancy_core::policy::plan::{self, State, Step};
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern, pg_sys};
use serde_json::json;
use std::cell::Cell;
use std::collections::BTreeMap;

/// Everything a plan depends on of one table, in one JSON object.
static FACTS: Query = Query::new(include_str!("facts.sql"));

/// A table of more pages (of 8 kB) is worth a word about the plan that runs beside the application.
const LARGE_TABLE_PAGES: i64 = 12_800;

fn facts(table: pg_sys::Oid) -> Result<Facts> {
    let read = || FACTS.write(&[argument(table)], |row| row.get::<String>(1)).pop().flatten();
    let text = with_settings(&CANONICAL_SETTINGS, read);
    let text = text.ok_or_else(|| error::NOT_FOUND.error("the table is gone"))?;
    let mut found: Facts = serde_json::from_str(&text)
        .map_err(|_| error::STATE_INVALID.error("the catalogs of the table cannot be read"))?;
    found.schema_column = schema_column(&found.schema);
    Ok(found)
}

/// The organization column that `tenancy.protect_schema` was given, as it is committed or written by the transaction.
fn schema_column(schema: &str) -> Option<String> {
    let key = [IndexKey::text(1, schema)];
    let read = || find(c"protected_schema", c"protected_schema_pkey", &key, |row| row.get::<String>(2));
    transaction::with_latest_snapshot(read).into_iter().flatten().next()
}

/// The table with its partitions, its children, and the tables that foreign keys join it to.
fn subject(table: pg_sys::Oid) -> Result<TableFamily> {
    subject_of(table.to_u32(), |oid| facts(pg_sys::Oid::from(oid)))
}

fn subject_of(table: u32, mut facts: impl FnMut(u32) -> Result<Facts>) -> Result<TableFamily> {
    let table = facts(table)?;
    let members = table.members.iter().map(|oid| facts(*oid)).collect::<Result<_>>()?;
    let mut others = BTreeMap::new();
    let mut wanted: Vec<u32> =
        table.references.iter().flat_map(|reference| [reference.child, reference.parent]).collect();
    while let Some(oid) = wanted.pop() {
        if oid != table.oid && !others.contains_key(&oid) {
            let found = facts(oid)?;
            wanted.extend(plan::leads_to(&found));
            others.insert(oid, found);
        }
    }
    Ok(TableFamily { table, members, others })
}

/// What the SQL functions are given.
struct ProtectArguments<'a> {
    table: Option<pg_sys::Oid>,
    organization_column: Option<&'a str>,
    domain: Option<&'a str>,
    null_rows: Option<&'a str>,
    backfill: Option<&'a str>,
    through: Option<&'a str>,
    actions: Option<Jsonb>,
    secret_columns: Option<Vec<Option<String>>>,
    online: bool,
}

impl<'a> ProtectArguments<'a> {
    fn plan(self) -> Result<(TableFamily, Vec<Step>)> {
        let table = require_not_null(self.table, "the table")?;
        let subject = subject(table)?;
        plan::check_kind(&subject)?;
        let expression = self.backfill.map(|text| expression::read(table, &subject.table.table, text));
        let backfill = expression
            .as_ref()
            .map(|expression| Backfill { expression: &expression.text, data_type: expression.data_type.clone() });
        let options = Options {
            column: self.organization_column,
            domain: self.domain,
            null_rows: self.null_rows.map(NullRows::parse).transpose()?,
            backfill,
            through: self.through,
            actions: self.actions.map(|json| options::parse_actions(&json.0)).transpose()?,
            secret_columns: self.secret_columns.map(options::parse_secret_columns).transpose()?,
            online: self.online,
        };
        let mut steps = plan::protect(&subject, &options)?;
        let tenants = plan::table_of_tenants(&subject, &options);
        if let Some((tenants, key)) = tenants.filter(|(tenants, _)| !is_excluded(tenants)) {
            let (oid, owned) = (pg_sys::Oid::from(tenants.oid), tenants.owned);
            let options = Options { column: Some(key), online: self.online, ..Options::default() };
            // One that cannot be protected so is left to the advisor, which has an error for it.
            let more = self::subject(oid).and_then(|subject| plan::protect(&subject, &options)).unwrap_or_default();
            steps.extend(more.into_iter().map(|step| step.unless(owned)));
        }
        Ok((subject, steps))
    }
}

/// True for a table that somebody has excluded.
fn is_excluded(table: &Facts) -> bool {
    let key = [IndexKey::text(1, &table.schema), IndexKey::text(2, &table.name)];
    let found = transaction::with_latest_snapshot(|| find(c"exclusion", c"exclusion_pkey", &key, |_| ()));
    !found.is_empty()
}

/// `tenancy.plan`: the steps of `protect`, none of them run.
#[allow(clippy::type_complexity, clippy::too_many_arguments)]
#[pg_extern(sql = false)]
fn tenancy_plan(
    table: Option<pg_sys::Oid>,
    organization_column: Option<&str>,
    domain: Option<&str>,
    null_rows: Option<&str>,
    backfill: Option<&str>,
    through: Option<&str>,
    actions: Option<Jsonb>,
    secret_columns: Option<Vec<Option<String>>>,
    online: Option<bool>,
) -> TableIterator<
    'static,
    (
        name!(step, i32),
        name!(sql, String),
        name!(why, String),
        name!(lock, String),
        name!(in_transaction, bool),
        name!(state, String),
    ),
> {
    let online = online.unwrap_or(false);
    let arguments = ProtectArguments {
        table,
        organization_column,
        domain,
        null_rows,
        backfill,
        through,
        actions,
        secret_columns,
        online,
    };
    let (_, steps) = arguments.plan().or_raise();
    TableIterator::new(steps.into_iter().zip(1..).map(|(step, number)| {
        (number, step.sql, step.why.into(), step.lock.into(), step.in_transaction, step.state.name().into())
    }))
}

/// `tenancy.protect`: runs what the plan has left to do; returns how many steps.
#[allow(clippy::too_many_arguments)]
#[pg_extern(sql = false)]
fn tenancy_protect(
    table: Option<pg_sys::Oid>,
    organization_column: Option<&str>,
    domain: Option<&str>,
    null_rows: Option<&str>,
    backfill: Option<&str>,
    through: Option<&str>,
    actions: Option<Jsonb>,
    secret_columns: Option<Vec<Option<String>>>,
) -> i32 {
    if secret_columns.as_ref().is_some_and(|columns| !columns.is_empty()) {
        // Here and not by the first write.
        audit::commitment_key().or_raise();
    }
    let arguments = ProtectArguments {
        table,
        organization_column,
        domain,
        null_rows,
        backfill,
        through,
        actions,
        secret_columns,
        online: false,
    };
    let (subject, steps) = arguments.plan().or_raise();
    tell(&subject, &steps);
    // Here and not by the first event, whose transaction others would wait for.
    audit::create_partitions();
    protect_by(pg_sys::Oid::from(subject.table.oid), &steps).or_raise()
}

/// Protects a table, or what became of a protected one, as it is or usually would be; returns how many steps that took.
pub fn protect_if_possible(table: pg_sys::Oid) -> Result<i32> {
    remaining(table).and_then(|steps| protect_by(table, &steps))
}

/// Runs the steps, which make one event; returns how many.
fn protect_by(table: pg_sys::Oid, steps: &[Step]) -> Result<i32> {
    let count = run(steps);
    if count > 0 {
        recorded("protect", table, count, mark(table))?;
    }
    Ok(count)
}

/// Writes the event of a table that was protected or is no longer.
fn recorded(operation: &str, table: pg_sys::Oid, steps: i32, mark: Option<plan::Mark>) -> Result<()> {
    let Some(found) = self::table(table) else { return Ok(()) };
    let details = json!({
        "steps": steps,
        "organization_column": mark.as_ref().map(|mark| &mark.column),
        "domain": mark.as_ref().map(|mark| &mark.domain),
        "through": mark.as_ref().and_then(|mark| mark.through.as_ref()),
        "null_rows": mark.as_ref().and_then(|mark| mark.null_rows).map(|rows| rows.name()),
    });
    audit::table_changed(operation, &found.schema, &found.name, details)
}

/// What the isolation policy of a table says, if it has one.
fn mark(table: pg_sys::Oid) -> Option<plan::Mark> {
    let comment = MARK.write(&[argument(table)], |row| row.get::<String>(1)).into_iter().flatten().next();
    comment.as_deref().and_then(plan::mark)
}

/// The comment of the isolation policy of a table.
static MARK: Query = Query::new(
    "SELECT obj_description(p.oid, 'pg_policy') FROM pg_policy p
      WHERE p.polrelid = $1 AND p.polname = 'tenancy_isolation'",
);

/// What [`protect_if_possible`] has left to do.
pub fn remaining(table: pg_sys::Oid) -> Result<Vec<Step>> {
    to_do(&subject(table)?)
}

fn to_do(subject: &TableFamily) -> Result<Vec<Step>> {
    let mut steps = plan::protect(subject, &Options::default())?;
    steps.retain(|step| step.state == State::Todo);
    Ok(steps)
}

/// What keeps the foreign keys of a table from leading to other organizations, as far as it is not done.
pub fn key_steps(table: pg_sys::Oid) -> Result<Vec<Step>> {
    let mut steps = plan::protect(&subject(table)?, &Options::default())?;
    steps.retain(|step| step.keeps_references && step.state != State::Done);
    Ok(steps)
}

/// Runs those steps, which make one event.
pub fn keep_keys(table: pg_sys::Oid, steps: &[Step]) -> Result<()> {
    protect_by(table, steps).map(drop)
}

/// True if a foreign key that was dropped carried the organization, and may be missed.
pub fn misses(table: pg_sys::Oid, name: &str, columns: &[String]) -> bool {
    facts(table).is_ok_and(|facts| plan::misses(&facts, name, columns))
}

/// Forgets a foreign key that carried the organization and went with one of its columns, or with its other table.
pub fn forget_key(table: pg_sys::Oid, name: &str) -> Result<()> {
    let step = facts(table).ok().and_then(|facts| plan::forgetting(&facts, name));
    step.map_or(Ok(()), |step| protect_by(table, &[step]).map(drop))
}

/// True for the index that `protect` made.
pub fn is_made_index(table: pg_sys::Oid, name: &str) -> bool {
    facts(table).is_ok_and(|facts| plan::made_index(&facts).as_deref() == Some(name))
}

/// True if that column is the organization of a protected table, without its default.
pub fn lacks_default(table: pg_sys::Oid, column: &str) -> bool {
    facts(table).is_ok_and(|facts| plan::lacks_default(&facts, column))
}

/// The table that a partition or child belongs to at last; itself for any other.
pub fn root_of(table: pg_sys::Oid) -> pg_sys::Oid {
    let root = ROOT.write(&[argument(table)], |row| row.get::<pg_sys::Oid>(1));
    root.into_iter().flatten().next().unwrap_or(table)
}

static ROOT: Query = Query::new(
    "WITH RECURSIVE part (oid, level) AS (
         SELECT $1, 0
          UNION ALL
         SELECT i.inhparent, p.level + 1
           FROM part p JOIN pg_inherits i ON i.inhrelid = p.oid AND i.inhseqno = 1)
     SELECT oid FROM part ORDER BY level DESC LIMIT 1",
);

/// True if `protect` has marked the table.
pub fn is_marked(table: pg_sys::Oid) -> bool {
    facts(table).is_ok_and(|facts| plan::is_marked(&facts))
}

/// Protected tables at and below that one, each with a parent that is not protected.
pub fn open_parents(table: pg_sys::Oid) -> Vec<(pg_sys::Oid, pg_sys::Oid)> {
    let pairs = OPEN_PARENTS.write(&[argument(table)], |row| Some((row.get(1)?, row.get(2)?)));
    pairs.into_iter().flatten().collect()
}

static OPEN_PARENTS: Query = Query::new(
    "WITH RECURSIVE part (oid) AS (
         SELECT $1
          UNION
         SELECT i.inhrelid FROM part p JOIN pg_inherits i ON i.inhparent = p.oid),
     above (child, parent) AS (
         SELECT i.inhrelid, i.inhparent FROM part p JOIN pg_inherits i ON i.inhrelid = p.oid
          UNION
         SELECT a.child, i.inhparent FROM above a JOIN pg_inherits i ON i.inhrelid = a.parent),
     marked (oid) AS (
         SELECT p.polrelid FROM pg_policy p
          WHERE p.polname = 'tenancy_isolation'
            AND obj_description(p.oid, 'pg_policy') ~~ 'Made by tenancy.protect;%')
     SELECT a.child, a.parent FROM above a
      WHERE a.child IN (SELECT m.oid FROM marked m) AND a.parent NOT IN (SELECT m.oid FROM marked m)
      ORDER BY a.child, a.parent",
);

/// The column by which a protected table is, or leads to, an organization's.
pub fn organization_column(table: pg_sys::Oid) -> Option<String> {
    mark(table).map(|mark| mark.column)
}

/// Schema and name, quoted, of every table that `protect` has marked.
pub fn marked_tables() -> Vec<String> {
    marks().map(|(table, _)| name_of(table)).collect()
}

/// True if the table has the organization column of its schema, or one of a usual name.
pub fn has_organization_column(table: pg_sys::Oid) -> bool {
    facts(table).is_ok_and(|facts| plan::has_organization_column(&facts))
}

/// True if the table has row-level security and something that `protect` made.
pub fn is_protected_somehow(table: pg_sys::Oid) -> bool {
    facts(table).is_ok_and(|facts| facts.row_security && plan::was_protected(&facts))
}

/// True for the name of a policy or trigger that `protect` makes.
pub fn is_generated_name(name: &str) -> bool {
    plan::is_generated_name(name)
}

/// Schema and name of the table, quoted.
pub fn name_of(table: pg_sys::Oid) -> String {
    facts(table).map_or_else(|_| table.to_u32().to_string(), |facts| facts.table)
}

/// Schema and name, quoted, of a table that the caller may alter.
pub fn owned(table: pg_sys::Oid) -> Result<String> {
    let found = facts(table)?;
    let not_owner = || error::NOT_OWNER.error(format!("must be owner of table {}", found.table));
    if found.owned { Ok(found.table) } else { Err(not_owner()) }
}

/// Schema and name of the table; `None` for one that is gone.
pub fn table(oid: pg_sys::Oid) -> Option<Table> {
    let read = |row: &spi::Row| Some(Table { oid, schema: row.get(1)?, name: row.get(2)? });
    NAMES.write(&[argument(oid)], read).pop().flatten()
}

static NAMES: Query = Query::new(
    "SELECT n.nspname::text, c.relname::text
       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.oid = $1",
);

/// The first thing that is wrong with the protection of a table that was protected; `None` where all is well.
pub fn missing_protection(table: pg_sys::Oid) -> Option<String> {
    let found = facts(table).ok().filter(plan::was_protected)?;
    if let Some(name) = plan::unenforced_references(&found).first() {
        return Some(format!("The foreign key {name} carries the organization and is not enforced."));
    }
    match remaining(root_of(table)) {
        Ok(steps) => {
            steps.iter().find(|step| step.is_security_relevant()).map(|step| format!("To be done again: {}", step.sql))
        }
        Err(error) => Some(format!("{} cannot be protected: {error}", found.table)),
    }
}

/// The comments of all isolation policies.
static MARKS: Query = Query::new(
    "SELECT p.polrelid, obj_description(p.oid, 'pg_policy')
       FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
      WHERE p.polname = 'tenancy_isolation' AND c.relpersistence <> 't'
      ORDER BY p.polrelid",
);

/// The tables that `protect` has marked.
fn marks() -> impl Iterator<Item = (pg_sys::Oid, plan::Mark)> {
    let marks = MARKS.read(&[], |row| Some((row.get::<pg_sys::Oid>(1)?, row.get::<String>(2)?)));
    marks.into_iter().flatten().filter_map(|(table, comment)| Some((table, plan::mark(&comment)?)))
}

/// `tenancy.protected_tables()`: what `protect` has marked.
#[allow(clippy::type_complexity)]
#[pg_extern(sql = false)]
fn tenancy_protected_tables() -> TableIterator<
    'static,
    (
        name!(table, pg_sys::Oid),
        name!(organization_column, String),
        name!(domain, String),
        name!(through, Option<String>),
        name!(null_rows, Option<String>),
    ),
> {
    TableIterator::new(marks().map(|(table, plan::Mark { column, domain, through, null_rows })| {
        (table, column, domain, through, null_rows.map(|rows| rows.name().to_owned()))
    }))
}

/// How many tables [`tenancy_drift`] remembers the facts of, at some kilobytes each.
const MOST_REMEMBERED: usize = 10_000;

/// `tenancy.drift()`: the protected tables that are not as `protect` left them.
#[allow(clippy::type_complexity)]
#[pg_extern(sql = false)]
fn tenancy_drift() -> TableIterator<'static, (name!(table, pg_sys::Oid), name!(problem, String), name!(exposed, bool))>
{
    let tables = PROTECTED.write(&[], |row| row.get::<pg_sys::Oid>(1));
    // Foreign keys ask for the same tables again and again.
    let mut known = BTreeMap::new();
    let mut remember = move |oid: u32| match known.get(&oid) {
        Some(found) => Ok(Facts::clone(found)),
        None => facts(pg_sys::Oid::from(oid)).inspect(|found| {
            if known.len() == MOST_REMEMBERED {
                known.clear();
            }
            known.insert(oid, found.clone());
        }),
    };
    let mut remaining = move |table: pg_sys::Oid| {
        let subject = subject_of(table.to_u32(), &mut remember)?;
        let steps = to_do(&subject)?;
        // What is exposed comes first.
        let lost = if steps.iter().any(Step::is_security_relevant) {
            Vec::new()
        } else {
            plan::lost_references(&subject.table)
        };
        Ok::<_, error::Error>((steps, lost, plan::unenforced_references(&subject.table)))
    };
    TableIterator::new(tables.into_iter().flatten().filter_map(move |table| match remaining(table) {
        Ok((_, _, unenforced)) if !unenforced.is_empty() => {
            let problem = format!(
                "the foreign key {} carries the organization and is not enforced: enable its triggers, or have it \
                    ENFORCED",
                unenforced.join(", ")
            );
            Some((table, on_one_line(&problem), true))
        }
        Ok((_, lost, _)) if !lost.is_empty() => {
            let problem = format!(
                "the foreign key {} carried the organization and is gone: add it again, or have tenancy.protect \
                    forget it",
                lost.join(", ")
            );
            Some((table, on_one_line(&problem), false))
        }
        Ok((steps, ..)) => {
            let first = steps.iter().find(|step| step.is_security_relevant()).or(steps.first())?;
            Some((
                table,
                on_one_line(&format!("{} steps are to be done again, such as: {}", steps.len(), first.sql)),
                first.is_security_relevant(),
            ))
        }
        Err(error) => Some((table, on_one_line(&error.message), true)),
    }))
}

/// Tables that are no part of another and have something that `protect` makes.
static PROTECTED: Query = Query::new(
    "SELECT c.oid FROM pg_class c
      WHERE c.relpersistence <> 't'
        AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid)
        -- A policy or trigger that only has the name is somebody else's.
        AND (EXISTS (SELECT FROM pg_policy p
                      WHERE p.polrelid = c.oid AND p.polname ~ '^tenancy_(isolation|read|create|update|delete)'
                        AND (obj_description(p.oid, 'pg_policy') ~~ 'Made by tenancy.protect;%'
                             OR EXISTS (SELECT FROM pg_depend d JOIN pg_proc f ON f.oid = d.refobjid
                                          JOIN pg_namespace n ON n.oid = f.pronamespace
                                         WHERE d.classid = 'pg_policy'::regclass AND d.objid = p.oid
                                           AND d.refclassid = 'pg_proc'::regclass
                                           AND n.nspname = 'tenancy')))
             OR EXISTS (SELECT FROM pg_trigger t
                         WHERE t.tgrelid = c.oid
                           AND t.tgfoid IN ('tenancy.audit_row()'::regprocedure, \
                           'tenancy.audit_truncate()'::regprocedure))
                AND NOT EXISTS (SELECT FROM pg_namespace n WHERE n.oid = c.relnamespace AND n.nspname = 'tenancy'))
      ORDER BY c.oid",
);

/// `tenancy.unprotect(table)`: takes back what `protect` made; returns how many steps that were.
///
/// What was there before stands in comments, which the owner of each table could have changed. So each step runs as
/// the owner of the table that it alters, whoever calls.
#[pg_extern(sql = false)]
fn tenancy_unprotect(table: pg_sys::Oid) -> i32 {
    let subject = subject(table).or_raise();
    let steps = plan::unprotect(&subject).or_raise();
    let not_owner = || error::NOT_OWNER.error(format!("must be owner of table {}", subject.table.table));
    subject.table.owned.then_some(()).ok_or_else(not_owner).or_raise();
    let mark = mark(table);
    tell_manual(&steps);
    let count = run(&steps);
    if count > 0 {
        recorded("unprotect", table, count, mark).or_raise();
    }
    count
}

/// True while this room itself changes a table.
pub fn working() -> bool {
    WORKING.get()
}

static WORKING: BackendLocal<Cell<bool>> = BackendLocal::new(Cell::new(false));

/// Ends the work even when a step raises, which unwinds through here.
struct PlannedWork {
    before: bool,
}

impl PlannedWork {
    fn begin() -> Self {
        PlannedWork { before: WORKING.replace(true) }
    }
}

impl Drop for PlannedWork {
    fn drop(&mut self) {
        WORKING.set(self.before);
    }
}

fn run(steps: &[Step]) -> i32 {
    let _work = PlannedWork::begin();
    let mut count = 0;
    with_settings(&CANONICAL_SETTINGS, || {
        for step in steps.iter().filter(|step| step.state == State::Todo) {
            let execute = || {
                audit::as_part(&step.sql, || match step.compares_rows {
                    true => user::without_force(|| statement::execute(&step.sql)),
                    false => statement::execute(&step.sql),
                })
            };
            match step.alters.map(pg_sys::Oid::from) {
                Some(table) => {
                    let gone = || error::NOT_OWNER.error(format!("must be owner of table {}", name_of(table)));
                    user::as_owner(table, execute).ok_or_else(gone).or_raise();
                }
                None => execute(),
            }
            count += 1;
        }
    });
    count
}

/// Says what the caller may not expect: policies of other hands, steps for somebody else, a long lock.
fn tell(subject: &TableFamily, steps: &[Step]) {
    let table = &subject.table;
    let foreign = plan::unmanaged_policies(table);
    if !foreign.is_empty() {
        let (theirs, ours) = plan::commands_of_others(table);
        let mut hint = "They stay, and narrow further what a role may do within its organization.".to_owned();
        if !theirs.is_empty() {
            hint.push_str(&format!(" {} still needs a permissive one of them.", theirs.join(", ")));
        }
        if !ours.is_empty() {
            hint.push_str(&format!(
                " For {} there is none, so the permission of the role decides alone.",
                ours.join(", ")
            ));
        }
        notice(&format!("{} has policies that are not of tenancy.protect: {}", table.table, foreign.join(", ")), &hint);
    }
    tell_manual(steps);
    if table.pages > LARGE_TABLE_PAGES && steps.iter().any(|step| step.state == State::Todo) {
        notice(
            &format!("{} is large: writers wait until this transaction ends", table.table),
            "tenancy.plan(table, online => true) has steps that run one by one beside the application.",
        );
    }
}

fn tell_manual(steps: &[Step]) {
    for step in steps.iter().filter(|step| step.state == State::Manual) {
        notice(&format!("left for the owner of both tables: {}", step.sql), "Run it as a role that owns both tables.");
    }
}
