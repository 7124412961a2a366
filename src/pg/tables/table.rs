//! The extension's own tables, written without SQL.
//!
//! No role has INSERT on them, and a trigger must work in the name of whoever changes a row: so the rows are written
//! below the privilege system, the way Postgres writes its catalogs.

use super::catalog;
use crate::pg::backend_local::BackendLocal;
use crate::pg::report::raise;
use crate::pg::transaction;
use pg_tenancy_core::error;
use pgrx::{FromDatum, IntoDatum, PgMemoryContexts, PgTupleDesc, pg_sys, set_varsize_4b};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use uuid::Uuid;

const SCHEMA: &CStr = c"tenancy";

/// A value of a column.
#[derive(Debug, Clone, Copy)]
pub enum ColumnValue<'a> {
    Null,
    Uuid(&'a Uuid),
    /// `text` or `json`, which are stored alike.
    Text(&'a str),
    Bytes(&'a [u8]),
    SmallInteger(i16),
    Integer(i32),
    BigInteger(i64),
    TransactionId(u64),
    /// `timestamptz`, in microseconds since 1970.
    Timestamp(i64),
}

impl<'a> ColumnValue<'a> {
    pub fn optional_text(text: Option<&'a str>) -> Self {
        text.map_or(ColumnValue::Null, ColumnValue::Text)
    }

    pub fn optional_bytes(bytes: Option<&'a [u8]>) -> Self {
        bytes.map_or(ColumnValue::Null, ColumnValue::Bytes)
    }

    /// True for a column of a type that the value may be stored in.
    fn fits(&self, data_type: pg_sys::Oid) -> bool {
        let types: &[pg_sys::Oid] = match self {
            ColumnValue::Null => return true,
            ColumnValue::Uuid(_) => &[pg_sys::UUIDOID],
            ColumnValue::Text(_) => &[pg_sys::TEXTOID, pg_sys::JSONOID],
            ColumnValue::Bytes(_) => &[pg_sys::BYTEAOID],
            ColumnValue::SmallInteger(_) => &[pg_sys::INT2OID],
            ColumnValue::Integer(_) => &[pg_sys::INT4OID],
            ColumnValue::BigInteger(_) => &[pg_sys::INT8OID],
            ColumnValue::TransactionId(_) => &[pg_sys::XID8OID],
            ColumnValue::Timestamp(_) => &[pg_sys::TIMESTAMPTZOID],
        };
        types.contains(&data_type)
    }

    /// The value as Postgres passes it; those of variable length are written into `varlenas`, and good as long as it
    /// is.
    fn datum(self, varlenas: &mut Varlenas) -> Option<pg_sys::Datum> {
        match self {
            ColumnValue::Null => None,
            // Postgres copies what the pointer points at; the id outlives the call.
            ColumnValue::Uuid(id) => Some(pg_sys::Datum::from(id.as_bytes().as_ptr())),
            ColumnValue::Text(text) => Some(varlenas.put(text.as_bytes())),
            ColumnValue::Bytes(bytes) => Some(varlenas.put(bytes)),
            ColumnValue::SmallInteger(number) => number.into_datum(),
            ColumnValue::Integer(number) => number.into_datum(),
            ColumnValue::BigInteger(number) => number.into_datum(),
            ColumnValue::TransactionId(id) => Some(pg_sys::Datum::from(id)),
            ColumnValue::Timestamp(time) => Some(pg_sys::Datum::from(transaction::to_timestamptz(time))),
        }
    }
}

/// Values of variable length of one row, in memory that is used again for the next one.
#[derive(Default)]
struct Varlenas(Vec<u64>);

impl Varlenas {
    const HEADER: usize = 4;

    fn words(bytes: &[u8]) -> usize {
        (Self::HEADER + bytes.len()).div_ceil(size_of::<u64>())
    }

    /// Forgets what is there, and makes room for the values at once: it must not move while pointers to it are in use.
    fn begin(&mut self, values: &[ColumnValue]) {
        let words = values.iter().map(|value| match value {
            ColumnValue::Text(text) => Self::words(text.as_bytes()),
            ColumnValue::Bytes(bytes) => Self::words(bytes),
            _ => 0,
        });
        self.0.clear();
        self.0.reserve(words.sum());
    }

    fn put(&mut self, bytes: &[u8]) -> pg_sys::Datum {
        let (start, words) = (self.0.len(), Self::words(bytes));
        // Postgres has no value of 1 GiB: what is too long is cut, rather than to overwrite what is behind.
        let length = (Self::HEADER + bytes.len()).min(0x3fff_ffff);
        assert!(start + words <= self.0.capacity());
        self.0.resize(start + words, 0);
        // SAFETY: the words are there, and have room for header and bytes; u64 is aligned for a header.
        unsafe {
            let value = self.0.as_mut_ptr().add(start).cast::<u8>();
            set_varsize_4b(value.cast(), length as i32);
            let bytes = &bytes[..length - Self::HEADER];
            value.add(Self::HEADER).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            pg_sys::Datum::from(value)
        }
    }
}

/// Appends a row to `tenancy.<table>`; `values` are its columns in order.
pub fn insert(table: &CStr, values: &[ColumnValue]) {
    let mut varlenas = Varlenas::default();
    let command = current_command();
    // SAFETY: the slot is of the table, and dropped when its row is everywhere.
    with_table(table, values.len(), |relation, indexes| unsafe {
        check_types((*relation).rd_att, values);
        let slot = pg_sys::MakeSingleTupleTableSlot((*relation).rd_att, &pg_sys::TTSOpsHeapTuple);
        let tuple = store(slot, values, &mut varlenas);
        pg_sys::heap_insert(relation, tuple, command, 0, std::ptr::null_mut());
        (*slot).tts_tid = (*tuple).t_self;
        insert_into_indexes(relation, indexes, slot);
        pg_sys::ExecDropSingleTupleTableSlot(slot);
    });
}

/// How many rows go to the table access method at a time: enough for some pages, and few enough that their memory is
/// small and used again.
const ROWS_AT_A_TIME: usize = 128;

/// Nothing is ever deleted from these tables, so no page but the last one has room, and none is looked for.
const SKIP_FSM: i32 = pg_sys::TABLE_INSERT_SKIP_FSM as i32;

/// Appends rows to `tenancy.<table>`, many at a time: one record of WAL for a page of them, indexes opened once.
pub fn insert_all<T, const N: usize>(
    table: &CStr,
    rows: &[T],
    columns: impl for<'a> Fn(&'a T) -> [ColumnValue<'a>; N],
) {
    if let [row] = rows {
        return insert(table, &columns(row));
    }
    let (mut memory, mut varlenas) = (PgMemoryContexts::new("pg_tenancy rows"), Varlenas::default());
    let command = current_command();
    // SAFETY: as in `insert`; tuples live in a memory of their own, which is emptied when no slot points to them any
    // more. CatalogTuplesMultiInsertWithInfo (indexing.c) is not used, because it loses the place of a tuple with a
    // value out of line.
    with_table(table, N, |relation, indexes| unsafe {
        // A column has one type, whatever the row.
        rows.first().into_iter().for_each(|row| check_types((*relation).rd_att, &columns(row)));
        let slot = |_| pg_sys::MakeSingleTupleTableSlot((*relation).rd_att, &pg_sys::TTSOpsHeapTuple);
        let mut slots: Vec<_> = (0..rows.len().min(ROWS_AT_A_TIME)).map(slot).collect();
        for rows in rows.chunks(ROWS_AT_A_TIME) {
            memory.switch_to(|_| {
                for (row, slot) in rows.iter().zip(&slots) {
                    store(*slot, &columns(row), &mut varlenas);
                }
                let count = rows.len() as i32;
                pg_sys::heap_multi_insert(relation, slots.as_mut_ptr(), count, command, SKIP_FSM, std::ptr::null_mut());
                for slot in &slots[..rows.len()] {
                    insert_into_indexes(relation, indexes, *slot);
                    clear(*slot);
                }
            });
            memory.reset();
        }
        for slot in slots {
            pg_sys::ExecDropSingleTupleTableSlot(slot);
        }
    });
}

fn current_command() -> pg_sys::CommandId {
    // SAFETY: within a statement of the transaction; marks the command as one that writes.
    unsafe { pg_sys::GetCurrentCommandId(true) }
}

/// An index of all rows.
struct OpenIndex {
    relation: pg_sys::Relation,
    info: *mut pg_sys::IndexInfo,
}

/// Opens a table of the extension with its indexes, for rows of so many columns.
fn with_table(table: &CStr, columns: usize, write: impl FnOnce(pg_sys::Relation, &[OpenIndex])) {
    // SAFETY: the relation is open under the lock that INSERT takes until the end of the transaction; its rows have
    // as many columns as the caller's, which is checked. NOT NULL and the lengths of hashes are ensured by the
    // callers' types.
    unsafe {
        let relation = pg_sys::table_open(oid(table), pg_sys::RowExclusiveLock as i32);
        if (*(*relation).rd_att).natts as usize != columns {
            let message = format!("table tenancy.{} is not of this version of pg_tenancy", table.to_string_lossy());
            raise(error::STATE_INVALID.error(message));
        }
        with_indexes(relation, |indexes| write(relation, indexes));
        pg_sys::table_close(relation, pg_sys::NoLock as i32);
    }
}

/// Opens the indexes of a table of the extension.
///
/// # Safety
/// The relation is open for writing.
unsafe fn with_indexes(relation: pg_sys::Relation, write: impl FnOnce(&[OpenIndex])) {
    // SAFETY: as promised; opened and closed in pairs, and as many as the state says.
    unsafe {
        let state = pg_sys::CatalogOpenIndexes(relation);
        let index = |n: usize| {
            let info = *(*state).ri_IndexRelationInfo.add(n);
            check_index(&*info);
            OpenIndex { relation: *(*state).ri_IndexRelationDescs.add(n), info }
        };
        let indexes: Vec<OpenIndex> = (0..(*state).ri_NumIndices as usize).map(index).collect();
        write(&indexes);
        pg_sys::CatalogCloseIndexes(state);
    }
}

/// Refuses an index that somebody added and that needs what is not evaluated here.
fn check_index(index: &pg_sys::IndexInfo) {
    let needs_nothing =
        index.ii_Expressions.is_null() && index.ii_ExclusionOps.is_null() && index.ii_Predicate.is_null();
    if !needs_nothing {
        let message = "a table of the audit has an index on an expression or with a predicate";
        raise(error::INDEX_UNSUITABLE.error(message));
    }
}

/// Puts a row into a slot of its table, which frees the tuple.
///
/// # Safety
/// The slot is of a table with as many columns as there are values, of types that were checked.
unsafe fn store(
    slot: *mut pg_sys::TupleTableSlot,
    values: &[ColumnValue],
    varlenas: &mut Varlenas,
) -> pg_sys::HeapTuple {
    const COLUMNS: usize = 32;
    let (mut datums, mut nulls) = ([pg_sys::Datum::null(); COLUMNS], [true; COLUMNS]);
    varlenas.begin(values);
    for ((value, datum), null) in values.iter().zip(&mut datums).zip(&mut nulls) {
        let given = value.datum(varlenas);
        *null = given.is_none();
        *datum = given.unwrap_or(pg_sys::Datum::null());
    }
    // SAFETY: as promised; no table of the extension has more columns than the arrays have places, which is checked.
    // The tuple is a copy of the values. A slot that does not own its tuple would be copied once more
    // (ExecFetchSlotHeapTuple).
    unsafe {
        let descriptor = (*slot).tts_tupleDescriptor;
        assert!((*descriptor).natts as usize <= COLUMNS);
        let tuple = pg_sys::heap_form_tuple(descriptor, datums.as_mut_ptr(), nulls.as_mut_ptr());
        pg_sys::ExecStoreHeapTuple(tuple, slot, true);
        tuple
    }
}

/// Refuses values for columns of other types, which heap_form_tuple would take for what they are not: a length, a
/// pointer.
///
/// # Safety
/// The descriptor is of a relation that is open.
unsafe fn check_types(descriptor: pg_sys::TupleDesc, values: &[ColumnValue]) {
    // SAFETY: as promised; wrapped without a reference of its own, and not kept.
    let descriptor = unsafe { PgTupleDesc::from_pg_unchecked(descriptor) };
    for (place, value) in values.iter().enumerate() {
        let fits = |column: &pg_sys::FormData_pg_attribute| !column.attisdropped && value.fits(column.atttypid);
        if !descriptor.get(place).is_some_and(fits) {
            raise(
                error::STATE_INVALID
                    .error("a table of schema tenancy has a column of another type than it was made with"),
            );
        }
    }
}

/// `ExecClearTuple` (executor/tuptable.h), which is inline in C.
///
/// # Safety
/// The slot is one that Postgres made.
unsafe fn clear(slot: *mut pg_sys::TupleTableSlot) {
    // SAFETY: as promised; every kind of slot has the function.
    unsafe {
        if let Some(clear) = (*(*slot).tts_ops).clear {
            clear(slot);
        }
    }
}

/// Makes a transaction that comes here wait for the end of another that did. Readers and writers of the table do not.
pub fn lock_against_itself(table: &CStr) {
    // SAFETY: locks a relation that is there until the end of the transaction.
    unsafe { pg_sys::LockRelationOid(oid(table), pg_sys::ShareUpdateExclusiveLock as i32) };
}

/// Makes DROP EXTENSION wait for the end of this transaction, before it locks anything else: a transaction that locks
/// several tables could otherwise deadlock with it.
pub fn keep_extension() {
    // SAFETY: a catalog lookup by a NUL-terminated name, and a lock that ends with the transaction.
    unsafe {
        let extension = pg_sys::get_extension_oid(c"pg_tenancy".as_ptr(), true);
        if extension != pg_sys::InvalidOid {
            let lock = pg_sys::AccessShareLock as i32;
            pg_sys::LockDatabaseObject(pg_sys::ExtensionRelationId, extension, 0, lock);
        }
    }
}

/// Gives columns (from 1) of a row of `tenancy.<table>`, which its primary key finds in the active snapshot, other
/// values. False if there is no such row or no such key.
///
/// Below SQL, because the append-only tables have triggers that let nobody do it. Others must be kept from changing the
/// row at the same time.
pub fn change(table: &CStr, key: IndexKey, changes: &[(i32, ColumnValue)]) -> bool {
    // SAFETY: relation and scan are opened and closed in pairs (an error in between is cleaned up by Postgres); the
    // key is of the type of the first column of the primary key and outlives the scan; the columns take the values
    // and are in no index, as the callers know. RelationGetIndexList fills rd_pkindex in (relcache.c).
    unsafe {
        let relation = pg_sys::table_open(oid(table), pg_sys::RowExclusiveLock as i32);
        pg_sys::list_free(pg_sys::RelationGetIndexList(relation));
        let index = (*relation).rd_pkindex;
        if index == pg_sys::InvalidOid {
            pg_sys::table_close(relation, pg_sys::NoLock as i32);
            return false;
        }
        let mut scan_key = key.scan_key();
        let snapshot = pg_sys::GetActiveSnapshot();
        let scan = pg_sys::systable_beginscan(relation, index, true, snapshot, 1, &mut scan_key);
        let tuple = pg_sys::systable_getnext(scan);
        let found = !tuple.is_null();
        if found {
            update(relation, tuple, changes);
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, pg_sys::NoLock as i32);
        found
    }
}

/// What `CatalogTupleUpdate` (indexing.c) does for a row of a catalog.
///
/// # Safety
/// The relation is open for writing, the tuple is a row of it.
unsafe fn update(relation: pg_sys::Relation, tuple: pg_sys::HeapTuple, changes: &[(i32, ColumnValue)]) {
    let mut varlenas = Varlenas::default();
    let given: Vec<ColumnValue> = changes.iter().map(|(_, value)| *value).collect();
    varlenas.begin(&given);
    let datums: Vec<_> = given.iter().map(|value| value.datum(&mut varlenas)).collect();
    let mut columns: Vec<i32> = changes.iter().map(|(column, _)| *column).collect();
    let mut values: Vec<_> = datums.iter().map(|datum| datum.unwrap_or(pg_sys::Datum::null())).collect();
    let mut nulls: Vec<bool> = datums.iter().map(Option::is_none).collect();
    let (count, columns) = (columns.len() as i32, columns.as_mut_ptr());
    let (values, nulls) = (values.as_mut_ptr(), nulls.as_mut_ptr());
    // SAFETY: as promised; the arrays have as many places as the count says. The new tuple is a copy, which the slot
    // frees.
    unsafe {
        let descriptor = (*relation).rd_att;
        let changed = pg_sys::heap_modify_tuple_by_cols(tuple, descriptor, count, columns, values, nulls);
        #[cfg(feature = "pg15")]
        pg_sys::simple_heap_update(relation, &mut (*tuple).t_self, changed);
        #[cfg(not(feature = "pg15"))]
        {
            let mut indexes = pg_sys::TU_UpdateIndexes::TU_None;
            pg_sys::simple_heap_update(relation, &mut (*tuple).t_self, changed, &mut indexes);
        }
        // A tuple that is reached through the one before it is in no index itself.
        if u32::from((*(*changed).t_data).t_infomask2) & pg_sys::HEAP_ONLY_TUPLE != 0 {
            return pg_sys::heap_freetuple(changed);
        }
        with_indexes(relation, |indexes| {
            let slot = pg_sys::MakeSingleTupleTableSlot(descriptor, &pg_sys::TTSOpsHeapTuple);
            pg_sys::ExecStoreHeapTuple(changed, slot, true);
            (*slot).tts_tid = (*changed).t_self;
            insert_into_indexes(relation, indexes, slot);
            pg_sys::ExecDropSingleTupleTableSlot(slot);
        });
    }
}

/// What `CatalogIndexInsert` (indexing.c) does for a row of a catalog.
///
/// # Safety
/// Relation and indexes are open; the slot holds a tuple that was inserted.
unsafe fn insert_into_indexes(relation: pg_sys::Relation, indexes: &[OpenIndex], slot: *mut pg_sys::TupleTableSlot) {
    let mut values = [pg_sys::Datum::null(); pg_sys::INDEX_MAX_KEYS as usize];
    let mut nulls = [false; pg_sys::INDEX_MAX_KEYS as usize];
    let (values, nulls) = (values.as_mut_ptr(), nulls.as_mut_ptr());
    // SAFETY: as promised; the arrays have as many places as an index can have columns; the slot is of heap tuples.
    unsafe {
        for index in indexes {
            let form = &*(*index.relation).rd_index;
            pg_sys::FormIndexDatum(index.info, slot, std::ptr::null_mut(), values, nulls);
            let unique = if form.indisunique {
                pg_sys::IndexUniqueCheck::UNIQUE_CHECK_YES
            } else {
                pg_sys::IndexUniqueCheck::UNIQUE_CHECK_NO
            };
            let place = &mut (*slot).tts_tid;
            pg_sys::index_insert(index.relation, values, nulls, place, relation, unique, false, index.info);
        }
    }
}

/// What a column of an index must equal; its datum points at the id that it borrows.
#[derive(Clone, Copy)]
pub struct IndexKey<'k> {
    /// The column's number in its table, from 1.
    column: i16,
    strategy: u32,
    comparison: pg_sys::Oid,
    datum: pg_sys::Datum,
    id: Option<&'k Uuid>,
}

impl<'k> IndexKey<'k> {
    pub fn uuid(column: i16, id: &'k Uuid) -> Self {
        let datum = pg_sys::Datum::from(id.as_bytes().as_ptr());
        IndexKey { id: Some(id), ..IndexKey::equal(column, pg_sys::F_UUID_EQ, Some(datum)) }
    }

    /// A column of collation "C", which is what a scan key made here compares by.
    pub fn text(column: i16, text: &str) -> Self {
        IndexKey::equal(column, pg_sys::F_TEXTEQ, text.into_datum())
    }

    pub fn big_integer(column: i16, number: i64) -> Self {
        IndexKey::equal(column, pg_sys::F_INT8EQ, number.into_datum())
    }

    pub fn integer(column: i16, number: i32) -> Self {
        IndexKey::equal(column, pg_sys::F_INT4EQ, number.into_datum())
    }

    pub fn small_integer(column: i16, number: i16) -> Self {
        IndexKey::equal(column, pg_sys::F_INT2EQ, number.into_datum())
    }

    fn equal(column: i16, comparison: u32, datum: Option<pg_sys::Datum>) -> Self {
        let datum = datum.unwrap_or(pg_sys::Datum::null());
        IndexKey { column, strategy: pg_sys::BTEqualStrategyNumber, comparison: comparison.into(), datum, id: None }
    }

    /// The same for what is equal or greater.
    pub fn or_more(self) -> Self {
        self.inequality(pg_sys::BTGreaterEqualStrategyNumber, pg_sys::F_UUID_GE, pg_sys::F_INT8GE)
    }

    /// The same for what is greater.
    pub fn more(self) -> Self {
        self.inequality(pg_sys::BTGreaterStrategyNumber, pg_sys::F_UUID_GT, pg_sys::F_INT8GT)
    }

    /// The same for what is equal or less.
    pub fn or_less(self) -> Self {
        self.inequality(pg_sys::BTLessEqualStrategyNumber, pg_sys::F_UUID_LE, pg_sys::F_INT8LE)
    }

    /// A key of a type without such a comparison stays as it is.
    fn inequality(self, strategy: u32, of_uuids: u32, of_integers: u32) -> Self {
        let comparison = match self.comparison.to_u32() {
            pg_sys::F_UUID_EQ => of_uuids,
            pg_sys::F_INT8EQ => of_integers,
            _ => return self,
        };
        IndexKey { strategy, comparison: comparison.into(), ..self }
    }

    /// The same key with its id, if it has one, at a place that outlives the key.
    pub(in crate::pg) fn scan_key_kept_in(&self, place: &mut Uuid) -> pg_sys::ScanKeyData {
        match self.id {
            Some(id) => {
                *place = *id;
                IndexKey { datum: pg_sys::Datum::from(place.as_bytes().as_ptr()), ..*self }.scan_key()
            }
            None => self.scan_key(),
        }
    }

    fn scan_key(&self) -> pg_sys::ScanKeyData {
        let mut key = pg_sys::ScanKeyData::default();
        // SAFETY: initializes the struct; the function is Postgres' own.
        unsafe { pg_sys::ScanKeyInit(&mut key, self.column, self.strategy as u16, self.comparison, self.datum) };
        key
    }
}

/// A row that a scan has found; alive only inside the callback that receives it.
pub struct Tuple {
    tuple: pg_sys::HeapTuple,
    descriptor: pg_sys::TupleDesc,
}

impl Tuple {
    /// The value of the column (from 1), copied; `None` for NULL.
    pub fn get<T: FromDatum>(&self, column: i32) -> Option<T> {
        let mut null = false;
        // SAFETY: the tuple is the scan's current one, which stays until the callback returns; the caller asks for the
        // type that the column has.
        unsafe {
            let datum = pg_sys::heap_getattr(self.tuple, column, self.descriptor, &mut null);
            T::from_datum(datum, null)
        }
    }

    /// The row as a value of the table's row type, copied.
    pub fn composite(&self) -> pg_sys::Datum {
        // SAFETY: as in `get`; what is stored out of line is brought into the copy.
        unsafe { pg_sys::heap_copy_tuple_as_datum(self.tuple, self.descriptor) }
    }

    /// A `uuid` column.
    pub fn uuid(&self, column: i32) -> Option<Uuid> {
        self.get::<pgrx::Uuid>(column).map(|id| Uuid::from_bytes(*id.as_bytes()))
    }

    /// A `timestamptz` column, in microseconds since 1970.
    pub fn timestamp(&self, column: i32) -> Option<i64> {
        self.get::<i64>(column).map(transaction::from_timestamptz)
    }
}

/// Hands each row of `tenancy.<table>` that `keys` find in `index` to `each`, with the active snapshot.
///
/// No SQL, no privileges, no policies: as queries, what `authenticate` reads in each transaction would cost several
/// times as much. `keys` are the first columns of the index.
pub fn find<T>(table: &CStr, index: &CStr, keys: &[IndexKey], mut each: impl FnMut(&Tuple) -> T) -> Vec<T> {
    let mut found = Vec::new();
    let mut scan_keys: Vec<pg_sys::ScanKeyData> = keys.iter().map(IndexKey::scan_key).collect();
    // SAFETY: relations and scan are opened and closed in pairs (an error in between is cleaned up by Postgres); the
    // keys name columns of the index by their numbers in the table (genam.c translates) and stay valid during the scan.
    unsafe {
        let relation = pg_sys::table_open(oid(table), pg_sys::AccessShareLock as i32);
        let snapshot = pg_sys::GetActiveSnapshot();
        let count = scan_keys.len() as i32;
        let scan = pg_sys::systable_beginscan(relation, oid(index), true, snapshot, count, scan_keys.as_mut_ptr());
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            found.push(each(&Tuple { tuple, descriptor: (*relation).rd_att }));
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
    }
    found
}

/// Reads `column` (from 1) of the last row of `tenancy.<table>` in the order of `index` under `key`.
///
/// Sees the newest committed state and takes no lock on rows.
pub fn last<T: FromDatum>(table: &CStr, index: &CStr, key: IndexKey, column: i32) -> Option<T> {
    // SAFETY: relations are opened and closed in pairs; the key is of the type of the index's first column, which it
    // names by its number in the table (genam.c translates), and stays valid during the scan; the tuple belongs to the
    // scan, and its value is copied before the end.
    unsafe {
        let relation = pg_sys::table_open(oid(table), pg_sys::AccessShareLock as i32);
        let index = pg_sys::index_open(oid(index), pg_sys::AccessShareLock as i32);
        let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
        let mut scan_key = key.scan_key();
        let scan = pg_sys::systable_beginscan_ordered(relation, index, snapshot, 1, &mut scan_key);
        let tuple = pg_sys::systable_getnext_ordered(scan, pg_sys::ScanDirection::BackwardScanDirection);
        let value = if tuple.is_null() { None } else { Tuple { tuple, descriptor: (*relation).rd_att }.get(column) };
        pg_sys::systable_endscan_ordered(scan);
        pg_sys::UnregisterSnapshot(snapshot);
        pg_sys::index_close(index, pg_sys::AccessShareLock as i32);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
        value
    }
}

/// Relations of the extension by name, and at which count of changes of tables and schemas they were found.
#[derive(Default)]
struct KnownNames {
    at: u64,
    oids: HashMap<CString, pg_sys::Oid>,
}

static KNOWN_NAMES: BackendLocal<RefCell<Option<KnownNames>>> = BackendLocal::new(RefCell::new(None));

/// The oid of `tenancy.<name>`, or `InvalidOid` if there is no such relation.
pub(in crate::pg) fn find_oid(name: &CStr) -> pg_sys::Oid {
    let now = catalog::changes();
    let known =
        KNOWN_NAMES.borrow().as_ref().filter(|known| known.at == now).and_then(|known| known.oids.get(name).copied());
    if let Some(oid) = known {
        return oid;
    }
    // SAFETY: catalog lookups by NUL-terminated names.
    let oid = unsafe {
        let schema = pg_sys::get_namespace_oid(SCHEMA.as_ptr(), true);
        pg_sys::get_relname_relid(name.as_ptr(), schema)
    };
    // What is not there may be made by another session, of which this one hears only when it waits for a lock.
    if oid != pg_sys::InvalidOid {
        let mut known = KNOWN_NAMES.borrow_mut();
        let known = known.get_or_insert_default();
        if known.at != now {
            known.oids.clear();
            known.at = now;
        }
        known.oids.insert(name.to_owned(), oid);
    }
    oid
}

/// True for a function `tenancy.<name>`, whatever its arguments.
pub fn is_own_function(function: pg_sys::Oid, name: &CStr) -> bool {
    // SAFETY: catalog lookups; the name is a palloc'ed copy, or NULL for a function that is gone.
    unsafe {
        let found = pg_sys::get_func_name(function);
        !found.is_null()
            && CStr::from_ptr(found) == name
            && pg_sys::get_func_namespace(function) == pg_sys::get_namespace_oid(SCHEMA.as_ptr(), true)
    }
}

/// True for a table of somebody whose rows leave events when they are changed.
pub fn is_audited(table: pg_sys::Oid) -> bool {
    // SAFETY: a table that is there, open for the time of a look; its description lists the triggers.
    unsafe {
        let relation = pg_sys::table_open(table, pg_sys::AccessShareLock as i32);
        let own = (*(*relation).rd_rel).relnamespace == pg_sys::get_namespace_oid(SCHEMA.as_ptr(), true);
        let description = (*relation).trigdesc;
        let count = if own || description.is_null() { 0 } else { (*description).numtriggers as usize };
        let mut triggers = (0..count).map(|n| &*(*description).triggers.add(n));
        let audited = triggers.any(|trigger| is_own_function(trigger.tgfoid, c"audit_row"));
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
        audited
    }
}

/// The oid of `tenancy.<name>`; none where the extension is not installed, or not in this version.
pub fn oid_if_any(name: &CStr) -> Option<pg_sys::Oid> {
    Some(find_oid(name)).filter(|oid| *oid != pg_sys::InvalidOid)
}

/// False for a table without a page, which holds no row of any snapshot: a row has its page before it is committed, and
/// keeps it as long as a snapshot may see the row.
pub fn has_pages(table: &CStr) -> bool {
    // SAFETY: the relation is open for the time of a look.
    unsafe {
        let relation = pg_sys::table_open(oid(table), pg_sys::AccessShareLock as i32);
        let pages = pg_sys::RelationGetNumberOfBlocksInFork(relation, pg_sys::ForkNumber::MAIN_FORKNUM);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
        pages > 0
    }
}

/// True if `tenancy.<name>` is there and has, or had, partitions.
pub fn has_partitions(name: &CStr) -> bool {
    let oid = find_oid(name);
    if oid == pg_sys::InvalidOid {
        return false;
    }
    // SAFETY: the relation is open for the time of a look.
    unsafe {
        let relation = pg_sys::table_open(oid, pg_sys::AccessShareLock as i32);
        let has = (*(*relation).rd_rel).relhassubclass;
        pg_sys::table_close(relation, pg_sys::NoLock as i32);
        has
    }
}

/// True if `tenancy.<name>` is there and is a partition.
pub fn is_partition(name: &CStr) -> bool {
    let oid = find_oid(name);
    // SAFETY: a catalog lookup.
    oid != pg_sys::InvalidOid && unsafe { pg_sys::get_rel_relispartition(oid) }
}

/// The oid of `tenancy.<name>`.
pub fn oid(name: &CStr) -> pg_sys::Oid {
    let oid = find_oid(name);
    if oid == pg_sys::InvalidOid {
        pgrx::error!("relation tenancy.{} is gone; is the extension pg_tenancy installed?", name.to_string_lossy());
    }
    oid
}
