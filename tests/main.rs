//! The promises, over real connections: one program, one module a promise.
//!
//! `make test` runs all of it, `make check ONE=context::a_name` one test. What needs no server is tested in the
//! crates below core/, files/ and verifier/.

mod audit;
mod audit_checkpoint;
mod audit_coverage;
mod audit_proofs;
mod audit_tampering;
mod audit_vectors;
mod batches;
mod checkpoint;
mod clients;
mod common;
mod context;
mod crash;
mod erasure;
mod evidence;
mod guard;
mod head_tree;
mod history;
mod hostile_tokens;
mod house;
mod identity;
mod isolation;
mod keys;
mod leaks;
mod lifecycle;
mod maintenance;
mod online;
mod patient_superuser;
mod pooler;
mod postgrest;
mod providers;
mod quickstart;
mod random_schemas;
mod reads;
mod redaction;
mod remembered;
mod retention;
mod rewriting;
mod row_index;
mod seal_rows;
mod secret_keys;
mod secret_rewrapping;
mod secret_vectors;
mod sql_reference;
mod sso;
mod standby;
mod survival;
mod tampered_batches;
mod tampering;
mod throttle;
mod token_oracle;
mod verification;
mod worker;
mod wycheproof;
