//! What those who run the service see and do over HTTP: models, memory, the machine, settings; and the same from the
//! command line.

use serde_json::{Value, json};
use tests::ctl::run;
use tests::house::{House, Plan};
use tests::http::Http;
use tests::hub::Hub;
use tests::wait;

/// Makes a key through HTTP and returns a way to speak with it.
async fn key(admin: &Http, wish: Value) -> Http {
    let key = admin.post("/api/keys", &wish).await.json().await;
    Http::new(admin.authority(), key["secret"].as_str().unwrap())
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_model_is_loaded_shown_accounted_for_and_unloaded() {
    let mut house = House::start();
    let http = house.http().await;
    let loaded = http.post("/api/models/load", &json!({"model": "impetus-nano", "keep_alive_s": 600})).await;
    assert_eq!(loaded.status, 200);
    let loaded = loaded.json().await;
    assert_eq!((&loaded["id"], &loaded["state"]), (&json!("impetus-nano"), &json!("loaded")));
    assert!(loaded["loaded"]["expires_in_ms"].as_u64().unwrap() <= 600_000, "{loaded}");
    let memory = http.get("/api/memory").await.json().await;
    let budget = &memory["budget"];
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("no number in {memory}"));
    let share = &budget["models"][0];
    let parts = ["weights_bytes", "kv_bytes", "overhead_bytes"].map(|part| number(&share[part]));
    assert_eq!(parts.iter().sum::<u64>(), number(&share["accounted_bytes"]), "{memory}");
    let sum = number(&share["accounted_bytes"]) + number(&budget["other_bytes"]) + number(&budget["free_bytes"]);
    assert_eq!(sum, number(&budget["budget_bytes"]), "{memory}");
    assert!(memory["models_loaded"]["impetus-nano"].as_f64().unwrap() > 0.0);
    assert!(memory["total_gb"].as_f64() > memory["available_gb"].as_f64());
    let hardware = http.get("/api/hardware/info").await.json().await;
    assert!(hardware["cores"].as_u64().unwrap() >= 1 && hardware["features"].is_array(), "{hardware}");
    assert!(hardware["devices"]["impetus-nano"].as_str().unwrap().contains("CPU"), "{hardware}");
    let unloaded = http.post("/api/models/unload", &json!({"model": "impetus-nano"})).await.json().await;
    assert_eq!((&unloaded["state"], &unloaded["loaded"]), (&json!("available"), &Value::Null));
    let listed = http.get("/api/models").await.json().await;
    let names: Vec<_> = listed["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(names, ["impetus-nano", "impetus-nano-embed"]);
    for path in ["/api/models/load", "/api/models/unload"] {
        let absent = http.post(path, &json!({"model": "absent"})).await;
        assert_eq!((absent.status, absent.json().await["error"]["code"].clone()), (404, json!("MODEL_NOT_FOUND")));
        let odd = http.post(path, &json!({"model": "impetus-nano", "colour": "red"})).await;
        assert_eq!((odd.status, odd.json().await["error"]["param"].clone()), (400, json!("colour")));
    }
    assert_eq!(http.get("/api/models/absent/one").await.status, 404);
}

#[tokio::test]
async fn a_load_and_a_pull_say_how_far_they_are_and_end_with_the_model() {
    let hub = Hub::start();
    let mut house = House::with(Plan { environment: hub.environment(), ..Plan::default() });
    let http = house.http().await;
    let pulled = http.post("/api/models/pull", &json!({"model": "org/tiny", "name": "tiny"})).await;
    assert_eq!(pulled.header("content-type"), Some("application/x-ndjson"));
    let pulled = lines(&pulled.text().await);
    assert!(pulled.iter().any(|line| line["status"] == "downloading" && line["unit"] == "bytes"), "{pulled:?}");
    let last = pulled.last().unwrap();
    assert_eq!((&last["status"], &last["model"]["id"]), (&json!("success"), &json!("tiny")));
    assert_eq!((&last["model"]["source"], &last["model"]["repo"]), (&json!("hub"), &json!("org/tiny")));
    let loaded = http.post("/api/models/load", &json!({"model": "tiny", "stream": true})).await;
    let loaded = lines(&loaded.text().await);
    assert_eq!(loaded.last().unwrap()["model"]["state"], "loaded", "{loaded:?}");
    let again = http.post("/api/models/pull", &json!({"model": "org/tiny", "name": "tiny", "stream": false})).await;
    assert_eq!((again.status, again.json().await["id"].clone()), (200, json!("tiny")));
    let absent = lines(&http.post("/api/models/pull", &json!({"model": "org/absent"})).await.text().await);
    let error = &absent.last().unwrap()["error"];
    assert_eq!((&error["code"], &error["param"]), (&json!("not_found"), &json!("model")), "{error}");
    let nonsense = http.post("/api/models/pull", &json!({"model": "nonsense"})).await;
    assert_eq!((nonsense.status, nonsense.json().await["error"]["param"].clone()), (400, json!("model")));
}

#[tokio::test]
async fn settings_are_changed_by_administrators_kept_and_audited() {
    let mut house = House::start();
    let http = house.http().await;
    let user = key(&http, json!({"label": "app", "role": "user"})).await;
    assert_eq!(user.get("/api/settings").await.status, 403);
    assert_eq!(user.send("PATCH", "/api/settings", &json!({"memory.budget": "50%"})).await.status, 403);
    let wish = json!({"memory.budget": "1GB", "worker.sequences_max": 8, "models.warm_up": false});
    let changed = http.send("PATCH", "/api/settings", &wish).await;
    assert_eq!(changed.status, 200);
    assert_eq!(changed.json().await["object"], "list");
    assert_eq!(http.get("/api/memory").await.json().await["budget"]["budget_bytes"], 1_000_000_000);
    house.restart_daemon();
    let budget = wait::for_some("the bridge finds the daemon again", || async {
        let answer = http.get("/api/settings/memory.budget").await;
        if answer.status == 200 { Some(answer.json().await) } else { None }
    })
    .await;
    assert_eq!(
        (&budget["value"], &budget["configured"], &budget["changed"]),
        (&json!("1GB"), &json!("75%"), &json!(true))
    );
    assert_eq!(http.get("/api/memory").await.json().await["budget_gb"], 1.0);
    let tight = json!({"memory.budget": "1MB"});
    assert_eq!(http.send("PATCH", "/api/settings", &tight).await.status, 200);
    let refused = http.post("/api/models/load", &json!({"model": "impetus-nano"})).await;
    assert_eq!((refused.status, refused.json().await["error"]["code"].clone()), (507, json!("INSUFFICIENT_MEMORY")));
    let back = http.send("PATCH", "/api/settings", &json!({"memory.budget": null})).await.json().await;
    let shown =
        |name: &str| back["data"].as_array().unwrap().iter().find(|setting| setting["id"] == name).unwrap().clone();
    assert_eq!(
        (shown("memory.budget")["value"].clone(), shown("worker.sequences_max")["value"].clone()),
        (json!("75%"), json!("8"))
    );
    assert_eq!(http.post("/api/models/load", &json!({"model": "impetus-nano"})).await.status, 200);
    for (wish, status, param) in [
        (json!({"memory.budget": "lots"}), 400, "memory.budget"),
        (json!({"memory.budget": 1.5}), 400, "memory.budget"),
        (json!({"models.default": "absent"}), 404, "models.default"),
        (json!({"memory.bugdet": "50%"}), 404, "memory.bugdet"),
    ] {
        let refused = http.send("PATCH", "/api/settings", &wish).await;
        assert_eq!((refused.status, refused.json().await["error"]["param"].clone()), (status, json!(param)), "{wish}");
    }
    assert_eq!(http.get("/api/settings/absent").await.status, 404);
    let audit = http.get("/api/audit").await.json().await.to_string();
    assert!(audit.contains("setting.change") && audit.contains("memory.budget = 1GB"), "{audit}");
    assert!(audit.contains("setting.reset"), "{audit}");
}

#[test]
fn the_command_line_lists_reads_changes_and_resets_settings() {
    let environment = vec![("IMPETUS_MEMORY_PATIENCE".to_owned(), "3s".to_owned())];
    let house = House::with(Plan { environment, ..Plan::default() });
    assert_eq!(run(&house, &["config", "get", "memory.budget"]).out, "75%\n");
    let set = run(&house, &["config", "set", "memory.budget", "40%"]);
    assert!(set.code == 0 && set.out.contains("40%"), "{set:?}");
    assert!(run(&house, &["config"]).out.contains("changed, was 75%"));
    let shown = run(&house, &["config", "get", "memory.budget", "--json"]).json();
    assert_eq!((&shown["value"], &shown["configured"]), (&json!("40%"), &json!("75%")));
    assert_eq!(run(&house, &["config", "reset", "memory.budget"]).code, 0);
    assert_eq!(run(&house, &["config", "get", "memory.budget"]).out, "75%\n");
    let fixed = run(&house, &["config", "set", "memory.patience", "1s"]);
    assert!(fixed.code == 7 && fixed.err.contains("IMPETUS_MEMORY_PATIENCE"), "{fixed:?}");
    assert_eq!(run(&house, &["config", "get", "absent"]).code, 3);
    let level = run(&house, &["config", "set", "log.level", "debug"]);
    assert_eq!(level.code, 0, "{level:?}");
    wait::until("the log gets its new level", || run(&house, &["logs"]).out.contains("DEBUG"));
}

#[tokio::test]
async fn health_says_alive_ready_and_how_it_is() {
    let mut house = House::start();
    let http = house.http().await;
    let open = Http::new(http.authority(), "");
    for (path, status) in [("/api/health/live", "ok"), ("/api/health/ready", "ready"), ("/api/health", "ready")] {
        assert_eq!(open.get(path).await.json().await["status"], status, "{path}");
    }
    assert_eq!(open.get("/api/health/status").await.status, 401);
    assert_eq!(http.get("/api/health/status").await.json().await["pid"], house.daemon_pid());
    house.kill_daemon();
    assert_eq!(open.get("/api/health/live").await.status, 200);
    let refused = open.get("/api/health/ready").await;
    assert_eq!((refused.status, refused.json().await["error"]["code"].clone()), (502, json!("unreachable")));
}
