//! Tables below SQL: the extension's own, and the shape and parents of rows in those of users.

pub mod catalog;
pub mod parent;
pub mod remembered;
pub mod scan;
pub mod session_lock;
pub mod table;
