//! What a long prompt costs: ten times the text takes ten times the memory traffic, not more.
//!
//! Time is for benches. What is counted here is what the text side asks of the allocator: a step that copies what it has so
//! far, which is how such code turns quadratic, shows at once.

#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use engine::random::{Recipe, sentencepiece};
use engine::text::{Conversation, Special, Template, Tokenizer};
use serde_json::{Map, Value, json};

/// The system's allocator, counting the bytes that this thread asks for.
struct Counting;

thread_local! {
    static BYTES: Cell<u64> = const { Cell::new(0) };
}

#[allow(unsafe_code)]
// SAFETY: every call goes to the system's allocator as it came; counting touches nothing that it gives.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count(bytes);
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(bytes: usize) {
    // A thread that is ending has no counter any more.
    let _ = BYTES.try_with(|counted| counted.set(counted.get() + bytes as u64));
}

fn asked(work: impl FnOnce()) -> u64 {
    let before = BYTES.get();
    work();
    BYTES.get() - before
}

/// Checks that ten times the size asks for about ten times the bytes.
#[track_caller]
fn linear(what: &str, mut work: impl FnMut(usize)) {
    // Caches fill first.
    work(1);
    let (small, large) = (asked(|| work(1)), asked(|| work(10)));
    assert!(small > 0 && large < 13 * small, "{what}: {small} bytes, and {large} for ten times the text");
}

const SENTENCE: &str = "the others and the rest of it are on the hill in the east, or so 12 old men said to us\n";

/// Some ten thousand tokens, so many times.
fn prose(times: usize) -> String {
    SENTENCE.repeat(300 * times)
}

#[test]
fn tokens_of_a_long_text_cost_in_proportion_to_its_length() {
    let folders = [Recipe::tiny("qwen3", 1).temporary().unwrap(), sentencepiece().unwrap()];
    for (folder, name) in folders.iter().zip(["byte-level", "sentencepiece"]) {
        let tokenizer = Tokenizer::open(folder.path()).unwrap();
        for special in [Special::Plain, Special::Parse] {
            linear(&format!("{name}, {special:?}"), |times| {
                assert!(tokenizer.encode(&prose(times), special).unwrap().len() > 5_000 * times);
            });
        }
    }
}

#[test]
fn a_long_conversation_is_rendered_in_proportion_to_its_length() {
    let folder = Recipe::tiny("qwen3", 1).temporary().unwrap();
    let template = Template::open(folder.path()).unwrap().unwrap().compile().unwrap();
    linear("many turns", |times| {
        let message =
            |at: usize| json!({ "role": if at.is_multiple_of(2) { "user" } else { "assistant" }, "content": SENTENCE });
        let messages: Value = (0..200 * times).map(message).collect();
        let arguments = Map::new();
        let conversation = Conversation {
            messages: &messages,
            tools: None,
            add_generation_prompt: true,
            continue_final_message: false,
            arguments: &arguments,
            now_unix_ms: 0,
        };
        assert!(template.render(&conversation).unwrap().len() > SENTENCE.len() * 200 * times);
    });
}
