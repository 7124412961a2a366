//! Who calls: tokens, keys, claims, membership, role.

pub mod algorithm;
pub mod cache;
pub mod key_file;
pub mod keys;
pub mod mapping;
pub mod membership;
pub mod redact;
pub mod role;
pub mod sso;
pub mod strict_json;
pub mod token;

#[cfg(feature = "pg")]
mod assume_pg;
#[cfg(feature = "pg")]
mod authenticate_pg;
#[cfg(feature = "pg")]
mod issuer_pg;
#[cfg(feature = "pg")]
mod lookup_pg;
#[cfg(feature = "pg")]
mod revalidate_pg;
#[cfg(feature = "pg")]
mod sso_pg;
#[cfg(feature = "pg")]
pub use revalidate_pg::revalidate;
