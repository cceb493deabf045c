//! What a connection says and expects, apart from I/O: a session is fed what arrived, in any
//! pieces, and names what it has to send. It knows no socket and no clock; the engine does.

mod echo;
mod ftp;
mod http;
mod pattern;
mod requests;
mod secure;

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use echo::Echo;
pub(crate) use ftp::Ftp;
use http::Http;
use secure::Secure;

use crate::class::{Class, Protocol};
use crate::record::{Failure, Kind, Operation};

/// The connection that bytes come from. Only FTP has a second one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    /// A step of a script is done: the number of its name among the script's.
    Did(usize),
    /// Nothing is said for so long; then [`Session::resume`].
    Think(Duration),
    /// The oldest request in flight has its whole, correct reply.
    Replied,
}

/// A session of any protocol.
#[derive(Clone, Debug)]
pub(crate) enum Client {
    Echo(Echo),
    Ftp(Ftp),
    Http(Http),
    Secure(Box<Secure>),
}

impl Client {
    /// What is large in it is shared by its clones.
    pub(crate) fn new(class: &Class, target: SocketAddr) -> Self {
        let plain = match class.protocol {
            Protocol::Http => Self::Http(Http::new(class, target)),
            Protocol::Ftp => Self::Ftp(Ftp::new(class)),
            Protocol::Echo => Self::Echo(Echo::new(class)),
        };
        if class.tls { Self::Secure(Box::new(Secure::new(plain, target))) } else { plain }
    }
}

/// The same of whichever session it is.
macro_rules! each {
    ($client:expr, $session:ident => $result:expr) => {
        match $client {
            Client::Echo($session) => $result,
            Client::Ftp($session) => $result,
            Client::Http($session) => $result,
            Client::Secure($session) => $result,
        }
    };
}

impl Session for Client {
    fn number(&mut self, number: usize) {
        each!(self, session => session.number(number));
    }

    fn reset(&mut self) {
        each!(self, session => session.reset());
    }

    fn is_one_request(&self) -> bool {
        each!(self, session => session.is_one_request())
    }

    fn is_ready(&self) -> bool {
        each!(self, session => session.is_ready())
    }

    fn request(&mut self) {
        each!(self, session => session.request());
    }

    fn resume(&mut self) {
        each!(self, session => session.resume());
    }

    fn output(&self) -> &[u8] {
        each!(self, session => session.output())
    }

    fn wrote(&mut self, count: usize) {
        each!(self, session => session.wrote(count));
    }

    fn input(&mut self, channel: Channel, bytes: &mut &[u8]) -> Result<Step, Failure> {
        each!(self, session => session.input(channel, bytes))
    }

    fn data_opened(&mut self) {
        each!(self, session => session.data_opened());
    }

    fn only_counts_data(&self) -> bool {
        each!(self, session => session.only_counts_data())
    }

    fn data_output(&self) -> Option<(&Arc<[u8]>, Range<usize>)> {
        each!(self, session => session.data_output())
    }

    fn data_wrote(&mut self, count: usize) -> bool {
        each!(self, session => session.data_wrote(count))
    }

    fn ended(&mut self, channel: Channel) -> Result<(), Failure> {
        each!(self, session => session.ended(channel))
    }

    fn is_over(&self) -> bool {
        each!(self, session => session.is_over())
    }
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

    /// The pause is over.
    fn resume(&mut self) {}

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
struct Expected {
    bytes: Option<u64>,
    crc32: Option<u32>,
}

impl Expected {
    fn of(class: &Class) -> Self {
        Self { bytes: class.expected_bytes, crc32: class.expected_crc32 }
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
