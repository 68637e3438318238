//! What OpenAI's lists of kept things have in common: pages and their order, and what is said of a thing that
//! is gone. Knows no thing itself. Used by files, batches, responses, stored completions and sessions.

use protocol::{Error, Result};
use serde::Serialize;
use utoipa::ToSchema;

/// What is gone.
#[derive(Serialize, ToSchema)]
#[schema(as = DeletedObject)]
pub struct Deleted {
    id: String,
    object: &'static str,
    deleted: bool,
}

impl Deleted {
    /// Says that what was called `id` is gone; `object` is what it was.
    pub fn new(id: String, object: &'static str) -> Self {
        Self { id, object, deleted: true }
    }
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Listed<T> {
    object: &'static str,
    data: Vec<T>,
    first_id: Option<String>,
    last_id: Option<String>,
    has_more: bool,
}

impl<T> Listed<T> {
    /// Returns a page of things with their ids.
    pub fn new(page: Vec<(String, T)>, has_more: bool) -> Self {
        let first_id = page.first().map(|(id, _)| id.clone());
        let last_id = page.last().map(|(id, _)| id.clone());
        Self { object: "list", data: page.into_iter().map(|(_, thing)| thing).collect(), first_id, last_id, has_more }
    }
}

/// How a list goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// What came first is first.
    Asc,
    /// What came last is first.
    Desc,
}

impl Order {
    /// Reads what a query says, if it says anything.
    pub fn read(text: Option<&str>) -> Result<Option<Self>> {
        match text {
            None => Ok(None),
            Some("asc") => Ok(Some(Self::Asc)),
            Some("desc") => Ok(Some(Self::Desc)),
            Some(other) => Err(Error::invalid("order", format!("'order' is '{other}'; it is asc or desc."))),
        }
    }
}

/// Returns the things of one page, each with its id, and whether more come after it.
pub fn page<T>(
    mut things: Vec<(String, T)>,
    after: Option<&str>,
    limit: usize,
    most: usize,
) -> Result<(Vec<(String, T)>, bool)> {
    if limit == 0 || limit > most {
        return Err(Error::invalid("limit", format!("'limit' is {limit}; it is from 1 to {most}.")));
    }
    if let Some(after) = after {
        let at = things.iter().position(|(id, _)| id == after);
        let at = at.ok_or_else(|| Error::invalid("after", format!("There is no '{after}' in this list.")))?;
        things.drain(..=at);
    }
    let more = things.len() > limit;
    things.truncate(limit);
    Ok((things, more))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other() {
        let things = || ["c", "b", "a"].map(|id| (id.to_owned(), ())).to_vec();
        let ids = |page: Result<(Vec<(String, ())>, bool)>| {
            page.map(|(page, more)| (page.into_iter().map(|(id, ())| id).collect::<String>(), more))
        };
        assert_eq!(ids(page(things(), None, 2, 100)).unwrap(), ("cb".to_owned(), true));
        assert_eq!(ids(page(things(), Some("b"), 2, 100)).unwrap(), ("a".to_owned(), false));
        assert_eq!(ids(page(things(), Some("x"), 2, 100)).unwrap_err().param.as_deref(), Some("after"));
        for limit in [0, 101] {
            assert_eq!(ids(page(things(), None, limit, 100)).unwrap_err().param.as_deref(), Some("limit"));
        }
    }

    #[test]
    fn an_order_is_one_of_two_words() {
        assert_eq!(Order::read(None).unwrap(), None);
        assert_eq!(Order::read(Some("asc")).unwrap(), Some(Order::Asc));
        assert_eq!(Order::read(Some("up")).unwrap_err().param.as_deref(), Some("order"));
    }
}
