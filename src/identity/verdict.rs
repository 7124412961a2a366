//! What `tenancy.authenticate` found out, told again from memory while all that it depends on is as it was.
//!
//! A verdict depends on the token and the caller's organization, on the rows of [`TABLES`], on the issuer's key file
//! and on the time. Only admissions are remembered; a refusal is found out each time.
//!
//! Decision: `docs/decisions/08-remembered-verdicts.md`.

use super::issuer::{self, Issuer};
use crate::pg::backend_local::BackendLocal;
use crate::pg::fmgr::fmgr_function;
use crate::pg::report::OrRaise;
use crate::pg::settings::configuration;
use crate::pg::tables::remembered::WatchedTables;
use crate::pg::trigger::Call;
use pg_tenancy_core::context::{Context, EncodedContext, Scope};
use pg_tenancy_core::error::Result;
use pg_tenancy_core::identity::bounded_cache::{BoundedCache, Bounds, Fingerprint};
use pg_tenancy_core::identity::token::VerifiedToken;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::rc::Rc;
use uuid::Uuid;

/// Every table that a verdict depends on.
pub static TABLES: WatchedTables = WatchedTables::new(
    &[
        c"external_organization",
        c"external_role",
        c"guardrail",
        c"issuer",
        c"membership",
        c"organization",
        c"retired_key",
        c"revoked_session",
        c"revoked_subject",
        c"role",
        c"role_permission",
        c"sso_connection",
        c"sso_domain",
    ],
    c"identity_signal",
    c"announce_identity_change",
);

/// The length that a token has at most, unless it counts for several.
const TOKEN_BYTES: usize = 2 * 1024;

const SECOND: i64 = 1_000_000;

fmgr_function! {
    /// `tenancy.announce_identity_change()`: trigger of [`TABLES`], after which every session finds out anew whom to
    /// let in.
    tenancy_announce_identity_change, pg_finfo_tenancy_announce_identity_change, |call| {
        Call::new(call).or_raise();
        TABLES.announce();
        pg_sys::Datum::null()
    }
}

/// A token's fingerprint, and the organization that the caller named.
pub type VerdictKey = (Fingerprint, Option<Uuid>);

/// An admission.
pub struct Verdict {
    context: EncodedContext,
    /// The generation of the issuer.
    generation: u64,
    /// From this time on it says nothing any more, in microseconds since 1970.
    until: i64,
}

struct Remembered {
    /// What [`WatchedTables::state`] was before the tables were read.
    state: u64,
    /// When that was. A clock that was set back since makes memberships valid again, and tokens not valid yet.
    since: i64,
    verdict: Rc<Verdict>,
}

static VERDICTS: BackendLocal<RefCell<Option<BoundedCache<VerdictKey, Remembered>>>> =
    BackendLocal::new(RefCell::new(None));

impl Verdict {
    /// `until`: when it has to be found out anew, if before the end of the token.
    pub fn new(issuer: &Issuer, token: &VerifiedToken, context: Context, until: Option<i64>) -> Result<Self> {
        let retirement = token.key_id.as_ref().and_then(|key_id| issuer.policy.retired_keys.get(key_id));
        let retirement = retirement.map_or(i64::MAX, |seconds| seconds.saturating_mul(SECOND));
        Ok(Verdict {
            generation: issuer.generation,
            until: context.expires_at.min(retirement).min(until.unwrap_or(i64::MAX)),
            context: EncodedContext::new(context)?,
        })
    }

    /// The context of a call, and its encoding.
    pub fn for_call(&self, scope: Scope, correlation_id: Option<&str>) -> Result<(Rc<Context>, String)> {
        self.context.for_call(scope, correlation_id)
    }
}

/// How much is remembered of tokens.
pub fn bounds() -> Bounds {
    Bounds { entries: configuration::token_cache_size(), bytes_each: TOKEN_BYTES }
}

/// The verdict of before, if it would be the same at `now`, where the tables are in this state.
pub fn find(key: &VerdictKey, state: u64, now: i64) -> Option<Rc<Verdict>> {
    let mut verdicts = VERDICTS.borrow_mut();
    let known = verdicts.as_mut()?.get(key)?;
    let Remembered { verdict, .. } = known;
    let holds = known.state == state
        && (known.since..verdict.until).contains(&now)
        && issuer::generation(&verdict.context.context().issuer) == Some(verdict.generation);
    holds.then(|| Rc::clone(verdict))
}

/// Remembers a verdict on a token of `bytes` bytes; `state` and `since` are of before the tables were read.
pub fn keep(key: VerdictKey, state: u64, since: i64, verdict: Verdict, bytes: usize) {
    let mut verdicts = VERDICTS.borrow_mut();
    let remembered = Remembered { state, since, verdict: Rc::new(verdict) };
    verdicts.get_or_insert_default().keep(key, remembered, bytes, bounds());
}
