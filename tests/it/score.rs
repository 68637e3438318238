//! `/score`, as vLLM's clients ask it, and `/v2/embed`, as Cohere's do, beside the endpoints that they must agree with.

use engine::random::Recipe;
use serde_json::{Value, json};
use tests::house::House;
use tests::http::Http;
use tests::model;

const NANO: &str = "impetus-nano-embed";

async fn ask(http: &Http, path: &str, body: Value) -> Value {
    let answer = http.post(path, &body).await;
    let (status, answer) = (answer.status, answer.json().await);
    assert_eq!(status, 200, "{path} {body}: {answer}");
    answer
}

fn scores(answer: &Value) -> Vec<f64> {
    let data = answer["data"].as_array().unwrap();
    assert!(data.iter().enumerate().all(|(at, score)| score["index"] == at && score["object"] == "score"), "{answer}");
    data.iter().map(|score| score["score"].as_f64().unwrap()).collect()
}

#[track_caller]
fn check_close(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-5, "{a} {b}");
}

#[tokio::test]
async fn a_reranker_scores_pairs_as_it_orders_documents() {
    let mut house = House::start();
    let client = house.client().await;
    let recipe = Recipe::tiny_encoder("bert", 6).set("architectures", vec!["BertForSequenceClassification"]);
    model::add(&house, &client, "ranks", &recipe).await;
    let http = house.http().await;
    let ranked = async |query: &str, document: &str| {
        let body = json!({"model": "ranks", "query": query, "documents": [document]});
        ask(&http, "/v1/rerank", body).await["results"][0]["relevance_score"].as_f64().unwrap()
    };
    let expected =
        [ranked("a cat", "it purrs").await, ranked("a tool", "it cuts").await, ranked("a cat", "it cuts").await];
    let pairs = json!({"model": "ranks", "queries": ["a cat", "a tool", "a cat"], "documents": ["it purrs", "it cuts", "it cuts"]});
    let answer = ask(&http, "/score", pairs).await;
    scores(&answer).into_iter().zip(expected).for_each(|(score, expected)| check_close(score, expected));
    assert!(answer["usage"]["prompt_tokens"].as_u64().unwrap() > 0 && answer["model"] == "ranks");
    let one = json!({"model": "ranks", "text_1": "a cat", "text_2": ["it purrs", "it cuts"]});
    let both = scores(&ask(&http, "/v1/score", one).await);
    check_close(both[0], expected[0]);
    check_close(both[1], expected[2]);
}

#[tokio::test]
async fn of_an_embedder_a_score_is_the_cosine_and_texts_that_do_not_pair_are_refused() {
    let mut house = House::start();
    let http = house.http().await;
    let body = json!({"model": NANO, "queries": "a lamp", "documents": ["a lamp", "the price of a kettle"]});
    let both = scores(&ask(&http, "/score", body).await);
    check_close(both[0], 1.0);
    assert!(both[1] < 0.99);
    let odd = json!({"model": NANO, "queries": ["a", "b"], "documents": ["c", "d", "e"]});
    let refused = http.post("/score", &odd).await;
    assert_eq!((refused.status, refused.json().await["error"]["param"].as_str()), (400, Some("documents")));
    let long = json!({"model": NANO, "queries": "a", "documents": "word ".repeat(5000)});
    assert_eq!(http.post("/score", &long).await.status, 400, "nothing is cut unless that is allowed");
}

#[tokio::test]
async fn cohere_clients_get_the_same_vectors_in_each_form() {
    let mut house = House::start();
    let http = house.http().await;
    let body = json!({"model": NANO, "texts": ["a lamp", "a kettle"], "input_type": "search_document",
                      "embedding_types": ["float", "base64", "binary", "ubinary"]});
    let answer = ask(&http, "/v2/embed", body).await;
    let plain = ask(&http, "/v1/embeddings", json!({"model": NANO, "input": ["a lamp", "a kettle"]})).await;
    let coded = json!({"model": NANO, "input": ["a lamp", "a kettle"], "encoding_format": "base64"});
    let coded = ask(&http, "/v1/embeddings", coded).await;
    for at in [0, 1] {
        let floats = answer["embeddings"]["float"][at].as_array().unwrap();
        assert_eq!(json!(floats), plain["data"][at]["embedding"]);
        assert_eq!(answer["embeddings"]["base64"][at], coded["data"][at]["embedding"]);
        assert_eq!(answer["embeddings"]["ubinary"][at].as_array().unwrap().len() * 8, floats.len());
        let first = answer["embeddings"]["ubinary"][at][0].as_i64().unwrap();
        assert_eq!(answer["embeddings"]["binary"][at][0], first - 128);
        assert_eq!(first >= 128, floats[0].as_f64().unwrap() > 0.0);
    }
    assert_eq!(
        (&answer["texts"], &answer["meta"]["api_version"]["version"]),
        (&json!(["a lamp", "a kettle"]), &json!("2"))
    );
    assert_eq!(answer["meta"]["billed_units"]["input_tokens"], plain["usage"]["prompt_tokens"]);
    for (name, wrong) in [("input_type", json!("poem")), ("texts", json!([])), ("truncate", json!("START"))] {
        let mut body = json!({"model": NANO, "texts": ["a"]});
        body[name] = wrong;
        let refused = http.post("/v2/embed", &body).await;
        assert_eq!((refused.status, refused.json().await["error"]["param"].as_str()), (400, Some(name)));
    }
}
