//! The functions that set a guardrail, for all organizations or for one.
//!
//! Decision: `docs/decisions/82-guardrail-scope.md`.

use super::alert::raise_alert;
use super::{guard, input};
use crate::audit;
use crate::context;
use crate::guardrail;
use crate::identity::hold_organization;
use crate::pg::report::OrRaise;
use crate::pg::spi::{self, Query, argument};
use crate::pg::tables::table;
use crate::pg::{clock, transaction, user};
use pg_tenancy_core::controls::alert::AlertKind;
use pg_tenancy_core::error::{self, Error, Result, require_not_null};
use pg_tenancy_core::guardrail::{self as rules, DORMANT_MEMBER, Guardrail, Scope, Setting, State};
use pgrx::pg_extern;
use serde_json::json;
use uuid::Uuid;

const DOMAIN: &str = "guardrail";

static IS_SET: Query =
    Query::new("SELECT 1 FROM tenancy.guardrail WHERE name = $1 AND organization = $2 AND state = $3 AND reason = $4");

static SET: Query = Query::new(
    "INSERT INTO tenancy.guardrail (name, organization, state, reason, changed_by, changed_issuer, changed_subject,
                                    changed_at, on_since)
     VALUES ($1, $2, $3, $4, session_user, $5, $6, $7, CASE WHEN $3 <> 'off' THEN $7 END)
     ON CONFLICT (name, organization) DO UPDATE
        SET state = EXCLUDED.state, reason = EXCLUDED.reason, changed_by = EXCLUDED.changed_by,
            changed_issuer = EXCLUDED.changed_issuer, changed_subject = EXCLUDED.changed_subject,
            changed_at = EXCLUDED.changed_at,
            on_since = CASE WHEN EXCLUDED.state <> 'off' THEN coalesce(guardrail.on_since, EXCLUDED.on_since) END",
);

/// `tenancy.set_guardrail(name, state, reason, organization)`.
#[pg_extern(sql = false)]
fn tenancy_set_guardrail(
    name: Option<&str>,
    state: Option<&str>,
    reason: Option<&str>,
    organization: Option<pgrx::Uuid>,
) {
    set(name, state, reason, organization).or_raise();
}

/// `tenancy.clear_guardrail(name, organization, reason)`.
#[pg_extern(sql = false)]
fn tenancy_clear_guardrail(name: Option<&str>, organization: Option<pgrx::Uuid>, reason: Option<&str>) {
    clear(name, organization, reason).or_raise();
}

fn set(name: Option<&str>, state: Option<&str>, reason: Option<&str>, organization: Option<pgrx::Uuid>) -> Result<()> {
    let change = Change::begin(name, reason, organization)?;
    let word = require_not_null(state, "state")?;
    let state = State::parse(word)
        .ok_or_else(|| error::ARGUMENT_INVALID.error(format!("a guardrail is off, warn or enforce, not \"{word}\"")))?;
    change.make(Some(state))
}

fn clear(name: Option<&str>, organization: Option<pgrx::Uuid>, reason: Option<&str>) -> Result<()> {
    Change::begin(name, reason, organization)?.make(None)
}

/// A change of what is set, by somebody who may change it there.
struct Change<'a> {
    guardrail: &'static Guardrail,
    /// The nil UUID for all of them.
    organization: Uuid,
    reason: &'a str,
    /// The caller may only make it stricter.
    by_member: bool,
}

impl<'a> Change<'a> {
    /// Whoever has the rights of `tenancy_admin` may change it everywhere, anybody else in the organization of the
    /// context, with the permission.
    fn begin(name: Option<&str>, reason: Option<&'a str>, organization: Option<pgrx::Uuid>) -> Result<Self> {
        let by_member = !user::has_role(c"tenancy_admin");
        if by_member {
            context::authorize(DOMAIN, "update")?;
        }
        let (name, reason) = (require_not_null(name, "name")?, input::text(reason, "reason")?);
        let guardrail = rules::find(name)?;
        let organization = organization.map(|id| Uuid::from_bytes(*id.as_bytes()));
        if by_member {
            let context = context::require()?;
            let Some(organization) = organization else {
                return Err(refused(error::GUARDRAIL_REFUSED.error("a member sets no guardrail of all organizations")));
            };
            if context.is_assumed() {
                return Err(refused(error::GUARDRAIL_REFUSED.error("an operator without a token sets no guardrail")));
            }
            if organization != context.organization.id {
                return Err(input::unknown_organization(organization));
            }
        }
        if organization.is_some() && guardrail.scope == Scope::Database {
            let message = format!("the guardrail \"{name}\" is of the database, and set for all organizations alone");
            return Err(error::ARGUMENT_INVALID.error(message));
        }
        if transaction::read_only() {
            let message = "no guardrail can be set on a standby or in a READ ONLY transaction";
            return Err(error::READ_ONLY.error(message));
        }
        let change = Change { guardrail, organization: organization.unwrap_or_default(), reason, by_member };
        match organization {
            Some(organization) if !user::as_superuser(|| hold_organization(organization)) => {
                Err(input::unknown_organization(organization))
            }
            Some(_) => Ok(change),
            None => {
                table::lock_against_itself(c"guardrail");
                Ok(change)
            }
        }
    }

    /// Sets the state, or clears it with `None`; where less is in force then, somebody should look.
    fn make(&self, state: Option<State>) -> Result<()> {
        let before = guardrail::setting(self.guardrail, self.organization);
        if self.by_member && !before.member_may_set(state) {
            let state = before.in_force().name();
            let message = format!("the guardrail \"{}\" is in state \"{state}\" here", self.guardrail.name);
            let error = error::GUARDRAIL_REFUSED.error(message);
            return Err(refused(error.detail("An organization makes a guardrail stricter for itself, never looser.")));
        }
        let (after, set) = if self.organization.is_nil() {
            (Setting { global: state, ..before }, before.global)
        } else {
            (Setting { organization: state, ..before }, before.organization)
        };
        if state.is_none() && set.is_none() || state.is_some_and(|state| self.is_set(state)) {
            return Ok(());
        }
        if self.guardrail == &DORMANT_MEMBER
            && state.is_some_and(|state| state > State::Off)
            && let Some(why) = audit::unrecordable()
        {
            let message = "the guardrail \"dormant_member\" needs sign-ins that are recorded";
            return Err(error::SIGN_INS_UNRECORDED.error(message).detail(why));
        }
        self.write(state)?;
        if after.loosens(&before) {
            let detail = json!({
                "guardrail": self.guardrail.name,
                "from": before.in_force().name(),
                "to": after.in_force().name(),
                "reason": self.reason,
            });
            raise_alert(self.organization, DOMAIN, AlertKind::GuardrailLoosened, detail);
        }
        Ok(())
    }

    fn is_set(&self, state: State) -> bool {
        let same = [
            argument(self.guardrail.name),
            spi::uuid(self.organization),
            argument(state.name()),
            argument(self.reason),
        ];
        let found = || transaction::with_latest_snapshot(|| IS_SET.read(&same, |_| ()));
        !user::as_superuser(found).is_empty()
    }

    fn write(&self, state: Option<State>) -> Result<()> {
        let person = context::current()?;
        let row = [
            argument(self.guardrail.name),
            spi::uuid(self.organization),
            argument(state.map(State::name)),
            argument(self.reason),
            argument(person.as_ref().map(|person| person.issuer.as_str())),
            argument(person.as_ref().map(|person| person.subject.as_str())),
            spi::timestamp(clock::now()),
        ];
        user::as_superuser(|| guard::writing(|| SET.write(&row, |_| ())));
        Ok(())
    }
}

/// The refusal is an event.
fn refused(error: Error) -> Error {
    audit::refused(DOMAIN, error)
}
