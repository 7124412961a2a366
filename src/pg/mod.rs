//! The only place that touches raw Postgres. Rooms call these functions and see ordinary Rust.

pub mod backend_local;
pub mod clock;
pub mod cursor;
pub mod ddl;
pub mod fmgr;
pub mod hooks;
pub mod json;
pub mod plan_cache;
pub mod planning;
pub mod processes;
pub mod report;
pub mod returned_text;
pub mod scratch;
pub mod server;
pub mod settings;
pub mod spi;
pub mod tables;
pub mod transaction;
pub mod trigger;
pub mod user;
