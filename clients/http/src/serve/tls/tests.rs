//! TLS through real sockets, with certificates made here, and every way that their files can be wrong.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use axum::Router;
use axum::routing::get;
use rcgen::generate_simple_self_signed;
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::super::{Bounds, serve_within};
use super::*;
use crate::base64;

const LIMIT: Duration = Duration::from_secs(20);

/// A certificate for `localhost` and its key, as files.
struct Files {
    _folder: TempDir,
    files: TlsFiles,
    der: CertificateDer<'static>,
}

fn files() -> Files {
    let made = generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let files = TlsFiles { certificate: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
    fs::write(&files.certificate, written("CERTIFICATE", made.cert.der())).unwrap();
    fs::write(&files.key, written("PRIVATE KEY", &made.signing_key.serialize_der())).unwrap();
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o600)).unwrap();
    Files { _folder: folder, files, der: made.cert.der().clone() }
}

fn written(name: &str, bytes: &[u8]) -> String {
    let text = base64::encode(bytes);
    let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    format!("-----BEGIN {name}-----\n{}\n-----END {name}-----\n", lines.join("\n"))
}

/// A client that trusts one certificate and offers one protocol.
fn client(trusted: CertificateDer<'static>, protocol: &[u8]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(trusted).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    TlsConnector::from(Arc::new(config))
}

async fn start(files: &TlsFiles, head_patience: Duration) -> (std::net::SocketAddr, oneshot::Sender<()>) {
    let tls = Tls::read(files).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let routes = Router::new().route("/", get(|| async { "hello" }));
    let shutdown = async {
        let _ = stopped.await;
    };
    let bounds = Bounds { head_patience, ..Bounds::default() };
    tokio::spawn(async move { serve_within(bounds, Some(tls), listener, routes, shutdown).await });
    (address, stop)
}

async fn ask(client: &TlsConnector, address: std::net::SocketAddr) -> io::Result<String> {
    let stream = TcpStream::connect(address).await?;
    let mut stream = client.connect(ServerName::try_from("localhost").unwrap(), stream).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    timeout(LIMIT, stream.read_to_string(&mut answer)).await.expect("the bridge answers in time")?;
    Ok(answer)
}

#[tokio::test]
async fn a_client_that_trusts_the_certificate_is_answered_and_others_are_not() {
    let (ours, theirs) = (files(), files());
    let (address, _stop) = start(&ours.files, LIMIT).await;
    let answer = ask(&client(ours.der, b"http/1.1"), address).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
    assert!(ask(&client(theirs.der, b"http/1.1"), address).await.is_err());
}

#[tokio::test]
async fn one_client_that_does_not_shake_hands_holds_up_nobody() {
    let ours = files();
    let (address, _stop) = start(&ours.files, Duration::from_millis(200)).await;
    let mut silent = TcpStream::connect(address).await.unwrap();
    assert!(ask(&client(ours.der.clone(), b"http/1.1"), address).await.is_ok());
    let mut rest = Vec::new();
    let ended = timeout(LIMIT, silent.read_to_end(&mut rest)).await.expect("its patience is over in time");
    assert!(ended.is_err() || rest.is_empty(), "{rest:?}");
    assert!(ask(&client(ours.der, b"h2"), address).await.is_err(), "only HTTP/1.1 is spoken");
}

#[tokio::test]
async fn a_client_that_speaks_plain_http_is_told_so() {
    let ours = files();
    let (address, _stop) = start(&ours.files, LIMIT).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    timeout(LIMIT, stream.read_to_string(&mut answer)).await.expect("the bridge answers in time").unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("https://"), "{answer}");
}

#[test]
fn what_is_wrong_with_the_files_is_said() {
    let (ours, theirs) = (files(), files());
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let refused = |certificate: &Path, key: &Path| {
        let files = TlsFiles { certificate: certificate.to_owned(), key: key.to_owned() };
        Tls::read(&files).err().expect("the files are refused").to_string()
    };
    let (certificate, key) = (&ours.files.certificate, &ours.files.key);
    let absent = folder.path().join("absent.pem");
    let empty = path("empty.pem", "");
    let cut = path("cut.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    let nonsense = path("nonsense.pem", &written("CERTIFICATE", b"no certificate"));
    let odd = path("odd.pem", &written("PRIVATE KEY", b"no key"));
    for (error, words) in [
        (refused(&absent, key), ["absent.pem", "cannot be read"]),
        (refused(certificate, &absent), ["absent.pem", "cannot be read"]),
        (refused(&empty, key), ["empty.pem", "holds no certificate"]),
        (refused(key, key), ["key.pem", "holds no certificate"]),
        (refused(certificate, certificate), ["cert.pem", "holds no private key"]),
        (refused(&cut, key), ["cut.pem", "no valid PEM"]),
        (refused(&nonsense, key), ["nonsense.pem", "cannot be used"]),
        (refused(certificate, &odd), ["odd.pem", "cannot be used"]),
        (refused(certificate, &theirs.files.key), ["key.pem", "is not the key of"]),
    ] {
        assert!(words.iter().all(|word| error.contains(word)), "{error} lacks {words:?}");
    }
    Tls::read(&ours.files).map(drop).expect("the two that were made together are taken");
}
