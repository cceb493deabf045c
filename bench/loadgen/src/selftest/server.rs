//! A server whose latency is known, because it does nothing but wait. A thread for each connection,
//! so that none waits for another.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

const REPLY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const END_OF_REQUEST: &[u8] = b"\r\n\r\n";
const REMEMBERED: usize = 10_000;
/// What the golden ratio adds to 1: multiples of it, modulo 1, fill the unit interval evenly.
const GOLDEN: f64 = 0.618_033_988_749_894_9;

/// How long the server takes for a reply.
#[derive(Clone, Copy, Debug)]
pub(super) enum Latency {
    None,
    Fixed(Duration),
    /// Exponential, with this mean. The values are evenly spread rather than random, so that few
    /// of them have the percentiles of the distribution.
    Exponential(Duration),
    /// None, but of each period it does not answer in one part.
    Stall {
        period: Duration,
        begins: Duration,
        lasts: Duration,
    },
}

pub(super) struct Server {
    address: SocketAddr,
    clerk: Arc<Clerk>,
    stop: Arc<AtomicBool>,
}

impl Server {
    pub(super) fn start(latency: Latency) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let clerk = Arc::new(Clerk {
            latency,
            start: Instant::now(),
            begun: AtomicU64::new(0),
            served: Mutex::default(),
        });
        let (stops, clerks) = (Arc::clone(&stop), Arc::clone(&clerk));
        thread::Builder::new().name("test-server".to_owned()).spawn(move || {
            for stream in listener.incoming() {
                if stops.load(Ordering::Relaxed) {
                    return;
                }
                // A connection that fails ends, and the client tells of it.
                let Ok(stream) = stream else { continue };
                let clerk = Arc::clone(&clerks);
                let converse = move || clerk.converse(stream);
                let _ = thread::Builder::new().spawn(converse);
            }
        })?;
        Ok(Self { address, clerk, stop })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How long each reply has really taken, in the order in which they were sent; at most
    /// [`REMEMBERED`] of them.
    pub(super) fn served(&self) -> Vec<Duration> {
        self.clerk.served.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes what accepts. Connections end when their clients do.
        let _ = TcpStream::connect(self.address);
    }
}

struct Clerk {
    latency: Latency,
    start: Instant,
    begun: AtomicU64,
    served: Mutex<Vec<Duration>>,
}

impl Clerk {
    /// Answers each request in turn; what is in a request is of no importance.
    fn converse(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut buffer = [0; 4096];
        let mut matched = 0;
        loop {
            let count = stream.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            let came = Instant::now();
            for byte in &buffer[..count] {
                matched = if *byte == END_OF_REQUEST[matched] {
                    matched + 1
                } else {
                    usize::from(*byte == END_OF_REQUEST[0])
                };
                if matched == END_OF_REQUEST.len() {
                    matched = 0;
                    self.wait(came);
                    stream.write_all(REPLY)?;
                    self.remember(came.elapsed());
                }
            }
        }
    }

    fn remember(&self, time: Duration) {
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        if served.len() < REMEMBERED {
            served.push(time);
        }
    }

    fn wait(&self, came: Instant) {
        let until = match self.latency {
            Latency::None => return,
            Latency::Fixed(time) => came + time,
            Latency::Exponential(mean) => {
                let number = self.begun.fetch_add(1, Ordering::Relaxed);
                let share = ((number as f64 + 0.5) * GOLDEN).fract();
                came + mean.mul_f64(-(1.0 - share).ln())
            }
            Latency::Stall { period, begins, lasts } => {
                let past = (came - self.start).as_nanos() % period.as_nanos();
                let past = Duration::from_nanos(past as u64);
                if past < begins || past >= begins + lasts {
                    return;
                }
                came + (begins + lasts).saturating_sub(past)
            }
        };
        thread::sleep(until.saturating_duration_since(Instant::now()));
    }
}
