//! The only place that touches raw Postgres. Rooms call these functions and see ordinary Rust.

pub mod catalog;
pub mod configuration;
pub mod cursor;
pub mod ddl;
pub mod function;
pub mod json;
pub mod log;
pub mod parallel;
pub mod parent;
pub mod permission;
pub mod progress;
pub mod reading;
pub mod report;
pub mod scan;
pub mod setting;
pub mod shared;
pub mod spi;
pub mod table;
pub mod transaction;
pub mod trigger;
pub mod user;
pub mod worker;
