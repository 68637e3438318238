//! This house on the same work: the engine in this process, and the daemon with its worker where a service is started.

use std::collections::BTreeMap;
use std::time::Instant;

use engine::encoder::Text;
use engine::native::{BLOCK_TOKENS, KvCache};
use engine::random::{Recipe, TempFolder};
use engine::{Encoder, Keep, Precision};
use protocol::client::Client;
use protocol::model::{AddRequest, LoadRequest, ModelState};
use tests::house::{House, Plan};

use super::llama::resident;
use super::{Line, STEPS, Work, letters, median};
use crate::shape::{Shape, recipe, threads};

/// The name of the model in the daemon.
pub const NAME: &str = "shape";

/// Models that rows have asked for so far, by width and what they keep, and a house that knows the 4-bit one.
#[derive(Default)]
pub struct Ours {
    shapes: Vec<((u32, Keep), Shape)>,
    encoders: BTreeMap<u32, Encoder>,
    house: Option<(House, TempFolder)>,
}

impl Ours {
    /// Measures one row.
    pub async fn measure(&mut self, line: &Line) -> f64 {
        let rate = |count: u32, seconds: Vec<f64>| f64::from(count * STEPS) / seconds.into_iter().sum::<f64>();
        match line.work {
            Work::Prefill { tokens } => f64::from(tokens) / self.shape(line).prefill(0, tokens),
            Work::Decode { context } => rate(1, self.shape(line).decode(1, context, STEPS)),
            Work::Streams { count } => rate(count, self.shape(line).decode(count, 128, STEPS)),
            Work::Embed { tokens } => self.embed(line.bits, tokens),
            Work::Ready => self.serve().await.0,
            Work::Memory => self.serve().await.1,
        }
    }

    /// Bytes that one token of a row must read at least: the weights, and the keys and values of the context.
    pub fn bytes(&self, line: &Line) -> Option<f64> {
        let Work::Decode { context } = line.work else { return None };
        let weights = 596_049_920.0 * (f64::from(line.bits) + 0.5) / 8.0;
        let token = KvCache::block_bytes(28, 8, 128, line.keep) as f64 / BLOCK_TOKENS as f64;
        Some(weights + f64::from(context + STEPS / 2) * token)
    }

    fn shape(&mut self, line: &Line) -> &mut Shape {
        let known = self.shapes.iter().position(|(key, _)| *key == (line.bits, line.keep));
        let at = known.unwrap_or_else(|| {
            let mut shape = Shape::open(&recipe(line.bits).temporary().unwrap(), line.keep);
            // As the peer warms up before it measures.
            shape.prefill(0, 512);
            self.shapes.push(((line.bits, line.keep), shape));
            self.shapes.len() - 1
        });
        &mut self.shapes[at].1
    }

    /// One text, the median of a few: tokens per second.
    fn embed(&mut self, bits: u32, tokens: u32) -> f64 {
        let load = || {
            let recipe = Recipe::nomic_137m(1);
            let recipe = if bits < 16 { recipe.quantized(bits, 64) } else { recipe };
            Encoder::open(recipe.temporary().unwrap().path(), threads(), Precision::Fast, &mut |_, _| {}).unwrap()
        };
        let encoder = self.encoders.entry(bits).or_insert_with(load);
        let text: Vec<u32> = (0..tokens).map(|at| 1000 + at * 7 % 20_000).collect();
        let mut rate = || {
            let start = Instant::now();
            encoder.encode(&[Text { tokens: &text, segments: &[] }], &mut || {}, &mut Vec::new()).unwrap();
            f64::from(tokens) / start.elapsed().as_secs_f64()
        };
        // As the peer warms up before it measures.
        rate();
        median(&[rate(), rate(), rate()])
    }

    /// Starts the daemon and has the model loaded: seconds, and megabytes of daemon and worker then.
    async fn serve(&mut self) -> (f64, f64) {
        if self.house.is_none() {
            self.house = Some(settle("").await);
        }
        let house = &mut self.house.as_mut().unwrap().0;
        house.kill_daemon();
        let start = Instant::now();
        house.restart_daemon();
        let client = house.client().await;
        load(&client).await;
        let seconds = start.elapsed().as_secs_f64();
        let card = client.models().await.unwrap().into_iter().find(|card| card.name == NAME).unwrap();
        let ModelState::Loaded(residence) = card.state else { panic!("the model is not loaded") };
        let kilobytes = resident(house.daemon_pid()) + resident(residence.pid);
        (seconds, f64::from(kilobytes) / 1e3)
    }
}

/// A house that knows the model, whose tokenizer is as large as the peer's.
pub async fn settle(config: &str) -> (House, TempFolder) {
    let folder = recipe(4).endless().temporary().unwrap();
    letters::write_tokenizer(folder.path()).unwrap();
    let house = House::with(Plan { config: config.to_owned(), ..Plan::default() });
    let client = house.client().await;
    let path = folder.path().to_string_lossy().into_owned();
    client.add(AddRequest { path, name: Some(NAME.to_owned()) }).await.unwrap();
    (house, folder)
}

async fn load(client: &Client) {
    let id = client.load(LoadRequest { model: NAME.to_owned(), pin: None, keep_alive_ms: None }).await.unwrap();
    tests::answer::whole(client.events(id), 1).await.unwrap();
}
