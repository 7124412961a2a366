//! The registered issuers: written by `tenancy.set_issuer`, read at each authentication, parsed once per change.

use super::lookup::Tables;
use crate::pg::backend_local::BackendLocal;
use crate::pg::report::{OrRaise, warn};
use crate::pg::settings::configuration;
use crate::pg::spi::{Query, Row, argument};
use crate::pg::transaction::from_timestamptz;
use pg_tenancy_core::error::{self, Error, Result, require_not_null};
use pg_tenancy_core::identity::algorithm::Algorithm;
use pg_tenancy_core::identity::bounded_cache::{BoundedCache, Bounds};
use pg_tenancy_core::identity::claim_mapping::{OrganizationForm, Preset, RoleRule, is_pointer};
use pg_tenancy_core::identity::keys::{KeySet, without_secrets};
use pg_tenancy_core::identity::token::{IssuerPolicy, MAX_ISSUER_BYTES};
use pg_tenancy_files::secret_file::{self, Keys, Version};
use pgrx::pg_extern;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::str::FromStr;
use uuid::Uuid;

/// The clocks of two servers may differ; more than this is a fault to repair (RFC 7519 section 4.1.4: "a few minutes").
const MAX_LEEWAY_SECONDS: i32 = 300;

/// An issuer with its keys parsed.
pub struct Issuer {
    /// Another number for each version of an issuer, its keys included: what was found out under one says nothing under
    /// the next.
    pub generation: u64,
    pub policy: IssuerPolicy,
    /// JSON pointer (RFC 6901) of the organization in the claims.
    pub organization_claim: Option<String>,
    pub organization_form: OrganizationForm,
    /// JSON pointer of the role in the claims.
    pub role_claim: Option<String>,
    pub role_rule: RoleRule,
    external_roles: HashMap<String, String>,
}

impl Issuer {
    /// The role that the issuer's tokens mean, whether it exists or not.
    pub fn role_named<'a>(&'a self, external: &'a str) -> &'a str {
        self.external_roles.get(external).map_or(external, String::as_str)
    }
}

static LOAD: Query = Query::new(
    "SELECT i.audiences, i.algorithms, i.jwks::text, i.jwks_file, i.leeway_seconds, i.audience_claim,
            i.organization_claim, i.organization_form, i.role_claim, i.role_rule, i.issuer_binding
       FROM tenancy.issuer i
      WHERE i.issuer = $1",
);

static RETIRED_KEYS: Query = Query::new("SELECT key_id, retired_at FROM tenancy.retired_key WHERE issuer = $1");

static EXTERNAL_ROLES: Query = Query::new("SELECT external_role, role FROM tenancy.external_role WHERE issuer = $1");

static SET: Query = Query::new(
    "INSERT INTO tenancy.issuer AS i (issuer, audiences, algorithms, jwks, jwks_file, leeway_seconds, preset, \
        audience_claim,
                                      organization_claim, organization_form, role_claim, role_rule, issuer_binding)
     VALUES ($1, $2, $3, $4::json, $5, $6, $7, $8, $9, $10, $11, $12, $13)
     ON CONFLICT (issuer) DO UPDATE
        SET audiences = EXCLUDED.audiences, algorithms = EXCLUDED.algorithms, jwks = EXCLUDED.jwks,
            jwks_file = EXCLUDED.jwks_file, leeway_seconds = EXCLUDED.leeway_seconds, preset = EXCLUDED.preset,
            audience_claim = EXCLUDED.audience_claim, organization_claim = EXCLUDED.organization_claim,
            organization_form = EXCLUDED.organization_form, role_claim = EXCLUDED.role_claim,
            role_rule = EXCLUDED.role_rule, issuer_binding = EXCLUDED.issuer_binding",
);

static KEYS_OF: Query = Query::new("SELECT jwks_file, jwks::text FROM tenancy.issuer WHERE issuer = $1");

static SET_KEYS: Query = Query::new("UPDATE tenancy.issuer SET jwks = $2::json WHERE issuer = $1");

/// What a backend keeps of an issuer.
struct Loaded {
    revision: Uuid,
    /// The row with all but the keys.
    settings: Settings,
    issuer: Rc<Issuer>,
    /// Where the keys came from, if that was a file.
    file: Option<WatchedKeyFile>,
}

/// What [`load`] read, and how long the text of the keys is.
struct Read {
    loaded: Loaded,
    bytes: usize,
}

/// The columns of an issuer's row that do not change with its keys.
#[derive(Clone)]
struct Settings {
    name: String,
    audiences: Vec<String>,
    algorithms: Option<Vec<Algorithm>>,
    leeway_seconds: u32,
    audience_claim: String,
    issuer_binding: Option<String>,
    organization_claim: Option<String>,
    organization_form: OrganizationForm,
    role_claim: Option<String>,
    role_rule: RoleRule,
    retired_keys: HashMap<String, i64>,
    external_roles: HashMap<String, String>,
}

/// A key file as it was last looked at.
struct WatchedKeyFile {
    name: String,
    version: Version,
    /// The text of the keys in use; `None` when they are not the file's.
    text: Option<String>,
}

/// Issuers by name; a row with another revision replaces its entry.
static LOADED: BackendLocal<RefCell<Option<BoundedCache<String, Loaded>>>> = BackendLocal::new(RefCell::new(None));

/// The length that a JWK Set has at most, unless it counts for several issuers.
const KEY_SET_BYTES: usize = 16 * 1024;

/// The issuer of that name, with the keys that it has now; `None` if it is not registered or disabled.
pub fn find(tables: Tables, name: &str) -> Result<Option<Rc<Issuer>>> {
    let Some(row) = tables.issuer(name).filter(|row| row.active) else {
        return Ok(None);
    };
    let mut cache = LOADED.borrow_mut();
    let cache = cache.get_or_insert_default();
    if let Some(entry) = cache.get(name).filter(|entry| entry.revision == row.revision) {
        entry.follow_file();
        return Ok(Some(entry.issuer.clone()));
    }
    let Read { loaded, bytes } = load(name, row.revision, cache.take(name))?;
    let issuer = loaded.issuer.clone();
    let bounds = Bounds { entries: configuration::issuer_cache_size(), bytes_each: KEY_SET_BYTES };
    cache.keep(name.to_owned(), loaded, bytes, bounds);
    Ok(Some(issuer))
}

/// The generation of an issuer whose row has not changed since it was found last, a change of its key file included;
/// `None` if the issuer is not remembered any more.
pub fn generation(name: &str) -> Option<u64> {
    let mut cache = LOADED.borrow_mut();
    let entry = cache.as_mut()?.get(name)?;
    entry.follow_file();
    Some(entry.issuer.generation)
}

/// Reads the whole row; `before` is what was kept of an earlier revision.
fn load(name: &str, revision: Uuid, before: Option<Loaded>) -> Result<Read> {
    let damaged = || error::STATE_INVALID.error("the row of the issuer in tenancy.issuer cannot be read");
    let row = LOAD.read(&[argument(name)], |row| read(name, row)).pop().flatten().ok_or_else(damaged)?;
    let (mut settings, jwks, file) = row;
    settings.retired_keys = pairs(RETIRED_KEYS.read(&[argument(name)], |row| {
        Some((row.get(1)?, row.get::<i64>(2).map(from_timestamptz)?.div_euclid(1_000_000)))
    }));
    settings.external_roles = pairs(EXTERNAL_ROLES.read(&[argument(name)], |row| Some((row.get(1)?, row.get(2)?))));
    let (bytes, keys, file) = match file {
        None => {
            let jwks = jwks.ok_or_else(damaged)?;
            (jwks.len(), public_keys(&jwks)?, None)
        }
        Some(name) => {
            let (version, read) = read_file(&name);
            let registered = jwks.as_ref().map_or(0, String::len);
            let (keys, text) = match read {
                Ok(Keys { set, text }) => (set, Some(text)),
                Err(error) => (last_good_keys(&name, before, jwks, error)?, None),
            };
            let bytes = text.as_ref().map_or(registered, String::len);
            (bytes, keys, Some(WatchedKeyFile { name, version, text }))
        }
    };
    Ok(Read { loaded: Loaded { revision, issuer: settings.with(keys), settings, file }, bytes })
}

/// The keys in place of those of a broken file: this session's own, else those that the file had when it was
/// registered.
fn last_good_keys(file: &str, before: Option<Loaded>, registered: Option<String>, error: Error) -> Result<KeySet> {
    let own = before.filter(|before| before.file.as_ref().is_some_and(|known| known.name == file));
    let keys = match (own, registered) {
        (Some(before), _) => before.issuer.policy.keys.clone(),
        (None, Some(jwks)) => public_keys(&jwks)?,
        (None, None) => return Err(error),
    };
    warn(&keeping(error));
    Ok(keys)
}

fn pairs<V>(rows: Vec<Option<(String, V)>>) -> HashMap<String, V> {
    rows.into_iter().flatten().collect()
}

/// The settings of a row, its JWK Set and its key file.
fn read(name: &str, row: &Row) -> Option<(Settings, Option<String>, Option<String>)> {
    let algorithms: Option<Vec<String>> = row.get(2);
    let settings = Settings {
        name: name.to_owned(),
        audiences: row.get(1)?,
        algorithms: algorithms.map(|names| parse_algorithms(&names)).transpose().ok()?,
        leeway_seconds: row.get::<i32>(5)?.unsigned_abs(),
        audience_claim: row.get(6)?,
        organization_claim: row.get(7),
        organization_form: row.get::<String>(8)?.parse().ok()?,
        role_claim: row.get(9),
        role_rule: row.get::<String>(10)?.parse().ok()?,
        issuer_binding: row.get(11),
        retired_keys: HashMap::new(),
        external_roles: HashMap::new(),
    };
    Some((settings, row.get(3), row.get(4)))
}

impl Settings {
    /// The issuer with these keys, as a new generation.
    fn with(&self, keys: KeySet) -> Rc<Issuer> {
        static NEWEST: BackendLocal<Cell<u64>> = BackendLocal::new(Cell::new(0));
        NEWEST.set(NEWEST.get() + 1);
        let settings = self.clone();
        let mut policy = IssuerPolicy {
            audience_claim: settings.audience_claim,
            issuer_binding: settings.issuer_binding,
            retired_keys: settings.retired_keys,
            leeway_seconds: settings.leeway_seconds,
            ..IssuerPolicy::new(&settings.name, settings.audiences, keys)
        };
        if let Some(algorithms) = settings.algorithms {
            policy.algorithms = algorithms;
        }
        Rc::new(Issuer {
            generation: NEWEST.get(),
            policy,
            organization_claim: settings.organization_claim,
            organization_form: settings.organization_form,
            role_claim: settings.role_claim,
            role_rule: settings.role_rule,
            external_roles: settings.external_roles,
        })
    }
}

impl Loaded {
    /// Takes up the keys of the file if it is another one by now; keeps the last good ones if it is broken.
    fn follow_file(&mut self) {
        let Some(file) = &mut self.file else { return };
        if path(&file.name).is_ok_and(|path| file.version.is_current(&path)) {
            return;
        }
        let (version, read) = read_file(&file.name);
        let seen = file.version.is_that_of(&version);
        file.version = version;
        match read {
            Ok(keys) if file.text.as_ref() == Some(&keys.text) => {}
            Ok(keys) => {
                self.issuer = self.settings.with(keys.set);
                file.text = Some(keys.text);
            }
            // Once per version of the file.
            Err(error) if !seen => warn(&keeping(error)),
            Err(_) => {}
        }
    }
}

fn keeping(error: Error) -> Error {
    let message = format!("{}; the last good keys stay in use", error.message);
    Error { message, ..error }
}

fn path(name: &str) -> Result<PathBuf> {
    secret_file::path(configuration::jwks_directory().as_deref(), name)
}

fn read_file(name: &str) -> (Version, Result<Keys>) {
    match path(name) {
        Ok(path) => secret_file::read(&path),
        Err(error) => (Version::default(), Err(error)),
    }
}

fn parse_algorithms(names: &[String]) -> Result<Vec<Algorithm>> {
    let parse = |name: &String| {
        name.parse().map_err(|_| {
            error::ARGUMENT_INVALID
                .error(format!("\"{name}\" is not a signature algorithm of RFC 7518 that is supported"))
        })
    };
    names.iter().map(parse).collect()
}

/// The arguments of `tenancy.set_issuer` that say where tokens carry what; `None` is as the preset says, the empty text
/// is none.
struct ClaimArguments<'a> {
    preset: &'a str,
    audience: Option<&'a str>,
    organization: Option<&'a str>,
    form: Option<&'a str>,
    role: Option<&'a str>,
    rule: Option<&'a str>,
    binding: Option<&'a str>,
}

/// The same with the preset filled in.
struct ClaimSettings {
    audience: String,
    organization: Option<String>,
    form: OrganizationForm,
    role: Option<String>,
    rule: RoleRule,
    binding: Option<String>,
}

/// `tenancy.set_issuer(...)`: registers an issuer, or replaces what was registered under its name.
///
/// The JWKS comes as the text that was given, so that a member named twice is seen.
#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)] // The arguments of the SQL function, one to one.
fn tenancy_set_issuer(
    issuer: Option<&str>,
    audiences: Option<Vec<Option<String>>>,
    jwks: Option<&str>,
    algorithms: Option<Vec<Option<String>>>,
    organization_claim: Option<&str>,
    leeway_seconds: Option<i32>,
    preset: Option<&str>,
    jwks_file: Option<&str>,
    organization_form: Option<&str>,
    role_claim: Option<&str>,
    role_rule: Option<&str>,
    audience_claim: Option<&str>,
    issuer_binding: Option<&str>,
) {
    let issuer = require_not_null(issuer, "issuer").or_raise();
    let audiences = all_given(require_not_null(audiences, "audiences").or_raise(), "audiences").or_raise();
    let algorithms = algorithms.map(|algorithms| all_given(algorithms, "algorithms").or_raise());
    let leeway_seconds = require_not_null(leeway_seconds, "leeway_seconds").or_raise();
    let claims = ClaimArguments {
        preset: require_not_null(preset, "preset").or_raise(),
        audience: audience_claim,
        organization: organization_claim,
        form: organization_form,
        role: role_claim,
        rule: role_rule,
        binding: issuer_binding,
    };
    check_issuer(issuer, &audiences, leeway_seconds).or_raise();
    let found = claims.settle().or_raise();
    let (keys, public) = keys_given(jwks, jwks_file).or_raise();
    if let Some(names) = &algorithms {
        check_algorithms(names, &keys).or_raise();
    }
    let row = [
        argument(issuer),
        argument(audiences),
        argument(algorithms),
        argument(public),
        argument(jwks_file.map(str::to_owned)),
        argument(leeway_seconds),
        argument(claims.preset),
        argument(found.audience),
        argument(found.organization),
        argument(found.form.name()),
        argument(found.role),
        argument(found.rule.name()),
        argument(found.binding),
    ];
    SET.write(&row, |_| ());
}

/// An array whose elements may not be NULL.
fn all_given(elements: Vec<Option<String>>, name: &str) -> Result<Vec<String>> {
    elements.into_iter().map(|element| require_not_null(element, &format!("an element of {name}"))).collect()
}

fn refuse<T>(message: impl Into<String>) -> Result<T> {
    Err(error::ARGUMENT_INVALID.error(message))
}

fn check_issuer(issuer: &str, audiences: &[String], leeway_seconds: i32) -> Result<()> {
    if issuer.is_empty() || issuer.len() > MAX_ISSUER_BYTES {
        return refuse("the issuer must be the text of the token's \"iss\" claim");
    }
    if audiences.is_empty() || audiences.iter().any(String::is_empty) {
        return refuse("at least one audience is needed: a token for any audience is a token for other services too");
    }
    if !(0..=MAX_LEEWAY_SECONDS).contains(&leeway_seconds) {
        return refuse("leeway_seconds must be between 0 and 300");
    }
    Ok(())
}

fn check_algorithms(names: &[String], keys: &KeySet) -> Result<()> {
    let algorithms = parse_algorithms(names)?;
    if !keys.keys().iter().any(|key| algorithms.contains(&key.algorithm)) {
        return refuse("none of the keys is for an algorithm that is allowed");
    }
    Ok(())
}

/// The keys of a JWK Set that the database holds or is to hold.
fn public_keys(jwks: &str) -> Result<KeySet> {
    let keys = KeySet::parse(jwks)?;
    if keys.has_secrets() {
        return Err(error::KEY_SET_INVALID
            .error("an HMAC secret is not taken through SQL")
            .detail("Whatever the database holds can be read from it or from a dump. Use jwks_file."));
    }
    Ok(keys)
}

/// The keys that the caller gave or that the file has, and as text those of them that the database may hold.
fn keys_given(jwks: Option<&str>, file: Option<&str>) -> Result<(KeySet, Option<String>)> {
    match (jwks, file) {
        (Some(jwks), None) => Ok((public_keys(jwks)?, Some(jwks.to_owned()))),
        (None, Some(file)) => {
            let (_, keys) = read_file(file);
            keys.map(|keys| (keys.set, without_secrets(&keys.text)))
        }
        (None, None) => Err(error::ARGUMENT_MISSING.error("one of jwks and jwks_file must be given")),
        (Some(_), Some(_)) => refuse("only one of jwks and jwks_file may be given"),
    }
}

impl ClaimArguments<'_> {
    fn settle(&self) -> Result<ClaimSettings> {
        let Some(preset) = Preset::named(self.preset) else {
            return refuse(format!("\"{}\" is no preset that is known", self.preset));
        };
        let organization = pointer("organization_claim", self.organization, preset.organization_claim)?;
        let role = pointer("role_claim", self.role, preset.role_claim)?;
        let rule = match self.rule {
            Some(rule) => one_of("role_rule", rule, "membership, claim or narrower")?,
            None if role.is_some() => RoleRule::Narrower,
            None => RoleRule::Membership,
        };
        if role.is_none() && rule != RoleRule::Membership {
            return refuse("without a role_claim the role_rule can only be membership");
        }
        let Some(audience) = pointer("audience_claim", self.audience, Some(preset.audience_claim))? else {
            return refuse(
                "audience_claim may not be empty: a token for any audience is a token for other services too",
            );
        };
        Ok(ClaimSettings {
            audience,
            organization,
            form: match self.form {
                Some(form) => one_of("organization_form", form, "text or keyed")?,
                None => preset.organization_form,
            },
            role,
            rule,
            binding: pointer("issuer_binding", self.binding, preset.issuer_binding)?,
        })
    }
}

fn pointer(name: &str, given: Option<&str>, preset: Option<&str>) -> Result<Option<String>> {
    match given {
        None => Ok(preset.map(str::to_owned)),
        Some("") => Ok(None),
        Some(text) if is_pointer(text) => Ok(Some(text.to_owned())),
        Some(_) => refuse(format!("{name} must be a JSON pointer (RFC 6901), such as /org_id")),
    }
}

fn one_of<T: FromStr>(name: &str, given: &str, choices: &str) -> Result<T> {
    given.parse().or_else(|_| refuse(format!("{name} must be {choices}")))
}

/// `tenancy.refresh_issuer_keys(issuer)`: keeps the public keys that the file has now.
#[pg_extern(sql = false)]
fn tenancy_refresh_issuer_keys(issuer: Option<&str>) -> bool {
    let issuer = require_not_null(issuer, "issuer").or_raise();
    let row = KEYS_OF.read(&[argument(issuer)], |row| (row.get::<String>(1), row.get::<String>(2))).pop();
    let Some((Some(file), before)) = row else {
        Err(error::NOT_FOUND.error(format!("no issuer \"{issuer}\" with a key file is registered"))).or_raise()
    };
    let public = without_secrets(&read_file(&file).1.or_raise().text);
    let changed = public != before;
    if changed {
        SET_KEYS.write(&[argument(issuer), argument(public)], |_| ());
    }
    changed
}
