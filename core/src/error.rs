//! The errors of the extension: a table of kinds, and a type for one occurrence of a kind.
//!
//! A kind fixes the SQLSTATE and the hint. An occurrence adds the message and, where the caller may know more, a
//! detail. `docs/errors.md` lists the same kinds, and a test in this file compares both lists.

use std::fmt;

/// A kind of error: the parts that are the same in every occurrence.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// Stable name, used in `docs/errors.md` and in tests.
    pub name: &'static str,
    /// SQLSTATE, five characters, from PostgreSQL's own classes (PostgreSQL documentation, appendix A).
    pub sqlstate: &'static str,
    /// The next step for the person who reads the error; Postgres prints it as the HINT.
    pub hint: &'static str,
}

/// One occurrence of a [`Kind`].
///
/// Neither the message nor the detail may contain a token, a secret, or a value of another organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The kind, one of [`ALL`]; it determines the SQLSTATE and the hint.
    pub kind: &'static Kind,
    /// The primary message, in lower case and without a full stop at the end, as PostgreSQL's style guide asks.
    pub message: String,
    /// Further facts that the caller may know, in full sentences; Postgres prints them as the DETAIL.
    pub detail: Option<String>,
}

/// The result of an operation that fails with an [`Error`] of this extension.
pub type Result<T> = std::result::Result<T, Error>;

impl Kind {
    /// Makes an occurrence of this kind with the given message and without a detail.
    pub fn error(&'static self, message: impl Into<String>) -> Error {
        Error { kind: self, message: message.into(), detail: None }
    }
}

/// Returns the value of an SQL argument, or [`ARGUMENT_MISSING`] if the argument is NULL.
pub fn require_not_null<T>(argument: Option<T>, name: &str) -> Result<T> {
    argument.ok_or_else(|| ARGUMENT_MISSING.error(format!("{name} may not be NULL")))
}

impl Error {
    /// Sets the detail: facts that the caller may know beyond the message.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Declares the kinds and the table of all kinds, so that the table is always complete.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident, $sqlstate:literal, $hint:literal;)*) => {
        $($(#[$doc])* pub static $name: Kind = Kind { name: stringify!($name), sqlstate: $sqlstate, hint: $hint };)*
        /// Every kind, in the order of `docs/errors.md`.
        pub static ALL: &[&Kind] = &[$(&$name),*];
    };
}

/// Whether a kind has this name. Neither allocates nor panics.
pub fn is_kind(name: &[u8]) -> bool {
    ALL.iter().any(|kind| kind.name.as_bytes() == name)
}

kinds! {
    /// The text is not a compact JWS (RFC 7515 section 7.1) of at most 16 KiB with a JSON header and JSON claims.
    TOKEN_MALFORMED, "28000", "Pass the access token exactly as the identity provider issued it: three base64url \
        parts joined by dots, at most 16 KiB.";
    /// No active row of `tenancy.issuer` has the `iss` of the token.
    ISSUER_UNKNOWN, "28000", "Register the issuer with tenancy.set_issuer, spelled exactly as the token's \"iss\" \
        claim.";
    /// The header requests something that is not allowed: an algorithm, `crit`, an embedded key.
    TOKEN_REFUSED, "28000", "Compare the token's header with the algorithms and keys in tenancy.issuer.";
    /// No key of the issuer matches the token's `kid` and `alg`.
    KEY_UNKNOWN, "28000", "If the provider rotated its keys, set the new JWKS with tenancy.set_issuer.";
    /// The key that signed the token was retired with `tenancy.retire_key`.
    KEY_RETIRED, "28000", "Refresh the session with the identity provider: new tokens are signed with its current key.";
    /// The session or all tokens of the subject were revoked.
    TOKEN_REVOKED, "28000", "Sign in anew with the identity provider.";
    /// The signature does not match header and claims.
    SIGNATURE_INVALID, "28000", "Ask the identity provider for a new token; if new tokens fail too, compare its JWKS \
        with tenancy.issuer.";
    /// A required claim is absent or of the wrong JSON type (RFC 7519 section 4.1).
    CLAIM_INVALID, "28000", "The token needs \"iss\", \"sub\", \"aud\" and \"exp\" of the types that RFC 7519 section \
        4.1 gives them.";
    /// `aud` names none of the issuer's audiences.
    AUDIENCE_REFUSED, "28000", "Ask the identity provider for a token for this database's audience, or add the \
        audience with tenancy.set_issuer.";
    /// `exp` has passed.
    TOKEN_EXPIRED, "28000", "Refresh the session with the identity provider and authenticate again.";
    /// `nbf` or `iat` lies in the future.
    TOKEN_NOT_YET_VALID, "28000", "Check the clocks of the identity provider and of the database server.";
    /// The JWKS given to `tenancy.set_issuer` cannot be used.
    KEY_SET_INVALID, "22023", "Pass the provider's JWK Set (RFC 7517 section 5) with public keys; an \"oct\" key \
        belongs in a file, with \"alg\" and enough bytes.";
    /// The key file of an issuer is absent, cannot be read, or does not contain a usable JWK Set.
    KEY_FILE_INVALID, "F0000", "See tenancy.jwks_directory and the file that tenancy.issuer names; replace it with \
        mv, so that nobody reads half of it.";
    /// An argument of a set-up function is out of its range.
    ARGUMENT_INVALID, "22023", "See the function's description: \\df+ tenancy.*";
    /// An argument that a set-up function needs is NULL.
    ARGUMENT_MISSING, "22004", "See the function's description: \\df+ tenancy.*";
    /// No identity was authenticated in the transaction, or the context was cleared.
    CONTEXT_MISSING, "28000", "Call tenancy.authenticate(token) first, in the same transaction.";
    /// No identity is in effect, and the role is not a member of tenancy_application.
    SCOPE_MISSING, "28000", "In the same transaction: as owner of the tables and member of tenancy_admin \
        tenancy.begin_maintenance(reason), for all organizations; as operator \
        tenancy.assume_organization(organization, reason), for one; as application tenancy.authenticate(token).";
    /// The `exp` of the token behind the context has passed since authentication.
    CONTEXT_EXPIRED, "28000", "Authenticate again with a fresh token, in a new transaction.";
    /// The transaction has already used another identity.
    CONTEXT_SEALED, "28000", "Authenticate somebody else in a new transaction: COMMIT or ROLLBACK first.";
    /// DECLARE ... WITH HOLD under an identity that ends with the transaction.
    CURSOR_REFUSED, "55000", "Fetch within the transaction, from a cursor without HOLD; sessions of \
        tenancy.authenticate_session may hold cursors.";
    /// Neither the token nor the caller names an organization, and the subject is a member of several.
    ORGANIZATION_UNNAMED, "28000", "Name the organization: tenancy.authenticate(token, organization => ...).";
    /// The caller names one organization and the token another.
    ORGANIZATION_CONFLICT, "28000", "Leave the argument out, or get a token for the organization you want.";
    /// The subject has no active membership in an active organization of that name.
    MEMBERSHIP_MISSING, "28000", "Ask an admin of the organization, or call tenancy.authenticate with another \
        organization.";
    /// The role claim of the token is absent, or names no known role, or names several.
    ROLE_MISSING, "28000", "Compare the token's role with tenancy.role and tenancy.external_role, and role_claim of \
        the issuer with the token.";
    /// Token and membership give different roles, and neither role's permissions include the other's.
    ROLE_CONFLICT, "28000", "Give the membership the role that the identity provider gives, or change role_rule with \
        tenancy.set_issuer.";
    /// The organization enforces single sign-on, and the token does not meet its conditions.
    SSO_REQUIRED, "28000", "Sign in through the organization's single sign-on and authenticate with the token you get \
        there; an admin of the organization can see its conditions.";
    /// A test sign-in on a connection that is still a draft.
    SSO_DRAFT, "55000", "Begin to test it: tenancy.set_sso_state(connection, 'testing').";
    /// The role of the context has no permission for the domain and action.
    PERMISSION_DENIED, "42501", "An admin of the organization can change your role; tenancy.whoami() shows what it \
        permits.";
    /// The relation is of a kind that cannot be protected.
    TABLE_UNSUITABLE, "42809", "tenancy.protect takes tables, partitioned or not, with an organization column or a \
        foreign key to a table that has one.";
    /// The table has no column that could hold the organization.
    COLUMN_MISSING, "42703", "Name it: tenancy.protect(table, organization_column => ...); one that is not there is \
        added with backfill => an expression.";
    /// The table has several columns that could be the organization column, and none is named.
    COLUMN_AMBIGUOUS, "42702", "Name the one that is meant: tenancy.protect(table, organization_column => ...), or \
        tenancy.protect_schema(schema, organization_column => ...) for all tables.";
    /// The organization column is nullable or of a type that cannot hold an organization.
    COLUMN_UNSUITABLE, "42804", "The organization column must be uuid, text, varchar, integer or bigint, and NOT NULL \
        unless null_rows says what NULL means.";
    /// A column named as secret does not exist, or is part of the plain text of an event.
    SECRET_COLUMN_INVALID, "22023", "Name columns of the table other than those of its primary key and its \
        organization: tenancy.protect(table, secret_columns => '{...}'); '{}' makes none secret.";
    /// The key for commitments is missing, or its file cannot be used.
    COMMITMENT_KEY_INVALID, "F0000", "Put the base64 of 32 random bytes (openssl rand -base64 32) into a file that \
        only the server's user can read, and name it in tenancy.commitment_key_file.";
    /// The caller neither owns the table nor is a superuser.
    NOT_OWNER, "42501", "Call it as the role that owns the table, or as a superuser.";
    /// A table with an organization column in a protected schema would remain unprotected.
    TABLE_UNPROTECTED, "55000", "Protect it in the same transaction, or say why not: tenancy.exclude(table, reason), \
        or SET tenancy.override_reason before the statement.";
    /// The extension is to be dropped while tables are protected.
    TABLES_PROTECTED, "2BP01", "Take the protection back first: SELECT tenancy.unprotect(\"table\") FROM \
        tenancy.protected_tables(). CASCADE drops the policies, after which only superusers see rows.";
    /// A statement would remove something that tenancy.protect created.
    PROTECTION_CHANGED, "42501", "tenancy.unprotect(table) takes all of it back. If it must be done by hand, say why \
        first: SET LOCAL tenancy.override_reason = '...'.";
    /// A role that row-level security does not bind would read or write a protected table without an assumed
    /// organization.
    BYPASS_REFUSED, "42501", "Assume the organization: tenancy.assume_organization(organization, reason). For all of \
        them at once say why: SET tenancy.override_reason = '...'.";
    /// A referential action, a function or a rule would change a row of another organization.
    CROSS_TENANT_CHANGE, "42501", "Change it under its own organization. Where a table is meant to reach others: \
        tenancy.set_guardrail('cross_tenant_change', 'off', reason).";
    /// A member of tenancy_application used EXPLAIN ANALYZE or a statistics function.
    STATISTICS_REFUSED, "42501", "Run it as another role than the application's. Where the application is meant to: \
        tenancy.set_guardrail('statement_statistics', 'off', reason).";
    /// A foreign key between protected tables points at no row, or at a row of another organization.
    REFERENCE_REFUSED, "23503", "Point at a row that is there and belongs to the same organization.";
    /// No object of the given name exists, such as an organization, a role or an issuer.
    NOT_FOUND, "42704", "Create it first; \\df+ tenancy.* lists the functions.";
    /// TRUNCATE under a tenant's context would remove other organizations' rows.
    TRUNCATE_REFUSED, "42501", "Delete the organization's own rows instead: DELETE FROM the table.";
    /// A table of the audit has an added index of a kind that the library cannot maintain.
    INDEX_UNSUITABLE, "55000", "Drop that index; index plain columns, or a copy of the events.";
    /// The payload of the event cannot be erased.
    ERASURE_REFUSED, "55000", "An event is erased once it is sealed (tenancy.seal()), and once; tenancy.erasure tells \
        which were. An erasure itself stays.";
    /// The events of a row do not contain all of its values.
    HISTORY_INCOMPLETE, "55000", "tenancy.row_history(table, key) shows what is known; tenancy.row_as_of(..., partial \
        => true) takes that.";
    /// The launcher of the background worker found no free slot for a process that seals.
    PROCESS_MISSING, "53000", "Raise max_worker_processes, which needs a restart, or call tenancy.seal() until then.";
    /// More events are unsealed than the setting allows, and the sealer does nothing.
    SEALING_STANDS_STILL, "53400", "SELECT * FROM tenancy.advise() names the cause. tenancy.seal() seals by hand.";
    /// A row is requested by key, and the table has no primary key.
    ROW_KEY_MISSING, "42P17", "Add a primary key: what changes from then on has a history. tenancy.audit_trail has \
        the events of the table.";
    /// The operation has to write, and the server is a standby or the transaction is READ ONLY.
    READ_ONLY, "25006", "Call it on the primary server, in a transaction that may write; a standby follows by itself.";
    /// The key that signs checkpoints is missing or cannot be used.
    SIGNING_KEY_INVALID, "F0000", "See tenancy.signing_key_file, tenancy.signing_key_command and \
        tenancy.checkpoint_origin; the keys are Ed25519, as PRIVATE+KEY+... lines or PKCS #8 in PEM.";
    /// The new checkpoint would contradict one that was published before.
    CHECKPOINT_REFUSED, "55000", "Start the server once with recovery.signal, so that it begins a new timeline and \
        with it a log of its own (docs/operations.md, Checkpoints); never sign two histories under one name.";
    /// Another session changed the signing keys while a REPEATABLE READ transaction was open.
    CHECKPOINT_CONFLICT, "40001", "Call tenancy.checkpoint() again, in a new transaction.";
    /// A checkpoint was made and signed, but its file could not be written.
    PUBLICATION_FAILED, "58030", "See tenancy.checkpoint_directory: the server's user must be able to write there. \
        What is missing is written with the next checkpoint.";
    /// No checkpoint covers the requested export.
    CHECKPOINT_MISSING, "55000", "Call tenancy.checkpoint(), or let the background worker do it: \
        tenancy.signing_key_file and tenancy.checkpoint_interval.";
    /// A key-encryption key that is needed is not where it should come from.
    SECRET_KEY_MISSING, "F0000", "Add the key to tenancy.secret_key_file, or to what tenancy.secret_key_command \
        prints; tenancy.key_status() tells which keys can be used.";
    /// A key has the right id and is another one.
    SECRET_KEY_WRONG, "F0000", "Put back the key that had this id when it was registered; a new key needs a new id. \
        tenancy.key_status() tells which keys can be used.";
    /// The keys cannot be read.
    SECRET_KEY_INVALID, "F0000", "See tenancy.secret_key_file and tenancy.secret_key_command (lines of an id and the \
        base64 of 32 bytes), and tenancy.key_wrap_command.";
    /// The command that wraps keys did not do it.
    KEY_COMMAND_FAILED, "F0000", "Run tenancy.key_wrap_command by hand as the server's user; docs/key-management.md \
        has its protocol.";
    /// Something sealed does not open although its key is right.
    SECRET_ALTERED, "XX001", "Restore the row from a backup; tenancy.verify_audit() tells whether the history was \
        altered too.";
    /// The id of a key-encryption key that is registered.
    KEY_EXISTS, "23505", "Give a new key a new id; the id of a retired key is not used again.";
    /// No key-encryption key is current, so that no data key can be made.
    KEY_NOT_CHOSEN, "55000", "Register a key with tenancy.add_key_encryption_key, and make it current with \
        tenancy.set_current_key_encryption_key.";
    /// Somebody else writes the tables of keys and secrets.
    KEY_TABLE_REFUSED, "42501", "Call the functions of docs/key-management.md.";
    /// Another run wraps data keys.
    REWRAP_RUNS, "55P03", "CALL tenancy.rewrap_data_keys() when the run has ended; tenancy.rewrap_progress shows it.";
    /// A key-encryption key that data keys are wrapped under.
    KEY_IN_USE, "55000", "Make another key current, and CALL tenancy.rewrap_data_keys(); tenancy.key_status() counts \
        the data keys under each key.";
    /// A key-encryption key that is retired, or that must not be.
    KEY_STATE, "55000", "tenancy.key_status() has the states of the keys.";
    /// The name of a secret that the organization has, or had.
    SECRET_EXISTS, "23505", "Store another version with a rotation, or choose another name; the name of a destroyed \
        secret is not free again.";
    /// A secret that is not there, or that the caller may not read.
    SECRET_UNKNOWN, "42704", "SELECT name, domain FROM tenancy.secret; has the secrets that the role may read.";
    /// A value that cannot be stored.
    SECRET_VALUE_INVALID, "22023", "tenancy.secret_kind has the members of each kind's values; the kind opaque takes \
        any text.";
    /// A value that stands in the text of the client's statement.
    SECRET_LITERAL, "22023", "Pass it as a bind parameter, or seal it with tenancy.secret_recipient() and pass sealed \
        => true. Have the provider make another one: this one is known to whoever reads logs.";
    /// A public key that nothing can be sealed to.
    RECIPIENT_INVALID, "22023", "A recipient is the 32 bytes of an X25519 public key (RFC 7748); docs/secret-format.md \
        has the format of the messages.";
    /// The new value of a secret is the value of one of its versions.
    SECRET_UNCHANGED, "22023", "Have the provider make a new credential, and pass that.";
    /// A rotation of the secret is open or observing.
    ROTATION_OPEN, "55000", "End it first: tenancy.promote, tenancy.abandon_rotation, tenancy.roll_back, or \
        tenancy.retire with the version before; tenancy.rotation has its state.";
    /// A version or a rotation is not in the state that the call needs.
    ROTATION_STATE, "55000", "tenancy.rotation and tenancy.secret_version have the states; docs/secrets.md has what \
        leads from one to the next.";
    /// Another session changed the secret while a transaction with an older snapshot was open.
    ROTATION_CONFLICT, "40001", "Run the transaction again.";
    /// No health report proves that the version works.
    HEALTH_MISSING, "55000", "Try the value at the provider, and report it with tenancy.report_health; \
        tenancy.health_report has the reports so far.";
    /// A value that is older than its secret allows.
    ROTATION_OVERDUE, "55000", "Have somebody with the permission rotate begin a rotation: tenancy.begin_rotation. \
        tenancy.secret_posture shows what is overdue.";
    /// A version that may still be in use.
    SECRET_IN_USE, "55000", "Retire it when observe_for has passed; tenancy.set_secret_policy can shorten that.";
    /// No approval of the action type is in force.
    ACTION_NOT_APPROVED, "42501", "Ask for it with tenancy.request_action_type(action_type, reason); somebody else \
        approves it with tenancy.decide_action_type(request, true, reason).";
    /// An operator who assumed an organization without a token would reveal a secret.
    OPERATOR_REVEAL, "42501", "Have a member of the organization reveal it, with a token; where operators are meant \
        to: tenancy.set_guardrail('operator_reveal', 'warn', reason).";
    /// Somebody would approve what they asked for.
    SELF_APPROVAL, "42501", "Somebody else decides, whom it is not about and who has the permission for it.";
    /// An operator who assumed an organization would ask for something, or approve it.
    ASSUMED_REFUSED, "42501", "A member of the organization does it, with a token: tenancy.authenticate(token).";
    /// An exception is in another state than the call needs.
    EXCEPTION_STATE, "55000", "tenancy.exception has the state of each exception; tenancy.amend_exception changes one \
        that is active.";
    /// An item of a review is not as it was seen.
    REVIEW_STALE, "40001", "Look at it again: tenancy.refresh_item takes its new state, which is decided about then.";
    /// A review or its item is in another state than the call needs.
    REVIEW_STATE, "55000", "tenancy.review has the state of each review, and tenancy.review_item what is decided.";
    /// The break-glass grant of an elevated transaction is not in force any more.
    ELEVATION_ENDED, "42501", "Roll back. tenancy.break_glass_grant has what became of the grant; \
        tenancy.request_break_glass asks for another one.";
    /// A break-glass grant is not given, or not used, as asked for.
    ELEVATION_REFUSED, "42501", "tenancy.break_glass_policy has what a grant may be, and tenancy.break_glass_grant \
        what was granted.";
    /// A break-glass grant is in another state than the call needs.
    GRANT_STATE, "55000", "tenancy.break_glass_grant has the state of each grant.";
    /// Whoever would get a break-glass grant has used one that nobody has signed off in time.
    SIGN_OFF_OVERDUE, "55000", "Somebody who neither asked for it nor used it signs it off first: \
        tenancy.sign_off_break_glass(grant_id, verdict, comment).";
    /// The activation of a break-glass grant, or a statement under it, could not be recorded durably.
    BREAK_GLASS_UNRECORDED, "55000", "Use it on the primary server, with pg_tenancy in shared_preload_libraries and \
        tenancy.seal_interval above 0. Activate it in a new transaction, while a background worker is free \
        (max_worker_processes).";
    /// Somebody would give more than they hold themselves.
    MORE_THAN_HELD, "42501", "Somebody whose role permits all of it can give it; \
        tenancy.effective_permissions() lists what you hold.";
    /// An organization would be left without a member who may do everything.
    LAST_ADMIN, "55000", "First give another member a role that permits *:*, without an end: \
        tenancy.add_member(subject, 'admin').";
    /// A role is to be dropped that members have.
    ROLE_IN_USE, "55000", "Give them another role first: tenancy.change_member(subject, role => ...).";
    /// A subject is a member already.
    MEMBER_EXISTS, "23505", "tenancy.change_member changes a membership.";
    /// The name of a role that exists, of every organization or of one.
    ROLE_EXISTS, "23505", "Choose another name: a name means one role in an organization.";
    /// The name of an action type that exists.
    ACTION_TYPE_EXISTS, "23505", "tenancy.action_type lists the action types; give a new one a new name.";
    /// A request or an approval is in another state than the call needs.
    APPROVAL_STATE, "55000", "tenancy.action_type_request has the state of each request.";
    /// A request came or changed after the transaction's snapshot was taken.
    APPROVAL_CONFLICT, "40001", "Call the function again, in a new transaction.";
    /// Somebody else writes the tables of approvals.
    CONTROL_TABLE_REFUSED, "42501", "Call the functions of docs/least-privilege.md and docs/guardrails.md.";
    /// A guardrail would be looser for an organization, or is not the caller's to set.
    GUARDRAIL_REFUSED, "42501", "A member with the permission guardrail:update makes a guardrail stricter for the \
        context's organization; a member of tenancy_admin sets any state: \
        tenancy.set_guardrail(name, state, reason, organization).";
    /// Sign-ins are not recorded, so that after a time every member would be dormant.
    SIGN_INS_UNRECORDED, "55000", "Set it with pg_tenancy in shared_preload_libraries and tenancy.seal_interval above \
        0.";
    /// A reveal could not be recorded durably, and the guardrail `unrecorded_reveal` refuses it.
    REVEAL_UNRECORDED, "55000", "Reveal it on the primary server, whose data folder can be written. Where a reveal may \
        go unrecorded: tenancy.set_guardrail('unrecorded_reveal', 'warn', reason).";
    /// The files of recorded reveals cannot be read.
    REVEAL_JOURNAL_INVALID, "58030", "See the folder pg_tenancy in the data folder: the server's user must be \
        able to read and delete its files. What was not taken in is taken in by the next tenancy.seal().";
    /// A stored value of the extension itself cannot be read.
    STATE_INVALID, "XX001", "Check the extension's version with \\dx, and the rows with tenancy.verify_audit().";
    /// A function that only Postgres may call, such as a trigger function, was called in another way.
    CALL_REFUSED, "39P01", "tenancy.protect creates the triggers that call this function.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_stands_in_the_documentation_with_its_sqlstate_and_hint() {
        let documentation = include_str!("../../docs/errors.md");
        let rows: Vec<&str> = documentation.lines().filter(|line| line.starts_with("| `")).collect();
        for kind in ALL {
            let row = format!("| `{}` | `{}` | {} |", kind.name.to_lowercase(), kind.sqlstate, kind.hint);
            assert!(
                rows.iter().any(|found| found.ends_with(&row[2..]) || *found == row),
                "docs/errors.md lacks the row\n{row}"
            );
        }
        assert_eq!(rows.len(), ALL.len(), "docs/errors.md has a row that no kind stands behind");
    }
}
