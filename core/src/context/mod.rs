//! The context of a transaction: actor, organization, permissions and expiry.

mod transaction_identity;
mod value;

pub use transaction_identity::TransactionIdentity;
pub use value::{ASSUMED, Context, Organization, Permissions, Scope};
