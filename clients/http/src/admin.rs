//! `/api`: for those who run the service. Keys, models, memory, settings, and what has happened.
//!
//! Bodies are the bridge's own: lower case, seconds since 1970, lists as OpenAI's clients know them. Every endpoint is a
//! verb of the daemon, which the command line has too.

pub mod journal;
pub mod keys;
pub mod machine;
pub mod models;
pub mod settings;

use protocol::{Error, Result};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::openapi::Routes;

/// Returns the routes of this folder.
pub fn routes() -> Routes {
    keys::routes().merge(journal::routes()).merge(models::routes()).merge(machine::routes()).merge(settings::routes())
}

/// A page of a list, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct List<T> {
    object: &'static str,
    data: Vec<T>,
    has_more: bool,
    next_cursor: Option<String>,
}

impl<T> List<T> {
    /// Makes a page; `next` is where the following one begins.
    pub fn new(data: Vec<T>, next: Option<impl ToString>) -> Self {
        Self { object: "list", data, has_more: next.is_some(), next_cursor: next.map(|next| next.to_string()) }
    }
}

/// Which part of a list to show.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Part {
    limit: Option<u32>,
    after: Option<String>,
}

impl Part {
    /// Returns this part of a list that is there as a whole, all of it where no limit is named; its cursors are `id`s.
    pub fn of<T>(self, mut things: Vec<T>, id: impl Fn(&T) -> &str) -> Result<List<T>> {
        let most = limit(self.limit)? as usize;
        if let Some(after) = self.after {
            let at = things.iter().position(|thing| id(thing) == after);
            let at = at.ok_or_else(|| Error::invalid("after", format!("There is no '{after}' in this list.")))?;
            things.drain(..=at);
        }
        let more = most > 0 && things.len() > most;
        if more {
            things.truncate(most);
        }
        let next = things.last().filter(|_| more).map(|last| id(last).to_owned());
        Ok(List::new(things, next))
    }
}

/// Reads a cursor that a page gave out.
pub fn cursor(after: Option<&str>) -> Result<Option<u64>> {
    let parse = |after: &str| {
        after.parse().map_err(|_| {
            Error::invalid("after", format!("'{after}' is no cursor.")).hint("Send the next_cursor of the last page.")
        })
    };
    after.map(parse).transpose()
}

/// Refuses a limit of entries that is out of range; `None` is the daemon's own.
pub fn limit(limit: Option<u32>) -> Result<u32> {
    match limit {
        None => Ok(0),
        Some(limit @ 1..=1_000) => Ok(limit),
        Some(limit) => Err(Error::invalid("limit", format!("'limit' is {limit}; it is from 1 to 1000."))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_where_the_next_one_begins() {
        let shown = |next: Option<u64>| serde_json::to_value(List::new(vec![1], next)).unwrap();
        assert_eq!(
            shown(Some(7)),
            serde_json::json!({"object": "list", "data": [1], "has_more": true, "next_cursor": "7"})
        );
        assert_eq!(shown(None)["next_cursor"], serde_json::Value::Null);
    }

    #[test]
    fn a_whole_list_is_shown_in_parts_that_follow_each_other() {
        let part = |limit, after: Option<&str>| {
            let part = Part { limit, after: after.map(str::to_owned) };
            part.of(vec!["a", "b", "c"], |name| name).map(|list| (list.data.concat(), list.next_cursor))
        };
        assert_eq!(part(None, None).unwrap(), ("abc".to_owned(), None));
        assert_eq!(part(Some(2), None).unwrap(), ("ab".to_owned(), Some("b".to_owned())));
        assert_eq!(part(Some(2), Some("b")).unwrap(), ("c".to_owned(), None));
        assert_eq!(part(None, Some("x")).unwrap_err().param.as_deref(), Some("after"));
        assert_eq!(part(Some(0), None).unwrap_err().param.as_deref(), Some("limit"));
    }

    #[test]
    fn cursors_and_limits_out_of_range_are_refused_by_name() {
        assert_eq!((cursor(Some("7")).unwrap(), cursor(None).unwrap()), (Some(7), None));
        for bad in ["", "-1", "x", "99999999999999999999"] {
            assert_eq!(cursor(Some(bad)).unwrap_err().param.as_deref(), Some("after"), "{bad}");
        }
        assert_eq!((limit(None).unwrap(), limit(Some(1_000)).unwrap()), (0, 1_000));
        assert!(limit(Some(0)).is_err() && limit(Some(1_001)).is_err());
    }
}
