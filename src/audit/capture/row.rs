//! The trigger functions: what a changed row says, as an event.
//!
//! Decision: `docs/decisions/27-truncate.md`.

use super::append::{NewEvent, append};
use super::commitment_key;
use super::origin::{Belongs, ORGANIZATION_TYPES, OriginPath, organization_by};
use super::restore;
use crate::context;
use crate::pg::backend_local::BackendLocal;
use crate::pg::fmgr::fmgr_function;
use crate::pg::json::{self, JsonBytes};
use crate::pg::processes::throttle;
use crate::pg::report::OrRaise;
use crate::pg::settings::configuration;
use crate::pg::tables::catalog::{self, RowValues, Shape, TableColumn};
use crate::pg::trigger::{Call, Operation};
use crate::pg::user;
use pg_tenancy_core::audit::format::commitment::{ColumnPath, CommitmentKey};
use pg_tenancy_core::audit::format::payload::{MemberName, Payload, Side};
use pg_tenancy_core::error::{self, Result};
use pgrx::pg_sys;
use sha2::{Digest as _, Sha256};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use uuid::Uuid;

fmgr_function! {
    /// `tenancy.audit_row(organization column, domain, [parent's table, key, organization column,] ['secret',
    /// column...])`: AFTER ROW trigger of a protected table.
    tenancy_audit_row, pg_finfo_tenancy_audit_row, |call| {
        capture_row(call).or_raise();
        pg_sys::Datum::null()
    }
}

fmgr_function! {
    /// `tenancy.audit_truncate(organization column, domain)`: BEFORE TRUNCATE trigger of a protected table.
    tenancy_audit_truncate, pg_finfo_tenancy_audit_truncate, |call| {
        capture_truncate(call).or_raise();
        pg_sys::Datum::null()
    }
}

/// A change of a row of a protected table.
pub struct RowChange<'a> {
    pub relation: pg_sys::Relation,
    pub table_schema: &'a str,
    pub table_name: &'a str,
    pub domain: &'a str,
    /// The organization of the row before and after: nil for a row that belongs to nobody or is shared by all, none
    /// where there is no row.
    pub from: Option<Uuid>,
    pub to: Option<Uuid>,
}

/// Says whether a row may be changed.
type Judge = fn(&RowChange) -> Result<()>;

static JUDGE: BackendLocal<Cell<Judge>> = BackendLocal::new(Cell::new(|_| Ok(())));

/// Has every change of a protected table's rows judged. Called once.
pub fn judge_rows(judge: Judge) {
    JUDGE.set(judge);
}

/// What a trigger says and its table is like, the same for each row until a table or a schema changes.
struct Learned {
    shape: Rc<Shape>,
    /// The names of the shape's columns, in the same order.
    names: Vec<MemberName>,
    /// The places in the shape of the columns of the primary key.
    key: Vec<usize>,
    domain: String,
    origin: LearnedOrigin,
    /// A table of the extension's own.
    own: bool,
    /// A column is told by an output function that may read settings.
    reads_settings: bool,
}

/// How a row leads to its organization, by the places of columns in the shape.
enum LearnedOrigin {
    Nobody,
    Column(usize),
    Way { column: usize, tables: Vec<[String; 3]> },
}

/// What was learned of triggers, and at which count of changes of tables and schemas.
#[derive(Default)]
struct Triggers {
    at: u64,
    learned: HashMap<pg_sys::Oid, Rc<Learned>>,
}

static TRIGGERS: BackendLocal<RefCell<Option<Triggers>>> = BackendLocal::new(RefCell::new(None));

impl Learned {
    /// What is known of the trigger of this call, whose table has what it takes.
    fn of(call: &Call) -> Result<Rc<Self>> {
        let now = catalog::changes();
        let known = {
            let triggers = TRIGGERS.borrow();
            let current = triggers.as_ref().filter(|triggers| triggers.at == now);
            current.and_then(|triggers| triggers.learned.get(&call.trigger_oid()).cloned())
        };
        if let Some(known) = known {
            check_protected(call, known.own)?;
            return Ok(known);
        }
        let learned = Rc::new(Learned::learn(call)?);
        let mut triggers = TRIGGERS.borrow_mut();
        let triggers = triggers.get_or_insert_default();
        if triggers.at != now {
            triggers.learned.clear();
            triggers.at = now;
        }
        triggers.learned.insert(call.trigger_oid(), learned.clone());
        Ok(learned)
    }

    fn learn(call: &Call) -> Result<Self> {
        let own = catalog::is_own(call.relation());
        check_protected(call, own)?;
        let TriggerArguments { column, domain, way, secret } = TriggerArguments::of(call)?;
        let shape = catalog::shape(call.trigger_oid(), call.relation(), &secret);
        check_secret(&shape, &secret)?;
        let origin = if column.is_empty() && own {
            LearnedOrigin::Nobody
        } else if way.is_empty() {
            LearnedOrigin::Column(organization(&shape, column)?)
        } else {
            LearnedOrigin::Way {
                column: self::column(&shape, column)?,
                tables: way.iter().map(|table| table.map(str::to_owned)).collect(),
            }
        };
        let reads_settings = shape.columns.iter().any(|column| column.kind.reads_settings());
        let names = shape.columns.iter().map(|column| MemberName::new(&column.name)).collect();
        let in_key = |n: &usize| shape.columns[*n].in_primary_key;
        let key = (0..shape.columns.len()).filter(in_key).collect();
        Ok(Learned { shape, names, key, domain: domain.to_owned(), origin, own, reads_settings })
    }

    /// The way opened, where there is one.
    fn origin(&self) -> Result<Origin<'_>> {
        Ok(match &self.origin {
            LearnedOrigin::Nobody => Origin::Nobody,
            LearnedOrigin::Column(column) => Origin::Column(&self.shape.columns[*column]),
            LearnedOrigin::Way { column, tables } => {
                let column = &self.shape.columns[*column];
                Origin::Way { column, way: open(&self.shape, tables, column)? }
            }
        })
    }
}

/// Where the organization of a row stands, and the domain, as `tenancy.protect` wrote them into the trigger.
struct TriggerArguments<'a> {
    column: &'a str,
    domain: &'a str,
    /// The tables that lead to the organization, each with its key and the column that leads on.
    way: Vec<[&'a str; 3]>,
    /// Columns whose values stand as commitments.
    secret: Vec<&'a str>,
}

/// What the names of secret columns follow. A table in the same place has a dot in its name.
const SECRET: &str = "secret";

impl<'a> TriggerArguments<'a> {
    fn of(call: &Call<'a>) -> Result<Self> {
        let arguments = call.arguments();
        let malformed = || error::CALL_REFUSED.error("the audit trigger needs the organization column and the domain");
        let [column, domain, rest @ ..] = &arguments[..] else { return Err(malformed()) };
        let (way, rest) = OriginPath::texts_of(rest, SECRET);
        let secret = match rest {
            [] => Vec::new(),
            [SECRET, names @ ..] if !names.is_empty() => names.to_vec(),
            _ => return Err(malformed()),
        };
        Ok(TriggerArguments { column, domain, way, secret })
    }
}

/// How a row leads to its organization.
enum Origin<'a> {
    /// The column holds it.
    Column(&'a TableColumn),
    /// The column holds the key of a row that leads to it.
    Way { column: &'a TableColumn, way: OriginPath },
    /// The row concerns every organization: a setting of the extension's own.
    Nobody,
}

/// Opens the tables that lead on from a column.
fn open(shape: &Shape, tables: &[[String; 3]], column: &TableColumn) -> Result<OriginPath> {
    let texts: Vec<[&str; 3]> = tables.iter().map(|table| table.each_ref().map(String::as_str)).collect();
    OriginPath::open(&texts, column.type_oid).ok_or_else(|| {
        let tables: Vec<&str> = texts.iter().map(|[table, ..]| *table).collect();
        let tables = tables.join(", ");
        let message = format!("table \"{}\" was protected through {tables}, which has changed", shape.name);
        error::COLUMN_UNSUITABLE.error(message)
    })
}

impl Origin<'_> {
    /// The id of the organization a row belongs to: the nil UUID when no organization is known by the value, none for a
    /// row without a value.
    fn organization(&self, row: &RowValues) -> Option<Uuid> {
        match self {
            Origin::Nobody => None,
            Origin::Column(column) => row.get(column).map(|value| organization_by(value, column.kind)),
            Origin::Way { column, way } => match way.organization(row.get(column)?) {
                Belongs::Nowhere | Belongs::Unknown(_) => Some(Uuid::nil()),
                Belongs::Nobody => None,
                Belongs::To(organization) => Some(organization),
            },
        }
    }
}

fn capture_row(call: pg_sys::FunctionCallInfo) -> Result<()> {
    let call = Call::new(call)?;
    if !call.is_after_row() {
        return Err(error::CALL_REFUSED.error("tenancy.audit_row is for AFTER ... FOR EACH ROW triggers"));
    }
    let learned = Learned::of(&call)?;
    if learned.own && restore::brings_rows()? {
        return Ok(());
    }
    if !learned.own {
        throttle::before_event();
    }
    let (shape, origin) = (&*learned.shape, learned.origin()?);
    let row = |tuple| RowValues::of(call.relation(), tuple, shape);
    let (old, new) = (call.old().map(row), call.new_row().map(row));
    let belongs = |row: &Option<RowValues>| row.as_ref().map(|row| origin.organization(row).unwrap_or_default());
    let (from, to) = (belongs(&old), belongs(&new));
    if !learned.own {
        JUDGE.get()(&RowChange {
            relation: call.relation(),
            table_schema: &shape.schema,
            table_name: &shape.name,
            domain: &learned.domain,
            from,
            to,
        })?;
    }
    let write = || record(&learned, old.as_ref().zip(from), new.as_ref().zip(to));
    if learned.reads_settings { json::with_fixed_settings(write) } else { write() }
}

/// Why a function of the extension changes its own tables.
static REASON: BackendLocal<RefCell<Option<Rc<str>>>> = BackendLocal::new(RefCell::new(None));

/// Takes the reason back, also when an error unwinds.
struct GivenReason;

impl Drop for GivenReason {
    fn drop(&mut self) {
        REASON.replace(None);
    }
}

/// Runs a statement that changes the extension's own tables; the events of the rows have the reason.
pub fn for_reason<T>(reason: Option<&str>, statement: impl FnOnce() -> T) -> T {
    REASON.replace(reason.map(Rc::from));
    let _given = GivenReason;
    statement()
}

/// One event for the change, or two when a row changed its organization: each chain tells its own side of it.
fn record(table: &Learned, old: Option<(&RowValues, Uuid)>, new: Option<(&RowValues, Uuid)>) -> Result<()> {
    match (old, new) {
        (Some((old, from)), Some((new, to))) if from != to => {
            event(table, from, "delete", Some(old), None)?;
            event(table, to, "insert", None, Some(new))
        }
        (Some((old, organization)), Some((new, _))) => event(table, organization, "update", Some(old), Some(new)),
        (Some((old, organization)), None) => event(table, organization, "delete", Some(old), None),
        (None, Some((new, organization))) => event(table, organization, "insert", None, Some(new)),
        (None, None) => Ok(()),
    }
}

fn event(
    table: &Learned,
    organization: Uuid,
    operation: &str,
    old: Option<&RowValues>,
    new: Option<&RowValues>,
) -> Result<()> {
    let key = new.or(old).and_then(|row| row_key(table, row));
    let given_reason = REASON.borrow().clone().filter(|_| table.own);
    let payload = payload(table, organization, old, new)?;
    append(NewEvent {
        organization,
        operation,
        domain: &table.domain,
        table_schema: Some(&table.shape.schema),
        table_name: Some(&table.shape.name),
        row_key: key,
        result: "success",
        reason: given_reason.as_deref(),
        payload,
    })?;
    Ok(())
}

/// `{"old":{...},"new":{...}}`: of an update the changed columns, otherwise all that are not NULL.
fn payload(table: &Learned, organization: Uuid, old: Option<&RowValues>, new: Option<&RowValues>) -> Result<String> {
    let mut writer = PayloadWriter {
        payload: Payload::default(),
        shape: &table.shape,
        organization,
        limit: configuration::audit_value_limit(),
        key: None,
    };
    for (side, row, other) in [(Side::Old, old, new), (Side::New, new, old)] {
        let Some(row) = row else { continue };
        writer.payload.begin(side);
        for (column, name) in table.shape.columns.iter().zip(&table.names) {
            let told = match other {
                Some(other) => !row.same(other, column),
                None => row.get(column).is_some(),
            };
            match row.get(column) {
                value if told && column.secret => writer.commit(side, column, name, value)?,
                value if told => writer.tell(side, column, name, value),
                _ => {}
            }
        }
    }
    let payload = writer.payload.finish(writer.key.as_ref().map(|key| key.id()));
    // Built of JSON strings, numbers and stored JSON in a UTF-8 database.
    Ok(json::into_text(payload))
}

/// Writes the values of a row into a payload.
struct PayloadWriter<'a> {
    payload: Payload,
    shape: &'a Shape,
    organization: Uuid,
    /// How many bytes of text a value may have to be told.
    limit: usize,
    /// The key of commitments, once one was needed.
    key: Option<Rc<CommitmentKey>>,
}

impl PayloadWriter<'_> {
    /// Tells a value, or the digest of a large one.
    fn tell(&mut self, side: Side, column: &TableColumn, name: &MemberName, value: Option<pg_sys::Datum>) {
        let Some(value) = value else {
            self.payload.value(side, name).extend_from_slice(b"null");
            return;
        };
        // SAFETY: the value is of the column's type, whose kind was learned with it, and is not freed before the end.
        if let Some(bytes) = unsafe { JsonBytes::of(column.kind, value) }
            && bytes.text_len() > self.limit
        {
            let mut digest = Sha256::new();
            bytes.text(|piece| digest.update(piece));
            self.payload.digest(side, name, &digest.finalize().into(), bytes.text_len());
            return;
        }
        // SAFETY: as above.
        match unsafe { json::long_text(column.kind, value) } {
            Some(text) if text.len() > self.limit => {
                self.payload.digest(side, name, &Sha256::digest(text).into(), text.len());
            }
            Some(text) => json::push_text(self.payload.value(side, name), column.kind, text),
            // SAFETY: as above.
            None => unsafe { json::push_value(self.payload.value(side, name), column.kind, value) },
        }
    }

    /// Tells a value of a secret column by a commitment.
    fn commit(
        &mut self,
        side: Side,
        column: &TableColumn,
        name: &MemberName,
        value: Option<pg_sys::Datum>,
    ) -> Result<()> {
        let key = match &self.key {
            Some(key) => key.clone(),
            None => self.key.insert(commitment_key::key()?).clone(),
        };
        let place = ColumnPath {
            organization: self.organization,
            table_schema: &self.shape.schema,
            table_name: &self.shape.name,
            column: &column.name,
        };
        // SAFETY: the value is of the column's type, whose kind was learned with it, and is not freed before the end.
        let commitment = value.map(|value| unsafe {
            match JsonBytes::of(column.kind, value) {
                Some(bytes) => key.commit_pieces(&place, bytes.text_len(), |piece| bytes.text(piece)),
                None => key.commit(&place, &json::text(column.kind, value)),
            }
        });
        self.payload.commitment(side, name, commitment.as_ref());
        Ok(())
    }
}

/// The secret columns are there, and none is part of the primary key, which every event tells: the table may have
/// changed since it was protected.
fn check_secret(shape: &Shape, names: &[&str]) -> Result<()> {
    let unfit = names.iter().find(|name| {
        !shape.columns.iter().any(|column| column.secret && column.name == **name && !column.in_primary_key)
    });
    unfit.map_or(Ok(()), |name| {
        let message = format!("column \"{name}\" of \"{}\", which is secret, is gone or part of the key", shape.name);
        Err(error::SECRET_COLUMN_INVALID.error(message))
    })
}

/// The primary key as a JSON object; `None` for a table without one.
fn row_key(table: &Learned, row: &RowValues) -> Option<String> {
    if !table.shape.has_primary_key {
        return None;
    }
    let mut out = Vec::with_capacity(64);
    out.push(b'{');
    for (n, place) in table.key.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        out.extend_from_slice(table.names[*place].as_bytes());
        let column = &table.shape.columns[*place];
        match row.get(column) {
            // SAFETY: the value is of the column's type, whose kind was learned with it.
            Some(datum) => unsafe { json::push_value(&mut out, column.kind, datum) },
            None => out.extend_from_slice(b"null"),
        }
    }
    out.push(b'}');
    Some(json::into_text(out))
}

/// The place of a column in the shape.
fn column(shape: &Shape, name: &str) -> Result<usize> {
    shape.columns.iter().position(|column| column.name == name).ok_or_else(|| {
        let message = format!("table \"{}\" has no column \"{name}\", by which it was protected", shape.name);
        error::COLUMN_MISSING.error(message)
    })
}

/// The place of the column that holds the organization.
fn organization(shape: &Shape, name: &str) -> Result<usize> {
    let place = column(shape, name)?;
    if !ORGANIZATION_TYPES.contains(&shape.columns[place].type_oid) {
        let message = format!("column \"{name}\" of table \"{}\" cannot hold an organization", shape.name);
        return Err(error::COLUMN_UNSUITABLE.error(message));
    }
    Ok(place)
}

/// The triggers stand on protected tables and on the extension's own, which nobody but their owner may write.
///
/// That keeps mistakes and temporary tables out. It does not keep out a member of tenancy_admin, who may create
/// triggers with this function: such a role can protect a table by hand so that it writes what it likes. Table and
/// database user are in the events all the same. A parallel restore, which gives a reason to pass the guardrails,
/// may load a partition that another of its workers has not closed yet.
fn check_protected(call: &Call, own: bool) -> Result<()> {
    let closed_later = || configuration::override_reason().is_some() && catalog::is_permanent(call.relation());
    if catalog::is_protected(call.relation()) || own || closed_later() {
        return Ok(());
    }
    Err(error::CALL_REFUSED.error("the audit triggers are for permanent tables with forced row-level security"))
}

/// TRUNCATE passes row-level security by. A tenant is refused it; whoever may do it has it recorded for every
/// organization that loses rows.
fn capture_truncate(call: pg_sys::FunctionCallInfo) -> Result<()> {
    let call = Call::new(call)?;
    if call.operation() != Operation::Truncate {
        return Err(error::CALL_REFUSED.error("tenancy.audit_truncate is for BEFORE TRUNCATE triggers"));
    }
    let learned = Learned::of(&call)?;
    let (shape, origin) = (&*learned.shape, learned.origin()?);
    if context::current()?.is_some() || !user::may_pass_row_security(call.relation()) {
        let message = format!("TRUNCATE of \"{}\" would remove the rows of every organization", shape.name);
        return Err(error::TRUNCATE_REFUSED.error(message));
    }
    for (organization, rows) in rows_by_organization(&call, shape, &origin) {
        append(NewEvent {
            organization,
            operation: "truncate",
            domain: &learned.domain,
            table_schema: Some(&shape.schema),
            table_name: Some(&shape.name),
            row_key: None,
            result: "success",
            reason: None,
            payload: format!("{{\"rows\":{rows}}}"),
        })?;
    }
    Ok(())
}

/// How many rows each organization has in the table.
///
/// Read without SQL: a query would have to pass row-level security by, and planning it as a superuser would run
/// functions of the table's owner, those of index expressions for instance.
fn rows_by_organization(call: &Call, shape: &Shape, origin: &Origin) -> BTreeMap<Uuid, i64> {
    let mut rows = BTreeMap::new();
    catalog::each_row(call.relation(), |tuple| {
        let row = RowValues::of(call.relation(), tuple, shape);
        *rows.entry(origin.organization(&row).unwrap_or_default()).or_default() += 1;
    });
    rows
}
