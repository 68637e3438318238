//! Several prompts in one request: as many generations, read as if they were one.
//!
//! Choice `c` of prompt `p` becomes choice `p * n + c`. The answer starts when every prompt was accepted, so that a
//! refusal of any is the refusal of all, and fails with the first that fails. Dropping it cancels them all.

use std::pin::Pin;

use futures::future::{try_join, try_join_all};
use futures::{Stream, StreamExt, stream};
use protocol::client::Client;
use protocol::generation::{Finished, GenerateRequest, Started, Usage};
use protocol::transcript::Event;
use protocol::{Error, Result};

use crate::begin::{Begun, admit, begin};

/// The events of several generations as if they were one's.
type Events = Pin<Box<dyn Stream<Item = Result<Event>> + Send>>;

/// Begins every request; returns what their starts come to together, and their events as those of one generation.
pub async fn generate(client: &Client, requests: Vec<GenerateRequest>) -> Result<(Started, Events)> {
    let choices: Vec<u16> = requests.iter().map(|request| request.choices).collect();
    let mut requests = requests.into_iter();
    let Some(mut first) = requests.next() else { return join(Vec::<(Started, Events, u16)>::new()) };
    first.following = u16::try_from(requests.len()).unwrap_or(u16::MAX);
    // It is judged for all of them, before any other begins and uses something.
    let first = admit(client, first).await?;
    let further = requests.map(|request| begin(client, GenerateRequest { further: true, ..request }));
    let (first, further) = try_join(first.begin(), try_join_all(further)).await?;
    let begun = [first].into_iter().chain(further).zip(choices);
    join(begun.map(|(Begun { started, events, .. }, choices)| (started, events, choices)).collect())
}

/// Merges generations whose prompts were accepted.
fn join<E>(begun: Vec<(Started, E, u16)>) -> Result<(Started, Events)>
where
    E: Stream<Item = Result<Event>> + Send + Unpin + 'static,
{
    let left = begun.len();
    let (mut all, mut shared, mut offset) = (Vec::with_capacity(left), None::<Started>, 0);
    for (started, events, choices) in begun {
        match &mut shared {
            Some(first) => first.prompt_tokens += started.prompt_tokens,
            None => shared = Some(started),
        }
        let base = offset;
        all.push(events.map(move |event| event.map(|event| shifted(event, base))));
        offset += choices;
    }
    let Some(started) = shared else { return Err(Error::invalid("prompt", "'prompt' is an empty list.")) };
    let merged = Merged { single: left == 1, left, finished: Finished::default() };
    let events = stream::unfold((stream::select_all(all), Some(merged)), |(mut events, merged)| async move {
        let mut merged = merged?;
        loop {
            let event = events.next().await?;
            let Some(event) = merged.pass(event) else { continue };
            let goes_on = matches!(event, Ok(Event::Delta(_) | Event::ChoiceFinished(_) | Event::Progress(_)));
            return Some((event, (events, goes_on.then_some(merged))));
        }
    });
    Ok((started, events.boxed()))
}

/// Moves an event's choice up by `base`.
fn shifted(mut event: Event, base: u16) -> Event {
    match &mut event {
        Event::Delta(delta) => delta.choice += base,
        Event::ChoiceFinished(finished) => finished.choice += base,
        _ => {}
    }
    event
}

/// How many streams are still open, and what the others came to.
struct Merged {
    /// Whether there is only one, whose positions need no name.
    single: bool,
    left: usize,
    finished: Finished,
}

impl Merged {
    /// Returns the event to pass on; the ends of all but the last stream are only counted.
    fn pass(&mut self, event: Result<Event>) -> Option<Result<Event>> {
        let Ok(Event::Finished(finished)) = event else { return Some(event) };
        let (sum, usage) = (&mut self.finished.usage, finished.usage);
        *sum = Usage {
            prompt_tokens: sum.prompt_tokens + usage.prompt_tokens,
            cached_tokens: sum.cached_tokens + usage.cached_tokens,
            completion_tokens: sum.completion_tokens + usage.completion_tokens,
            reasoning_tokens: sum.reasoning_tokens + usage.reasoning_tokens,
        };
        let (longest, timing) = (&mut self.finished.timing, finished.timing);
        longest.queue_us = longest.queue_us.max(timing.queue_us);
        longest.prefill_us = longest.prefill_us.max(timing.prefill_us);
        longest.decode_us = longest.decode_us.max(timing.decode_us);
        self.finished.missed = finished.missed.filter(|_| self.single);
        self.left -= 1;
        (self.left == 0).then(|| Ok(Event::Finished(self.finished.clone())))
    }
}

#[cfg(test)]
mod tests {
    use protocol::generation::Delta;

    use super::*;

    fn prompt(prompt_tokens: u32, texts: &[(u16, &str)]) -> (Started, Vec<Result<Event>>, u16) {
        let started = Started { model: "m".into(), prompt_tokens, seed: 1, max_tokens: 1 };
        let delta =
            |&(choice, text): &(u16, &str)| Event::Delta(Delta { choice, text: text.into(), ..Delta::default() });
        let usage = Usage { prompt_tokens, completion_tokens: texts.len() as u32, ..Usage::default() };
        let finished = Event::Finished(Finished { usage, ..Finished::default() });
        (started, texts.iter().map(delta).chain([finished]).map(Ok).collect(), 2)
    }

    fn joined(prompts: Vec<(Started, Vec<Result<Event>>, u16)>) -> Result<(Started, Vec<Result<Event>>)> {
        let begun = prompts.into_iter().map(|(started, events, choices)| (started, stream::iter(events), choices));
        let (started, events) = join(begun.collect())?;
        Ok((started, futures::executor::block_on(events.collect())))
    }

    #[test]
    fn choices_of_later_prompts_come_after_those_of_earlier_ones() {
        let (_, all) = joined(vec![prompt(3, &[(0, "a"), (1, "b")]), prompt(4, &[(1, "d"), (0, "c")])]).unwrap();
        let mut texts = [const { String::new() }; 4];
        for event in &all {
            if let Ok(Event::Delta(delta)) = event {
                texts[usize::from(delta.choice)].push_str(&delta.text);
            }
        }
        assert_eq!(texts, ["a", "b", "c", "d"]);
    }

    #[test]
    fn there_is_one_start_and_one_end_with_the_sum_of_all() {
        let (started, all) = joined(vec![prompt(3, &[(0, "a")]), prompt(4, &[(0, "b"), (0, "c")])]).unwrap();
        assert_eq!(started.prompt_tokens, 7);
        let Some(Ok(Event::Finished(finished))) = all.last() else { panic!("{all:?}") };
        assert_eq!((finished.usage.prompt_tokens, finished.usage.completion_tokens), (7, 3));
        assert_eq!(all.len(), 4);
    }

    #[test]
    fn one_failure_ends_all() {
        let mut failing = prompt(3, &[(0, "a"), (0, "b")]);
        failing.1[0] = Err(Error::internal("died"));
        let (_, all) = joined(vec![failing]).unwrap();
        assert!(matches!(all.as_slice(), [Err(_)]), "{all:?}");
    }

    #[test]
    fn an_empty_list_is_refused_by_name() {
        let error = joined(Vec::new()).err().unwrap();
        assert_eq!(error.param.as_deref(), Some("prompt"));
    }
}
