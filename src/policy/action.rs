//! `tenancy.authorize_action`: the trigger behind the custom actions of a table.

use crate::context;
use crate::pg::fmgr::fmgr_function;
use crate::pg::report::OrRaise;
use crate::pg::tables::catalog::{self, RowValues, Shape, TableColumn};
use crate::pg::trigger::Call;
use crate::pg::user;
use pg_tenancy_core::error::{self, Result};
use pgrx::pg_sys;

fmgr_function! {
    /// `tenancy.authorize_action(domain, action, 'columns', column...)` or `(domain, action, 'states', column,
    /// value...)`: AFTER ROW trigger that raises where the change needs a permission which the role does not have.
    tenancy_authorize_action, pg_finfo_tenancy_authorize_action, |call| {
        judge(call).or_raise();
        pg_sys::Datum::null()
    }
}

fn judge(call: pg_sys::FunctionCallInfo) -> Result<()> {
    let call = Call::new(call)?;
    let arguments = call.arguments();
    let (true, [domain, action, kind, first, rest @ ..]) = (call.is_after_row(), &arguments[..]) else {
        return Err(error::CALL_REFUSED.error("tenancy.authorize_action is for the triggers of tenancy.protect"));
    };
    if exempt(call.relation())? {
        return Ok(());
    }
    let shape = catalog::shape(call.trigger_oid(), call.relation(), &[]);
    let row = |tuple| RowValues::of(call.relation(), tuple, &shape);
    let change = ActionChange {
        relation: call.relation(),
        shape: &shape,
        old: call.old().map(row),
        new: call.new_row().map(row),
    };
    let happened = match *kind {
        "columns" => {
            std::iter::once(first).chain(rest).try_fold(false, |any, name| Ok(any || change.changes(name)?))?
        }
        _ => change.enters_or_leaves(first, rest)?,
    };
    if happened { context::authorize(domain, action) } else { Ok(()) }
}

/// A role that row-level security does not bind, or that acts for all organizations: a migration or a DBA, as in the
/// policies. Checks of foreign keys (ON DELETE SET NULL) act as the table's owner, not as the role.
fn exempt(relation: pg_sys::Relation) -> Result<bool> {
    if user::in_foreign_key_check() {
        return Ok(true);
    }
    let unbound = || user::bypasses_row_security() || context::lifts(user::in_force(), catalog::oid(relation));
    Ok(context::current()?.is_none() && unbound())
}

/// A row before and after.
struct ActionChange<'a> {
    relation: pg_sys::Relation,
    shape: &'a Shape,
    old: Option<RowValues>,
    new: Option<RowValues>,
}

impl ActionChange<'_> {
    fn column(&self, name: &str) -> Result<&TableColumn> {
        self.shape.columns.iter().find(|column| column.name == name).ok_or_else(|| {
            let message = format!("table \"{}\" has no column \"{name}\", which an action is about", self.shape.name);
            error::COLUMN_MISSING.error(message)
        })
    }

    /// True if the column has another value than before; of a new row, another than NULL and the column's default.
    fn changes(&self, name: &str) -> Result<bool> {
        let column = self.column(name)?;
        Ok(match (&self.old, &self.new) {
            (Some(old), Some(new)) => !old.same(new, column),
            (None, Some(new)) => match new.get(column) {
                None => false,
                Some(value) => !catalog::is_default(self.relation, column, value),
            },
            _ => false,
        })
    }

    /// True if the column's value changes and the old or the new one is among `values`.
    fn enters_or_leaves(&self, name: &str, values: &[&str]) -> Result<bool> {
        let column = self.column(name)?;
        let among = |row: &Option<RowValues>| {
            let value = row.as_ref().and_then(|row| row.get(column));
            value.is_some_and(|value| values.contains(&catalog::text_of(column, value).as_str()))
        };
        let changed = match (&self.old, &self.new) {
            (Some(old), Some(new)) => !old.same(new, column),
            _ => true,
        };
        Ok(changed && (among(&self.old) || among(&self.new)))
    }
}
