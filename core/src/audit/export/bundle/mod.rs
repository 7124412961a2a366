//! Bundles: a part of an organization's history in one file, with everything needed to check it without the database.
//!
//! `tenancy.export_evidence` writes a bundle, and the program `pg-tenancy-verify` reads it. A bundle is a file of JSON
//! Lines. Each line has exactly one valid spelling, so that no byte can change unnoticed. `docs/evidence.md` specifies
//! the format.

pub mod failure;
pub mod line;
pub mod observer;
pub mod reader;
pub mod report;
pub mod reviewed;
#[cfg(test)]
mod sample;
pub mod verify;
pub mod writer;

/// The version of the format, the member `format` of the manifest.
pub const FORMAT: &str = "pg_tenancy/bundle/2";

/// The `predicateType` of the statement about the whole bundle.
pub const PREDICATE: &str = "pg-tenancy:bundle:1";
