//! `/api/memory` and `/api/hardware/info`: what the machine has, and how the budget of the models adds up.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use protocol::model::ModelState;
use protocol::status::Status;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::Bridge;
use crate::body::no_query;
use crate::error::HttpError;
use crate::openapi::{Operation, Routes};

/// Returns the routes of this module.
pub fn routes() -> Routes {
    let memory = Operation::new("Show memory, and how the budget of the models adds up")
        .gives::<Memory>("Memory, with the budget's arithmetic.");
    let hardware = Operation::new("Show the machine").gives::<Hardware>("The machine.");
    Routes::new("Machine").get("/api/memory", self::memory, memory).get("/api/hardware/info", self::hardware, hardware)
}

/// Memory, in billions of bytes, and the budget's arithmetic in bytes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MachineMemory)]
pub struct Memory {
    object: &'static str,
    /// What the machine has.
    total_gb: f64,
    /// What it could give now.
    available_gb: f64,
    /// What each model in memory counts with against the budget.
    models_loaded: BTreeMap<String, f64>,
    /// What models may take in all.
    budget_gb: f64,
    /// What they may still take.
    free_gb: f64,
    budget: Budget,
}

/// `budget_bytes` = the `accounted_bytes` of all `models` + `other_bytes` + `free_bytes`, unless models take more than
/// they may: then `free_bytes` is 0.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MemoryBudget)]
pub struct Budget {
    total_bytes: u64,
    available_bytes: u64,
    budget_bytes: u64,
    models: Vec<Share>,
    /// What models count with that are on their way in or out, or that this key does not see.
    other_bytes: u64,
    free_bytes: u64,
    /// What the daemon itself holds, outside the budget.
    daemon_bytes: u64,
}

/// One model's share: `accounted_bytes` = weights + KV cache + the rest.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MemoryShare)]
pub struct Share {
    model: String,
    weights_bytes: u64,
    kv_bytes: u64,
    overhead_bytes: u64,
    accounted_bytes: u64,
    /// What its worker really holds now.
    resident_bytes: u64,
    pinned: bool,
}

/// The machine.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Hardware)]
pub struct Hardware {
    object: &'static str,
    os: String,
    arch: String,
    cpu: String,
    /// Cores that Impetus may use.
    cores: u32,
    /// How many of them are fast, where the system tells.
    performance_cores: Option<u32>,
    /// What the vector units can do.
    features: Vec<String>,
    /// A GPU that Impetus can use, if there is one.
    gpu: Option<String>,
    memory_gb: f64,
    memory_bytes: u64,
    /// On what each model in memory computes.
    devices: BTreeMap<String, String>,
}

/// Says how memory is.
async fn memory(State(bridge): State<Arc<Bridge>>, uri: Uri) -> Result<Json<Memory>, HttpError> {
    no_query(&uri)?;
    Ok(Json(Memory::from(bridge.daemon.client().await?.status().await?)))
}

/// Says what the machine is.
async fn hardware(State(bridge): State<Arc<Bridge>>, uri: Uri) -> Result<Json<Hardware>, HttpError> {
    no_query(&uri)?;
    Ok(Json(Hardware::from(bridge.daemon.client().await?.status().await?)))
}

impl From<Status> for Memory {
    fn from(status: Status) -> Self {
        let memory = status.memory;
        let share = |card: &protocol::model::ModelCard| {
            let ModelState::Loaded(residence) = &card.state else { return None };
            let (weights, kv) = (card.facts.weights_in_memory(), residence.kv_bytes);
            Some(Share {
                model: card.name.clone(),
                weights_bytes: weights,
                kv_bytes: kv,
                overhead_bytes: residence.accounted_bytes.saturating_sub(weights.saturating_add(kv)),
                accounted_bytes: residence.accounted_bytes,
                resident_bytes: residence.memory_bytes,
                pinned: card.pinned,
            })
        };
        let models: Vec<Share> = status.models.iter().filter_map(share).collect();
        let seen: u64 = models.iter().map(|share| share.accounted_bytes).sum();
        let free_bytes = memory.budget_bytes.saturating_sub(memory.models_bytes);
        Self {
            object: "memory",
            total_gb: gigabytes(memory.total_bytes),
            available_gb: gigabytes(memory.available_bytes),
            models_loaded: models.iter().map(|s| (s.model.clone(), gigabytes(s.accounted_bytes))).collect(),
            budget_gb: gigabytes(memory.budget_bytes),
            free_gb: gigabytes(free_bytes),
            budget: Budget {
                total_bytes: memory.total_bytes,
                available_bytes: memory.available_bytes,
                budget_bytes: memory.budget_bytes,
                models,
                other_bytes: memory.models_bytes.saturating_sub(seen),
                free_bytes,
                daemon_bytes: memory.daemon_bytes,
            },
        }
    }
}

impl From<Status> for Hardware {
    fn from(status: Status) -> Self {
        let machine = status.machine;
        let device = |card: protocol::model::ModelCard| match card.state {
            ModelState::Loaded(residence) => Some((card.name, residence.device)),
            _ => None,
        };
        Self {
            object: "hardware",
            os: machine.os,
            arch: machine.arch,
            cpu: machine.cpu,
            cores: machine.cores,
            performance_cores: machine.performance_cores,
            features: machine.features,
            gpu: machine.gpu,
            memory_gb: gigabytes(status.memory.total_bytes),
            memory_bytes: status.memory.total_bytes,
            devices: status.models.into_iter().filter_map(device).collect(),
        }
    }
}

/// Billions of bytes, to the million.
fn gigabytes(bytes: u64) -> f64 {
    (bytes as f64 / 1e6).round() / 1e3
}
