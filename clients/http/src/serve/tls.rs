//! TLS with certificate files of the owner's own: read once, at the start, with an error that names the file and what is
//! wrong with it. Who speaks plain HTTP here by mistake is told so. Called by `run`, which reads, and by the accept loop.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use protocol::{Error, ErrorKind};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring as provider;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{Error as RustlsError, ServerConfig};
use tokio_rustls::server::TlsStream;

use crate::{error, request_id};

/// The first byte of every TLS connection: a record that holds a handshake.
const HANDSHAKE: u8 = 22;

/// Where the certificate and its key lie.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate and those that vouch for it, as PEM, its own first.
    pub certificate: PathBuf,
    /// Its private key, as PEM.
    pub key: PathBuf,
}

/// Why the files cannot be used.
#[derive(Debug)]
pub enum TlsError {
    /// A file cannot be read.
    Unreadable(PathBuf, io::Error),
    /// A file is no PEM.
    Malformed(PathBuf, String),
    /// A file is PEM and holds something else.
    Missing(PathBuf, &'static str),
    /// The key belongs to another certificate.
    Mismatch(PathBuf, PathBuf),
    /// The certificate or the key is of a kind that cannot be used.
    Unusable(PathBuf, String),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(path, error) => {
                write!(f, "{} cannot be read: {error}; give a file that this user may read", path.display())
            }
            Self::Malformed(path, why) => write!(f, "{} is no valid PEM: {why}; write it anew", path.display()),
            Self::Missing(path, what) => write!(
                f,
                "{} holds no {what}; it must be PEM, with a line that says BEGIN {}",
                path.display(),
                what.to_ascii_uppercase()
            ),
            Self::Mismatch(key, certificate) => write!(
                f,
                "{} is not the key of {}; give the two that were made together",
                key.display(),
                certificate.display()
            ),
            Self::Unusable(path, why) => write!(f, "{} cannot be used: {why}", path.display()),
        }
    }
}

impl std::error::Error for TlsError {}

/// Speaks TLS as the bridge.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

impl Tls {
    /// Reads the files. Blocks.
    pub fn read(TlsFiles { certificate, key }: &TlsFiles) -> Result<Self, TlsError> {
        let chain = pem(certificate, "certificate", CertificateDer::pem_file_iter(certificate))?;
        let private = pem(key, "private key", PrivateKeyDer::pem_file_iter(key))?.swap_remove(0);
        warn_if_open(key);
        let unusable = |error: RustlsError| match error {
            RustlsError::InconsistentKeys(_) => TlsError::Mismatch(key.clone(), certificate.clone()),
            RustlsError::InvalidCertificate(error) => TlsError::Unusable(certificate.clone(), error.to_string()),
            error => TlsError::Unusable(key.clone(), error.to_string()),
        };
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .map_err(unusable)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Shakes hands with a client, within `patience`.
    pub async fn accept(&self, mut stream: TcpStream, patience: Duration) -> io::Result<TlsStream<TcpStream>> {
        let shaken = async {
            let mut first = [0];
            if stream.peek(&mut first).await? == 1 && first[0] != HANDSHAKE {
                stream.write_all(&plain()).await?;
                stream.shutdown().await?;
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the client does not speak TLS"));
            }
            self.0.accept(stream).await
        };
        timeout(patience, shaken).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Returns every item of a file; at least one.
fn pem<T>(
    path: &Path,
    what: &'static str,
    items: Result<impl Iterator<Item = Result<T, pem::Error>>, pem::Error>,
) -> Result<Vec<T>, TlsError> {
    let failed = |error| match error {
        pem::Error::Io(error) => TlsError::Unreadable(path.to_owned(), error),
        pem::Error::NoItemsFound => TlsError::Missing(path.to_owned(), what),
        error => TlsError::Malformed(path.to_owned(), error.to_string()),
    };
    let items = items.map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    if items.is_empty() { Err(TlsError::Missing(path.to_owned(), what)) } else { Ok(items) }
}

/// Says so where others of this machine can read the key.
fn warn_if_open(key: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(key).map_or(0, |about| about.permissions().mode());
    if mode & 0o077 != 0 {
        tracing::warn!(key = %key.display(), "others can read the private key; chmod 600 keeps it to you");
    }
}

/// What is said, in clear, to a client that does not speak TLS.
fn plain() -> Vec<u8> {
    let id = request_id::fresh();
    let error = Error::new(ErrorKind::Invalid, "This bridge speaks TLS only.").hint("Write https:// in its address.");
    let body = serde_json::to_string(&error::body_as(&error, 400, Some(id.clone()))).unwrap_or_default();
    let about = format!("content-type: application/json\r\nx-request-id: {id}\r\nconnection: close");
    format!("HTTP/1.1 400 Bad Request\r\n{about}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[cfg(test)]
mod tests;
