//! What pg_tenancy asks of the operating system: files of secrets, signing keys and published checkpoints, commands
//! that hand over keys.
//!
//! The crate does not depend on Postgres.

#![warn(missing_docs)]

pub mod checkpoint_files;
pub mod command;
pub mod secret_file;
pub mod signing_key;
