//! `tenancy.authenticate`: from a token to the context of the transaction.
//!
//! Decision: `docs/decisions/07-token-verification.md`.

use super::dormancy;
use super::issuer::{self, Issuer};
use super::lookup::Tables;
use super::sso;
use super::verdict::{self, TABLES, Verdict};
use crate::audit::{self, Refused};
use crate::context;
use crate::pg::backend_local::BackendLocal;
use crate::pg::hooks::log;
use crate::pg::report::OrRaise;
use crate::pg::transaction;
use pg_tenancy_core::context::{Context, Scope};
use pg_tenancy_core::error::{self, Result};
use pg_tenancy_core::identity::bounded_cache::{BoundedCache, Fingerprint};
use pg_tenancy_core::identity::claim_mapping;
use pg_tenancy_core::identity::membership::{Membership, Named, choose};
use pg_tenancy_core::identity::role::{self, Role};
use pg_tenancy_core::identity::token::{SignedToken, UnverifiedToken, VerifiedToken};
use pgrx::pg_extern;
use std::cell::RefCell;
use std::rc::Rc;
use uuid::Uuid;

/// A correlation id is for logs; a longer one is a mistake.
const MAX_CORRELATION_BYTES: usize = 200;

const SECOND: i64 = 1_000_000;

/// `tenancy.authenticate(token, organization, correlation_id)`: returns the organization.
#[pg_extern(sql = false)]
fn tenancy_authenticate(
    token: Option<&str>,
    organization: Option<pgrx::Uuid>,
    correlation_id: Option<&str>,
) -> pgrx::Uuid {
    authenticate_with_scope(token, organization, correlation_id, Scope::Transaction)
}

/// `tenancy.authenticate_session(token, organization, correlation_id)`: the same for the session.
#[pg_extern(sql = false)]
fn tenancy_authenticate_session(
    token: Option<&str>,
    organization: Option<pgrx::Uuid>,
    correlation_id: Option<&str>,
) -> pgrx::Uuid {
    authenticate_with_scope(token, organization, correlation_id, Scope::Session)
}

fn authenticate_with_scope(
    token: Option<&str>,
    organization: Option<pgrx::Uuid>,
    correlation_id: Option<&str>,
    scope: Scope,
) -> pgrx::Uuid {
    log::hide_tokens_of_statement();
    let organization = organization.map(|id| Uuid::from_bytes(*id.as_bytes()));
    let mut attempted = None;
    let request = Request { token: token.unwrap_or_default(), organization, correlation_id, scope };
    let verdict = authenticate(&request, &mut attempted);
    if let Err(error) = &verdict {
        let attempted = attempted.as_ref();
        let refused = Refused {
            organization: None,
            subject: attempted.map(|token| token.subject.as_str()),
            issuer: attempted.map(|token| token.issuer.as_str()),
            correlation_id,
        };
        audit::sign_in_refused("authenticate", error, &refused);
    }
    let Admitted { context, encoded, warning } = verdict.or_raise();
    context::begin_encoded(Rc::clone(&context), encoded).or_raise();
    if let Some(warning) = warning {
        dormancy::warn(&context, &warning).or_raise();
    }
    pgrx::Uuid::from_bytes(*context.organization.id.as_bytes())
}

/// What the caller passed.
struct Request<'a> {
    token: &'a str,
    organization: Option<Uuid>,
    correlation_id: Option<&'a str>,
    scope: Scope,
}

/// Refuses a correlation id that is too long.
pub(super) fn check_correlation_id(id: Option<&str>) -> Result<()> {
    match id {
        Some(id) if id.len() > MAX_CORRELATION_BYTES => {
            Err(error::ARGUMENT_INVALID.error("the correlation id is longer than 200 bytes"))
        }
        _ => Ok(()),
    }
}

/// Who is let in.
struct Admitted {
    context: Rc<Context>,
    encoded: String,
    /// What a guardrail would have refused them with.
    warning: Option<error::Error>,
}

/// `attempted` gets the token once it is verified: who is refused after that is known.
fn authenticate(request: &Request, attempted: &mut Option<VerifiedToken>) -> Result<Admitted> {
    check_correlation_id(request.correlation_id)?;
    let given = GivenToken::new(request.token);
    let key = given.fingerprint.map(|token| (token, request.organization));
    // Before the snapshot: what is committed after this is news by the time that the verdict is asked for again.
    let (state, now) = (TABLES.state(), transaction::now());
    if let (Some(key), Some(state)) = (&key, state)
        && let Some(known) = verdict::find(key, state, now)
    {
        let (context, encoded) = known.for_call(request.scope, request.correlation_id)?;
        return Ok(Admitted { context, encoded, warning: None });
    }
    // The newest committed state, whatever the isolation level: a member suspended a moment ago is refused.
    let (verdict, warning) = transaction::with_latest_snapshot(|| {
        // News of what the snapshot shows already would make the memory older than it.
        let tables = Tables::in_state(state.filter(|_| TABLES.state() == state));
        let (issuer, token) = verify(tables, &given)?;
        let token = &*attempted.insert(token);
        let membership = membership(tables, &issuer, token, request.organization)?;
        let role = role(tables, &issuer, token, &membership)?;
        let method = sso::check_sso(tables, membership.organization.id, sso::presented(token), &role.permissions)?;
        let admission = dormancy::admit(tables, &token.issuer, &token.subject, &membership)?;
        let context = build_context(&issuer, token, membership, role, method);
        Ok((Verdict::new(&issuer, token, context, admission.until)?, admission.warning))
    })?;
    let (context, encoded) = verdict.for_call(request.scope, request.correlation_id)?;
    if let (Some(key), Some(state)) = (key, state) {
        verdict::keep(key, state, now, verdict, request.token.len());
    }
    Ok(Admitted { context, encoded, warning })
}

/// What was given as a token, and its fingerprint.
pub(super) struct GivenToken<'a> {
    text: &'a str,
    fingerprint: Option<Fingerprint>,
}

impl<'a> GivenToken<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        GivenToken { text, fingerprint: Fingerprint::of(text) }
    }
}

/// A token whose signature and claims are good now, and that nobody revoked.
pub(super) fn verify(tables: Tables, token: &GivenToken) -> Result<(Rc<Issuer>, VerifiedToken)> {
    let (issuer, token) = signed(tables, token)?;
    let token = token.check_claims(&issuer.policy, transaction::now().div_euclid(SECOND))?;
    match tables.revocation(&token.issuer, &token.subject, &token.claims, token.issued_at) {
        None => Ok((issuer, token)),
        Some(why) => Err(revoked(why)),
    }
}

/// A token with a good signature, and the generation of the issuer under which that was found out.
type Signed = (Rc<SignedToken>, u64);

/// A token that its issuer has signed, as this session has found out before or finds out now.
fn signed(tables: Tables, token: &GivenToken) -> Result<(Rc<Issuer>, Rc<SignedToken>)> {
    static SIGNED: BackendLocal<RefCell<Option<BoundedCache<Fingerprint, Signed>>>> =
        BackendLocal::new(RefCell::new(None));
    let mut signed = SIGNED.borrow_mut();
    let signed = signed.get_or_insert_default();

    let known = token.fingerprint.and_then(|fingerprint| signed.get(&fingerprint)).cloned();
    if let Some((known, generation)) = known
        && let Some(issuer) = issuer::find(tables, known.issuer())?
        && issuer.generation == generation
    {
        return Ok((issuer, known));
    }

    let GivenToken { text, fingerprint } = *token;
    let token = UnverifiedToken::parse(text)?;
    let issuer = issuer::find(tables, token.issuer())?.ok_or_else(|| token.unknown_issuer())?;
    let token = Rc::new(token.verify_signature(&issuer.policy)?);
    if let Some(fingerprint) = fingerprint {
        signed.keep(fingerprint, (token.clone(), issuer.generation), text.len(), verdict::bounds());
    }
    Ok((issuer, token))
}

/// The error of a revoked token.
pub(super) fn revoked(why: &str) -> error::Error {
    error::TOKEN_REVOKED.error("the token was revoked").detail(why)
}

/// The membership that token and caller choose.
pub(super) fn membership(
    tables: Tables,
    issuer: &Issuer,
    token: &VerifiedToken,
    organization: Option<Uuid>,
) -> Result<Membership> {
    let named = match &issuer.organization_claim {
        Some(pointer) => claim_mapping::organizations(&token.claims, pointer, issuer.organization_form)?,
        None => None,
    };
    // Names of nothing are left out.
    let resolve = |name| tables.organization_named(&token.issuer, name);
    let claim = named.map(|named| named.into_iter().filter_map(resolve).collect());
    let named = Named { claim, argument: organization };
    let candidates = named.candidates();
    let memberships = tables.memberships(&token.issuer, &token.subject, candidates.as_deref());
    choose(&named, &memberships, transaction::now()).cloned()
}

/// The role that token and membership agree on.
pub(super) fn role(tables: Tables, issuer: &Issuer, token: &VerifiedToken, membership: &Membership) -> Result<Role> {
    let organization = membership.organization.id;
    let mut claimed: Vec<String> = match &issuer.role_claim {
        Some(pointer) if issuer.role_rule != claim_mapping::RoleRule::Membership => {
            claim_mapping::roles(&token.claims, pointer)?
                .into_iter()
                .map(|name| issuer.role_named(name).to_owned())
                .filter(|name| tables.role_organization(organization, name).is_some())
                .collect()
        }
        _ => Vec::new(),
    };
    claimed.sort();
    claimed.dedup();
    role::choose(issuer.role_rule, &claimed, &membership.role, |name| {
        // A name means one role in an organization.
        let of = if name == membership.role {
            Some(membership.role_organization)
        } else {
            tables.role_organization(organization, name)
        };
        of.map(|of| tables.permissions(of, name)).unwrap_or_default()
    })
}

fn build_context(issuer: &Issuer, token: &VerifiedToken, membership: Membership, role: Role, method: &str) -> Context {
    let token_ends = (token.expires_at + i64::from(issuer.policy.leeway_seconds)) * SECOND;
    Context {
        scope: Scope::Transaction,
        method: method.into(),
        organization: membership.organization,
        subject: token.subject.clone(),
        issuer: token.issuer.clone(),
        membership_role: membership.role,
        role: role.name,
        key_id: token.key_id.clone(),
        session_id: token.session_id.clone(),
        reason: None,
        correlation_id: None,
        expires_at: membership.valid_until.map_or(token_ends, |end| end.min(token_ends)),
        permissions: role.permissions,
        elevation: None,
        claims: token.claims.text().to_owned(),
    }
}
