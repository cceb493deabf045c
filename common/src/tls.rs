//! TLS on one connection (RFC 8446, by rustls, which knows no sockets itself).
//!
//! **Invariant:** the wire is never waited for here: what cannot go on now says `WouldBlock`.
//! Bytes count as sent when their records are with the kernel, and not before, so that whoever
//! asked for the write keeps them until then.

use std::io::{self, BufRead, IoSlice, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{MsgFlags, recv, send};
use rustls::{ServerConfig, ServerConnection};
use socket2::SockRef;

/// How many times a socket is read for one piece of plain text. The longest record takes five; what
/// takes more is no text, but what a peer may send without end: new keys, say.
const READS: usize = 8;

/// The server's side of a secured connection.
#[derive(Debug)]
pub struct Tls {
    connection: ServerConnection,
    /// How many bytes have been encrypted for a write that is not answered yet, because the kernel
    /// has not taken all of their records.
    unanswered: usize,
    /// The peer has been told that nothing more comes.
    closing: bool,
    /// The peer has said that nothing more comes from it.
    ended: bool,
}

/// What a read came to.
pub struct Received {
    /// 0 at the end of the stream.
    pub bytes: usize,
    /// Nothing is left to be read for now, as far as one can tell without trying.
    pub drained: bool,
}

impl Tls {
    /// Nothing has been said yet.
    pub fn new(config: &Arc<ServerConfig>) -> io::Result<Self> {
        let connection = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
        Ok(Tls { connection, unanswered: 0, closing: false, ended: false })
    }

    /// Whether it waits for the kernel to take something, rather than for the peer to say
    /// something.
    pub fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    /// The handshake, as far as it goes now.
    pub fn shake_hands(&mut self, wire: &mut impl Wire) -> io::Result<()> {
        loop {
            self.flush(wire)?;
            if !self.connection.is_handshaking() {
                return Ok(());
            }
            if self.take_in(wire)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Appends what the peer has sent, at least a byte unless the stream has ended, and no more
    /// than fits. A stream that ends without the peer's word for it (RFC 8446 §6.1) is an
    /// error: somebody may have cut it. `Interrupted` says that much has come and nothing to be
    /// read, and perhaps more is there: others may want their turn.
    pub fn receive(&mut self, wire: &mut impl Wire, into: &mut Vec<u8>) -> io::Result<Received> {
        let before = into.len();
        for _ in 0..READS {
            self.take_out(into)?;
            let bytes = into.len() - before;
            if self.ended || bytes > 0 {
                let is_full = into.len() == into.capacity();
                return Ok(Received { bytes, drained: wire.is_drained() && !is_full });
            }
            self.take_in(wire)?;
        }
        Err(io::ErrorKind::Interrupted.into())
    }

    /// Sends some of these bytes; to be called with the same ones until it succeeds.
    pub fn send(&mut self, wire: &mut impl Wire, bytes: &[u8]) -> io::Result<usize> {
        if self.unanswered == 0 {
            self.unanswered = self.connection.writer().write(bytes)?;
        }
        self.flush(wire)?;
        Ok(std::mem::take(&mut self.unanswered))
    }

    /// How many bytes of a write that was tried before are on their way.
    pub fn unanswered(&self) -> usize {
        self.unanswered
    }

    /// Whether the peer has said that nothing more comes from it.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Tells the peer that nothing more comes. A stream that is cut in the midst of a write is not
    /// closed in this way, so that the peer does not take what it has for the whole.
    pub fn close(&mut self, wire: &mut impl Wire) -> io::Result<()> {
        if self.connection.is_handshaking() || self.unanswered > 0 {
            return Ok(());
        }
        if !std::mem::replace(&mut self.closing, true) {
            self.connection.send_close_notify();
        }
        self.flush(wire)
    }

    /// Plain text from rustls.
    fn take_out(&mut self, into: &mut Vec<u8>) -> io::Result<()> {
        let mut reader = self.connection.reader();
        while into.len() < into.capacity() {
            let plain = match reader.fill_buf() {
                Ok([]) => {
                    self.ended = true;
                    break;
                }
                Ok(plain) => plain,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if into.is_empty() => return Err(error),
                Err(_) => break,
            };
            let count = plain.len().min(into.capacity() - into.len());
            into.extend_from_slice(&plain[..count]);
            reader.consume(count);
        }
        Ok(())
    }

    /// Records from the socket; 0 at its end. What rustls wants to say to them is sent as far as it
    /// goes now: the alert that tells the peer what is wrong, or a new key.
    fn take_in(&mut self, wire: &mut impl Wire) -> io::Result<usize> {
        // What waits to be sent is what is waited for, so that it must be tried first.
        self.flush_some(wire)?;
        let count = self.connection.read_tls(wire)?;
        let result = self.connection.process_new_packets();
        self.flush_some(wire)?;
        result.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(count)
    }

    /// As far as it goes now.
    fn flush_some(&mut self, wire: &mut impl Wire) -> io::Result<()> {
        match self.flush(wire) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    fn flush(&mut self, wire: &mut impl Wire) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(wire)?;
        }
        Ok(())
    }
}

/// What carries records: never waited for.
pub trait Wire: Read + Write {
    /// Whether nothing is left to be read for now, as far as one can tell without trying.
    fn is_drained(&self) -> bool;
}

/// A socket that is a wire.
pub(crate) struct SocketWire<'a> {
    socket: BorrowedFd<'a>,
    /// The last read came up short.
    drained: bool,
}

impl<'a> From<BorrowedFd<'a>> for SocketWire<'a> {
    fn from(socket: BorrowedFd<'a>) -> Self {
        SocketWire { socket, drained: false }
    }
}

impl Wire for SocketWire<'_> {
    fn is_drained(&self) -> bool {
        self.drained
    }
}

impl Read for SocketWire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = uninterrupted(|| {
            recv(self.socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT).map_err(Errno::into)
        })?;
        self.drained = count < buffer.len();
        Ok(count)
    }
}

impl Write for SocketWire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        uninterrupted(|| send(self.socket.as_raw_fd(), bytes, flags).map_err(Errno::into))
    }

    fn write_vectored(&mut self, records: &[IoSlice<'_>]) -> io::Result<usize> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        uninterrupted(|| SockRef::from(&self.socket).send_vectored_with_flags(records, flags))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes a system call again for as long as signals interrupt it.
pub(crate) fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::self_signed;
    use ring::{aead, hkdf};
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::ring::{cipher_suite, default_provider};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, KeyLog, SignatureScheme};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::sync::Mutex;

    /// A client that trusts everybody, and tells its secret.
    #[derive(Debug, Default)]
    struct Open(Mutex<Vec<u8>>);

    impl KeyLog for Open {
        fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
            if label == "CLIENT_TRAFFIC_SECRET_0" {
                *self.0.lock().unwrap() = secret.to_vec();
            }
        }
    }

    impl ServerCertVerifier for Open {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ECDSA_NISTP256_SHA256]
        }
    }

    struct Length(usize);

    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }

    /// HKDF-Expand-Label (RFC 8446 §7.1).
    fn expand(secret: &[u8], label: &[u8], length: u8) -> Vec<u8> {
        let label = [b"tls13 ", label].concat();
        let info = [&[0, length, label.len() as u8][..], &label, &[0]];
        let mut out = vec![0; usize::from(length)];
        let secret = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, secret);
        secret.expand(&info, Length(out.len())).unwrap().fill(&mut out).unwrap();
        out
    }

    /// Records as a client sends them that has this secret and has sent so many with it.
    fn record(secret: &[u8], number: u8, kind: u8, content: &[u8]) -> Vec<u8> {
        let key = aead::UnboundKey::new(&aead::AES_128_GCM, &expand(secret, b"key", 16)).unwrap();
        let mut nonce: [u8; 12] = expand(secret, b"iv", 12).try_into().unwrap();
        nonce[11] ^= number;
        let mut bytes = [content, &[kind]].concat();
        let head = [23, 3, 3, 0, bytes.len() as u8 + 16];
        aead::LessSafeKey::new(key)
            .seal_in_place_append_tag(
                aead::Nonce::assume_unique_for_key(nonce),
                aead::Aad::from(head),
                &mut bytes,
            )
            .unwrap();
        [&head[..], &bytes].concat()
    }

    /// A secured connection: our side, our socket, the client's socket and secret.
    fn secured() -> (Tls, UnixStream, UnixStream, Vec<u8>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let open = Arc::new(Open::default());
        let mut provider = default_provider();
        provider.cipher_suites = vec![cipher_suite::TLS13_AES_128_GCM_SHA256];
        let mut config = ClientConfig::builder_with_provider(provider.into())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(open.clone())
            .with_no_client_auth();
        config.key_log = open.clone();
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = ClientConnection::new(config.into(), name).unwrap();
        let config = self_signed(([127, 0, 0, 1], 0).into()).unwrap();
        let mut tls = Tls::new(&config.control).unwrap();
        loop {
            while client.wants_write() {
                client.write_tls(&mut &theirs).unwrap();
            }
            if tls.shake_hands(&mut SocketWire::from(ours.as_fd())).is_ok() {
                let secret = open.0.lock().unwrap().clone();
                return (tls, ours, theirs, secret);
            }
            while client.read_tls(&mut &theirs).is_ok_and(|count| count > 0) {
                client.process_new_packets().unwrap();
            }
        }
    }

    #[test]
    fn a_peer_that_sends_no_text_without_end_does_not_keep_its_thread() {
        let (mut tls, ours, theirs, mut secret) = secured();
        let mut sent = Vec::new();
        // A new key, and a record with nothing in it.
        for round in 0..1000 {
            sent.extend(record(&secret, u8::from(round > 0), 22, &[24, 0, 0, 1, 0]));
            secret = expand(&secret, b"traffic upd", 32);
            sent.extend(record(&secret, 0, 23, b""));
        }
        sent.extend(record(&secret, 1, 23, b"text"));
        (&theirs).write_all(&sent).unwrap();
        let mut text = Vec::with_capacity(100);
        let first = tls
            .receive(&mut SocketWire::from(ours.as_fd()), &mut text)
            .map(|received| received.bytes);
        assert_eq!(first.unwrap_err().kind(), io::ErrorKind::Interrupted);
        let rest =
            std::iter::repeat_with(|| tls.receive(&mut SocketWire::from(ours.as_fd()), &mut text));
        let found = rest.take(10).find_map(Result::ok);
        assert_eq!(found.map(|received| received.bytes), Some(4));
        assert_eq!(text, b"text");
    }
}
