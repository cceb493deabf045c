//! Clients of one kind. A run has one class that it asks about, and any number beside it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::client::Channel;
use crate::rate::Rate;
use crate::schedule::Arrivals;
use crate::script::{Action, Script, ScriptStep};

pub(crate) const LONGEST: Duration = Duration::from_hours(30 * 24);
const DEEPEST_PIPELINE: usize = 4096;
const LARGEST_PAYLOAD_BYTES: usize = 1 << 30;
const LONGEST_BACKLOG: usize = 10_000_000;
/// So many arrivals wait for a free connection where nothing else is said.
pub const BACKLOG: usize = 65_536;
const SLOWEST_RAMP: f64 = 0.01;
const FASTEST_RAMP: f64 = 1e6;

/// The conversation that every connection holds with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1: one method of one target.
    Http,
    /// FTP: one operation over and over.
    Ftp,
    /// What is sent must come back.
    Echo,
}

/// What HTTP is asked to do with the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// To send it: 200.
    #[default]
    Get,
    /// To take a text (RFC 9110 §9.3.3): 200, or 201 if something has been made of it.
    Post,
}

impl Method {
    /// Whether it is that of a client that says nothing else.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it so")]
    pub fn is_get(&self) -> bool {
        *self == Self::Get
    }
}

/// What is one request of an FTP connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum FtpOperation {
    /// Connect, greeting, USER, PASS, QUIT, close.
    Login,
    /// EPSV and RETR, in a session that stays.
    #[default]
    Retrieve,
    /// EPSV and STOR, in a session that stays.
    Store,
}

/// What decides when a request is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Load {
    /// The reply before: a connection sends its next request when it has one, or some time later.
    Closed {
        /// From a reply to the next request of a connection.
        #[serde(default, with = "humantime_serde")]
        think: Duration,
    },
    /// A schedule that knows nothing of replies.
    Open {
        /// Of all connections together.
        rate: Rate,
        /// How arrivals follow each other.
        #[serde(default)]
        arrivals: Arrivals,
        /// Of the random numbers.
        #[serde(default = "seed")]
        seed: u64,
        /// So many arrivals wait for a connection at most; the others are shed.
        #[serde(default = "backlog")]
        backlog: usize,
    },
}

impl Load {
    /// Whether a steady state is to be expected.
    pub fn is_constant(&self) -> bool {
        match self {
            Self::Closed { .. } => true,
            Self::Open { rate, .. } => rate.is_constant(),
        }
    }
}

impl Default for Load {
    fn default() -> Self {
        Self::Closed { think: Duration::ZERO }
    }
}

/// How a client ends what it has begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Manner {
    /// It waits for the whole reply.
    #[default]
    WellBehaved,
    /// It sends a part of a request and is silent from then on.
    HalfOpen,
    /// It closes within a request: of an upload, within the data.
    VanishInRequest,
    /// It closes within the reply: of a download, within the data.
    VanishInReply,
    /// It resets its connection within a request (`SO_LINGER` of 0).
    ResetInRequest,
    /// It resets its connection within the reply.
    ResetInReply,
}

impl Manner {
    fn is_well_behaved(self) -> bool {
        self == Self::WellBehaved
    }

    /// Whether only a part of a request is sent.
    pub(crate) fn cuts_requests(self) -> bool {
        matches!(self, Self::HalfOpen | Self::VanishInRequest | Self::ResetInRequest)
    }

    /// Whether it leaves as soon as something of the reply is there.
    pub(crate) fn cuts_replies(self) -> bool {
        matches!(self, Self::VanishInReply | Self::ResetInReply)
    }

    pub(crate) fn resets(self) -> bool {
        matches!(self, Self::ResetInRequest | Self::ResetInReply)
    }
}

/// Clients of one kind: what each of them asks for, how often, and how it behaves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// What its figures are called; the first class of a run needs none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The conversation.
    pub protocol: Protocol,
    /// HTTP: what is done with the target.
    #[serde(default, skip_serializing_if = "Method::is_get")]
    pub method: Method,
    /// Within TLS from the first byte, by a whole handshake for each connection.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tls: bool,
    /// FTP: what a connection does.
    #[serde(default)]
    pub operation: FtpOperation,
    /// What each session does, one step after the other, instead of the operation or path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<Script>,
    /// FTP: who logs in.
    #[serde(default = "anonymous")]
    pub user: String,
    /// FTP: with what password.
    #[serde(default = "nobody")]
    pub password: String,
    /// The HTTP request target, or the FTP file to retrieve. What a connection stores has this
    /// name with a dot and the connection's number behind it. A login needs none.
    #[serde(default)]
    pub path: String,
    /// The size of an echo's message, of what is stored, or of the body of a POST.
    #[serde(default = "payload")]
    pub payload_bytes: usize,
    /// When requests are sent.
    #[serde(default)]
    pub load: Load,
    /// Connections that work; in an open loop the bound on what is in flight, with `pipeline`.
    pub connections: usize,
    /// So many of them are opened a second at the beginning; `None`: all at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_rate: Option<f64>,
    /// Requests in flight on a connection.
    #[serde(default = "one")]
    pub pipeline: usize,
    /// Reconnect after so many requests; `None`: keep the connection for ever.
    #[serde(default)]
    pub requests_per_connection: Option<u64>,
    /// The length that the body of each reply, or the file, must have.
    #[serde(default)]
    pub expected_bytes: Option<u64>,
    /// The CRC-32 (as in zlib) that the body of each reply, or the file, must have.
    #[serde(default)]
    pub expected_crc32: Option<u32>,
    /// How a client ends what it has begun.
    #[serde(default, skip_serializing_if = "is_well_behaved")]
    pub manner: Manner,
    /// A slow reader takes so much of a reply, or of what it retrieves, with a small receive
    /// buffer; `None`: all that comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receive_bytes_per_s: Option<u64>,
    /// A slow sender gives so much of a request, or of what it stores; `None`: all at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_bytes_per_s: Option<u64>,
}

impl Default for Class {
    fn default() -> Self {
        Self {
            name: String::new(),
            protocol: Protocol::Http,
            method: Method::default(),
            tls: false,
            operation: FtpOperation::default(),
            script: None,
            user: anonymous(),
            password: nobody(),
            path: "/plaintext".to_owned(),
            payload_bytes: payload(),
            load: Load::default(),
            connections: 64,
            connect_rate: None,
            pipeline: one(),
            requests_per_connection: None,
            expected_bytes: None,
            expected_crc32: None,
            manner: Manner::default(),
            receive_bytes_per_s: None,
            send_bytes_per_s: None,
        }
    }
}

impl Class {
    /// Whether the server may have reason to end a session before it is served: what it does then
    /// is counted and is no failure.
    pub(crate) fn is_a_burden(&self) -> bool {
        !self.manner.is_well_behaved()
            || self.receive_bytes_per_s.is_some()
            || self.send_bytes_per_s.is_some()
    }

    /// Whether anything is stored.
    pub fn stores(&self) -> bool {
        let is_store = |step: &ScriptStep| step.action == Action::Store;
        self.protocol == Protocol::Ftp
            && match &self.script {
                Some(script) => script.steps.iter().any(is_store),
                None => self.operation == FtpOperation::Store,
            }
    }

    /// Where requests, or what is stored, go out.
    pub(crate) fn channel_of_requests(&self) -> Channel {
        if self.stores() && self.script.is_none() { Channel::Data } else { Channel::Control }
    }

    /// Where replies, or what is retrieved, come in.
    pub(crate) fn channel_of_replies(&self) -> Channel {
        let is_ftp = self.protocol == Protocol::Ftp;
        let transfers = self.script.is_some() || self.operation == FtpOperation::Retrieve;
        if is_ftp && transfers { Channel::Data } else { Channel::Control }
    }

    /// Says what makes this class impossible.
    pub(crate) fn check(&self) -> Result<(), String> {
        let refuse = |why: &str| Err(why.to_owned());
        if self.connections == 0 || self.pipeline == 0 {
            return refuse("connections and pipeline must each be at least 1");
        }
        if self.requests_per_connection == Some(0) {
            return refuse("requests per connection must be at least 1");
        }
        if self.pipeline > DEEPEST_PIPELINE {
            return refuse("a pipeline holds at most 4096 requests");
        }
        match &self.load {
            Load::Closed { think } if *think > LONGEST => {
                return refuse("a pause for thought is at most 30 days");
            }
            Load::Open { backlog, .. } if *backlog > LONGEST_BACKLOG => {
                return refuse("at most 10000000 arrivals wait in the backlog");
            }
            Load::Open { rate, .. } => rate.check()?,
            Load::Closed { .. } => {}
        }
        if self.connect_rate.is_some_and(|rate| !(SLOWEST_RAMP..=FASTEST_RAMP).contains(&rate)) {
            return refuse("so many connections a second cannot be opened: give 0.01 to 1000000");
        }
        let words = [&self.path, &self.user, &self.password];
        if words.iter().any(|word| breaks_a_line(word)) {
            return refuse("path, user and password must not contain control characters");
        }
        self.check_protocol()?;
        self.check_manner()?;
        self.script.as_ref().map_or(Ok(()), |script| self.check_script(script))
    }

    fn check_protocol(&self) -> Result<(), String> {
        let refuse = |why: &str| Err(why.to_owned());
        let has_script = self.script.is_some();
        let posts = !self.method.is_get();
        match self.protocol {
            Protocol::Ftp if self.tls => refuse("TLS is for HTTP and echo"),
            Protocol::Ftp | Protocol::Echo if posts => refuse("only HTTP has a method"),
            Protocol::Http if posts && has_script => refuse("a script says itself what is done"),
            Protocol::Http if posts && self.payload_bytes > LARGEST_PAYLOAD_BYTES => {
                refuse("a body has at most 1 GiB")
            }
            Protocol::Http if !has_script && !is_http_target(&self.path) => refuse(HTTP_TARGET),
            Protocol::Ftp if self.pipeline != 1 => {
                refuse("FTP has one transfer at a time: its pipeline must be 1")
            }
            Protocol::Ftp if self.user.is_empty() => refuse("FTP needs a user"),
            Protocol::Ftp if has_script => Ok(()),
            Protocol::Ftp if self.operation != FtpOperation::Login && self.path.is_empty() => {
                refuse("to retrieve or store, FTP needs the path of a file")
            }
            Protocol::Ftp if self.operation == FtpOperation::Store && self.payload_bytes == 0 => {
                refuse("what is stored has at least 1 byte")
            }
            Protocol::Echo if !(1..=LARGEST_PAYLOAD_BYTES).contains(&self.payload_bytes) => {
                refuse("an echo needs a payload of 1 byte to 1 GiB")
            }
            Protocol::Http | Protocol::Ftp | Protocol::Echo => Ok(()),
        }
    }

    fn check_manner(&self) -> Result<(), String> {
        let refuse = |why: &str| Err(why.to_owned());
        if [self.receive_bytes_per_s, self.send_bytes_per_s].contains(&Some(0)) {
            return refuse("a slow reader or sender moves at least 1 byte a second");
        }
        if self.manner.is_well_behaved() {
            return Ok(());
        }
        if self.pipeline != 1 || self.script.is_some() {
            return refuse("clients of bad manners have no script, and a pipeline of 1");
        }
        let stores = self.channel_of_requests() == Channel::Data;
        if stores && self.manner.cuts_replies() {
            return refuse("an upload is left within the request: its reply is a line");
        }
        let is_one_byte = self.payload_bytes == 1 && (stores || self.protocol == Protocol::Echo);
        if is_one_byte {
            return refuse("of a single byte no part can be sent: the payload needs 2 bytes");
        }
        Ok(())
    }

    fn check_script(&self, script: &Script) -> Result<(), String> {
        if self.pipeline != 1 || self.requests_per_connection.is_some() {
            return Err("a session with a script is one request, over one connection".to_owned());
        }
        if self.expected_bytes.or(self.expected_crc32.map(u64::from)).is_some() {
            return Err("of a script, each step says which length is expected".to_owned());
        }
        script.check(self.protocol)
    }
}

/// Whether text would end the line that it is sent in.
pub(crate) fn breaks_a_line(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_control())
}

pub(crate) const HTTP_TARGET: &str =
    "an HTTP path starts with a slash and has no spaces (write %20)";

pub(crate) fn is_http_target(path: &str) -> bool {
    path.starts_with('/') && !path.contains(' ')
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it so")]
fn is_well_behaved(manner: &Manner) -> bool {
    manner.is_well_behaved()
}

fn anonymous() -> String {
    "anonymous".to_owned()
}

/// What a program gives for the address that an anonymous user is asked for.
fn nobody() -> String {
    "loadgen@".to_owned()
}

fn payload() -> usize {
    64
}

fn one() -> usize {
    1
}

fn seed() -> u64 {
    1
}

fn backlog() -> usize {
    BACKLOG
}
