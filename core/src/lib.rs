//! The rules of pg_tenancy, without Postgres, files or processes.
//!
//! The modules have the names of the rooms in `docs/architecture.md`. The extension uses this crate to verify tokens,
//! to plan the statements that protect a table, and to compute the hashes of the audit. `pg-tenancy-verify` uses it to
//! check bundles.

#![warn(missing_docs)]

pub mod advisor;
pub mod audit;
pub mod context;
pub mod controls;
pub mod error;
pub mod guardrail;
pub mod identity;
pub mod policy;
pub mod savepoint_stack;
pub mod secrets;
