//! A row of a table, found by its key below SQL: a trigger must see the parent of a row whatever policies say.

use super::catalog::{self, Column, Shape};
use pgrx::pg_sys;
use std::ffi::{CStr, CString};
use std::rc::Rc;

/// A table that a foreign key points at, open for the time of a trigger's call.
pub struct Parent {
    relation: pg_sys::Relation,
    /// The unique index on the key, and the collation it is ordered by.
    index: pg_sys::Oid,
    collation: pg_sys::Oid,
    /// The number of the key's column in the table, from 1.
    key: i16,
    equality: pg_sys::RegProcedure,
    shape: Rc<Shape>,
    /// Place of the wanted column in `shape.columns`.
    value: usize,
}

impl Parent {
    /// `table` is quoted and has its schema; `None` where table, columns or the unique index on the key are gone.
    pub fn open(table: &str, key: &str, value: &str) -> Option<Self> {
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
            Some((number, value, index, collation, equality(column.type_oid)?))
        });
        let Some((key, value, index, collation, equality)) = found else {
            close(relation);
            return None;
        };
        Some(Parent { relation, index, collation, key, equality, shape, value })
    }

    /// The column that is wanted of the row.
    pub fn value(&self) -> &Column {
        &self.shape.columns[self.value]
    }

    /// Hands the wanted value of the row with that key to `read`; `None` without such a row, or for NULL.
    pub fn find<T>(&self, key: pg_sys::Datum, read: impl FnOnce(pg_sys::Datum) -> T) -> Option<T> {
        let mut scan_key = pg_sys::ScanKeyData::default();
        // SAFETY: the relation is open; the key is of the type of its column, which the index is on; snapshot and scan
        // are paired (an error in between is cleaned up by Postgres); the value is read before the scan ends.
        unsafe {
            pg_sys::ScanKeyEntryInitialize(
                &mut scan_key,
                0,
                self.key,
                pg_sys::BTEqualStrategyNumber as u16,
                pg_sys::InvalidOid,
                self.collation,
                self.equality,
                key,
            );
            let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
            let scan = pg_sys::systable_beginscan(self.relation, self.index, true, snapshot, 1, &mut scan_key);
            let tuple = pg_sys::systable_getnext(scan);
            let mut null = true;
            let datum = if tuple.is_null() {
                pg_sys::Datum::null()
            } else {
                pg_sys::heap_getattr(tuple, self.value().place as i32 + 1, (*self.relation).rd_att, &mut null)
            };
            let found = (!null).then(|| read(datum));
            pg_sys::systable_endscan(scan);
            pg_sys::UnregisterSnapshot(snapshot);
            found
        }
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        close(self.relation);
    }
}

/// The parts of a qualified name.
///
/// SAFETY of the caller: in a memory context that is reset with the call.
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

/// The equality of a type that B-tree indexes go by.
fn equality(type_oid: pg_sys::Oid) -> Option<pg_sys::RegProcedure> {
    // SAFETY: the entry of the type cache stays for the life of the backend.
    unsafe {
        let entry = pg_sys::lookup_type_cache(type_oid, pg_sys::TYPECACHE_EQ_OPR as i32);
        let operator = (*entry).eq_opr;
        (operator != pg_sys::InvalidOid).then(|| pg_sys::get_opcode(operator))
    }
}

/// A valid unique B-tree index on just that column, and the collation it is ordered by.
///
/// SAFETY of the caller: the relation is open.
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
