//! Sends what was refused to where no rollback reaches it, and writes its event there.
//!
//! Decision: `docs/decisions/33-refusal-messages.md`.

use super::append::{self, NewEvent};
use super::message_queue::deliver;
use crate::pg::transaction;
use pg_tenancy_core::audit::capture::ddl;
use pg_tenancy_core::audit::capture::refusal::Refusal;
use pg_tenancy_core::audit::format::event::Actor;
use pg_tenancy_core::error::{Error, Kind, Result};
use uuid::Uuid;

/// Who was refused, as far as it was verified.
#[derive(Default)]
pub struct Refused<'a> {
    pub organization: Option<Uuid>,
    pub subject: Option<&'a str>,
    pub issuer: Option<&'a str>,
    pub correlation_id: Option<&'a str>,
}

/// A sign-in was refused, or an operator's assumption of an organization. Nobody is in, so it is of no chain but
/// that of what concerns nobody: otherwise a stranger could write into any organization's.
pub fn sign_in_refused(operation: &str, error: &Error, whom: &Refused) {
    let actor = Actor {
        organization: whom.organization,
        subject: whom.subject.map(str::to_owned),
        issuer: whom.issuer.map(str::to_owned),
        correlation_id: whom.correlation_id.map(str::to_owned),
        ..append::describe_without_context()
    };
    send(None, operation, "identity", error, actor);
}

/// The role of the context may not do what it tried.
pub fn operation_refused(domain: &str, error: &Error) {
    if let Ok(actor) = append::describe_now() {
        send(actor.organization, "authorize", domain, error, actor);
    }
}

/// The same, of an error that is then returned.
pub fn refused(domain: &str, error: Error) -> Error {
    operation_refused(domain, &error);
    error
}

/// A guardrail refused a statement that would have taken protection away.
pub fn statement_refused(tag: &str, error: &Error) {
    if let Ok(actor) = append::describe_now() {
        send(None, &ddl::operation(tag), "schema", error, actor);
    }
}

fn send(organization: Option<Uuid>, operation: &str, domain: &str, error: &Error, actor: Actor) {
    let reason = format!("{}: {}", name(error.kind), error.message);
    let occurred_at = transaction::now();
    let refusal = Refusal {
        occurred_at,
        organization,
        operation: operation.into(),
        domain: domain.into(),
        reason: reason.into(),
        actor,
    };
    deliver("refused", &refusal.to_message());
}

fn name(kind: &Kind) -> String {
    kind.name.to_lowercase()
}

/// Writes the event of a refusal that came as a message.
pub fn record(refusal: Refusal) -> Result<()> {
    append::append_as(
        refusal.actor,
        refusal.occurred_at,
        NewEvent {
            organization: refusal.organization.unwrap_or_default(),
            operation: &refusal.operation,
            domain: &refusal.domain,
            table_schema: None,
            table_name: None,
            row_key: None,
            result: "denied",
            reason: Some(&refusal.reason),
            payload: "{}".into(),
        },
    )
}
