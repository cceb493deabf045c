//! A session within TLS (RFC 8446, by rustls, which knows no sockets itself): the handshake is a
//! phase of its own, and each connection makes a whole one.
//!
//! What a server proves with its certificate is not looked at: it would cost the client more than
//! its part costs the server, and loads are sent to servers that one knows. That both have the same
//! keys is checked all the same.

use std::io::{self, BufRead as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};

use super::{Channel, Client, Session, Step};
use crate::record::{Failure, Kind, Operation};

pub(crate) struct Secure {
    within: Client,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    /// None before the first connection.
    connection: Option<Box<ClientConnection>>,
    is_handshaking: bool,
    /// Records, and how much of them is sent.
    output: Vec<u8>,
    sent: usize,
}

impl Secure {
    pub(crate) fn new(within: Client, target: SocketAddr) -> Self {
        Self::with(within, config(), target.ip().into())
    }

    fn with(within: Client, config: Arc<ClientConfig>, name: ServerName<'static>) -> Self {
        let (connection, is_handshaking, output, sent) = (None, true, Vec::new(), 0);
        Self { within, config, name, connection, is_handshaking, output, sent }
    }

    /// Encrypts what the session within has to say, as far as there is room for it.
    fn encrypt(&mut self) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        if self.sent < self.output.len() {
            return;
        }
        self.output.clear();
        self.sent = 0;
        while !self.is_handshaking && !self.within.output().is_empty() {
            let Ok(count @ 1..) = connection.writer().write(self.within.output()) else {
                break;
            };
            self.within.wrote(count);
        }
        while connection.wants_write() {
            connection.write_tls(&mut self.output).expect("a vector takes any bytes");
        }
    }

    /// Plain text that is there, given to the session within; `None` if that wants more.
    fn take_plain(&mut self) -> Result<Option<Step>, Failure> {
        let Some(connection) = &mut self.connection else {
            return Ok(None);
        };
        let mut reader = connection.reader();
        loop {
            // Neither records that have yet to come nor their end are a failure here: the end of
            // the stream follows, and is judged as it is where there is no TLS.
            let plain = reader.fill_buf().unwrap_or_default();
            let mut rest = plain;
            let step = self.within.input(Channel::Control, &mut rest)?;
            let used = plain.len() - rest.len();
            reader.consume(used);
            match step {
                Step::More if used > 0 => {}
                Step::More => return Ok(None),
                step => return Ok(Some(step)),
            }
        }
    }

    /// Records that have come.
    fn take_records(&mut self, bytes: &mut &[u8]) -> Result<(), Failure> {
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        let refused =
            |error: &dyn std::error::Error| Failure::new(Kind::BadReply, format!("TLS: {error}"));
        match connection.read_tls(bytes) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                return Err(refused(&error));
            }
            _ => {}
        }
        connection.process_new_packets().map_err(|error| refused(&error))?;
        Ok(())
    }
}

impl Clone for Secure {
    /// One that is not connected yet.
    fn clone(&self) -> Self {
        Self::with(self.within.clone(), Arc::clone(&self.config), self.name.clone())
    }
}

impl std::fmt::Debug for Secure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Secure").field("within", &self.within).finish_non_exhaustive()
    }
}

impl Session for Secure {
    fn number(&mut self, number: usize) {
        self.within.number(number);
    }

    fn reset(&mut self) {
        self.within.reset();
        let connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone());
        self.connection = Some(Box::new(connection.expect("the configuration never changes")));
        self.is_handshaking = true;
        self.sent = self.output.len();
        self.encrypt();
    }

    fn is_one_request(&self) -> bool {
        self.within.is_one_request()
    }

    fn is_ready(&self) -> bool {
        !self.is_handshaking && self.within.is_ready()
    }

    fn request(&mut self) {
        self.within.request();
        self.encrypt();
    }

    fn resume(&mut self) {
        self.within.resume();
        self.encrypt();
    }

    fn output(&self) -> &[u8] {
        &self.output[self.sent..]
    }

    fn wrote(&mut self, count: usize) {
        self.sent += count;
        self.encrypt();
    }

    fn input(&mut self, channel: Channel, bytes: &mut &[u8]) -> Result<Step, Failure> {
        debug_assert_eq!(channel, Channel::Control);
        loop {
            if !self.is_handshaking
                && let Some(step) = self.take_plain()?
            {
                return Ok(step);
            }
            if bytes.is_empty() {
                self.encrypt();
                return Ok(Step::More);
            }
            self.take_records(bytes)?;
            let is_handshaking = self.connection.as_ref().is_none_or(|one| one.is_handshaking());
            if self.is_handshaking && !is_handshaking {
                self.is_handshaking = false;
                return Ok(Step::Passed(Operation::Handshake));
            }
        }
    }

    fn ended(&mut self, channel: Channel) -> Result<(), Failure> {
        self.within.ended(channel)
    }

    fn is_over(&self) -> bool {
        self.within.is_over()
    }
}

/// Without tickets, so that each connection pays for a handshake.
fn config() -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider is made for these versions");
    let verifier = Arc::new(AnyServer(ring::default_provider()));
    let mut config =
        builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// Takes every server for the right one.
#[derive(Debug)]
struct AnyServer(rustls::crypto::CryptoProvider);

impl ServerCertVerifier for AnyServer {
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
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use rustls::{ServerConfig, ServerConnection};

    use super::*;
    use crate::class::Class;

    const REPLY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHello";

    fn server() -> ServerConnection {
        let made = rcgen::generate_simple_self_signed([String::from("localhost")]).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = builder.with_single_cert(vec![made.cert.into()], key.into()).unwrap();
        ServerConnection::new(Arc::new(config)).unwrap()
    }

    /// Plays a handshake and two requests at once, whose replies come in pieces of so many bytes.
    fn play(client: &mut Secure, piece: usize) -> Vec<Step> {
        let mut server = server();
        let mut steps = Vec::new();
        client.reset();
        assert!(!client.is_ready());
        let mut asked = Vec::new();
        for _ in 0..1000 {
            while !client.output().is_empty() {
                let count = server.read_tls(&mut client.output()).unwrap();
                client.wrote(count);
            }
            server.process_new_packets().unwrap();
            let before = asked.len();
            let _ = io::Read::read_to_end(&mut server.reader(), &mut asked);
            let requests = asked[before..].windows(4).filter(|end| end == b"\r\n\r\n").count();
            server.writer().write_all(&REPLY.repeat(requests)).unwrap();
            let mut records = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut records).unwrap();
            }
            for mut bytes in records.chunks(piece) {
                loop {
                    match client.input(Channel::Control, &mut bytes).unwrap() {
                        Step::More => break,
                        step => steps.push(step),
                    }
                }
                assert!(bytes.is_empty());
            }
            match steps.len() {
                3 => return steps,
                1 if asked.is_empty() && client.is_ready() => {
                    client.request();
                    client.request();
                }
                _ => {}
            }
        }
        panic!("{steps:?}");
    }

    #[test]
    fn records_may_arrive_in_any_pieces_and_each_connection_shakes_hands() {
        let target = SocketAddr::from(([127, 0, 0, 1], 443));
        let class = Class { tls: true, expected_bytes: Some(5), ..Class::default() };
        let Client::Secure(client) = Client::new(&class, target) else {
            panic!("a class within TLS is secure");
        };
        let mut client = client.clone();
        for piece in [1, 7, 100, 100_000] {
            let steps = play(&mut client, piece);
            let expected = [Step::Passed(Operation::Handshake), Step::Replied, Step::Replied];
            assert_eq!(steps, expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn what_is_no_tls_is_told() {
        let target = SocketAddr::from(([127, 0, 0, 1], 443));
        let mut client = Client::new(&Class { tls: true, ..Class::default() }, target);
        client.reset();
        let failure = client.input(Channel::Control, &mut &REPLY[..]).unwrap_err();
        assert_eq!(failure.kind, Kind::BadReply);
        assert!(failure.detail.starts_with("TLS: "), "{}", failure.detail);
    }
}
