//! Memory for one of many steps, which the next step uses again.

use pgrx::PgMemoryContexts;

/// A memory context of its own.
pub struct Scratch(PgMemoryContexts);

impl Scratch {
    pub fn new() -> Self {
        Scratch(PgMemoryContexts::new("pg_tenancy scratch"))
    }

    /// Runs a step, and lets go all that Postgres allocated for it. The answer is memory of Rust.
    pub fn step<T: 'static>(&mut self, step: impl FnOnce() -> T) -> T {
        // SAFETY: a context of our own; an answer that lives as long as it likes points at nothing in it.
        unsafe {
            let answer = self.0.switch_to(|_| step());
            self.0.reset();
            answer
        }
    }
}
