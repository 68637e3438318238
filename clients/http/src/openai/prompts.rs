//! Several prompts in one request: as many generations, read as if they were one.
//!
//! Choice `c` of prompt `p` becomes choice `p * n + c`. The answer starts when every prompt was accepted, so that a
//! refusal of any is the refusal of all, and fails with the first that fails. Dropping it cancels them all.

use futures::{Stream, StreamExt, stream};
use protocol::client::Client;
use protocol::generation::{Finished, GenerateRequest, Started, Usage};
use protocol::transcript::Event;
use protocol::{Error, Result};

/// Begins every request and returns their events as those of one generation.
pub async fn generate(
    client: &Client,
    requests: Vec<GenerateRequest>,
) -> Result<impl Stream<Item = Result<Event>> + Send + Unpin + use<>> {
    let mut streams = Vec::with_capacity(requests.len());
    for request in requests {
        let choices = request.choices;
        streams.push((client.generate(request).await?, choices));
    }
    join(streams).await
}

/// Waits until every stream has started, then merges them.
async fn join<E>(streams: Vec<(E, u16)>) -> Result<impl Stream<Item = Result<Event>> + Send + Unpin + use<E>>
where
    E: Stream<Item = Result<Event>> + Send + Unpin + 'static,
{
    let count = streams.len();
    let (mut all, mut shared, mut offset) = (Vec::with_capacity(count), None, 0);
    for (mut events, choices) in streams {
        let started = start(&mut events).await?;
        let (first, tokens) = shared.get_or_insert_with(|| (started.clone(), 0));
        *tokens += started.prompt_tokens;
        first.prompt_tokens = *tokens;
        let base = offset;
        all.push(events.map(move |event| event.map(|event| shifted(event, base))));
        offset += choices;
    }
    let Some((started, _)) = shared else { return Err(Error::invalid("prompt", "'prompt' is an empty list.")) };
    let merged = Merged { left: count, finished: Finished::default() };
    let rest = stream::unfold((stream::select_all(all), Some(merged)), |(mut events, merged)| async move {
        let mut merged = merged?;
        loop {
            let event = events.next().await?;
            let Some(event) = merged.pass(event) else { continue };
            let goes_on = matches!(event, Ok(Event::Delta(_) | Event::ChoiceFinished(_) | Event::Progress(_)));
            return Some((event, (events, goes_on.then_some(merged))));
        }
    });
    Ok(stream::iter([Ok(Event::Started(started))]).chain(rest).boxed())
}

/// Reads a stream until its prompt is accepted.
async fn start(events: &mut (impl Stream<Item = Result<Event>> + Unpin)) -> Result<Started> {
    while let Some(event) = events.next().await {
        match event? {
            Event::Started(started) => return Ok(started),
            Event::Failed(error) => return Err(error),
            _ => {}
        }
    }
    Err(Error::internal("The daemon ended the answer before it began."))
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
        self.left -= 1;
        (self.left == 0).then(|| Ok(Event::Finished(self.finished.clone())))
    }
}

#[cfg(test)]
mod tests {
    use protocol::ErrorKind;
    use protocol::generation::Delta;

    use super::*;

    fn events(prompt_tokens: u32, texts: &[(u16, &str)]) -> Vec<Result<Event>> {
        let started = Started { model: "m".into(), prompt_tokens, seed: 1 };
        let delta =
            |&(choice, text): &(u16, &str)| Event::Delta(Delta { choice, text: text.into(), ..Delta::default() });
        let usage = Usage { prompt_tokens, completion_tokens: texts.len() as u32, ..Usage::default() };
        let finished = Event::Finished(Finished { usage, ..Finished::default() });
        [Event::Started(started)].into_iter().chain(texts.iter().map(delta)).chain([finished]).map(Ok).collect()
    }

    fn joined(prompts: Vec<Vec<Result<Event>>>) -> Result<Vec<Result<Event>>> {
        let streams = prompts.into_iter().map(|events| (stream::iter(events), 2)).collect();
        futures::executor::block_on(async { Ok(join(streams).await?.collect().await) })
    }

    #[test]
    fn choices_of_later_prompts_come_after_those_of_earlier_ones() {
        let all = joined(vec![events(3, &[(0, "a"), (1, "b")]), events(4, &[(1, "d"), (0, "c")])]).unwrap();
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
        let all = joined(vec![events(3, &[(0, "a")]), events(4, &[(0, "b"), (0, "c")])]).unwrap();
        assert!(matches!(&all[0], Ok(Event::Started(started)) if started.prompt_tokens == 7));
        let Some(Ok(Event::Finished(finished))) = all.last() else { panic!("{all:?}") };
        assert_eq!((finished.usage.prompt_tokens, finished.usage.completion_tokens), (7, 3));
        assert_eq!(all.len(), 5);
    }

    #[test]
    fn one_refused_prompt_refuses_all_and_one_failure_ends_all() {
        let refused = || vec![Err(Error::new(ErrorKind::ContextLengthExceeded, "too long"))];
        let error = joined(vec![events(3, &[(0, "a")]), refused()]).unwrap_err();
        assert_eq!(error.kind, ErrorKind::ContextLengthExceeded);
        let mut failing = events(3, &[]);
        failing[1] = Err(Error::internal("died"));
        let all = joined(vec![failing]).unwrap();
        assert!(matches!(all.as_slice(), [Ok(_), Err(_)]), "{all:?}");
    }

    #[test]
    fn an_empty_list_is_refused_by_name() {
        assert_eq!(joined(Vec::new()).unwrap_err().param.as_deref(), Some("prompt"));
    }
}
