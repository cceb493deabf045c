//! What joins sessions to a ring: the [`ring`] with its [`buffers`]; a [`conversation`] with its two
//! channels, each action [submitted once](work); jobs on the ring ([`files`]) and on [`threads`].

mod buffers;
mod channel;
mod conversation;
mod files;
mod ring;
mod threads;
mod work;

pub(crate) use conversation::{Conversation, Fate};
pub(crate) use ring::{Completion, Kind, Ring, advice};
pub(crate) use threads::Threads;
