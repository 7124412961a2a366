//! Files that pg_tenancy reads and writes outside of the database: secrets, signing keys and published checkpoints.
//!
//! The crate does not depend on Postgres.

#![warn(missing_docs)]

pub mod checkpoint_files;
pub mod secret_file;
pub mod signing_key;
