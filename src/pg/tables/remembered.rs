//! Tells whether what was read of the extension's own tables is still so, without reading it again.
//!
//! A trigger on each table announces a change by an invalidation message of Postgres for a relation that nothing else
//! uses, the signal. Postgres sends the messages of a transaction when it commits, before the client hears of it,
//! carries them to standbys, and keeps those of a prepared transaction. Messages for the tables themselves are news
//! too: of TRUNCATE, and of a trigger that was disabled.
//!
//! Decision: `docs/decisions/08-remembered-verdicts.md`.

use super::{catalog, table};
use crate::pg::backend_local::BackendLocal;
use crate::pg::transaction;
use pgrx::{pg_guard, pg_sys};
use std::cell::{Cell, RefCell};
use std::ffi::CStr;

/// Tables whose rows are remembered, and what this session knows of their changes.
pub struct WatchedTables {
    tables: &'static [&'static CStr],
    signal: &'static CStr,
    function: &'static CStr,
    /// Counts the news.
    changes: BackendLocal<Cell<u64>>,
    /// The count at which the oids and the triggers were looked at; another one than `changes` at first.
    learned: BackendLocal<Cell<u64>>,
    /// True while every message is news, because the oids are not known.
    learning: BackendLocal<Cell<bool>>,
    /// True if every table has its trigger, and nothing keeps it from firing.
    announced: BackendLocal<Cell<bool>>,
    /// The signal, and then the tables.
    oids: BackendLocal<RefCell<Vec<pg_sys::Oid>>>,
}

#[pg_guard]
unsafe extern "C-unwind" fn relation_changed(watched: pg_sys::Datum, relation: pg_sys::Oid) {
    // SAFETY: registered with a pointer to a static.
    let watched = unsafe { &*watched.cast_mut_ptr::<WatchedTables>() };
    let concerned = || watched.oids.try_borrow().map_or(true, |oids| oids.contains(&relation));
    // Without an oid it is news of everything: messages were lost.
    if watched.learning.get() || relation == pg_sys::InvalidOid || concerned() {
        watched.changes.set(watched.changes.get().wrapping_add(1));
    }
}

impl WatchedTables {
    /// The tables; the relation whose messages announce a change; the trigger function that calls
    /// [`WatchedTables::announce`].
    pub const fn new(tables: &'static [&'static CStr], signal: &'static CStr, function: &'static CStr) -> Self {
        WatchedTables {
            tables,
            signal,
            function,
            changes: BackendLocal::new(Cell::new(0)),
            learned: BackendLocal::new(Cell::new(u64::MAX)),
            learning: BackendLocal::new(Cell::new(true)),
            announced: BackendLocal::new(Cell::new(false)),
            oids: BackendLocal::new(RefCell::new(Vec::new())),
        }
    }

    /// Registers for news of the tables. Called once from `_PG_init`.
    pub fn watch(&'static self) {
        let watched = pg_sys::Datum::from(std::ptr::from_ref(self));
        // SAFETY: called once per process; the callback only reads and sets state of the backend.
        unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), watched) };
    }

    /// Tells every session, once this transaction commits, that the tables have changed. This one hears of it at the
    /// end of the command, and again if that is rolled back.
    pub fn announce(&self) {
        // SAFETY: in a transaction, as triggers are; the relation is there, or it is an error.
        unsafe { pg_sys::CacheInvalidateRelcacheByRelid(table::oid(self.signal)) };
    }

    /// A number that is another one after each committed change of the tables; `None` where what is read now may
    /// neither be remembered nor be told from memory.
    ///
    /// To be asked before the snapshot is taken that the tables are read with. A transaction that has written may have
    /// written these tables, in a statement whose triggers have not fired yet: it gets no number.
    pub fn state(&self) -> Option<u64> {
        self.state_with_own().filter(|_| transaction::id_if_any().is_none())
    }

    /// As [`WatchedTables::state`], where only functions of the extension write the tables, and read them again only
    /// after the triggers have fired: it also changes with what this transaction writes and rolls back.
    pub fn state_with_own(&self) -> Option<u64> {
        // SAFETY: in a transaction; does what every opening of a table does.
        unsafe { pg_sys::AcceptInvalidationMessages() };
        if self.learned.get() != self.changes.get() {
            self.learn();
        }
        let news = self.learned.get() != self.changes.get();
        (self.announced.get() && !news).then(|| self.changes.get())
    }

    /// The number as far as this session has heard, without listening for more.
    #[inline]
    pub fn heard(&self) -> u64 {
        self.changes.get()
    }

    /// Looks up the oids and the triggers. News in between leaves the count behind, and so the next caller looks
    /// again.
    fn learn(&self) {
        self.learning.set(true);
        self.announced.set(false);
        let before = self.changes.get();
        let oids: Vec<pg_sys::Oid> =
            std::iter::once(&self.signal).chain(self.tables).map(|name| table::oid(name)).collect();
        oids.first().copied().into_iter().for_each(catalog::ignore);
        self.oids.replace(oids.clone());
        self.announced.set(oids.iter().skip(1).all(|table| is_announced(*table, self.function)));
        self.learned.set(before);
        self.learning.set(false);
    }
}

/// What was read of the tables in one state of them.
#[derive(Default)]
pub struct OfState<T> {
    state: u64,
    rows: T,
}

impl<T: Default> OfState<T> {
    /// What is known of this state, a number of [`WatchedTables::state`]; nothing yet of one that is not the last.
    pub fn at(&mut self, state: u64) -> &mut T {
        if self.state != state {
            *self = OfState { state, rows: T::default() };
        }
        &mut self.rows
    }
}

/// What a trigger must be to fire after each changed row, whoever changes it and by whatever way.
const TRIGGER_TYPE: u32 =
    pg_sys::TRIGGER_TYPE_ROW | pg_sys::TRIGGER_TYPE_INSERT | pg_sys::TRIGGER_TYPE_UPDATE | pg_sys::TRIGGER_TYPE_DELETE;

/// True if each change of a row of the table fires a trigger with this function, also of logical replication.
///
/// Takes no lock: whoever changes the triggers sends a message, and nobody waits for them.
fn is_announced(table: pg_sys::Oid, function: &CStr) -> bool {
    // SAFETY: the entry of the cache is pinned while it is read; its triggers are as many as it says.
    unsafe {
        let relation = pg_sys::RelationIdGetRelation(table);
        if relation.is_null() {
            return false;
        }
        let triggers = (*relation).trigdesc;
        let fires = !triggers.is_null()
            && (0..(*triggers).numtriggers as usize).any(|n| {
                let trigger = &*(*triggers).triggers.add(n);
                trigger.tgenabled as u8 == pg_sys::TRIGGER_FIRES_ALWAYS
                    && u32::from(trigger.tgtype.cast_unsigned()) == TRIGGER_TYPE
                    && trigger.tgnattr == 0
                    && trigger.tgqual.is_null()
                    && table::is_own_function(trigger.tgfoid, function)
            });
        pg_sys::RelationClose(relation);
        fires
    }
}
