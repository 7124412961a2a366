//! Export: bundles of evidence for outsiders, with the proofs and artifacts that belong to them.

pub mod bundle;
pub mod evidence;
pub mod statement;

#[cfg(feature = "pg")]
pub(crate) mod bundle_pg;
#[cfg(feature = "pg")]
pub(crate) mod evidence_pg;
#[cfg(feature = "pg")]
pub(crate) mod proof_pg;
