//! The list of guardrails.

use crate::error::{self, Result};

/// A rule that can be enforced, only warn, or be off.
#[derive(Debug, PartialEq, Eq)]
pub struct Guardrail {
    /// The name in SQL, such as `new_tables`.
    pub name: &'static str,
    /// The state until an administrator sets another.
    pub default: State,
    /// Whether an organization may have a state of its own.
    pub scope: Scope,
    /// What the guardrail checks and what the states do, as text for the SQL view of guardrails.
    pub meaning: &'static str,
}

/// For what a guardrail is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The database alone: what it checks concerns the tables or the server, and so every organization.
    Database,
    /// The database, and single organizations beside it: what it checks is done in one organization.
    Organization,
}

impl Scope {
    /// The word in SQL: `database` or `organization`.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Database => "database",
            Scope::Organization => "organization",
        }
    }
}

/// How a guardrail reacts to a statement that violates it. A later one is stricter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// The check does not run.
    Off,
    /// The statement runs. Most guardrails raise a WARNING; [`Guardrail::meaning`] has the details.
    Warn,
    /// The statement is refused, or, for new tables, the table is protected at once.
    Enforce,
}

impl State {
    /// The word in SQL: `off`, `warn` or `enforce`.
    pub fn name(self) -> &'static str {
        match self {
            State::Off => "off",
            State::Warn => "warn",
            State::Enforce => "enforce",
        }
    }

    /// The state that the word in SQL names; `None` for any other text.
    pub fn parse(name: &str) -> Option<Self> {
        [State::Off, State::Warn, State::Enforce].into_iter().find(|state| state.name() == name)
    }
}

/// Changes of another organization's row by a referential action, a function or a rule.
pub static CROSS_TENANT_CHANGE: Guardrail = Guardrail {
    name: "cross_tenant_change",
    default: State::Enforce,
    scope: Scope::Database,
    meaning: "A change of a row of another organization than the context's, by a referential action, a function or a \
        rule \
              that no policy binds. warn: a WARNING; enforce: refused.",
};

/// Sign-ins of members who have not signed in for a long time.
pub static DORMANT_MEMBER: Guardrail = Guardrail {
    name: "dormant_member",
    default: State::Off,
    scope: Scope::Organization,
    meaning: "A sign-in of a member whose last one is longer ago than tenancy.dormant_after. warn: a WARNING, \
              recorded; enforce: refused.",
};

/// Negative health reports of a version that was promoted lately.
pub static FAILED_ROTATION: Guardrail = Guardrail {
    name: "failed_rotation",
    default: State::Enforce,
    scope: Scope::Organization,
    meaning: "A negative health report of the current version of a secret, while its promotion is observed. warn: a \
              WARNING; enforce: the version before is current again.",
};

/// Permissions given on that only an elevation adds to the giver's role.
pub static GRANT_UNDER_ELEVATION: Guardrail = Guardrail {
    name: "grant_under_elevation",
    default: State::Enforce,
    scope: Scope::Organization,
    meaning: "Permissions that somebody gives, or approves, who holds them by break-glass alone. warn: a WARNING, \
              recorded; enforce: refused.",
};

/// The last member of an organization who may do everything.
pub static LAST_ADMIN: Guardrail = Guardrail {
    name: "last_admin",
    default: State::Enforce,
    scope: Scope::Organization,
    meaning: "A change after which no active member of an organization may do everything any more. warn: a WARNING, \
              recorded; enforce: refused.",
};

/// Values of secrets in the text of a statement.
pub static LITERAL_SECRET: Guardrail = Guardrail {
    name: "literal_secret",
    default: State::Warn,
    scope: Scope::Organization,
    meaning: "A value of a secret within the text of the statement that stores it, rather than a bind parameter. warn: \
              a WARNING; enforce: refused.",
};

/// New tables with an organization column in a protected schema.
pub static NEW_TABLES: Guardrail = Guardrail {
    name: "new_tables",
    default: State::Warn,
    scope: Scope::Database,
    meaning: "A table with an organization column that comes into a protected schema. warn: a WARNING; enforce: it is \
              protected at once, or the transaction cannot commit.",
};

/// Reveals by an operator who assumed an organization without a token.
pub static OPERATOR_REVEAL: Guardrail = Guardrail {
    name: "operator_reveal",
    default: State::Enforce,
    scope: Scope::Organization,
    meaning: "A reveal of a secret by an operator who assumed the organization without a token. warn: a WARNING; \
              enforce: refused.",
};

/// Reviews that nobody closes in time.
pub static OVERDUE_REVIEW: Guardrail = Guardrail {
    name: "overdue_review",
    default: State::Warn,
    scope: Scope::Organization,
    meaning: "A review that is due and not closed. warn: recorded, with an alert; enforce: tenancy.settle_due closes \
        it \
              with what is decided.",
};

/// Reveals of a value whose rotation is overdue.
pub static OVERDUE_ROTATION: Guardrail = Guardrail {
    name: "overdue_rotation",
    default: State::Warn,
    scope: Scope::Organization,
    meaning: "A reveal of a current value that is older than its rotate_every, by a role that may not rotate it. \
              warn: a WARNING; enforce: refused.",
};

/// Statements that remove something that `tenancy.protect` created.
pub static PROTECTED_TABLES: Guardrail = Guardrail {
    name: "protected_tables",
    default: State::Enforce,
    scope: Scope::Database,
    meaning: "A statement that takes from a table what tenancy.protect made. warn: a WARNING; enforce: refused.",
};

/// Versions of secrets that were revealed lately.
pub static RETIRE_IN_USE: Guardrail = Guardrail {
    name: "retire_in_use",
    default: State::Enforce,
    scope: Scope::Organization,
    meaning: "tenancy.retire of a version of a secret that was revealed within its observe_for. warn: a WARNING; \
              enforce: refused.",
};

/// Access to protected tables by roles that row-level security does not bind.
pub static ROW_SECURITY_BYPASS: Guardrail = Guardrail {
    name: "row_security_bypass",
    default: State::Off,
    scope: Scope::Database,
    meaning: "A superuser or a role with BYPASSRLS that reads or writes a protected table without having assumed an \
              organization. warn: a WARNING; enforce: refused.",
};

/// Approvals of an action type by the person who asked for it.
pub static SELF_APPROVED_ACTION: Guardrail = Guardrail {
    name: "self_approved_action",
    default: State::Enforce,
    scope: Scope::Organization,
    meaning: "An approval of an action type by the person who asked for it. warn: a WARNING; enforce: \
              refused.",
};

/// Approvals of a break-glass grant by the person who asked for it, or who uses it.
pub static SELF_APPROVED_BREAK_GLASS: Guardrail = Guardrail {
    name: "self_approved_break_glass",
    default: State::Enforce,
    scope: Scope::Organization,
    meaning: "An approval of a break-glass grant by the person who asked for it, or who uses it. warn: a WARNING; \
              enforce: refused.",
};

/// Approvals of an exception by the person who asked for it, or who owns it.
pub static SELF_APPROVED_EXCEPTION: Guardrail = Guardrail {
    name: "self_approved_exception",
    default: State::Enforce,
    scope: Scope::Organization,
    meaning: "An approval of an exception by the person who asked for it, or who owns it. warn: a WARNING; enforce: \
              refused.",
};

/// EXPLAIN ANALYZE and statistics functions, used by members of `tenancy_application`.
pub static STATEMENT_STATISTICS: Guardrail = Guardrail {
    name: "statement_statistics",
    default: State::Enforce,
    scope: Scope::Database,
    meaning: "EXPLAIN ANALYZE and the functions below the pg_stat views, by a member of tenancy_application: they \
        tell how \
              many rows of other organizations were read. warn: a WARNING; enforce: refused.",
};

/// Break-glass that cannot be recorded durably.
pub static UNRECORDED_BREAK_GLASS: Guardrail = Guardrail {
    name: "unrecorded_break_glass",
    default: State::Enforce,
    scope: Scope::Organization,
    meaning: "Break-glass whose activation or statements cannot be recorded durably. off: the activation is recorded \
              in the transaction alone, which may roll back; warn: a WARNING beside that; enforce: refused.",
};

/// Reveals of secrets whose record cannot be made durable.
pub static UNRECORDED_REVEAL: Guardrail = Guardrail {
    name: "unrecorded_reveal",
    default: State::Enforce,
    scope: Scope::Organization,
    meaning: "A reveal of a secret that cannot be recorded durably: on a standby, or where the disk is full. off: \
              recorded in the transaction alone, which may roll back; warn: in the transaction and the server's log; \
              enforce: refused.",
};

/// Exceptions that a review has left undecided.
pub static UNREVIEWED_EXCEPTION: Guardrail = Guardrail {
    name: "unreviewed_exception",
    default: State::Warn,
    scope: Scope::Organization,
    meaning: "An exception that goes on although its review was closed without a decision about it, because its kind \
              says so. warn: a WARNING, recorded; enforce: it lapses.",
};

/// Break-glass for somebody whose last use nobody has signed off.
pub static UNSIGNED_BREAK_GLASS: Guardrail = Guardrail {
    name: "unsigned_break_glass",
    default: State::Warn,
    scope: Scope::Organization,
    meaning: "A request for break-glass for a person who has used a grant that is past its sign_off_within. warn: a \
              WARNING; enforce: refused.",
};

/// Reveals of a value that no health report proves.
pub static UNVERIFIED_SECRET: Guardrail = Guardrail {
    name: "unverified_secret",
    default: State::Off,
    scope: Scope::Organization,
    meaning: "A reveal of a value that no health report proves, by a role that may neither report nor rotate it. \
              warn: a WARNING; enforce: refused.",
};

/// Every guardrail, in the order of their names.
pub static ALL: [&Guardrail; 22] = [
    &CROSS_TENANT_CHANGE,
    &DORMANT_MEMBER,
    &FAILED_ROTATION,
    &GRANT_UNDER_ELEVATION,
    &LAST_ADMIN,
    &LITERAL_SECRET,
    &NEW_TABLES,
    &OPERATOR_REVEAL,
    &OVERDUE_REVIEW,
    &OVERDUE_ROTATION,
    &PROTECTED_TABLES,
    &RETIRE_IN_USE,
    &ROW_SECURITY_BYPASS,
    &SELF_APPROVED_ACTION,
    &SELF_APPROVED_BREAK_GLASS,
    &SELF_APPROVED_EXCEPTION,
    &STATEMENT_STATISTICS,
    &UNRECORDED_BREAK_GLASS,
    &UNRECORDED_REVEAL,
    &UNREVIEWED_EXCEPTION,
    &UNSIGNED_BREAK_GLASS,
    &UNVERIFIED_SECRET,
];

/// The guardrails that a break-glass grant may pass. Those of four eyes, of recording and of the last admin are none of
/// them, nor, but for one, those of the whole database.
pub static PASSABLE: [&Guardrail; 6] =
    [&FAILED_ROTATION, &LITERAL_SECRET, &OVERDUE_ROTATION, &PROTECTED_TABLES, &RETIRE_IN_USE, &UNVERIFIED_SECRET];

/// The guardrail with this name.
///
/// Errors: [`error::NOT_FOUND`], which lists the names that there are.
pub fn find(name: &str) -> Result<&'static Guardrail> {
    ALL.into_iter().find(|guardrail| guardrail.name == name).ok_or_else(|| {
        let names: Vec<&str> = ALL.iter().map(|guardrail| guardrail.name).collect();
        error::NOT_FOUND
            .error(format!("there is no guardrail \"{name}\""))
            .detail(format!("There are: {}.", names.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_as_it_is_written() {
        for state in [State::Off, State::Warn, State::Enforce] {
            assert_eq!(State::parse(state.name()), Some(state));
        }
        assert_eq!(State::parse("ENFORCE"), None);
    }

    #[test]
    fn no_grant_passes_four_eyes_or_recording_or_the_last_admin() {
        for guardrail in PASSABLE {
            let name = guardrail.name;
            let never =
                ["self_approved", "unrecorded", "unsigned", "last_admin", "under_elevation", "unreviewed", "dormant"];
            assert!(ALL.contains(&guardrail) && !never.iter().any(|part| name.contains(part)), "{name}");
            assert!(guardrail.scope == Scope::Organization || name == "protected_tables");
        }
    }

    #[test]
    fn the_guardrails_are_in_order_and_documented() {
        assert!(ALL.is_sorted_by_key(|guardrail| guardrail.name));
        let page = include_str!("../../../docs/guardrails.md");
        for guardrail in ALL {
            let row = format!("| `{}` | `{}` |", guardrail.name, guardrail.default.name());
            assert!(page.contains(&row), "docs/guardrails.md lacks {row}");
        }
    }
}
