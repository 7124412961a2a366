//! Settings: the ordinary ones, and the one that only the library can write.

pub mod configuration;
pub mod scoped;
pub mod sealed;
