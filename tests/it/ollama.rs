//! Ollama's dialect through real sockets: lines of JSON, models, refusals in their shape.

use std::fs;

use engine::random::Recipe;
use protocol::model::AddRequest;
use serde_json::{Value, json};
use tests::house::House;
use tests::http::Http;
use tests::{model, wait};

fn chat(more: Value) -> Value {
    let mut body = json!({
        "model": "impetus-nano",
        "messages": [{ "role": "user", "content": "What is Impetus?" }],
        "options": {"temperature": 0, "num_predict": 60},
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn lines(http: &Http, path: &str, body: &Value) -> Vec<Value> {
    let answer = http.post(path, body).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    answer.text().await.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn in_memory(http: &Http) -> Vec<Value> {
    http.get("/api/ps").await.json().await["models"].as_array().unwrap().clone()
}

#[tokio::test]
async fn chat_streams_lines_that_add_up_to_the_whole_answer() {
    let mut house = House::start();
    let http = house.http().await;
    let whole =
        http.post("/api/chat", &chat(json!({"stream": false, "model": "impetus-nano:latest"}))).await.json().await;
    let text = whole["message"]["content"].as_str().unwrap();
    assert!(text.contains("Impetus"), "{whole}");
    let lines = lines(&http, "/api/chat", &chat(json!({}))).await;
    let (last, others) = lines.split_last().unwrap();
    assert!(others.iter().all(|line| line["done"] == false && line["model"] == "impetus-nano"));
    let streamed: String = others.iter().map(|line| line["message"]["content"].as_str().unwrap()).collect();
    assert_eq!(streamed, text);
    for end in [last, &whole] {
        assert_eq!((&end["done"], &end["done_reason"]), (&json!(true), &json!("stop")));
        for figure in ["total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count"] {
            assert!(end[figure].as_u64().unwrap() > 0, "{figure}: {end}");
        }
        assert_eq!(end["eval_count"], whole["eval_count"]);
    }
}

#[tokio::test]
async fn generate_wraps_a_prompt_unless_it_is_raw() {
    let mut house = House::start();
    let http = house.http().await;
    let ask = |more: Value| {
        let mut body =
            json!({"model": "impetus-nano", "stream": false, "options": {"temperature": 0, "num_predict": 5}});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let raw = http.post("/api/generate", &ask(json!({"prompt": "Impetus is", "raw": true}))).await.json().await;
    assert_eq!((&raw["done_reason"], &raw["eval_count"]), (&json!("length"), &json!(5)));
    let wrapped = http.post("/api/generate", &ask(json!({"prompt": "Impetus is"}))).await.json().await;
    assert!(wrapped["prompt_eval_count"].as_u64() > raw["prompt_eval_count"].as_u64(), "{wrapped} {raw}");
    let options = json!({"temperature": 0, "num_predict": -1, "stop": "private", "num_ctx": 1_000_000, "seed": -1});
    let stopped = http.post("/api/generate", &ask(json!({"prompt": "What is Impetus?", "options": options}))).await;
    let stopped = stopped.json().await;
    assert_eq!(stopped["done_reason"], "stop");
    assert!(!stopped["response"].as_str().unwrap().contains("private"), "{stopped}");
    let all = json!({"temperature": 0, "num_predict": 1_000_000});
    let capped = http.post("/api/generate", &ask(json!({"prompt": "What is Impetus?", "options": all}))).await;
    assert_eq!(capped.json().await["done_reason"], "stop");
}

#[tokio::test]
async fn a_tool_is_called_whole_and_its_result_is_read() {
    let mut house = House::start();
    let http = house.http().await;
    let tool = json!({"type": "function", "function": {
        "name": "get_weather",
        "description": "Get the weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }});
    let question = json!({"role": "user", "content": "What is the weather in Paris?"});
    let asked = chat(json!({"messages": [question], "tools": [tool]}));
    let lines = lines(&http, "/api/chat", &asked).await;
    let called: Vec<_> = lines.iter().filter(|line| !line["message"]["tool_calls"].is_null()).collect();
    assert_eq!(called.len(), 1, "{lines:?}");
    let said = &called[0]["message"];
    assert_eq!(said["tool_calls"][0]["function"]["name"], "get_weather");
    assert_eq!(said["tool_calls"][0]["function"]["arguments"], json!({"city": "Paris"}));
    let result = json!({"role": "tool", "tool_name": "get_weather", "content": "sunny, 20 degrees"});
    let answered = chat(json!({"messages": [question, said, result], "tools": [tool], "stream": false}));
    let answer = http.post("/api/chat", &answered).await.json().await;
    assert!(answer["message"]["content"].as_str().unwrap().contains("20 degrees"), "{answer}");
}

#[tokio::test]
async fn a_penalty_looks_at_as_many_of_the_last_tokens_as_it_is_told_to() {
    let mut house = House::start();
    let http = house.http().await;
    let asked = |more: Value| {
        let mut options = json!({"temperature": 0, "num_predict": 24});
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"model": "impetus-nano", "prompt": "Impetus is", "raw": true, "stream": false, "options": options})
    };
    let text = async |more: Value| {
        http.post("/api/generate", &asked(more)).await.json().await["response"].as_str().unwrap().to_owned()
    };
    let (plain, all) = (text(json!({})).await, text(json!({"repeat_penalty": 1.9})).await);
    assert_ne!(plain, all);
    assert_eq!(text(json!({"repeat_penalty": 1.9, "repeat_last_n": 0})).await, plain);
    assert_eq!(text(json!({"repeat_penalty": 1.9, "repeat_last_n": -1})).await, all);
    let raw = json!({"model": "impetus-nano", "prompt": "Impetus is", "temperature": 0, "max_tokens": 24,
                     "repetition_penalty": 1.9, "repetition_context_size": 0});
    assert_eq!(http.post("/v1/completions", &raw).await.json().await["choices"][0]["text"], plain.as_str());
    // It bounds the other penalties too, which look at the whole answer without it.
    let penalties = json!({"presence_penalty": 2.0, "frequency_penalty": 2.0});
    let within = |count: i64| {
        let mut options = penalties.clone();
        options["repeat_last_n"] = json!(count);
        options
    };
    assert_ne!(text(penalties.clone()).await, plain);
    assert_eq!(text(within(0)).await, plain);
    assert_ne!(text(within(33)).await, plain);
}

#[tokio::test]
async fn models_are_listed_shown_loaded_and_let_go() {
    let mut house = House::start();
    let http = house.http().await;
    let tags = http.get("/api/tags").await.json().await;
    assert_eq!(tags["models"][0]["name"], "impetus-nano");
    let shown = http.post("/api/show", &json!({"model": "impetus-nano"})).await.json().await;
    assert_eq!(shown["details"]["format"], "safetensors");
    assert_eq!(shown["model_info"]["general.basename"], "impetus-nano");
    assert!(shown["capabilities"].as_array().unwrap().contains(&json!("tools")), "{shown}");
    // Codex asks for 0.13.4 and Copilot for 0.6.4 at least.
    assert_eq!(http.get("/api/version").await.json().await["version"], "0.14.0");
    let model = json!({"model": "impetus-nano", "stream": false});
    let loaded = http.post("/api/generate", &model).await.json().await;
    assert_eq!((&loaded["done_reason"], &loaded["response"]), (&json!("load"), &json!("")));
    assert_eq!(in_memory(&http).await[0]["name"], "impetus-nano");
    let unloaded =
        http.post("/api/generate", &json!({"model": "impetus-nano", "stream": false, "keep_alive": 0})).await;
    assert_eq!(unloaded.json().await["done_reason"], "unload");
    assert!(in_memory(&http).await.is_empty());
    let for_ever = chat(json!({"stream": false, "keep_alive": "-1"}));
    assert_eq!(http.post("/api/chat", &for_ever).await.status, 200);
    assert!(in_memory(&http).await[0]["expires_at"].as_str().unwrap() > "2100");
    assert_eq!(http.post("/api/chat", &chat(json!({"stream": false, "keep_alive": "0s"}))).await.status, 200);
    wait::for_some("the model leaves", || async { in_memory(&http).await.is_empty().then_some(()) }).await;
}

#[tokio::test]
async fn only_administrators_say_how_long_a_model_stays() {
    let mut house = House::start();
    let http = house.http().await;
    let made = http.post("/api/keys", &json!({"label": "app", "role": "user"})).await.json().await;
    let app = Http::new(http.authority(), made["secret"].as_str().unwrap());
    let forever = chat(json!({"stream": false, "keep_alive": -1}));
    assert_eq!(http.post("/api/chat", &forever).await.status, 200);
    let until = async || in_memory(&http).await[0]["expires_at"].as_str().unwrap().to_owned();
    for word in [json!(0), json!("1ns"), json!(0.001), json!("5m")] {
        let answer = app.post("/api/chat", &chat(json!({"stream": false, "keep_alive": word}))).await;
        assert_eq!(answer.status, 200, "clients say it with every prompt: {word}");
        assert!(until().await.as_str() > "2100", "{word}");
    }
    let load = chat(json!({"stream": false, "messages": [], "keep_alive": -1}));
    assert_eq!(app.post("/api/chat", &load).await.status, 200);
    assert!(until().await.as_str() > "2100", "a load leaves what an administrator said");
    let unload = json!({"model": "impetus-nano", "keep_alive": 0});
    assert_eq!(http.post("/api/generate", &unload).await.status, 200);
    assert_eq!(app.post("/api/chat", &load).await.status, 200);
    assert!(until().await.as_str() < "2100", "it stays as long as the daemon keeps it");
    assert_eq!(app.post("/api/generate", &json!({"model": "impetus-nano", "keep_alive": 0})).await.status, 403);
    let load = json!({"model": "impetus-nano", "keep_alive_s": 1});
    assert_eq!(app.post("/api/models/load", &load).await.status, 403);
    let embed = json!({"model": "impetus-nano-embed", "input": "a", "keep_alive": 0});
    assert_eq!(app.post("/api/embed", &embed).await.status, 200);
}

#[tokio::test]
async fn a_model_is_shown_with_what_its_folder_holds_and_nothing_else() {
    let mut house = House::start();
    let folder = model::write(&house, "shown", &Recipe::tiny("llama", 9));
    let defaults = json!({"temperature": 0.6, "top_k": 20, "repetition_penalty": 1.05, "eos_token_id": 1});
    fs::write(folder.join("generation_config.json"), defaults.to_string()).unwrap();
    fs::write(folder.join("chat_template.jinja"), "{{ messages[0].content }}").unwrap();
    fs::write(folder.join("LICENSE"), "Do good.").unwrap();
    let path = folder.to_string_lossy().into_owned();
    house.client().await.add(AddRequest { path, name: Some("shown".to_owned()) }).await.unwrap();
    let http = house.http().await;
    let show = async |name: &str| http.post("/api/show", &json!({"model": name})).await.json().await;
    let shown = show("shown:latest").await;
    let texts = (&shown["template"], &shown["license"]);
    assert_eq!(texts, (&json!("{{ messages[0].content }}"), &json!("Do good.")));
    let parameters: Vec<Vec<&str>> =
        shown["parameters"].as_str().unwrap().lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(parameters, [["repeat_penalty", "1.05"], ["temperature", "0.6"], ["top_k", "20"]]);
    let modelfile = "FROM shown\nTEMPLATE \"\"\"{{ messages[0].content }}\"\"\"\nPARAMETER repeat_penalty 1.05\n\
        PARAMETER temperature 0.6\nPARAMETER top_k 20\nLICENSE \"\"\"Do good.\"\"\"\n";
    assert_eq!(shown["modelfile"], modelfile);
    let nano = show("impetus-nano").await;
    assert!(nano["template"].as_str().unwrap().contains("messages"), "{nano}");
    assert_eq!(nano.get("license"), None, "its folder has none");
}

#[tokio::test]
async fn a_model_that_is_there_needs_no_pull_and_the_bundled_one_stays() {
    let mut house = House::start();
    let http = house.http().await;
    let pulled = lines(&http, "/api/pull", &json!({"model": "impetus-nano:latest"})).await;
    assert_eq!(pulled, [json!({"status": "success"})]);
    let whole = http.post("/api/pull", &json!({"name": "impetus-nano", "stream": false})).await.json().await;
    assert_eq!(whole["status"], "success");
    let (authority, key, body) = (http.authority(), http.key(), r#"{"model":"impetus-nano"}"#);
    let delete = format!(
        "DELETE /api/delete HTTP/1.1\r\nHost: {authority}\r\nAuthorization: Bearer {key}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let refused = http.raw(&delete).await;
    assert_eq!(refused.status, 409);
    assert!(refused.json().await["error"].as_str().unwrap().contains("impetus-nano"));
}

#[tokio::test]
async fn a_client_that_sends_every_member_it_knows_is_understood() {
    let mut house = House::start();
    let http = house.http().await;
    // As Ollama's own client writes them, whatever its caller said: empty texts, null options, both names.
    let named = |name: &str, older: &str| json!({"model": name, "name": older, "stream": false});
    let with = |mut body: Value, more: Value| {
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let show = json!({"system": "", "template": "", "verbose": false, "options": null});
    for (name, older) in [("impetus-nano", ""), ("", "impetus-nano:latest")] {
        let mut body = with(named(name, older), show.clone());
        body.as_object_mut().unwrap().remove("stream");
        assert_eq!(http.post("/api/show", &body).await.status, 200, "{body}");
        let pull = with(named(name, older), json!({"username": "", "password": ""}));
        assert_eq!(http.post("/api/pull", &pull).await.json().await["status"], "success");
        let gone = http.send("DELETE", "/api/delete", &json!({"model": name, "name": older})).await;
        assert_eq!(gone.status, 409, "the bundled model stays");
    }
    let tool =
        json!({"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": null}}});
    let more = json!({"stream": false, "truncate": false, "shift": false, "tools": [tool]});
    assert_eq!(http.post("/api/chat", &chat(more)).await.status, 200);
    let generate = json!({
        "model": "impetus-nano", "prompt": "Hi", "suffix": "", "system": "", "template": "", "stream": false,
        "options": {"num_predict": 1}, "truncate": false, "shift": false
    });
    assert_eq!(http.post("/api/generate", &generate).await.status, 200);
    for (path, more, param) in [
        ("/api/show", json!({"system": "Be brief."}), "system"),
        ("/api/show", json!({"options": {"seed": 1}}), "options.seed"),
        ("/api/show", json!({"verbose": "very"}), "verbose"),
        ("/api/show", json!({"model": ""}), "model"),
        ("/api/pull", json!({"username": "me"}), "username"),
        ("/api/chat", json!({"truncate": true}), "truncate"),
        ("/api/generate", json!({"shift": true}), "shift"),
    ] {
        let refused = http.post(path, &with(json!({"model": "impetus-nano"}), more)).await;
        assert_eq!(refused.status, 400, "{param}");
        let error = refused.json().await["error"].as_str().unwrap().to_owned();
        assert!(error.contains(param), "{param}: {error}");
    }
}

#[tokio::test]
async fn every_model_has_a_digest_that_is_its_own_and_stays() {
    let mut house = House::start();
    let http = house.http().await;
    let digests = async || {
        let tags = http.get("/api/tags").await.json().await;
        let digest = |model: &Value| model["digest"].as_str().unwrap().to_owned();
        tags["models"].as_array().unwrap().iter().map(digest).collect::<Vec<_>>()
    };
    let first = digests().await;
    // Clients show the first twelve.
    assert!(first.len() == 2 && first[0] != first[1] && first.iter().all(|digest| digest.len() >= 12), "{first:?}");
    assert_eq!(digests().await, first);
    assert_eq!(http.post("/api/generate", &json!({"model": "impetus-nano"})).await.status, 200);
    assert_eq!(in_memory(&http).await[0]["digest"], first[0]);
}

#[tokio::test]
async fn refusals_are_in_ollamas_shape_and_name_what_they_refuse() {
    let mut house = House::start();
    let http = house.http().await;
    let cases = [
        ("/api/chat", json!({"model": "nobody"}), 404, "nobody"),
        ("/api/chat", json!({"telepathy": 1}), 400, "telepathy"),
        ("/api/chat", json!({"options": {"mirostat": 1}}), 400, "options.mirostat"),
        ("/api/chat", json!({"options": {"temperature": 3}}), 400, "options.temperature"),
        ("/api/chat", json!({"options": {"temperature": "hot"}}), 400, "options.temperature"),
        ("/api/chat", json!({"options": {"num_ctx": "long"}}), 400, "options.num_ctx"),
        ("/api/chat", json!({"format": "xml"}), 400, "format"),
        ("/api/chat", json!({"think": true}), 400, "think"),
        ("/api/chat", json!({"think": "bogus", "messages": []}), 400, "think"),
        ("/api/chat", json!({"tools": [{"type": "search", "function": {"name": "f"}}], "messages": []}), 400, "search"),
        ("/api/chat", json!({"keep_alive": "soon"}), 400, "keep_alive"),
        ("/api/chat", json!({"messages": [{"role": "king", "content": "x"}]}), 400, "messages[0].role"),
        ("/api/chat", json!({"messages": [{"role": "user", "images": ["A"]}]}), 400, "messages[0].images"),
        ("/api/embed", json!({}), 400, "messages"),
        ("/api/copy", json!({}), 400, "/api/copy"),
    ];
    for (path, more, status, named) in cases {
        let answer = http.post(path, &chat(more)).await;
        assert_eq!(answer.status, status, "{named}");
        let body = answer.json().await;
        assert!(body["error"].as_str().unwrap().contains(named), "{named}: {body}");
    }
    let pull = http.post("/api/pull", &json!({"model": "nonsense"})).await;
    assert_eq!(pull.status, 400);
    let said = pull.json().await["error"].as_str().unwrap().to_owned();
    assert!(said.starts_with("model: ") && said.contains("ORG/NAME"), "{said}");
    let load = http.post("/api/generate", &json!({"model": "impetus-nano", "think": "bogus"})).await;
    assert_eq!(load.status, 400);
    assert!(load.json().await["error"].as_str().unwrap().contains("think"));
    let knock = format!("HEAD / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", http.authority());
    assert_eq!(http.raw(&knock).await.status, 200);
    let keyless = format!("GET /api/tags HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", http.authority());
    let keyless = http.raw(&keyless).await;
    assert_eq!(keyless.status, 401);
    assert!(keyless.json().await["error"].is_string());
}

#[tokio::test]
async fn the_context_of_an_answer_has_the_conversation_go_on() {
    let mut house = House::start();
    let http = house.http().await;
    let ask = |more: Value| {
        let mut body = json!({"model": "impetus-nano", "stream": false, "options": {"temperature": 0}});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let first = http.post("/api/generate", &ask(json!({"prompt": "What is Impetus?", "system": "Be brief."}))).await;
    let first = first.json().await;
    let context = &first["context"];
    let lines = http.post("/api/generate", &ask(json!({"prompt": "Why?", "context": context, "stream": true}))).await;
    let lines: Vec<Value> = lines.text().await.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let said: String = lines.iter().filter_map(|line| line["response"].as_str()).collect();
    let by_hand = ask(json!({"messages": [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is Impetus?"},
        {"role": "assistant", "content": first["response"]}, {"role": "user", "content": "Why?"},
    ]}));
    let by_hand = http.post("/api/chat", &by_hand).await.json().await;
    assert_eq!(by_hand["message"]["content"], said);
    let last = lines.last().unwrap();
    assert_eq!(by_hand["prompt_eval_count"], last["prompt_eval_count"]);
    assert!(last["context"].as_array().unwrap().len() > context.as_array().unwrap().len());
    for (more, param) in [
        (json!({"prompt": "x", "context": [1, 2, 3]}), "context"),
        (json!({"prompt": "x", "context": context, "raw": true}), "context"),
    ] {
        let refused = http.post("/api/generate", &ask(more)).await;
        assert_eq!(refused.status, 400);
        assert!(refused.json().await["error"].as_str().unwrap().contains(param));
    }
    let raw = http
        .post("/api/generate", &ask(json!({"prompt": "x", "raw": true, "options": {"num_predict": 4}})))
        .await
        .json()
        .await;
    assert!(raw.get("context").is_none(), "{raw}");
}

#[tokio::test]
async fn options_about_the_machine_are_labels_and_wishes_are_refused() {
    let mut house = House::start();
    let http = house.http().await;
    let ask = |options: Value| json!({"model": "impetus-nano", "prompt": "Hi", "stream": false, "options": options});
    let hints = json!({
        "num_gpu": 99, "main_gpu": 0, "num_thread": 8, "num_batch": 512, "num_keep": 4, "use_mmap": true, "use_mlock": false,
        "numa": false, "low_vram": false, "f16_kv": true, "tfs_z": 1.0, "penalize_newline": true, "draft_num_predict": 4,
        "temperature": 0, "num_predict": 4.0,
    });
    let plain = http.post("/api/generate", &ask(json!({"temperature": 0, "num_predict": 4}))).await.json().await;
    let hinted = http.post("/api/generate", &ask(hints)).await.json().await;
    assert_eq!(plain["response"], hinted["response"], "{hinted}");
    let vector = json!({"model": "impetus-nano-embed", "input": "a", "options": {"num_thread": 2, "num_gpu": 0}});
    assert_eq!(http.post("/api/embed", &vector).await.status, 200);
    for (options, param) in [
        (json!({"num_gpu": "all"}), "options.num_gpu"),
        (json!({"use_mmap": 1}), "options.use_mmap"),
        (json!({"tfs_z": 0.5}), "options.tfs_z"),
        (json!({"f16_kv": 1}), "options.f16_kv"),
    ] {
        let refused = http.post("/api/generate", &ask(options)).await;
        assert_eq!(refused.status, 400);
        let error = refused.json().await;
        assert!(error["error"].as_str().unwrap().contains(param), "{error}");
    }
}

#[tokio::test]
async fn what_a_model_cannot_do_is_said_in_the_words_that_clients_look_for() {
    let mut house = House::start();
    let client = house.client().await;
    let plain = Recipe::tiny("llama", 9).endless();
    let folder = model::write(&house, "plain", &plain);
    fs::write(folder.join("chat_template.jinja"), "{{ messages[0].content }}").unwrap();
    let (path, name) = (folder.to_string_lossy().into_owned(), Some("plain".to_owned()));
    client.add(AddRequest { path, name }).await.unwrap();
    let http = house.http().await;
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}});
    for (path, body, words) in [
        ("/api/chat", chat(json!({"think": true})), "\"impetus-nano\" does not support thinking"),
        ("/api/generate", json!({"model": "impetus-nano", "prompt": "a", "think": true}), "does not support thinking"),
        ("/api/generate", json!({"model": "impetus-nano", "prompt": "a", "suffix": "b"}), "does not support insert"),
        ("/api/generate", json!({"model": "impetus-nano-embed", "prompt": "a"}), "does not support generate"),
        ("/api/chat", chat(json!({"model": "impetus-nano-embed"})), "does not support chat"),
        ("/api/chat", chat(json!({"model": "plain", "tools": [tool]})), "\"plain\" does not support tools"),
    ] {
        let refused = http.post(path, &body).await;
        let (status, error) = (refused.status, refused.json().await["error"].as_str().unwrap().to_owned());
        assert!(status == 400 && error.contains(words), "{status} {error}");
    }
}
