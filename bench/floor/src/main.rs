//! The least a server of each I/O model can do: one read, one write of a fixed reply, nothing
//! parsed. What an architecture costs beyond this is its own.
//!
//! A read is taken for one whole request, so the yardstick holds for clients that send a request
//! in one piece and await its reply: not for pipelining, and not for large echoes. Of FTP it knows
//! a login and QUIT, which it tells apart by their first letters.

mod epoll;
mod processes;
mod threads;

use std::io::{Write, stdout};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::BorrowedFd;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use nix::libc;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// The same as every architecture of the suite has.
const BACKLOG: i32 = 4096;
/// More than any request that the floor is measured with.
const BUFFER_BYTES: usize = 64 * 1024;

/// As many bytes as a server's reply to `/plaintext`, with a date that stands still.
const HTTP_REPLY: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Content-Length: 13\r\n\
    Content-Type: text/plain\r\n\
    Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
    \r\n\
    Hello, World!";

const FTP_GREETING: &[u8] = b"220 Ready.\r\n";
const FTP_PASSWORD: &[u8] = b"331 Now the password.\r\n";
const FTP_WELCOME: &[u8] = b"230 Logged in.\r\n";
const FTP_FAREWELL: &[u8] = b"221 Goodbye.\r\n";

/// The least a server of each I/O model can do: one read, one write, a fixed reply.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// How the server waits for its connections.
    #[arg(long, value_enum)]
    model: Model,
    /// Where to listen; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// What each read is answered with.
    #[arg(long, value_enum, default_value = "http")]
    reply: Reply,
}

#[derive(Clone, Copy, ValueEnum)]
enum Model {
    /// A blocking thread for each connection.
    Threads,
    /// A blocking process for each connection.
    Processes,
    /// One thread, edge-triggered epoll.
    Epoll,
}

#[derive(Clone, Copy, ValueEnum)]
enum Reply {
    /// A small HTTP reply.
    Http,
    /// What was read.
    Echo,
    /// An FTP server's to USER, PASS and QUIT, and its greeting.
    Ftp,
}

impl Reply {
    /// What is said before anything is asked.
    fn greeting(self) -> &'static [u8] {
        match self {
            Reply::Http | Reply::Echo => &[],
            Reply::Ftp => FTP_GREETING,
        }
    }

    fn to(self, request: &[u8]) -> &[u8] {
        match (self, request.first()) {
            (Reply::Http, _) => HTTP_REPLY,
            (Reply::Echo, _) => request,
            (Reply::Ftp, Some(b'U')) => FTP_PASSWORD,
            (Reply::Ftp, Some(b'Q')) => FTP_FAREWELL,
            (Reply::Ftp, _) => FTP_WELCOME,
        }
    }

    /// Sends the reply; false if it was not taken at once, or was the last. The last one leaves in
    /// one packet with the end of the stream, as the architectures send it.
    fn send(self, stream: BorrowedFd<'_>, request: &[u8]) -> bool {
        let reply = self.to(request);
        let is_last = reply == FTP_FAREWELL && matches!(self, Reply::Ftp);
        let more = if is_last { libc::MSG_MORE } else { 0 };
        let sent = SockRef::from(&stream).send_with_flags(reply, more | libc::MSG_NOSIGNAL);
        sent.is_ok_and(|count| count == reply.len()) && !is_last
    }
}

fn main() -> ExitCode {
    match serve(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn serve(arguments: &Arguments) -> anyhow::Result<()> {
    let listener = listen(arguments.listen)
        .with_context(|| format!("cannot listen on {}, choose another port", arguments.listen))?;
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            std::process::exit(0);
        }
    });
    raise_descriptor_limit()?;
    let mut stdout = stdout();
    writeln!(stdout, "listening on {}", listener.local_addr()?)?;
    stdout.flush()?;
    match arguments.model {
        Model::Threads => threads::serve(&listener, arguments.reply),
        Model::Processes => processes::serve(&listener, arguments.reply),
        Model::Epoll => epoll::serve(listener, arguments.reply)?,
    }
    Ok(())
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Raises the soft limit to the hard one, as every server of the suite does.
fn raise_descriptor_limit() -> anyhow::Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("cannot raise the descriptor limit")
}
