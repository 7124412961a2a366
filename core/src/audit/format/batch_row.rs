//! The rows of `tenancy.event_batch` and `tenancy.event_actor`: a list of columns for each, and a type for a batch.
//!
//! The library writes and reads both tables by position. The lists here determine names, positions, types and the text
//! of a SELECT; `tests/audit.rs` compares them with `pg_attribute`. A new column needs a line here, a field of
//! [`BatchRow`], and a line in each function of `src/audit/log/batch_row.rs`, which the compiler enforces.

use super::batch::{Malformed, Packed, PackedContent, PackedEvent};
use super::encoding::Digest;
use super::event::Header;
use uuid::Uuid;

/// Declares the columns of a table, in order: an enum of them, and a macro that lists them for a SELECT from an alias.
///
/// JSON is read as the stored text, because the text is hashed.
macro_rules! table_columns {
    (
        $dollar:tt $(#[$doc:meta])* $columns:ident, $(#[$select_doc:meta])* $select:ident:
        $first:ident $first_name:literal $first_type:literal $first_cast:literal,
        $($column:ident $name:literal $data_type:literal $cast:literal,)+
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $columns {
            #[doc = concat!("`", $first_name, "`, of type `", $first_type, "`.")]
            $first,
            $(#[doc = concat!("`", $name, "`, of type `", $data_type, "`.")] $column),+
        }

        impl $columns {
            /// The number of columns.
            pub const COUNT: usize = Self::ALL.len();

            /// All columns, in the order of the table.
            pub const ALL: [Self; [$first_name, $($name),+].len()] = [Self::$first, $(Self::$column),+];

            /// The number of the column, from 1, as `pg_attribute.attnum`.
            pub const fn number(self) -> usize {
                self as usize + 1
            }

            /// The name of the column in SQL.
            pub const fn name(self) -> &'static str {
                match self {
                    Self::$first => $first_name,
                    $(Self::$column => $name),+
                }
            }

            /// The type of the column, as `format_type` prints it.
            pub const fn data_type(self) -> &'static str {
                match self {
                    Self::$first => $first_type,
                    $(Self::$column => $data_type),+
                }
            }
        }

        $(#[$select_doc])*
        #[macro_export]
        macro_rules! $select {
            ($dollar alias:literal) => {
                concat!($dollar alias, ".", $first_name, $first_cast $(, ", ", $dollar alias, ".", $name, $cast)+)
            };
        }
    };
}

table_columns! {
    $
    /// The columns of `tenancy.event_batch`.
    BatchColumn,
    /// The columns of `tenancy.event_batch` under an alias, in order, for a SELECT.
    batch_columns:
    Id "id" "uuid" "",
    Organization "organization" "uuid" "",
    Actor "actor" "uuid" "",
    Transaction "transaction" "xid8" "",
    Ordinal "ordinal" "integer" "",
    Events "events" "integer" "",
    OccurredAt "occurred_at" "timestamp with time zone" "",
    Operation "operation" "text" "",
    Domain "domain" "text" "",
    TableSchema "table_schema" "text" "",
    TableName "table_name" "text" "",
    Result "result" "text" "",
    Reason "reason" "text" "",
    RowKey "row_key" "json" "::text",
    Payload "payload" "json" "::text",
    PayloadSalt "payload_salt" "bytea" "",
    PayloadDigest "payload_digest" "bytea" "",
    Packed "packed" "bytea" "",
    RowHashes "row_hashes" "bytea" "",
    Encoding "encoding" "smallint" "",
    PreviousHash "prev_hash" "bytea" "",
    Hash "hash" "bytea" "",
}

table_columns! {
    $
    /// The columns of `tenancy.event_actor`.
    ActorColumn,
    /// The columns of `tenancy.event_actor` under an alias, in order, for a SELECT.
    actor_columns:
    Id "id" "uuid" "",
    Method "method" "text" "",
    Subject "subject" "text" "",
    Issuer "issuer" "text" "",
    Role "role" "text" "",
    Organization "organization" "uuid" "",
    SessionId "session_id" "text" "",
    CorrelationId "correlation_id" "text" "",
    Reason "reason" "text" "",
    SessionUser "session_user_name" "text" "",
    CurrentUser "current_user_name" "text" "",
    ClientAddress "client_address" "text" "",
    ApplicationName "application_name" "text" "",
    Grant "grant_id" "uuid" "",
}

/// A row of `tenancy.event_batch`: the events of one statement that have organization, actor, operation and table in
/// common.
///
/// A batch of one event has key and payload in columns of their own, and any other has them in `packed`. `T` is the
/// type of texts and `B` that of bytes. Verification borrows both from a page; a row that outlives its page owns them.
#[derive(Debug, Clone)]
pub struct BatchRow<T, B> {
    /// Id of the batch and of its first event (UUID version 7).
    pub id: Uuid,
    /// The organization of the changed rows; the nil UUID for no organization.
    pub organization: Uuid,
    /// Id of the actor, the key of `tenancy.event_actor`.
    pub actor: Uuid,
    /// The 64-bit id of the top-level transaction.
    pub transaction: u64,
    /// The place of the first event among those of the same transaction and organization, from 1.
    pub ordinal: i32,
    /// The number of events.
    pub events: i32,
    /// Time of the first change by the server's clock, in microseconds since 1970 UTC.
    pub occurred_at: i64,
    /// The operation, such as `insert`, `update`, `delete` or `truncate`.
    pub operation: T,
    /// Domain in the permission matrix.
    pub domain: T,
    /// Schema of the changed table; absent for events about no table.
    pub table_schema: Option<T>,
    /// Name of the changed table; absent for events about no table.
    pub table_name: Option<T>,
    /// `success`, `denied` or `failed`.
    pub result: T,
    /// The stated reason, for operations that require one.
    pub reason: Option<T>,
    /// The primary key of the row as the text of a JSON object, in a batch of one event.
    pub row_key: Option<T>,
    /// Old and new values as JSON text, in a batch of one event; absent together with the salt after an erasure.
    pub payload: Option<T>,
    /// 16 random bytes, without which the digest does not reveal an erased payload.
    pub payload_salt: Option<B>,
    /// Digest of salt and payload, in a batch of one event.
    pub payload_digest: Option<Digest>,
    /// Times, keys and payloads of several events, as [`super::batch`] packs them.
    pub packed: Option<B>,
    /// Hashes of the keys of the rows, by which the batch is found. The hash of the batch does not cover them.
    pub row_hashes: Option<B>,
    /// Version of the encoding of the hashed records.
    pub encoding: i16,
    /// Hash of the previous batch in the same transaction and organization, or the newest sealed head.
    pub previous: Digest,
    /// Hash over the header, the root over the events, and `previous`.
    pub hash: Digest,
}

impl<T: AsRef<str>, B> BatchRow<T, B> {
    /// The part of the row that the hash covers beside the events and the previous batch.
    pub fn header<'a>(&'a self, actor_digest: &'a Digest) -> Header<'a> {
        let text = |text: &'a Option<T>| text.as_ref().map(AsRef::as_ref);
        Header {
            id: self.id,
            organization: self.organization,
            actor: self.actor,
            actor_digest,
            transaction: self.transaction,
            ordinal: self.ordinal,
            events: self.events,
            operation: self.operation.as_ref(),
            domain: self.domain.as_ref(),
            table_schema: text(&self.table_schema),
            table_name: text(&self.table_name),
            result: self.result.as_ref(),
            reason: text(&self.reason),
        }
    }
}

/// The events of a batch, wherever they are stored.
pub enum BatchEvents<'a> {
    /// The only one, in the columns of the row. The digest of its payload is not compared with the payload.
    One(PackedEvent<'a>),
    /// Several, packed.
    Several(Packed<'a>),
}

impl BatchEvents<'_> {
    /// The events in their order; `occurred_at` is the time of the batch.
    ///
    /// Errors: the packed ones are malformed.
    pub fn list(&self, occurred_at: i64) -> Result<Vec<PackedEvent<'_>>, Malformed> {
        match self {
            BatchEvents::One(event) => Ok(vec![*event]),
            BatchEvents::Several(packed) => packed.events(occurred_at),
        }
    }
}

impl<T: AsRef<str>, B: AsRef<[u8]>> BatchRow<T, B> {
    /// The events of the row.
    ///
    /// Errors: the row has neither one event nor packed ones, or both; or the packed ones are malformed.
    pub fn events(&self) -> Result<BatchEvents<'_>, Malformed> {
        let row_key = self.row_key.as_ref().map(AsRef::as_ref);
        let (payload, salt) = (self.payload.as_ref(), self.payload_salt.as_ref());
        let content = match (self.events, &self.packed, payload, salt, self.payload_digest) {
            (1, None, Some(text), Some(salt), Some(_)) => {
                let salt = salt.as_ref().try_into().map_err(|_| Malformed::Invalid)?;
                PackedContent::Payload { salt, text: text.as_ref() }
            }
            (1, None, None, None, Some(digest)) => PackedContent::Erased(digest),
            (2.., Some(packed), None, None, None) if row_key.is_none() => {
                return Packed::open(packed.as_ref(), self.events).map(BatchEvents::Several);
            }
            _ => return Err(Malformed::Columns),
        };
        Ok(BatchEvents::One(PackedEvent { occurred_at: self.occurred_at, row_key, content }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_of_columns_number_from_one_and_read_json_as_text() {
        assert_eq!((BatchColumn::Id.number(), BatchColumn::Hash.number()), (1, BatchColumn::COUNT));
        assert_eq!(ActorColumn::Grant.number(), ActorColumn::COUNT);
        let text = batch_columns!("e");
        assert!(
            text.starts_with("e.id, e.organization, ") && text.contains(", e.payload::text, e.payload_salt, "),
            "{text}"
        );
        assert_eq!(text.split(", ").count(), BatchColumn::COUNT);
        assert_eq!(actor_columns!("a").split(", ").count(), ActorColumn::COUNT);
    }
}
