//! The registered issuers: written by `tenancy.set_issuer`, read at each authentication.

use super::algorithm::Algorithm;
use super::keys::KeySet;
use super::token::{IssuerPolicy, MAX_ISSUER_BYTES, UnverifiedToken};
use crate::error::{self, Result, given};
use crate::pg::report::OrRaise;
use crate::pg::setting::Backend;
use crate::pg::spi::{Query, Row, argument};
use pgrx::pg_extern;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use uuid::Uuid;

/// The clocks of two servers may differ; more than this is a fault to repair (RFC 7519 section 4.1.4: "a few minutes").
const MAX_LEEWAY_SECONDS: i32 = 300;

/// An issuer with its keys parsed.
pub struct Issuer {
    revision: Uuid,
    pub policy: IssuerPolicy,
    /// JSON pointer (RFC 6901) of the organization in the claims.
    pub organization_claim: Option<String>,
}

static FIND: Query = Query::new(
    "SELECT revision, audiences, algorithms, jwks::pg_catalog.text, leeway_seconds, organization_claim
       FROM tenancy.issuer
      WHERE issuer OPERATOR(pg_catalog.=) $1 AND status OPERATOR(pg_catalog.=) 'active'",
);

static SET: Query = Query::new(
    "INSERT INTO tenancy.issuer AS i (issuer, audiences, algorithms, jwks, organization_claim, leeway_seconds)
     VALUES ($1, $2, $3, $4::pg_catalog.json, $5, $6)
     ON CONFLICT (issuer) DO UPDATE
        SET audiences = EXCLUDED.audiences, algorithms = EXCLUDED.algorithms, jwks = EXCLUDED.jwks,
            organization_claim = EXCLUDED.organization_claim, leeway_seconds = EXCLUDED.leeway_seconds",
);

type Issuers = HashMap<String, Rc<Issuer>>;

/// Parsed issuers by name; a row with another revision replaces its entry.
static PARSED: Backend<RefCell<Option<Issuers>>> = Backend::new(RefCell::new(None));

/// How many issuers a backend keeps parsed.
const MAX_PARSED: usize = 64;

/// The active issuer that the token names.
pub fn find(token: &UnverifiedToken) -> Result<Rc<Issuer>> {
    let name = token.issuer();
    let row = FIND.read(&[argument(name)], |row| read(name, row)).pop();
    row.unwrap_or_else(|| Err(token.unknown_issuer()))
}

fn read(name: &str, row: &Row) -> Result<Rc<Issuer>> {
    let damaged = || error::STATE_INVALID.because("the row of the issuer in tenancy.issuer cannot be read");
    let revision = row.uuid(1).ok_or_else(damaged)?;
    let mut parsed = PARSED.borrow_mut();
    let parsed = parsed.get_or_insert_default();
    if let Some(issuer) = parsed.get(name).filter(|issuer| issuer.revision == revision) {
        return Ok(issuer.clone());
    }
    let issuer = Rc::new(Issuer {
        revision,
        policy: IssuerPolicy {
            issuer: name.to_owned(),
            audiences: row.get(2).ok_or_else(damaged)?,
            algorithms: algorithms(&row.get::<Vec<String>>(3).ok_or_else(damaged)?)?,
            keys: KeySet::parse(&row.get::<String>(4).ok_or_else(damaged)?)?,
            leeway_seconds: row.get::<i32>(5).ok_or_else(damaged)?.unsigned_abs(),
        },
        organization_claim: row.get(6),
    });
    if parsed.len() >= MAX_PARSED {
        parsed.clear();
    }
    parsed.insert(name.to_owned(), issuer.clone());
    Ok(issuer)
}

fn algorithms(names: &[String]) -> Result<Vec<Algorithm>> {
    let parse = |name: &String| {
        name.parse().map_err(|_| {
            error::ARGUMENT_INVALID
                .because(format!("\"{name}\" is not a signature algorithm of RFC 7518 that is supported"))
        })
    };
    names.iter().map(parse).collect()
}

/// `tenancy.set_issuer(...)`: registers an issuer, or replaces what was registered under its name.
///
/// The JWKS comes as the text that was given, so that a member named twice is seen.
#[pg_extern(sql = false)]
fn tenancy_set_issuer(
    issuer: Option<&str>,
    audiences: Option<Vec<Option<String>>>,
    jwks: Option<&str>,
    algorithms: Option<Vec<Option<String>>>,
    organization_claim: Option<&str>,
    leeway_seconds: Option<i32>,
) {
    let issuer = given(issuer, "issuer").or_raise();
    let audiences = all_given(given(audiences, "audiences").or_raise(), "audiences").or_raise();
    let jwks = given(jwks, "jwks").or_raise();
    let algorithms = algorithms.map(|algorithms| all_given(algorithms, "algorithms").or_raise());
    let leeway_seconds = given(leeway_seconds, "leeway_seconds").or_raise();
    let names = check(issuer, &audiences, jwks, algorithms, organization_claim, leeway_seconds).or_raise();
    let claim = organization_claim.map(str::to_owned);
    let row = [
        argument(issuer),
        argument(audiences),
        argument(names),
        argument(jwks),
        argument(claim),
        argument(leeway_seconds),
    ];
    SET.write(&row, |_| ());
}

/// An array whose elements may not be NULL.
fn all_given(elements: Vec<Option<String>>, name: &str) -> Result<Vec<String>> {
    elements.into_iter().map(|element| given(element, &format!("an element of {name}"))).collect()
}

/// Checks the arguments of `tenancy.set_issuer`; returns the names of the algorithms to allow.
fn check(
    issuer: &str,
    audiences: &[String],
    jwks: &str,
    names: Option<Vec<String>>,
    organization_claim: Option<&str>,
    leeway_seconds: i32,
) -> Result<Vec<String>> {
    let refuse = |message: &str| Err(error::ARGUMENT_INVALID.because(message));
    if issuer.is_empty() || issuer.len() > MAX_ISSUER_BYTES {
        return refuse("the issuer must be the text of the token's \"iss\" claim");
    }
    if audiences.is_empty() || audiences.iter().any(String::is_empty) {
        return refuse("at least one audience is needed: a token for any audience is a token for other services too");
    }
    if !(0..=MAX_LEEWAY_SECONDS).contains(&leeway_seconds) {
        return refuse("leeway_seconds must be between 0 and 300");
    }
    if organization_claim.is_some_and(|pointer| !pointer.starts_with('/')) {
        return refuse("organization_claim must be a JSON pointer (RFC 6901), such as /org_id");
    }
    let keys = KeySet::parse(jwks)?;
    let of_keys: BTreeSet<&str> = keys.keys().iter().map(|key| key.algorithm.name()).collect();
    let Some(names) = names else {
        return Ok(of_keys.into_iter().map(str::to_owned).collect());
    };
    algorithms(&names)?;
    if !names.iter().any(|name| of_keys.contains(name.as_str())) {
        return refuse("none of the keys is for an algorithm that is allowed");
    }
    Ok(names)
}
