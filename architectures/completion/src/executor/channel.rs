//! A connected socket, what has arrived on it and is not used yet, and its TLS.
//!
//! **Invariant:** nothing here waits or makes a system call: records come from what has arrived,
//! and go to what is to be sent.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use common::session::{Chan, TlsConfig};
use common::tls::{Tls, Wire};

/// One connection of a conversation.
pub(crate) struct Channel {
    pub(crate) socket: TcpStream,
    pub(crate) inbox: Inbox,
    /// Boxed, because a connection without shall be small.
    pub(crate) secured: Option<Box<Secured>>,
}

/// What has arrived.
#[derive(Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    used: usize,
    /// Nothing more comes.
    pub(crate) ended: bool,
    /// Because the connection is broken.
    pub(crate) error: Option<io::Error>,
}

/// A connection's TLS, and the records that it has made.
pub(crate) struct Secured {
    tls: Tls,
    outbox: Vec<u8>,
    /// How many bytes of a write the outbox has, which is answered when they are sent.
    owed: usize,
}

/// What a step of TLS needs.
pub(crate) enum Tried {
    /// Nothing; but what is in the outbox belongs to it.
    Done,
    /// That the outbox is sent, or, if there is nothing in it, that more arrives.
    NotYet,
    Failed(io::Error),
}

impl Channel {
    pub(crate) fn new(socket: TcpStream) -> Self {
        Channel { socket, inbox: Inbox::default(), secured: None }
    }

    /// The records that wait to be sent, and how many bytes of a write they are.
    pub(crate) fn unsent(&self) -> Option<(&[u8], usize)> {
        let secured = self.secured.as_ref().filter(|secured| !secured.outbox.is_empty())?;
        Some((&secured.outbox, secured.owed))
    }

    /// They are not sent any more.
    pub(crate) fn discard_unsent(&mut self) {
        if let Some(secured) = &mut self.secured {
            secured.outbox.clear();
        }
    }

    /// So many bytes of records were sent: if they were the last of a write, how long that was.
    pub(crate) fn sent(&mut self, count: usize) -> Option<usize> {
        let secured = self.secured.as_mut().expect("it has records");
        secured.outbox.drain(..count);
        let is_over = secured.outbox.is_empty() && secured.owed > 0;
        is_over.then(|| std::mem::take(&mut secured.owed))
    }

    /// Does a step of the TLS that is there.
    fn step<T>(
        &mut self,
        work: impl FnOnce(&mut Tls, &mut Memory<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        let secured = self.secured.as_mut().expect("it is secured");
        let Secured { tls, outbox, .. } = &mut **secured;
        work(tls, &mut Memory { inbox: &mut self.inbox, outbox })
    }

    pub(crate) fn shake_hands(&mut self, chan: Chan, config: &TlsConfig) -> Tried {
        if self.secured.is_none() {
            match Tls::new(config.of(chan)) {
                Ok(tls) => {
                    let secured = Secured { tls, outbox: Vec::new(), owed: 0 };
                    self.secured = Some(Box::new(secured));
                }
                Err(error) => return Tried::Failed(error),
            }
        }
        self.step(|tls, wire| tls.shake_hands(wire)).into()
    }

    /// Appends what can be read; an empty piece is the end of the stream.
    pub(crate) fn decrypt(&mut self, into: &mut Vec<u8>) -> Tried {
        loop {
            let tried = self.step(|tls, wire| tls.receive(wire, into).map(drop)).into();
            match tried {
                // Much has come, and no text. What has come has an end.
                Tried::Failed(error) if error.kind() == io::ErrorKind::Interrupted => {}
                tried => return tried,
            }
        }
    }

    /// Makes records of some of these bytes, which are owed an answer then.
    pub(crate) fn encrypt(&mut self, bytes: &[u8]) -> io::Result<()> {
        let count = self.step(|tls, wire| tls.send(wire, bytes))?;
        self.secured.as_mut().expect("it is secured").owed = count;
        Ok(())
    }

    /// Makes the record that tells the peer that nothing more comes; not in the midst of a write,
    /// lest the peer take what it has for the whole.
    pub(crate) fn close(&mut self) -> Tried {
        match &mut self.secured {
            Some(secured) if secured.owed == 0 => self.step(|tls, wire| tls.close(wire)).into(),
            Some(secured) => {
                secured.outbox.clear();
                Tried::Done
            }
            None => Tried::Done,
        }
    }

    /// Whether the peer has said that nothing more comes from it.
    pub(crate) fn has_said_its_end(&self) -> bool {
        self.secured.as_ref().is_some_and(|secured| secured.tls.has_ended())
    }
}

impl From<io::Result<()>> for Tried {
    fn from(result: io::Result<()>) -> Self {
        match result {
            Ok(()) => Tried::Done,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Tried::NotYet,
            Err(error) => Tried::Failed(error),
        }
    }
}

impl Inbox {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.used
    }

    /// There is something to be told: bytes, or the end.
    pub(crate) fn has_news(&self) -> bool {
        self.len() > 0 || self.ended
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..std::mem::take(&mut self.used));
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn clear(&mut self) {
        (self.bytes, self.used) = (Vec::new(), 0);
    }

    /// Moves what has arrived.
    pub(crate) fn take(&mut self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.bytes[self.used..]);
        self.clear();
    }
}

/// What has arrived and what is to be sent, as a wire.
struct Memory<'a> {
    inbox: &'a mut Inbox,
    outbox: &'a mut Vec<u8>,
}

impl Wire for Memory<'_> {
    fn is_drained(&self) -> bool {
        self.inbox.len() == 0
    }
}

impl Read for Memory<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Inbox { bytes, used, ended, error } = &mut *self.inbox;
        if *used == bytes.len() {
            (*bytes, *used) = (Vec::new(), 0);
            return match error.take() {
                Some(error) => Err(error),
                None if *ended => Ok(0),
                None => Err(io::ErrorKind::WouldBlock.into()),
            };
        }
        let count = (&bytes[*used..]).read(buffer)?;
        *used += count;
        Ok(count)
    }
}

impl Write for Memory<'_> {
    fn write(&mut self, records: &[u8]) -> io::Result<usize> {
        self.outbox.extend_from_slice(records);
        Ok(records.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
