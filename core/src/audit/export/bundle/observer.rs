//! Hears of the parts of a bundle while they are verified, for a reader that keeps what it needs of them.

use super::line::{Batch, Withheld};
use crate::audit::format::event::Actor;

/// Hears of each line about events, in the order of the bundle.
///
/// A line is heard of after it was compared with the lines before it. It is proved only when the whole bundle is: what
/// an observer heard of a bundle that [`verify_with`](super::verify::verify_with) refuses in the end proves nothing.
pub trait Observer {
    /// An actor, before the first batch that names it.
    fn actor(&mut self, _actor: &Actor) {}

    /// An actor of whom the bundle has only the digest.
    fn withheld(&mut self, _actor: &Withheld) {}

    /// A batch; `here` is false for one outside of the positions of the bundle.
    fn batch(&mut self, _batch: &Batch, _here: bool) {}

    /// The positions, from the first to the last, of a batch that the database no longer had.
    fn absent(&mut self, _first: i64, _last: i64) {}
}

/// Hears and keeps nothing.
impl Observer for () {}
