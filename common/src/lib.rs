//! The one shared protocol crate: the contract, the protocols, and what joins them to sockets.

pub mod echo;
pub mod ftp;
pub mod job;
pub mod protocol;
pub mod session;
