//! What a guardrail has let through in this transaction, so that it is asked and recorded once.

use crate::pg::backend_local::BackendLocal;
use crate::pg::transaction;
use pg_tenancy_core::savepoint_stack::SavepointStack;
use std::cell::RefCell;
use std::collections::BTreeSet;

/// A set that follows savepoints: what is rolled back takes its event along, and has to be recorded anew.
pub struct Passed<T>(BackendLocal<RefCell<SavepointStack<BTreeSet<T>>>>);

impl<T: Clone + Ord> Passed<T> {
    pub const fn new() -> Self {
        Passed(BackendLocal::new(RefCell::new(SavepointStack::new(BTreeSet::new()))))
    }

    pub fn contains(&self, what: &T) -> bool {
        self.0.borrow().get().contains(what)
    }

    /// False if it is there already.
    pub fn insert(&self, what: T) -> bool {
        !self.contains(&what) && self.0.borrow_mut().change(transaction::level()).insert(what)
    }

    /// A savepoint was rolled back, and the events under it, or released.
    pub fn savepoint(&self, level: i32, rolled_back: bool) {
        let mut passed = self.0.borrow_mut();
        if rolled_back { passed.roll_back(level) } else { passed.release(level) }
    }

    pub fn transaction_ended(&self) {
        self.0.borrow_mut().clear();
    }
}
