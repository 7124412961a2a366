//! The identity of the caller: tokens, keys, claims, membership, role and single sign-on.

pub mod algorithm;
pub mod bounded_cache;
pub mod claim_mapping;
pub mod dormancy;
pub mod keys;
pub mod membership;
pub mod role;
pub mod sso;
pub mod strict_json;
pub mod token;
pub mod token_redaction;
