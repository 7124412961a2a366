//! Every error of the extension: one table of kinds, one type that carries an occurrence of them.
//!
//! A kind fixes the SQLSTATE and the hint; an occurrence adds the message and, where the caller may know more, a
//! detail. `docs/errors.md` lists the same table, and a test in this file compares the two.

use std::fmt;

/// A kind of error: what never differs between two occurrences of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// Stable name, used in `docs/errors.md` and in tests.
    pub name: &'static str,
    /// SQLSTATE of PostgreSQL's own classes (PostgreSQL documentation, appendix A).
    pub sqlstate: &'static str,
    /// The next step, for the person who reads the error.
    pub hint: &'static str,
}

/// One occurrence of a [`Kind`].
///
/// Neither message nor detail may hold a token, a secret, or a value of another organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    pub kind: &'static Kind,
    pub message: String,
    pub detail: Option<String>,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Kind {
    /// An occurrence of this kind with the message given.
    pub fn error(&'static self, message: impl Into<String>) -> Error {
        Error { kind: self, message: message.into(), detail: None }
    }
}

/// An argument that may not be NULL.
pub fn require_not_null<T>(argument: Option<T>, name: &str) -> Result<T> {
    argument.ok_or_else(|| ARGUMENT_MISSING.error(format!("{name} may not be NULL")))
}

impl Error {
    /// Adds what the caller may know beyond the message.
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

/// Declares the kinds and the table of them all, so that none can be left out of the table.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident, $sqlstate:literal, $hint:literal;)*) => {
        $($(#[$doc])* pub static $name: Kind = Kind { name: stringify!($name), sqlstate: $sqlstate, hint: $hint };)*
        /// Every kind, in the order of `docs/errors.md`.
        pub static ALL: &[&Kind] = &[$(&$name),*];
    };
}

kinds! {
    /// The text is not a compact JWS (RFC 7515 section 7.1) of at most 16 KiB with a JSON header and JSON claims.
    TOKEN_MALFORMED, "28000", "Pass the access token exactly as the identity provider issued it: three base64url parts joined by dots, at most 16 KiB.";
    /// No active row of `tenancy.issuer` has the `iss` of the token.
    ISSUER_UNKNOWN, "28000", "Register the issuer with tenancy.set_issuer, spelled exactly as the token's \"iss\" claim.";
    /// The header asks for something that is not allowed: algorithm, `crit`, an embedded key.
    TOKEN_REFUSED, "28000", "Compare the token's header with the algorithms and keys in tenancy.issuer.";
    /// No key of the issuer fits the token's `kid` and `alg`.
    KEY_UNKNOWN, "28000", "If the provider rotated its keys, set the new JWKS with tenancy.set_issuer.";
    /// The key that signed the token was retired with `tenancy.retire_key`.
    KEY_RETIRED, "28000", "Refresh the session with the identity provider: new tokens are signed with its current key.";
    /// The session or all tokens of the subject were revoked.
    TOKEN_REVOKED, "28000", "Sign in anew with the identity provider.";
    /// The signature does not belong to header and claims.
    SIGNATURE_INVALID, "28000", "Ask the identity provider for a new token; if new tokens fail too, compare its JWKS with tenancy.issuer.";
    /// A required claim is absent or of the wrong JSON type (RFC 7519 section 4.1).
    CLAIM_INVALID, "28000", "The token needs \"iss\", \"sub\", \"aud\" and \"exp\" of the types that RFC 7519 section 4.1 gives them.";
    /// `aud` names none of the issuer's audiences.
    AUDIENCE_REFUSED, "28000", "Ask the identity provider for a token for this database's audience, or add the audience with tenancy.set_issuer.";
    /// `exp` has passed.
    TOKEN_EXPIRED, "28000", "Refresh the session with the identity provider and authenticate again.";
    /// `nbf` or `iat` lies in the future.
    TOKEN_NOT_YET_VALID, "28000", "Check the clocks of the identity provider and of the database server.";
    /// The JWKS given to `tenancy.set_issuer` cannot be used.
    KEY_SET_INVALID, "22023", "Pass the provider's JWK Set (RFC 7517 section 5) with public keys; an \"oct\" key belongs in a file, with \"alg\" and enough bytes.";
    /// The key file of an issuer is absent, cannot be read, or holds something else than a usable JWK Set.
    KEY_FILE_INVALID, "F0000", "See tenancy.jwks_directory and the file that tenancy.issuer names; replace it with mv, so that nobody reads half of it.";
    /// An argument of a set-up function is out of its range.
    ARGUMENT_INVALID, "22023", "See the function's description: \\df+ tenancy.*";
    /// An argument that a set-up function needs is NULL.
    ARGUMENT_MISSING, "22004", "See the function's description: \\df+ tenancy.*";
    /// Nothing in the transaction has authenticated, or the context was cleared.
    CONTEXT_MISSING, "28000", "Call tenancy.authenticate(token) first, in the same transaction.";
    /// The same, for a role that is no member of tenancy_application.
    SCOPE_MISSING, "28000", "In the same transaction: as owner of the tables and member of tenancy_admin tenancy.begin_maintenance(reason), for all organizations; as operator tenancy.assume_organization(organization, reason), for one; as application tenancy.authenticate(token).";
    /// The token behind the context has passed its `exp` since.
    CONTEXT_EXPIRED, "28000", "Authenticate again with a fresh token, in a new transaction.";
    /// The transaction has used another identity already.
    CONTEXT_SEALED, "28000", "Authenticate somebody else in a new transaction: COMMIT or ROLLBACK first.";
    /// DECLARE ... WITH HOLD under an identity that ends with the transaction.
    CURSOR_REFUSED, "55000", "Fetch within the transaction, from a cursor without HOLD; sessions of tenancy.authenticate_session may hold cursors.";
    /// Neither the token nor the caller names an organization, and the subject is a member of several.
    ORGANIZATION_UNNAMED, "28000", "Name the organization: tenancy.authenticate(token, organization => ...).";
    /// The caller names one organization and the token another.
    ORGANIZATION_CONFLICT, "28000", "Leave the argument out, or get a token for the organization you want.";
    /// No active membership of the subject in an active organization of that name.
    MEMBERSHIP_MISSING, "28000", "Ask an admin of the organization, or call tenancy.authenticate with another organization.";
    /// The role claim of the token is absent or holds no role that is known, or several.
    ROLE_MISSING, "28000", "Compare the token's role with tenancy.role and tenancy.external_role, and role_claim of the issuer with the token.";
    /// Token and membership give different roles, of which neither permits less than the other.
    ROLE_CONFLICT, "28000", "Give the membership the role that the identity provider gives, or change role_rule with tenancy.set_issuer.";
    /// The organization enforces single sign-on, and the token did not come through it.
    SSO_REQUIRED, "28000", "Sign in through the organization's single sign-on and authenticate with the token you get there; an admin of the organization can see its conditions.";
    /// A test sign-in on a connection that is still a draft.
    SSO_DRAFT, "55000", "Begin to test it: tenancy.set_sso_state(connection, 'testing').";
    /// The role of the context has no permission for the domain and action.
    PERMISSION_DENIED, "42501", "An admin of the organization can change your role; tenancy.whoami() shows what it permits.";
    /// The relation is of a kind that cannot be protected.
    TABLE_UNSUITABLE, "42809", "tenancy.protect takes tables, partitioned or not, with an organization column or a foreign key to a table that has one.";
    /// The table has no column that could hold the organization.
    COLUMN_MISSING, "42703", "Name it: tenancy.protect(table, organization_column => ...); one that is not there is added with backfill => an expression.";
    /// The table has several columns that could be the organization column, and none is named.
    COLUMN_AMBIGUOUS, "42702", "Name the one that is meant: tenancy.protect(table, organization_column => ...), or tenancy.protect_schema(schema, organization_column => ...) for all tables.";
    /// The organization column is nullable or of a type that cannot hold an organization.
    COLUMN_UNSUITABLE, "42804", "The organization column must be uuid, text, varchar, integer or bigint, and NOT NULL unless null_rows says what NULL means.";
    /// A column that is to be secret is not there, or is part of what an event tells in the clear.
    SECRET_COLUMN_INVALID, "22023", "Name columns of the table other than those of its primary key and its organization: tenancy.protect(table, secret_columns => '{...}'); '{}' makes none secret.";
    /// There is no key for commitments, or its file cannot be used.
    COMMITMENT_KEY_INVALID, "F0000", "Put the base64 of 32 random bytes (openssl rand -base64 32) into a file that only the server's user can read, and name it in tenancy.commitment_key_file.";
    /// The caller neither owns the table nor is a superuser.
    NOT_OWNER, "42501", "Call it as the role that owns the table, or as a superuser.";
    /// A table with an organization column in a protected schema would stay unprotected.
    TABLE_UNPROTECTED, "55000", "Protect it in the same transaction, or say why not: tenancy.exclude(table, reason), or SET tenancy.override_reason before the statement.";
    /// A statement takes away what tenancy.protect made.
    PROTECTION_CHANGED, "42501", "tenancy.unprotect(table) takes all of it back. If it must be done by hand, say why first: SET LOCAL tenancy.override_reason = '...'.";
    /// A role that no policy binds would read or write a protected table without having assumed an organization.
    BYPASS_REFUSED, "42501", "Assume the organization: tenancy.assume_organization(organization, reason). For all of them at once say why: SET tenancy.override_reason = '...'.";
    /// A referential action, a function or a rule would change a row of another organization.
    CROSS_TENANT_CHANGE, "42501", "Change it under its own organization. Where a table is meant to reach others: tenancy.set_guardrail('cross_tenant_change', 'off', reason).";
    /// EXPLAIN ANALYZE or a statistics function, used by a member of tenancy_application.
    STATISTICS_REFUSED, "42501", "Run it as another role than the application's. Where the application is meant to: tenancy.set_guardrail('statement_statistics', 'off', reason).";
    /// A foreign key between protected tables points at no row, or at one of another organization.
    REFERENCE_REFUSED, "23503", "Point at a row that is there and belongs to the same organization.";
    /// A name that the organization, role or issuer does not have.
    NOT_FOUND, "42704", "Create it first; \\df+ tenancy.* lists the functions.";
    /// TRUNCATE under a tenant's context would remove other organizations' rows.
    TRUNCATE_REFUSED, "42501", "Delete the organization's own rows instead: DELETE FROM the table.";
    /// Somebody added an index to a table of the audit that the library cannot keep.
    INDEX_UNSUITABLE, "55000", "Drop that index; index plain columns, or a copy of the events.";
    /// An event whose payload cannot be erased.
    ERASURE_REFUSED, "55000", "An event is erased once it is sealed (tenancy.seal()), and once; tenancy.erasure tells which were. An erasure itself stays.";
    /// The events of a row do not tell all of it.
    HISTORY_INCOMPLETE, "55000", "tenancy.row_history(table, key) shows what is known; tenancy.row_as_of(..., partial => true) takes that.";
    /// The launcher of the background worker found no place for a process that seals.
    PROCESS_MISSING, "53000", "Raise max_worker_processes, which needs a restart, or call tenancy.seal() until then.";
    /// A row is asked for by a key that the table does not have.
    ROW_KEY_MISSING, "42P17", "Add a primary key: what changes from then on has a history. tenancy.audit_trail has the events of the table.";
    /// Something must be written on a standby, or in a READ ONLY transaction.
    READ_ONLY, "25006", "Call it on the primary server, in a transaction that may write; a standby follows by itself.";
    /// There is no key to sign checkpoints with, or it cannot be used.
    SIGNING_KEY_INVALID, "F0000", "See tenancy.signing_key_file, tenancy.signing_key_command and tenancy.checkpoint_origin; the keys are Ed25519, as PRIVATE+KEY+... lines or PKCS #8 in PEM.";
    /// Signing would contradict a checkpoint that was handed out before.
    CHECKPOINT_REFUSED, "55000", "Start the server once with recovery.signal, so that it begins a new timeline and with it a log of its own (docs/operations.md, Checkpoints); never sign two histories under one name.";
    /// Another session changed the signing keys while a REPEATABLE READ transaction was open.
    CHECKPOINT_CONFLICT, "40001", "Call tenancy.checkpoint() again, in a new transaction.";
    /// A checkpoint is made and signed, but its file cannot be written.
    PUBLICATION_FAILED, "58030", "See tenancy.checkpoint_directory: the server's user must be able to write there. What is missing is written with the next checkpoint.";
    /// No checkpoint covers what is to be exported.
    CHECKPOINT_MISSING, "55000", "Call tenancy.checkpoint(), or let the background worker do it: tenancy.signing_key_file and tenancy.checkpoint_interval.";
    /// A stored value of the extension itself cannot be read.
    STATE_INVALID, "XX001", "Check the extension's version with \\dx, and the rows with tenancy.verify_audit().";
    /// A function of the extension was called in a way that only Postgres may.
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
