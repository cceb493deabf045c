//! The one shared protocol crate.
