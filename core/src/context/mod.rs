//! The context of a transaction: actor, organization, permissions and expiry.

mod answers;
mod transaction_identity;
mod value;

pub use answers::Answers;
pub use transaction_identity::TransactionIdentity;
pub use value::{ASSUMED, Context, ELEVATED, Elevation, EncodedContext, Organization, Scope};
