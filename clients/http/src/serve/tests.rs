//! The accept loop over real sockets, with a short patience.

use axum::middleware::from_fn;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;

const LIMIT: Duration = Duration::from_secs(20);

/// More bytes than sockets hold.
const MUCH: usize = 16 << 20;

struct Server {
    address: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<io::Result<()>>,
}

async fn start(head_patience: Duration) -> Server {
    start_with(Bounds { head_patience, ..Bounds::default() }).await
}

async fn start_with(bounds: Bounds) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let routes = Router::new().route("/", get(|| async { "hello" })).route("/much", get(|| async { vec![0_u8; MUCH] }));
    let routes = routes.layer(from_fn(check_head));
    let shutdown = async {
        let _ = stopped.await;
    };
    Server { address, stop, ended: tokio::spawn(serve_within(bounds, None, listener, routes, shutdown)) }
}

impl Server {
    /// Sends bytes and reads until the server closes.
    async fn say(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // The server may refuse and close before everything is written.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = timeout(LIMIT, stream.read_to_end(&mut answer)).await.expect("the server closes in time");
        String::from_utf8_lossy(&answer).into_owned()
    }
}

#[tokio::test]
async fn a_head_that_does_not_end_ends_its_connection() {
    let server = start(Duration::from_millis(100)).await;
    let answer = server.say(b"GET / HTTP/1.1\r\nHost: slow").await;
    assert!(!answer.contains("200"), "{answer}");
    assert!(server.say(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.ends_with("hello"));
}

#[tokio::test]
async fn heads_out_of_bounds_and_nonsense_are_refused() {
    let server = start(LIMIT).await;
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(4 * HEAD_BYTES_MAX));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(HEADERS_MAX));
    for (request, status) in [(long.as_bytes(), 431), (many.as_bytes(), 431), (b"\x00\xff nonsense\r\n\r\n", 400)] {
        let answer = server.say(request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let body: serde_json::Value = serde_json::from_str(body).expect("a refusal has a body");
        assert_eq!(body["status"], status);
        assert!(head.contains(body["request_id"].as_str().unwrap()), "{answer}");
    }
    let both = server.say(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\x01nonsense\r\n\r\n").await;
    assert!(both.starts_with("HTTP/1.1 200") && both.contains("HTTP/1.1 400"), "{both}");
}

#[tokio::test]
async fn what_comes_after_a_refused_head_cuts_nothing_off() {
    let server = start(LIMIT).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    // So much is written only if it is read.
    let all = [&b"nonsense\r\n\r\n"[..], &vec![b'x'; MUCH]].concat();
    timeout(LIMIT, stream.write_all(&all)).await.expect("all is taken in time").expect("all is taken");
    let mut answer = String::new();
    timeout(LIMIT, stream.read_to_string(&mut answer)).await.expect("the server closes in time").expect("no reset");
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.ends_with('}'), "{answer}");
}

#[tokio::test]
async fn a_head_is_as_large_as_it_may_be_and_no_larger() {
    let server = start(LIMIT).await;
    let head = |bytes: usize| {
        let rest = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: \r\n\r\n".len();
        format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: {}\r\n\r\n", "x".repeat(bytes - rest))
    };
    assert!(server.say(head(HEAD_BYTES_MAX).as_bytes()).await.ends_with("hello"));
    for bytes in [HEAD_BYTES_MAX + 1, 80 << 10, 100 << 10, 127 << 10] {
        let answer = server.say(head(bytes).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{bytes}: {answer}");
    }
}

#[tokio::test]
async fn shutting_down_closes_idle_connections() {
    let server = start(LIMIT).await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut byte = [0];
    idle.read_exact(&mut byte).await.unwrap();
    server.stop.send(()).unwrap();
    timeout(LIMIT, server.ended).await.expect("the server ends in time").unwrap().unwrap();
}

#[tokio::test]
async fn nothing_is_read_after_a_body_in_chunks_whatever_length_is_said_too() {
    let server = start(LIMIT).await;
    let rest = "\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";
    for lengths in ["Transfer-Encoding: chunked", "Content-Length: 45\r\nTransfer-Encoding: chunked"] {
        let answer = server.say(format!("GET / HTTP/1.1\r\nHost: a\r\n{lengths}\r\n{rest}").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.matches("HTTP/1.1").count() == 1, "{answer}");
    }
}

/// A client that asks for much and reads nothing of it.
async fn hold(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /much HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    stream
}

#[tokio::test]
async fn whoever_reads_nothing_gives_way_to_whoever_waits_for_a_place() {
    let bounds = Bounds { connections_max: 2, unread_patience: Duration::from_millis(1), ..Bounds::default() };
    let server = start_with(bounds).await;
    let _held = [hold(&server).await, hold(&server).await];
    for _ in 0..3 {
        assert!(server.say(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.ends_with("hello"));
    }
}

#[tokio::test]
async fn whoever_reads_late_loses_nothing_while_there_is_room() {
    let bounds = Bounds { unread_patience: Duration::from_millis(1), ..Bounds::default() };
    let server = start_with(bounds).await;
    let mut late = hold(&server).await;
    for _ in 0..3 {
        assert!(server.say(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.ends_with("hello"));
    }
    let mut answer = Vec::new();
    timeout(LIMIT, late.read_to_end(&mut answer)).await.expect("the rest comes in time").unwrap();
    assert!(answer.len() > MUCH, "{} bytes came", answer.len());
}
