//! The functions that policies and applications read the context with. Their SQL stands in `sql/context.sql`.
//!
//! Decisions: `docs/decisions/05-missing-context.md`, `docs/decisions/17-bare-accessor.md`.

use super::current::{
    check, checked, checked_integer, checked_text, checked_uuid, current, end, expired, generation, in_force,
    integer_datum, missing, record_refusal, require, text_datum, uuid_datum,
};
use super::elevation;
use crate::pg::backend_local::BackendLocal;
use crate::pg::ddl::node::constant_arguments;
use crate::pg::fmgr::{bytes_in_place, fmgr_function, text_in_place};
use crate::pg::report::OrRaise;
use pg_tenancy_core::context::Answers;
use pg_tenancy_core::error::{self, Result};
use pgrx::{FromDatum, JsonB, pg_extern, pg_sys};
use serde_json::{Value, json};
use std::cell::RefCell;

fmgr_function! {
    /// `tenancy.org_id()`: the organization, as a pointer to backend memory; an error without one.
    tenancy_org_id, pg_finfo_tenancy_org_id, ready: uuid_datum(), |_call| {
        check().or_raise();
        uuid_datum().ok_or_else(missing).or_raise()
    }
}

fmgr_function! {
    /// `tenancy.org_id_text()`: the organization as text columns hold it.
    tenancy_org_id_text, pg_finfo_tenancy_org_id_text, ready: text_datum(), |_call| {
        check().or_raise();
        text_datum().ok_or_else(missing).or_raise()
    }
}

fmgr_function! {
    /// `tenancy.org_id_bigint()`: the organization as integer columns hold it.
    tenancy_org_id_bigint, pg_finfo_tenancy_org_id_bigint, ready: integer_datum(), |_call| {
        check().or_raise();
        integer_datum().ok_or_else(without_integer).or_raise()
    }
}

fmgr_function! {
    /// `tenancy.org_id(domain, action)`: the organization, for whoever may do that.
    tenancy_org_id_for, pg_finfo_tenancy_org_id_for,
    ready: if remembered(call) { checked_uuid() } else { None }, |call| {
        ask_each(call).or_raise();
        uuid_datum().ok_or_else(missing).or_raise()
    }
}

fmgr_function! {
    /// `tenancy.org_id_text(domain, action)`.
    tenancy_org_id_text_for, pg_finfo_tenancy_org_id_text_for,
    ready: if remembered(call) { checked_text() } else { None }, |call| {
        ask_each(call).or_raise();
        text_datum().ok_or_else(missing).or_raise()
    }
}

fmgr_function! {
    /// `tenancy.org_id_bigint(domain, action)`.
    tenancy_org_id_bigint_for, pg_finfo_tenancy_org_id_bigint_for,
    ready: if remembered(call) { checked_integer() } else { None }, |call| {
        ask_each(call).or_raise();
        integer_datum().ok_or_else(without_integer).or_raise()
    }
}

fn without_integer() -> error::Error {
    error::NOT_FOUND.error("the organization of this transaction has no integer id")
}

fmgr_function! {
    /// `tenancy.authorize(domain, action)`: true, or an error that says what is missing.
    tenancy_authorize, pg_finfo_tenancy_authorize, ready: {
        let known = remembered(call) || known(call) == Some(true);
        known.then(|| pg_sys::Datum::from(true))
    }, |call| {
        let (domain, action) = arguments(call).or_raise();
        authorize(domain, action).or_raise();
        learn(domain, action, true);
        remember(call);
        pg_sys::Datum::from(true)
    }
}

fmgr_function! {
    /// `tenancy.allowed(domain, action)`.
    tenancy_allowed, pg_finfo_tenancy_allowed, ready: known(call).map(pg_sys::Datum::from), |call| {
        let (domain, action) = arguments(call).or_raise();
        check().or_raise();
        let context = require().or_raise();
        let allowed = context.allows(domain, action);
        elevation::note(&context, domain, action);
        learn(domain, action, allowed);
        pg_sys::Datum::from(allowed)
    }
}

fmgr_function! {
    /// Tells the planner that `tenancy.authorize` removes no row: it is true or an error. Without this the planner
    /// takes it for a condition that a third of the rows pass (`function_selectivity`, plancat.c).
    tenancy_authorize_support, pg_finfo_tenancy_authorize_support, |call| {
        // SAFETY: declared with one argument of type internal, which is a node of one of the kinds of supportnodes.h.
        unsafe {
            let request: *mut pg_sys::Node = (*call).args.as_slice(1)[0].value.cast_mut_ptr();
            if (*request).type_ == pg_sys::NodeTag::T_SupportRequestSelectivity {
                (*request.cast::<pg_sys::SupportRequestSelectivity>()).selectivity = 1.0;
                pg_sys::Datum::from(request)
            } else {
                pg_sys::Datum::null()
            }
        }
    }
}

/// Raises unless the role of the context may do `action` in `domain`.
pub fn authorize(domain: &str, action: &str) -> Result<()> {
    check()?;
    // What was checked in this statement may have ended since, and what follows may take long.
    elevation::must_hold()?;
    let context = current()?.ok_or_else(missing)?;
    elevation::note(&context, domain, action);
    if context.allows(domain, action) {
        return Ok(());
    }
    let message = format!("role \"{}\" may not {action} in domain \"{domain}\"", context.role);
    let error = error::PERMISSION_DENIED.error(message);
    record_refusal(domain, &error);
    Err(error)
}

/// True if there is a context that gives access now, and its role may do `action` in `domain`.
pub fn allowed(domain: &str, action: &str) -> bool {
    check().is_ok() && !lacks(domain, action)
}

/// True if there is a context whose role may not do `action` in `domain`.
pub fn lacks(domain: &str, action: &str) -> bool {
    // One that cannot be read is refused where it is used.
    current().ok().flatten().is_some_and(|context| {
        elevation::note(&context, domain, action);
        !context.allows(domain, action)
    })
}

/// Asks for the permission that the two arguments of a call name, and remembers the answer at the call site. Several
/// actions, separated by commas, are asked for each.
fn ask_each(call: pg_sys::FunctionCallInfo) -> Result<()> {
    let (domain, actions) = arguments(call)?;
    check()?;
    for action in actions.split(SEPARATOR) {
        if recall(domain.as_bytes(), action.as_bytes()) != Some(true) {
            authorize(domain, action)?;
            learn(domain, action, true);
        }
    }
    remember(call);
    Ok(())
}

/// What was answered in this session, each answer with the generation of its context.
static ANSWERS: BackendLocal<RefCell<Option<Answers>>> = BackendLocal::new(RefCell::new(None));

/// The answer to the question of a call, if this context was asked the same before and was checked in this statement.
#[inline]
fn known(call: pg_sys::FunctionCallInfo) -> Option<bool> {
    if !checked() {
        return None;
    }
    // SAFETY: declared STRICT with two text arguments, so neither is NULL, and both stay for the call.
    let [domain, action] = [0, 1].map(|n| unsafe { bytes_in_place((*call).args.as_slice(2)[n].value) });
    recall(domain?, action?)
}

/// What this context was answered before, if that is known.
#[inline]
fn recall(domain: &[u8], action: &[u8]) -> Option<bool> {
    ANSWERS.try_borrow().ok()?.as_ref()?.get(mark(), domain, action)
}

/// Keeps the answer for the next call with the same arguments.
fn learn(domain: &str, action: &str, allowed: bool) {
    let mut answers = ANSWERS.borrow_mut();
    answers.get_or_insert_default().keep(mark(), domain.as_bytes(), action.as_bytes(), allowed);
}

/// The generation of the context as a number that is never 0.
#[inline]
fn mark() -> u64 {
    generation().wrapping_mul(2) | 1
}

/// What stands between the actions of one question.
pub const SEPARATOR: char = ',';

fn arguments<'a>(call: pg_sys::FunctionCallInfo) -> Result<(&'a str, &'a str)> {
    // SAFETY: declared with two text arguments, which are values of that type unless they are NULL, and stay for the
    // call.
    let argument = |n: usize| unsafe {
        let argument = &(*call).args.as_slice(2)[n];
        let in_place = if argument.isnull { None } else { text_in_place(argument.value) };
        in_place.or_else(|| <&str>::from_datum(argument.value, argument.isnull))
    };
    Ok((error::require_not_null(argument(0), "domain")?, error::require_not_null(argument(1), "action")?))
}

/// True if this call site passed under the context as it is, in this statement.
#[inline]
fn remembered(call: pg_sys::FunctionCallInfo) -> bool {
    // SAFETY: fn_extra belongs to this call site; only `remember` writes it.
    checked() && unsafe { (*(*call).flinfo).fn_extra.addr() } == generation_mark()
}

/// Remembers the answer at a call site whose arguments are constants of the expression. An answer belongs to its
/// arguments: PL/pgSQL keeps a call site from one value of a variable to the next, and calls such a parameter stable.
fn remember(call: pg_sys::FunctionCallInfo) {
    // SAFETY: fn_expr is NULL or the expression of this call. fn_extra is this function's own; what stands there is a
    // number, which nobody follows.
    unsafe {
        let site = (*call).flinfo;
        if constant_arguments((*site).fn_expr) {
            (*site).fn_extra = std::ptr::without_provenance_mut(generation_mark());
        }
    }
}

/// The generation of the context, different from the NULL that a call site begins with.
#[inline]
fn generation_mark() -> usize {
    mark() as usize
}

/// `tenancy.subject()`.
#[pg_extern(sql = false)]
fn tenancy_subject() -> String {
    require().or_raise().subject.clone()
}

/// `tenancy.actor_role()`.
#[pg_extern(sql = false)]
fn tenancy_actor_role() -> String {
    require().or_raise().role.clone()
}

/// `tenancy.claims()`.
#[pg_extern(sql = false)]
fn tenancy_claims() -> JsonB {
    let context = require().or_raise();
    let claims = serde_json::from_str(&context.claims)
        .map_err(|_| error::STATE_INVALID.error("the claims of the transaction are unreadable"));
    JsonB(claims.or_raise())
}

/// `tenancy.correlation_id()`.
#[pg_extern(sql = false)]
fn tenancy_correlation_id() -> Option<String> {
    current().or_raise().and_then(|context| context.correlation_id.clone())
}

/// `tenancy.whoami()`: what the transaction is, for people; never raises for want of a context.
#[pg_extern(sql = false)]
fn tenancy_whoami() -> JsonB {
    let Some(context) = current().or_raise() else {
        return JsonB(json!({ "authenticated": false }));
    };
    let permissions: Vec<Value> = context.permissions.rules().map(|rule| json!(rule.to_string())).collect();
    JsonB(json!({
        "authenticated": in_force(&context),
        "expired": expired(&context),
        "scope": context.scope.name(),
        "method": context.method,
        "organization": context.organization.id,
        "subject": context.subject,
        "issuer": context.issuer,
        "role": context.role,
        "session_id": context.session_id,
        "correlation_id": context.correlation_id,
        "expires_at": timestamp(context.expires_at),
        "permissions": permissions,
        "elevation": context.elevation.as_ref().map(|elevation| json!({
            "grant": elevation.grant,
            "permissions": elevation.permissions.rules().map(|rule| rule.to_string()).collect::<Vec<_>>(),
            "overrides": elevation.overrides,
            "ends_at": timestamp(elevation.ends_at),
        })),
    }))
}

/// A time in microseconds since 1970, as Postgres writes it in JSON.
fn timestamp(microseconds: i64) -> Value {
    let timestamp = pgrx::datum::TimestampWithTimeZone::try_from(crate::pg::transaction::to_timestamptz(microseconds));
    timestamp.ok().map_or(Value::Null, |timestamp| json!(timestamp))
}

/// `tenancy.sign_out()`.
#[pg_extern(sql = false)]
fn tenancy_sign_out() {
    end();
}
