//! `tenancy.check_reference`: the trigger behind foreign keys that cannot carry the organization.

use crate::audit::capture::origin::{Belongs, OriginPath, owner_of};
use crate::pg::fmgr::fmgr_function;
use crate::pg::report::OrRaise;
use crate::pg::spi::{Query, argument};
use crate::pg::tables::catalog::{self, RowValues, Shape, TableColumn};
use crate::pg::transaction;
use crate::pg::trigger::Call;
use pg_tenancy_core::error::{self, Result, require_not_null};
use pgrx::{pg_extern, pg_sys};

fmgr_function! {
    /// `tenancy.check_reference(foreign key, 'shared' or '', column, [table, key, column]..., '=', own column,
    /// [table, key, column]...)`: AFTER ROW trigger that raises where the row pointed at is not there or of another
    /// organization.
    ///
    /// It fires before the triggers of the foreign key itself, so that both are refused in the same words, by the
    /// same line.
    tenancy_check_reference, pg_finfo_tenancy_check_reference, |call| {
        judge(call).or_raise();
        pg_sys::Datum::null()
    }
}

/// What stands between the two ways in the arguments. A table in the same place has a dot in its name.
const OWN: &str = "=";

/// Two ways from a row, which have to end at the same organization.
struct Ends<'a> {
    name: &'a str,
    /// Rows that belong to nobody may be pointed at: every organization reads them.
    shared: bool,
    column: &'a TableColumn,
    way: OriginPath,
    own_column: &'a TableColumn,
    /// `None` where the column itself is the organization's.
    own_way: Option<OriginPath>,
}

impl<'a> Ends<'a> {
    fn of(arguments: &[&'a str], shape: &'a Shape) -> Result<Self> {
        let malformed = || error::CALL_REFUSED.error("tenancy.check_reference is for the triggers of tenancy.protect");
        let [name, shared, column, rest @ ..] = arguments else { return Err(malformed()) };
        let (way, rest) = OriginPath::texts_of(rest, OWN);
        let [OWN, own_column, rest @ ..] = rest else { return Err(malformed()) };
        let (own_way, []) = OriginPath::texts_of(rest, OWN) else { return Err(malformed()) };
        let changed = || {
            let message = format!("what the foreign key \"{name}\" of \"{}\" leads to has changed", shape.name);
            error::COLUMN_UNSUITABLE.error(message)
        };
        let column = shape.column(column).ok_or_else(changed)?;
        let own_column = shape.column(own_column).ok_or_else(changed)?;
        let open = |texts: &[[&str; 3]], from: &TableColumn| OriginPath::open(texts, from.type_oid).ok_or_else(changed);
        let own = if own_way.is_empty() { None } else { Some(open(&own_way, own_column)?) };
        Ok(Ends { name, shared: *shared == "shared", column, way: open(&way, column)?, own_column, own_way: own })
    }

    fn check(&self, shape: &Shape, row: &RowValues) -> Result<()> {
        let (Some(key), Some(own)) = (row.get(self.column), row.get(self.own_column)) else { return Ok(()) };
        let own = match &self.own_way {
            Some(way) => way.organization(own),
            None => owner_of(self.own_column, own),
        };
        let other = self.way.organization(key);
        let good = match (&own, &other) {
            (_, Belongs::Nowhere) => false,
            // A row that belongs to nobody is none of a tenant's.
            (Belongs::Nobody | Belongs::Nowhere, _) => true,
            (_, Belongs::Nobody) => self.shared,
            (own, other) => own == other,
        };
        if good {
            return Ok(());
        }
        let message = format!("\"{}\" of \"{}\" points at no row of the organization", self.name, shape.name);
        Err(error::REFERENCE_REFUSED.error(message))
    }
}

fn judge(call: pg_sys::FunctionCallInfo) -> Result<()> {
    let call = Call::new(call)?;
    if !call.is_after_row() {
        return Err(error::CALL_REFUSED.error("tenancy.check_reference is for the triggers of tenancy.protect"));
    }
    let shape = catalog::shape(call.trigger_oid(), call.relation(), &[]);
    let row = |tuple| RowValues::of(call.relation(), tuple, &shape);
    let (old, Some(new)) = (call.old().map(row), call.new_row().map(row)) else { return Ok(()) };
    let arguments = call.arguments();
    if old.is_some_and(|old| columns(&arguments, &shape).all(|column| old.same(&new, column))) {
        return Ok(());
    }
    // The rows that this statement itself has written count.
    transaction::next_command();
    Ends::of(&arguments, &shape)?.check(&shape, &new)
}

/// The columns that the two ways begin with: without a change of them there is nothing to look at.
fn columns<'a>(arguments: &[&str], shape: &'a Shape) -> impl Iterator<Item = &'a TableColumn> {
    let rest = arguments.get(3..).unwrap_or_default();
    let (_, own) = OriginPath::texts_of(rest, OWN);
    [arguments.get(2), own.get(1)].into_iter().flatten().filter_map(|name| shape.column(name))
}

/// The arguments of the triggers of a table that check references.
static ARGUMENTS: Query = Query::new(
    "SELECT t.tgargs FROM pg_trigger t
      WHERE t.tgrelid = $1
        AND t.tgfoid = 'tenancy.check_reference()'::regprocedure",
);

/// `tenancy.check_references(table, name)`: the same for the rows that are there already.
#[pg_extern(sql = false)]
fn tenancy_check_references(table: Option<pg_sys::Oid>, name: Option<&str>) {
    check_rows(table, name).or_raise();
}

fn check_rows(table: Option<pg_sys::Oid>, name: Option<&str>) -> Result<()> {
    let (table, name) = (require_not_null(table, "the table")?, require_not_null(name, "the foreign key")?);
    let quoted = super::protect::owned(table)?;
    let found = ARGUMENTS.write(&[argument(table)], |row| row.get::<Vec<u8>>(1));
    let texts = found.into_iter().flatten().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let texts = texts.map(|text| text.split_terminator('\0').map(str::to_owned).collect::<Vec<_>>());
    let missing = || error::NOT_FOUND.error(format!("{quoted} has no trigger that checks \"{name}\""));
    let texts = texts.into_iter().find(|texts| texts.first().is_some_and(|first| first == name)).ok_or_else(missing)?;
    let arguments: Vec<&str> = texts.iter().map(String::as_str).collect();
    for part in catalog::descendants(table) {
        catalog::with_table(part, |relation, shape| {
            let ends = Ends::of(&arguments, shape)?;
            let mut result = Ok(());
            catalog::each_row(relation, |tuple| {
                if result.is_ok() {
                    result = ends.check(shape, &RowValues::of(relation, tuple, shape));
                }
            });
            result
        })?;
    }
    Ok(())
}
