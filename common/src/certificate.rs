//! The certificate that a server shows, from the command line.
//!
//! **Invariant:** it is the same for every worker, forked ones too. So are the keys of the tickets
//! by which a client resumes a session, until a process renews its own after some hours; a ticket
//! that is not known costs a whole handshake.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::session::TlsConfig;

/// What the user wants of TLS (RFC 4217 for FTP).
#[derive(Args, Clone, Debug)]
pub(crate) struct TlsOptions {
    /// The certificate, with those that it rests on, in PEM: FTP then knows AUTH TLS, and the
    /// other protocols are secured from the first byte
    #[arg(long = "tls-cert", value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// The certificate's private key, in PEM
    #[arg(long = "tls-key", value_name = "FILE")]
    key: Option<PathBuf>,
    /// TLS with a certificate that is made now and that nobody vouches for
    #[arg(long = "tls-self-signed")]
    self_signed: bool,
}

impl TlsOptions {
    /// With what connections are secured, if they are to be. An error is a line for the user.
    pub(crate) fn config(&self, listen: SocketAddr) -> Result<Option<Arc<TlsConfig>>, String> {
        let (certificates, key) = match (&self.certificate, &self.key, self.self_signed) {
            (None, None, false) => return Ok(None),
            (None, None, true) => {
                return self_signed(listen)
                    .map(Some)
                    .map_err(|error| format!("--tls-self-signed: cannot make one: {error}"));
            }
            (Some(certificate), Some(key), false) => (read_chain(certificate)?, read_key(key)?),
            (Some(_), None, false) => {
                return Err(String::from("--tls-cert needs --tls-key: give the file with its key"));
            }
            (None, Some(_), false) => {
                return Err(String::from(
                    "--tls-key needs --tls-cert: give the file with the certificate",
                ));
            }
            (_, _, true) => {
                return Err(String::from(
                    "give either --tls-cert and --tls-key, or --tls-self-signed",
                ));
            }
        };
        config(certificates, key).map(Some)
    }
}

type Chain = Vec<CertificateDer<'static>>;

/// With a certificate that is made now, for a server that listens there.
pub fn self_signed(listen: SocketAddr) -> Result<Arc<TlsConfig>, String> {
    let (certificates, key) = make(listen).map_err(|error| error.to_string())?;
    config(certificates, key)
}

fn config(certificates: Chain, key: PrivateKeyDer<'static>) -> Result<Arc<TlsConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS: {error}"))?;
    let control = builder.with_no_client_auth().with_single_cert(certificates, key);
    let mut control = control.map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            String::from("--tls-key is not the key of the first certificate in --tls-cert")
        }
        rustls::Error::General(_) => String::from(
            "--tls-key is of a kind that TLS cannot use here: make it RSA of 2048 bits or more, \
             ECDSA on P-256 or P-384, or Ed25519",
        ),
        rustls::Error::InvalidCertificate(_) => String::from(
            "--tls-cert holds no certificate of X.509 version 3, which is what TLS needs",
        ),
        other => format!("--tls-cert and --tls-key cannot be used: {other}"),
    })?;
    control.ticketer = ring::Ticketer::new().map_err(|error| format!("TLS tickets: {error}"))?;
    let mut data = control.clone();
    data.send_tls13_tickets = 0;
    Ok(Arc::new(TlsConfig { control: Arc::new(control), data: Arc::new(data) }))
}

/// A certificate for this machine's own names.
fn make(listen: SocketAddr) -> Result<(Chain, PrivateKeyDer<'static>), rcgen::Error> {
    let mut names = vec![String::from("localhost"), String::from("127.0.0.1"), String::from("::1")];
    let address = listen.ip().to_string();
    if !listen.ip().is_unspecified() && !names.contains(&address) {
        names.push(address);
    }
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "localhost");
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((vec![certificate.into()], PrivatePkcs8KeyDer::from(key.serialize_der()).into()))
}

fn read_chain(path: &Path) -> Result<Chain, String> {
    let chain = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Chain, _>>);
    match chain {
        Ok(chain) if chain.is_empty() => Err(format!(
            "--tls-cert {}: there is no certificate in PEM in it; `openssl x509 -inform der` \
                 makes one of DER",
            path.display()
        )),
        chain => chain.map_err(|error| format!("--tls-cert {}: {}", path.display(), said(&error))),
    }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(path)
        .map_err(|error| format!("--tls-key {}: {}", path.display(), said(&error)))
}

fn said(error: &pem::Error) -> String {
    match error {
        pem::Error::Io(error) => error.to_string(),
        pem::Error::NoItemsFound => String::from(
            "there is no private key in PEM in it that needs no password; `openssl pkey` makes one",
        ),
        other => format!("this is not PEM as it should be: {other:?}"),
    }
}
