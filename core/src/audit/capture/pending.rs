//! Entries that are written at the end of the statement, by the level of their savepoint.
//!
//! Writing rows in batches costs a third of writing them one by one. A batch must not be written under a savepoint that
//! is younger than its rows: a rollback of that savepoint would also remove rows of the transaction around it.

/// Waiting entries by nesting level; levels strictly increase, and none is empty.
#[derive(Debug)]
pub struct Pending<T> {
    levels: Vec<(i32, Vec<T>)>,
}

impl<T> Default for Pending<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Pending<T> {
    /// Makes an empty queue.
    pub const fn new() -> Self {
        Pending { levels: Vec::new() }
    }

    /// Whether no entry is waiting at any level.
    pub fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }

    /// The number of entries that wait at `level`.
    pub fn count(&self, level: i32) -> usize {
        self.levels.iter().find(|(other, _)| *other == level).map_or(0, |(_, entries)| entries.len())
    }

    /// Adds an entry at a level, which may be one around the current one.
    pub fn push(&mut self, level: i32, entry: T) {
        let place = self.levels.partition_point(|(other, _)| *other < level);
        match self.levels.get_mut(place) {
            Some((other, entries)) if *other == level => entries.push(entry),
            _ => self.levels.insert(place, (level, vec![entry])),
        }
    }

    /// Removes and returns the entries of `level`, which are the only ones that may be written at `level`.
    pub fn take(&mut self, level: i32) -> Vec<T> {
        match self.levels.last() {
            Some((newest, _)) if *newest == level => self.levels.pop().map(|(_, entries)| entries).unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    /// Discards the entries of the subtransaction at `level`, which rolled back, and of those within it.
    pub fn roll_back(&mut self, level: i32) {
        self.levels.retain(|(other, _)| *other < level);
    }

    /// Assigns the entries of the released subtransaction at `level` to the level above.
    pub fn release(&mut self, level: i32) {
        for entry in self.take(level) {
            self.push(level - 1, entry);
        }
    }

    /// Discards all entries at the end of the transaction.
    pub fn clear(&mut self) {
        self.levels.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(entries: &[(i32, &'static str)]) -> Pending<&'static str> {
        let mut pending = Pending::new();
        for (level, entry) in entries {
            pending.push(*level, *entry);
        }
        pending
    }

    #[test]
    fn entries_of_an_outer_level_wait_until_control_is_back_there() {
        let mut pending = pending(&[(1, "a"), (2, "b"), (2, "c")]);
        assert_eq!(pending.take(2), ["b", "c"]);
        assert!(pending.take(3).is_empty() && !pending.is_empty());
        assert_eq!(pending.take(1), ["a"]);
        assert!(pending.is_empty());
    }

    #[test]
    fn a_rolled_back_savepoint_takes_its_entries_and_those_of_deeper_ones_with_it() {
        let mut pending = pending(&[(1, "a"), (2, "b"), (4, "c")]);
        pending.roll_back(2);
        assert_eq!(pending.take(1), ["a"]);
        assert!(pending.is_empty());
    }

    #[test]
    fn a_released_savepoint_hands_its_entries_on() {
        let mut pending = pending(&[(1, "a"), (3, "b")]);
        pending.release(3);
        pending.release(2);
        assert_eq!(pending.take(1), ["a", "b"]);
    }
}
