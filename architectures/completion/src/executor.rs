//! What joins sessions to a ring: the [`ring`] with its [`buffers`]; a [`conversation`] with its
//! two [`channel`]s, on which each action is submitted once, as [`work`]; and jobs, on the ring
//! ([`files`]) or on [`threads`].

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
