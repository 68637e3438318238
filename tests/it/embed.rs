//! Vectors and scores through the socket and through HTTP: each dialect's shape, refusals, cuts, and a killed worker.

use engine::random::Recipe;
use protocol::ErrorKind;
use protocol::encode::{EmbedRequest, INPUTS_MAX, Input, Overlong, RerankRequest};
use protocol::generation::Priority;
use protocol::transcript::Event;
use serde_json::{Value, json};
use tests::house::{House, raw};
use tests::http::Http;
use tests::model;
use tests::process::kill;

use crate::faults::worker_pid;

const NANO: &str = "impetus-nano-embed";

fn embed(model: Option<&str>, texts: &[&str]) -> EmbedRequest {
    EmbedRequest {
        model: model.map(str::to_owned),
        inputs: texts.iter().map(|text| Input::Text((*text).to_owned())).collect(),
        dimensions: None,
        overlong: Overlong::Refuse,
        tokens_max: None,
        priority: Priority::Normal,
        deadline_ms: Some(120_000),
    }
}

fn rerank(model: &str, documents: &[&str]) -> RerankRequest {
    RerankRequest {
        model: Some(model.to_owned()),
        query: "which of them".to_owned(),
        documents: documents.iter().map(|text| (*text).to_owned()).collect(),
        overlong: Overlong::Refuse,
        priority: Priority::Normal,
        deadline_ms: Some(120_000),
    }
}

fn reranker() -> Recipe {
    Recipe::tiny_encoder("xlm-roberta", 5)
        .set("pad_token_id", 1)
        .set("architectures", vec!["XLMRobertaForSequenceClassification"])
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

#[tokio::test]
async fn the_bundled_embedder_finds_a_text_by_a_question_about_it() {
    let house = House::start();
    let client = house.client().await;
    let card = client.models().await.unwrap().into_iter().find(|card| card.name == NANO).unwrap();
    assert!(card.facts.capabilities.embed && !card.facts.capabilities.generates());
    let texts = [
        "The capital of Vellora is Tarn.",
        "Mira works as a carpenter.",
        "The old lamp is kept in the cellar.",
        "The price of the blue kettle is 12 dollars.",
    ];
    let questions = [
        "Which city is the capital of Vellora?",
        "What is Mira's job?",
        "Where is the old lamp?",
        "How much is the blue kettle?",
    ];
    let passages = client.embeddings(embed(None, &texts)).await.unwrap();
    assert_eq!(passages.model, NANO, "without a name, the bundled embedder answers");
    let asked = client.embeddings(embed(Some(NANO), &questions)).await.unwrap();
    for (at, question) in asked.vectors.iter().enumerate() {
        assert!((dot(question, question) - 1.0).abs() < 1e-4);
        let best = (0..texts.len())
            .max_by(|a, b| dot(question, &passages.vectors[*a]).total_cmp(&dot(question, &passages.vectors[*b])));
        assert_eq!(best, Some(at), "{}", questions[at]);
    }
}

#[tokio::test]
async fn a_vector_goes_through_the_folders_matrices_and_is_cut_after_them() {
    let house = House::start();
    let client = house.client().await;
    let dense =
        json!({ "in_features": 64, "out_features": 48, "activation_function": "torch.nn.modules.activation.Tanh" });
    model::add(&house, &client, "gemma", &Recipe::tiny_embedding_gemma(5).projected(vec![dense])).await;
    let texts = ["the first of them", "and the second, which is longer than a window of theirs"];
    let whole = client.embeddings(embed(Some("gemma"), &texts)).await.unwrap().vectors;
    assert!(whole.iter().all(|vector| vector.len() == 48 && (dot(vector, vector) - 1.0).abs() < 1e-4));
    let alone = client.embeddings(embed(Some("gemma"), &texts[1..])).await.unwrap().vectors;
    assert_eq!(alone[0], whole[1]);
    let short = client.embeddings(EmbedRequest { dimensions: Some(16), ..embed(Some("gemma"), &texts) }).await.unwrap();
    for (short, whole) in short.vectors.iter().zip(&whole) {
        let length = dot(&whole[..16], &whole[..16]).sqrt();
        assert!(
            short.len() == 16 && short.iter().zip(whole).all(|(short, whole)| (short - whole / length).abs() < 1e-5)
        );
    }
}

#[tokio::test]
async fn each_kind_of_model_is_asked_only_for_what_it_does() {
    let house = House::start();
    let client = house.client().await;
    model::add(&house, &client, "ranks", &reranker()).await;
    for model in [NANO, "ranks"] {
        let error = client.begin(raw(Some(model), "hello", 4)).await.unwrap_err();
        assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::Unsupported, Some("model")), "{}", error.message);
    }
    for model in ["impetus-nano", "ranks"] {
        let error = client.embed(embed(Some(model), &["a"])).await.unwrap_err();
        assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::Unsupported, Some("model")), "{}", error.message);
    }
    let error = client.rerank(rerank(NANO, &["a"])).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported);
    let error = client.embed(embed(Some("nobody"), &["a"])).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ModelNotFound);
    let scores = client.scores(rerank("ranks", &["one", "two", "three"])).await.unwrap();
    assert_eq!(scores.scores.len(), 3);
    assert!(scores.scores.iter().all(|score| (0.0..=1.0).contains(score)));
}

#[tokio::test]
async fn a_worker_killed_in_mid_batch_changes_no_vector() {
    let house = House::start();
    let client = house.client().await;
    let recipe = Recipe::tiny_encoder("bert", 6).set("num_hidden_layers", 8);
    model::add(&house, &client, "m", &recipe).await;
    let texts: Vec<String> = (0..500).map(|n| format!("text number {n} of a long list of texts")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let undisturbed = client.embeddings(embed(Some("m"), &texts)).await.unwrap();
    let mut events = client.events(client.embed(embed(Some("m"), &texts)).await.unwrap());
    let mut vectors = vec![None; texts.len()];
    let mut killed = false;
    let mut usage = None;
    while let Some(event) = futures::StreamExt::next(&mut events).await {
        match event.unwrap() {
            Event::Embedded(result) => {
                let place = &mut vectors[result.index as usize];
                assert!(place.is_none(), "text {} came twice", result.index);
                *place = Some(result.vector);
                if !std::mem::replace(&mut killed, true) {
                    kill(worker_pid(&client, "m").await);
                }
            }
            Event::Finished(finished) => usage = Some(finished.usage),
            _ => {}
        }
    }
    assert!(killed);
    let vectors: Vec<Vec<f32>> = vectors.into_iter().map(Option::unwrap).collect();
    assert_eq!(vectors, undisturbed.vectors);
    assert_eq!(usage, Some(undisturbed.finished.usage), "tokens of all texts are counted once");
}

#[tokio::test]
async fn the_openai_endpoint_takes_every_form_of_input() {
    let mut house = House::start();
    let http = house.http().await;
    let ask = async |body: Value| {
        let answer = http.post("/v1/embeddings", &body).await;
        let status = answer.status;
        (status, answer.json().await)
    };
    let (status, whole) = ask(json!({"model": NANO, "input": ["one", "two"]})).await;
    assert_eq!((status, &whole["object"], &whole["model"]), (200, &json!("list"), &json!(NANO)), "{whole}");
    assert_eq!(whole["usage"]["prompt_tokens"], whole["usage"]["total_tokens"]);
    let first = numbers(&whole["data"][0]["embedding"]);
    assert_eq!(
        (first.len(), &whole["data"][1]["index"], &whole["data"][1]["object"]),
        (256, &json!(1), &json!("embedding"))
    );
    let (_, single) = ask(json!({"model": NANO, "input": "one", "encoding_format": "float"})).await;
    assert_eq!(single["data"][0], whole["data"][0], "a text is the same alone");
    let (_, short) = ask(json!({"model": NANO, "input": "one", "dimensions": 64})).await;
    let short = numbers(&short["data"][0]["embedding"]);
    let length = dot(&first[..64], &first[..64]).sqrt();
    assert!((dot(&short, &short) - 1.0).abs() < 1e-4);
    assert!(short.iter().zip(&first).all(|(short, first)| (short - first / length).abs() < 1e-5));
    let (_, tokens) = ask(json!({"model": NANO, "input": [[5, 6], [7]]})).await;
    assert_eq!((tokens["data"].as_array().unwrap().len(), &tokens["usage"]["prompt_tokens"]), (2, &json!(3)));
    let (_, list) = ask(json!({"model": NANO, "input": [5, 6]})).await;
    assert_eq!(list["data"][0]["embedding"], tokens["data"][0]["embedding"]);
}

#[tokio::test]
async fn refusals_name_the_parameter_and_nothing_is_cut_unasked() {
    let mut house = House::start();
    let http = house.http().await;
    let long = "word ".repeat(3000);
    let cases = [
        ("/v1/embeddings", json!({"input": ["a", ""]}), 400, "input"),
        ("/v1/embeddings", json!({"input": []}), 400, "input"),
        ("/v1/embeddings", json!({"input": 5}), 400, "input"),
        ("/v1/embeddings", json!({}), 400, "input"),
        ("/v1/embeddings", json!({"input": vec!["a"; INPUTS_MAX + 1]}), 400, "input"),
        ("/v1/embeddings", json!({"input": [[1, 4_000_000]]}), 400, "input"),
        ("/v1/embeddings", json!({"input": "a", "dimensions": 0}), 400, "dimensions"),
        ("/v1/embeddings", json!({"input": "a", "dimensions": 257}), 400, "dimensions"),
        ("/v1/embeddings", json!({"input": "a", "encoding_format": "int8"}), 400, "encoding_format"),
        ("/v1/embeddings", json!({"input": "a", "telepathy": 1}), 400, "telepathy"),
        ("/v1/embeddings", json!({"input": "a", "model": "impetus-nano"}), 400, "model"),
        ("/v1/embeddings", json!({"input": "a", "model": "nobody"}), 404, "model"),
        ("/v1/embeddings", json!({"input": ["a", &long]}), 400, "input"),
        ("/v1/rerank", json!({"query": "a", "documents": ["b"]}), 400, "model"),
        ("/v1/rerank", json!({"query": "a", "documents": ["b"], "top_n": 0}), 400, "top_n"),
        ("/v1/rerank", json!({"query": "a", "documents": [5]}), 400, "documents[0]"),
        ("/v1/chat/completions", json!({"messages": [{"role": "user", "content": "Hi"}]}), 400, "model"),
    ];
    for (path, mut body, status, param) in cases {
        if body.get("model").is_none() {
            body["model"] = json!(NANO);
        }
        let answer = http.post(path, &body).await;
        assert_eq!(answer.status, status, "{path} {param}");
        let error = answer.json().await;
        assert_eq!(error["error"]["param"], param, "{path}: {error}");
    }
    let refused = http.post("/v1/embeddings", &json!({"model": NANO, "input": long})).await.json().await;
    assert_eq!(refused["error"]["code"], "context_length_exceeded");
    assert!(refused["error"]["message"].as_str().unwrap().contains("maximum context length is 2048 tokens"));
    let cut = http.post("/v1/embeddings", &json!({"model": NANO, "input": ["a", long], "truncate": true})).await;
    assert_eq!((cut.status, cut.header("x-impetus-truncated")), (200, Some("1")));
}

#[tokio::test]
async fn ollamas_endpoints_give_unit_vectors_in_their_own_shape() {
    let mut house = House::start();
    let http = house.http().await;
    let answer = http
        .post("/api/embed", &json!({"model": format!("{NANO}:latest"), "input": ["one", "two"], "keep_alive": "5m"}))
        .await;
    assert_eq!(answer.status, 200);
    let answer = answer.json().await;
    let first = numbers(&answer["embeddings"][0]);
    assert_eq!((answer["model"].as_str(), answer["embeddings"].as_array().unwrap().len()), (Some(NANO), 2));
    assert!((dot(&first, &first) - 1.0).abs() < 1e-4 && answer["prompt_eval_count"].as_u64().unwrap() > 0);
    assert!(answer["total_duration"].as_u64() >= answer["load_duration"].as_u64());
    let older = http.post("/api/embeddings", &json!({"model": NANO, "prompt": "one"})).await.json().await;
    assert_eq!(numbers(&older["embedding"]), first);
    let nothing = http.post("/api/embed", &json!({"model": NANO, "input": ""})).await.json().await;
    assert_eq!(nothing["embeddings"], json!([]), "a lone empty text asks for no vector");
    let nothing = http.post("/api/embeddings", &json!({"model": NANO, "prompt": ""})).await.json().await;
    assert_eq!(nothing["embedding"], json!([]));
    let short = http.post("/api/embed", &json!({"model": NANO, "input": "one", "dimensions": 128})).await.json().await;
    assert_eq!(numbers(&short["embeddings"][0]).len(), 128);
    let shown = http.post("/api/show", &json!({"model": NANO})).await.json().await;
    assert_eq!(shown["capabilities"], json!(["embedding"]));
    for (more, named) in [
        (json!({"input": "a", "options": {"temperature": 1}}), "temperature"),
        (json!({"input": "a", "dimensions": 0}), "at least 1"),
        (json!({"input": "word ".repeat(3000)}), "maximum context length"),
        (json!({"input": "a", "model": "impetus-nano"}), "impetus-nano"),
    ] {
        let mut body = json!({"model": NANO});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = http.post("/api/embed", &body).await;
        assert_eq!(answer.status, 400, "{named}");
        assert!(answer.json().await["error"].as_str().unwrap().contains(named), "{named}");
    }
}

/// Asks Ollama's endpoint; returns the vectors, the count of tokens and which texts were cut.
async fn ollama(http: &Http, model: &str, more: Value) -> (Vec<Vec<f32>>, u64, Option<String>) {
    let mut body = json!({ "model": model });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let answer = http.post("/api/embed", &body).await;
    assert_eq!(answer.status, 200, "{more}");
    let cut = answer.header("x-impetus-truncated").map(str::to_owned);
    let answer = answer.json().await;
    let vectors = answer["embeddings"].as_array().unwrap().iter().map(numbers).collect();
    (vectors, answer["prompt_eval_count"].as_u64().unwrap(), cut)
}

#[tokio::test]
async fn ollama_embeds_an_empty_text_of_a_list_and_the_others_as_ever() {
    let mut house = House::start();
    let client = house.client().await;
    model::add(&house, &client, "m", &Recipe::tiny_encoder("bert", 6)).await;
    let http = house.http().await;
    let (mixed, tokens, _) = ollama(&http, "m", json!({"input": ["one", "", "two", ""]})).await;
    let (plain, fewer, _) = ollama(&http, "m", json!({"input": ["one", "two"]})).await;
    assert_eq!([&mixed[0], &mixed[2]], [&plain[0], &plain[1]]);
    assert_eq!(mixed[1], mixed[3]);
    assert!((dot(&mixed[1], &mixed[1]) - 1.0).abs() < 1e-4 && mixed[1] != mixed[0]);
    assert_eq!(tokens, fewer + 4, "what stands around it counts");
    // Around this model's texts nothing stands, so nothing is left to read.
    let nothing = http.post("/api/embed", &json!({"model": NANO, "input": ["one", ""]})).await;
    assert_eq!(nothing.status, 400);
}

#[tokio::test]
async fn ollamas_texts_are_too_long_from_the_context_that_is_asked_for() {
    let mut house = House::start();
    let http = house.http().await;
    let ask = |most: u32, truncate: bool| json!({"model": NANO, "input": "why is the sky blue?", "truncate": truncate, "options": {"num_ctx": most}});
    let (whole, _, cut) = ollama(&http, NANO, ask(8192, true)).await;
    assert_eq!(cut, None, "no more than the model has");
    let (short, tokens, cut) = ollama(&http, NANO, ask(3, true)).await;
    assert_eq!((cut.as_deref(), tokens), (Some("0"), 3));
    assert_ne!(short, whole);
    let refused = http.post("/api/embed", &ask(3, false)).await;
    assert_eq!(refused.status, 400);
    let refused = refused.json().await["error"].as_str().unwrap().to_owned();
    assert!(refused.contains("context length is 3 tokens"), "{refused}");
}

#[tokio::test]
async fn reranking_orders_documents_and_shows_them_when_asked() {
    let mut house = House::start();
    let client = house.client().await;
    model::add(&house, &client, "ranks", &reranker()).await;
    let http = house.http().await;
    let documents = json!(["one", {"text": "two of them"}, "three"]);
    let body =
        json!({"model": "ranks", "query": "which", "documents": documents, "top_n": 2, "return_documents": true});
    let answer = http.post("/v1/rerank", &body).await.json().await;
    for path in ["/v2/rerank", "/rerank", "/api/v1/rerank"] {
        let same = http.post(path, &body).await.json().await;
        assert_eq!(same["results"], answer["results"], "{path}");
    }
    let results = answer["results"].as_array().unwrap();
    assert_eq!((results.len(), &answer["model"]), (2, &json!("ranks")), "{answer}");
    assert!(results[0]["relevance_score"].as_f64() >= results[1]["relevance_score"].as_f64());
    let texts = ["one", "two of them", "three"];
    for result in results {
        assert_eq!(result["document"]["text"], texts[result["index"].as_u64().unwrap() as usize]);
    }
    assert!(answer["usage"]["total_tokens"].as_u64().unwrap() > 0);
    // As text-embeddings-inference shapes it.
    let texts = json!({"model": "ranks", "query": "which", "texts": texts, "return_text": true});
    let listed = http.post("/rerank", &texts).await.json().await;
    for (place, result) in listed.as_array().unwrap().iter().zip(results) {
        let same = (&result["index"], &result["relevance_score"], &result["document"]["text"]);
        assert_eq!((&place["index"], &place["score"], &place["text"]), same);
    }
    let raw = json!({"model": "ranks", "query": "which", "texts": ["a"], "raw_scores": true});
    assert_eq!(http.post("/rerank", &raw).await.json().await["error"]["param"], "raw_scores");
}
