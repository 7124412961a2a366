//! Settings: the ordinary ones, the one that only the library can write, and the one of databases of tests.

pub mod configuration;
pub mod scoped;
pub mod sealed;
pub mod several_identities;
