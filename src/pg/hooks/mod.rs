//! The hooks into Postgres. Each is taken once, and its file says who hears it and in which order.
//!
//! | file | hook | heard by |
//! |---|---|---|
//! | `executor` | ExecutorStart, ExecutorRun, ExecutorFinish | `log`, `transaction`, `permission` and those below |
//! | `utility` | ProcessUtility | `throttle`, `reading`, `statement`, `statistics`, the rooms, `transaction` |
//! | `permission` | ExecutorCheckPerms | the rooms, `reading`, `statement` |
//! | `planner` | planner | `crate::pg::planning` |
//! | `statistics` | object_access | the rooms |
//! | `transaction` | callbacks of transactions and savepoints | the rooms |
//! | `log` | emit_log | the rooms |
//!
//! `reading`, `statement` and `throttle` take none: they follow what statements read, statements themselves, and those
//! that write, through the others.

pub mod executor;
pub mod log;
pub mod permission;
pub mod planner;
pub mod reading;
pub mod statement;
pub mod statistics;
mod throttle;
pub mod transaction;
pub mod utility;
