//! The decoder against mlx-lm: every golden of `tests/data/goldens`, at both precisions.
//!
//! `tools/goldens/make_goldens.py` says what a golden holds. `Exact` must agree to the noise of f32 sums; `Fast` within the
//! drift that int8 activations and a bf16 cache cost on random weights, which forgive less than trained ones.

#![allow(clippy::unwrap_used, reason = "a test that cannot be prepared has failed")]

use std::fs;
use std::path::{Path, PathBuf};

use engine::random::{Recipe, TempFolder};
use engine::{Model, Options, Precision, Row, State, Wanted};
use safetensors::SafeTensors;
use serde_json::{Map, Value};

/// Relative L2 distance of logits that two orders of the same f32 sums may have.
const EXACT_DRIFT_MAX: f64 = 1e-5;
/// Relative L2 distance of logits that `Fast` may have.
const FAST_DRIFT_MAX: f64 = 0.04;
/// The same where a state sums up the drift of every token before: random ones of one shape drift by 4e-2 to 7e-2.
const FAST_DRIFT_MAX_OF_STATES: f64 = 0.1;
/// The same where a token takes some of many experts: of two that score nearly alike it may take the other.
const FAST_DRIFT_MAX_OF_EXPERTS: f64 = 0.3;

struct Golden {
    name: String,
    recipe: Recipe,
    fast_drift_max: f64,
    weights: String,
    prefill: usize,
    tokens: Vec<u32>,
    logits: Vec<f32>,
}

impl Golden {
    fn read(path: &Path, seed_offset: u64) -> Self {
        let bytes = fs::read(path).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = metadata.metadata().clone().unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let words = |name: &str| {
            let words = tensors.tensor(name).unwrap().data().chunks_exact(4);
            words.map(|word| <[u8; 4]>::try_from(word).unwrap()).collect::<Vec<_>>()
        };
        let config: Map<String, Value> = serde_json::from_str(&metadata["config"]).unwrap();
        let seed: u64 = metadata["seed"].parse().unwrap();
        Self {
            name: path.file_stem().unwrap().to_string_lossy().into_owned(),
            recipe: Recipe::from_config(config.clone(), seed + seed_offset),
            fast_drift_max: match &metadata["config"] {
                config if config.contains("num_experts_per_tok") => FAST_DRIFT_MAX_OF_EXPERTS,
                config if config.contains("linear_num_value_heads") => FAST_DRIFT_MAX_OF_STATES,
                _ => FAST_DRIFT_MAX,
            },
            weights: metadata["weights"].clone(),
            prefill: metadata["prefill"].parse().unwrap(),
            tokens: words("tokens").into_iter().map(u32::from_le_bytes).collect(),
            logits: words("logits").into_iter().map(f32::from_le_bytes).collect(),
        }
    }

    fn all(seed_offset: u64) -> Vec<Self> {
        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/goldens");
        let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        assert!(paths.len() >= 40, "{} goldens", paths.len());
        paths.iter().map(|path| Self::read(path, seed_offset)).collect()
    }

    fn model(&self) -> TempFolder {
        self.recipe.temporary().unwrap()
    }

    /// The logits that the engine computes for the golden's steps.
    fn computed(&self, folder: &TempFolder, precision: Precision) -> Vec<f32> {
        let options = Options { threads: 2, blocks: 8, precision, keep: precision.into() };
        self.steps(Model::open(folder.path(), &options, &mut |_, _| {}).unwrap())
    }

    fn steps(&self, mut model: Model) -> Vec<f32> {
        let (mut all, mut logits) = (Vec::new(), Vec::new());
        model.reserve_states(2).unwrap();
        let recurrent = model.facts().state_bytes > 0;
        let mut start = 0;
        for end in self.prefill..=self.tokens.len() {
            let tokens = &self.tokens[start..end];
            let row = Row { tokens, start: start as u32, blocks: &[5, 2], logits: Wanted::Last };
            let state = State { from: (start > 0).then_some(1), to: 1 };
            model
                .forward_from(&[row], if recurrent { std::slice::from_ref(&state) } else { &[] }, &mut logits)
                .unwrap();
            all.extend_from_slice(&logits);
            start = end;
        }
        all
    }

    fn drift(&self, computed: &[f32]) -> f64 {
        assert_eq!(computed.len(), self.logits.len());
        let square = |value: f64| value * value;
        let distance: f64 = computed.iter().zip(&self.logits).map(|(a, b)| square(f64::from(a - b))).sum();
        (distance / self.logits.iter().map(|b| square(f64::from(*b))).sum::<f64>()).sqrt()
    }

    /// How many steps choose the same token, and how many there are.
    fn same_choices(&self, computed: &[f32]) -> (usize, usize) {
        let vocabulary = self.logits.len() / (self.tokens.len() - self.prefill + 1);
        let best = |row: &[f32]| row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
        let pairs = computed.chunks(vocabulary).zip(self.logits.chunks(vocabulary));
        (pairs.clone().filter(|(a, b)| best(a) == best(b)).count(), pairs.count())
    }
}

/// FNV-1a.
fn fingerprint(bytes: &[u8]) -> String {
    let step = |value: u64, byte: &u8| (value ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3);
    format!("{:016x}", bytes.iter().fold(0xCBF2_9CE4_8422_2325, step))
}

#[test]
fn the_models_are_the_ones_that_the_goldens_were_made_from() {
    for golden in Golden::all(0) {
        let weights = fs::read(golden.model().path().join("model.safetensors")).unwrap();
        let advice = "run tools/goldens/make_goldens.py again if the random models were changed on purpose";
        assert_eq!(fingerprint(&weights), golden.weights, "{}: {advice}", golden.name);
    }
}

#[test]
fn exact_logits_are_those_of_mlx() {
    for golden in Golden::all(0) {
        let computed = golden.computed(&golden.model(), Precision::Exact);
        let drift = golden.drift(&computed);
        println!("{}: exact drift {drift:.1e}", golden.name);
        assert!(drift < EXACT_DRIFT_MAX, "{} drifts by {drift:.1e}", golden.name);
        let (same, steps) = golden.same_choices(&computed);
        assert_eq!(same, steps, "{} chooses other tokens", golden.name);
    }
}

#[test]
fn fast_logits_stay_near_those_of_mlx() {
    let (mut same, mut steps) = (0, 0);
    for golden in Golden::all(0) {
        let computed = golden.computed(&golden.model(), Precision::Fast);
        let drift = golden.drift(&computed);
        let (of_model, of_steps) = golden.same_choices(&computed);
        println!("{}: fast drift {drift:.1e}, {of_model} of {of_steps} choices the same", golden.name);
        assert!(drift < golden.fast_drift_max, "{} drifts by {drift:.1e}", golden.name);
        (same, steps) = (same + of_model, steps + of_steps);
    }
    assert!(same * 100 >= steps * 95, "only {same} of {steps} choices are the same");
}

/// The control: the comparison tells one model from another of the same shape.
#[test]
fn another_models_logits_are_far_from_the_golden() {
    for golden in Golden::all(100) {
        let drift = golden.drift(&golden.computed(&golden.model(), Precision::Exact));
        assert!(drift > 0.5, "{} drifts by only {drift:.1e} from another model's golden", golden.name);
    }
}

/// MLX here and MLX under mlx-lm do the same arithmetic; only tables of stretched frequencies are made elsewhere.
#[cfg(feature = "mlx")]
#[test]
fn logits_of_the_mlx_machine_are_those_of_mlx_lm_bit_for_bit() {
    let options = Options { threads: 1, blocks: 8, precision: Precision::Exact, keep: Precision::Exact.into() };
    let mut equal = Vec::new();
    for golden in Golden::all(0) {
        let folder = golden.model();
        let model = match Model::open_mlx(folder.path(), &options, &mut |_, _| {}) {
            Err(error @ engine::LoadError::Unsupported { .. }) => {
                println!("{}: {error}", golden.name);
                continue;
            }
            opened => opened.unwrap(),
        };
        let computed = golden.steps(model);
        let drift = golden.drift(&computed);
        println!("{}: drift of the MLX machine {drift:.1e}", golden.name);
        assert!(drift < EXACT_DRIFT_MAX, "{} drifts by {drift:.1e}", golden.name);
        if computed.iter().zip(&golden.logits).all(|(a, b)| a.to_bits() == b.to_bits()) {
            equal.push(golden.name);
        }
    }
    println!("bit-equal: {}", equal.join(", "));
    for name in ["llama-bf16", "llama-8bit", "qwen3-bf16", "qwen3-4bit", "qwen3-8bit", "qwen3-mixed"] {
        assert!(equal.iter().any(|equal| equal == name), "{name} is not bit-equal");
    }
}
