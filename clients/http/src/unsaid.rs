//! Holds the log-probability of a token back until some of the token's text is said. So one comes with its text, and where
//! a stop string took the text away, it never comes.
//!
//! What marks reasoning and calls is never said, and a word may lose the space before it; a token that is not found in the
//! text is taken for such a mark. `begin` sends every generation through here that is asked for log-probabilities.

use std::collections::VecDeque;
use std::mem::take;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt, stream};
use protocol::Result;
use protocol::generation::{Delta, TokenLogprob};
use protocol::transcript::Event;

/// Returns the events of a generation of so many choices, each log-probability with the text that it is of.
pub fn with_their_text<E>(events: E, choices: u16) -> BoxStream<'static, Result<Event>>
where
    E: Stream<Item = Result<Event>> + Send + 'static,
{
    let mut unsaid: Vec<_> = (0..choices).map(|_| Unsaid::default()).collect();
    events.flat_map(move |event| stream::iter(pass(&mut unsaid, event))).boxed()
}

fn pass(choices: &mut [Unsaid], mut event: Result<Event>) -> impl Iterator<Item = Result<Event>> + use<> {
    let mut rest = None;
    match &mut event {
        Ok(Event::Delta(delta)) => {
            if let Some(unsaid) = choices.get_mut(usize::from(delta.choice)) {
                unsaid.hear(delta);
            }
        }
        Ok(Event::ChoiceFinished(end)) if end.stop_string.is_none() => {
            let entries = choices.get_mut(usize::from(end.choice)).map(|unsaid| take(&mut unsaid.entries));
            let entries = entries.filter(|entries| !entries.is_empty());
            rest = entries.map(|entries| Delta { choice: end.choice, logprobs: entries.into(), ..Delta::default() });
        }
        _ => {}
    }
    rest.map(|delta| Ok(Event::Delta(delta))).into_iter().chain([event])
}

/// What is not said yet of one choice.
#[derive(Default)]
struct Unsaid {
    /// The rest of the token that was said last.
    begun: Vec<u8>,
    /// The tokens after it.
    entries: VecDeque<TokenLogprob>,
}

impl Unsaid {
    /// Leaves the entries in a delta that its text has come to.
    fn hear(&mut self, delta: &mut Delta) {
        self.entries.extend(take(&mut delta.logprobs));
        let said = [delta.reasoning.as_bytes(), delta.text.as_bytes()].concat();
        let mut left = said.as_slice();
        while !left.is_empty() {
            left = match agreed(&self.begun, left) {
                Some(count) => {
                    self.begun.drain(..count);
                    &left[count..]
                }
                None => {
                    self.begun.clear();
                    left
                }
            };
            if left.is_empty() {
                break;
            }
            let Some(entry) = self.entries.pop_front() else { break };
            let whole = agreed(&entry.bytes, left).is_some();
            self.begun = if whole { &entry.bytes[..] } else { entry.bytes.trim_ascii_start() }.to_vec();
            delta.logprobs.push(entry);
        }
        // A call is not written here as its tokens are.
        if !delta.tool_calls.is_empty() {
            self.begun.clear();
            delta.logprobs.extend(take(&mut self.entries));
        }
    }
}

/// For how many bytes a token and the text agree, if that is for as long as both are.
fn agreed(token: &[u8], text: &[u8]) -> Option<usize> {
    let count = token.len().min(text.len());
    (token[..count] == text[..count]).then_some(count)
}

#[cfg(test)]
mod tests {
    use protocol::generation::{ChoiceFinished, FinishReason, ToolCallDelta};

    use super::*;

    fn entry(token: &str) -> TokenLogprob {
        TokenLogprob { token: 0, bytes: token.into(), logprob: -1.0, top: Vec::new() }
    }

    fn delta(text: &str, tokens: &[&str]) -> Event {
        let logprobs = tokens.iter().map(|token| entry(token)).collect();
        Event::Delta(Delta { text: text.to_owned(), logprobs, ..Delta::default() })
    }

    fn end(stop: Option<&str>) -> Event {
        let stop_string = stop.map(str::to_owned);
        Event::ChoiceFinished(ChoiceFinished { choice: 0, reason: FinishReason::Stop, stop_string })
    }

    /// What each event says, and which tokens come with it.
    fn told(events: Vec<Event>) -> Vec<(String, Vec<String>)> {
        let events = with_their_text(stream::iter(events.into_iter().map(Ok)), 1);
        let said = futures::executor::block_on_stream(events).filter_map(|event| match event.unwrap() {
            Event::Delta(delta) => {
                let token = |entry: TokenLogprob| String::from_utf8(entry.bytes).unwrap();
                Some((delta.reasoning + &delta.text, delta.logprobs.into_iter().map(token).collect()))
            }
            _ => None,
        });
        said.collect()
    }

    fn check(events: Vec<Event>, expected: &[(&str, &[&str])]) {
        let told = told(events);
        let told: Vec<_> =
            told.iter().map(|(text, tokens)| (text.as_str(), tokens.iter().map(String::as_str).collect())).collect();
        let expected: Vec<_> = expected.iter().map(|(text, tokens)| (*text, tokens.to_vec())).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn a_token_comes_with_its_text_and_never_where_a_stop_string_took_that() {
        let events = || vec![delta("It", &["It"]), delta("", &[" ends"]), delta("", &[" here"])];
        let stopped = [events(), vec![end(Some(" ends here"))]].concat();
        check(stopped, &[("It", &["It"]), ("", &[]), ("", &[])]);
        let goes_on = [events(), vec![delta(" ends here?", &["?"]), end(Some("!"))]].concat();
        check(goes_on, &[("It", &["It"]), ("", &[]), ("", &[]), (" ends here?", &[" ends", " here", "?"])]);
        let ends = [events(), vec![end(None)]].concat();
        check(ends, &[("It", &["It"]), ("", &[]), ("", &[]), ("", &[" ends", " here"])]);
    }

    #[test]
    fn a_token_that_is_said_in_part_keeps_its_place() {
        let stopped = vec![delta("It ", &["It", " ends"]), delta("", &[" here"]), end(Some("ends here"))];
        check(stopped, &[("It ", &["It", " ends"]), ("", &[])]);
        let goes_on = vec![delta("It ", &["It", " ends"]), delta("ends", &[" so"]), end(Some(" so"))];
        check(goes_on, &[("It ", &["It", " ends"]), ("ends", &[])]);
    }

    #[test]
    fn events_that_were_merged_say_the_same() {
        let merged = vec![delta("It is", &["It", " is", " the", " end"]), end(Some(" the end"))];
        check(merged, &[("It is", &["It", " is"])]);
        let trimmed = vec![delta("It is", &[" It", " is", " the", " end"]), end(Some(" the end"))];
        check(trimmed, &[("It is", &[" It", " is"])]);
    }

    #[test]
    fn marks_that_are_never_said_hide_no_token() {
        let logprobs = ["<think>", "Hm", "</think>", "\n\n", "No", ".", "#"].map(entry).to_vec();
        let (reasoning, text) = ("Hm".to_owned(), "No.".to_owned());
        let merged = Event::Delta(Delta { reasoning, text, logprobs, ..Delta::default() });
        let expected: &[(&str, &[&str])] = &[("HmNo.", &["<think>", "Hm", "</think>", "\n\n", "No", "."])];
        check(vec![merged, end(Some("#"))], expected);
        let call = ToolCallDelta { index: 0, id: None, name: None, arguments: "{}".to_owned() };
        let called = Event::Delta(Delta { tool_calls: vec![call], logprobs: vec![entry("{}")], ..Delta::default() });
        check(vec![delta("", &["<call>"]), called, end(None)], &[("", &[]), ("", &["<call>", "{}"])]);
    }

    #[test]
    fn half_a_character_waits_for_the_other_half() {
        let half = |byte: u8| TokenLogprob { bytes: vec![byte], ..entry("") };
        let more = |text: &str, byte| Delta { text: text.to_owned(), logprobs: vec![half(byte)], ..Delta::default() };
        let [mut first, mut second] = [more("", 0xC3), more("\u{e9}", 0xA9)];
        let mut unsaid = Unsaid::default();
        unsaid.hear(&mut first);
        unsaid.hear(&mut second);
        assert_eq!((first.logprobs.len(), second.logprobs.len(), unsaid.entries.len()), (0, 2, 0));
    }
}
