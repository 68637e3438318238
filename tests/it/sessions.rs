//! Sessions through real sockets: a conversation that the service remembers.

use serde_json::{Value, json};
use tests::house::House;
use tests::http::Http;

const CHAT: &str = "/v1/chat/completions";

fn chat(session: &str, messages: Value) -> Value {
    json!({"model": "impetus-nano", "session_id": session, "messages": messages, "temperature": 0, "max_tokens": 40})
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

async fn said(http: &Http, session: &str) -> Vec<Value> {
    let shown = http.get(&format!("/api/sessions/{session}")).await.json().await;
    shown["messages"].as_array().unwrap_or_else(|| panic!("{shown}")).clone()
}

#[tokio::test]
async fn a_chat_goes_on_from_its_session_and_adds_to_it() {
    let mut house = House::start();
    let http = house.http().await;
    let system = |text: &str| json!({"role": "system", "content": text});
    let first =
        http.post(CHAT, &chat("talk", json!([system("Be brief."), user("What is Impetus?")]))).await.json().await;
    let answer = first["choices"][0]["message"]["content"].clone();
    house.restart_daemon();
    let mut again = chat("talk", json!([user("Why?")]));
    again["stream"] = json!(true);
    again["stream_options"] = json!({"include_usage": true});
    let events = http.post(CHAT, &again).await.events().await;
    let last: Value = serde_json::from_str(&events[events.len() - 2]).unwrap();
    let by_hand = json!({"model": "impetus-nano", "temperature": 0, "max_tokens": 40, "messages": [
        system("Be brief."), user("What is Impetus?"), {"role": "assistant", "content": answer}, user("Why?"),
    ]});
    let told = http.post(CHAT, &by_hand).await.json().await;
    assert_eq!(last["usage"]["prompt_tokens"], told["usage"]["prompt_tokens"]);
    let messages = said(&http, "talk").await;
    assert_eq!(messages.len(), 5);
    assert_eq!(messages[4]["content"], told["choices"][0]["message"]["content"]);
    // Instructions stand in place of those that were there.
    http.post(CHAT, &chat("talk", json!([system("Be long."), user("How?")]))).await.json().await;
    let messages = said(&http, "talk").await;
    let systems: Vec<_> = messages.iter().filter(|message| message["role"] == "system").collect();
    assert_eq!((systems, messages.len()), (vec![&system("Be long.")], 7));
}

#[tokio::test]
async fn sessions_are_made_listed_changed_and_deleted() {
    let mut house = House::start();
    let http = house.http().await;
    let made = http.post("/api/sessions", &json!({"id": "a", "title": "first", "messages": [user("Hi")]})).await;
    assert_eq!(made.status, 201);
    assert_eq!(made.json().await["messages"][0], user("Hi"));
    let other = http.post("/api/sessions", &json!({"ttl_seconds": 60})).await.json().await;
    let life = other["expires_at"].as_i64().unwrap() - other["updated_at"].as_i64().unwrap();
    assert_eq!(life, 60);
    let page = http.get("/api/sessions?limit=1").await.json().await;
    assert_eq!((&page["data"][0]["id"], &page["has_more"]), (&other["id"], &json!(true)));
    let rest = http.get(&format!("/api/sessions?after={}", page["next_cursor"].as_str().unwrap())).await.json().await;
    assert_eq!((&rest["data"][0]["title"], &rest["next_cursor"]), (&json!("first"), &Value::Null));
    let changed =
        http.send("PATCH", "/api/sessions/a", &json!({"title": "second", "metadata": {"k": 1}})).await.json().await;
    assert_eq!(
        (&changed["title"], &changed["metadata"]["k"], &changed["messages"][0]),
        (&json!("second"), &json!(1), &user("Hi"))
    );
    assert_eq!(http.delete("/api/sessions/a").await.json().await["deleted"], true);
    assert_eq!(http.get("/api/sessions/a").await.status, 404);
}

#[tokio::test]
async fn bad_sessions_are_refused_by_name_and_leave_nothing() {
    let mut house = House::start();
    let http = house.http().await;
    http.post("/api/sessions", &json!({"id": "a"})).await.json().await;
    for (path, body, status, param) in [
        ("/api/sessions", json!({"id": "a"}), 409, "id"),
        ("/api/sessions", json!({"id": "no/slash"}), 400, "id"),
        ("/api/sessions", json!({"id": ".."}), 400, "id"),
        ("/api/sessions", json!({"id": "."}), 400, "id"),
        ("/api/sessions", json!({"ttl_seconds": 0}), 400, "ttl_seconds"),
        ("/api/sessions", json!({"messages": [{"role": "king", "content": "x"}]}), 400, "messages[0].role"),
        ("/api/sessions", json!({"owner": "me"}), 400, "owner"),
        (CHAT, chat("no/slash", json!([user("Hi")])), 400, "session_id"),
    ] {
        let answer = http.post(path, &body).await;
        assert_eq!((answer.status, &answer.json().await["error"]["param"]), (status, &json!(param)), "{body}");
    }
    let mut many = chat("a", json!([user("Hi")]));
    many["n"] = json!(2);
    assert_eq!(http.post(CHAT, &many).await.json().await["error"]["param"], "n");
    let mut hot = chat("fresh", json!([user("Hi")]));
    hot["temperature"] = json!(3);
    assert_eq!(http.post(CHAT, &hot).await.status, 400);
    assert_eq!(http.get("/api/sessions/fresh").await.status, 404);
    assert!(said(&http, "a").await.is_empty());
}

#[tokio::test]
async fn a_session_is_its_keys_own_and_nothing_tells_another_that_it_is_there() {
    let mut house = House::start();
    let admin = house.http().await;
    let mut keys = Vec::new();
    for label in ["one", "two"] {
        let made = admin.post("/api/keys", &json!({"label": label, "role": "user"})).await.json().await;
        keys.push(Http::new(admin.authority(), made["secret"].as_str().unwrap()));
    }
    let (one, two) = (&keys[0], &keys[1]);
    let talk = |text: &str| chat("default", json!([user(text)]));
    assert_eq!(one.post(CHAT, &talk("What is Impetus?")).await.status, 200);
    for method in ["GET", "DELETE", "PATCH"] {
        for id in ["default", "nobody"] {
            let answer = two.send(method, &format!("/api/sessions/{id}"), &json!({"title": "x"})).await;
            assert_eq!(answer.status, 404, "{method} {id}");
        }
    }
    assert_eq!(two.post(CHAT, &talk("Who are you?")).await.status, 200);
    assert_eq!(two.post("/api/sessions", &json!({"id": "default"})).await.status, 409, "it is its own now");
    assert_eq!(admin.post("/api/sessions", &json!({"id": "default"})).await.status, 201);
    assert_eq!(said(one, "default").await[0], user("What is Impetus?"));
    assert_eq!(said(two, "default").await[0], user("Who are you?"));
    assert_eq!(said(&admin, "default").await, [""; 0]);
    // The place of another's session in the order of all is not told either.
    one.post("/api/sessions", &json!({"id": "later"})).await.json().await;
    for after in ["later", "nobody"] {
        let page = two.get(&format!("/api/sessions?after={after}")).await.json().await;
        assert_eq!(page["data"], json!([]), "{after}");
    }
    assert_eq!(two.delete("/api/sessions/default").await.status, 200);
    assert_eq!(said(one, "default").await.len(), 2);
    let message = json!([user(&"x".repeat(5 << 20))]);
    let refused = one.post(CHAT, &chat("large", message)).await.json().await;
    assert_eq!(refused["error"]["param"], "session_id", "{refused}");
    assert!(refused["error"]["message"].as_str().unwrap().contains("would have"), "before anything is answered");
}
