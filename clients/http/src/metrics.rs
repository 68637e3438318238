//! `/api/metrics`: what the daemon counts, in the words of Prometheus.
//!
//! The daemon counts and measures; here it gets names, labels and help. Any key may read it, so that a scraper needs no
//! more than a `readonly` one: models that a key may not use are left out, and keys are named by their ids, which grant
//! nothing. How many series there are is bounded by the daemon.

mod text;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use protocol::measures::{Histogram, Measures, Metrics, ModelMeasures};
use protocol::model::{ModelCard, ModelState, Residence};
use protocol::status::Status;

use crate::app::Bridge;
use crate::error::HttpError;
use crate::openapi::{Operation, Routes};
use text::{CONTENT_TYPE, Text};

/// Returns the route of this module.
pub fn routes() -> Routes {
    let scrape = Operation::new("Scrape what is counted, as Prometheus reads it")
        .more("Any key may: a scraper needs a `readonly` one. A key for some models sees those alone.")
        .gives_text("text/plain", "Metrics in Prometheus' text format, version 0.0.4.");
    Routes::new("Watching").get("/api/metrics", self::scrape, scrape)
}

/// Answers with everything that is counted.
async fn scrape(State(bridge): State<Arc<Bridge>>) -> Result<Response, HttpError> {
    let client = bridge.daemon.client().await?;
    let (status, metrics) = futures::try_join!(client.status(), client.metrics())?;
    let mut response = render(&status, &metrics, bridge.sockets.open()).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    Ok(response)
}

/// Returns the text; `sockets` is how many WebSockets are open here.
fn render(status: &Status, metrics: &Metrics, sockets: usize) -> String {
    let mut text = Text::default();
    service(&mut text, status, sockets);
    requests(&mut text, metrics);
    durations(&mut text, metrics);
    counts(&mut text, &metrics.models);
    waits(&mut text, &metrics.models);
    residence(&mut text, &status.models);
    text.into_string()
}

fn service(text: &mut Text, status: &Status, sockets: usize) {
    let version = [("version", status.version.as_str()), ("commit", status.commit.as_str())];
    text.gauge("impetus_build_info", "The daemon's version.").sample(&version, 1);
    let mut plain = |name: &str, help: &str, value: u64| text.gauge(name, help).sample(&[], value);
    plain("impetus_active_connections", "WebSocket connections of this bridge.", sockets as u64);
    plain("impetus_daemon_connections", "Clients connected to the daemon's socket.", status.connections.into());
    plain("impetus_active_requests", "Pieces of long work going on.", status.active.into());
    let memory = status.memory;
    plain("impetus_memory_total_bytes", "What the machine has.", memory.total_bytes);
    plain("impetus_memory_available_bytes", "What the machine could give now.", memory.available_bytes);
    plain("impetus_memory_budget_bytes", "What models may take in all.", memory.budget_bytes);
    plain("impetus_memory_accounted_bytes", "What models count with against the budget.", memory.models_bytes);
    plain("impetus_daemon_memory_bytes", "What the daemon itself holds.", memory.daemon_bytes);
    let up = status.uptime_ms as f64 / 1e3;
    text.gauge("impetus_uptime_seconds", "How long the daemon has run.").sample(&[], up);
}

fn requests(text: &mut Text, metrics: &Metrics) {
    let help = "Requests that ended, by what was asked, model, key and status.";
    let mut family = text.counter("impetus_requests_total", help);
    let mut tokens: BTreeMap<(&str, &str), (u64, u64)> = BTreeMap::new();
    for of in &metrics.requests {
        let labels = [("verb", &of.verb), ("model", &of.model), ("key", &of.key), ("status", &of.status)];
        family.sample(&labels.map(|(name, value)| (name, value.as_str())), of.requests);
        let (read, written) = tokens.entry((&of.model, &of.key)).or_default();
        *read += of.prompt_tokens;
        *written += of.completion_tokens;
    }
    let help = "Tokens generated, counted when their request ends.";
    let mut family = text.counter("impetus_tokens_generated_total", help);
    for ((model, key), (_, written)) in &tokens {
        family.sample(&[("model", model), ("key", key)], written);
    }
    let help = "Tokens of prompts and of texts read whole, counted when their request ends.";
    let mut family = text.counter("impetus_prompt_tokens_total", help);
    for ((model, key), (read, _)) in &tokens {
        family.sample(&[("model", model), ("key", key)], read);
    }
}

fn durations(text: &mut Text, metrics: &Metrics) {
    for (verb, name, help) in [
        ("generate", "impetus_inference_duration_seconds", "How long generations took, from arrival to end."),
        ("embed", "impetus_embedding_duration_seconds", "How long requests for vectors took."),
        ("rerank", "impetus_rerank_duration_seconds", "How long requests for scores took."),
        // A name that dashboards know: it counts none until something searches documents.
        ("search", "impetus_rag_search_duration_seconds", "How long searches of documents took."),
    ] {
        let mut family = text.histogram(name, help);
        let mut timed = metrics.durations.iter().filter(|of| of.verb == verb).peekable();
        if timed.peek().is_none() {
            family.durations(&[], &Histogram::default());
        }
        for of in timed {
            family.durations(&[("model", &of.model), ("key", &of.key)], &of.durations);
        }
    }
}

/// A metric that counts: its name, its help, and where its count is.
type Count = (&'static str, &'static str, fn(&ModelMeasures) -> u64);

const COUNTS: &[Count] = &[
    ("impetus_model_loads_total", "How often a model was brought into memory.", |of| of.loads),
    ("impetus_worker_deaths_total", "How often a model's worker died.", |of| of.deaths),
    ("impetus_worker_requests_total", "Requests that workers took in.", |of| of.measures.requests),
    ("impetus_worker_requests_refused_total", "Requests refused because too many waited.", |of| of.measures.refused),
    ("impetus_worker_tokens_total", "Tokens that workers generated, as they come.", |of| of.measures.tokens),
    ("impetus_worker_prompt_tokens_total", "Tokens of prompts that workers began.", |of| of.measures.prompt_tokens),
    ("impetus_cache_hit_tokens_total", "Prompt tokens from the prefix cache.", |of| of.measures.cached_tokens),
    ("impetus_cache_restored_tokens_total", "Of those, tokens read back from disk.", |of| of.measures.restored_tokens),
    ("impetus_cache_stored_tokens_total", "Tokens of prefixes put away on disk.", |of| of.measures.stored_tokens),
    ("impetus_steps_total", "Steps of the model.", |of| of.measures.steps),
    (
        "impetus_batch_sequences_total",
        "Sequences in all steps together; over impetus_steps_total, the mean width of a batch.",
        |of| of.measures.rows,
    ),
    ("impetus_draft_tokens_total", "Tokens guessed ahead.", |of| of.measures.drafted),
    ("impetus_draft_accepted_tokens_total", "Guesses that were right.", |of| of.measures.accepted),
    ("impetus_preemptions_total", "Sequences that gave way to others.", |of| of.measures.preemptions),
];

fn counts(text: &mut Text, models: &[ModelMeasures]) {
    for (name, help, count) in COUNTS {
        let mut family = text.counter(name, help);
        for of in models {
            family.sample(&[("model", &of.model)], count(of));
        }
    }
}

/// A distribution that workers measure: its name, its help, and where it is.
type Wait = (&'static str, &'static str, fn(&Measures) -> &Histogram);

const WAITS: &[Wait] = &[
    ("impetus_queue_duration_seconds", "From a request's arrival to its first step.", |of| &of.queue),
    ("impetus_time_to_first_token_seconds", "From a request's arrival to its first token.", |of| &of.first_token),
    ("impetus_inter_token_duration_seconds", "Between two deliveries of one running answer.", |of| &of.gap),
];

fn waits(text: &mut Text, models: &[ModelMeasures]) {
    for (name, help, wait) in WAITS {
        let mut family = text.histogram(name, help);
        for of in models {
            family.durations(&[("model", &of.model)], wait(&of.measures));
        }
    }
}

/// A figure of a model in memory: its name, its help, and where it is.
type Figure = (&'static str, &'static str, fn(&Residence) -> u64);

const FIGURES: &[Figure] = &[
    ("impetus_model_memory_bytes", "Memory that a loaded model's worker holds.", |of| of.memory_bytes),
    ("impetus_model_accounted_bytes", "What a loaded model counts with.", |of| of.accounted_bytes),
    ("impetus_requests_running", "Requests being answered.", |of| of.running.into()),
    ("impetus_requests_waiting", "Requests waiting for their first step.", |of| of.waiting.into()),
    ("impetus_kv_blocks", "Blocks of the KV cache.", |of| of.blocks_total.into()),
    ("impetus_kv_blocks_used", "Blocks of the KV cache in use.", |of| of.blocks_used.into()),
];

fn residence(text: &mut Text, models: &[ModelCard]) {
    let mut family = text.gauge("impetus_model_loaded", "Whether a model is in memory.");
    for card in models {
        family.sample(&[("model", &card.name)], u8::from(matches!(card.state, ModelState::Loaded(_))));
    }
    for (name, help, figure) in FIGURES {
        let mut family = text.gauge(name, help);
        for card in models {
            if let ModelState::Loaded(residence) = &card.state {
                family.sample(&[("model", &card.name)], figure(residence));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::measures::{RequestDurations, RequestTally};
    use protocol::status::{Machine, Memory};

    use super::*;

    fn status() -> Status {
        Status {
            version: "1".into(),
            commit: "c".into(),
            pid: 1,
            uptime_ms: 1_500,
            environment: "testing".into(),
            home: String::new(),
            socket: String::new(),
            logs: String::new(),
            bridges: vec![],
            draining: false,
            connections: 3,
            active: 2,
            default_model: None,
            models: vec![],
            memory: Memory { budget_bytes: 7, ..Memory::default() },
            machine: Machine::default(),
        }
    }

    #[test]
    fn tokens_are_summed_over_verbs_and_statuses_and_names_are_those_that_dashboards_know() {
        let tally = |status: &str, completion_tokens| RequestTally {
            verb: "generate".into(),
            model: "m".into(),
            key: "key_1".into(),
            status: status.into(),
            requests: 1,
            prompt_tokens: 5,
            completion_tokens,
        };
        let mut durations = Histogram::default();
        durations.record(2_000_000);
        let metrics = Metrics {
            models: vec![ModelMeasures { model: "m".into(), loads: 2, ..ModelMeasures::default() }],
            requests: vec![tally("cancelled", 3), tally("ok", 4)],
            durations: vec![RequestDurations {
                verb: "generate".into(),
                model: "m".into(),
                key: "key_1".into(),
                durations,
            }],
        };
        let text = render(&status(), &metrics, 9);
        for line in [
            "impetus_active_connections 9",
            "impetus_tokens_generated_total{model=\"m\",key=\"key_1\"} 7",
            "impetus_prompt_tokens_total{model=\"m\",key=\"key_1\"} 10",
            "impetus_requests_total{verb=\"generate\",model=\"m\",key=\"key_1\",status=\"ok\"} 1",
            "impetus_inference_duration_seconds_bucket{model=\"m\",key=\"key_1\",le=\"2.5\"} 1",
            "impetus_inference_duration_seconds_sum{model=\"m\",key=\"key_1\"} 2",
            "# TYPE impetus_embedding_duration_seconds histogram",
            "# TYPE impetus_rag_search_duration_seconds histogram",
            "impetus_rag_search_duration_seconds_bucket{le=\"+Inf\"} 0",
            "impetus_rag_search_duration_seconds_count 0",
            "# TYPE impetus_model_memory_bytes gauge",
            "impetus_model_loads_total{model=\"m\"} 2",
            "impetus_memory_budget_bytes 7",
            "impetus_uptime_seconds 1.5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line:?} is not in\n{text}");
        }
    }

    #[test]
    fn every_family_is_told_once_and_before_its_samples() {
        let metrics =
            Metrics { models: vec![ModelMeasures { model: "m".into(), ..Default::default() }], ..Default::default() };
        let text = render(&status(), &metrics, 0);
        let mut seen = std::collections::BTreeSet::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            assert!(seen.insert(line.split(' ').next().unwrap().to_owned()), "{line} twice");
        }
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            assert!(seen.contains(family) || seen.contains(name), "{line} has no type");
        }
    }
}
