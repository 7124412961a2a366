//! What pg_tenancy asks of the operating system: files of secrets, signing keys and published checkpoints, commands
//! that hand over keys, and memory that keys are kept in.
//!
//! The crate does not depend on Postgres.

#![warn(missing_docs)]

pub mod checkpoint_files;
pub mod command;
pub mod journal;
pub mod locked_keys;
pub mod secret_file;
pub mod signing_key;
