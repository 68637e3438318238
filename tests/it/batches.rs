//! Files and batches through real sockets: answered, given up, owned, and gone on with after everything was killed.

use std::collections::BTreeMap;

use protocol::record::{Collection, RecordId};
use serde_json::{Value, json};
use tests::house::{House, Plan};
use tests::http::Http;
use tests::wait;

const CHAT: &str = "/v1/chat/completions";

async fn upload(http: &Http, text: &str) -> Value {
    let form = format!(
        "--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n\
         --b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"in.jsonl\"\r\n\r\n{text}\r\n--b--\r\n"
    );
    let answer = http.send_as("POST", "/v1/files", "multipart/form-data; boundary=b", &form).await;
    let status = answer.status;
    let file = answer.json().await;
    assert_eq!(status, 200, "{file}");
    file
}

fn line(name: &str, url: &str, body: &Value) -> String {
    json!({"custom_id": name, "method": "POST", "url": url, "body": body}).to_string()
}

fn chat(more: Value) -> Value {
    let mut body = json!({
        "model": "impetus-nano", "messages": [{"role": "user", "content": "What is Impetus?"}],
        "temperature": 0, "max_tokens": 12
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn create(http: &Http, file: &Value, endpoint: &str) -> Value {
    let wish = json!({"input_file_id": file["id"], "endpoint": endpoint, "completion_window": "24h"});
    let answer = http.post("/v1/batches", &wish).await;
    let status = answer.status;
    let batch = answer.json().await;
    assert_eq!(status, 200, "{batch}");
    batch
}

async fn show(http: &Http, batch: &Value) -> Value {
    http.get(&format!("/v1/batches/{}", batch["id"].as_str().unwrap())).await.json().await
}

async fn ended(http: &Http, batch: &Value) -> Value {
    let ends = ["completed", "failed", "expired", "cancelled"];
    wait::for_some("the end of a batch", || async {
        let batch = show(http, batch).await;
        ends.contains(&batch["status"].as_str().unwrap_or_default()).then_some(batch)
    })
    .await
}

/// Returns the lines of a file by the names of their requests.
async fn lines(http: &Http, file: &Value) -> BTreeMap<String, Value> {
    let text = http.get(&format!("/v1/files/{}/content", file.as_str().unwrap())).await.text().await;
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let named: BTreeMap<_, _> =
        lines.iter().map(|line| (line["custom_id"].as_str().unwrap().to_owned(), line.clone())).collect();
    assert_eq!(named.len(), lines.len(), "a request has two lines");
    named
}

#[tokio::test]
async fn every_request_of_a_batch_has_its_line() {
    let mut house = House::start();
    let http = house.http().await;
    let text = [
        line("one", CHAT, &chat(json!({}))),
        line("two", CHAT, &chat(json!({"n": 2}))),
        line("bad", CHAT, &chat(json!({"temperature": 3}))),
    ]
    .join("\n");
    let file = upload(&http, &text).await;
    assert_eq!((&file["bytes"], &file["purpose"]), (&json!(text.len()), &json!("batch")));
    let begun = create(&http, &file, CHAT).await;
    assert_eq!((&begun["status"], &begun["object"]), (&json!("validating"), &json!("batch")));
    let batch = ended(&http, &begun).await;
    assert_eq!(batch["status"], "completed", "{batch}");
    assert_eq!(batch["request_counts"], json!({"total": 3, "completed": 2, "failed": 1}));
    let answers = lines(&http, &batch["output_file_id"]).await;
    let alone = http.post(CHAT, &chat(json!({}))).await.json().await;
    let said = &answers["one"]["response"]["body"]["choices"];
    assert_eq!(said[0]["message"], alone["choices"][0]["message"]);
    assert_eq!(answers["two"]["response"]["body"]["choices"].as_array().unwrap().len(), 2);
    let faults = lines(&http, &batch["error_file_id"]).await;
    assert_eq!(faults["bad"]["response"]["status_code"], 400);
    assert_eq!(faults["bad"]["response"]["body"]["error"]["param"], "temperature");
    let listed = http.get("/v1/batches").await.json().await;
    assert_eq!((&listed["data"][0], &listed["has_more"]), (&batch, &json!(false)));
    let outputs = http.get("/v1/files?purpose=batch_output&order=asc&limit=1").await.json().await;
    assert_eq!((&outputs["data"][0]["purpose"], &outputs["has_more"]), (&json!("batch_output"), &json!(true)));
}

#[tokio::test]
async fn a_file_that_is_no_batch_is_told_line_by_line() {
    let mut house = House::start();
    let http = house.http().await;
    let file = upload(&http, &format!("{}\n{{\n", line("one", "/v1/embeddings", &json!({})))).await;
    let batch = ended(&http, &create(&http, &file, CHAT).await).await;
    assert_eq!(batch["status"], "failed");
    let told: Vec<_> = batch["errors"]["data"].as_array().unwrap().iter().map(|fault| &fault["line"]).collect();
    assert_eq!(told, [&json!(1), &json!(2)], "{batch}");
    let missing = json!({"input_file_id": "file-x", "endpoint": CHAT, "completion_window": "24h"});
    let refused = http.post("/v1/batches", &missing).await;
    assert_eq!((refused.status, refused.json().await["error"]["param"].clone()), (404, json!("input_file_id")));
    let again = http.post(&format!("/v1/batches/{}/cancel", batch["id"].as_str().unwrap()), &json!({})).await;
    assert_eq!(again.status, 409);
    let wrong = http.post("/v1/files", &json!({})).await;
    assert_eq!(wrong.status, 400);
}

#[tokio::test]
async fn other_keys_neither_see_nor_touch_what_one_has() {
    let mut house = House::start();
    let admin = house.http().await;
    let mut keys = Vec::new();
    for label in ["mine", "theirs"] {
        let key = admin.post("/api/keys", &json!({"label": label, "role": "user"})).await.json().await;
        keys.push(Http::new(admin.authority(), key["secret"].as_str().unwrap()));
    }
    let (mine, theirs) = (&keys[0], &keys[1]);
    let file = upload(mine, &line("one", CHAT, &chat(json!({})))).await;
    let batch = ended(mine, &create(mine, &file, CHAT).await).await;
    assert_eq!(batch["status"], "completed", "{batch}");
    let path = format!("/v1/files/{}", file["id"].as_str().unwrap());
    for path in [path.clone(), format!("{path}/content"), format!("/v1/batches/{}", batch["id"].as_str().unwrap())] {
        assert_eq!((mine.get(&path).await.status, theirs.get(&path).await.status), (200, 404), "{path}");
    }
    assert_eq!(theirs.get("/v1/files").await.json().await["data"], json!([]));
    assert_eq!(theirs.delete(&path).await.status, 404);
    assert_eq!(mine.delete(&path).await.json().await, json!({"id": file["id"], "object": "file", "deleted": true}));
    assert_eq!(mine.get(&path).await.status, 404);
}

/// A batch that is long enough to be interrupted; its lines are long, so that they are written early.
async fn long_batch(http: &Http, requests: usize) -> Value {
    let body = chat(json!({"logprobs": true, "top_logprobs": 20, "ignore_eos": true}));
    let text: Vec<_> = (0..requests).map(|at| line(&format!("r{at}"), CHAT, &body)).collect();
    let file = upload(http, &text.join("\n")).await;
    let begun = create(http, &file, CHAT).await;
    wait::for_some("the first answers of a batch", || async {
        let batch = show(http, &begun).await;
        (batch["request_counts"]["completed"].as_u64()? >= 3).then_some(batch)
    })
    .await
}

#[tokio::test]
async fn a_batch_that_is_given_up_keeps_what_was_answered() {
    let mut house = House::start();
    let http = house.http().await;
    let begun = long_batch(&http, 2000).await;
    let path = format!("/v1/batches/{}/cancel", begun["id"].as_str().unwrap());
    assert_eq!(http.post(&path, &json!({})).await.json().await["status"], "cancelling");
    let batch = ended(&http, &begun).await;
    assert_eq!(batch["status"], "cancelled", "{batch}");
    let answered = lines(&http, &batch["output_file_id"]).await.len();
    assert!(answered >= 3 && batch["request_counts"]["completed"] == answered, "{batch}");
    let client = house.client().await;
    wait::for_some("the end of the work", || async { (client.status().await.unwrap().active == 0).then_some(()) })
        .await;
}

#[tokio::test]
async fn a_batch_waits_for_the_memory_that_its_model_needs() {
    let mut house = House::with(Plan { config: "[memory]\nbudget = \"1MB\"\n".to_owned(), ..Plan::default() });
    let http = house.http().await;
    let file = upload(&http, &line("a", CHAT, &chat(json!({})))).await;
    let begun = create(&http, &file, CHAT).await;
    wait::for_some("a refusal for want of memory", || async {
        let refused = http.get("/api/requests?status=no_memory").await.json().await;
        (!refused["data"].as_array()?.is_empty()).then_some(())
    })
    .await;
    assert_eq!(http.send("PATCH", "/api/settings", &json!({"memory.budget": "1GB"})).await.status, 200);
    let batch = ended(&http, &begun).await;
    assert_eq!(batch["request_counts"], json!({"total": 1, "completed": 1, "failed": 0}));
    assert_eq!(lines(&http, &batch["output_file_id"]).await["a"]["response"]["status_code"], 200);
}

#[tokio::test]
async fn a_batch_ends_with_its_key() {
    let mut house = House::start();
    let admin = house.http().await;
    let key = admin.post("/api/keys", &json!({"label": "short-lived", "role": "user"})).await.json().await;
    let http = Http::new(admin.authority(), key["secret"].as_str().unwrap());
    let begun = long_batch(&http, 2000).await;
    let revoked = admin.delete(&format!("/api/keys/{}", key["id"].as_str().unwrap())).await;
    assert_eq!(revoked.status, 200);
    let client = house.client().await;
    let id = RecordId { collection: Collection::Batches, id: begun["id"].as_str().unwrap().to_owned() };
    let kept = wait::for_some("the end of the batch", || async {
        let record = client.recall(id.clone()).await.unwrap();
        (record.card.label == "ended").then(|| serde_json::from_str::<Value>(&record.body.0).unwrap())
    })
    .await;
    assert_eq!((&kept["batch"]["status"], &kept["key"]), (&json!("failed"), &key["id"]));
    assert_eq!(kept["batch"]["errors"]["data"][0]["code"], "key_invalid");
    wait::for_some("the end of the work", || async { (client.status().await.unwrap().active == 0).then_some(()) })
        .await;
}

#[tokio::test]
async fn a_batch_goes_on_after_bridge_and_daemon_were_killed_and_asks_nothing_twice() {
    const REQUESTS: usize = 120;
    let mut house = House::start();
    let http = house.http().await;
    let begun = long_batch(&http, REQUESTS).await;
    assert_eq!(begun["status"], "in_progress");
    // The daemon alone.
    house.restart_daemon();
    let more = wait::for_some("answers after the daemon's end", || async {
        let batch = show(&http, &begun).await;
        let completed = batch["request_counts"]["completed"].as_u64()?;
        (completed > begun["request_counts"]["completed"].as_u64()?).then_some(batch)
    })
    .await;
    // Both, the bridge first.
    house.kill_bridge().await;
    house.restart_daemon();
    let http = house.http().await;
    let batch = ended(&http, &more).await;
    assert_eq!(batch["status"], "completed", "{batch}");
    assert_eq!(batch["request_counts"], json!({"total": REQUESTS, "completed": REQUESTS, "failed": 0}));
    let answers = lines(&http, &batch["output_file_id"]).await;
    assert_eq!(answers.len(), REQUESTS);
    let said = |line: &Value| line["response"]["body"]["choices"][0]["message"]["content"].clone();
    assert!(answers.values().all(|line| said(line) == said(&answers["r0"])));
}
