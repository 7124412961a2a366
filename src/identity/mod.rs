//! Who calls: from a token to the context of the transaction.

mod assume;
mod authenticate;
mod issuer;
mod lookup;
mod organization;
mod revalidate;
mod sso;
mod test_sso;
mod verdict;

pub use organization::{hold as hold_organization, is_active_member};
pub use revalidate::revalidate;
pub use verdict::TABLES;
