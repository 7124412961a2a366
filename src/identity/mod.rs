//! Who calls: tokens, keys, claims, membership.

pub mod algorithm;
pub mod keys;
pub mod membership;
pub mod strict_json;
pub mod token;

#[cfg(feature = "pg")]
mod authenticate_pg;
#[cfg(feature = "pg")]
mod issuer_pg;
