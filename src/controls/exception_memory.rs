//! What is excepted now: `tenancy.is_excepted`, `tenancy.excepted`, `tenancy.exception_of`.
//!
//! A session remembers the exceptions of an organization that are stored as active, each with its end, until a trigger
//! announces a change. The clock is read at each call, so nothing outlives its end in memory.
//!
//! Decision: `docs/decisions/83-exceptions.md`.

use super::exception::DOMAIN;
use super::exception_kind;
use super::exception_row::of_target;
use crate::context;
use crate::pg::backend_local::BackendLocal;
use crate::pg::fmgr::{fmgr_function, text_in_place};
use crate::pg::report::OrRaise;
use crate::pg::settings::configuration;
use crate::pg::tables::remembered::WatchedTables;
use crate::pg::tables::scan::Scan;
use crate::pg::tables::table::{IndexKey, Tuple, find};
use crate::pg::trigger::Call;
use crate::pg::{clock, transaction};
use pg_tenancy_core::controls::exception::{EVERY_TARGET, Settings};
use pg_tenancy_core::error::{Result, require_not_null};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::iter::TableIterator;
use pgrx::{FromDatum, name, pg_extern, pg_sys};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use uuid::Uuid;

/// Every table that says what is excepted.
pub static EXCEPTIONS: WatchedTables =
    WatchedTables::new(&[c"exception", c"exception_kind"], c"exception_signal", c"announce_exception_change");

/// The active exceptions of a kind.
struct OfKind {
    name: Box<str>,
    settings: Settings,
    /// When the one for every target ends.
    every_target: Option<i64>,
    /// When those of single targets end.
    targets: HashMap<Box<str>, i64>,
}

/// The active exceptions of an organization.
struct Active {
    kinds: Vec<OfKind>,
    /// How many there are; `None` where they are too many to be remembered, and none is.
    count: Option<usize>,
}

impl Active {
    /// Whether the target is excepted now; `None` where that is not remembered.
    #[inline]
    fn has(&self, kind: &str, target: &str) -> Option<bool> {
        self.count?;
        let Some(of_kind) = self.kinds.iter().find(|of_kind| *of_kind.name == *kind) else { return Some(false) };
        let ends = [of_kind.every_target, of_kind.targets.get(target).copied()];
        // The clock is not read for what is not there.
        Some(match ends {
            [None, None] => false,
            ends => ends.into_iter().flatten().max().is_some_and(|end| clock::now() < end),
        })
    }

    fn settings(&self, kind: &str) -> Option<&Settings> {
        self.kinds.iter().find(|of_kind| *of_kind.name == *kind).map(|of_kind| &of_kind.settings)
    }
}

/// What was read, of which state of the tables.
#[derive(Default)]
struct Memory {
    changes: u64,
    limit: usize,
    organizations: HashMap<Uuid, Rc<Active>>,
}

static MEMORY: BackendLocal<RefCell<Option<Memory>>> = BackendLocal::new(RefCell::new(None));

/// What a statement was told of its organization: it counts while the context and the tables are as they were.
struct Looked {
    statement: i64,
    generation: u64,
    changes: u64,
    active: Rc<Active>,
}

static LOOKED: BackendLocal<RefCell<Option<Looked>>> = BackendLocal::new(RefCell::new(None));

/// Each statement asks for news.
pub fn statement_started() {
    if let Ok(mut looked) = LOOKED.try_borrow_mut() {
        *looked = None;
    }
}

fmgr_function! {
    /// `tenancy.announce_exception_change()`: trigger of [`EXCEPTIONS`], after which every session reads them anew.
    tenancy_announce_exception_change, pg_finfo_tenancy_announce_exception_change, |call| {
        Call::new(call).or_raise();
        EXCEPTIONS.announce();
        pg_sys::Datum::null()
    }
}

fmgr_function! {
    /// `tenancy.is_excepted(kind, target)`.
    tenancy_is_excepted, pg_finfo_tenancy_is_excepted, ready: remembered(call).map(pg_sys::Datum::from), |call| {
        let [kind, target] = arguments(call).or_raise();
        pg_sys::Datum::from(is_excepted(&kind, &target).or_raise())
    }
}

fmgr_function! {
    /// `tenancy.exception_of(kind, target)`.
    tenancy_exception_of, pg_finfo_tenancy_exception_of, |call| {
        context::authorize(DOMAIN, "read").or_raise();
        let [kind, target] = arguments(call).or_raise();
        let organization = context::require().or_raise().organization.id;
        let settings = settings(organization, &kind).or_raise();
        let find = |settings| first_in_force(organization, &kind, &target, &settings, Tuple::composite);
        let row = settings.and_then(find);
        // SAFETY: Postgres' own struct for the call.
        unsafe { (*call).isnull = row.is_none() };
        row.unwrap_or(pg_sys::Datum::null())
    }
}

/// `tenancy.excepted(kind)`: what is in force of a kind.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn tenancy_excepted(
    kind: &str,
) -> TableIterator<
    'static,
    (name!(target, String), name!(exception, pgrx::Uuid), name!(expires_at, Option<TimestampWithTimeZone>)),
> {
    TableIterator::new(excepted(kind).or_raise())
}

fn excepted(kind: &str) -> Result<Vec<(String, pgrx::Uuid, Option<TimestampWithTimeZone>)>> {
    context::authorize(DOMAIN, "read")?;
    let organization = context::require()?.organization.id;
    let Some(settings) = settings(organization, kind)? else { return Ok(Vec::new()) };
    let (keys, now) = ([IndexKey::uuid(2, &organization), IndexKey::text(3, kind)], clock::now());
    let in_force = |row: &Tuple| {
        let target = row.get::<String>(4)?;
        let end = end(row, &settings, target == EVERY_TARGET).filter(|end| now < *end)?;
        Some((target, row.get(1)?, transaction::to_timestamptz(end).try_into().ok()))
    };
    let rows = || find(c"exception", c"exception_active_idx", &keys, in_force);
    Ok(transaction::with_latest_snapshot(rows).into_iter().flatten().collect())
}

/// The answer of memory, where this statement has asked for news and the context is as it was then.
#[inline]
fn remembered(call: pg_sys::FunctionCallInfo) -> Option<bool> {
    let looked = LOOKED.try_borrow().ok()?;
    let looked = looked.as_ref()?;
    let holds = context::checked()
        && looked.statement == transaction::statement()
        && looked.generation == context::generation()
        && looked.changes == EXCEPTIONS.heard();
    if !holds {
        return None;
    }
    // SAFETY: declared STRICT with two arguments of type text, which stay for the call.
    let argument = |n: usize| unsafe { text_in_place((*call).args.as_slice(2)[n].value) };
    looked.active.has(argument(0)?, argument(1)?)
}

fn is_excepted(kind: &str, target: &str) -> Result<bool> {
    context::check()?;
    let organization = context::require()?.organization.id;
    let active = look(organization)?;
    if let Some(answer) = active.as_ref().and_then(|active| active.has(kind, target)) {
        return Ok(answer);
    }
    let known = active.as_ref().and_then(|active| active.settings(kind).copied());
    let settings = match known {
        Some(settings) => Some(settings),
        None => settings(organization, kind)?,
    };
    Ok(settings.is_some_and(|settings| first_in_force(organization, kind, target, &settings, |_| ()).is_some()))
}

/// The active exceptions of an organization, as memory has them or as they are read now; `None` where nothing may be
/// remembered.
fn look(organization: Uuid) -> Result<Option<Rc<Active>>> {
    // Before the snapshot: what is committed after this is news by the time that the next statement asks.
    let Some(changes) = EXCEPTIONS.state_with_own() else { return Ok(None) };
    let limit = configuration::exception_cache();
    let known = MEMORY.borrow().as_ref().and_then(|memory| {
        let is_current = memory.changes == changes && memory.limit == limit;
        memory.organizations.get(&organization).filter(|_| is_current).cloned()
    });
    let active = match known {
        Some(active) => active,
        None => {
            let active = Rc::new(load(organization, limit)?);
            keep(organization, &active, changes, limit);
            active
        }
    };
    let (statement, generation) = (transaction::statement(), context::generation());
    LOOKED.replace(Some(Looked { statement, generation, changes, active: Rc::clone(&active) }));
    Ok(Some(active))
}

/// Remembers what was read. Organizations that would be too much together are forgotten.
fn keep(organization: Uuid, active: &Rc<Active>, changes: u64, limit: usize) {
    let mut memory = MEMORY.borrow_mut();
    let memory = memory.get_or_insert_default();
    // Where there is nothing, that it is so takes memory too.
    let size = |active: &Active| active.count.unwrap_or(0) + 1;
    let together = memory.organizations.values().map(|active| size(active)).sum::<usize>() + size(active);
    if memory.changes != changes || memory.limit != limit || together > limit {
        *memory = Memory { changes, limit, organizations: HashMap::new() };
    }
    memory.organizations.insert(organization, Rc::clone(active));
}

/// Reads the active exceptions of an organization; none of them if they are more than so many.
fn load(organization: Uuid, limit: usize) -> Result<Active> {
    let settings = exception_kind::in_organization(organization, None)?;
    let of_kind = |(name, settings): (String, Settings)| OfKind {
        name: name.into(),
        settings,
        every_target: None,
        targets: HashMap::new(),
    };
    let mut active = Active { kinds: settings.into_iter().map(of_kind).collect(), count: Some(0) };
    transaction::with_latest_snapshot(|| {
        let mut rows = Scan::by_index(c"exception", c"exception_active_idx", &[IndexKey::uuid(2, &organization)]);
        while let Some(row) = rows.next() {
            let count = active.count.map_or(0, |count| count + 1);
            if count > limit {
                active.kinds.iter_mut().for_each(|of_kind| of_kind.targets = HashMap::new());
                active.count = None;
                break;
            }
            active.count = Some(count);
            let (Some(kind), Some(target)) = (row.text(3), row.text(4)) else { continue };
            let Some(of_kind) = active.kinds.iter_mut().find(|of_kind| *of_kind.name == *kind) else { continue };
            let (Some(expires_at), Some(active_from)) = (row.timestamp(9), row.timestamp(17)) else { continue };
            let end = of_kind.settings.end_of(active_from, expires_at, target == EVERY_TARGET);
            if target == EVERY_TARGET {
                of_kind.every_target = Some(end);
            } else {
                of_kind.targets.insert(target.into(), end);
            }
        }
    });
    Ok(active)
}

/// What `found` makes of the exception for the target that is in force, or else of that for every target.
fn first_in_force<T>(
    organization: Uuid,
    kind: &str,
    target: &str,
    settings: &Settings,
    found: impl Fn(&Tuple) -> T,
) -> Option<T> {
    let now = clock::now();
    let look_up = |target: &str| {
        let keys = of_target(&organization, kind, target);
        let in_force =
            |row: &Tuple| end(row, settings, target == EVERY_TARGET).filter(|end| now < *end).map(|_| found(row));
        find(c"exception", c"exception_active_idx", &keys, in_force).into_iter().flatten().next()
    };
    transaction::with_latest_snapshot(|| look_up(target).or_else(|| look_up(EVERY_TARGET)))
}

/// When an active exception ends.
fn end(row: &Tuple, settings: &Settings, broad: bool) -> Option<i64> {
    Some(settings.end_of(row.timestamp(17)?, row.timestamp(9)?, broad))
}

/// The rules of a kind; `None` for a kind that there is not.
fn settings(organization: Uuid, kind: &str) -> Result<Option<Settings>> {
    Ok(exception_kind::in_organization(organization, Some(kind))?.remove(kind))
}

/// The two arguments of a call.
fn arguments(call: pg_sys::FunctionCallInfo) -> Result<[String; 2]> {
    // SAFETY: declared STRICT with two arguments of type text.
    let argument = |n: usize, name| unsafe {
        let argument = &(*call).args.as_slice(2)[n];
        require_not_null(String::from_datum(argument.value, argument.isnull), name)
    };
    Ok([argument(0, "kind")?, argument(1, "target")?])
}
