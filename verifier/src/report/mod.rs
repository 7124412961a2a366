//! The report as a page for people: `--html`.
//!
//! One file without scripts, fonts or pictures from elsewhere. Memory stays bounded: `tally` counts while the bundle is
//! verified, and `page` writes tables that say how many more there are.

mod chart;
mod escape;
pub mod file;
pub mod page;
#[cfg(test)]
mod parsed;
mod parts;
mod sections;
pub mod tally;
mod values;
