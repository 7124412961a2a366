//! Export: bundles of evidence for outsiders, with the proofs and artifacts that belong to them.

pub mod bundle;
mod event_proof;
pub mod evidence;
pub mod proof;
