//! What pg_tenancy reads and writes outside of the database, without Postgres: secret files, the keys that sign checkpoints,
//! and the files of published checkpoints.

pub mod checkpoint_files;
pub mod secret_file;
pub mod signing_key;
