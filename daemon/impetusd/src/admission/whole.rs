//! The same for requests whose texts are read whole: vectors of texts, scores of documents.

use std::time::Duration;

use protocol::encode::{EmbedRequest, INPUTS_MAX, Input, RerankRequest};
use protocol::generation::Priority;
use protocol::model::ModelFacts;
use protocol::{Error, ErrorKind, Result};

use super::{Limits, ranges, time, unknown_model};

/// A request whose texts are read whole.
#[derive(Debug)]
pub enum Whole {
    /// Their vectors are wanted.
    Embed(EmbedRequest),
    /// Their scores are wanted.
    Rerank(RerankRequest),
}

impl Whole {
    /// How many texts it has.
    pub fn texts(&self) -> usize {
        match self {
            Self::Embed(request) => request.inputs.len(),
            Self::Rerank(request) => request.documents.len(),
        }
    }

    /// Before whom it goes.
    pub fn priority(&self) -> Priority {
        match self {
            Self::Embed(request) => request.priority,
            Self::Rerank(request) => request.priority,
        }
    }

    fn model(&self) -> Option<&str> {
        match self {
            Self::Embed(request) => request.model.as_deref(),
            Self::Rerank(request) => request.model.as_deref(),
        }
    }

    fn is_meant(&self, facts: &ModelFacts) -> bool {
        match self {
            Self::Embed(_) => facts.capabilities.embed,
            Self::Rerank(_) => facts.capabilities.rerank,
        }
    }

    /// What it asks for, in a word.
    fn wanted(&self) -> &'static str {
        match self {
            Self::Embed(_) => "vectors",
            Self::Rerank(_) => "scores",
        }
    }
}

/// Refuses a request with a value out of its range, naming the field; returns how long it may take.
pub fn check_whole(request: &Whole, limits: &Limits) -> Result<Duration> {
    match request {
        Whole::Embed(request) => {
            counted("inputs", request.inputs.len())?;
            let empty = |input: &Input| match input {
                Input::Text(text) => text.is_empty(),
                Input::Tokens(tokens) => tokens.is_empty(),
            };
            if let Some(index) = request.inputs.iter().position(empty) {
                return Err(Error::invalid("inputs", format!("input {index} is empty")));
            }
            request.dimensions.map_or(Ok(()), |dimensions| ranges::within("dimensions", dimensions, 1, u32::MAX))?;
            time(request.deadline_ms, request.priority, limits)
        }
        Whole::Rerank(request) => {
            counted("documents", request.documents.len())?;
            if request.query.is_empty() {
                return Err(Error::invalid("query", "the query is empty"));
            }
            time(request.deadline_ms, request.priority, limits)
        }
    }
}

fn counted(param: &str, count: usize) -> Result<()> {
    if (1..=INPUTS_MAX).contains(&count) {
        return Ok(());
    }
    Err(Error::invalid(param, format!("{param} has {count} texts; it must have 1 to {INPUTS_MAX}")))
}

/// Finds the model a request means: names are exact, and no name means `default` for vectors, else the first model that
/// does what is asked.
pub fn resolve_whole<'a>(
    request: &Whole,
    default: &str,
    models: impl Iterator<Item = (&'a str, &'a ModelFacts)> + Clone,
) -> Result<&'a str> {
    let names = models.clone().map(|(name, _)| name);
    if let Some(asked) = request.model() {
        return names.clone().find(|name| *name == asked).ok_or_else(|| unknown_model(asked, names));
    }
    let mut meant = models.filter(|(_, facts)| request.is_meant(facts)).map(|(name, _)| name).peekable();
    let first = meant.peek().copied();
    meant.find(|name| *name == default).or(first).ok_or_else(|| {
        let message = format!("this daemon has no model that gives {}", request.wanted());
        Error::new(ErrorKind::ModelNotFound, message).param("model").hint("add one: impetusctl pull ORG/NAME")
    })
}

/// Refuses what this model cannot do.
pub fn suits_whole(request: &Whole, name: &str, facts: &ModelFacts) -> Result<()> {
    if !request.is_meant(facts) {
        let message = format!("{name} gives no {}", request.wanted());
        let hint = "use a model that does; `impetusctl models` lists them";
        return Err(Error::unsupported("model", message).hint(hint));
    }
    match (request, facts.dimensions) {
        (Whole::Embed(EmbedRequest { dimensions: Some(asked), .. }), Some(most)) if *asked > most => {
            let message = format!("dimensions is {asked}; a vector of {name} has {most}");
            Err(Error::invalid("dimensions", message).hint(format!("ask for 1 to {most}, or leave it out for all")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use protocol::encode::Overlong;
    use protocol::model::Capabilities;

    use super::*;

    const LIMITS: Limits = Limits { choices_max: 1, deadline: Duration::from_secs(60), active_max: 1 };

    fn embed(texts: &[&str], dimensions: Option<u32>) -> Whole {
        let inputs = texts.iter().map(|text| Input::Text((*text).to_owned())).collect();
        Whole::Embed(EmbedRequest {
            model: None,
            inputs,
            dimensions,
            overlong: Overlong::Refuse,
            tokens_max: None,
            priority: Priority::Normal,
            deadline_ms: None,
        })
    }

    fn rerank(query: &str, documents: &[&str]) -> Whole {
        Whole::Rerank(RerankRequest {
            model: None,
            query: query.to_owned(),
            documents: documents.iter().map(|text| (*text).to_owned()).collect(),
            overlong: Overlong::Refuse,
            priority: Priority::Normal,
            deadline_ms: None,
        })
    }

    fn facts(embed: bool, rerank: bool) -> ModelFacts {
        ModelFacts {
            architecture: "bert".to_owned(),
            parameters: 1,
            context_length: 512,
            vocabulary: 100,
            weights: "bf16".to_owned(),
            weights_bytes: 1,
            memory_bytes: 1,
            step_bytes: 1,
            kv_bytes_per_token: 1,
            dimensions: embed.then_some(64),
            capabilities: Capabilities { chat: !embed && !rerank, embed, rerank, ..Capabilities::default() },
        }
    }

    #[track_caller]
    fn refused(param: &str, request: &Whole) {
        let error = check_whole(request, &LIMITS).unwrap_err();
        assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::Invalid, Some(param)), "{}", error.message);
    }

    #[test]
    fn each_refusal_names_its_field() {
        assert!(check_whole(&embed(&["a"], None), &LIMITS).is_ok());
        refused("inputs", &embed(&[], None));
        refused("inputs", &embed(&["a"; INPUTS_MAX + 1], None));
        refused("inputs", &embed(&["a", ""], None));
        refused("dimensions", &embed(&["a"], Some(0)));
        refused("query", &rerank("", &["a"]));
        refused("documents", &rerank("q", &[]));
    }

    #[test]
    fn a_request_without_a_name_gets_a_model_that_does_what_it_asks() {
        let (chat, first, nano, ranks) =
            (facts(false, false), facts(true, false), facts(true, false), facts(false, true));
        let models = [("a-chat", &chat), ("b-embed", &first), ("nano", &nano), ("rank", &ranks)];
        let resolve =
            |request: &Whole, default: &str| resolve_whole(request, default, models.into_iter()).unwrap().to_owned();
        assert_eq!(resolve(&embed(&["a"], None), "nano"), "nano");
        assert_eq!(resolve(&embed(&["a"], None), "gone"), "b-embed");
        assert_eq!(resolve(&rerank("q", &["a"]), "nano"), "rank");
        let error = resolve_whole(&rerank("q", &["a"]), "nano", models[..3].iter().copied()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::ModelNotFound);
    }

    #[test]
    fn a_model_is_asked_only_for_what_it_does() {
        let suits = |request: &Whole, facts: &ModelFacts| suits_whole(request, "m", facts);
        assert!(suits(&embed(&["a"], Some(64)), &facts(true, false)).is_ok());
        let error = suits(&embed(&["a"], Some(65)), &facts(true, false)).unwrap_err();
        assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::Invalid, Some("dimensions")));
        for (request, facts) in [
            (embed(&["a"], None), facts(false, false)),
            (embed(&["a"], None), facts(false, true)),
            (rerank("q", &["a"]), facts(true, false)),
        ] {
            let error = suits(&request, &facts).unwrap_err();
            assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::Unsupported, Some("model")));
        }
    }
}
