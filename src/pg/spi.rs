//! Queries on the extension's own tables: planned once per backend, run through SPI.

use super::setting::Backend;
use super::transaction;
use pgrx::{FromDatum, IntoDatum, pg_sys};
use std::cell::Cell;
use std::ffi::CString;
use uuid::Uuid;

/// A query on the extension's own tables whose plan is kept for the life of the backend.
///
/// Every name in the text is schema-qualified, so the plan is the same whatever the caller's `search_path`.
pub struct Query {
    text: &'static str,
    plan: Backend<Cell<pg_sys::SPIPlanPtr>>,
}

/// An argument: its type and its value.
pub struct Argument(pg_sys::Oid, Option<pg_sys::Datum>);

/// A `uuid` argument.
pub fn uuid(id: Uuid) -> Argument {
    argument(pgrx::Uuid::from_bytes(*id.as_bytes()))
}

/// Makes an argument of a Rust value.
pub fn argument<T: IntoDatum>(value: T) -> Argument {
    Argument(T::type_oid(), value.into_datum())
}

/// One row of a result; alive only inside the callback that receives it.
pub struct Row {
    tuple: pg_sys::HeapTuple,
    descriptor: pg_sys::TupleDesc,
}

impl Row {
    /// The column at `number`, from 1.
    pub fn get<T: FromDatum>(&self, number: i32) -> Option<T> {
        let mut null = false;
        // SAFETY: tuple and descriptor are of the same result, which SPI keeps until the end of the callback; the
        // caller asks for the type that the query's column has.
        unsafe {
            let datum = pg_sys::SPI_getbinval(self.tuple, self.descriptor, number, &mut null);
            T::from_datum(datum, null)
        }
    }

    /// A `uuid` column.
    pub fn uuid(&self, number: i32) -> Option<Uuid> {
        self.get::<pgrx::Uuid>(number).map(|id| Uuid::from_bytes(*id.as_bytes()))
    }

    /// A `bytea` column of a known length.
    pub fn bytes<const N: usize>(&self, number: i32) -> Option<[u8; N]> {
        self.get::<&[u8]>(number).and_then(|bytes| bytes.try_into().ok())
    }

    /// An `xid8` column.
    pub fn transaction(&self, number: i32) -> Option<u64> {
        self.datum(number).map(|datum| datum.value() as u64)
    }

    /// A `timestamptz` column, in microseconds since 1970.
    pub fn timestamp(&self, number: i32) -> Option<i64> {
        self.datum(number).map(|datum| transaction::from_timestamptz(datum.value() as i64))
    }

    fn datum(&self, number: i32) -> Option<pg_sys::Datum> {
        let mut null = false;
        // SAFETY: as in `get`.
        let datum = unsafe { pg_sys::SPI_getbinval(self.tuple, self.descriptor, number, &mut null) };
        (!null).then_some(datum)
    }
}

/// How a query looks at the data.
#[derive(Clone, Copy, PartialEq)]
enum Access {
    /// With the active snapshot as it is, writing nothing.
    Read,
    /// With a new snapshot of the transaction, able to write.
    Write,
}

impl Query {
    pub const fn new(text: &'static str) -> Self {
        Query { text, plan: Backend::new(Cell::new(std::ptr::null_mut())) }
    }

    /// Reads with the active snapshot; `each` gets every row.
    pub fn read<T>(&self, arguments: &[Argument], each: impl FnMut(&Row) -> T) -> Vec<T> {
        self.run(arguments, Access::Read, each)
    }

    /// Runs a statement that writes; `each` gets every row it returns.
    pub fn write<T>(&self, arguments: &[Argument], each: impl FnMut(&Row) -> T) -> Vec<T> {
        self.run(arguments, Access::Write, each)
    }

    fn run<T>(&self, arguments: &[Argument], access: Access, each: impl FnMut(&Row) -> T) -> Vec<T> {
        let mut values: Vec<pg_sys::Datum> =
            arguments.iter().map(|argument| argument.1.unwrap_or(pg_sys::Datum::null())).collect();
        let nulls: Vec<i8> =
            arguments.iter().map(|argument| if argument.1.is_some() { b' ' } else { b'n' } as i8).collect();
        // SAFETY: connect and finish are paired (an error in between is cleaned up by Postgres); the plan takes as many
        // arguments as it was prepared with, because text and arguments stand side by side at every call.
        unsafe {
            pg_sys::SPI_connect();
            let plan = self.plan(arguments);
            let status = pg_sys::SPI_execute_plan(plan, values.as_mut_ptr(), nulls.as_ptr(), access == Access::Read, 0);
            if status < 0 {
                pgrx::error!("SPI could not run a query of pg_tenancy: {status}");
            }
            let rows = rows(each);
            pg_sys::SPI_finish();
            rows
        }
    }

    /// Prepares the query at its first use.
    unsafe fn plan(&self, arguments: &[Argument]) -> pg_sys::SPIPlanPtr {
        if self.plan.get().is_null() {
            let text = CString::new(self.text).unwrap_or_default();
            let mut types: Vec<pg_sys::Oid> = arguments.iter().map(|argument| argument.0).collect();
            // SAFETY: SPI is connected; SPI_keepplan moves the plan to permanent memory.
            unsafe {
                let plan = pg_sys::SPI_prepare(text.as_ptr(), types.len() as i32, types.as_mut_ptr());
                if plan.is_null() || pg_sys::SPI_keepplan(plan) != 0 {
                    pgrx::error!("SPI could not prepare a query of pg_tenancy");
                }
                self.plan.set(plan);
            }
        }
        self.plan.get()
    }
}

/// Runs a text once, for DDL and for queries over catalogs; `each` gets every row.
pub fn execute<T>(text: &str, each: impl FnMut(&Row) -> T) -> Vec<T> {
    let text = CString::new(text).unwrap_or_default();
    // SAFETY: connect and finish are paired; an error in between is cleaned up by Postgres.
    unsafe {
        pg_sys::SPI_connect();
        let status = pg_sys::SPI_execute(text.as_ptr(), false, 0);
        if status < 0 {
            pgrx::error!("SPI could not run a statement of pg_tenancy: {status}");
        }
        let rows = rows(each);
        pg_sys::SPI_finish();
        rows
    }
}

/// Hands the rows of the last SPI call to `each`.
///
/// SAFETY of the caller: SPI is connected, and stays so until this returns.
unsafe fn rows<T>(mut each: impl FnMut(&Row) -> T) -> Vec<T> {
    // SAFETY: SPI's own globals; the table is NULL for statements that return nothing.
    unsafe {
        let table = pg_sys::SPI_tuptable;
        if table.is_null() {
            return Vec::new();
        }
        let descriptor = (*table).tupdesc;
        (0..(*table).numvals as usize).map(|n| each(&Row { tuple: *(*table).vals.add(n), descriptor })).collect()
    }
}
