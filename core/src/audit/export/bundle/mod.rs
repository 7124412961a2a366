//! Bundles: a part of an organization's history in one file, with all that is needed to check it without the database.
//!
//! `tenancy.export_evidence` writes one, the program `pg-tenancy-verify` reads it. A bundle is JSON Lines. Each line is
//! written in exactly one way, so that no byte can change without a trace. `docs/evidence.md` has the format.

pub mod failure;
pub mod line;
pub mod reader;
pub mod report;
#[cfg(test)]
mod sample;
pub mod verify;
pub mod writer;

/// The version of the format.
pub const FORMAT: &str = "pg_tenancy/bundle/1";

/// The type of the predicate in the statement about the whole bundle.
pub const PREDICATE: &str = "pg-tenancy:bundle:1";
