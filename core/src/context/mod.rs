//! The sealed context: who acts, for which organization, with which permissions, until when.

mod transaction_identity;
mod value;

pub use transaction_identity::TransactionIdentity;
pub use value::{Context, Organization, Permissions, Scope};
