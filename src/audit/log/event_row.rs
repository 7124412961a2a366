//! Rows of `tenancy.event` and `tenancy.event_actor`, written and read by the positions that the core lists.

use crate::pg::spi::Row;
use crate::pg::tables::scan::Fields;
use crate::pg::tables::table::ColumnValue;
use pg_tenancy_core::audit::format::event::Actor;
use pg_tenancy_core::audit::format::event_row::{ActorColumn, EventColumn, EventRow};
use uuid::Uuid;

/// An event that owns its texts.
pub type OwnedEvent = EventRow<String, Vec<u8>>;

/// The values of an event's row. `batch` stands in one event of those that are written at once: the highest id of
/// them, and how many they are.
pub fn event_values<'a>(
    event: &'a EventRow<String, [u8; 16]>,
    batch: Option<&'a (Uuid, i32)>,
) -> [ColumnValue<'a>; EventColumn::COUNT] {
    EventColumn::ALL.map(|column| match column {
        EventColumn::Id => ColumnValue::Uuid(&event.id),
        EventColumn::Organization => ColumnValue::Uuid(&event.organization),
        EventColumn::Actor => ColumnValue::Uuid(&event.actor),
        EventColumn::Transaction => ColumnValue::TransactionId(event.transaction),
        EventColumn::Ordinal => ColumnValue::Integer(event.ordinal),
        EventColumn::OccurredAt => ColumnValue::Timestamp(event.occurred_at),
        EventColumn::Operation => ColumnValue::Text(&event.operation),
        EventColumn::Domain => ColumnValue::Text(&event.domain),
        EventColumn::TableSchema => ColumnValue::optional_text(event.table_schema.as_deref()),
        EventColumn::TableName => ColumnValue::optional_text(event.table_name.as_deref()),
        EventColumn::RowKey => ColumnValue::optional_text(event.row_key.as_deref()),
        EventColumn::Result => ColumnValue::Text(&event.result),
        EventColumn::Reason => ColumnValue::optional_text(event.reason.as_deref()),
        EventColumn::Payload => ColumnValue::optional_text(event.payload.as_deref()),
        EventColumn::PayloadSalt => {
            event.payload_salt.as_ref().map_or(ColumnValue::Null, |salt| ColumnValue::Bytes(salt))
        }
        EventColumn::PayloadDigest => ColumnValue::Bytes(&event.payload_digest),
        EventColumn::Encoding => ColumnValue::SmallInteger(event.encoding),
        EventColumn::PreviousHash => ColumnValue::Bytes(&event.previous),
        EventColumn::Hash => ColumnValue::Bytes(&event.hash),
        EventColumn::BatchEnd => batch.map_or(ColumnValue::Null, |(highest, _)| ColumnValue::Uuid(highest)),
        EventColumn::BatchEvents => batch.map_or(ColumnValue::Null, |(_, events)| ColumnValue::Integer(*events)),
    })
}

/// The values of an actor's row.
pub fn actor_values(actor: &Actor) -> [ColumnValue<'_>; ActorColumn::COUNT] {
    ActorColumn::ALL.map(|column| match column {
        ActorColumn::Id => ColumnValue::Uuid(&actor.id),
        ActorColumn::Method => ColumnValue::Text(&actor.method),
        ActorColumn::Subject => ColumnValue::optional_text(actor.subject.as_deref()),
        ActorColumn::Issuer => ColumnValue::optional_text(actor.issuer.as_deref()),
        ActorColumn::Role => ColumnValue::optional_text(actor.role.as_deref()),
        ActorColumn::Organization => actor.organization.as_ref().map_or(ColumnValue::Null, ColumnValue::Uuid),
        ActorColumn::SessionId => ColumnValue::optional_text(actor.session_id.as_deref()),
        ActorColumn::CorrelationId => ColumnValue::optional_text(actor.correlation_id.as_deref()),
        ActorColumn::Reason => ColumnValue::optional_text(actor.reason.as_deref()),
        ActorColumn::SessionUser => ColumnValue::Text(&actor.session_user),
        ActorColumn::CurrentUser => ColumnValue::Text(&actor.current_user),
        ActorColumn::ClientAddress => ColumnValue::optional_text(actor.client_address.as_deref()),
        ActorColumn::ApplicationName => ColumnValue::optional_text(actor.application_name.as_deref()),
    })
}

/// The event in a result that has `event_columns!` behind `before` other columns; `None` if it has a value that no
/// event has.
pub fn event(row: &Row, before: usize) -> Option<OwnedEvent> {
    use EventColumn as Column;
    let at = |column: Column| (before + column.number()) as i32;
    let text = |column| row.get::<String>(at(column));
    Some(EventRow {
        id: row.uuid(at(Column::Id))?,
        organization: row.uuid(at(Column::Organization))?,
        actor: row.uuid(at(Column::Actor))?,
        transaction: row.transaction(at(Column::Transaction))?,
        ordinal: row.get(at(Column::Ordinal))?,
        occurred_at: row.timestamp(at(Column::OccurredAt))?,
        operation: text(Column::Operation)?,
        domain: text(Column::Domain)?,
        table_schema: text(Column::TableSchema),
        table_name: text(Column::TableName),
        row_key: text(Column::RowKey),
        result: text(Column::Result)?,
        reason: text(Column::Reason),
        payload: text(Column::Payload),
        payload_salt: row.get::<&[u8]>(at(Column::PayloadSalt)).map(<[u8]>::to_vec),
        payload_digest: row.bytes(at(Column::PayloadDigest))?,
        encoding: row.get(at(Column::Encoding))?,
        previous: row.bytes(at(Column::PreviousHash))?,
        hash: row.bytes(at(Column::Hash))?,
    })
}

/// The actor in a result that has `actor_columns!` behind `before` other columns; `None` if it has a value that no
/// actor has.
pub fn actor(row: &Row, before: usize) -> Option<Actor> {
    use ActorColumn as Column;
    let at = |column: Column| (before + column.number()) as i32;
    let text = |column| row.get::<String>(at(column));
    Some(Actor {
        id: row.uuid(at(Column::Id))?,
        method: text(Column::Method)?,
        subject: text(Column::Subject),
        issuer: text(Column::Issuer),
        role: text(Column::Role),
        organization: row.uuid(at(Column::Organization)),
        session_id: text(Column::SessionId),
        correlation_id: text(Column::CorrelationId),
        reason: text(Column::Reason),
        session_user: text(Column::SessionUser)?,
        current_user: text(Column::CurrentUser)?,
        client_address: text(Column::ClientAddress),
        application_name: text(Column::ApplicationName),
    })
}

/// The event of a row where it stands in its page; `None` if it has a value that no event has.
pub fn event_in_page<'f>(fields: &Fields<'f>) -> Option<EventRow<&'f str, &'f [u8]>> {
    use EventColumn as Column;
    let text = |column: Column| fields.text(column.number());
    let optional = |column: Column| fields.optional_text(column.number());
    Some(EventRow {
        id: fields.uuid(Column::Id.number())?,
        organization: fields.uuid(Column::Organization.number())?,
        actor: fields.uuid(Column::Actor.number())?,
        transaction: fields.transaction(Column::Transaction.number())?,
        ordinal: fields.integer(Column::Ordinal.number())?,
        occurred_at: fields.timestamp(Column::OccurredAt.number())?,
        operation: text(Column::Operation)?,
        domain: text(Column::Domain)?,
        table_schema: optional(Column::TableSchema)?,
        table_name: optional(Column::TableName)?,
        row_key: optional(Column::RowKey)?,
        result: text(Column::Result)?,
        reason: optional(Column::Reason)?,
        payload: optional(Column::Payload)?,
        payload_salt: fields.bytes(Column::PayloadSalt.number()),
        payload_digest: fields.array(Column::PayloadDigest.number())?,
        encoding: fields.small_integer(Column::Encoding.number())?,
        previous: fields.array(Column::PreviousHash.number())?,
        hash: fields.array(Column::Hash.number())?,
    })
}

/// The actor of a row where it stands in its page; `None` if it has a value that no actor has.
pub fn actor_in_page(fields: &Fields) -> Option<Actor> {
    use ActorColumn as Column;
    let text = |column: Column| fields.text(column.number()).map(str::to_owned);
    let optional = |column: Column| Some(fields.optional_text(column.number())?.map(str::to_owned));
    Some(Actor {
        id: fields.uuid(Column::Id.number())?,
        method: text(Column::Method)?,
        subject: optional(Column::Subject)?,
        issuer: optional(Column::Issuer)?,
        role: optional(Column::Role)?,
        organization: fields.uuid(Column::Organization.number()),
        session_id: optional(Column::SessionId)?,
        correlation_id: optional(Column::CorrelationId)?,
        reason: optional(Column::Reason)?,
        session_user: text(Column::SessionUser)?,
        current_user: text(Column::CurrentUser)?,
        client_address: optional(Column::ClientAddress)?,
        application_name: optional(Column::ApplicationName)?,
    })
}
