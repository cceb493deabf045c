//! What every driver must do, with peers that are slow, silent or gone. The ring is tested with so
//! few entries and buffers, too, that it lacks them all the time.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use nix::sys::eventfd::EfdFlags;
use socket2::SockRef;

use super::*;
use crate::engine::{Epoll, Ring, ring};

const SLOT: Slot = Slot { index: 0, channel: Channel::Control };
const CONNECTIONS: usize = 100;
/// More than all buffers between two sockets hold.
const MUCH: usize = 20_000_000;

/// A driver, and what a test asks of it.
struct Test<D: Driver> {
    driver: D,
    inbox: D::Inbox,
    waker: Arc<EventFd>,
}

/// An event.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Opened,
    Input(Vec<u8>),
    Ended,
    Writable,
    Failed(io::ErrorKind),
}

impl<D: Driver> Test<D> {
    fn new(new: impl Fn(&Arc<EventFd>, usize) -> io::Result<(D, D::Inbox)>) -> Self {
        let waker = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap());
        let (driver, inbox) = new(&waker, CONNECTIONS).unwrap();
        Self { driver, inbox, waker }
    }

    fn wait(&mut self) {
        self.driver.wait(&mut self.inbox, Duration::from_millis(100), None).unwrap();
    }

    /// What happens next.
    fn seen(&mut self) -> (Slot, Seen) {
        loop {
            if let Some((slot, event)) = self.driver.next(&mut self.inbox) {
                let event = match event {
                    Event::Opened => Seen::Opened,
                    Event::Input(bytes) => Seen::Input(bytes.to_vec()),
                    Event::Ended => Seen::Ended,
                    Event::Writable => Seen::Writable,
                    Event::Failed(error) => Seen::Failed(error.kind()),
                };
                return (slot, event);
            }
            self.wait();
        }
    }

    fn open(&mut self, slot: Slot, address: SocketAddr) {
        self.driver.open(slot, address, Intake::default()).unwrap();
        assert_eq!(self.seen(), (slot, Seen::Opened));
    }

    /// All that comes on a connection until its end.
    fn receive(&mut self, slot: Slot) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            match self.seen() {
                (from, Seen::Input(input)) if from == slot => bytes.extend(input),
                (from, Seen::Ended) if from == slot => return bytes,
                other => panic!("{other:?}"),
            }
        }
    }
}

/// A server for one connection.
fn serve<T: Send + 'static>(
    converse: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (address, thread::spawn(move || converse(listener.accept().unwrap().0)))
}

fn pattern() -> Vec<u8> {
    (0..250).collect::<Vec<u8>>().repeat(MUCH / 250)
}

fn everything(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

fn what_is_taken_arrives_whole_and_in_order<D: Driver>(mut test: Test<D>) {
    let (address, server) = serve(everything);
    test.open(SLOT, address);
    let bytes = pattern();
    let mut taken = 0;
    while taken < bytes.len() {
        let count = test.driver.send(SLOT, &bytes[taken..]).unwrap();
        if count == 0 {
            assert_eq!(test.seen(), (SLOT, Seen::Writable));
        }
        taken += count;
    }
    test.driver.finish(SLOT);
    while !server.is_finished() {
        test.wait();
        assert!(test.driver.next(&mut test.inbox).is_none());
    }
    assert!(server.join().unwrap() == bytes);
}

fn what_never_changes_is_sent_to_its_end_when_the_socket_is_finished<D: Driver>(mut test: Test<D>) {
    let (address, server) = serve(everything);
    test.open(SLOT, address);
    let constant: Arc<[u8]> = pattern().into();
    let mut taken = 7;
    while taken < MUCH {
        let count = test.driver.send_constant(SLOT, &constant, taken..MUCH).unwrap();
        if count == 0 {
            assert_eq!(test.seen(), (SLOT, Seen::Writable));
        }
        taken += count;
    }
    test.driver.finish(SLOT);
    while !server.is_finished() {
        test.wait();
        assert!(test.driver.next(&mut test.inbox).is_none());
    }
    assert!(server.join().unwrap() == constant[7..]);
}

fn input_arrives_whole_and_in_order<D: Driver>(mut test: Test<D>) {
    let (address, server) = serve(|mut stream| stream.write_all(&pattern()).unwrap());
    test.open(SLOT, address);
    assert!(test.receive(SLOT) == pattern());
    server.join().unwrap();
}

fn what_is_only_counted_is_counted_whole<D: Driver>(mut test: Test<D>) {
    let (address, server) = serve(|mut stream| stream.write_all(&pattern()).unwrap());
    test.driver.open(SLOT, address, Intake { only_counted: true, in_pieces: false }).unwrap();
    assert_eq!(test.seen(), (SLOT, Seen::Opened));
    assert_eq!(test.receive(SLOT).len(), MUCH);
    server.join().unwrap();
}

fn what_is_taken_in_pieces_comes_as_it_is_asked_for<D: Driver>(mut test: Test<D>) {
    for only_counted in [false, true] {
        let (address, server) = serve(|mut stream| stream.write_all(&vec![7; 100_000]));
        test.driver.open(SLOT, address, Intake { only_counted, in_pieces: true }).unwrap();
        assert_eq!(test.seen(), (SLOT, Seen::Opened));
        let mut came = 0;
        for piece in [1, 10, 1000, 1, 10_000].into_iter().cycle() {
            if came < 20 {
                // What is not asked for does not come.
                test.wait();
                assert!(test.driver.next(&mut test.inbox).is_none());
            }
            test.driver.receive(SLOT, piece);
            match test.seen() {
                (SLOT, Seen::Input(bytes)) if bytes.len() <= piece => came += bytes.len(),
                (SLOT, Seen::Ended) => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(came, 100_000);
        server.join().unwrap().unwrap();
    }
}

fn a_peer_waits_with_what_is_not_asked_for<D: Driver>(mut test: Test<D>) {
    let (address, server) = serve(|mut stream| stream.write_all(&pattern()));
    test.driver.open(SLOT, address, Intake { only_counted: true, in_pieces: true }).unwrap();
    assert_eq!(test.seen(), (SLOT, Seen::Opened));
    test.driver.receive(SLOT, 1);
    assert!(matches!(test.seen(), (SLOT, Seen::Input(_))));
    test.wait();
    assert!(!server.is_finished());
    test.driver.close(SLOT);
    while !server.is_finished() {
        test.wait();
    }
    assert!(server.join().unwrap().is_err());
}

fn a_peer_sees_how_a_socket_is_left<D: Driver>(mut test: Test<D>) {
    for resets in [false, true] {
        let (address, server) = serve(|mut stream| {
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).map(|_| bytes).map_err(|error| error.kind())
        });
        test.open(SLOT, address);
        if resets {
            test.driver.reset_on_close(SLOT).unwrap();
        } else {
            assert_eq!(test.driver.send(SLOT, b"half").unwrap(), 4);
        }
        test.driver.finish(SLOT);
        while !server.is_finished() {
            test.wait();
            assert!(test.driver.next(&mut test.inbox).is_none());
        }
        let seen = server.join().unwrap();
        let reset = Err(io::ErrorKind::ConnectionReset);
        assert_eq!(seen, if resets { reset } else { Ok(b"half".to_vec()) });
    }
    for last_words in [&b""[..], b"bye"] {
        let (address, server) = serve(everything);
        test.open(SLOT, address);
        if !last_words.is_empty() {
            assert_eq!(test.driver.send(SLOT, last_words).unwrap(), last_words.len());
        }
        test.driver.end_stream(SLOT).unwrap();
        assert_eq!(test.seen(), (SLOT, Seen::Ended));
        assert_eq!(server.join().unwrap(), last_words);
    }
}

/// More was taken than the peer has room for.
fn a_stream_ends_behind_all_that_was_taken<D: Driver>(mut test: Test<D>) {
    let (address, server) = serve(|stream| {
        thread::sleep(Duration::from_millis(20));
        everything(stream)
    });
    test.open(SLOT, address);
    let constant: Arc<[u8]> = pattern().into();
    let taken = test.driver.send_constant(SLOT, &constant, 0..MUCH).unwrap();
    test.driver.end_stream(SLOT).unwrap();
    let mut seen = test.seen();
    if seen == (SLOT, Seen::Writable) {
        seen = test.seen();
    }
    assert_eq!(seen, (SLOT, Seen::Ended));
    assert!(server.join().unwrap() == constant[..taken]);
}

/// Many sockets have input at the same time.
fn every_socket_gets_its_own_input<D: Driver>(mut test: Test<D>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut peers = Vec::new();
    for index in 0..CONNECTIONS {
        test.open(Slot::new(index, Channel::Control), address);
        peers.push(listener.accept().unwrap().0);
    }
    for _ in 0..3 {
        for (index, peer) in peers.iter_mut().enumerate() {
            peer.write_all(&[index as u8]).unwrap();
        }
        let mut came = vec![0; CONNECTIONS];
        while came.contains(&0) {
            let (slot, seen) = test.seen();
            assert_eq!(seen, Seen::Input(vec![slot.index as u8]));
            came[slot.index] += 1;
        }
        assert_eq!(came, [1; CONNECTIONS]);
    }
}

/// Input of the old socket has come, and a send of it is stuck, when it is closed.
fn nothing_of_a_closed_socket_reaches_the_next_one<D: Driver>(mut test: Test<D>) {
    for _ in 0..20 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        test.open(SLOT, listener.local_addr().unwrap());
        let mut old = listener.accept().unwrap().0;
        while test.driver.send(SLOT, &vec![1; 100_000]).unwrap() > 0 {}
        old.write_all(b"old").unwrap();
        test.wait();
        test.driver.close(SLOT);

        let (address, server) = serve(|mut stream| stream.write_all(b"new").unwrap());
        test.open(SLOT, address);
        assert_eq!(test.receive(SLOT), b"new");
        server.join().unwrap();
        // And the old one is closed, so that its peer sees the end of what was sent.
        let mut rest = Vec::new();
        old.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        match old.read_to_end(&mut rest) {
            Ok(_) => assert!(rest.iter().all(|byte| *byte == 1)),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        }
    }
}

/// Its peer does not read, so that it never is.
fn a_socket_that_is_to_be_finished_may_be_closed<D: Driver>(mut test: Test<D>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    test.open(SLOT, listener.local_addr().unwrap());
    let mut peer = listener.accept().unwrap().0;
    let constant: Arc<[u8]> = pattern().into();
    while test.driver.send_constant(SLOT, &constant, 0..MUCH).unwrap() > 0 {}
    test.driver.finish(SLOT);
    test.driver.close(SLOT);
    test.wait();
    assert!(test.driver.next(&mut test.inbox).is_none());
    peer.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let end = peer.read_to_end(&mut Vec::new());
    assert!(end.is_ok_and(|count| count < MUCH));
}

fn a_socket_may_be_closed_while_it_connects<D: Driver>(mut test: Test<D>) {
    // A queue of one that is full does not answer.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    for _ in 0..3 {
        for index in 1..5 {
            test.driver.open(Slot::new(index, Channel::Data), address, Intake::default()).unwrap();
        }
        test.wait();
        while test.driver.next(&mut test.inbox).is_some() {}
        for index in 1..5 {
            test.driver.close(Slot::new(index, Channel::Data));
        }
    }
    let (address, server) = serve(|mut stream| stream.write_all(b"new").unwrap());
    test.open(SLOT, address);
    assert_eq!(test.receive(SLOT), b"new");
    server.join().unwrap();
}

fn a_refused_connect_and_a_reset_are_told<D: Driver>(mut test: Test<D>) {
    let bound = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    bound.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = bound.local_addr().unwrap().as_socket().unwrap();
    test.driver.open(SLOT, address, Intake::default()).unwrap();
    let refused = Seen::Failed(io::ErrorKind::ConnectionRefused);
    assert_eq!(test.seen(), (SLOT, refused));

    let (address, server) = serve(|mut stream| {
        stream.read_exact(&mut [0]).unwrap();
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    });
    test.open(SLOT, address);
    assert_eq!(test.driver.send(SLOT, b"?").unwrap(), 1);
    assert_eq!(test.seen(), (SLOT, Seen::Failed(io::ErrorKind::ConnectionReset)));
    server.join().unwrap();
}

fn a_socket_knows_its_own_address<D: Driver>(mut test: Test<D>) {
    for host in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::bind(host).unwrap();
        test.open(SLOT, listener.local_addr().unwrap());
        let (_, seen_by_peer) = listener.accept().unwrap();
        assert_eq!(test.driver.local_address(SLOT).unwrap(), seen_by_peer);
    }
}

fn whoever_writes_to_the_waker_ends_a_wait<D: Driver>(mut test: Test<D>) {
    for _ in 0..3 {
        let waker = Arc::clone(&test.waker);
        let other = thread::spawn(move || waker.write(1).unwrap());
        test.driver.wait(&mut test.inbox, Duration::from_hours(1), None).unwrap();
        assert!(test.driver.next(&mut test.inbox).is_none());
        other.join().unwrap();
    }
}

fn an_alarm_ends_a_wait_and_never_before_its_time<D: Driver>(mut test: Test<D>) {
    for _ in 0..3 {
        let alarm = Instant::now() + Duration::from_millis(3);
        while Instant::now() < alarm {
            test.driver.wait(&mut test.inbox, Duration::from_hours(1), Some(alarm)).unwrap();
        }
    }
}

fn sockets_stay_open_in_what_is_left<D: Driver>(mut test: Test<D>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    test.open(SLOT, listener.local_addr().unwrap());
    let mut peer = listener.accept().unwrap().0;
    let left = test.driver.leave(test.inbox);
    peer.set_nonblocking(true).unwrap();
    let error = peer.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    drop(left);
    peer.set_nonblocking(false).unwrap();
    assert_eq!(peer.read_to_end(&mut Vec::new()).unwrap(), 0);
}

macro_rules! with_each_driver {
    ($($claim:ident,)*) => {
        mod epoll {
            $(#[test]
            fn $claim() {
                super::$claim(super::Test::<super::Epoll>::new(super::Driver::new));
            })*
        }
        mod io_uring {
            $(#[test]
            fn $claim() {
                super::$claim(super::Test::<super::Ring>::new(super::Driver::new));
            })*
        }
        mod io_uring_that_is_short_of_everything {
            $(#[test]
            fn $claim() {
                super::$claim(super::Test::<super::Ring>::new(super::ring::short_of_everything));
            })*
        }
    };
}

with_each_driver!(
    what_is_taken_arrives_whole_and_in_order,
    what_never_changes_is_sent_to_its_end_when_the_socket_is_finished,
    input_arrives_whole_and_in_order,
    what_is_only_counted_is_counted_whole,
    what_is_taken_in_pieces_comes_as_it_is_asked_for,
    a_peer_waits_with_what_is_not_asked_for,
    a_peer_sees_how_a_socket_is_left,
    a_stream_ends_behind_all_that_was_taken,
    every_socket_gets_its_own_input,
    nothing_of_a_closed_socket_reaches_the_next_one,
    a_socket_that_is_to_be_finished_may_be_closed,
    a_socket_may_be_closed_while_it_connects,
    a_refused_connect_and_a_reset_are_told,
    a_socket_knows_its_own_address,
    whoever_writes_to_the_waker_ends_a_wait,
    an_alarm_ends_a_wait_and_never_before_its_time,
    sockets_stay_open_in_what_is_left,
);
