//! The certificate that servers show in workloads within TLS: the same for all of a run, made anew
//! for each.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// A certificate for 127.0.0.1 (ECDSA on P-256, which servers sign with fastest), and its key.
#[derive(Debug)]
pub(crate) struct Certificate {
    /// In PEM, as servers read it.
    pub(crate) file: PathBuf,
    pub(crate) key: PathBuf,
    der: CertificateDer<'static>,
}

impl Certificate {
    /// Writes one into this folder.
    pub(crate) fn make(folder: &Path) -> anyhow::Result<Self> {
        let made = rcgen::generate_simple_self_signed([String::from("127.0.0.1")])?;
        let (file, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
        for (path, pem) in [(&file, made.cert.pem()), (&key, made.signing_key.serialize_pem())] {
            fs::write(path, pem).with_context(|| path.display().to_string())?;
        }
        Ok(Self { file, key, der: made.cert.into() })
    }

    /// A connection to a server that shows this certificate, and has its key.
    pub(crate) fn secure(
        &self,
        stream: TcpStream,
        server: SocketAddr,
    ) -> anyhow::Result<StreamOwned<ClientConnection, TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone())?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connection = ClientConnection::new(Arc::new(config), server.ip().into())?;
        let mut secured = StreamOwned::new(connection, stream);
        secured.conn.complete_io(&mut secured.sock).context("the TLS handshake")?;
        Ok(secured)
    }
}
