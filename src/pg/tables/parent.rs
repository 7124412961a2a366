//! A row of a table, found by its key below SQL: a trigger must see the parent of a row whatever policies say.

use super::catalog::{self, Shape, TableColumn};
use pgrx::pg_sys;
use std::ffi::{CStr, CString};
use std::rc::Rc;

/// A table that a foreign key points at, open for the time of a trigger's call.
pub struct ParentTable {
    relation: pg_sys::Relation,
    /// The unique index on the key, and the collation it is ordered by.
    index: pg_sys::Oid,
    collation: pg_sys::Oid,
    /// The number of the key's column in the table, from 1.
    key: i16,
    equality: Equality,
    shape: Rc<Shape>,
    /// Place of the wanted column in `shape.columns`.
    value: usize,
}

impl ParentTable {
    /// `table` is quoted and has its schema, and keys of the type `given` will be looked for; `None` where table,
    /// columns or the unique index on the key are gone, or the key is of a type that cannot be compared.
    pub fn open(table: &str, key: &str, value: &str, given: pg_sys::Oid) -> Option<Self> {
        let name = CString::new(table).ok()?;
        // SAFETY: a catalog lookup that answers with an invalid oid for what is missing; the relation stays open until
        // the drop, and is closed by the abort of the transaction if something raises before.
        let relation = unsafe {
            let range = pg_sys::makeRangeVarFromNameList(parts(&name));
            let lock = pg_sys::AccessShareLock as i32;
            let missing_ok = pg_sys::RVROption::RVR_MISSING_OK;
            let oid = pg_sys::RangeVarGetRelidExtended(range, lock, missing_ok, None, std::ptr::null_mut());
            if oid == pg_sys::InvalidOid {
                return None;
            }
            pg_sys::table_open(oid, pg_sys::NoLock as i32)
        };
        // SAFETY: the relation is open.
        let oid = unsafe { (*relation).rd_id };
        let shape = catalog::shape(oid, relation, &[]);
        let find = |name: &str| shape.columns.iter().position(|column| column.name == name);
        let found = find(key).zip(find(value)).and_then(|(key, value)| {
            let column = &shape.columns[key];
            let number = column.place as i16 + 1;
            // SAFETY: the relation is open.
            let (index, collation) = unsafe { unique_index(relation, number)? };
            Some((number, value, index, collation, Equality::of(column.type_oid, given)?))
        });
        let Some((key, value, index, collation, equality)) = found else {
            close(relation);
            return None;
        };
        Some(ParentTable { relation, index, collation, key, equality, shape, value })
    }

    /// The column that is wanted of the row.
    pub fn value(&self) -> &TableColumn {
        &self.shape.columns[self.value]
    }

    /// Hands the wanted value of the row with that key, which may be NULL, to `read`; `None` without such a row.
    pub fn find<T>(&self, key: pg_sys::Datum, read: impl Fn(Option<pg_sys::Datum>) -> T) -> Option<T> {
        // SAFETY: takes no argument but a snapshot; registered for the time of the scan.
        unsafe {
            let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
            let found = self.scan(key, snapshot, |tuple| Some(self.read_value(tuple, &read)));
            pg_sys::UnregisterSnapshot(snapshot);
            found
        }
    }

    /// The same for a row that this transaction itself has deleted or given another key.
    pub fn find_gone<T>(&self, key: pg_sys::Datum, read: impl Fn(Option<pg_sys::Datum>) -> T) -> Option<T> {
        let any = &raw mut pg_sys::SnapshotAnyData;
        // SAFETY: the snapshot that sees every version is a constant of Postgres.
        unsafe { self.scan(key, any, |tuple| ended_here(tuple).then(|| self.read_value(tuple, &read))) }
    }

    /// The first answer that `look` has for a row with that key.
    ///
    /// # Safety
    /// The snapshot stays for the time of the call.
    unsafe fn scan<T>(
        &self,
        key: pg_sys::Datum,
        snapshot: pg_sys::Snapshot,
        look: impl Fn(pg_sys::HeapTuple) -> Option<T>,
    ) -> Option<T> {
        let mut scan_key = pg_sys::ScanKeyData::default();
        // SAFETY: the relation is open; the key is of the type of its column, which the index is on; begin and end are
        // paired (an error in between is cleaned up by Postgres); a tuple is looked at before the next is fetched.
        unsafe {
            pg_sys::ScanKeyEntryInitialize(
                &mut scan_key,
                0,
                self.key,
                pg_sys::BTEqualStrategyNumber as u16,
                self.equality.given,
                self.collation,
                self.equality.function,
                key,
            );
            let scan = pg_sys::systable_beginscan(self.relation, self.index, true, snapshot, 1, &mut scan_key);
            let mut found = None;
            while found.is_none() {
                let tuple = pg_sys::systable_getnext(scan);
                if tuple.is_null() {
                    break;
                }
                found = look(tuple);
            }
            pg_sys::systable_endscan(scan);
            found
        }
    }

    /// # Safety
    /// The tuple is a row of the table.
    unsafe fn read_value<T>(&self, tuple: pg_sys::HeapTuple, read: impl Fn(Option<pg_sys::Datum>) -> T) -> T {
        let mut null = true;
        // SAFETY: as promised; the table has the column.
        let datum =
            unsafe { pg_sys::heap_getattr(tuple, self.value().place as i32 + 1, (*self.relation).rd_att, &mut null) };
        read((!null).then_some(datum))
    }
}

/// True for a version of a row that this transaction has ended.
///
/// # Safety
/// The tuple is valid.
unsafe fn ended_here(tuple: pg_sys::HeapTuple) -> bool {
    // SAFETY: as promised. A mask of several transactions, or of one that only locks, names no end by itself.
    unsafe {
        let header = (*tuple).t_data;
        let mask = u32::from((*header).t_infomask);
        if mask & (pg_sys::HEAP_XMAX_INVALID | pg_sys::HEAP_XMAX_LOCK_ONLY) != 0 {
            return false;
        }
        let end = if mask & pg_sys::HEAP_XMAX_IS_MULTI != 0 {
            pg_sys::HeapTupleGetUpdateXid(header)
        } else {
            (*header).t_choice.t_heap.t_xmax
        };
        pg_sys::TransactionIdIsCurrentTransactionId(end)
    }
}

impl Drop for ParentTable {
    fn drop(&mut self) {
        close(self.relation);
    }
}

/// The parts of a qualified name.
///
/// # Safety
/// In a memory context that is reset with the call.
unsafe fn parts(name: &CStr) -> *mut pg_sys::List {
    // SAFETY: NUL-terminated; Postgres copies the parts. Without an error context a malformed name raises.
    unsafe {
        #[cfg(feature = "pg15")]
        return pg_sys::stringToQualifiedNameList(name.as_ptr());
        #[cfg(not(feature = "pg15"))]
        return pg_sys::stringToQualifiedNameList(name.as_ptr(), std::ptr::null_mut());
    }
}

fn close(relation: pg_sys::Relation) {
    // SAFETY: the relation is open, with the lock of `open`; without it nothing is read any more.
    if unsafe { pg_sys::IsTransactionState() } && !std::thread::panicking() {
        // SAFETY: as above.
        unsafe { pg_sys::table_close(relation, pg_sys::NoLock as i32) };
    }
}

/// How a B-tree index compares its column with a key.
#[derive(Clone, Copy)]
struct Equality {
    /// The type of the key where it is another than the column's.
    given: pg_sys::Oid,
    function: pg_sys::RegProcedure,
}

impl Equality {
    /// `None` for types that no operator of the index compares, as integer and bigint are by one.
    fn of(column: pg_sys::Oid, given: pg_sys::Oid) -> Option<Self> {
        // SAFETY: lookups in the catalog caches; the entry of the type cache stays for the life of the backend.
        unsafe {
            let entry = &*pg_sys::lookup_type_cache(column, pg_sys::TYPECACHE_EQ_OPR as i32);
            let (same, operator) = if column == given {
                (true, entry.eq_opr)
            } else {
                let strategy = pg_sys::BTEqualStrategyNumber as i16;
                (false, pg_sys::get_opfamily_member(entry.btree_opf, entry.btree_opintype, given, strategy))
            };
            let given = if same { pg_sys::InvalidOid } else { given };
            (operator != pg_sys::InvalidOid).then(|| Equality { given, function: pg_sys::get_opcode(operator) })
        }
    }
}

/// A valid unique B-tree index on just that column, and the collation it is ordered by.
///
/// # Safety
/// The relation is open.
unsafe fn unique_index(relation: pg_sys::Relation, column: i16) -> Option<(pg_sys::Oid, pg_sys::Oid)> {
    // SAFETY: as promised; each index is opened under the weakest lock and closed.
    unsafe {
        let list = pg_sys::RelationGetIndexList(relation);
        let count = if list.is_null() { 0 } else { (*list).length as usize };
        let mut found = None;
        for n in 0..count {
            let oid = (*(*list).elements.add(n)).oid_value;
            let index = pg_sys::index_open(oid, pg_sys::AccessShareLock as i32);
            let form = &*(*index).rd_index;
            let fits = form.indisunique
                && form.indisvalid
                && form.indnkeyatts == 1
                && form.indkey.values.as_slice(1)[0] == column
                && (*(*index).rd_rel).relam == pg_sys::BTREE_AM_OID
                && pg_sys::RelationGetIndexPredicate(index).is_null();
            if fits && found.is_none() {
                found = Some((oid, *(*index).rd_indcollation));
            }
            pg_sys::index_close(index, pg_sys::NoLock as i32);
        }
        pg_sys::list_free(list);
        found
    }
}
