//! The one shared protocol crate: the contract ([`session`], [`job`]), the protocols, and what
//! joins them to sockets ([`conn`], [`server`]).
//!
//! An architecture's `main` calls [`serve`] and decides who accepts and who runs which connection.

pub mod certificate;
pub mod clock;
pub mod conformance;
pub mod conn;
pub mod crew;
mod drain;
pub mod echo;
pub mod ftp;
pub mod guestbook;
pub mod http;
mod implicit_tls;
pub mod job;
mod limits;
mod options;
mod partial;
pub mod password;
pub mod ports;
pub mod process;
pub mod protocol;
pub mod server;
pub mod session;
pub mod sockets;
mod source;
mod stream;
mod tally;
pub mod tls;
pub mod users;

pub use conn::{Conn, Wait};
pub use drain::{Live, is_draining};
pub use options::{Architecture, Shown, Workers, processors};
pub use server::{Accepted, Server, back_off, serve, serve_with, serve_within};
pub use source::Outbox;
pub use tally::work_as;
