//! What the queries about a response may hold. Clients write lists with brackets, one `include[]` for each wish. Pure.

use std::str::FromStr;

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use protocol::{Error, Result};
use utoipa::IntoParams;

use super::request::included;
use crate::body;

/// A query as it comes.
pub type Sent = std::result::Result<Query<Vec<(String, String)>>, QueryRejection>;

/// How a response is to be shown.
#[derive(Debug, Default, PartialEq, IntoParams)]
pub struct Show {
    /// Whether its events are streamed.
    pub stream: Option<bool>,
    /// The number of the last event that is not wanted.
    pub starting_after: Option<u64>,
    /// What it was made to include is in it in any case.
    #[param(rename = "include[]")]
    pub include: Option<Vec<String>>,
    /// Only false: events are as long as what they say.
    pub include_obfuscation: Option<bool>,
}

/// Which of the items that a response answers are wanted.
#[derive(Debug, Default, PartialEq, IntoParams)]
pub struct Page {
    /// The item after which the page begins.
    pub after: Option<String>,
    /// How many items it has at most.
    pub limit: Option<usize>,
    /// `asc`, the first one first, or `desc`.
    pub order: Option<String>,
    /// Items include what they were sent with in any case.
    #[param(rename = "include[]")]
    pub include: Option<Vec<String>>,
}

impl Show {
    /// Reads a query.
    pub fn read(sent: Sent) -> Result<Self> {
        let mut show = Self::default();
        for (name, text) in body::query(sent)? {
            match name.as_str() {
                "stream" => show.stream = Some(value(&name, &text)?),
                "starting_after" => show.starting_after = Some(value(&name, &text)?),
                "include" | "include[]" => show.include.get_or_insert_default().push(included(text)?),
                "include_obfuscation" if !value::<bool>(&name, &text)? => show.include_obfuscation = Some(false),
                _ => return Err(unsupported(&name)),
            }
        }
        Ok(show)
    }
}

impl Page {
    /// Reads a query.
    pub fn read(sent: Sent) -> Result<Self> {
        let mut page = Self::default();
        for (name, text) in body::query(sent)? {
            match name.as_str() {
                "after" => page.after = Some(text),
                "limit" => page.limit = Some(value(&name, &text)?),
                "order" => page.order = Some(text),
                "include" | "include[]" => page.include.get_or_insert_default().push(included(text)?),
                _ => return Err(unsupported(&name)),
            }
        }
        Ok(page)
    }
}

fn value<T: FromStr>(name: &str, text: &str) -> Result<T> {
    text.parse().map_err(|_| Error::invalid(name, format!("The query's '{name}' cannot be '{text}'.")))
}

fn unsupported(name: &str) -> Error {
    Error::unsupported(name, format!("The query's '{name}' is not supported here."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(query: &str) -> Sent {
        Query::try_from_uri(&format!("/?{query}").parse().unwrap())
    }

    #[test]
    fn wishes_come_with_brackets_and_one_by_one() {
        let include = "include[]=reasoning.encrypted_content&include%5B%5D=message.output_text.logprobs";
        let show =
            Show::read(sent(&format!("stream=true&starting_after=3&{include}&include_obfuscation=false"))).unwrap();
        assert_eq!(
            (show.stream, show.starting_after, show.include.map(|wishes| wishes.len())),
            (Some(true), Some(3), Some(2))
        );
        let page = Page::read(sent(&format!("limit=5&order=asc&after=a&{include}"))).unwrap();
        assert_eq!((page.limit, page.order.as_deref(), page.after.as_deref()), (Some(5), Some("asc"), Some("a")));
    }

    #[test]
    fn what_a_query_cannot_have_is_refused_by_name() {
        for (query, param) in [
            ("stream=maybe", "stream"),
            ("starting_after=-1", "starting_after"),
            ("include_obfuscation=true", "include_obfuscation"),
            ("include[]=file_search_call.results", "include"),
            ("telepathy=1", "telepathy"),
        ] {
            assert_eq!(Show::read(sent(query)).unwrap_err().param.as_deref(), Some(param), "{query}");
        }
        for (query, param) in [("limit=x", "limit"), ("include=x", "include"), ("stream=true", "stream")] {
            assert_eq!(Page::read(sent(query)).unwrap_err().param.as_deref(), Some(param), "{query}");
        }
    }
}
