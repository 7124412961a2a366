//! Rows of the extension's own tables in the order of an index, read below SQL and without copying them.

use super::table::{self, IndexKey};
use crate::pg::transaction;
use pgrx::{PgMemoryContexts, pg_sys, varlena};
use std::cell::Cell;
use std::cmp::Ordering;
use std::ffi::CStr;
use std::ptr;
use uuid::Uuid;

/// A scan of `tenancy.<table>` in the order of one of its B-tree indexes, with the snapshot that was active when it was
/// opened. What it finds is valid until it moves on.
pub struct Scan {
    relation: pg_sys::Relation,
    index: pg_sys::Relation,
    scan: pg_sys::SysScanDesc,
    keys: Vec<pg_sys::ScanKeyData>,
    /// What keys of the type uuid point at.
    ids: Box<[Uuid]>,
    values: Vec<pg_sys::Datum>,
    nulls: Vec<bool>,
    /// Where values of the row are brought that are stored out of line or compressed.
    memory: PgMemoryContexts,
    used: Cell<bool>,
}

/// The row that a scan stands on.
pub struct Fields<'s> {
    values: &'s [pg_sys::Datum],
    nulls: &'s [bool],
    memory: pg_sys::MemoryContext,
    used: &'s Cell<bool>,
}

impl Scan {
    /// Opens a scan by the index of this name. `keys` are the first columns of the index, in order.
    pub fn by_index(table: &CStr, index: &CStr, keys: &[IndexKey]) -> Self {
        // SAFETY: a relation that is there, under the lock of a reader.
        let relation = unsafe { pg_sys::table_open(table::oid(table), pg_sys::AccessShareLock as i32) };
        Scan::open(relation, table::oid(index), keys)
    }

    /// Opens a scan by the primary key; `None` where there is no such table, or it has no such key any more.
    pub fn by_primary_key(table: &CStr, keys: &[IndexKey]) -> Option<Self> {
        let oid = table::find_oid(table);
        if oid == pg_sys::InvalidOid {
            return None;
        }
        // SAFETY: as above; RelationGetIndexList fills rd_pkindex in (relcache.c).
        unsafe {
            let relation = pg_sys::table_open(oid, pg_sys::AccessShareLock as i32);
            pg_sys::list_free(pg_sys::RelationGetIndexList(relation));
            let index = (*relation).rd_pkindex;
            if index == pg_sys::InvalidOid {
                pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
                return None;
            }
            Some(Scan::open(relation, index, keys))
        }
    }

    fn open(relation: pg_sys::Relation, index: pg_sys::Oid, keys: &[IndexKey]) -> Self {
        let mut ids: Box<[Uuid]> = vec![Uuid::nil(); keys.len()].into();
        let keys = keys.iter().zip(&mut ids);
        let mut keys: Vec<pg_sys::ScanKeyData> = keys.map(|(key, id)| key.scan_key_kept_in(id)).collect();
        // SAFETY: closed by `drop`, or by Postgres at the end of a transaction that fails. The keys name columns of the
        // index by their numbers in the table; later versions of Postgres translate a copy of them and earlier ones the
        // array itself, so a scan gets a copy, and `seek` numbers them as a rescan wants them.
        unsafe {
            let index = pg_sys::index_open(index, pg_sys::AccessShareLock as i32);
            let snapshot = pg_sys::GetActiveSnapshot();
            let mut first = keys.clone();
            let scan =
                pg_sys::systable_beginscan_ordered(relation, index, snapshot, first.len() as i32, first.as_mut_ptr());
            for key in &mut keys {
                let form = (*index).rd_index;
                let numbers = (*form).indkey.values.as_slice((*form).indnatts as usize);
                let place = numbers.iter().position(|number| *number == key.sk_attno);
                key.sk_attno = place.map_or(0, |place| place as i16 + 1);
            }
            let columns = (*(*relation).rd_att).natts as usize;
            let (values, nulls) = (vec![pg_sys::Datum::null(); columns], vec![true; columns]);
            let memory = PgMemoryContexts::new("pg_tenancy scan");
            Scan { relation, index, scan, keys, ids, values, nulls, memory, used: Cell::new(false) }
        }
    }

    /// Goes to where the keys, which are the columns that it was opened with, have these values.
    pub fn seek(&mut self, keys: &[IndexKey]) {
        for ((own, key), id) in self.keys.iter_mut().zip(keys).zip(&mut self.ids) {
            own.sk_argument = key.scan_key_kept_in(id).sk_argument;
        }
        // SAFETY: the scan is open and has this many keys.
        unsafe {
            let count = self.keys.len() as i32;
            pg_sys::index_rescan((*self.scan).iscan, self.keys.as_mut_ptr(), count, ptr::null_mut(), 0);
        }
    }

    /// The next row in the order of the index.
    pub fn next(&mut self) -> Option<Fields<'_>> {
        self.step(pg_sys::ScanDirection::ForwardScanDirection)
    }

    /// The next row against the order of the index.
    pub fn back(&mut self) -> Option<Fields<'_>> {
        self.step(pg_sys::ScanDirection::BackwardScanDirection)
    }

    fn step(&mut self, direction: pg_sys::ScanDirection::Type) -> Option<Fields<'_>> {
        if self.used.take() {
            // SAFETY: nothing points into it any more, because rows are borrowed from the scan.
            unsafe { self.memory.reset() };
        }
        // SAFETY: the scan is open; the tuple is its current one and has the row type of the relation, whose number of
        // columns the arrays have. The values point into the tuple, which stays until the scan moves on, as the
        // borrow says.
        unsafe {
            let tuple = pg_sys::systable_getnext_ordered(self.scan, direction);
            if tuple.is_null() {
                return None;
            }
            let descriptor = (*self.relation).rd_att;
            pg_sys::heap_deform_tuple(tuple, descriptor, self.values.as_mut_ptr(), self.nulls.as_mut_ptr());
        }
        Some(self.fields())
    }

    /// The row that the last step found.
    fn fields(&self) -> Fields<'_> {
        Fields { values: &self.values, nulls: &self.nulls, memory: self.memory.value(), used: &self.used }
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        // After an error Postgres closes what is open, and this may not touch it.
        if std::thread::panicking() {
            return;
        }
        // SAFETY: opened by `open`, and closed only here.
        unsafe {
            pg_sys::systable_endscan_ordered(self.scan);
            pg_sys::index_close(self.index, pg_sys::AccessShareLock as i32);
            pg_sys::table_close(self.relation, pg_sys::AccessShareLock as i32);
        }
    }
}

impl<'s> Fields<'s> {
    fn datum(&self, column: usize) -> Option<pg_sys::Datum> {
        let null = *self.nulls.get(column - 1)?;
        (!null).then(|| self.values[column - 1])
    }

    /// A `bigint` column (from 1), or any other of eight bytes.
    pub fn big_integer(&self, column: usize) -> Option<i64> {
        self.datum(column).map(|datum| datum.value() as i64)
    }

    /// An `integer` column.
    pub fn integer(&self, column: usize) -> Option<i32> {
        self.datum(column).map(|datum| datum.value() as i32)
    }

    /// A `smallint` column.
    pub fn small_integer(&self, column: usize) -> Option<i16> {
        self.datum(column).map(|datum| datum.value() as i16)
    }

    /// A `timestamptz` column, in microseconds since 1970.
    pub fn timestamp(&self, column: usize) -> Option<i64> {
        self.big_integer(column).map(transaction::from_timestamptz)
    }

    /// An `xid8` column.
    pub fn transaction(&self, column: usize) -> Option<u64> {
        self.datum(column).map(|datum| datum.value() as u64)
    }

    /// A `uuid` column.
    pub fn uuid(&self, column: usize) -> Option<Uuid> {
        // SAFETY: the column is of the type uuid, whose values are 16 bytes.
        self.datum(column).map(|datum| Uuid::from_bytes(unsafe { *datum.cast_mut_ptr::<[u8; 16]>() }))
    }

    /// A column of the type `bytea`, `text` or `json`, as it is stored.
    pub fn bytes(&self, column: usize) -> Option<&'s [u8]> {
        let stored: *mut pg_sys::varlena = self.datum(column)?.cast_mut_ptr();
        // SAFETY: the column is of variable length. A plain value is in the tuple, any other is brought into the memory
        // of the scan; both stay until the scan moves on.
        unsafe {
            let plain =
                varlena::varatt_is_4b_u(stored) || varlena::varatt_is_1b(stored) && !varlena::varatt_is_1b_e(stored);
            let value = if plain { stored } else { self.in_memory(|| pg_sys::pg_detoast_datum_packed(stored)) };
            Some(varlena::varlena_to_byte_slice(value))
        }
    }

    /// The number of bytes of a `bytea` column, without reading it.
    pub fn length(&self, column: usize) -> Option<usize> {
        let stored = self.datum(column)?;
        // SAFETY: the column is of variable length.
        let size = unsafe { pg_sys::toast_raw_datum_size(stored) };
        Some(size.saturating_sub(pg_sys::VARHDRSZ))
    }

    /// Some bytes of a `bytea` column that is not compressed. Of one stored out of line, no other piece is read.
    pub fn slice(&self, column: usize, first: usize, count: usize) -> Option<&'s [u8]> {
        let stored: *mut pg_sys::varlena = self.datum(column)?.cast_mut_ptr();
        let (first, count) = (i32::try_from(first).ok()?, i32::try_from(count).ok()?);
        // SAFETY: the column is of variable length. The slice is a copy in the memory of the scan, which stays until
        // the scan moves on.
        unsafe {
            let slice = self.in_memory(|| pg_sys::pg_detoast_datum_slice(stored, first, count));
            Some(varlena::varlena_to_byte_slice(slice))
        }
    }

    /// A `pg_snapshot` column as text.
    pub fn snapshot(&self, column: usize) -> Option<String> {
        let snapshot = self.datum(column)?;
        // SAFETY: the column is of this type; the text is NUL-terminated and copied.
        unsafe {
            self.in_memory(|| pgrx::direct_function_call::<&CStr>(pg_sys::pg_snapshot_out, &[Some(snapshot)]))
                .map(|text| text.to_string_lossy().into_owned())
        }
    }

    /// # Safety
    /// What `make` allocates is used only as long as the row.
    unsafe fn in_memory<T>(&self, make: impl FnOnce() -> T) -> T {
        self.used.set(true);
        // SAFETY: the memory lives as long as the scan; after an error Postgres itself chooses another.
        unsafe {
            let before = pg_sys::CurrentMemoryContext;
            pg_sys::CurrentMemoryContext = self.memory;
            let made = make();
            pg_sys::CurrentMemoryContext = before;
            made
        }
    }

    /// A `bytea` column of a known length.
    pub fn array<const N: usize>(&self, column: usize) -> Option<[u8; N]> {
        self.bytes(column)?.try_into().ok()
    }

    /// A `text` or `json` column: NULL is `Some(None)`, and what is no UTF-8 is `None`.
    pub fn optional_text(&self, column: usize) -> Option<Option<&'s str>> {
        match self.bytes(column) {
            None => Some(None),
            Some(bytes) => std::str::from_utf8(bytes).ok().map(Some),
        }
    }

    /// A `text` or `json` column that is not NULL.
    pub fn text(&self, column: usize) -> Option<&'s str> {
        self.optional_text(column)?
    }
}

/// Finds rows by ids that mostly ascend, in a table whose primary key the id is: the first column.
pub struct ById {
    /// From an id on.
    onward: Scan,
    /// One id alone.
    exact: Scan,
    /// The id of the row that `onward` stands on.
    at: Option<Uuid>,
    /// For how many ids `exact` is asked, because the ones before were far from each other.
    apart: u32,
}

/// How many rows are read over to get from one id to the next.
const NEAR: usize = 8;
/// For how many ids it is remembered that ids are far from each other.
const APART: u32 = 100;

impl ById {
    pub fn open(table: &CStr) -> Option<Self> {
        let any = Uuid::nil();
        let onward = Scan::by_primary_key(table, &[IndexKey::uuid(1, &any).or_more()])?;
        let exact = Scan::by_primary_key(table, &[IndexKey::uuid(1, &any)])?;
        Some(ById { onward, exact, at: None, apart: 0 })
    }

    /// The row with this id.
    pub fn find(&mut self, id: &Uuid) -> Option<Fields<'_>> {
        if self.apart > 0 {
            self.apart -= 1;
            self.exact.seek(&[IndexKey::uuid(1, id)]);
            return self.exact.next();
        }
        if self.at.is_some_and(|at| at < *id) {
            for _ in 0..NEAR {
                match self.advance().map(|at| at.cmp(id)) {
                    Some(Ordering::Less) => (),
                    Some(Ordering::Equal) => return Some(self.onward.fields()),
                    Some(Ordering::Greater) | None => return None,
                }
            }
            self.apart = APART;
        }
        self.onward.seek(&[IndexKey::uuid(1, id)]);
        let found = self.advance();
        (found == Some(*id)).then(|| self.onward.fields())
    }

    fn advance(&mut self) -> Option<Uuid> {
        self.at = self.onward.next().and_then(|fields| fields.uuid(1));
        self.at
    }
}
