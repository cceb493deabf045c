//! The echo protocol (RFC 862): whatever arrives is sent back. The least that a session can be.

use crate::session::{Action, Chan, Deadline, Event, SharedSettings};

/// The largest buffer that is kept between two inputs, in bytes: an idle connection shall cost next
/// to nothing.
const KEPT_BYTES: usize = 1024;

/// One client's echo.
#[derive(Debug)]
pub struct Session {
    settings: SharedSettings,
    /// What is to be sent back, and how much of it has been.
    output: Vec<u8>,
    sent: usize,
    phase: u32,
    requests: u32,
    ended: bool,
}

impl Session {
    /// A conversation that has just begun.
    pub fn new(settings: &SharedSettings) -> Self {
        Session {
            settings: settings.clone(),
            output: Vec::new(),
            sent: 0,
            phase: 0,
            requests: 0,
            ended: false,
        }
    }

    fn wrote(&mut self, count: usize) {
        self.sent += count;
        if self.sent == self.output.len() {
            self.sent = 0;
            self.output.clear();
            self.output.shrink_to(KEPT_BYTES);
        }
    }
}

impl crate::session::Session for Session {
    fn poll(&mut self) -> Action<'_> {
        if self.ended {
            Action::End
        } else if self.output.is_empty() {
            Action::Read(Chan::Control)
        } else {
            Action::Write(Chan::Control, &self.output[self.sent..])
        }
    }

    fn handle(&mut self, event: Event<'_>) {
        self.phase = self.phase.wrapping_add(1);
        match event {
            Event::Read(_, input) if !input.is_empty() => {
                self.requests = self.requests.wrapping_add(1);
                self.output.extend_from_slice(input);
            }
            Event::Wrote(count) if count > 0 => self.wrote(count),
            // The end of the stream, a failure, silence for too long, or a server that leaves.
            _ => self.ended = true,
        }
    }

    fn deadline(&self) -> Deadline {
        Deadline { phase: self.phase, limit: self.settings.idle_timeout }
    }

    /// Each input is one: there is no other mark of a message.
    fn requests(&self) -> u32 {
        self.requests
    }
}
