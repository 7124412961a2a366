//! A value that follows savepoints: what a rolled-back subtransaction did to it is taken back.
//!
//! Postgres keeps its own settings this way (`GucStack`, src/backend/utils/misc/guc.c). State that a room keeps in
//! backend memory for the length of a transaction needs the same, because a row written under a savepoint vanishes
//! with it and what is remembered of that row must vanish too.

/// A value with the copies that rolled-back subtransactions return to.
///
/// Levels are those of `GetCurrentTransactionNestLevel()`: 1 is the transaction itself.
#[derive(Debug, Default)]
pub struct SavepointStack<T> {
    value: T,
    /// The value as it was before the first change made at a level; levels strictly increase.
    saved: Vec<(i32, T)>,
}

impl<T: Clone + Default> SavepointStack<T> {
    pub const fn new(value: T) -> Self {
        SavepointStack { value, saved: Vec::new() }
    }

    pub fn get(&self) -> &T {
        &self.value
    }

    /// The value for change at `level`; keeps a copy first if this level has none yet.
    pub fn change(&mut self, level: i32) -> &mut T {
        if level > 1 && self.saved.last().is_none_or(|(newest, _)| *newest < level) {
            self.saved.push((level, self.value.clone()));
        }
        &mut self.value
    }

    /// The subtransaction at `level` rolled back.
    pub fn roll_back(&mut self, level: i32) {
        while self.saved.last().is_some_and(|(newest, _)| *newest >= level) {
            if let Some((_, before)) = self.saved.pop() {
                self.value = before;
            }
        }
    }

    /// The subtransaction at `level` was released: its changes now belong to the level above.
    pub fn release(&mut self, level: i32) {
        let Some((newest, _)) = self.saved.last() else { return };
        if *newest != level {
            return;
        }
        let above = level - 1;
        let covered = above <= 1 || self.saved.iter().any(|(other, _)| *other == above);
        if covered {
            self.saved.pop();
        } else if let Some((newest, _)) = self.saved.last_mut() {
            *newest = above;
        }
    }

    /// The transaction ended.
    pub fn clear(&mut self) {
        self.value = T::default();
        self.saved.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rolled_back_savepoint_takes_its_changes_back() {
        let mut value = SavepointStack::new(0);
        *value.change(1) = 1;
        *value.change(2) = 2;
        *value.change(2) = 3;
        value.roll_back(2);
        assert_eq!(*value.get(), 1);
    }

    #[test]
    fn a_released_savepoint_hands_its_changes_to_the_one_around_it() {
        let mut value = SavepointStack::new(0);
        *value.change(1) = 1;
        *value.change(3) = 3;
        value.release(3);
        assert_eq!(*value.get(), 3);
        value.roll_back(2);
        assert_eq!(*value.get(), 1);
    }

    #[test]
    fn a_released_savepoint_keeps_the_older_copy_of_the_one_around_it() {
        let mut value = SavepointStack::new(0);
        *value.change(2) = 2;
        *value.change(3) = 3;
        value.release(3);
        value.roll_back(2);
        assert_eq!(*value.get(), 0);
    }

    #[test]
    fn a_change_released_to_the_transaction_itself_stays() {
        let mut value = SavepointStack::new(0);
        *value.change(2) = 2;
        value.release(2);
        *value.change(2) = 5;
        value.roll_back(2);
        assert_eq!(*value.get(), 2);
    }

    #[test]
    fn rolling_back_a_level_takes_deeper_ones_with_it() {
        let mut value = SavepointStack::new(0);
        *value.change(2) = 2;
        *value.change(4) = 4;
        value.roll_back(2);
        assert_eq!(*value.get(), 0);
    }

    #[test]
    fn the_end_of_the_transaction_leaves_nothing() {
        let mut value = SavepointStack::new(0);
        *value.change(2) = 2;
        value.clear();
        value.roll_back(2);
        assert_eq!(*value.get(), 0);
    }
}
