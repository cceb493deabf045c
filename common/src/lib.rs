//! The one shared protocol crate: the contract, the protocols, and what joins them to sockets.

pub mod conformance;
pub mod echo;
pub mod http;
pub mod job;
pub mod protocol;
pub mod session;
