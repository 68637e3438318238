//! What the daemon keeps of a file: what it is called, and what it holds, in pieces that each fit a record.
//!
//! The pieces are the file: those that a batch writes are there before the file has a name, so that whoever goes on with
//! the batch finds them. A file, its pieces and a batch of one key belong to that key. The bridge remembers none of it.

use axum::body::Bytes;
use futures::{Stream, stream};
use protocol::client::Client;
use protocol::generation::Json;
use protocol::record::{Collection, KeepRequest, LIST_MAX, ListRequest, RecordCard, RecordId};
use protocol::{Error, ErrorKind, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The longest piece, in bytes: as JSON text it fits a record even if every byte of it must be escaped.
pub const PIECE_BYTES: usize = 512 << 10;

/// The most cards that a listing goes through; a collection holds no more.
const CARDS_MAX: usize = 10_000;

/// What is known of a file besides what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// What its client calls it.
    pub filename: String,
    /// What it is for.
    pub purpose: String,
    /// Its length.
    pub bytes: u64,
    /// In how many pieces it lies.
    pub pieces: u32,
    /// When it was made, in seconds since 1970.
    pub created_at: u64,
    /// When it goes.
    pub expires_at: u64,
}

impl File {
    /// Finds a file by its id.
    pub async fn find(client: &Client, id: &str) -> Result<Self> {
        Ok(find(client, Collection::Files, "file", id).await?.1)
    }

    /// Keeps it under `id`.
    pub async fn keep(&self, client: &Client, id: &str, now: u64) -> Result<()> {
        let label = self.purpose.clone();
        put(client, Collection::Files, id, label, self, None, self.seconds_left(now)).await.map(drop)
    }

    /// For how many more seconds it is kept.
    pub fn seconds_left(&self, now: u64) -> u64 {
        self.expires_at.saturating_sub(now)
    }

    /// Returns what it holds, piece by piece.
    pub fn content(&self, client: Client, id: String) -> impl Stream<Item = Result<Bytes>> + Send + 'static + use<> {
        let pieces = self.pieces;
        stream::unfold((client, id, 0), move |(client, id, at)| async move {
            if at == pieces {
                return None;
            }
            let piece = piece(&client, &id, at).await;
            let text = piece.and_then(|piece| piece.ok_or_else(|| lost(&id)));
            let next = if text.is_ok() { at + 1 } else { pieces };
            Some((text.map(Bytes::from), (client, id, next)))
        })
    }
}

/// Forgets a file: first its name, so that nobody begins to read it.
pub async fn forget(client: &Client, id: &str, file: &File) -> Result<()> {
    client.forget(RecordId { collection: Collection::Files, id: id.to_owned() }).await?;
    for at in 0..file.pieces {
        match client.forget(RecordId { collection: Collection::Pieces, id: piece_id(id, at) }).await {
            Err(error) if error.kind != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Returns a piece; `None` where the file has no such piece.
pub async fn piece(client: &Client, id: &str, at: u32) -> Result<Option<String>> {
    match client.recall(RecordId { collection: Collection::Pieces, id: piece_id(id, at) }).await {
        Ok(record) => serde_json::from_str(&record.body.0).map(Some).map_err(|_| lost(id)),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a piece, to be kept for so many seconds.
pub async fn put_piece(client: &Client, id: &str, at: u32, text: &str, seconds: u64) -> Result<()> {
    let (collection, id) = (Collection::Pieces, piece_id(id, at));
    put(client, collection, &id, String::new(), &text, None, seconds).await.map(drop)
}

/// Returns a text in pieces.
pub fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (piece, left) = rest.split_at(rest.floor_char_boundary(PIECE_BYTES));
        rest = left;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Finds what is kept of a `what`, and the card of its record.
pub async fn find<T: DeserializeOwned>(
    client: &Client,
    collection: Collection,
    what: &str,
    id: &str,
) -> Result<(RecordCard, T)> {
    let record = client.recall(RecordId { collection, id: id.to_owned() }).await.map_err(|error| match error.kind {
        ErrorKind::NotFound | ErrorKind::Invalid => {
            Error::new(ErrorKind::NotFound, format!("There is no {what} '{id}'."))
                .hint("It was deleted, has expired, or belongs to another key.")
                .param("id")
        }
        _ => error,
    })?;
    let kept = serde_json::from_str(&record.body.0)
        .map_err(|error| Error::internal(format!("what was kept of '{id}' cannot be read: {error}")))?;
    Ok((record.card, kept))
}

/// Keeps something for so many seconds.
pub async fn put<T: Serialize>(
    client: &Client,
    collection: Collection,
    id: &str,
    label: String,
    kept: &T,
    replaces: Option<u64>,
    seconds: u64,
) -> Result<RecordCard> {
    let body = Json(serde_json::to_string(kept).map_err(|error| Error::internal(error.to_string()))?);
    let ttl_ms = Some(seconds.saturating_mul(1000));
    client.keep(KeepRequest { collection, id: id.to_owned(), label, body, replaces, ttl_ms }).await
}

/// Returns the cards of all that a connection may see of a collection, the newest first.
pub async fn cards(client: &Client, collection: Collection) -> Result<Vec<RecordCard>> {
    let mut cards = Vec::new();
    let mut after = None;
    loop {
        let page = client.list(ListRequest { collection, after, limit: LIST_MAX }).await?;
        cards.extend(page.cards);
        after = cards.last().map(|card: &RecordCard| card.id.clone());
        if !page.more || cards.len() >= CARDS_MAX {
            break;
        }
    }
    cards.sort_by(|a, b| (b.created_unix_ms, &b.id).cmp(&(a.created_unix_ms, &a.id)));
    cards.dedup_by(|a, b| a.id == b.id);
    Ok(cards)
}

fn piece_id(id: &str, at: u32) -> String {
    format!("{id}.{at}")
}

fn lost(id: &str) -> Error {
    Error::internal(format!("a piece of the file '{id}' is not there any more"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_bounded_and_cut_no_letter() {
        let text = "aé".repeat(PIECE_BYTES / 2);
        let all: Vec<_> = pieces(&text).collect();
        assert_eq!(all.len(), 2);
        assert!(all.iter().all(|piece| piece.len() <= PIECE_BYTES && !piece.is_empty()));
        assert_eq!(all.concat(), text);
        assert_eq!(pieces("").count(), 0);
    }
}
