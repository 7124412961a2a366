//! The grants that a session works under, with the contexts that they elevate, while all that they depend on is as it
//! was: grant, approvals and policy, whatever admits the beneficiary, and the time.
//!
//! Decision: `docs/decisions/86-elevation.md`.

use crate::identity::{self, access_ends};
use crate::pg::backend_local::BackendLocal;
use crate::pg::fmgr::fmgr_function;
use crate::pg::report::OrRaise;
use crate::pg::tables::remembered::WatchedTables;
use crate::pg::trigger::Call;
use crate::pg::{clock, transaction};
use pg_tenancy_core::context::{Context, Elevation, EncodedContext, Scope};
use pg_tenancy_core::error::Result;
use pg_tenancy_core::identity::bounded_cache::{BoundedCache, Bounds};
use pgrx::pg_sys;
use std::cell::RefCell;
use std::rc::Rc;
use uuid::Uuid;

/// The tables of break-glass that decide whether a grant elevates.
pub static GRANTS: WatchedTables = WatchedTables::new(
    &[c"break_glass_approval", c"break_glass_grant", c"break_glass_policy"],
    c"break_glass_signal",
    c"announce_break_glass_change",
);

fmgr_function! {
    /// `tenancy.announce_break_glass_change()`: trigger of [`GRANTS`], after which every session reads grants anew.
    tenancy_announce_break_glass_change, pg_finfo_tenancy_announce_break_glass_change, |call| {
        Call::new(call).or_raise();
        GRANTS.announce();
        pg_sys::Datum::null()
    }
}

/// The state of the tables, and the clocks.
#[derive(Clone, Copy)]
pub struct Moment {
    /// [`WatchedTables::state`] of [`GRANTS`] and of [`identity::TABLES`].
    states: (u64, u64),
    /// The clock of controls, which ends grants.
    controls: i64,
    /// The clock of the server, which ends memberships.
    server: i64,
}

impl Moment {
    /// To be asked before the tables are read; `None` where nothing of them may be told from memory.
    pub fn now() -> Option<Self> {
        let states = (GRANTS.state()?, identity::TABLES.state()?);
        Some(Moment { states, controls: clock::now(), server: transaction::now() })
    }
}

/// A grant that is in force, and what it elevates to.
struct RememberedGrant {
    since: Moment,
    /// By the clock of controls.
    ends_at: i64,
    /// When the membership of the beneficiary ends, by the clock of the server.
    access_ends: i64,
    /// The context of the sign-in.
    before: Rc<Context>,
    elevated: EncodedContext,
}

/// As many as a session switches between; a context of a role with 1,000 permissions has some 20 kB.
const BOUNDS: Bounds = Bounds { entries: 16, bytes_each: 32 * 1024 };

static REMEMBERED: BackendLocal<RefCell<Option<BoundedCache<Uuid, RememberedGrant>>>> =
    BackendLocal::new(RefCell::new(None));

impl RememberedGrant {
    fn holds(&self, now: &Moment) -> bool {
        self.since.states == now.states
            // A clock that was set back shows a time that nobody has looked at.
            && (self.since.controls..self.ends_at).contains(&now.controls)
            && (self.since.server..self.access_ends).contains(&now.server)
    }
}

fn with_grant<T>(grant: Uuid, now: &Moment, answer: impl FnOnce(&RememberedGrant) -> Option<T>) -> Option<T> {
    let mut remembered = REMEMBERED.borrow_mut();
    let known = remembered.as_mut()?.get(&grant)?;
    if known.holds(now) { answer(known) } else { None }
}

/// What the grant elevates this context to, with its encoding, if it does so still as it did before.
pub fn elevated(grant: Uuid, context: &Context, now: &Moment) -> Option<Result<(Rc<Context>, String)>> {
    with_grant(grant, now, |known| {
        let same = known.before.differs_by_call_alone(context);
        same.then(|| known.elevated.for_call(Scope::Transaction, context.correlation_id.as_deref()))
    })
}

/// Whether the grant is known to be in force, and its beneficiary to be a member, if it is the one for this context.
pub fn is_in_force(grant: Uuid, is_for: impl FnOnce(&Context) -> bool) -> bool {
    let is_for = |known: &RememberedGrant| is_for(&known.before).then_some(());
    Moment::now().and_then(|now| with_grant(grant, &now, is_for)).is_some()
}

/// Remembers that the grant elevates one context to the other. The moment is one of before the tables were read.
pub fn keep(since: Moment, elevation: &Elevation, before: Rc<Context>, elevated: EncodedContext, bytes: usize) {
    let Context { organization, issuer, subject, .. } = &*before;
    // Nothing, if it was ended meanwhile.
    let access_ends = transaction::with_latest_snapshot(|| access_ends(organization.id, issuer, subject));
    let Elevation { grant, ends_at, .. } = *elevation;
    let access_ends = access_ends.unwrap_or(i64::MIN);
    let known = RememberedGrant { since, ends_at, access_ends, before, elevated };
    REMEMBERED.borrow_mut().get_or_insert_default().keep(grant, known, bytes, BOUNDS);
}
