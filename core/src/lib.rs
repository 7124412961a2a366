//! The rules of pg_tenancy, without Postgres, files or processes.
//!
//! The modules have the names of the rooms in `docs/architecture.md`. The extension asks this crate what a token is worth,
//! which statements protect a table and which bytes a hash is taken over; `pg-tenancy-verify` checks bundles with it.

pub mod advisor;
pub mod audit;
pub mod context;
pub mod error;
pub mod guardrail;
pub mod identity;
pub mod policy;
pub mod savepoint_stack;
