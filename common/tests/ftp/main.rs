//! The FTP session in a world without sockets.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod commands;
mod contract;
mod listings;
mod logins;
mod security;
mod table;
mod text;
mod transfers;
mod world;
