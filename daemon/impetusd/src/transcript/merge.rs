//! Merges neighbouring events that nobody has read yet. Pure: the reader of merged events learns the same text,
//! tool calls, tokens and log-probabilities, in the same order. Called by `transcript` on every append.

use protocol::generation::{Delta, PromptToken, TokenLogprob, ToolCallDelta};
use protocol::transcript::Event;

/// Merges `event` into `last` if that loses nothing and stays within `bytes_max`; otherwise returns it.
pub fn merge(last: &mut Event, event: Event, bytes_max: usize) -> Option<Event> {
    let fits = bytes(last) + bytes(&event) <= bytes_max;
    match (last, event) {
        (Event::Progress(last), Event::Progress(next)) if last.stage == next.stage && last.subject == next.subject => {
            *last = next;
            None
        }
        (Event::Delta(last), Event::Delta(next)) if fits && in_order(last, &next) => {
            append(last, next);
            None
        }
        (_, event) => Some(event),
    }
}

/// Returns roughly how many bytes an event takes on the wire.
pub fn bytes(event: &Event) -> usize {
    let delta = match event {
        Event::Delta(delta) => delta,
        // As JSON writes it; as bytes a number takes a third of that.
        Event::Embedded(embedded) => return 64 + 12 * embedded.vector.len(),
        _ => return 64,
    };
    let calls: usize = delta.tool_calls.iter().map(|call| 64 + call.arguments.len()).sum();
    let token = |bytes: usize, alternatives: usize| 32 + bytes + 24 * alternatives;
    let logprobs: usize = delta.logprobs.iter().map(|entry| token(entry.bytes.len(), entry.top.len())).sum();
    let prompt: usize = delta.prompt.iter().map(|entry| token(entry.bytes.len(), entry.top.len())).sum();
    16 + delta.text.len() + delta.reasoning.len() + calls + logprobs + prompt
}

/// Returns how many bytes of memory an event takes. A delta of one token is some bytes on the wire and far more here: what
/// could be in it has its place too.
pub fn held(event: &Event) -> usize {
    let beside = match event {
        Event::Delta(delta) => delta_held(delta),
        Event::Embedded(embedded) => block(embedded.vector.capacity(), size_of::<f32>()),
        _ => 0,
    };
    size_of::<Event>() + beside
}

fn delta_held(delta: &Delta) -> usize {
    let text = |text: &String| block(text.capacity(), 1);
    let tokens = |bytes: &Vec<u8>, top: &Vec<(u32, Vec<u8>, f32)>| {
        let top_bytes: usize = top.iter().map(|(_, bytes, _)| block(bytes.capacity(), 1)).sum();
        block(bytes.capacity(), 1) + block(top.capacity(), size_of::<(u32, Vec<u8>, f32)>()) + top_bytes
    };
    let call = |call: &ToolCallDelta| {
        let named = call.id.iter().chain(&call.name).map(text).sum::<usize>();
        named + text(&call.arguments)
    };
    let calls: usize = delta.tool_calls.iter().map(call).sum();
    let logprobs: usize = delta.logprobs.iter().map(|entry| tokens(&entry.bytes, &entry.top)).sum();
    let prompt: usize = delta.prompt.iter().map(|entry| tokens(&entry.bytes, &entry.top)).sum();
    let lists = block(delta.tool_calls.capacity(), size_of::<ToolCallDelta>())
        + block(delta.logprobs.capacity(), size_of::<TokenLogprob>())
        + block(delta.prompt.capacity(), size_of::<PromptToken>());
    text(&delta.text) + text(&delta.reasoning) + lists + calls + logprobs + prompt
}

/// What an allocator takes for so many items: nothing for none, and never less than its smallest block.
fn block(count: usize, size: usize) -> usize {
    const SMALLEST: usize = 32;
    if count == 0 { 0 } else { (count * size + size_of::<usize>()).max(SMALLEST) }
}

/// Within one delta reasoning comes before text and text before tool calls; merging must not reorder them.
fn in_order(last: &Delta, next: &Delta) -> bool {
    let spoke = !last.text.is_empty();
    let called = !last.tool_calls.is_empty();
    last.choice == next.choice && (next.reasoning.is_empty() || !(spoke || called)) && (next.text.is_empty() || !called)
}

fn append(last: &mut Delta, next: Delta) {
    last.text.push_str(&next.text);
    last.reasoning.push_str(&next.reasoning);
    last.tokens += next.tokens;
    last.logprobs.extend(next.logprobs);
    last.prompt.extend(next.prompt);
    for call in next.tool_calls {
        append_call(&mut last.tool_calls, call);
    }
}

fn append_call(calls: &mut Vec<ToolCallDelta>, next: ToolCallDelta) {
    match calls.last_mut().filter(|last| last.index == next.index && next.id.is_none()) {
        Some(last) => last.arguments.push_str(&next.arguments),
        None => calls.push(next),
    }
}
