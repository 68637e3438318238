//! Who may ask what over HTTP: roles, limits, revocation, rotation, allowlists, browsers, and the traces all of it leaves.

use serde_json::{Value, json};
use tests::ctl::run;
use tests::house::House;
use tests::http::Http;
use tests::wait;

fn chat() -> Value {
    json!({ "model": "impetus-nano", "messages": [{ "role": "user", "content": "Hello" }], "max_tokens": 2 })
}

/// Makes a key through HTTP and returns its id and a way to speak with it.
async fn key(admin: &Http, wish: Value) -> (String, Http) {
    let answer = admin.post("/api/keys", &wish).await;
    assert_eq!(answer.status, 201, "{wish}");
    let key = answer.json().await;
    let secret = key["secret"].as_str().unwrap();
    (key["id"].as_str().unwrap().to_owned(), Http::new(admin.authority(), secret))
}

async fn delete(http: &Http, path: &str) -> u16 {
    let head = format!("DELETE {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", http.authority());
    http.raw(&format!("{head}Authorization: Bearer {}\r\n\r\n", http.key())).await.status
}

#[tokio::test]
async fn each_role_does_what_it_may_and_no_more() {
    let mut house = House::start();
    let admin = house.http().await;
    let (_, reader) = key(&admin, json!({"label": "eyes", "role": "readonly"})).await;
    let (_, user) = key(&admin, json!({"label": "app", "role": "user"})).await;
    for (http, models, chats, keys) in [(&reader, 200, 403, 403), (&user, 200, 200, 403), (&admin, 200, 200, 200)] {
        assert_eq!(http.get("/v1/models").await.status, models);
        assert_eq!(http.post("/v1/chat/completions", &chat()).await.status, chats);
        assert_eq!(http.get("/api/keys").await.status, keys);
        let audit = http.get("/api/audit").await.status;
        assert_eq!(audit, keys);
    }
    let refused = user.get("/api/keys").await.json().await;
    assert_eq!(refused["error"]["code"], "forbidden");
    assert_eq!(refused["error"]["type"], "permission_error");
    let anthropic = json!({"model": "impetus-nano", "max_tokens": 2, "messages": [{"role": "user", "content": "Hi"}]});
    let refused = reader.post("/v1/messages", &anthropic).await;
    assert_eq!(refused.status, 403);
    assert_eq!(refused.json().await["error"]["type"], "permission_error");
    assert_eq!(user.post("/api/pull", &json!({"model": "a/b"})).await.status, 403);
}

#[tokio::test]
async fn only_an_administrator_goes_before_others() {
    let mut house = House::start();
    let admin = house.http().await;
    let (_, user) = key(&admin, json!({"label": "app", "role": "user"})).await;
    let asked = |priority: &str| {
        let mut asked = chat();
        asked["priority"] = json!(priority);
        asked
    };
    for (http, priority, status) in [(&user, "low", 200), (&user, "high", 403), (&admin, "high", 200)] {
        assert_eq!(http.post("/v1/chat/completions", &asked(priority)).await.status, status, "{priority}");
    }
    let texts = json!({"model": "impetus-nano-embed", "input": "Hi", "priority": "high"});
    let refused = user.post("/v1/embeddings", &texts).await;
    assert_eq!(refused.status, 403);
    assert_eq!(refused.json().await["error"]["param"], "priority");
}

#[tokio::test]
async fn a_revoked_key_is_out_at_once_and_a_rotated_one_has_a_new_secret() {
    let mut house = House::start();
    let admin = house.http().await;
    let (id, user) = key(&admin, json!({"label": "app", "role": "user", "expires_in_s": 3600})).await;
    let path = format!("/api/keys/{id}");
    let rotated = admin.post_text(&format!("{path}/rotate"), "").await.json().await;
    assert_eq!(user.get("/v1/models").await.status, 401);
    let user = Http::new(admin.authority(), rotated["secret"].as_str().unwrap());
    assert_eq!(user.get("/v1/models").await.status, 200);
    let shown = admin.get(&path).await.json().await;
    assert!(shown["state"] == "active" && shown.get("secret").is_none(), "{shown}");
    assert_eq!(delete(&admin, &path).await, 200);
    let refused = user.get("/v1/models").await;
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Bearer")));
    assert_eq!(refused.json().await["error"]["code"], "AUTH_REQUIRED");
    assert_eq!(admin.get(&path).await.json().await["state"], "revoked");
    assert_eq!(delete(&admin, "/api/keys/key_absent").await, 404);
    let wrong = admin.post("/api/keys", &json!({"label": "", "role": "user"})).await;
    assert_eq!((wrong.status, wrong.json().await["error"]["param"].clone()), (400, json!("label")));
}

#[tokio::test]
async fn limits_per_minute_are_told_and_kept() {
    let mut house = House::start();
    let admin = house.http().await;
    assert_eq!(admin.get("/v1/models").await.header("x-ratelimit-limit"), None);
    let wish = json!({"label": "app", "role": "user", "inference_per_minute": 2});
    let (_, user) = key(&admin, wish).await;
    let read = user.get("/v1/models").await;
    let header = |name| read.header(name).unwrap().parse::<u32>().unwrap();
    assert_eq!((header("x-ratelimit-limit"), header("x-ratelimit-remaining")), (120, 119));
    for remaining in ["1", "0"] {
        let answer = user.post("/v1/chat/completions", &chat()).await;
        assert_eq!((answer.status, answer.header("x-ratelimit-remaining")), (200, Some(remaining)));
    }
    let refused = user.post("/v1/chat/completions", &chat()).await;
    assert_eq!((refused.status, refused.header("x-ratelimit-remaining")), (429, Some("0")));
    assert!(refused.header("retry-after").unwrap().parse::<u32>().unwrap() <= 30);
    assert_eq!(refused.json().await["error"]["code"], "RATE_LIMITED");
    let refused = user.post("/api/chat", &chat()).await;
    assert_eq!(refused.status, 429);
    assert!(refused.json().await["error"].is_string(), "each dialect says it in its own shape");
    assert_eq!(user.get("/v1/models").await.status, 200, "reads have a limit of their own");
}

#[tokio::test]
async fn limits_per_day_and_allowed_models_hold_in_every_dialect() {
    let mut house = House::start();
    let admin = house.http().await;
    let (_, other) = key(&admin, json!({"label": "app", "role": "user", "models": ["other"]})).await;
    assert_eq!(other.get("/v1/models").await.json().await["data"], json!([]));
    assert_eq!(other.get("/v1/models/impetus-nano").await.status, 404);
    for (path, status) in [("/v1/chat/completions", 403), ("/v1/messages", 403), ("/api/chat", 404)] {
        // Ollama's dialect looks a model up first, and one that is hidden is not found.
        assert_eq!(other.post(path, &chat_for(path)).await.status, status, "{path}");
    }
    let (id, user) = key(&admin, json!({"label": "app", "role": "user", "requests_per_day": 1})).await;
    assert_eq!(user.post("/v1/messages", &chat_for("/v1/messages")).await.status, 200);
    let refused = user.post("/v1/messages", &chat_for("/v1/messages")).await;
    assert_eq!(refused.status, 429);
    assert!(refused.header("retry-after").is_some());
    assert_eq!(refused.json().await["error"]["type"], "rate_limit_error");
    let shown = admin.get(&format!("/api/keys/{id}")).await.json().await;
    assert_eq!(shown["spent_today"]["requests"], 1);
    assert!(shown["spent_today"]["tokens"].as_u64().unwrap() > 2, "{shown}");
}

#[tokio::test]
async fn a_request_for_more_tokens_than_there_is_room_for_is_asked_once() {
    let mut house = House::start();
    let admin = house.http().await;
    let (id, user) = key(&admin, json!({"label": "app", "role": "user", "requests_per_day": 1})).await;
    let mut asked = chat();
    (asked["max_tokens"], asked["max_completion_tokens"]) = (json!(1_000_000), json!(1_000_000));
    assert_eq!(user.post("/v1/chat/completions", &asked).await.status, 200);
    let page = wait::for_some("the request in the log", || async {
        let page = admin.get(&format!("/api/requests?key={id}")).await.json().await;
        (page["data"] != json!([])).then_some(page)
    })
    .await;
    assert_eq!((page["data"].as_array().unwrap().len(), &page["data"][0]["status"]), (1, &json!("ok")), "{page}");
}

fn chat_for(path: &str) -> Value {
    let mut body = chat();
    if path == "/api/chat" {
        body.as_object_mut().unwrap().remove("max_tokens");
        body["options"] = json!({ "num_predict": 2 });
        body["stream"] = json!(false);
    }
    body
}

#[tokio::test]
async fn guessing_is_slowed_down_and_locks_nobody_out() {
    let mut house = House::start();
    let http = house.http().await;
    let guess = Http::new(http.authority(), "imp_guess");
    let mut statuses = Vec::new();
    for _ in 0..25 {
        statuses.push(guess.get("/v1/models").await.status);
    }
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 20, "{statuses:?}");
    assert!(guess.get("/v1/models").await.header("retry-after").is_some());
    assert_eq!(http.get("/v1/models").await.status, 200);
}

#[tokio::test]
async fn what_was_asked_and_changed_is_listed_page_by_page_without_what_was_said() {
    let mut house = House::start();
    let admin = house.http().await;
    let (id, user) = key(&admin, json!({"label": "app", "role": "user"})).await;
    for _ in 0..3 {
        let secret = json!({"model": "impetus-nano", "prompt": "xyzzy-secret", "max_tokens": 1});
        assert_eq!(user.post("/v1/completions", &secret).await.status, 200);
    }
    let path = format!("/api/requests?limit=2&key={id}&status=ok");
    let page = wait::for_some("three requests in the log", || async {
        let page = admin.get(&path).await.json().await;
        (page["has_more"] == true).then_some(page)
    })
    .await;
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = admin.get(&format!("{path}&after={cursor}")).await.json().await;
    assert_eq!((rest["data"].as_array().unwrap().len(), &rest["has_more"]), (1, &json!(false)));
    assert_eq!((&rest["data"][0]["completion_tokens"], &rest["data"][0]["model"]), (&json!(1), &json!("impetus-nano")));
    let changes = admin.get("/api/audit?limit=5").await.json().await;
    let made = changes["data"].as_array().unwrap().iter().find(|change| change["action"] == "key.create").unwrap();
    assert!(made["subject"] == id && made["actor"].as_str().unwrap().starts_with("key_"), "{changes}");
    for wrong in ["limit=0", "limit=x", "after=x", "colour=red"] {
        let answer = admin.get(&format!("/api/requests?{wrong}")).await;
        assert_eq!(answer.status, 400, "{wrong}");
    }
    let files = [house.home().join("impetus.db"), house.home().join("impetus.db-wal"), house.home().join("logs")];
    for file in files.iter().flat_map(|path| match path.is_dir() {
        true => std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect(),
        false => vec![path.clone()],
    }) {
        let bytes = std::fs::read(&file).unwrap_or_default();
        for secret in ["xyzzy-secret", &user.key()[4..]] {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{} holds what it must not", file.display());
        }
    }
}

#[tokio::test]
async fn trusted_pages_may_ask_and_read() {
    let mut house = House::start();
    let http = house.http().await;
    let ask = |method: &str, origin: &str, more: &str| {
        let host = http.authority();
        format!("{method} /v1/models HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nConnection: close\r\n{more}\r\n")
    };
    let wanted = "Access-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: authorization,x-other\r\n";
    let preflight = http.raw(&ask("OPTIONS", "http://localhost:3000", wanted)).await;
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-origin"), Some("http://localhost:3000"));
    assert_eq!(preflight.header("access-control-allow-headers"), Some("authorization,x-other"));
    let key = format!("Authorization: Bearer {}\r\n", http.key());
    let answer = http.raw(&ask("GET", "http://localhost:3000", &key)).await;
    assert_eq!((answer.status, answer.header("vary")), (200, Some("Origin")));
    assert_eq!(answer.header("access-control-allow-origin"), Some("http://localhost:3000"));
    assert_eq!(http.raw(&ask("OPTIONS", "https://evil.example", wanted)).await.status, 403);
    let hardened = http.get("/v1/models").await;
    for header in ["x-content-type-options", "x-frame-options", "content-security-policy", "referrer-policy"] {
        assert!(hardened.header(header).is_some(), "{header}");
    }
    assert_eq!(hardened.header("access-control-allow-origin"), None);
}

#[test]
fn the_command_line_makes_lists_rotates_and_revokes_keys() {
    let house = House::start();
    let created = run(&house, &["key", "create", "laptop", "--role", "readonly", "--expires", "30d", "--json"]).json();
    let id = created["card"]["id"].as_str().unwrap();
    assert!(created["secret"].as_str().unwrap().starts_with("imp_"));
    assert!(run(&house, &["key", "list"]).out.contains("laptop"));
    let rotated = run(&house, &["key", "rotate", id, "--grace", "15m"]);
    assert!(rotated.out.starts_with("imp_") && rotated.out.contains(id), "{rotated:?}");
    assert_eq!(run(&house, &["key", "revoke", id]).code, 0);
    assert!(run(&house, &["key", "show", id]).out.contains("revoked"));
    assert_eq!(run(&house, &["key", "revoke", "key_absent"]).code, 3);
    assert_eq!(run(&house, &["key", "create", "x", "--expires", "soon"]).code, 2);
    assert!(run(&house, &["key", "show"]).out.starts_with("imp_"));
    let audit = run(&house, &["audit"]);
    assert!(audit.out.contains("key.rotate") && audit.out.contains("uid "), "{audit:?}");
    assert_eq!(run(&house, &["run", "--max-tokens", "2", "Hi"]).code, 0);
    assert!(run(&house, &["requests", "--json"]).code == 0);
}

#[tokio::test]
async fn an_answer_that_was_lost_in_its_middle_says_that_it_is_incomplete() {
    let mut house = House::start();
    let admin = house.http().await;
    let (id, app) = key(&admin, json!({"label": "app", "role": "user"})).await;
    let mut long = chat();
    (long["max_tokens"], long["ignore_eos"]) = (json!(20_000), json!(true));
    let cut = tokio::spawn(async move { app.post("/v1/chat/completions", &long).await });
    let running = || async {
        let text = admin.get("/api/metrics").await.text().await;
        text.contains("impetus_requests_running{model=\"impetus-nano\"} 1\n").then_some(())
    };
    wait::for_some("the answer has begun", running).await;
    assert_eq!(delete(&admin, &format!("/api/keys/{id}")).await, 200);
    let cut = cut.await.unwrap();
    assert_eq!((cut.status, cut.header("x-generation-incomplete")), (401, Some("true")));
    let refused = admin.post("/v1/chat/completions", &json!({"model": "absent", "messages": []})).await;
    assert_eq!(refused.header("x-generation-incomplete"), None);
}
