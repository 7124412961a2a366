//! The rows of `tenancy.event` and `tenancy.event_actor`: a list of columns for each, and a type for a row of events.
//!
//! The library writes and reads both tables by position. The lists here determine names, positions, types and the text
//! of a SELECT; `tests/audit.rs` compares them with `pg_attribute`. A new column needs a line here, a field of
//! [`EventRow`], and a line in each function of `src/audit/log/event_row.rs`, which the compiler enforces.

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
    /// The columns of `tenancy.event`.
    EventColumn,
    /// The columns of `tenancy.event` under an alias, in order, for a SELECT.
    event_columns:
    Id "id" "uuid" "",
    Organization "organization" "uuid" "",
    Actor "actor" "uuid" "",
    Transaction "transaction" "xid8" "",
    Ordinal "ordinal" "integer" "",
    OccurredAt "occurred_at" "timestamp with time zone" "",
    Operation "operation" "text" "",
    Domain "domain" "text" "",
    TableSchema "table_schema" "text" "",
    TableName "table_name" "text" "",
    RowKey "row_key" "json" "::text",
    Result "result" "text" "",
    Reason "reason" "text" "",
    Payload "payload" "json" "::text",
    PayloadSalt "payload_salt" "bytea" "",
    PayloadDigest "payload_digest" "bytea" "",
    Encoding "encoding" "smallint" "",
    PreviousHash "prev_hash" "bytea" "",
    Hash "hash" "bytea" "",
    BatchEnd "batch_end" "uuid" "",
    BatchEvents "batch_events" "integer" "",
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
}

/// A row of `tenancy.event` without the columns that no hash covers (`batch_end`, `batch_events`).
///
/// `T` is the type of texts and `B` that of the salt. Verification borrows both from a page; a row that outlives its
/// page owns them.
#[derive(Debug, Clone)]
pub struct EventRow<T, B> {
    /// Time-ordered id (UUID version 7).
    pub id: Uuid,
    /// The organization of the changed row; the nil UUID for no organization.
    pub organization: Uuid,
    /// Id of the actor, the key of `tenancy.event_actor`.
    pub actor: Uuid,
    /// The 64-bit id of the top-level transaction.
    pub transaction: u64,
    /// The place among the events of the same transaction and organization, from 1.
    pub ordinal: i32,
    /// Time of the change by the server's clock, in microseconds since 1970 UTC.
    pub occurred_at: i64,
    /// The operation, such as `insert`, `update`, `delete` or `truncate`.
    pub operation: T,
    /// Domain in the permission matrix.
    pub domain: T,
    /// Schema of the changed table; absent for an event about no table.
    pub table_schema: Option<T>,
    /// Name of the changed table; absent for an event about no table.
    pub table_name: Option<T>,
    /// The primary key of the row as the text of a JSON object.
    pub row_key: Option<T>,
    /// `success`, `denied` or `failed`.
    pub result: T,
    /// The stated reason, for operations that require one.
    pub reason: Option<T>,
    /// Old and new values as JSON text; absent together with the salt after an erasure.
    pub payload: Option<T>,
    /// 16 random bytes, without which the digest does not reveal an erased payload.
    pub payload_salt: Option<B>,
    /// Digest of salt and payload.
    pub payload_digest: Digest,
    /// Version of the encoding of the hashed records.
    pub encoding: i16,
    /// Hash of the previous event in the same transaction and organization, or the newest sealed head.
    pub previous: Digest,
    /// Hash over the header, the payload's digest and `previous`.
    pub hash: Digest,
}

impl<T: AsRef<str>, B> EventRow<T, B> {
    /// The part of the row that the hash covers beside the payload and the previous event.
    pub fn header<'a>(&'a self, actor_digest: &'a Digest) -> Header<'a> {
        let text = |text: &'a Option<T>| text.as_ref().map(AsRef::as_ref);
        Header {
            id: self.id,
            organization: self.organization,
            actor: self.actor,
            actor_digest,
            transaction: self.transaction,
            ordinal: self.ordinal,
            occurred_at: self.occurred_at,
            operation: self.operation.as_ref(),
            domain: self.domain.as_ref(),
            table_schema: text(&self.table_schema),
            table_name: text(&self.table_name),
            row_key: text(&self.row_key),
            result: self.result.as_ref(),
            reason: text(&self.reason),
        }
    }

    /// The hash that the content of the row requires; an unchanged row has the same in `hash`.
    pub fn content_hash(&self, actor_digest: &Digest) -> Digest {
        self.header(actor_digest).hash(&self.payload_digest, &self.previous)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_of_columns_number_from_one_and_read_json_as_text() {
        assert_eq!((EventColumn::Id.number(), EventColumn::BatchEvents.number()), (1, EventColumn::COUNT));
        assert_eq!(ActorColumn::ApplicationName.number(), ActorColumn::COUNT);
        let text = event_columns!("e");
        assert!(
            text.starts_with("e.id, e.organization, ") && text.contains(", e.payload::text, e.payload_salt, "),
            "{text}"
        );
        assert_eq!(text.split(", ").count(), EventColumn::COUNT);
        assert_eq!(actor_columns!("a").split(", ").count(), ActorColumn::COUNT);
    }
}
