//! Statements that change objects, roles and settings, as event triggers and parse trees show them.

pub mod cluster_change;
pub mod event_trigger;
pub mod grant;
pub mod node;
pub mod objects;
pub mod statement;
