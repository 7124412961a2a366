//! Controls: who an organization's members are and what they may do, what it allows itself only after somebody else has
//! approved it, and what it is alerted of.
//!
//! The rules of permissions and approvals are in the core's room of the same name.

mod action_type;
mod action_type_request;
mod alert;
mod break_glass;
mod break_glass_grant;
mod break_glass_memory;
mod break_glass_policy;
mod break_glass_report;
mod break_glass_statement;
mod break_glass_use;
mod exception;
mod exception_definition;
mod exception_kind;
mod exception_memory;
mod exception_row;
mod guard;
mod guardrail_setting;
mod holding;
mod input;
mod last_admin;
mod member;
mod review;
mod review_closing;
mod review_opening;
mod review_report;
mod review_row;
mod review_subject;
mod role;
mod settling;

pub use action_type_request::approval_in_force;
pub use alert::raise_alert;
pub use break_glass_memory::GRANTS;
pub use break_glass_statement::{STATEMENTS, before_prepare, grant_end};
pub use break_glass_use::grant_in_force;
pub use exception_memory::{EXCEPTIONS, statement_started};
pub use input::require_action_type_name;
pub use review_subject::{Rooms, define};
