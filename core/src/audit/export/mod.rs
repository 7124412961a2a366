//! Export: bundles of evidence for outsiders, with the proofs and artifacts that belong to them.

pub mod bundle;
pub mod evidence;
pub mod statement;
