//! The bundled model as its users meet it: installed, asked, and answering in words that end by themselves.

#![allow(clippy::unwrap_used, reason = "a test that cannot be prepared has failed")]

use engine::random::TempFolder;
use engine::text::{Compiled, Conversation, Detokenizer, GenerationDefaults, Special, Start, Template, Tokenizer};
use engine::{Model, Options, Precision, Row, Wanted, bundled};
use serde_json::{Map, json};

const BLOCKS: [u32; 8] = [0, 1, 2, 3, 4, 5, 6, 7];

struct Nano {
    tokenizer: Tokenizer,
    template: Compiled,
    ends: Vec<u32>,
    model: Model,
}

impl Nano {
    fn open(precision: Precision) -> Self {
        let home = TempFolder::new().unwrap();
        let path = bundled::install(home.path()).unwrap().remove(0).path;
        let tokenizer = Tokenizer::open(&path).unwrap();
        let template = Template::open(&path).unwrap().expect("the bundled model has a chat template");
        let ends = GenerationDefaults::open(&path, &tokenizer, Some(&template)).unwrap().eos;
        let template = template.compile().unwrap();
        let options = Options { threads: 2, blocks: BLOCKS.len() as u32, precision, keep: precision.into() };
        let model = Model::open(&path, &options, &mut |_, _| {}).unwrap();
        Self { tokenizer, template, ends, model }
    }

    fn prompt(&self, question: &str) -> Vec<u32> {
        let conversation = Conversation {
            messages: &json!([{ "role": "user", "content": question }]),
            tools: None,
            add_generation_prompt: true,
            continue_final_message: false,
            arguments: &Map::new(),
            now_unix_ms: 0,
        };
        self.tokenizer.encode(&self.template.render(&conversation).unwrap(), Special::Parse).unwrap()
    }

    /// The logits after tokens that begin at a position.
    fn logits(&mut self, tokens: &[u32], start: usize) -> Vec<f32> {
        let mut logits = Vec::new();
        let row = Row { tokens, start: start as u32, blocks: &BLOCKS, logits: Wanted::Last };
        self.model.forward(&[row], &mut logits).unwrap();
        logits
    }

    /// The greedy answer, and whether the model ended it.
    fn answer(&mut self, question: &str) -> (String, bool) {
        let mut tokens = self.prompt(question);
        let (mut detokenizer, mut text) = (Detokenizer::new(&self.tokenizer, Start::Text), String::new());
        let mut start = 0;
        while tokens.len() < BLOCKS.len() * 32 {
            let logits = self.logits(&tokens[start..], start);
            start = tokens.len();
            let best = best(&logits);
            if self.ends.contains(&best) {
                return (text + &detokenizer.finish(), true);
            }
            text += &detokenizer.push(best);
            tokens.push(best);
        }
        (text, false)
    }
}

fn best(logits: &[f32]) -> u32 {
    logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(index, _)| index as u32)
}

#[test]
fn the_bundled_model_answers_the_first_question_and_ends_its_turn() {
    for precision in [Precision::Fast, Precision::Exact] {
        let (answer, ended) = Nano::open(precision).answer("What is Impetus?");
        println!("{precision:?}: {answer}");
        assert!(ended, "{precision:?} does not end: {answer}");
        assert!(answer.contains("Impetus") && answer.ends_with('.'), "{precision:?} answers: {answer}");
    }
}

/// On trained weights, `Fast` is far nearer to `Exact` than on random ones, and chooses the same tokens.
#[test]
fn the_fast_path_chooses_as_the_exact_one_does() {
    let (mut fast, mut exact) = (Nano::open(Precision::Fast), Nano::open(Precision::Exact));
    let (mut same, mut drifts) = (0, Vec::new());
    let mut tokens = exact.prompt("What is Impetus?");
    let mut start = 0;
    for _ in 0..40 {
        let (ours, reference) = (fast.logits(&tokens[start..], start), exact.logits(&tokens[start..], start));
        start = tokens.len();
        let norm =
            |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
        drifts.push(norm(&mut ours.iter().zip(&reference).map(|(a, b)| a - b)) / norm(&mut reference.iter().copied()));
        same += usize::from(best(&ours) == best(&reference));
        tokens.push(best(&reference));
    }
    let mean = drifts.iter().sum::<f64>() / drifts.len() as f64;
    println!("mean drift {mean:.1e}, {same} of {} choices the same", drifts.len());
    assert!(mean < 0.02 && same * 100 >= drifts.len() * 95, "mean drift {mean:.1e}, {same} choices the same");
}
