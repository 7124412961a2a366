//! The advisor: runs the rules of the core with the rights of the caller.

mod advise;
