//! What a session says, and what it sends.
//!
//! **Invariant:** a reply without a body has the head of the one with it (RFC 9110 §9.3.2).

use std::io::Write as _;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::backend::Call;
use super::conditional::{Conditions, Verdict};
use super::index::Index;
use super::range::{Parts, Selection, content_range, select};
use super::resource::{Content, Resource};
use super::response::{Date, Framing, Head, Persistence, Status, text};
use super::route::{PATTERN, Route};
use super::session::{Doing, Ending, KEPT_BYTES, Session};
use super::work::Purpose;
use crate::job::Job;
use crate::session::{Action, Chan, Event};

/// A whole number of [`PATTERN`]s, so that any stretch of the body is a slice of it.
pub(super) static BLOCK: [u8; 64 * 1024] = {
    let mut block = [0; 64 * 1024];
    let mut at = 0;
    while at < block.len() {
        block[at] = PATTERN[at % PATTERN.len()];
        at += 1;
    }
    block
};

/// A file that is being sent: this stretch of it, and perhaps others.
#[derive(Debug)]
pub(super) struct Sending {
    resource: Arc<Resource>,
    offset: u64,
    end: u64,
    parts: Option<Parts>,
}

/// Events that are being sent, with pauses between them.
#[derive(Debug)]
pub(super) struct Events {
    sent: u32,
    count: u32,
    pub(super) interval: Duration,
}

impl Sending {
    pub(super) fn action(&self) -> Action<'_> {
        let (to, offset, length) = (Chan::Control, self.offset, self.end - self.offset);
        match &self.resource.content {
            Content::File(file) => Action::SendFile { to, file, offset, length },
            Content::Memory(bytes) => {
                Action::Write(to, &bytes[offset as usize..(offset + length) as usize])
            }
        }
    }
}

impl Session {
    /// Does what a request asks for that is whole.
    pub(super) fn carry_out(&mut self, route: Route<'_>, conditions: Conditions<'_>, date: &Date) {
        match route {
            Route::Fixed(content_type, body) => self.reply(Status::OK, content_type, body, date),
            Route::Bytes(length) => self.reply_pattern(length, date),
            Route::Work(compute, block) => {
                self.work(Job::Work { compute, block }, Purpose::SayOk);
            }
            Route::Backend(delay_ms) => match self.settings.backend {
                Some(address) => {
                    self.doing = Doing::Backend(Box::new(Call::new(address, delay_ms)));
                }
                None => self.reply_status(Status::UNAVAILABLE, &[], date),
            },
            Route::Stream(count, interval) => self.begin_events(count, interval, date),
            Route::File(path) => self.read_file(&path, conditions, date),
            Route::Options(allow) => {
                self.head(Status::NO_CONTENT, &[("Allow", allow)], Framing::Nothing, date);
            }
            Route::Refused(status, None) => self.reply_status(status, &[], date),
            Route::Refused(status, Some(allow)) => {
                self.reply_status(status, &[("Allow", allow)], date);
            }
            Route::Guestbook => self.read_guestbook(date),
            Route::Echo | Route::Sign | Route::Upload(_) => {
                unreachable!("what takes a body receives it first")
            }
        }
    }

    /// The same where nobody knows what follows on the connection.
    pub(super) fn carry_out_and_close(
        &mut self,
        route: Route<'_>,
        conditions: Conditions<'_>,
        date: &Date,
    ) {
        self.persistence = Persistence::Close;
        self.ending = Ending::Orderly;
        self.carry_out(route, conditions, date);
    }

    fn head(
        &mut self,
        status: Status,
        fields: &[(&'static str, &str)],
        framing: Framing,
        date: &Date,
    ) {
        let head = Head { status, fields, framing };
        head.append(&mut self.output, date, self.persistence);
    }

    pub(super) fn reply(
        &mut self,
        status: Status,
        content_type: &'static str,
        body: &[u8],
        date: &Date,
    ) {
        let framing = Framing::Length(body.len() as u64);
        self.head(status, &[("Content-Type", content_type)], framing, date);
        if !self.head_only {
            self.output.extend_from_slice(body);
        }
    }

    /// A reply whose body repeats its status, for people; or one that has none by its status.
    pub(super) fn reply_status(
        &mut self,
        status: Status,
        fields: &[(&'static str, &str)],
        date: &Date,
    ) {
        if status == Status::NO_CONTENT {
            return self.head(status, fields, Framing::Nothing, date);
        }
        let body = status.0.as_bytes();
        let mut all = vec![("Content-Type", "text/plain")];
        all.extend_from_slice(fields);
        self.head(status, &all, Framing::Length(body.len() as u64), date);
        if !self.head_only {
            self.output.extend_from_slice(body);
        }
    }

    /// The last reply, to what cannot be understood, or not be taken.
    pub(super) fn refuse(&mut self, status: Status, date: &Date) {
        self.ending = Ending::Orderly;
        self.persistence = Persistence::Close;
        self.next_phase();
        self.reply_status(status, &[], date);
    }

    /// What fits the buffer that is kept anyway goes along with the head.
    fn reply_pattern(&mut self, length: u64, date: &Date) {
        let fields = [("Content-Type", "application/octet-stream")];
        self.head(Status::OK, &fields, Framing::Length(length), date);
        if !self.head_only {
            let room = KEPT_BYTES.saturating_sub(self.output.len()) as u64;
            let first = length.min(room);
            self.output.extend_from_slice(&BLOCK[..first as usize]);
            if first < length {
                self.doing = Doing::Pattern { offset: first, end: length };
            }
        }
    }

    /// Sends a file, or what of it was asked for, or says that the client has it.
    pub(super) fn reply_file(
        &mut self,
        resource: &Arc<Resource>,
        conditions: &Conditions<'_>,
        date: &Date,
    ) {
        let validators = resource.validators();
        let modified = ("Last-Modified", text(&resource.last_modified));
        let etag = ("ETag", resource.etag.as_str());
        match conditions.verdict(Some(validators), true) {
            Verdict::Proceed => {}
            Verdict::NotModified => {
                return self.head(Status::NOT_MODIFIED, &[modified, etag], Framing::Nothing, date);
            }
            Verdict::Failed => return self.reply_status(Status::PRECONDITION_FAILED, &[], date),
        }
        let length = resource.length;
        let selection = match conditions.range(validators) {
            Some(range) if !self.head_only => select(range, length),
            _ => Selection::Whole,
        };
        let ranges = ("Accept-Ranges", "bytes");
        let content_type = ("Content-Type", resource.content_type);
        match selection {
            Selection::Whole => {
                let fields = [content_type, modified, etag, ranges];
                self.head(Status::OK, &fields, Framing::Length(length), date);
                if !self.head_only {
                    self.send(resource, 0..length, None);
                }
            }
            Selection::One(range) => {
                let of = content_range(&range, length);
                let fields = [content_type, modified, etag, ranges, ("Content-Range", &of)];
                let framing = Framing::Length(range.end - range.start);
                self.head(Status::PARTIAL_CONTENT, &fields, framing, date);
                self.send(resource, range, None);
            }
            Selection::Several(several) => {
                let boundary = resource.boundary();
                let mut parts = Parts::new(&several, resource.content_type, length, &boundary);
                let of_parts = format!("multipart/byteranges; boundary={boundary}");
                let fields = [("Content-Type", of_parts.as_str()), modified, etag, ranges];
                let framing = Framing::Length(parts.length);
                self.head(Status::PARTIAL_CONTENT, &fields, framing, date);
                if let Some(first) = parts.next(&mut self.output) {
                    self.send(resource, first, Some(parts));
                }
            }
            Selection::Nothing => {
                let of = format!("bytes */{length}");
                self.reply_status(
                    Status::RANGE_NOT_SATISFIABLE,
                    &[("Content-Range", &of), etag],
                    date,
                );
            }
        }
    }

    /// What is in memory goes along with what stands before it.
    fn send(&mut self, resource: &Arc<Resource>, range: Range<u64>, mut parts: Option<Parts>) {
        let mut next = Some(range);
        while let Some(Range { start: offset, end }) = next {
            match &resource.content {
                Content::Memory(bytes) => {
                    self.output.extend_from_slice(&bytes[offset as usize..end as usize]);
                }
                Content::File(_) if offset < end => {
                    let resource = resource.clone();
                    self.doing = Doing::Send(Box::new(Sending { resource, offset, end, parts }));
                    return;
                }
                Content::File(_) => {}
            }
            next = parts.as_mut().and_then(|parts| parts.next(&mut self.output));
        }
    }

    /// So many bytes of what is being sent have gone.
    pub(super) fn moved(&mut self, count: u64) {
        match &mut self.doing {
            Doing::Pattern { offset, end } => {
                *offset += count;
                if offset >= end {
                    self.doing = Doing::Parse;
                }
            }
            Doing::Send(sending) => {
                sending.offset += count;
                if sending.offset < sending.end {
                    return;
                }
                let parts = sending.parts.as_mut();
                match parts.and_then(|parts| parts.next(&mut self.output)) {
                    Some(range) => (sending.offset, sending.end) = (range.start, range.end),
                    None => self.doing = Doing::Parse,
                }
            }
            _ => {}
        }
    }

    /// A body whose length is not known: in chunks, or, for a client that knows no chunks, up to
    /// the end of the connection.
    fn head_of_pieces(&mut self, fields: &[(&'static str, &str)], date: &Date) {
        if self.old {
            self.persistence = Persistence::Close;
            if self.ending == Ending::No {
                self.ending = Ending::AfterReply;
            }
        }
        let framing = if self.old { Framing::Close } else { Framing::Chunked };
        self.head(Status::OK, fields, framing, date);
    }

    fn piece(&mut self, piece: &str) {
        if self.old {
            self.output.extend_from_slice(piece.as_bytes());
        } else {
            write!(self.output, "{:x}\r\n{piece}\r\n", piece.len())
                .expect("a vector takes any bytes");
        }
    }

    fn last_piece(&mut self) {
        if !self.old {
            self.output.extend_from_slice(b"0\r\n\r\n");
        }
        self.doing = Doing::Parse;
    }

    fn begin_events(&mut self, count: u32, interval: Duration, date: &Date) {
        let fields = [("Content-Type", "text/event-stream"), ("Cache-Control", "no-store")];
        self.head_of_pieces(&fields, date);
        if self.head_only {
            return;
        }
        if count == 0 {
            return self.last_piece();
        }
        self.doing = Doing::Events(Events { sent: 0, count, interval });
        self.write_event();
    }

    /// The next event, in the form that browsers know (server-sent events).
    pub(super) fn write_event(&mut self) {
        self.next_phase();
        if let Doing::Events(events) = &mut self.doing {
            events.sent += 1;
            let (number, is_last) = (events.sent, events.sent == events.count);
            self.piece(&format!("data: {number}\n\n"));
            if is_last {
                self.last_piece();
            }
        }
    }

    pub(super) fn begin_index(&mut self, index: Index, date: &Date) {
        self.head_of_pieces(&[("Content-Type", "text/html; charset=utf-8")], date);
        if !self.head_only {
            self.doing = Doing::Index(Box::new(index));
            self.write_index();
        }
    }

    /// The next piece of a page, or what must be done before.
    pub(super) fn write_index(&mut self) {
        let Doing::Index(mut index) = std::mem::replace(&mut self.doing, Doing::Parse) else {
            return;
        };
        if let Some(job) = index.job() {
            return self.work(job, Purpose::ListMore(index));
        }
        let mut page = String::new();
        index.write(&mut page);
        self.piece(&page);
        if index.is_over() {
            self.last_piece();
        } else {
            self.doing = Doing::Index(index);
        }
    }

    /// Something has come of a call to the backend.
    pub(super) fn called(&mut self, event: &Event<'_>) {
        let Doing::Backend(call) = &mut self.doing else {
            return;
        };
        call.handle(event);
        if call.outcome().is_none() {
            return;
        }
        let Doing::Backend(call) = std::mem::replace(&mut self.doing, Doing::Parse) else {
            return;
        };
        self.next_phase();
        let date = self.date();
        match call.outcome() {
            Some((Status::OK, body)) => self.reply(Status::OK, "text/plain", body, &date),
            Some((status, _)) => self.reply_status(status, &[], &date),
            None => {}
        }
    }
}
