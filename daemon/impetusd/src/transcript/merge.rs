//! Merges neighbouring events that nobody has read yet. Pure: the reader of merged events learns the same text,
//! tool calls, tokens and log-probabilities, in the same order. Called by `transcript` on every append.

use protocol::generation::{Delta, ToolCallDelta};
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
