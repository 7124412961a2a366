//! A value that follows savepoints: a rollback of a subtransaction also undoes its changes to the value.
//!
//! Postgres keeps its own settings in this way (`GucStack`, src/backend/utils/misc/guc.c). State in backend memory that
//! lasts for a transaction needs the same: a rollback removes the rows of a savepoint, and so must remove what memory
//! holds of them.

/// A value with the copies that a rollback of a subtransaction restores.
///
/// Levels are those of `GetCurrentTransactionNestLevel()`: 1 is the transaction itself.
#[derive(Debug, Default)]
pub struct SavepointStack<T> {
    value: T,
    /// The value before the first change at each level; levels strictly increase.
    saved: Vec<(i32, T)>,
}

impl<T: Clone + Default> SavepointStack<T> {
    /// Makes a stack that holds the initial value and no copies.
    pub const fn new(value: T) -> Self {
        SavepointStack { value, saved: Vec::new() }
    }

    /// The current value.
    pub fn get(&self) -> &T {
        &self.value
    }

    /// Returns the value for a change at `level`, after saving a copy if the level has none yet.
    pub fn change(&mut self, level: i32) -> &mut T {
        if level > 1 && self.saved.last().is_none_or(|(newest, _)| *newest < level) {
            self.saved.push((level, self.value.clone()));
        }
        &mut self.value
    }

    /// Restores the value after the subtransaction at `level` rolled back.
    pub fn roll_back(&mut self, level: i32) {
        while self.saved.last().is_some_and(|(newest, _)| *newest >= level) {
            if let Some((_, before)) = self.saved.pop() {
                self.value = before;
            }
        }
    }

    /// Assigns the changes of the released subtransaction at `level` to the level above.
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

    /// Resets the value to its default at the end of the transaction.
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
