//! Logins of pages: a key becomes a cookie, which counts for the bridge's own pages and for as long as the key.

use serde_json::json;
use tests::house::House;
use tests::http::{Answer, Http};
use tests::ws::{Frame, Ws};

/// A browser with the cookie it was given.
struct Browser {
    http: Http,
    cookie: String,
}

impl Browser {
    /// Shows a key and keeps the cookie.
    async fn log_in(http: &Http, key: &str) -> Self {
        let answer = enter(http, key, &format!("Origin: http://{}\r\n", http.authority())).await;
        assert_eq!(answer.status, 200);
        let cookie = answer.header("set-cookie").unwrap();
        for word in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=3600"] {
            assert!(cookie.contains(word), "{cookie}");
        }
        let cookie = cookie.split(';').next().unwrap().to_owned();
        assert!(!cookie.contains("imp_"), "a page must not hold the key");
        Self { http: http.clone(), cookie }
    }

    async fn ask(&self, method: &str, path: &str, lines: &str, body: &str) -> Answer {
        let (host, cookie) = (self.http.authority(), &self.cookie);
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nConnection: close\r\n{lines}");
        self.http.raw(&format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).await
    }

    fn own(&self) -> String {
        format!("Origin: http://{}\r\n", self.http.authority())
    }
}

async fn enter(http: &Http, key: &str, lines: &str) -> Answer {
    let body = json!({ "key": key }).to_string();
    let head = format!("POST /api/auth/login HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{lines}", http.authority());
    http.raw(&format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).await
}

#[tokio::test]
async fn a_cookie_does_what_its_key_may_and_only_for_our_own_pages() {
    let mut house = House::start();
    let http = house.http().await;
    let browser = Browser::log_in(&http, http.key()).await;
    let session = browser.ask("GET", "/api/auth/session", "", "").await;
    assert_eq!(session.status, 200);
    let session = session.json().await;
    assert!(session["role"] == "admin" && session["expires"].is_u64(), "{session}");
    assert_eq!(http.get("/api/auth/session").await.json().await["expires"], json!(null), "a key has no login");
    let wish = json!({ "label": "app", "role": "user" }).to_string();
    assert_eq!(browser.ask("POST", "/api/keys", &browser.own(), &wish).await.status, 201);
    let elsewhere = ["", "Origin: http://localhost:3000\r\n", "Origin: null\r\n", "Origin: https://evil.example\r\n"];
    for lines in elsewhere {
        assert_eq!(browser.ask("POST", "/api/keys", lines, &wish).await.status, 403, "{lines:?}");
    }
    let read_elsewhere = browser.ask("GET", "/api/keys", elsewhere[1], "").await;
    assert_eq!(read_elsewhere.status, 403, "another program's page on this machine is not ours");
    assert_eq!(read_elsewhere.header("access-control-allow-credentials"), None);
}

#[tokio::test]
async fn a_login_ends_with_its_key_with_its_secret_and_with_a_logout() {
    let mut house = House::start();
    let http = house.http().await;
    let made = http.post("/api/keys", &json!({ "label": "app", "role": "user" })).await.json().await;
    let (id, secret) = (made["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
    let looks = async |browser: &Browser| browser.ask("GET", "/v1/models", "", "").await.status;
    let first = Browser::log_in(&http, secret).await;
    let second = Browser::log_in(&http, secret).await;
    assert_eq!((looks(&first).await, looks(&second).await), (200, 200));
    assert_eq!(first.ask("POST", "/api/auth/logout", "", "").await.status, 403, "another page must not log out either");
    let out = first.ask("POST", "/api/auth/logout", &first.own(), "").await;
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!((looks(&first).await, looks(&second).await), (401, 200), "one logout is one login's");
    let rotated = http.post_text(&format!("/api/keys/{id}/rotate"), "").await.json().await;
    assert_eq!(looks(&second).await, 401);
    let third = Browser::log_in(&http, rotated["secret"].as_str().unwrap()).await;
    assert_eq!(third.ask("GET", "/api/keys", "", "").await.status, 403, "a login has its key's role");
    assert_eq!(http.delete(&format!("/api/keys/{id}")).await.status, 200);
    assert_eq!(looks(&third).await, 401);
}

#[tokio::test]
async fn bad_keys_at_the_login_count_as_guesses() {
    let mut house = House::start();
    let http = house.http().await;
    let mut statuses = Vec::new();
    for _ in 0..25 {
        statuses.push(enter(&http, "imp_guess", "").await.status);
    }
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 20, "{statuses:?}");
    assert_eq!(enter(&http, "imp_guess", "").await.status, 429);
    assert_eq!(enter(&http, http.key(), "").await.status, 200, "a good key is let in whatever came before");
    assert_eq!(enter(&http, http.key(), "Origin: http://localhost:3000\r\n").await.status, 403);
    let forged = Browser { http: http.clone(), cookie: "impetus_login=eyJhbGciOiJub25lIn0.e30.".to_owned() };
    assert_eq!(forged.ask("GET", "/v1/models", "", "").await.status, 401);
    let large = enter(&http, &"x".repeat(20 << 10), "").await;
    assert_eq!(large.status, 413, "nobody sends much before being let in");
}

#[tokio::test]
async fn a_socket_that_a_login_opened_ends_with_it() {
    let mut house = House::start();
    let http = house.http().await;
    let browser = Browser::log_in(&http, http.key()).await;
    let keyless = Http::new(http.authority(), "");
    let lines = format!("Cookie: {}\r\n{}", browser.cookie, browser.own());
    let mut page = Ws::connect(&keyless, "/api/ws?channels=metrics", &lines).await.unwrap();
    let mut program = Ws::connect(&http, "/api/ws?channels=metrics", "").await.unwrap();
    page.next_of("metrics").await;
    assert_eq!(browser.ask("POST", "/api/auth/logout", &browser.own(), "").await.status, 200);
    let mut end = page.next().await;
    // What was on its way already.
    for _ in 0..3 {
        if !matches!(end, Frame::Close(_)) {
            end = page.next().await;
        }
    }
    assert_eq!(end, Frame::Close(1008));
    program.next_of("metrics").await;
    program.next_of("metrics").await;
    assert_eq!(Ws::connect(&keyless, "/api/ws", &lines).await.err(), Some(401));
}
