//! Bridges that share limits and logins through Redis: Debian's `redis-server`, on a socket in a temporary folder. Where it is
//! not installed these tests say so and pass.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::json;
use tempfile::TempDir;
use tests::house::House;
use tests::http::{Answer, Http};
use tests::wait;

/// A Redis that keeps nothing, and listens on a socket alone.
struct Redis {
    folder: TempDir,
    server: Child,
}

impl Redis {
    fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let server = spawn(folder.path());
        if server.is_none() {
            eprintln!("skipped: there is no redis-server on this machine");
        }
        let redis = Self { folder, server: server? };
        wait::until("Redis listens", || std::os::unix::net::UnixStream::connect(redis.socket()).is_ok());
        Some(redis)
    }

    fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("redis.sock")
    }

    fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    fn end(&mut self) {
        // Already ended is as good as killed.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }

    fn restart(&mut self) {
        self.server = spawn(self.folder.path()).unwrap();
        wait::until("Redis listens again", || std::os::unix::net::UnixStream::connect(self.socket()).is_ok());
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.end();
    }
}

fn spawn(folder: &Path) -> Option<Child> {
    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(folder.join("redis.sock"));
    command.arg("--dir").arg(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()
}

/// Gives a daemon the database of another, as a second machine would have it.
fn copy(from: &mut House, to: &mut House) {
    from.kill_daemon();
    to.kill_daemon();
    for entry in std::fs::read_dir(from.home()).unwrap().map(Result::unwrap) {
        if entry.file_name().to_string_lossy().starts_with("impetus.db") {
            std::fs::copy(entry.path(), to.home().join(entry.file_name())).unwrap();
        }
    }
    from.restart_daemon();
    to.restart_daemon();
}

#[tokio::test]
async fn bridges_of_two_daemons_share_a_keys_limits() {
    let Some(mut redis) = Redis::start() else { return };
    let (mut one, mut two) = (House::start(), House::start());
    let admin = one.http().await;
    let wish = json!({"label": "app", "role": "user", "reads_per_minute": 5});
    let key = admin.post("/api/keys", &wish).await.json().await["secret"].as_str().unwrap().to_owned();
    one.kill_bridge().await;
    copy(&mut one, &mut two);
    let flags = ["--redis", &redis.url()];
    let first = Http::new(one.http_with(&flags).await.authority(), &key);
    let second = Http::new(two.http_with(&flags).await.authority(), &key);
    let left = |answer: &Answer| answer.header("x-ratelimit-remaining").map(str::to_owned);
    for (http, expected) in [(&first, "4"), (&first, "3"), (&first, "2"), (&first, "1"), (&second, "0")] {
        let answer = http.get("/v1/models").await;
        assert_eq!((answer.status, left(&answer).as_deref()), (200, Some(expected)));
    }
    for http in [&first, &second] {
        let answer = http.get("/v1/models").await;
        assert_eq!((answer.status, left(&answer).as_deref()), (429, Some("0")));
        assert!(answer.header("retry-after").unwrap().parse::<u32>().unwrap() <= 20);
    }
    let alone = Http::new(one.another_http(&[]).await.authority(), &key);
    assert_eq!(left(&alone.get("/v1/models").await).as_deref(), Some("4"), "their daemon has counted none of them");
    redis.end();
    let refused = second.get("/v1/models").await;
    assert_eq!((refused.status, refused.header("retry-after")), (502, Some("1")));
    let refused = refused.json().await;
    assert_eq!(refused["error"]["code"], "unreachable");
    assert!(refused["error"]["message"].as_str().unwrap().contains("Redis"), "{refused}");
    let unlimited = Http::new(second.authority(), admin.key());
    assert_eq!(unlimited.get("/v1/models").await.status, 200, "a key without limits is not counted");
    redis.restart();
    // It counts as gone for a moment.
    wait::for_some("an answer", || async { (second.get("/v1/models").await.status == 200).then_some(()) }).await;
}

#[tokio::test]
async fn a_login_is_good_at_every_bridge_and_ends_at_all_of_them() {
    let Some(redis) = Redis::start() else { return };
    let mut house = House::start();
    let flags = ["--redis", &redis.url()];
    let one = house.http_with(&flags).await;
    let two = house.another_http(&flags).await;
    assert_ne!(one.authority(), two.authority());
    let body = json!({"key": one.key()}).to_string();
    let login = one.send_as("POST", "/api/auth/login", "application/json", &body).await;
    assert_eq!(login.status, 200);
    let cookie = login.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let ask = async |http: &Http, method: &str, path: &str| {
        let authority = http.authority();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {authority}\r\nOrigin: http://{authority}\r\n");
        http.raw(&format!("{head}Cookie: {cookie}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")).await.status
    };
    for http in [&one, &two] {
        assert_eq!(ask(http, "GET", "/api/auth/session").await, 200);
    }
    assert_eq!(ask(&two, "POST", "/api/auth/logout").await, 200);
    for http in [&one, &two] {
        assert_eq!(ask(http, "GET", "/api/auth/session").await, 401);
    }
}
