//! The rules of a secret's rotations, and its owner.

use super::guard;
use super::secret::Secret;
use crate::context;
use crate::guardrail;
use crate::identity::is_active_member;
use crate::pg::clock;
use crate::pg::report::OrRaise;
use crate::pg::spi::{self, Query, Row, argument};
use crate::pg::user;
use pg_tenancy_core::error::{self, Result};
use pg_tenancy_core::guardrail::{FAILED_ROTATION, RETIRE_IN_USE, State};
use pg_tenancy_core::secrets::rotation::RotationPolicy;
use pgrx::datum::Interval;
use pgrx::pg_extern;
use serde_json::{Value, json};
use uuid::Uuid;

/// Those of the secret, and of its kind where it has none.
static RULES: Query = Query::new(
    "SELECT coalesce(s.max_live_versions, k.max_live_versions), coalesce(s.health_required, k.health_required),
            (extract(epoch FROM coalesce(s.health_max_age, k.health_max_age)) * 1000000)::bigint,
            (extract(epoch FROM coalesce(s.observe_for, k.observe_for)) * 1000000)::bigint
       FROM tenancy.secret s JOIN tenancy.secret_kind k ON k.name = s.kind
      WHERE s.id = $1",
);

/// The name of the first argument that is out of its range.
static OUT_OF_RANGE: Query = Query::new(
    "SELECT CASE WHEN NOT ($1 > '0' AND $1 <= '100 years') THEN 'rotate_every'
                 WHEN NOT ($2 > '0' AND $2 <= '100 years') THEN 'health_max_age'
                 WHEN NOT ($3 >= '0' AND $3 <= '100 years') THEN 'observe_for' END",
);

static SET: Query = Query::new(
    "UPDATE tenancy.secret
        SET rotate_every = $2, max_live_versions = $3, health_max_age = $4, health_required = $5, observe_for = $6,
            owner_subject = coalesce($7, owner_subject),
            owner_issuer = CASE WHEN $7 IS NULL THEN owner_issuer ELSE $8 END
      WHERE id = $1
      RETURNING json_build_object('rotate_every', rotate_every::text, 'max_live_versions', max_live_versions,
                                  'health_max_age', health_max_age::text, 'health_required', health_required,
                                  'observe_for', observe_for::text, 'owner_subject', owner_subject,
                                  'owner_issuer', owner_issuer)::text",
);

static SET_OWNER: Query =
    Query::new("UPDATE tenancy.secret SET owner_issuer = $2, owner_subject = $3 WHERE id = $1 RETURNING 1");

/// `tenancy.set_secret_policy(...)`.
#[allow(clippy::too_many_arguments)]
#[pg_extern(sql = false)]
fn tenancy_set_secret_policy(
    name: Option<&str>,
    rotate_every: Option<Interval>,
    max_live_versions: Option<i32>,
    health_max_age: Option<Interval>,
    health_required: Option<i32>,
    observe_for: Option<Interval>,
    owner_subject: Option<&str>,
    owner_issuer: Option<&str>,
) {
    let rules = Rules { rotate_every, max_live_versions, health_max_age, health_required, observe_for };
    set(name, &rules, owner_subject, owner_issuer).or_raise();
}

/// What a secret has of its own.
struct Rules {
    rotate_every: Option<Interval>,
    max_live_versions: Option<i32>,
    health_max_age: Option<Interval>,
    health_required: Option<i32>,
    observe_for: Option<Interval>,
}

impl Rules {
    fn check(&self) -> Result<()> {
        let intervals = [self.rotate_every, self.health_max_age, self.observe_for].map(argument);
        let out_of_range = OUT_OF_RANGE.read(&intervals, |row| row.get::<String>(1)).pop().flatten();
        let out_of_range = out_of_range.as_deref().or_else(|| {
            let fails = |number: Option<i32>, least| number.is_some_and(|number| !(least..=100).contains(&number));
            let live = fails(self.max_live_versions, 2).then_some("max_live_versions");
            live.or_else(|| fails(self.health_required, 1).then_some("health_required"))
        });
        out_of_range.map_or(Ok(()), |name| Err(error::ARGUMENT_INVALID.error(format!("{name} is out of its range"))))
    }
}

fn set(name: Option<&str>, rules: &Rules, owner: Option<&str>, issuer: Option<&str>) -> Result<()> {
    let secret = Secret::held(name, "update")?;
    let own_issuer = context::require()?.issuer.clone();
    user::as_superuser(|| {
        rules.check()?;
        if owner.is_none() && issuer.is_some() {
            return Err(error::ARGUMENT_INVALID.error("owner_issuer names the issuer of an owner_subject"));
        }
        let issuer = issuer.unwrap_or(&own_issuer);
        owner.map_or(Ok(()), |owner| must_be_member(secret.organization, issuer, owner))?;
        let row = [
            spi::uuid(secret.id),
            argument(rules.rotate_every),
            argument(rules.max_live_versions),
            argument(rules.health_max_age),
            argument(rules.health_required),
            argument(rules.observe_for),
            argument(owner),
            argument(issuer),
        ];
        let new = guard::writing(|| SET.write(&row, |row| row.get::<String>(1))).pop().flatten();
        let new: Option<Value> = new.and_then(|new| serde_json::from_str(&new).ok());
        let unreadable = || error::STATE_INVALID.error("the rules of a secret cannot be read");
        secret.record("policy", None, new.ok_or_else(unreadable)?)
    })
}

/// Gives a secret another owner, as a reviewer has decided. The caller acts as a superuser.
pub fn own_reviewed(organization: Uuid, secret: Uuid, issuer: &str, subject: &str, reason: &str) -> Result<()> {
    let secret = Secret::held_by_id(organization, secret)?;
    must_be_member(organization, issuer, subject)?;
    let row = [spi::uuid(secret.id), argument(issuer), argument(subject)];
    guard::writing(|| SET_OWNER.write(&row, |_| ()));
    secret.record("policy", Some(reason), json!({ "owner_issuer": issuer, "owner_subject": subject }))
}

fn must_be_member(organization: Uuid, issuer: &str, owner: &str) -> Result<()> {
    if is_active_member(organization, issuer, owner, clock::now()) {
        return Ok(());
    }
    let message = format!("\"{owner}\" is no active member of the organization");
    Err(error::ARGUMENT_INVALID.error(message))
}

/// The rules that apply to a secret now.
pub fn of(secret: &Secret) -> Result<RotationPolicy> {
    let read = |row: &Row| {
        Some(RotationPolicy {
            max_live_versions: row.get(1)?,
            health_required: row.get(2)?,
            health_max_age: row.get(3)?,
            observe_for: row.get(4)?,
            rolls_back: guardrail::state(&FAILED_ROTATION, secret.organization) == State::Enforce,
            keeps_in_use: guardrail::state(&RETIRE_IN_USE, secret.organization) == State::Enforce,
        })
    };
    let rules = RULES.read(&[spi::uuid(secret.id)], read).pop().flatten();
    rules.ok_or_else(|| error::STATE_INVALID.error(format!("the rules of the secret \"{}\" are gone", secret.name)))
}
