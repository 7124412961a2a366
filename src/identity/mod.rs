//! Who calls: from a token to the context of the transaction.

mod assume;
mod authenticate;
mod dormancy;
mod holdings;
mod issuer;
mod lookup;
mod organization;
mod revalidate;
mod role;
mod sso;
mod test_sso;
mod verdict;

pub use dormancy::{is_dormant, record as record_sign_in};
pub use holdings::{
    RoleOf, access_ends, held_now, is_member, permissions_now, permits_everything, role_of, role_organization,
};
pub use organization::{hold as hold_organization, is_active_member};
pub use revalidate::revalidate;
pub use verdict::TABLES;
