//! What to do with a model that has just come: `models add`, `models import` and `pull` end with it.

use protocol::Result;
use protocol::client::Client;
use protocol::model::Capabilities;

/// Says that the model of a name is ready, and how it is asked.
pub async fn say(client: &Client, name: &str) -> Result<String> {
    let card = client.models().await?.into_iter().find(|card| card.name == name);
    Ok(ask(name, card.map(|card| card.facts.capabilities).unwrap_or_default()))
}

/// Says that a model is ready, and how it is asked for what it can do.
pub fn ask(name: &str, can: Capabilities) -> String {
    if can.rerank {
        format!("{name} is ready: POST /v1/rerank {{\"model\": \"{name}\", …}}")
    } else if can.embed {
        format!("{name} is ready: impetusctl embed --model {name} TEXT")
    } else {
        format!("{name} is ready: impetusctl run --model {name} PROMPT")
    }
}
