//! The functional suite, run over sockets against every architecture that cargo knows: whatever one
//! of them cannot do fails here, under its name.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod clients;
mod command_line;
mod disk;
mod faults;
mod guestbook;
#[path = "../http/table.rs"]
mod http_table;
mod ipv6;
mod leaving;
mod logins;
mod passing;
mod passive;
mod replies;
mod scarcity;
mod scenes;
mod secure;
mod support;
mod text;
mod variants;
mod web;
mod web_clients;
