//! Retention: what leaves the database lawfully, and what is known of it afterwards.

pub mod erasure;
