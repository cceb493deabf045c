//! The body of a request, and what becomes of it.
//!
//! **Invariant:** a request is answered when its body is whole, unless what is wrong with it is
//! known before; then the connection ends with the answer, because what follows on it might be the
//! body or might be another request.

use super::body::Body;
use super::conditional::Conditions;
use super::request::{MAX_BODY_BYTES, Request};
use super::response::{Date, Status};
use super::route::Route;
use super::session::{Doing, Session};
use super::upload::Upload;
use super::wanted::Wanted;
use super::work::Purpose;
use crate::job::Job;

/// The largest body that is kept in memory, or read for nothing, in bytes.
const MAX_KEPT_BYTES: u64 = 64 * 1024;

/// What a client is told that waits before it sends a body (RFC 9110 §15.2.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A body that is being read.
#[derive(Debug)]
pub(super) struct Receiving {
    body: Body,
    /// How much content there may still be, in bytes.
    room: u64,
    sink: Sink,
    expects_continue: bool,
}

/// Where the content goes.
#[derive(Debug)]
enum Sink {
    /// Nowhere: then what was asked for besides is done.
    Nothing(Route<'static>, Conditions<'static>),
    /// Back to the client.
    Echo(Vec<u8>),
    /// Into the guestbook; whether it comes from a form.
    Sign(Vec<u8>, bool),
    /// Into a file.
    Upload(Box<Upload>),
}

/// What follows a piece of input.
enum Next {
    More,
    Run(Job),
    Whole,
}

impl Receiving {
    fn take(&mut self, input: &mut &[u8]) -> Result<Next, Status> {
        while !input.is_empty() && !self.body.is_over() {
            let content = self.body.take(input)?;
            self.room =
                self.room.checked_sub(content.len() as u64).ok_or(Status::CONTENT_TOO_LARGE)?;
            match &mut self.sink {
                Sink::Nothing(..) => {}
                Sink::Echo(bytes) | Sink::Sign(bytes, _) => bytes.extend_from_slice(content),
                Sink::Upload(upload) => {
                    if let Some(job) = upload.take(content) {
                        return Ok(Next::Run(job));
                    }
                }
            }
        }
        Ok(if self.body.is_over() { Next::Whole } else { Next::More })
    }

    /// The upload that this is.
    pub(super) fn upload(&mut self) -> Option<&mut Upload> {
        match &mut self.sink {
            Sink::Upload(upload) => Some(upload),
            _ => None,
        }
    }
}

impl Session {
    /// A request has a body, or asks for something that needs one.
    pub(super) fn begin_to_receive(&mut self, route: Route<'_>, request: Request<'_>, date: &Date) {
        let body = request.body.unwrap_or(Body::NONE);
        let expects_continue = request.expects_continue;
        let room = if matches!(route, Route::Upload(_)) { MAX_BODY_BYTES } else { MAX_KEPT_BYTES };
        if body.known_bytes() > room {
            return self.refuse(Status::CONTENT_TOO_LARGE, date);
        }
        let sink = match route {
            Route::Upload(path) => {
                return match self.begin_upload(&path, request.conditions) {
                    Ok((upload, job)) => {
                        let sink = Sink::Upload(Box::new(upload));
                        let receiving = Receiving { body, room, sink, expects_continue };
                        self.work(job, Purpose::Store(Box::new(receiving)));
                    }
                    Err(status) => self.refuse(status, date),
                };
            }
            Route::Echo => Sink::Echo(Vec::new()),
            Route::Sign if !self.settings.writable => return self.refuse(Status::FORBIDDEN, date),
            Route::Sign => Sink::Sign(Vec::new(), request.is_form),
            // A client that waits gets its answer instead, and then nobody knows whether the body
            // follows (RFC 9110 §10.1.1).
            route if expects_continue => {
                self.carry_out_and_close(route, request.conditions, date);
                return;
            }
            route => Sink::Nothing(route.into_owned(), request.conditions.into_owned()),
        };
        self.receive_into(Box::new(Receiving { body, room, sink, expects_continue }), date);
    }

    fn begin_upload(
        &self,
        path: &str,
        conditions: Conditions<'_>,
    ) -> Result<(Upload, Job), Status> {
        if !self.settings.writable {
            return Err(Status::FORBIDDEN);
        }
        Ok(Upload::begin(&self.settings.root, Wanted::of_upload(path)?, conditions))
    }

    /// Waits for the body, or for more of it.
    pub(super) fn receive_into(&mut self, mut receiving: Box<Receiving>, date: &Date) {
        if std::mem::take(&mut receiving.expects_continue) {
            self.output.extend_from_slice(CONTINUE);
        }
        let is_over = receiving.body.is_over();
        self.doing = Doing::Receive(receiving);
        if is_over {
            self.received_all(date);
        }
    }

    /// Takes some input as a part of the body, and says how much.
    pub(super) fn receive(&mut self, input: &[u8], date: &Date) -> usize {
        let Doing::Receive(receiving) = &mut self.doing else {
            return 0;
        };
        let mut rest = input;
        match receiving.take(&mut rest) {
            Ok(Next::More) => {}
            Ok(Next::Run(job)) => self.store(job),
            Ok(Next::Whole) => self.received_all(date),
            Err(status) => self.give_up_receiving(Some(status)),
        }
        input.len() - rest.len()
    }

    fn received_all(&mut self, date: &Date) {
        let Doing::Receive(receiving) = std::mem::replace(&mut self.doing, Doing::Parse) else {
            return;
        };
        self.next_phase();
        match *receiving {
            Receiving { sink: Sink::Nothing(route, conditions), .. } => {
                self.carry_out(route, conditions, date);
            }
            Receiving { sink: Sink::Echo(bytes), .. } => {
                self.reply(Status::OK, "application/octet-stream", &bytes, date);
            }
            Receiving { sink: Sink::Sign(bytes, is_form), .. } => self.sign(&bytes, is_form, date),
            mut receiving => {
                let job = receiving.upload().map(Upload::finish);
                self.doing = Doing::Receive(Box::new(receiving));
                if let Some(job) = job {
                    self.store(job);
                }
            }
        }
    }

    /// Does something for the upload that is being received.
    fn store(&mut self, job: Job) {
        if let Doing::Receive(receiving) = std::mem::replace(&mut self.doing, Doing::Parse) {
            self.work(job, Purpose::Store(receiving));
        }
    }

    /// Nothing comes of what is being received, which the client is told, if there is somebody to
    /// tell.
    pub(super) fn give_up_receiving(&mut self, status: Option<Status>) {
        let doing = std::mem::replace(&mut self.doing, Doing::Parse);
        let receiving = match doing {
            Doing::Receive(receiving) => Some(receiving),
            Doing::Work(work) => match work.purpose {
                Purpose::Store(receiving) => Some(receiving),
                _ => None,
            },
            _ => None,
        };
        let upload = receiving.and_then(|receiving| match receiving.sink {
            Sink::Upload(upload) => Some(upload),
            _ => None,
        });
        match (upload.and_then(|mut upload| upload.give_up()), status) {
            (Some(job), status) => self.work(job, Purpose::Remove(status)),
            (None, Some(status)) => self.refuse(status, &self.date()),
            (None, None) => self.ending = super::session::Ending::Now,
        }
    }
}
