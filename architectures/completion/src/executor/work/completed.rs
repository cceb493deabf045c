//! What has come of what was under way, and what follows from it.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd};

use common::session::{Action, Chan, Event, Session};

use super::{Channels, Source, Step, Work};
use crate::executor::buffers::Filled;
use crate::executor::channel::Channel;
use crate::executor::files::Progress;
use crate::executor::ring::Ring;

/// How an operation ended.
pub(crate) struct Outcome {
    /// What the system call would have returned.
    pub(crate) result: io::Result<usize>,
    /// What was received, unless that was nothing.
    pub(crate) input: Option<Filled>,
    /// It had been asked back.
    pub(crate) is_cancelled: bool,
}

impl Channels {
    /// An operation on a socket has completed, or a pause, or one of a job.
    pub(crate) fn completed(
        &mut self,
        work: Work,
        outcome: Outcome,
        session: &mut dyn Session,
        ring: &mut Ring,
    ) -> io::Result<Step> {
        let Outcome { result, input, .. } = outcome;
        let event = match work {
            Work::Send => Event::Wrote(result?),
            Work::Flush(chan) => match self.of(chan)?.sent(result?) {
                Some(count) => Event::Wrote(count),
                None => return Ok(Step::Again),
            },
            Work::Receive => return self.received(result, input, session, ring),
            Work::Accept => {
                // SAFETY: the descriptor is new, and nobody else's.
                let socket = unsafe { FromRawFd::from_raw_fd(result? as i32) };
                self.data = Some(Channel::new(socket));
                self.opened()?
            }
            Work::Connect(_) => match result {
                Ok(_) => self.opened()?,
                Err(error) => {
                    self.close_data();
                    return Err(error);
                }
            },
            // Whether it is over is seen on the clock.
            Work::Pause(_) => return Ok(Step::Again),
            Work::File(job) => match job.advance(result.ok(), self.key, ring) {
                Progress::Work(job) => return Ok(Step::Work(Work::File(job))),
                Progress::Done(done) => Event::Ran(done?),
                Progress::Failed(job) => return Ok(Step::Job(job)),
            },
            work => {
                return self.moved(work, Outcome { result, input, ..outcome }, ring);
            }
        };
        Ok(Step::Event(event))
    }

    /// A piece on its way from or to a file has come further.
    fn moved(&mut self, work: Work, outcome: Outcome, ring: &mut Ring) -> io::Result<Step> {
        let result = outcome.result;
        let event = match work {
            Work::FillPipe { to, pipe } => match result? {
                0 => {
                    ring.put_back_pipe(pipe);
                    Event::Wrote(0)
                }
                left => return self.empty_pipe(to, pipe, (left, 0), ring),
            },
            Work::EmptyPipe { to, pipe, left, sent } => {
                let count = result?;
                let (left, sent) = (left - count, sent + count);
                if left > 0 && count > 0 && !outcome.is_cancelled {
                    return self.empty_pipe(to, pipe, (left, sent), ring);
                }
                // What is left in it is read again from the file.
                if left == 0 {
                    ring.put_back_pipe(pipe);
                }
                Event::Wrote(sent)
            }
            Work::ReadFile { to, mut piece } => match result {
                Ok(count @ 1..) => {
                    piece.truncate(count);
                    return self.send_piece(to, piece, ring);
                }
                result => {
                    ring.put_back(piece);
                    Event::Wrote(result?)
                }
            },
            Work::SendPiece { piece } => {
                ring.put_back(piece);
                Event::Wrote(result?)
            }
            Work::WriteFile { source, written, file, offset } => match result {
                Ok(count @ 1..) if written + count < source.bytes().len() => {
                    let rest = self.write_file(source, written + count, file, offset, ring);
                    return Ok(Step::Work(rest));
                }
                result => {
                    let length = source.bytes().len();
                    source.give_back(ring);
                    match result? {
                        0 => return Err(io::ErrorKind::WriteZero.into()),
                        _ => Event::Received(length),
                    }
                }
            },
            _ => unreachable!("a job on a thread is no operation, and the rest is for sockets"),
        };
        Ok(Step::Event(event))
    }

    /// Input of the data connection has arrived, or come to its end.
    fn received(
        &mut self,
        result: io::Result<usize>,
        input: Option<Filled>,
        session: &mut dyn Session,
        ring: &mut Ring,
    ) -> io::Result<Step> {
        let data = self.data.as_mut().expect("what receives is open");
        let is_secured = data.secured.is_some();
        let Some(input) = input else {
            if is_secured {
                (data.inbox.ended, data.inbox.error) = (true, result.err());
                return Ok(Step::Again);
            }
            result?;
            let is_upload = matches!(session.poll(), Action::ReceiveFile { .. });
            let end = || Event::Read(Chan::Data, &[]);
            return Ok(Step::Event(if is_upload { Event::Received(0) } else { end() }));
        };
        if is_secured {
            data.inbox.push(&input);
        } else if let Action::ReceiveFile { file, offset, .. } = session.poll() {
            let (file, source) = (file.as_raw_fd(), Source::Buffer(input));
            return Ok(Step::Work(self.write_file(source, 0, file, offset, ring)));
        } else {
            session.handle(Event::Read(Chan::Data, &input));
        }
        Ok(Step::Again)
    }

    /// The data connection is there.
    fn opened(&mut self) -> io::Result<Event<'static>> {
        let peer = match self.of(Chan::Data)?.socket.peer_addr() {
            // It has been reset, so whoever it was gets nothing. The transfer begins, and breaks.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                self.of(Chan::Control)?.socket.peer_addr()
            }
            peer => peer,
        };
        if peer.is_err() {
            self.close_data();
        }
        peer.map(Event::Opened)
    }
}
