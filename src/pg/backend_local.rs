//! State of one backend.

/// State that belongs to one backend, which is a process with a single thread.
pub struct BackendLocal<T>(T);

// SAFETY: Postgres backends run all extension code on their only thread, so no two threads ever share the value.
unsafe impl<T> Sync for BackendLocal<T> {}

impl<T> BackendLocal<T> {
    pub const fn new(value: T) -> Self {
        BackendLocal(value)
    }
}

impl<T> std::ops::Deref for BackendLocal<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}
