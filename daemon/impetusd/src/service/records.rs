//! `keep`, `recall`, `forget` and `list`: documents that clients ask to be kept. What may be asked is checked here; whose
//! a document is comes from the connection, never from the request.

use protocol::generation::Json;
use protocol::record::{
    BODY_BYTES_MAX, Collection, KeepRequest, LIST_MAX, ListRequest, NAME_BYTES_MAX, Record, RecordCard, RecordId,
    RecordList,
};
use protocol::{Error, ErrorKind, Result};
use store::{About, Bounds, Draft, Full, Kept, Reader};

use crate::session::Session;

/// What one collection may hold: months of a busy user's answers, and a disk that survives them. A batch counts on its
/// files, so nothing of those goes to make room.
fn bounds(collection: Collection) -> Bounds {
    let full = match collection {
        Collection::Answers | Collection::Sessions | Collection::Completions => Full::Drop,
        Collection::Files | Collection::Pieces | Collection::Batches => Full::Refuse,
    };
    Bounds { count: 10_000, bytes: 1 << 30, full }
}

/// The longest time that is asked for by number; more is as good as for ever.
const TTL_MS_MAX: u64 = 10 * 366 * 24 * 3600 * 1000;

pub async fn keep(session: &Session, request: KeepRequest) -> Result<RecordCard> {
    let KeepRequest { collection, id, label, body, replaces, ttl_ms } = request;
    check_name(&id)?;
    if label.len() > NAME_BYTES_MAX {
        let message = format!("label is {} bytes; it has {NAME_BYTES_MAX} at most", label.len());
        return Err(Error::invalid("label", message));
    }
    if body.0.len() > BODY_BYTES_MAX {
        let message = format!("the document is {} bytes; one has {BODY_BYTES_MAX} at most", body.0.len());
        return Err(Error::invalid("body", message).hint("keep less, or begin a new one"));
    }
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&body.0) {
        return Err(Error::invalid("body", format!("the document is not JSON: {error}")));
    }
    let name = id.clone();
    let catalogue = &session.daemon.catalogue;
    let expires = |now: i64| ttl_ms.map(|ttl| now.saturating_add(ttl.min(TTL_MS_MAX) as i64));
    let draft = move |now| Draft {
        collection: folder(collection),
        id,
        owner: session.owner(),
        label,
        body: body.0,
        replaces,
        expires_unix_ms: expires(now),
    };
    match catalogue.keep(draft, bounds(collection)).await? {
        Kept::Written(about) => Ok(card(about)),
        Kept::Differs(found) => Err(differs(&name, replaces, found)),
        Kept::Full => Err(Error::new(
            ErrorKind::NoMemory,
            format!("there is no room for {name}: the database keeps as much as it may, of this key or at all"),
        )
        .hint("delete files that are not needed any more")),
    }
}

pub async fn recall(session: &Session, RecordId { collection, id }: RecordId) -> Result<Record> {
    check_name(&id)?;
    let found = session.daemon.catalogue.recall(folder(collection), id.clone(), reader(session)).await?;
    let record = found.ok_or_else(|| unknown(&id))?;
    Ok(Record { card: card(record.about), body: Json(record.body) })
}

pub async fn forget(session: &Session, RecordId { collection, id }: RecordId) -> Result<()> {
    match session.daemon.catalogue.forget(folder(collection), id.clone(), reader(session)).await? {
        true => Ok(()),
        false => Err(unknown(&id)),
    }
}

pub async fn list(session: &Session, request: ListRequest) -> Result<RecordList> {
    let ListRequest { collection, after, limit } = request;
    if limit == 0 || limit > LIST_MAX {
        return Err(Error::invalid("limit", format!("limit is {limit}; it must be from 1 to {LIST_MAX}")));
    }
    let one_more = u32::from(limit) + 1;
    let mut listed = session.daemon.catalogue.list(folder(collection), reader(session), after, one_more).await?;
    let more = listed.len() > usize::from(limit);
    listed.truncate(usize::from(limit));
    Ok(RecordList { cards: listed.into_iter().map(card).collect(), more })
}

fn folder(collection: Collection) -> &'static str {
    match collection {
        Collection::Answers => "answers",
        Collection::Sessions => "sessions",
        Collection::Files => "files",
        Collection::Pieces => "pieces",
        Collection::Batches => "batches",
        Collection::Completions => "completions",
    }
}

fn reader(session: &Session) -> Reader {
    session.owner().map_or(Reader::Anyone, Reader::Key)
}

fn check_name(id: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    // Those two name folders in every address, and nothing that is kept under them could be reached.
    if !["", ".", ".."].contains(&id) && id.len() <= NAME_BYTES_MAX && id.bytes().all(plain) {
        return Ok(());
    }
    let message = format!(
        "an id has 1 to {NAME_BYTES_MAX} letters, digits, '_', '-' and '.', and is not '.' or '..'; this is {id:?}"
    );
    Err(Error::invalid("id", message))
}

fn differs(id: &str, replaces: Option<u64>, found: Option<About>) -> Error {
    let message = match (found, replaces) {
        (Some(_), Some(0)) => format!("{id} exists already"),
        (Some(found), Some(_)) => format!("{id} was changed meanwhile: it is at version {}", found.version),
        // Where any version may be replaced, none differs.
        (Some(_), None) | (None, _) => format!("there is no {id} to replace"),
    };
    Error::new(ErrorKind::Conflict, message).param("id").hint("read it again, then write")
}

fn unknown(id: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no {id:?} here"))
        .param("id")
        .hint("it was deleted or has expired")
}

fn card(about: About) -> RecordCard {
    let About { id, owner: _, label, version, created_unix_ms, updated_unix_ms, expires_unix_ms, bytes } = about;
    RecordCard { id, label, version, created_unix_ms, updated_unix_ms, expires_unix_ms, bytes }
}
