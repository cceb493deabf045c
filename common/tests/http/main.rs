//! The HTTP session in a world without sockets.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod bodies;
mod contract;
mod files;
mod replies;
mod table;
mod world;
