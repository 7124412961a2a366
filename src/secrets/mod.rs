//! Secrets of organizations: the keys that their values are sealed under, and the values.
//!
//! Sealing itself, and the format of what is read here, are in the core's room of the same name.

mod data_key;
mod erasure;
mod external_id;
mod guard;
mod key_cache;
mod key_encryption_key;
mod key_ring;
mod keys;
mod locked_key;
mod posture;
mod provider;
mod recipient;
mod resealing;
mod reveal;
mod reveal_record;
mod reveal_rules;
mod rewrapping;
mod rotation;
mod rules;
mod secret;
mod store;
mod value;
mod verification;
mod versions;

pub use reveal_record::take_in as take_in_reveals;
pub use rules::own_reviewed;
pub use store::destroy_reviewed;

/// A savepoint was rolled back or released.
pub fn savepoint(level: i32, rolled_back: bool) {
    reveal_record::savepoint(level, rolled_back);
}

/// The transaction is over: keys that have had their time leave the session's memory.
pub fn transaction_ended(committed: bool) {
    reveal_record::transaction_ended(committed);
    rewrapping::transaction_ended(committed);
    resealing::transaction_ended(committed);
    key_cache::expire();
    key_ring::expire();
}
