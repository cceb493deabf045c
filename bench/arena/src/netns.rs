//! A network namespace of the harness's own: a loopback that nobody else uses, whose MTU is chosen,
//! and no port that a run before has left in TIME-WAIT.

#![allow(unsafe_code, reason = "the standard library has no requests to network devices")]

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;

use nix::libc::{self, c_char, ifreq};
use nix::sched::{CloneFlags, unshare};

use crate::Usage;

/// What loopback has where nobody changed it.
pub(crate) const MTU: &str = "65536";

/// Puts this thread, and all that it starts from now on, into a namespace with such a loopback.
pub(crate) fn enter(mtu: u32) -> Result<(), Usage> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|error| {
        let what = "a network namespace needs root, or CAP_SYS_ADMIN and CAP_NET_ADMIN";
        Usage(format!("{what}; leave --netns out: {error}"))
    })?;
    set_up_loopback(mtu)
        .map_err(|error| Usage(format!("the loopback of --netns {mtu} cannot be set up: {error}")))
}

fn set_up_loopback(mtu: u32) -> io::Result<()> {
    // Any socket takes the requests; this one is not bound to an address, and there is none yet.
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    let mut request = loopback();
    request.ifr_ifru.ifru_mtu = mtu.try_into().map_err(io::Error::other)?;
    ask(&socket, libc::SIOCSIFMTU, &mut request)?;
    ask(&socket, libc::SIOCGIFFLAGS, &mut request)?;
    // SAFETY: the kernel has just written the flags.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as i16;
    ask(&socket, libc::SIOCSIFFLAGS, &mut request)
}

fn ask(socket: &UdpSocket, what: libc::Ioctl, request: &mut ifreq) -> io::Result<()> {
    // SAFETY: the request is one of those that take an `ifreq`, which outlives the call.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), what, std::ptr::from_mut(request)) };
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A request about `lo`.
fn loopback() -> ifreq {
    // SAFETY: an `ifreq` of zeros is one without a name.
    let mut request: ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *place = *byte as c_char;
    }
    request
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_namespace_has_a_loopback_of_its_own_or_it_is_said_in_words_why_not() {
        let outside = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = outside.local_addr().unwrap();
        // The namespace is that of the thread, and ends with it.
        let inside = std::thread::spawn(move || {
            enter(1500)?;
            assert!(TcpStream::connect(address).is_err(), "nobody listens there");
            let own = TcpListener::bind(address).unwrap();
            TcpStream::connect(own.local_addr().unwrap()).unwrap();
            let mut request = loopback();
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            ask(&socket, libc::SIOCGIFMTU, &mut request).unwrap();
            // SAFETY: the kernel has just written the MTU.
            assert_eq!(unsafe { request.ifr_ifru.ifru_mtu }, 1500);
            Ok::<(), Usage>(())
        });
        if let Err(refused) = inside.join().unwrap() {
            // What fails within one is no refusal.
            assert!(refused.0.starts_with("a network namespace needs root"), "{refused}");
            eprintln!("SKIPPED: {refused}");
        }
    }
}
