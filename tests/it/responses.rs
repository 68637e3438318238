//! Responses through real sockets: whole, streamed, remembered, in the background.

use protocol::record::{Collection, RecordId};
use serde_json::{Value, json};
use tests::house::House;
use tests::http::{Answer, Http};
use tests::{process, wait};

use crate::faults::worker_pid;

const PATH: &str = "/v1/responses";

fn ask(more: Value) -> Value {
    let mut body =
        json!({"model": "impetus-nano", "input": "What is Impetus?", "temperature": 0, "max_output_tokens": 60});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn make(http: &Http, more: Value) -> Value {
    let answer = http.post(PATH, &ask(more)).await;
    let status = answer.status;
    let body = answer.json().await;
    assert_eq!(status, 200, "{body}");
    body
}

async fn events(answer: Answer) -> Vec<Value> {
    assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
    let text = answer.text().await;
    let data = |frame: &str| serde_json::from_str(frame.split_once("\ndata: ")?.1).ok();
    text.split("\n\n").filter_map(data).collect()
}

fn text(response: &Value) -> &str {
    response["output"][0]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{response}"))
}

#[tokio::test]
async fn a_stream_ends_with_what_a_whole_response_says_and_what_is_kept() {
    let mut house = House::start();
    let http = house.http().await;
    let whole = make(&http, json!({})).await;
    assert_eq!((&whole["status"], &whole["object"]), (&json!("completed"), &json!("response")));
    assert!(text(&whole).contains("Impetus"), "{whole}");
    let events = events(http.post(PATH, &ask(json!({"stream": true}))).await).await;
    assert!(events.iter().enumerate().all(|(at, event)| event["sequence_number"] == at));
    let last = events.last().unwrap();
    assert_eq!((&last["type"], text(&last["response"])), (&json!("response.completed"), text(&whole)));
    let deltas = events.iter().filter(|event| event["type"] == "response.output_text.delta");
    let streamed: String = deltas.filter_map(|event| event["delta"].as_str()).collect();
    assert_eq!(streamed, text(&whole));
    let kept = http.get(&format!("{PATH}/{}", last["response"]["id"].as_str().unwrap())).await.json().await;
    assert_eq!(kept, last["response"]);
}

#[tokio::test]
async fn a_conversation_goes_on_by_id_and_outlives_the_daemon() {
    let mut house = House::start();
    let http = house.http().await;
    let first = make(&http, json!({"instructions": "Be brief.", "metadata": {"a": "b"}})).await;
    house.restart_daemon();
    let second = make(&http, json!({"previous_response_id": first["id"], "input": "And what else?"})).await;
    let by_hand = json!([
        {"role": "user", "content": "What is Impetus?"},
        {"role": "assistant", "content": text(&first)},
        {"role": "user", "content": "And what else?"},
    ]);
    let told = make(&http, json!({"input": by_hand, "store": false})).await;
    assert_eq!((text(&second), &second["usage"]), (text(&told), &second["usage"]));
    assert_eq!(second["usage"]["input_tokens"], told["usage"]["input_tokens"]);

    let url = |id: &Value, rest: &str| format!("{PATH}/{}{rest}", id.as_str().unwrap());
    let items = http.get(&url(&second["id"], "/input_items?order=asc&limit=1")).await.json().await;
    assert_eq!(items["data"][0]["content"][0]["text"], "And what else?");
    assert_eq!((items["data"].as_array().unwrap().len(), &items["has_more"]), (1, &json!(false)));
    assert_eq!(http.get(&url(&first["id"], "")).await.json().await, first);
    // What was not stored is not there, and what was deleted is gone from conversations too.
    assert_eq!(http.get(&url(&told["id"], "")).await.status, 404);
    let gone = http.delete(&url(&first["id"], "")).await.json().await;
    assert_eq!(gone, json!({"id": first["id"], "object": "response", "deleted": true}));
    let lost = http.post(PATH, &ask(json!({"previous_response_id": first["id"]}))).await;
    assert_eq!((lost.status, lost.json().await["error"]["param"].clone()), (400, json!("previous_response_id")));
    let broken = http.post(PATH, &ask(json!({"previous_response_id": second["id"]}))).await;
    assert_eq!(broken.status, 400);
    let broken = broken.json().await["error"].clone();
    let says = broken["message"].as_str().unwrap();
    assert!(says.contains(second["id"].as_str().unwrap()) && !says.contains(first["id"].as_str().unwrap()), "{says}");
    assert_eq!(broken["param"], "previous_response_id");
}

#[tokio::test]
async fn a_response_in_the_background_is_read_again_and_cancelled() {
    let mut house = House::start();
    let http = house.http().await;
    let started = make(&http, json!({"background": true})).await;
    assert!(["queued", "in_progress"].contains(&started["status"].as_str().unwrap()), "{started}");
    let url = format!("{PATH}/{}", started["id"].as_str().unwrap());
    let all = events(http.get(&format!("{url}?stream=true")).await).await;
    assert_eq!((&all[0]["type"], &all[1]["type"]), (&json!("response.created"), &json!("response.in_progress")));
    assert_eq!(all.last().unwrap()["type"], "response.completed");
    let rest = events(http.get(&format!("{url}?stream=true&starting_after=2")).await).await;
    assert_eq!(rest, all[3..]);
    let done = http.get(&url).await.json().await;
    assert_eq!((&done["status"], &done["background"]), (&json!("completed"), &json!(true)));

    let endless = json!({"background": true, "input": "Tell me everything. ".repeat(2000), "max_output_tokens": 9000});
    let long = make(&http, endless).await;
    let url = format!("{PATH}/{}", long["id"].as_str().unwrap());
    let cancelled = http.post(&format!("{url}/cancel"), &json!({})).await.json().await;
    assert_eq!(cancelled["status"], "cancelled");
    assert_eq!(http.get(&url).await.json().await["status"], "cancelled");
    let client = house.client().await;
    wait::for_some("the end of the work", || async { (client.status().await.unwrap().active == 0).then_some(()) })
        .await;
}

#[tokio::test]
async fn a_response_in_the_background_that_its_daemon_took_along_has_failed_at_once() {
    let mut house = House::start();
    let http = house.http().await;
    let endless = json!({"background": true, "input": "Tell me everything. ".repeat(2000), "max_output_tokens": 9000});
    let long = make(&http, endless).await;
    let url = format!("{PATH}/{}", long["id"].as_str().unwrap());
    house.restart_daemon();
    let status = async || http.get(&url).await.json().await;
    let failed = wait::for_some("the end of it", || async {
        let response = status().await;
        (response["status"] == "failed").then_some(response)
    })
    .await;
    let message = failed["error"]["message"].as_str().unwrap();
    assert!(!message.contains("bridge"), "the bridge is still there: {message}");
    assert_eq!(status().await["status"], "failed");
}

#[tokio::test]
async fn a_response_whose_bridge_is_gone_is_cancelled_by_another_and_gone_on_from() {
    let mut house = House::start();
    let http = house.http().await;
    let endless = json!({"background": true, "input": "Tell me everything. ".repeat(2000), "max_output_tokens": 9000});
    let id = make(&http, endless).await["id"].as_str().unwrap().to_owned();
    house.kill_bridge().await;
    let http = house.http().await;
    let next = ask(json!({"previous_response_id": id}));
    assert_eq!(http.post(PATH, &next).await.status, 409, "it may be another bridge that makes it");
    let cancelled = http.post(&format!("{PATH}/{id}/cancel"), &json!({})).await.json().await;
    assert_eq!(cancelled["status"], "cancelled");
    assert_eq!(http.get(&format!("{PATH}/{id}")).await.json().await["status"], "cancelled");
    assert_eq!(http.post(PATH, &next).await.status, 200);
}

/// Begins a response that takes a while, and reads its events up to the first words.
async fn long(http: &Http) -> (String, Answer) {
    let biased = json!({"0": -100, "2": -100});
    let more = json!({"background": true, "max_output_tokens": 2000, "logit_bias": biased});
    let url = format!("{PATH}/{}", make(http, more).await["id"].as_str().unwrap());
    let mut events = http.get(&format!("{url}?stream=true")).await;
    while !events.frame().await.expect("there are words").contains("response.output_text.delta") {}
    (url, events)
}

#[tokio::test]
async fn a_response_that_was_cancelled_through_another_bridge_stays_so() {
    let mut house = House::start();
    let (one, two) = (house.http().await, house.another_http(&[]).await);
    let (url, events) = long(&one).await;
    let cancelled = two.post(&format!("{url}/cancel"), &json!({})).await.json().await;
    assert_eq!(cancelled["status"], "cancelled");
    // To the end of the work.
    events.text().await;
    for http in [&one, &two] {
        assert_eq!(http.get(&url).await.json().await["status"], "cancelled");
    }
}

#[tokio::test]
async fn a_response_that_was_deleted_through_another_bridge_stays_so() {
    let mut house = House::start();
    let (one, two) = (house.http().await, house.another_http(&[]).await);
    let (url, events) = long(&one).await;
    assert_eq!(two.delete(&url).await.status, 200);
    events.text().await;
    for http in [&one, &two] {
        assert_eq!(http.get(&url).await.status, 404);
    }
}

#[tokio::test]
async fn a_response_is_kept_again_and_again_while_it_waits_for_its_model() {
    let mut house = House::start();
    let http = house.http().await;
    let client = house.client().await;
    make(&http, json!({"max_output_tokens": 1})).await;
    let worker = worker_pid(&client, "impetus-nano").await;
    process::pause(worker);
    let id = make(&http, json!({"background": true})).await["id"].as_str().unwrap().to_owned();
    wait::for_some("the third time that it is kept", || async {
        let record = RecordId { collection: Collection::Answers, id: id.clone() };
        (client.recall(record).await.unwrap().card.version >= 3).then_some(())
    })
    .await;
    let waits = http.get(&format!("{PATH}/{id}")).await.json().await;
    assert_eq!((&waits["status"], &waits["output"]), (&json!("in_progress"), &json!([])));
    process::kill(worker);
}

#[tokio::test]
async fn tools_are_called_and_their_results_read() {
    let mut house = House::start();
    let http = house.http().await;
    let tools = json!([{"type": "web_search"}, {
        "type": "function",
        "name": "get_weather",
        "description": "Get the weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }]);
    let asked = json!({"input": "What is the weather in Paris?", "tools": tools, "max_output_tokens": 100});
    let first = make(&http, asked).await;
    let call = &first["output"][0];
    assert_eq!((&call["type"], &call["name"]), (&json!("function_call"), &json!("get_weather")), "{first}");
    assert_eq!(first["tools"].as_array().unwrap().len(), 1);
    let result = json!([{"type": "function_call_output", "call_id": call["call_id"], "output": "sun"}]);
    let second = make(&http, json!({"previous_response_id": first["id"], "input": result, "tools": tools})).await;
    assert!(["completed", "incomplete"].contains(&second["status"].as_str().unwrap()));
}

#[tokio::test]
async fn an_input_refers_to_items_of_outputs_that_are_kept() {
    let mut house = House::start();
    let http = house.http().await;
    let first = make(&http, json!({})).await;
    let (id, again) = (&first["output"][0]["id"], "And what else?");
    let asked = |item: Value| json!({"input": [{"role": "user", "content": "What is Impetus?"}, item, {"role": "user", "content": again}]});
    let referring = make(&http, asked(json!({"type": "item_reference", "id": id}))).await;
    let by_hand = make(&http, asked(first["output"][0].clone())).await;
    assert_eq!(text(&referring), text(&by_hand));
    assert_eq!(referring["usage"]["input_tokens"], by_hand["usage"]["input_tokens"]);
    let items = http.get(&format!("{PATH}/{}/input_items", referring["id"].as_str().unwrap())).await.json().await;
    assert_eq!(items["data"][1], first["output"][0], "what was meant is kept, not that it was meant");
    let unstored = make(&http, json!({"store": false})).await["output"][0]["id"].clone();
    for lost in [unstored, json!("msg_nothing"), Value::Null] {
        let answer = http.post(PATH, &ask(asked(json!({"type": "item_reference", "id": lost})))).await;
        assert_eq!((answer.status, answer.json().await["error"]["param"].clone()), (404, json!("input[1]")));
    }
}

#[tokio::test]
async fn the_tokens_of_an_input_are_counted_before_it_is_answered() {
    let mut house = House::start();
    let http = house.http().await;
    let first = make(&http, json!({})).await;
    let more = json!({"previous_response_id": first["id"], "input": "And what else?", "instructions": "Be brief."});
    let answered = make(&http, more.clone()).await;
    let counted = http.post(&format!("{PATH}/input_tokens"), &more).await.json().await;
    assert_eq!(counted, json!({"object": "response.input_tokens", "input_tokens": answered["usage"]["input_tokens"]}));
    let refused = http.post(&format!("{PATH}/input_tokens"), &ask(json!({"stream": true}))).await;
    assert_eq!((refused.status, refused.json().await["error"]["code"].clone()), (400, json!("unsupported_parameter")));
}

#[tokio::test]
async fn refusals_are_in_the_one_shape() {
    let mut house = House::start();
    let http = house.http().await;
    let kept = make(&http, json!({})).await;
    let url = format!("{PATH}/{}", kept["id"].as_str().unwrap());
    let nothing = format!("{PATH}/resp_nothing");
    for (path, status, param) in [
        (nothing.as_str(), 404, json!("id")),
        (&format!("{url}?stream=true"), 400, json!("stream")),
        (&format!("{url}?starting_after=x"), 400, json!("starting_after")),
        (&format!("{url}/input_items?limit=0"), 400, json!("limit")),
        (&format!("{url}/input_items?order=up"), 400, json!("order")),
        (&format!("{url}/input_items?after=x"), 400, json!("after")),
    ] {
        let answer = http.get(path).await;
        assert_eq!((answer.status, answer.json().await["error"]["param"].clone()), (status, param), "{path}");
    }
    let refused = http.post(&format!("{url}/cancel"), &json!({})).await;
    assert_eq!(refused.status, 400);
    let long = "word ".repeat(120_000);
    for (more, status, param) in [
        (json!({"model": "nobody"}), 404, "model"),
        (json!({"temperature": 3}), 400, "temperature"),
        (json!({"background": true, "store": false}), 400, "store"),
        (json!({"max_output_tokens": 0}), 400, "max_output_tokens"),
        (json!({"input": long}), 400, "input"),
    ] {
        let answer = http.post(PATH, &ask(more.clone())).await;
        assert_eq!((answer.status, &answer.json().await["error"]["param"]), (status, &json!(param)), "{param}");
    }
}
