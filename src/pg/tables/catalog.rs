//! The shape of a user's table, learned once and remembered until the table changes.

use crate::pg::backend_local::BackendLocal;
use crate::pg::json::JsonKind;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::{PgTupleDesc, pg_guard, pg_sys, varlena};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::CStr;
use std::rc::Rc;

/// A column as capturing its values needs it.
pub struct TableColumn {
    pub name: String,
    /// Position in the row, from 0, dropped columns counted.
    pub place: usize,
    pub kind: JsonKind,
    pub type_oid: pg_sys::Oid,
    pub in_primary_key: bool,
    /// Its values are not to be told.
    pub secret: bool,
    by_value: bool,
    length: i16,
}

/// A table as capturing its rows needs it.
pub struct Shape {
    pub schema: String,
    pub name: String,
    /// The columns that are not dropped.
    pub columns: Vec<TableColumn>,
    /// Length of the row, dropped columns counted.
    pub places: usize,
    pub has_primary_key: bool,
}

impl Shape {
    pub fn column(&self, name: &str) -> Option<&TableColumn> {
        self.columns.iter().find(|column| column.name == name)
    }
}

unsafe extern "C-unwind" {
    /// Compares two values byte for byte, detoasting only when the sizes agree (src/backend/utils/adt/datum.c).
    fn datum_image_eq(one: pg_sys::Datum, other: pg_sys::Datum, by_value: bool, length: i32) -> bool;
}

type Shapes = HashMap<pg_sys::Oid, Rc<Shape>>;

/// What was learned, by trigger: the same table may stand under several.
static SHAPES: BackendLocal<RefCell<Option<Shapes>>> = BackendLocal::new(RefCell::new(None));
/// At which count of changes.
static LEARNED_AT: BackendLocal<Cell<u64>> = BackendLocal::new(Cell::new(0));

/// Registers for news of changed tables. Called once from `_PG_init`.
pub fn watch() {
    // SAFETY: called once per process; the callbacks only count. A renamed schema changes nothing of its
    // tables, so it is news of its own.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(table_changed), pg_sys::Datum::null());
        let schemas = pg_sys::SysCacheIdentifier::NAMESPACEOID as i32;
        pg_sys::CacheRegisterSyscacheCallback(schemas, Some(schema_changed), pg_sys::Datum::null());
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn schema_changed(_argument: pg_sys::Datum, _cache: i32, _hash: u32) {
    CHANGES.set(CHANGES.get().wrapping_add(1));
}

#[pg_guard]
unsafe extern "C-unwind" fn table_changed(_argument: pg_sys::Datum, relation: pg_sys::Oid) {
    if relation != pg_sys::InvalidOid && SIGNALS.try_borrow().is_ok_and(|signals| signals.contains(&relation)) {
        return;
    }
    CHANGES.set(CHANGES.get().wrapping_add(1));
}

/// Relations whose messages tell of rows, and of no table. Few, and one of each name: a new one comes with CREATE
/// EXTENSION.
static SIGNALS: BackendLocal<RefCell<Vec<pg_sys::Oid>>> = BackendLocal::new(RefCell::new(Vec::new()));

/// Has the messages for this relation ignored: it serves only to announce changes of rows.
pub fn ignore(signal: pg_sys::Oid) {
    let mut signals = SIGNALS.borrow_mut();
    if !signals.contains(&signal) {
        signals.push(signal);
    }
}

/// How many times this session heard that a table, its policies and triggers included, or a schema has changed.
static CHANGES: BackendLocal<Cell<u64>> = BackendLocal::new(Cell::new(0));

/// A number that changes whenever a table or a schema has changed.
pub fn changes() -> u64 {
    CHANGES.get()
}

/// The shape of the table that `trigger` stands on; `secret` names columns, always the same for a trigger.
pub fn shape(trigger: pg_sys::Oid, relation: pg_sys::Relation, secret: &[&str]) -> Rc<Shape> {
    let mut shapes = SHAPES.borrow_mut();
    if LEARNED_AT.replace(changes()) != changes() {
        *shapes = None;
    }
    let shapes = shapes.get_or_insert_default();
    if let Some(shape) = shapes.get(&trigger) {
        return shape.clone();
    }
    let shape = Rc::new(learn(relation, secret));
    shapes.insert(trigger, shape.clone());
    shape
}

fn learn(relation: pg_sys::Relation, secret: &[&str]) -> Shape {
    // SAFETY: the relation is open, so its descriptor and names are valid; the names returned are palloc'ed copies.
    unsafe {
        let key = primary_key(relation);
        let descriptor = PgTupleDesc::from_pg_copy((*relation).rd_att);
        let columns = (0..descriptor.len())
            .filter_map(|place| descriptor.get(place).map(|attribute| (place, attribute)))
            .filter(|(_, attribute)| !attribute.attisdropped)
            .map(|(place, attribute)| (place, attribute, text(attribute.attname.data.as_ptr())))
            .map(|(place, attribute, name)| TableColumn {
                secret: secret.contains(&name.as_str()),
                name,
                place,
                kind: JsonKind::of(attribute.atttypid),
                type_oid: attribute.atttypid,
                in_primary_key: key.contains(&attribute.attnum),
                by_value: attribute.attbyval,
                length: attribute.attlen,
            })
            .collect();
        let form = &*(*relation).rd_rel;
        Shape {
            schema: text(pg_sys::get_namespace_name(form.relnamespace)),
            name: text(form.relname.data.as_ptr()),
            columns,
            places: descriptor.len(),
            has_primary_key: !key.is_empty(),
        }
    }
}

/// The attribute numbers of the primary key; none when there is no primary key.
unsafe fn primary_key(relation: pg_sys::Relation) -> Vec<i16> {
    // SAFETY: as `learn`. RelationGetIndexList fills rd_pkindex (relcache.c); the index is opened under the weakest
    // lock.
    unsafe {
        pg_sys::list_free(pg_sys::RelationGetIndexList(relation));
        let oid = (*relation).rd_pkindex;
        if oid == pg_sys::InvalidOid {
            return Vec::new();
        }
        let index = pg_sys::index_open(oid, pg_sys::AccessShareLock as i32);
        let form = (*index).rd_index;
        let count = (*form).indnkeyatts as usize;
        let key = (*form).indkey.values.as_slice(count).to_vec();
        pg_sys::index_close(index, pg_sys::AccessShareLock as i32);
        key
    }
}

/// # Safety
/// `text` is NULL or NUL-terminated.
unsafe fn text(text: *const std::ffi::c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as promised by the caller.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// A row taken apart; valid while the tuple is.
pub struct RowValues {
    datums: Vec<pg_sys::Datum>,
    nulls: Vec<bool>,
}

impl RowValues {
    /// Takes `tuple`, a row of `relation`, apart.
    pub fn of(relation: pg_sys::Relation, tuple: pg_sys::HeapTuple, shape: &Shape) -> Self {
        let mut datums = vec![pg_sys::Datum::null(); shape.places];
        let mut nulls = vec![true; shape.places];
        // SAFETY: both arrays have as many places as the relation's descriptor, of which `shape` was learned; a change
        // of the table invalidates the shape before another row can come.
        unsafe {
            pg_sys::heap_deform_tuple(tuple, (*relation).rd_att, datums.as_mut_ptr(), nulls.as_mut_ptr());
        }
        RowValues { datums, nulls }
    }

    /// The value of a column; `None` for NULL.
    pub fn get(&self, column: &TableColumn) -> Option<pg_sys::Datum> {
        (!self.nulls[column.place]).then(|| self.datums[column.place])
    }

    /// True if the column has the same bytes in both rows.
    pub fn same(&self, other: &RowValues, column: &TableColumn) -> bool {
        match (self.get(column), other.get(column)) {
            (None, None) => true,
            // SAFETY: both are values of the column's type; the boundary turns an error of detoasting into a panic.
            (Some(one), Some(two)) => unsafe {
                column.length == VARIABLE && same_stored_outside(one, two)
                    || pg_guard_ffi_boundary(|| datum_image_eq(one, two, column.by_value, i32::from(column.length)))
            },
            _ => false,
        }
    }
}

/// `pg_attribute.attlen` of types of variable length.
const VARIABLE: i16 = -1;

/// True if both point at the same value in the table's TOAST table: an update that leaves the column alone keeps the
/// pointer, so that the value need not be read to see it.
///
/// # Safety
/// Both are values, not NULL, of a type of variable length.
unsafe fn same_stored_outside(one: pg_sys::Datum, other: pg_sys::Datum) -> bool {
    // SAFETY: as promised; an external value has a tag, and one on disk is as long as the tag says.
    unsafe {
        let pointer = |datum: pg_sys::Datum| {
            let value: *const pg_sys::varlena = datum.cast_mut_ptr();
            let on_disk = varlena::varatt_is_1b_e(value)
                && u32::from(varlena::vartag_external(value)) == pg_sys::vartag_external::VARTAG_ONDISK;
            on_disk.then(|| std::slice::from_raw_parts(value.cast::<u8>(), varlena::varsize_external(value)))
        };
        let one = pointer(one);
        one.is_some() && one == pointer(other)
    }
}

/// The value as its type writes it.
pub fn text_of(column: &TableColumn, value: pg_sys::Datum) -> String {
    let (mut output, mut variable) = (pg_sys::InvalidOid, false);
    // SAFETY: the value is of the column's type, whose output function returns a palloc'ed text.
    unsafe {
        pg_sys::getTypeOutputInfo(column.type_oid, &mut output, &mut variable);
        text(pg_sys::OidOutputFunctionCall(output, value))
    }
}

/// True if the value is the column's default, where that is a constant.
pub fn is_default(relation: pg_sys::Relation, column: &TableColumn, value: pg_sys::Datum) -> bool {
    // SAFETY: the relation is open and has the column; the nodes are of the memory context of the call; a Const that is
    // not NULL holds a value of the column's type, because build_column_default coerces to it (rewriteHandler.c).
    unsafe {
        let default = pg_sys::build_column_default(relation, column.place as i32 + 1);
        if default.is_null() {
            return false;
        }
        let default = pg_sys::eval_const_expressions(std::ptr::null_mut(), default);
        if (*default).type_ != pg_sys::NodeTag::T_Const {
            return false;
        }
        let constant = &*default.cast::<pg_sys::Const>();
        !constant.constisnull
            && pg_guard_ffi_boundary(|| {
                datum_image_eq(constant.constvalue, value, column.by_value, i32::from(column.length))
            })
    }
}

/// Schema and name of a relation; none if it is gone.
pub fn name(relation: pg_sys::Oid) -> Option<(String, String)> {
    // SAFETY: catalog lookups; the names are palloc'ed copies, or NULL.
    unsafe {
        let name = pg_sys::get_rel_name(relation);
        let schema = pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relation));
        (!name.is_null() && !schema.is_null()).then(|| (text(schema), text(name)))
    }
}

/// The table, its partitions and children, and theirs.
pub fn descendants(table: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    unsafe extern "C-unwind" {
        /// src/include/catalog/pg_inherits.h
        fn find_all_inheritors(table: pg_sys::Oid, lock: i32, parents: *mut *mut pg_sys::List) -> *mut pg_sys::List;
    }
    // SAFETY: reads the catalog; the boundary turns an error of it into a panic. The list holds oids.
    unsafe {
        let none = std::ptr::null_mut();
        let found = pg_guard_ffi_boundary(|| find_all_inheritors(table, pg_sys::NoLock as i32, none));
        (0..(*found).length as usize).map(|n| (*(*found).elements.add(n)).oid_value).collect()
    }
}

/// Has every session forget what it knows of the table, once this transaction commits.
pub fn table_has_changed(relation: pg_sys::Relation) {
    // SAFETY: the relation is open.
    unsafe { pg_sys::CacheInvalidateRelcache(relation) };
}

/// The oid of an open relation.
pub fn oid(relation: pg_sys::Relation) -> pg_sys::Oid {
    // SAFETY: the relation is open.
    unsafe { (*relation).rd_id }
}

/// True for a permanent table whose row-level security is enabled and forced.
pub fn is_protected(relation: pg_sys::Relation) -> bool {
    // SAFETY: the relation is open.
    let form = unsafe { &*(*relation).rd_rel };
    form.relrowsecurity && form.relforcerowsecurity && is_permanent(relation)
}

/// True for a table that is not temporary.
pub fn is_permanent(relation: pg_sys::Relation) -> bool {
    // SAFETY: the relation is open.
    unsafe { (*(*relation).rd_rel).relpersistence as u8 != pg_sys::RELPERSISTENCE_TEMP }
}

/// True for a table of the extension itself: nobody else may create one in its schema.
pub fn is_own(relation: pg_sys::Relation) -> bool {
    // SAFETY: the relation is open; a catalog lookup by a NUL-terminated name.
    unsafe { (*(*relation).rd_rel).relnamespace == pg_sys::get_namespace_oid(c"tenancy".as_ptr(), true) }
}

/// Opens a table for `work`, which gets its shape too.
pub fn with_table<T>(table: pg_sys::Oid, work: impl FnOnce(pg_sys::Relation, &Shape) -> T) -> T {
    // SAFETY: opened under the weakest lock, which stays until the transaction ends; an error in between is cleaned
    // up by Postgres.
    unsafe {
        let relation = pg_sys::table_open(table, pg_sys::AccessShareLock as i32);
        let result = work(relation, &learn(relation, &[]));
        pg_sys::table_close(relation, pg_sys::NoLock as i32);
        result
    }
}

/// Hands every row of a table to `each`, whatever row-level security says, without running any SQL.
pub fn each_row(relation: pg_sys::Relation, mut each: impl FnMut(pg_sys::HeapTuple)) {
    // A partitioned table has no rows, and nothing to scan: they are those of its partitions.
    // SAFETY: the relation is open.
    if unsafe { (*(*relation).rd_rel).relkind as u8 } == pg_sys::RELKIND_PARTITIONED_TABLE {
        return;
    }
    // SAFETY: the relation is open and locked; snapshot and scan are paired (an error in between is cleaned up by
    // Postgres); a tuple is used only until the next one is fetched. Without an index this is a plain table scan.
    unsafe {
        let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
        let scan = pg_sys::systable_beginscan(relation, pg_sys::InvalidOid, false, snapshot, 0, std::ptr::null_mut());
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            each(tuple);
        }
        pg_sys::systable_endscan(scan);
        pg_sys::UnregisterSnapshot(snapshot);
    }
}
