//! Whole answers of `embed` and `rerank`: the events of a transcript, put in the order of their inputs.
//!
//! Dropping the future cancels the work.

use futures::{Stream, StreamExt};

use super::Client;
use crate::encode::{EmbedRequest, RerankRequest};
use crate::generation::Finished;
use crate::transcript::Event;
use crate::{Error, Result};

/// The vectors of all texts of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Embeddings {
    /// The model that answered.
    pub model: String,
    /// A vector per text, in the order of the request.
    pub vectors: Vec<Vec<f32>>,
    /// The texts whose end was left out, by index.
    pub cut: Vec<u32>,
    /// Token counts and times.
    pub finished: Finished,
}

/// The scores of all documents of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// The model that answered.
    pub model: String,
    /// A score per document, in the order of the request.
    pub scores: Vec<f32>,
    /// The documents whose end was left out, by index.
    pub cut: Vec<u32>,
    /// Token counts and times.
    pub finished: Finished,
}

/// What both have in common.
struct Gathered<T> {
    model: String,
    results: Vec<Option<T>>,
    cut: Vec<u32>,
    finished: Finished,
}

impl Client {
    /// Turns texts into vectors and waits for all of them.
    pub async fn embeddings(&self, request: EmbedRequest) -> Result<Embeddings> {
        let count = request.inputs.len();
        let client = self.clone();
        let events = self.attended(async move { client.embed(request).await }).await?;
        let gathered = gather(events, count, |event| match event {
            Event::Embedded(result) => Some((result.index, result.cut, result.vector)),
            _ => None,
        });
        let Gathered { model, results, cut, finished } = gathered.await?;
        Ok(Embeddings { model, vectors: results.into_iter().flatten().collect(), cut, finished })
    }

    /// Scores documents for a query and waits for all of them.
    pub async fn scores(&self, request: RerankRequest) -> Result<Scores> {
        let count = request.documents.len();
        let client = self.clone();
        let events = self.attended(async move { client.rerank(request).await }).await?;
        let gathered = gather(events, count, |event| match event {
            Event::Scored(result) => Some((result.index, result.cut, result.score)),
            _ => None,
        });
        let Gathered { model, results, cut, finished } = gathered.await?;
        Ok(Scores { model, scores: results.into_iter().flatten().collect(), cut, finished })
    }
}

/// Reads events to their end; `result` picks an index, whether the text was cut, and its result.
async fn gather<T>(
    events: impl Stream<Item = Result<Event>>,
    count: usize,
    result: impl Fn(Event) -> Option<(u32, bool, T)>,
) -> Result<Gathered<T>> {
    let mut gathered =
        Gathered { model: String::new(), results: Vec::new(), cut: Vec::new(), finished: Finished::default() };
    gathered.results.resize_with(count, || None);
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event? {
            Event::Started(started) => gathered.model = started.model,
            Event::Finished(finished) => {
                gathered.finished = finished;
                gathered.cut.sort_unstable();
                return match gathered.results.iter().position(Option::is_none) {
                    None => Ok(gathered),
                    Some(index) => Err(Error::internal(format!("the daemon ended the work without result {index}"))),
                };
            }
            Event::Failed(error) => return Err(error),
            event => {
                let Some((index, cut, value)) = result(event) else { continue };
                if let Some(place) = gathered.results.get_mut(index as usize) {
                    *place = Some(value);
                    gathered.cut.extend(cut.then_some(index));
                }
            }
        }
    }
    Err(Error::internal("the daemon's events ended without saying how"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::Scored;

    fn run(events: Vec<Event>, count: usize) -> Result<Vec<Option<f32>>> {
        let pick = |event| match event {
            Event::Scored(result) => Some((result.index, result.cut, result.score)),
            _ => None,
        };
        let events = futures::stream::iter(events.into_iter().map(Ok));
        futures::executor::block_on(gather(events, count, pick)).map(|gathered| gathered.results)
    }

    fn scored(index: u32, score: f32) -> Event {
        Event::Scored(Scored { index, tokens: 1, cut: false, score })
    }

    #[test]
    fn results_take_the_order_of_their_inputs() {
        let events = vec![scored(1, 0.5), scored(0, 0.25), Event::Finished(Finished::default())];
        assert_eq!(run(events, 2).unwrap(), [Some(0.25), Some(0.5)]);
    }

    #[test]
    fn a_missing_result_or_end_is_an_error() {
        assert!(run(vec![scored(1, 0.5), Event::Finished(Finished::default())], 2).is_err());
        assert!(run(vec![scored(0, 0.5)], 1).is_err());
        let failed = vec![scored(0, 0.5), Event::Failed(Error::internal("gone"))];
        assert_eq!(run(failed, 1).unwrap_err().message, "gone");
    }
}
