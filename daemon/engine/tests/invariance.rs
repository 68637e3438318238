//! The law of the engine: a row's logits are the same, bit for bit, alone or in a batch, whole or in chunks, on any blocks
//! and any number of threads; for every architecture, way of storing weights and precision.

#![allow(clippy::unwrap_used, reason = "a test that cannot be prepared has failed")]

use engine::random::{Recipe, TempFolder};
use engine::{Keep, Model, Options, Precision, Row, State, Wanted};
use serde_json::json;

const VOCABULARY: u32 = engine::random::TOKENS;

/// How numbers are kept: activations, and keys and values.
type Kept = (Precision, Keep);
const KEPT: [Kept; 3] = [(Precision::Fast, Keep::Bf16), (Precision::Exact, Keep::F32), (Precision::Fast, Keep::Int8)];

/// Every architecture in 4 bits, some in every format, and one whose layers slide.
fn recipes() -> Vec<(String, Recipe)> {
    let mut recipes = Vec::new();
    for architecture in ["llama", "mistral", "qwen2", "qwen3"] {
        let tiny = Recipe::tiny(architecture, 5);
        recipes.push((format!("{architecture} 4-bit"), tiny.clone().quantized(4, 32)));
        recipes.push((format!("{architecture} 8-bit"), tiny.clone().quantized(8, 64)));
        recipes.push((format!("{architecture} bf16"), tiny));
    }
    for architecture in [
        "cohere",
        "cohere2",
        "deci",
        "deepseek_v2",
        "deepseek_v3",
        "gemma2",
        "gemma3_text",
        "glm",
        "glm4",
        "glm4_moe",
        "glm4_moe_lite",
        "granite",
        "granitemoehybrid",
        "ministral3",
        "mixtral",
        "nemotron-nas",
        "olmo2",
        "olmo3",
        "phi3",
        "qwen2_moe",
        "qwen3_5",
        "qwen3_5_moe",
        "qwen3_moe",
        "qwen3_next",
        "smollm3",
    ] {
        recipes.push((architecture.to_string(), Recipe::tiny(architecture, 5).quantized(4, 32)));
    }
    for (architecture, text) in [("gemma3", "gemma3_text"), ("mistral3", "ministral3")] {
        let recipe = Recipe::tiny(architecture, 5).set("text_config", Recipe::tiny(text, 5).config());
        recipes.push((architecture.to_string(), recipe.quantized(4, 32)));
    }
    let mxfp4 = json!({ "bits": 4, "group_size": 32, "mode": "mxfp4" });
    recipes.push(("gpt_oss".to_string(), Recipe::tiny("gpt_oss", 5).set("quantization", mxfp4)));
    recipes.push(("llama 3-bit".to_string(), Recipe::tiny("llama", 5).quantized(3, 64)));
    let normed = Recipe::tiny("cohere", 5).set("use_qk_norm", true);
    recipes.push(("cohere with norms of its heads".to_string(), normed.quantized(4, 32)));
    let types = json!(["sliding_attention", "full_attention"]);
    recipes.push(("sliding".to_string(), Recipe::tiny("llama", 6).set("layer_types", types).set("sliding_window", 9)));
    recipes
}

fn open(folder: &TempFolder, (precision, keep): Kept, threads: usize) -> Model {
    let options = Options { threads, blocks: 16, precision, keep };
    let mut model = Model::open(folder.path(), &options, &mut |_, _| {}).unwrap();
    model.reserve_states(16).unwrap();
    model
}

/// Computes a step. Where a model keeps states, a sequence's lies in the state of its first block's number.
fn forward(model: &mut Model, rows: &[Row<'_>], logits: &mut Vec<f32>) {
    let state = |row: &Row<'_>| State { from: (row.start > 0).then_some(row.blocks[0]), to: row.blocks[0] };
    let states: Vec<State> = rows.iter().map(state).collect();
    let recurrent = model.facts().state_bytes > 0;
    model.forward_from(rows, if recurrent { &states } else { &[] }, logits).unwrap();
}

/// A made-up prompt.
fn prompt(length: u32, seed: u32) -> Vec<u32> {
    (0..length).map(|index| (index * index * 7 + index * 31 + seed * 101) % VOCABULARY).collect()
}

/// One step of rows that all want logits, given as tokens, start and blocks.
fn step(model: &mut Model, rows: &[(&[u32], u32, &[u32])]) -> Vec<Vec<f32>> {
    let rows: Vec<Row<'_>> =
        rows.iter().map(|&(tokens, start, blocks)| Row { tokens, start, blocks, logits: Wanted::Last }).collect();
    let mut logits = Vec::new();
    forward(model, &rows, &mut logits);
    logits.chunks(VOCABULARY as usize).map(<[f32]>::to_vec).collect()
}

#[track_caller]
fn assert_same(left: &[f32], right: &[f32], what: &str) {
    assert!(left.iter().all(|value| value.is_finite()), "{what}: not finite");
    assert!(left.iter().any(|value| *value != left[0]), "{what}: all the same");
    let differing = left.iter().zip(right).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
    assert_eq!((differing, left.len()), (0, right.len()), "{what}: logits differ");
}

/// Calls `check` with every model's name, folder and precision.
fn for_each(check: impl Fn(&str, &TempFolder, Kept)) {
    for (name, recipe) in recipes() {
        let folder = recipe.temporary().unwrap();
        for kept in KEPT {
            check(&format!("{name}, {kept:?}"), &folder, kept);
        }
    }
}

#[test]
fn a_batch_computes_what_each_row_computes_alone() {
    for_each(|name, folder, kept| {
        let prompts = [prompt(70, 1), prompt(5, 2), prompt(33, 3)];
        let blocks: [&[u32]; 3] = [&[0, 9, 4], &[1], &[7, 2]];
        let mut batched = open(folder, kept, 2);
        let rows: Vec<_> = prompts.iter().zip(blocks).map(|(prompt, blocks)| (&prompt[..], 0, blocks)).collect();
        let prefilled = step(&mut batched, &rows);
        let rows: Vec<_> =
            prompts.iter().zip(blocks).map(|(prompt, blocks)| (&[11u32][..], prompt.len() as u32, blocks)).collect();
        let decoded = step(&mut batched, &rows);
        for (index, prompt) in prompts.iter().enumerate() {
            let mut alone = open(folder, kept, 2);
            let whole = step(&mut alone, &[(prompt, 0, &[3, 2, 1])]);
            assert_same(&whole[0], &prefilled[index], &format!("{name}, row {index}, prefill"));
            let next = step(&mut alone, &[(&[11], prompt.len() as u32, &[3, 2, 1])]);
            assert_same(&next[0], &decoded[index], &format!("{name}, row {index}, decode"));
        }
    });
}

#[test]
fn a_prompt_in_chunks_computes_what_it_computes_whole() {
    for_each(|name, folder, kept| {
        let (prompt, other) = (prompt(70, 1), prompt(40, 2));
        let mut whole = open(folder, kept, 2);
        let expected = step(&mut whole, &[(&prompt, 0, &[0, 1, 2])]);
        for chunks in [&[1, 31, 1, 37][..], &[32, 32, 6], &[69, 1], &[13; 6]] {
            let mut model = open(folder, kept, 2);
            let (mut start, mut last) = (0, Vec::new());
            for (index, chunk) in chunks.iter().enumerate() {
                let end = prompt.len().min(start + chunk);
                // Another sequence decodes in the same steps.
                let token = &other[index..=index];
                last = step(
                    &mut model,
                    &[(token, index as u32, &[9, 8]), (&prompt[start..end], start as u32, &[5, 3, 4])],
                );
                start = end;
            }
            assert_same(&expected[0], &last[1], &format!("{name}, chunks {chunks:?}"));
        }
    });
}

#[test]
fn the_number_of_threads_changes_nothing() {
    for_each(|name, folder, kept| {
        let prompt = prompt(50, 4);
        let expected = step(&mut open(folder, kept, 1), &[(&prompt, 0, &[0, 1])]);
        for threads in [2, 3] {
            let computed = step(&mut open(folder, kept, threads), &[(&prompt, 0, &[0, 1])]);
            assert_same(&expected[0], &computed[0], &format!("{name}, {threads} threads"));
        }
    });
}

#[test]
fn blocks_that_another_sequence_used_leave_no_trace() {
    for_each(|name, folder, kept| {
        let (first, second) = (prompt(64, 1), prompt(20, 2));
        let mut used = open(folder, kept, 2);
        step(&mut used, &[(&first, 0, &[0, 1])]);
        let after = step(&mut used, &[(&second, 0, &[1])]);
        let fresh = step(&mut open(folder, kept, 2), &[(&second, 0, &[1])]);
        assert_same(&fresh[0], &after[0], name);
    });
}

/// The control: the comparison sees a change of one token.
#[test]
fn one_other_token_changes_the_logits() {
    for_each(|name, folder, kept| {
        let mut changed = prompt(20, 1);
        let mut model = open(folder, kept, 2);
        let before = step(&mut model, &[(&changed, 0, &[0])]);
        changed[15] += 1;
        assert_ne!(before, step(&mut model, &[(&changed, 0, &[0])]), "{name}");
    });
}

#[test]
fn wrong_guesses_leave_nothing_behind() {
    for_each(|name, folder, kept| {
        // A state that has seen a wrong guess is thrown away; the next test is about that.
        if open(folder, kept, 1).facts().state_bytes > 0 {
            return;
        }
        // The answer, one token at a time.
        let mut plain = open(folder, kept, 1);
        let answer = prompt(8, 9);
        let mut wanted = step(&mut plain, &[(&prompt(30, 1), 0, &[0, 1])]);
        for (index, token) in answer.iter().enumerate() {
            wanted.extend(step(&mut plain, &[(&[*token], 30 + index as u32, &[0, 1])]));
        }
        // The same with guesses of which only the first is right, over the end of a block, beside another row.
        let mut guessing = open(folder, kept, 2);
        let mut got = step(&mut guessing, &[(&prompt(30, 1), 0, &[3, 7]), (&prompt(40, 5), 0, &[4, 5])]).remove(0);
        for at in (0..answer.len()).step_by(2) {
            assert_same(&wanted[at], &got, &format!("{name}, before guess {at}"));
            let tokens = [answer[at], answer[at + 1], 3, 250];
            let row = Row { tokens: &tokens, start: 30 + at as u32, blocks: &[3, 7], logits: Wanted::Tail(4) };
            let mut logits = Vec::new();
            guessing.forward(&[row], &mut logits).unwrap();
            let (first, others) = logits.split_at(VOCABULARY as usize);
            assert_same(&wanted[at + 1], first, &format!("{name}, guess {at}"));
            got = others[..VOCABULARY as usize].to_vec();
        }
        assert_same(&wanted[answer.len()], &got, &format!("{name}, at the end"));
    });
}

/// A guess goes to another state than the sequence's own; where only a part of it was right, the right part is computed
/// again from there.
#[test]
fn a_state_that_was_kept_goes_on_as_if_there_had_been_no_guess() {
    for_each(|name, folder, kept| {
        let mut model = open(folder, kept, 2);
        if model.facts().state_bytes == 0 {
            return;
        }
        let (first, right) = (prompt(30, 1), [5, 9, 7]);
        let mut compute = |tokens: &[u32], start: u32, from: Option<u32>, to: u32| {
            let (mut logits, blocks) = (Vec::new(), [0, 1]);
            let row = Row { tokens, start, blocks: &blocks, logits: Wanted::Last };
            model.forward_from(&[row], &[State { from, to }], &mut logits).unwrap();
            logits
        };
        compute(&first, 0, None, 3);
        let expected = compute(&right, 30, Some(3), 4);
        compute(&[5, 9, 200, 201], 30, Some(3), 5);
        assert_same(&expected, &compute(&right, 30, Some(3), 3), name);
    });
}

#[test]
fn a_step_that_was_left_before_its_end_is_computed_anew_as_if_it_had_not_been_begun() {
    for_each(|name, folder, kept| {
        let (first, rest) = (prompt(40, 1), prompt(25, 2));
        let compute = |model: &mut Model, tokens: &[u32], start: u32, (from, to): (Option<u32>, u32), layers: u32| {
            let (mut logits, mut asked) = (Vec::new(), 0);
            let row = Row { tokens, start, blocks: &[4, 2, 7], logits: Wanted::Last };
            let states = if model.facts().state_bytes > 0 { &[State { from, to }][..] } else { &[] };
            let mut go_on = || {
                asked += 1;
                asked <= layers
            };
            model.forward_while(&[row], states, &mut logits, &mut go_on).unwrap().then_some(logits)
        };
        let (mut plain, mut left) = (open(folder, kept, 2), open(folder, kept, 2));
        for model in [&mut plain, &mut left] {
            compute(model, &first, 0, (None, 1), u32::MAX).unwrap();
        }
        let expected = compute(&mut plain, &rest, 40, (Some(1), 3), u32::MAX).unwrap();
        let computed = (0..).find_map(|layers| compute(&mut left, &rest, 40, (Some(1), 3), layers)).unwrap();
        assert_same(&expected, &computed, name);
        assert_eq!(compute(&mut left, &rest, 40, (Some(1), 3), 1), None, "{name}: it has more layers than one");
    });
}

#[test]
fn a_copied_block_is_as_good_as_the_original() {
    for_each(|name, folder, kept| {
        let mut model = open(folder, kept, 1);
        // Where a model keeps states, the first of two steps would change the second's.
        if model.facts().state_bytes > 0 {
            return;
        }
        step(&mut model, &[(&prompt(50, 1), 0, &[2, 6])]);
        model.copy_block(6, 11);
        let left = step(&mut model, &[(&[7, 8], 50, &[2, 6])]);
        let right = step(&mut model, &[(&[7, 8], 50, &[2, 11])]);
        assert_same(&left[0], &right[0], name);
    });
}
