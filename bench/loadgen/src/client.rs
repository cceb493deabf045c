//! What a connection says and expects, apart from I/O: a session is fed what arrived, in any
//! pieces, and names what it has to send. It knows no socket and no clock; the engine does.

mod echo;
mod ftp;
mod http;
mod pattern;
mod requests;

use std::ops::Range;
use std::sync::Arc;

pub(crate) use echo::Echo;
pub(crate) use ftp::Ftp;
pub(crate) use http::Http;

use crate::plan::Plan;
use crate::record::{Failure, Kind, Operation};

/// The connection that bytes come from. Only FTP has a second one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    Control,
    Data,
}

/// What the input has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// All input is consumed and nothing more follows from it.
    More,
    /// A phase of the conversation has ended.
    Passed(Operation),
    /// Open the data connection, to this port of the server.
    Connect(u16),
    /// The oldest request in flight has its whole, correct reply.
    Replied,
}

/// One side of a conversation. After each change the engine calls [`Session::input`] until it
/// answers [`Step::More`], then asks for [`Session::output`].
pub(crate) trait Session {
    /// Tells this session from the others of its run, by the number of its connection.
    fn number(&mut self, _number: usize) {}

    /// Starts over, for a new connection.
    fn reset(&mut self);

    /// Whether the whole conversation, from the connect on, counts as one request.
    fn is_one_request(&self) -> bool {
        false
    }

    /// Whether a request may be made now.
    fn is_ready(&self) -> bool;

    /// Adds a request to the output.
    fn request(&mut self);

    /// What is to be sent on the control connection; more may follow when this is written.
    fn output(&self) -> &[u8];

    /// So many bytes of the output are sent.
    fn wrote(&mut self, count: usize);

    /// Takes from the front of `bytes`.
    fn input(&mut self, channel: Channel, bytes: &mut &[u8]) -> Result<Step, Failure>;

    /// The data connection is open.
    fn data_opened(&mut self) {}

    /// Whether what comes on the data connection is counted only, and never looked at.
    fn only_counts_data(&self) -> bool {
        false
    }

    /// What is to be sent on the data connection, a range of something that never changes; more
    /// may follow when this is written.
    fn data_output(&self) -> Option<(&Arc<[u8]>, Range<usize>)> {
        None
    }

    /// So many bytes of it are sent. True if that were the last: the connection is to be closed.
    fn data_wrote(&mut self, _count: usize) -> bool {
        false
    }

    /// The server has ended this channel.
    fn ended(&mut self, channel: Channel) -> Result<(), Failure>;

    /// Whether the conversation is over and the connection is to be closed.
    fn is_over(&self) -> bool {
        false
    }
}

/// What the body of every reply must be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    bytes: Option<u64>,
    crc32: Option<u32>,
}

impl Expected {
    pub(crate) fn of(plan: &Plan) -> Self {
        Self { bytes: plan.expected_bytes, crc32: plan.expected_crc32 }
    }

    /// Judges a length that the server has announced.
    fn check_length(&self, bytes: u64) -> Result<(), Failure> {
        match self.bytes {
            Some(expected) if expected != bytes => Err(Failure::new(
                Kind::WrongLength,
                format!("the reply has {bytes} bytes, expected {expected}"),
            )),
            _ => Ok(()),
        }
    }
}

/// The running checksum of a body; costs nothing where none is expected.
#[derive(Clone, Debug)]
struct Checksum {
    expected: Option<u32>,
    hasher: crc32fast::Hasher,
}

impl Checksum {
    fn new(expected: &Expected) -> Self {
        Self { expected: expected.crc32, hasher: crc32fast::Hasher::new() }
    }

    fn reset(&mut self) {
        self.hasher.reset();
    }

    fn update(&mut self, bytes: &[u8]) {
        if self.expected.is_some() {
            self.hasher.update(bytes);
        }
    }

    /// Judges what came since the last call.
    fn finish(&mut self) -> Result<(), Failure> {
        let Some(expected) = self.expected else {
            return Ok(());
        };
        let actual = self.hasher.clone().finalize();
        self.reset();
        if actual == expected {
            return Ok(());
        }
        let detail = format!("the CRC-32 of the reply is {actual:08x}, expected {expected:08x}");
        Err(Failure::new(Kind::WrongBytes, detail))
    }
}
