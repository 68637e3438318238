//! What is said over a socket, in both directions: JSON objects that say their `type`.

use axum::extract::ws::Utf8Bytes;
use protocol::measures::Measures;
use protocol::model::ModelState;
use protocol::status::Status;
use protocol::transcript::Progress;
use protocol::{Error, ErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::admin::journal::Asked;
use crate::admin::models::{Model, stage, unit};
use crate::body::strict;
use crate::error::code;

/// What clients may say, for those who said something else.
const TYPES: &str = "Say {\"type\": \"subscribe\", \"channels\": [\"metrics\", \"models\", \"downloads\", \"requests\"]}, \
    'unsubscribe' likewise, or {\"type\": \"ping\"}.";

/// What can be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// Figures, every second.
    Metrics,
    /// Models that come, go and change.
    Models,
    /// Models on their way from the hub.
    Downloads,
    /// Requests that ended, for administrators.
    Requests,
}

impl Channel {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Metrics, Self::Models, Self::Downloads, Self::Requests];

    /// Returns the channel of a name.
    pub fn named(name: &str) -> Result<Self, Error> {
        match name {
            "metrics" => Ok(Self::Metrics),
            "models" => Ok(Self::Models),
            "downloads" => Ok(Self::Downloads),
            "requests" => Ok(Self::Requests),
            _ => Err(Error::invalid("channels", format!("There is no channel '{name}'."))
                .hint("The channels are metrics, models, downloads and requests.")),
        }
    }
}

/// What a client says.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum Heard {
    /// It wants these channels too.
    Subscribe {
        /// Which.
        channels: Vec<Channel>,
    },
    /// It wants these no more.
    Unsubscribe {
        /// Which.
        channels: Vec<Channel>,
    },
    /// It wants an answer, for clients that cannot send pings of the protocol.
    Ping {},
}

impl Heard {
    /// Reads a client's message.
    pub fn read(text: &str) -> Result<Self, Error> {
        let asked = serde_json::from_str::<Map<String, Value>>(text).and_then(|asked| strict::read(&asked.into()));
        asked.map_err(|error| {
            Error::new(ErrorKind::Invalid, format!("The message cannot be read: {error}.")).hint(TYPES)
        })
    }
}

/// What a client is told.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Said {
    /// Who is there; always the first message.
    Hello(Hello),
    /// What the client watches now.
    Subscribed {
        /// All of it.
        channels: Vec<Channel>,
    },
    /// All models as they are: after a subscription, and whenever changes were lost.
    Models {
        /// By name.
        data: Vec<Model>,
    },
    /// A model became known or changed.
    Model {
        /// As it is now.
        model: Model,
    },
    /// A model was forgotten.
    Forgotten {
        /// Its name.
        model: String,
    },
    /// How far a model is on its way into memory.
    Loading(Far),
    /// How far a model is on its way from the hub.
    Download(Far),
    /// A download ended.
    Downloaded {
        /// `ORG/NAME`.
        subject: String,
        /// Why it failed, if it did.
        error: Option<Fault>,
    },
    /// A request ended.
    Request {
        /// What was asked, without what was said.
        request: Asked,
    },
    /// Figures.
    Metrics(Figures),
    /// Something that happened was lost: look at the whole again.
    Missed,
    /// The answer to a ping.
    Pong,
    /// Something went wrong; the socket stays open.
    Error {
        /// What.
        error: Fault,
    },
}

/// What went wrong, with the codes of every other refusal.
#[derive(Debug, Serialize)]
pub struct Fault {
    code: &'static str,
    message: String,
    param: Option<String>,
    hint: Option<String>,
}

/// Who is there.
#[derive(Debug, Serialize)]
pub struct Hello {
    /// The daemon's version; null while it cannot be reached.
    pub version: Option<String>,
    /// The id of the key that watches.
    pub key: String,
    /// What it may watch.
    pub channels: Vec<Channel>,
}

/// How far slow work has come.
#[derive(Debug, Serialize)]
pub struct Far {
    status: &'static str,
    /// What it is done to.
    subject: String,
    completed: u64,
    total: Option<u64>,
    unit: &'static str,
}

/// Figures of the whole service. Totals only grow; subtract two messages for a rate.
#[derive(Debug, Serialize)]
pub struct Figures {
    uptime_ms: u64,
    /// WebSocket connections of this bridge.
    active_connections: usize,
    /// Pieces of long work going on.
    active_requests: u32,
    memory: Memory,
    /// The models in memory.
    models: Vec<ModelFigures>,
}

/// Memory, in bytes.
#[derive(Debug, Serialize)]
struct Memory {
    total_bytes: u64,
    available_bytes: u64,
    budget_bytes: u64,
    accounted_bytes: u64,
    daemon_bytes: u64,
}

/// Figures of one model.
#[derive(Debug, Serialize)]
struct ModelFigures {
    model: String,
    running: u32,
    waiting: u32,
    memory_bytes: u64,
    blocks_used: u32,
    blocks_total: u32,
    requests_total: u64,
    tokens_total: u64,
    prompt_tokens_total: u64,
    cached_tokens_total: u64,
    steps_total: u64,
    /// Sequences in all steps together.
    sequences_total: u64,
    /// In milliseconds, since its worker started: half of all requests took no longer, and 95 of 100.
    queue: Spread,
    first_token: Spread,
    inter_token: Spread,
}

/// Upper bounds of durations in milliseconds; null where nothing was measured.
#[derive(Debug, Serialize)]
struct Spread {
    p50_ms: Option<f64>,
    p95_ms: Option<f64>,
}

impl Said {
    /// Says an error.
    pub fn error(error: &Error) -> Self {
        Self::Error { error: Fault::from(error) }
    }

    /// Returns the message's text.
    pub fn text(&self) -> Utf8Bytes {
        let json = serde_json::to_string(self).expect("message types have string keys and no failing serialisers");
        json.into()
    }
}

impl From<&Error> for Fault {
    fn from(error: &Error) -> Self {
        let Error { kind, message, param, hint, .. } = error.clone();
        Self { code: code(kind), message, param, hint }
    }
}

impl From<Progress> for Far {
    fn from(progress: Progress) -> Self {
        Self {
            status: stage(progress.stage),
            subject: progress.subject,
            completed: progress.done,
            total: progress.total,
            unit: unit(progress.unit),
        }
    }
}

impl Figures {
    /// Makes figures of a status; `sockets` is how many are open here.
    pub fn new(status: Status, sockets: usize) -> Self {
        let memory = status.memory;
        let figures = |card: protocol::model::ModelCard| {
            let ModelState::Loaded(residence) = card.state else { return None };
            let Measures { requests, tokens, prompt_tokens, cached_tokens, steps, rows, .. } = residence.measures;
            Some(ModelFigures {
                model: card.name,
                running: residence.running,
                waiting: residence.waiting,
                memory_bytes: residence.memory_bytes,
                blocks_used: residence.blocks_used,
                blocks_total: residence.blocks_total,
                requests_total: requests,
                tokens_total: tokens,
                prompt_tokens_total: prompt_tokens,
                cached_tokens_total: cached_tokens,
                steps_total: steps,
                sequences_total: rows,
                queue: Spread::of(&residence.measures.queue),
                first_token: Spread::of(&residence.measures.first_token),
                inter_token: Spread::of(&residence.measures.gap),
            })
        };
        Self {
            uptime_ms: status.uptime_ms,
            active_connections: sockets,
            active_requests: status.active,
            memory: Memory {
                total_bytes: memory.total_bytes,
                available_bytes: memory.available_bytes,
                budget_bytes: memory.budget_bytes,
                accounted_bytes: memory.models_bytes,
                daemon_bytes: memory.daemon_bytes,
            },
            models: status.models.into_iter().filter_map(figures).collect(),
        }
    }
}

impl Spread {
    fn of(histogram: &protocol::measures::Histogram) -> Self {
        let ms = |percent| histogram.quantile_us(percent).filter(|_| histogram.count() > 0).map(|us| us as f64 / 1e3);
        Self { p50_ms: ms(50), p95_ms: ms(95) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_clients_say_is_read_strictly() {
        let read = |value: Value| serde_json::from_value::<Heard>(value);
        let subscribe = read(json!({"type": "subscribe", "channels": ["models", "metrics"]})).unwrap();
        assert_eq!(subscribe, Heard::Subscribe { channels: vec![Channel::Models, Channel::Metrics] });
        assert_eq!(read(json!({"type": "ping"})).unwrap(), Heard::Ping {});
        for odd in [
            json!({"type": "shout"}),
            json!({"type": "subscribe"}),
            json!({"type": "subscribe", "channels": ["weather"]}),
            json!({"type": "ping", "colour": "red"}),
            json!([]),
        ] {
            assert!(read(odd.clone()).is_err(), "{odd}");
        }
    }

    #[test]
    fn every_message_says_its_type() {
        let text = |said: Said| serde_json::from_str::<Value>(said.text().as_str()).unwrap();
        assert_eq!(text(Said::Pong), json!({"type": "pong"}));
        let subscribed = text(Said::Subscribed { channels: vec![Channel::Downloads] });
        assert_eq!(subscribed, json!({"type": "subscribed", "channels": ["downloads"]}));
        let error = text(Said::error(&Error::invalid("channels", "No.")));
        assert_eq!((&error["type"], &error["error"]["param"]), (&json!("error"), &json!("channels")));
    }
}
