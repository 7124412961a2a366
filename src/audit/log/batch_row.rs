//! Rows of `tenancy.event_batch` and `tenancy.event_actor`, written and read by the positions that the core lists.

use crate::pg::spi::Row;
use crate::pg::tables::scan::Fields;
use crate::pg::tables::table::ColumnValue;
use pg_tenancy_core::audit::format::batch_row::{ActorColumn, BatchColumn, BatchRow};
use pg_tenancy_core::audit::format::encoding::Digest;
use pg_tenancy_core::audit::format::event::Actor;

/// A batch that owns its texts.
pub type OwnedBatch = BatchRow<String, Vec<u8>>;

/// The values of a batch's row.
pub fn batch_values(batch: &OwnedBatch) -> [ColumnValue<'_>; BatchColumn::COUNT] {
    BatchColumn::ALL.map(|column| match column {
        BatchColumn::Id => ColumnValue::Uuid(&batch.id),
        BatchColumn::Organization => ColumnValue::Uuid(&batch.organization),
        BatchColumn::Actor => ColumnValue::Uuid(&batch.actor),
        BatchColumn::Transaction => ColumnValue::TransactionId(batch.transaction),
        BatchColumn::Ordinal => ColumnValue::Integer(batch.ordinal),
        BatchColumn::Events => ColumnValue::Integer(batch.events),
        BatchColumn::OccurredAt => ColumnValue::Timestamp(batch.occurred_at),
        BatchColumn::Operation => ColumnValue::Text(&batch.operation),
        BatchColumn::Domain => ColumnValue::Text(&batch.domain),
        BatchColumn::TableSchema => ColumnValue::optional_text(batch.table_schema.as_deref()),
        BatchColumn::TableName => ColumnValue::optional_text(batch.table_name.as_deref()),
        BatchColumn::Result => ColumnValue::Text(&batch.result),
        BatchColumn::Reason => ColumnValue::optional_text(batch.reason.as_deref()),
        BatchColumn::RowKey => ColumnValue::optional_text(batch.row_key.as_deref()),
        BatchColumn::Payload => ColumnValue::optional_text(batch.payload.as_deref()),
        BatchColumn::PayloadSalt => ColumnValue::optional_bytes(batch.payload_salt.as_deref()),
        BatchColumn::PayloadDigest => {
            ColumnValue::optional_bytes(batch.payload_digest.as_ref().map(<[u8; 32]>::as_slice))
        }
        BatchColumn::Packed => ColumnValue::optional_bytes(batch.packed.as_deref()),
        BatchColumn::RowHashes => ColumnValue::optional_bytes(batch.row_hashes.as_deref()),
        BatchColumn::Encoding => ColumnValue::SmallInteger(batch.encoding),
        BatchColumn::PreviousHash => ColumnValue::Bytes(&batch.previous),
        BatchColumn::Hash => ColumnValue::Bytes(&batch.hash),
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
        ActorColumn::Grant => actor.grant.as_ref().map_or(ColumnValue::Null, ColumnValue::Uuid),
    })
}

/// The batch in a result that has `batch_columns!` behind `before` other columns; `None` if it has a value that no
/// batch has.
pub fn batch(row: &Row, before: usize) -> Option<OwnedBatch> {
    use BatchColumn as Column;
    let at = |column: Column| (before + column.number()) as i32;
    let text = |column| row.get::<String>(at(column));
    let bytes = |column| row.get::<&[u8]>(at(column)).map(<[u8]>::to_vec);
    Some(BatchRow {
        id: row.uuid(at(Column::Id))?,
        organization: row.uuid(at(Column::Organization))?,
        actor: row.uuid(at(Column::Actor))?,
        transaction: row.transaction(at(Column::Transaction))?,
        ordinal: row.get(at(Column::Ordinal))?,
        events: row.get(at(Column::Events))?,
        occurred_at: row.timestamp(at(Column::OccurredAt))?,
        operation: text(Column::Operation)?,
        domain: text(Column::Domain)?,
        table_schema: text(Column::TableSchema),
        table_name: text(Column::TableName),
        result: text(Column::Result)?,
        reason: text(Column::Reason),
        row_key: text(Column::RowKey),
        payload: text(Column::Payload),
        payload_salt: bytes(Column::PayloadSalt),
        payload_digest: optional_digest(bytes(Column::PayloadDigest).as_deref())?,
        packed: bytes(Column::Packed),
        row_hashes: bytes(Column::RowHashes),
        encoding: row.get(at(Column::Encoding))?,
        previous: row.bytes(at(Column::PreviousHash))?,
        hash: row.bytes(at(Column::Hash))?,
    })
}

/// `None` for a value of another length.
fn optional_digest(bytes: Option<&[u8]>) -> Option<Option<Digest>> {
    bytes.map_or(Some(None), |bytes| bytes.try_into().ok().map(Some))
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
        grant: row.uuid(at(Column::Grant)),
    })
}

/// The batch of a row where it stands in its page; `None` if it has a value that no batch has.
pub fn batch_in_page<'f>(fields: &Fields<'f>) -> Option<BatchRow<&'f str, &'f [u8]>> {
    use BatchColumn as Column;
    let text = |column: Column| fields.text(column.number());
    let optional = |column: Column| fields.optional_text(column.number());
    Some(BatchRow {
        id: fields.uuid(Column::Id.number())?,
        organization: fields.uuid(Column::Organization.number())?,
        actor: fields.uuid(Column::Actor.number())?,
        transaction: fields.transaction(Column::Transaction.number())?,
        ordinal: fields.integer(Column::Ordinal.number())?,
        events: fields.integer(Column::Events.number())?,
        occurred_at: fields.timestamp(Column::OccurredAt.number())?,
        operation: text(Column::Operation)?,
        domain: text(Column::Domain)?,
        table_schema: optional(Column::TableSchema)?,
        table_name: optional(Column::TableName)?,
        result: text(Column::Result)?,
        reason: optional(Column::Reason)?,
        row_key: optional(Column::RowKey)?,
        payload: optional(Column::Payload)?,
        payload_salt: fields.bytes(Column::PayloadSalt.number()),
        payload_digest: optional_digest(fields.bytes(Column::PayloadDigest.number()))?,
        packed: fields.bytes(Column::Packed.number()),
        row_hashes: fields.bytes(Column::RowHashes.number()),
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
        grant: fields.uuid(Column::Grant.number()),
    })
}
