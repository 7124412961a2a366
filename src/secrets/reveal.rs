//! Revealing a value: to whom it is given, for what, and the record of it, which is durable before the value leaves.

use super::data_key;
use super::reveal_record::{self, Reveal};
use super::reveal_rules;
use super::secret::{Secret, WRITE, unknown, valid_name};
use super::value;
use crate::context;
use crate::controls;
use crate::guardrail::{self, Hit};
use crate::pg::report::{OrRaise, raise};
use crate::pg::returned_text::ReturnedText;
use crate::pg::tables::table::{IndexKey, Tuple, find};
use crate::pg::transaction;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use pg_tenancy_core::audit::format::hex;
use pg_tenancy_core::error::{self, Error, Result, require_not_null};
use pg_tenancy_core::guardrail::OPERATOR_REVEAL;
use pg_tenancy_core::secrets::delivery::{self, Delivery};
use pg_tenancy_core::secrets::envelope::{self, Opened, SecretPlace};
use pgrx::pg_extern;
use sha2::{Digest, Sha256};
use uuid::Uuid;

const MAX_PURPOSE_BYTES: usize = 500;

/// `tenancy.reveal_secret(name, purpose, version, action_type, recipient)`.
#[pg_extern(sql = false)]
fn tenancy_reveal_secret(
    name: Option<&str>,
    purpose: Option<&str>,
    version: Option<i32>,
    action_type: Option<&str>,
    recipient: Option<&[u8]>,
) -> ReturnedText {
    let asked = Asked::new(name, purpose, version, action_type, recipient).or_raise();
    let mut found = Found::default();
    let answer = found.reveal(&asked);
    // Before the value leaves, and before it is told that it does not.
    let recorded = found.record(&asked, answer.as_ref().err());
    match recorded.and(answer) {
        Ok(Answer::Value(value)) => ReturnedText::new(std::str::from_utf8(value.value()).unwrap_or_default()),
        Ok(Answer::Message(message)) => ReturnedText::new(&message),
        Err(error) => raise(error),
    }
}

/// What is asked for, by whom.
struct Asked<'a> {
    organization: Uuid,
    name: &'a str,
    purpose: &'a str,
    version: Option<i32>,
    action_type: Option<&'a str>,
    recipient: Option<&'a [u8]>,
}

/// What was found of it so far, for the record.
#[derive(Default)]
struct Found {
    secret: Option<Secret>,
    version: Option<Version>,
    approval: Option<Uuid>,
}

/// A row of `tenancy.secret_version`.
struct Version {
    number: i32,
    state: String,
    scope: String,
    data_key: Option<Uuid>,
}

/// What leaves.
enum Answer {
    Value(Opened),
    /// A value that was sealed to a recipient, as base64.
    Message(String),
}

impl<'a> Asked<'a> {
    fn new(
        name: Option<&'a str>,
        purpose: Option<&'a str>,
        version: Option<i32>,
        action_type: Option<&'a str>,
        recipient: Option<&'a [u8]>,
    ) -> Result<Self> {
        let organization = context::require()?.organization.id;
        let (name, purpose) = (valid_name(name)?, require_not_null(purpose, "purpose")?);
        if purpose.trim().is_empty() || purpose.len() > MAX_PURPOSE_BYTES {
            let message = format!("the purpose is blank, or longer than {MAX_PURPOSE_BYTES} bytes");
            return Err(error::ARGUMENT_INVALID.error(message));
        }
        if let Some(name) = action_type {
            controls::require_action_type_name(name)?;
        }
        Ok(Asked { organization, name, purpose, version, action_type, recipient })
    }
}

impl Found {
    fn reveal(&mut self, asked: &Asked) -> Result<Answer> {
        // One snapshot, so that version and value fit; the newest, so that what was retired a moment ago is not read.
        transaction::with_latest_snapshot(|| {
            let secret = Secret::find(asked.organization, asked.name)?;
            let seen =
                |secret: &Secret| ["read", "reveal"].iter().any(|action| context::allowed(&secret.domain, action));
            let secret = self.secret.insert(secret.filter(seen).ok_or_else(|| unknown(asked.name))?);
            require_token(asked)?;
            let version = Version::find(secret.id, asked.version)?;
            let Some(version) = version else {
                require(secret, "reveal")?;
                let number = asked.version.map_or("current version".to_owned(), |number| format!("version {number}"));
                return Err(error::SECRET_UNKNOWN.error(format!("secret \"{}\" has no {number}", asked.name)));
            };
            let version = self.version.insert(version);
            self.approval = version.authorize(secret, asked)?;
            reveal_rules::check(secret, version.number)?;
            let value = version.open(secret)?;
            let Some(recipient) = asked.recipient else {
                return Ok(Answer::Value(value));
            };
            let Asked { organization, name, purpose, .. } = *asked;
            let delivery = Delivery { organization, name, version: version.number, purpose };
            let message = delivery::deliver(recipient, &delivery, value.value());
            let message = message.ok_or_else(|| {
                error::RECIPIENT_INVALID.error("the recipient is no public key of X25519, or one of low order")
            })?;
            Ok(Answer::Message(BASE64_STANDARD.encode(message)))
        })
    }

    fn record(&self, asked: &Asked, error: Option<&Error>) -> Result<()> {
        let recipient = asked.recipient.map(|key| hex::encode(&Sha256::digest(key)));
        reveal_record::keep(&Reveal {
            organization: asked.organization,
            secret: self.secret.as_ref().map(|secret| secret.id),
            name: asked.name,
            version: self.version.as_ref().map(|version| version.number).or(asked.version),
            scope: self.version.as_ref().map(|version| version.scope.as_str()),
            purpose: asked.purpose,
            action_type: asked.action_type,
            approval: self.approval,
            recipient: recipient.as_deref(),
            error: error.map(|error| error.kind),
        })
    }
}

impl Version {
    /// The version with this number, or the current one.
    fn find(secret: Uuid, number: Option<i32>) -> Result<Option<Self>> {
        let read = |row: &Tuple| {
            Some(Version { number: row.get(3)?, state: row.get(4)?, scope: row.get(5)?, data_key: row.uuid(6) })
        };
        let keys = [IndexKey::uuid(1, &secret)];
        let versions: Option<Vec<_>> = match number {
            Some(number) => {
                let keys = [keys[0], IndexKey::integer(3, number)];
                find(c"secret_version", c"secret_version_pkey", &keys, read)
            }
            None => find(c"secret_version", c"secret_version_current_idx", &keys, read),
        }
        .into_iter()
        .collect();
        let damaged = || error::STATE_INVALID.error(format!("a version of the secret {secret} cannot be read"));
        Ok(versions.ok_or_else(damaged)?.pop())
    }

    /// Refuses what the role may not have. A value that is not handed out yet, or not any more, is for who rotates.
    /// Returns the approval that a value takes which can change something.
    fn authorize(&self, secret: &Secret, asked: &Asked) -> Result<Option<Uuid>> {
        let handed_out = ["current", "previous"].contains(&self.state.as_str());
        require(secret, if handed_out { "reveal" } else { "rotate" })?;
        if self.scope != WRITE {
            return Ok(None);
        }
        require(secret, "reveal_write")?;
        let Some(action_type) = asked.action_type else {
            let message = "a value of the scope \"write\" is revealed for an approved action type, and none is named";
            return Err(error::ACTION_NOT_APPROVED.error(message));
        };
        let approval = controls::approval_in_force(asked.organization, Some(action_type));
        let missing = || error::ACTION_NOT_APPROVED.error(format!("the action type \"{action_type}\" is not approved"));
        approval.ok_or_else(missing).map(Some)
    }

    fn open(&self, secret: &Secret) -> Result<Opened> {
        let what = format!("version {} of the secret \"{}\"", self.number, secret.name);
        let Some(data_key) = self.data_key.filter(|_| self.state != "retired") else {
            return Err(error::ROTATION_STATE.error(format!("{what} has no value: it is {}", self.state)));
        };
        let altered = || error::SECRET_ALTERED.error(format!("{what} does not open"));
        let sealed = value::sealed(secret.id, self.number);
        let sealed = sealed.ok_or_else(|| altered().detail("The sealed value is missing."))?;
        let key = data_key::find_by_id(data_key)?.open()?;
        let place = secret.place(self.number);
        let opened = envelope::open(&key, &SecretPlace { scope: &self.scope, ..place }, &sealed);
        opened.map_err(|_| altered().detail("It, or a row that it is bound to, was altered; its key is right."))
    }
}

/// Refuses an operator who assumed the organization without a token.
fn require_token(asked: &Asked) -> Result<()> {
    if !context::require()?.is_assumed() {
        return Ok(());
    }
    let hit = Hit::of_object(&OPERATOR_REVEAL, asked.organization, "reveal_secret", asked.name);
    guardrail::hit(&hit, || error::OPERATOR_REVEAL.error("an operator without a token reveals no secret"))
}

/// Refuses an action that the role may not do with the secret. The record of the reveal is the refusal's, too.
fn require(secret: &Secret, action: &str) -> Result<()> {
    if context::allowed(&secret.domain, action) {
        return Ok(());
    }
    let message = format!("the role may not {action} in domain \"{}\"", secret.domain);
    Err(error::PERMISSION_DENIED.error(message))
}
