//! Echo: every byte sent must come back, in order.

use super::pattern;
use super::requests::Requests;
use super::{Channel, Session, Step};
use crate::class::Class;
use crate::record::{Failure, Kind};

#[derive(Clone, Debug)]
pub(crate) struct Echo {
    requests: Requests,
    /// How much of the present message has come back.
    received: usize,
}

impl Echo {
    pub(crate) fn new(class: &Class) -> Self {
        let payload = pattern::bytes(class.payload_bytes);
        Self { requests: Requests::new(&payload, class.pipeline), received: 0 }
    }
}

impl Session for Echo {
    fn reset(&mut self) {
        self.requests.reset();
        self.received = 0;
    }

    fn is_ready(&self) -> bool {
        true
    }

    fn request(&mut self) {
        self.requests.add();
    }

    fn output(&self) -> &[u8] {
        self.requests.output()
    }

    fn wrote(&mut self, count: usize) {
        self.requests.wrote(count);
    }

    fn input(&mut self, _: Channel, bytes: &mut &[u8]) -> Result<Step, Failure> {
        let rest = &self.requests.unit()[self.received..];
        let (piece, left) = bytes.split_at(bytes.len().min(rest.len()));
        if piece != &rest[..piece.len()] {
            return Err(Failure::new(Kind::WrongBytes, "the echo differs from what was sent"));
        }
        *bytes = left;
        self.received += piece.len();
        if self.received < self.requests.unit().len() {
            return Ok(Step::More);
        }
        self.received = 0;
        Ok(Step::Replied)
    }

    fn ended(&mut self, _: Channel) -> Result<(), Failure> {
        Err(Failure::closed_early())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> (Echo, Vec<u8>) {
        let class = Class { payload_bytes: 10, pipeline: 3, ..Class::default() };
        (Echo::new(&class), pattern::bytes(10))
    }

    #[test]
    fn replies_may_arrive_in_any_pieces() {
        for size in 1..31 {
            let (mut echo, message) = session();
            let mut replies = 0;
            for mut piece in message.repeat(3).chunks(size) {
                while echo.input(Channel::Control, &mut piece).unwrap() == Step::Replied {
                    replies += 1;
                }
                assert!(piece.is_empty());
            }
            assert_eq!(replies, 3, "in pieces of {size}");
        }
    }

    #[test]
    fn one_wrong_byte_is_noticed_wherever_it_is() {
        for position in 0..10 {
            let (mut echo, mut message) = session();
            message[position] ^= 1;
            let failure = echo.input(Channel::Control, &mut message.as_slice()).unwrap_err();
            assert_eq!(failure.kind, Kind::WrongBytes);
        }
    }
}
