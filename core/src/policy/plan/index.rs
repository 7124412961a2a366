//! The steps that create the index on the organization column.

use super::target::Target;
use super::{Mode, Step, provenance::Provenance};
use crate::policy::facts::Facts;
use crate::policy::text::{generated_name, quote_generated};

/// The steps, and the name of the index if `protect` creates or has created it.
pub fn steps(facts: &Facts, target: &Target, earlier: Option<&Provenance>, mode: Mode) -> (Option<String>, Vec<Step>) {
    let column = target.scope.column();
    let existing = facts.indexes.iter().find(|index| index.columns.first() == Some(&column.name));
    let own = earlier
        .and_then(|earlier| earlier.index.clone())
        .filter(|name| facts.indexes.iter().any(|index| index.name == *name));
    let free_name =
        || generated_name(&facts.name, "_tenancy_idx", |name| facts.taken_names.iter().any(|taken| taken == name));
    let wanted = own.clone().unwrap_or_else(free_name);
    let name = if existing.is_some() { own } else { Some(wanted.clone()) };
    let table = &facts.table;
    let on = format!("{} ON {table} ({})", quote_generated(&wanted), column.quoted);
    let why = "A tenant's rows are found without reading the others'.";
    let done = existing.is_some();
    let mut steps = Vec::new();
    if mode == Mode::Online && !facts.partitioned() {
        for broken in &facts.broken_indexes {
            let sql = format!("DROP INDEX CONCURRENTLY {}.{broken}", facts.schema_quoted);
            steps.push(Step::new(false, "SHARE UPDATE EXCLUSIVE", "An interrupted run left it.", sql).alone());
        }
        let sql = format!("CREATE INDEX CONCURRENTLY {on}");
        steps.push(Step::new(done, "SHARE UPDATE EXCLUSIVE", why, sql).alone());
    } else {
        steps.push(Step::new(done, "SHARE", why, format!("CREATE INDEX {on}")));
    }
    (name, steps)
}
