//! A call to the backend: one request on a connection of its own, and its reply.
//!
//! **Invariant:** however it goes, the connection is closed before there is an outcome.

use std::net::SocketAddr;

use super::response::Status;
use crate::session::{Action, Chan, Event};

/// The largest reply that is taken from a backend, head and body, in bytes.
const MAX_REPLY_BYTES: usize = 64 * 1024;

/// A call in progress.
#[derive(Debug)]
pub(super) struct Call {
    step: Step,
    address: SocketAddr,
    request: Vec<u8>,
    sent: usize,
    reply: Vec<u8>,
    outcome: Status,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Connect,
    Send,
    Receive,
    Close,
    Done,
}

impl Call {
    /// Asks for a reply that takes so many milliseconds.
    pub(super) fn new(address: SocketAddr, delay_ms: u64) -> Self {
        let request = format!(
            "GET /block/{delay_ms} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        );
        Call {
            step: Step::Connect,
            address,
            request: request.into_bytes(),
            sent: 0,
            reply: Vec::new(),
            outcome: Status::BAD_GATEWAY,
        }
    }

    pub(super) fn poll(&self) -> Action<'_> {
        match self.step {
            Step::Connect => Action::Connect(self.address),
            Step::Send => Action::Write(Chan::Data, &self.request[self.sent..]),
            Step::Receive => Action::Read(Chan::Data),
            Step::Close | Step::Done => Action::Close(Chan::Data),
        }
    }

    pub(super) fn handle(&mut self, event: &Event<'_>) {
        self.step = match (self.step, event) {
            (Step::Connect, Event::Opened(_)) => Step::Send,
            (Step::Send, Event::Wrote(count)) if *count > 0 => {
                self.sent += count;
                if self.sent < self.request.len() { Step::Send } else { Step::Receive }
            }
            (Step::Receive, Event::Read(Chan::Data, input)) => self.received(input),
            (Step::Close, _) => Step::Done,
            (_, Event::TimedOut) => self.end(Status::GATEWAY_TIMEOUT),
            _ => self.end(Status::BAD_GATEWAY),
        };
    }

    /// How it went, and the body if it went well; `None` as long as it goes on.
    pub(super) fn outcome(&self) -> Option<(Status, &[u8])> {
        if self.step != Step::Done {
            return None;
        }
        let body = if self.outcome == Status::OK {
            whole_body(&self.reply, true).unwrap_or_default()
        } else {
            b""
        };
        Some((self.outcome, body))
    }

    fn received(&mut self, input: &[u8]) -> Step {
        if self.reply.len() + input.len() > MAX_REPLY_BYTES {
            return self.end(Status::BAD_GATEWAY);
        }
        self.reply.extend_from_slice(input);
        match whole_body(&self.reply, input.is_empty()) {
            Some(_) => self.end(Status::OK),
            None if input.is_empty() => self.end(Status::BAD_GATEWAY),
            None => Step::Receive,
        }
    }

    fn end(&mut self, outcome: Status) -> Step {
        self.outcome = outcome;
        Step::Close
    }
}

/// The body of a good reply, if all of it is there: as long as its head says, or up to the end of
/// the stream.
fn whole_body(reply: &[u8], ended: bool) -> Option<&[u8]> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = head.parse(reply).ok()? else {
        return None;
    };
    if head.code != Some(200) {
        return None;
    }
    let body = &reply[length..];
    let field = |name: &str| {
        let mut fields = head.headers.iter();
        fields.find(|field| field.name.eq_ignore_ascii_case(name))
    };
    // It was not told that we take anything but a plain body.
    if field("Transfer-Encoding").is_some() {
        return None;
    }
    match field("Content-Length") {
        Some(field) => {
            let length: usize = str::from_utf8(field.value).ok()?.trim().parse().ok()?;
            body.get(..length)
        }
        None => ended.then_some(body),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(pieces: &[&str]) -> (Status, Vec<u8>) {
        let address = "127.0.0.1:80".parse().unwrap();
        let mut call = Call::new(address, 5);
        call.handle(&Event::Opened(address));
        call.handle(&Event::Wrote(call.request.len()));
        for piece in pieces {
            assert!(matches!(call.poll(), Action::Read(Chan::Data)));
            call.handle(&Event::Read(Chan::Data, piece.as_bytes()));
        }
        assert!(matches!(call.poll(), Action::Close(Chan::Data)));
        assert_eq!(call.outcome(), None);
        call.handle(&Event::Closed);
        let (status, body) = call.outcome().unwrap();
        (status, body.to_vec())
    }

    #[test]
    fn a_reply_ends_where_its_length_or_the_stream_says() {
        let bad = (Status::BAD_GATEWAY, Vec::new());
        let good = (Status::OK, b"OK".to_vec());
        assert_eq!(call(&["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nO", "K"]), good);
        assert_eq!(call(&["HTTP/1.1 200 OK\r\n", "\r\nO", "K", ""]), good);
        assert_eq!(call(&["HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nOK", ""]), bad);
        assert_eq!(call(&["HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nno", ""]), bad);
        assert_eq!(call(&["no HTTP at all", ""]), bad);
        assert_eq!(call(&[""]), bad);
        assert_eq!(call(&["x".repeat(MAX_REPLY_BYTES + 1).as_str()]), bad);
    }
}
