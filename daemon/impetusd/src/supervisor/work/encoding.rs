//! Texts that are being read whole: which results are there, and what is asked again after a worker's death.

use pipe::{Encode, EncodeTask, WorkId};
use protocol::encode::{EmbedRequest, Input, Overlong, RerankRequest};
use protocol::generation::Priority;
use protocol::transcript::Event;
use protocol::wire::{WireError, encoded_bytes};

/// Vectors or scores of texts.
#[derive(Debug)]
pub struct Encoding {
    texts: Texts,
    overlong: Overlong,
    priority: Priority,
    /// Tokens of each text whose result is there.
    done: Vec<Option<u32>>,
}

#[derive(Debug)]
enum Texts {
    Embed { inputs: Vec<Input>, dimensions: Option<u32>, tokens_max: Option<u32> },
    Rerank { query: String, documents: Vec<String> },
}

impl Encoding {
    /// How many bytes of texts and tokens it holds.
    pub fn bytes(&self) -> Result<usize, WireError> {
        match &self.texts {
            Texts::Embed { inputs, .. } => encoded_bytes(inputs),
            Texts::Rerank { query, documents } => encoded_bytes(&(query, documents)),
        }
    }
}

impl From<EmbedRequest> for Encoding {
    fn from(request: EmbedRequest) -> Self {
        let EmbedRequest { inputs, dimensions, overlong, tokens_max, priority, .. } = request;
        let done = vec![None; inputs.len()];
        Self { done, texts: Texts::Embed { inputs, dimensions, tokens_max }, overlong, priority }
    }
}

impl From<RerankRequest> for Encoding {
    fn from(request: RerankRequest) -> Self {
        let RerankRequest { query, documents, overlong, priority, .. } = request;
        Self { done: vec![None; documents.len()], texts: Texts::Rerank { query, documents }, overlong, priority }
    }
}

impl Encoding {
    /// The message that gives it to a worker: the texts without a result.
    pub(super) fn submit(&self, id: WorkId) -> Encode {
        let task = match &self.texts {
            Texts::Embed { inputs, dimensions, tokens_max } => {
                EncodeTask::Embed { inputs: self.missing(inputs), dimensions: *dimensions, tokens_max: *tokens_max }
            }
            Texts::Rerank { query, documents } => {
                EncodeTask::Rerank { query: query.clone(), documents: self.missing(documents) }
            }
        };
        Encode { id, task, overlong: self.overlong, priority: self.priority, tokens_allowed: None, trace: None }
    }

    fn missing<T: Clone>(&self, texts: &[T]) -> Vec<(u32, T)> {
        let missing =
            |(index, (text, done)): (usize, (&T, &Option<u32>))| done.is_none().then(|| (index as u32, text.clone()));
        texts.iter().zip(&self.done).enumerate().filter_map(missing).collect()
    }

    /// Takes in what a worker says; false where that is a repetition. The end gets the tokens of all texts, because the
    /// last worker may have seen some of them only.
    pub(super) fn take(&mut self, event: &mut Event) -> bool {
        match event {
            Event::Embedded(result) => self.take_result(result.index, result.tokens),
            Event::Scored(result) => self.take_result(result.index, result.tokens),
            Event::Finished(finished) => {
                finished.usage.prompt_tokens = self.done.iter().flatten().sum();
                true
            }
            Event::Delta(_) | Event::ChoiceFinished(_) => false,
            _ => true,
        }
    }

    fn take_result(&mut self, index: u32, tokens: u32) -> bool {
        self.done.get_mut(index as usize).is_some_and(|done| done.replace(tokens).is_none())
    }

    /// How far it has come, in words.
    pub(super) fn progress(&self) -> String {
        format!("{} of {} texts", self.done.iter().flatten().count(), self.done.len())
    }
}

#[cfg(test)]
mod tests {
    use protocol::encode::Embedded;
    use protocol::generation::Finished;

    use super::*;

    fn embedded(index: u32) -> Event {
        Event::Embedded(Embedded { index, tokens: 3, cut: false, vector: vec![1.0] })
    }

    #[test]
    fn only_texts_without_a_result_are_asked_again_and_all_are_counted() {
        let inputs = ["a", "b", "c"].map(|text| Input::Text(text.to_owned())).to_vec();
        let request = EmbedRequest {
            model: None,
            inputs,
            dimensions: Some(8),
            overlong: Overlong::Cut,
            tokens_max: Some(9),
            priority: Priority::Low,
            deadline_ms: None,
        };
        let mut encoding = Encoding::from(request);
        assert!(encoding.take(&mut embedded(1)));
        assert!(!encoding.take(&mut embedded(1)), "a repetition is dropped");
        assert!(!encoding.take(&mut embedded(7)), "there is no such text");
        let again = encoding.submit(WorkId(5));
        let EncodeTask::Embed { inputs, dimensions, tokens_max } = again.task else { panic!("another task") };
        assert_eq!(inputs.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 2]);
        assert_eq!((dimensions, tokens_max), (Some(8), Some(9)));
        assert_eq!((again.overlong, again.priority), (Overlong::Cut, Priority::Low));
        assert_eq!(encoding.progress(), "1 of 3 texts");
        assert!(encoding.take(&mut embedded(0)) && encoding.take(&mut embedded(2)));
        let mut end = Event::Finished(Finished::default());
        assert!(encoding.take(&mut end));
        let Event::Finished(finished) = end else { panic!("another event") };
        assert_eq!(finished.usage.prompt_tokens, 9);
    }
}
