//! `/v1/files`: texts that batches read and write.
//!
//! `form` reads an upload, `kept` is what the daemon keeps of a file. A file belongs to the key that made it and goes after
//! 30 days unless it says otherwise. Only batches read files here, so only files for batches are taken.

mod form;
pub mod kept;

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures::TryStreamExt;
use protocol::record::{Collection, NAME_BYTES_MAX};
use protocol::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use self::form::Field;
use self::kept::{File, cards, pieces, put_piece};
use super::list::{Deleted, Listed, Order, page};
use crate::app::Bridge;
use crate::body::{self, PathId, path_id};
use crate::error::HttpError;
use crate::ids::new_id;
use crate::openapi::{Operation, Routes, part};
use crate::time::now_s;

/// For how many seconds a file is kept, unless it says otherwise; the least and the most that it may say.
pub const TTL_SECONDS: u64 = 30 * 24 * 3600;
const TTL_SECONDS_RANGE: std::ops::RangeInclusive<u64> = 3600..=TTL_SECONDS;

/// What a file that a batch reads is for, and one that it writes.
const INPUT: &str = "batch";
pub const OUTPUT: &str = "batch_output";

/// The most files of one page, and files of a page whose size is not said.
const PAGE_MAX: usize = 10_000;
const PAGE: usize = 100;

/// The fields of an upload.
const FIELDS: &[&str] = &["file", "purpose", "expires_after[anchor]", "expires_after[seconds]"];

/// An upload, as the document tells it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only the document reads it")]
struct Upload {
    /// Lines of JSON.
    #[schema(format = Binary)]
    file: String,
    /// `batch`.
    purpose: String,
    /// `created_at`.
    #[schema(rename = "expires_after[anchor]")]
    anchor: Option<String>,
    /// From an hour to 30 days.
    #[schema(rename = "expires_after[seconds]")]
    seconds: Option<u64>,
}

/// A file, as clients receive it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = File)]
pub struct FileObject {
    id: String,
    object: &'static str,
    bytes: u64,
    created_at: u64,
    expires_at: u64,
    filename: String,
    purpose: String,
    status: &'static str,
}

/// Returns the routes of this module, relative to `/v1`.
pub fn routes() -> Routes {
    let id = "The file's id.";
    let upload = Operation::new("Keep a file for a batch")
        .more("It is kept for 30 days unless `expires_after` says otherwise.")
        .takes_form("FileUpload", FIELDS, part::<Upload>())
        .gives::<FileObject>("The file.");
    let list = Operation::new("List the files")
        .query::<PageQuery>()
        .gives_of::<Listed<FileObject>, FileObject>("FileList", "A page of files, the newest first.");
    let show = Operation::new("Show a file").path("id", id).gives::<FileObject>("The file.");
    let read =
        Operation::new("Read what a file holds").path("id", id).gives_text("application/jsonl", "What it holds.");
    let delete = Operation::new("Delete a file").path("id", id).gives::<Deleted>("It is gone.");
    Routes::new("Batches")
        .post("/files", create, upload)
        .get("/files", self::list, list)
        .get("/files/{id}", self::show, show)
        .get("/files/{id}/content", content, read)
        .delete("/files/{id}", self::delete, delete)
}

type Answer<T> = std::result::Result<T, HttpError>;

fn shown(id: String, file: File) -> FileObject {
    let File { filename, purpose, bytes, pieces: _, created_at, expires_at } = file;
    FileObject { id, object: "file", bytes, created_at, expires_at, filename, purpose, status: "processed" }
}

async fn create(State(bridge): State<Arc<Bridge>>, headers: HeaderMap, body: Bytes) -> Answer<Json<FileObject>> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let (text, file) = read(content_type, &body, now_s())?;
    let (client, id) = (bridge.daemon.client().await?, new_id("file-"));
    let text = std::str::from_utf8(&text).map_err(|_| Error::invalid("file", "The file is not UTF-8."))?;
    let seconds = file.seconds_left(file.created_at);
    for (at, piece) in (0..).zip(pieces(text)) {
        put_piece(&client, &id, at, piece, seconds).await?;
    }
    let file = File { pieces: pieces(text).count() as u32, ..file };
    file.keep(&client, &id, file.created_at).await?;
    Ok(Json(shown(id, file)))
}

/// Reads the form of an upload, whose boundary its content type names: what the file holds, and what is known of it besides.
pub fn read(content_type: Option<&str>, body: &Bytes, now: u64) -> Result<(Bytes, File)> {
    uploaded(form::read(content_type, body)?, now)
}

fn uploaded(fields: Vec<Field>, now: u64) -> Result<(Bytes, File)> {
    let (mut file, mut purpose, mut anchor, mut seconds) = (None, None, None, None);
    for Field { name, filename, value } in fields {
        let text = || String::from_utf8_lossy(&value).into_owned();
        match name.as_str() {
            "file" => file = Some((filename.unwrap_or_else(|| "file".to_owned()), value)),
            "purpose" => purpose = Some(text()),
            "expires_after[anchor]" => anchor = Some(text()),
            "expires_after[seconds]" => seconds = Some(text()),
            other => {
                return Err(Error::unsupported(other, format!("The field '{other}' is not supported here.")));
            }
        }
    }
    let (filename, value) = file.ok_or_else(|| Error::invalid("file", "The form has no field 'file'."))?;
    if filename.len() > NAME_BYTES_MAX {
        return Err(Error::invalid("file", format!("The file's name is longer than {NAME_BYTES_MAX} bytes.")));
    }
    match purpose.as_deref() {
        Some(INPUT) => {}
        None => return Err(Error::invalid("purpose", "The form has no field 'purpose'.")),
        Some(other) => {
            return Err(Error::new(ErrorKind::Unsupported, format!("'purpose' cannot be '{other}' here."))
                .hint("Only batches read files: 'purpose' is 'batch'.")
                .param("purpose"));
        }
    }
    let expires = ExpiresAfter::of_form(anchor, seconds)?;
    let seconds = expires.map_or(Ok(TTL_SECONDS), |expires| expires.seconds("expires_after"))?;
    let (bytes, purpose) = (value.len() as u64, INPUT.to_owned());
    Ok((value, File { filename, purpose, bytes, pieces: 0, created_at: now, expires_at: now + seconds }))
}

/// When a file goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpiresAfter {
    /// `created_at`.
    anchor: String,
    /// How many seconds after that.
    seconds: u64,
}

impl ExpiresAfter {
    fn of_form(anchor: Option<String>, seconds: Option<String>) -> Result<Option<Self>> {
        let param = "expires_after";
        match (anchor, seconds) {
            (None, None) => Ok(None),
            (Some(anchor), Some(seconds)) => {
                let seconds = seconds
                    .parse()
                    .map_err(|_| Error::invalid(param, format!("'expires_after[seconds]' is '{seconds}'.")))?;
                Ok(Some(Self { anchor, seconds }))
            }
            _ => Err(Error::invalid(param, "'expires_after' has an anchor and seconds.")),
        }
    }

    /// Returns after how many seconds the file goes; `param` is where the wish stands.
    pub fn seconds(&self, param: &str) -> Result<u64> {
        if self.anchor != "created_at" {
            return Err(Error::invalid(
                param,
                format!("'{param}' is counted from 'created_at', not '{}'.", self.anchor),
            ));
        }
        if !TTL_SECONDS_RANGE.contains(&self.seconds) {
            let (least, most) = TTL_SECONDS_RANGE.into_inner();
            let message = format!("'{param}' is {} seconds; it is from {least} to {most}.", self.seconds);
            return Err(Error::invalid(param, message));
        }
        Ok(self.seconds)
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    /// `batch` or `batch_output`.
    purpose: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
    /// `desc`, the newest first, or `asc`.
    order: Option<String>,
}

async fn list(
    State(bridge): State<Arc<Bridge>>,
    query: std::result::Result<Query<PageQuery>, QueryRejection>,
) -> Answer<Json<Listed<FileObject>>> {
    let PageQuery { purpose, after, limit, order } = body::query(query)?;
    let client = bridge.daemon.client().await?;
    // A file's label is what it is for.
    let mut found: Vec<_> = cards(&client, Collection::Files)
        .await?
        .into_iter()
        .filter(|card| purpose.as_ref().is_none_or(|purpose| card.label == *purpose))
        .map(|card| (card.id, ()))
        .collect();
    if Order::read(order.as_deref())? == Some(Order::Asc) {
        found.reverse();
    }
    let (found, more) = page(found, after.as_deref(), limit.unwrap_or(PAGE), PAGE_MAX)?;
    let mut files = Vec::with_capacity(found.len());
    for (id, ()) in found {
        match File::find(&client, &id).await {
            Ok(file) => files.push((id.clone(), shown(id, file))),
            // It was deleted meanwhile.
            Err(error) if error.kind == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Json(Listed::new(files, more)))
}

async fn show(State(bridge): State<Arc<Bridge>>, id: PathId) -> Answer<Json<FileObject>> {
    let id = path_id(id)?;
    let file = File::find(&bridge.daemon.client().await?, &id).await?;
    Ok(Json(shown(id, file)))
}

async fn content(State(bridge): State<Arc<Bridge>>, id: PathId) -> Answer<Response> {
    let (id, client) = (path_id(id)?, bridge.daemon.client().await?);
    let file = File::find(&client, &id).await?;
    let pieces = file.content(client, id).map_err(|error| std::io::Error::other(error.message));
    let mut response = Body::from_stream(pieces).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/jsonl"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(file.bytes));
    Ok(response)
}

async fn delete(State(bridge): State<Arc<Bridge>>, id: PathId) -> Answer<Json<Deleted>> {
    let (id, client) = (path_id(id)?, bridge.daemon.client().await?);
    let file = File::find(&client, &id).await?;
    kept::forget(&client, &id, &file).await?;
    Ok(Json(Deleted::new(id, "file")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, value: &'static str) -> Field {
        Field { name: name.into(), filename: (name == "file").then(|| "in.jsonl".into()), value: value.into() }
    }

    #[test]
    fn an_upload_says_what_it_is_for_and_how_long_it_stays() {
        let plain = uploaded(vec![field("purpose", "batch"), field("file", "{}\n")], 100).unwrap().1;
        assert_eq!((plain.filename.as_str(), plain.bytes, plain.expires_at), ("in.jsonl", 3, 100 + TTL_SECONDS));
        let short = [field("expires_after[anchor]", "created_at"), field("expires_after[seconds]", "3600")];
        let fields = [vec![field("purpose", "batch"), field("file", "")], short.to_vec()].concat();
        assert_eq!(uploaded(fields, 100).unwrap().1.expires_at, 3700);
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        let good = || vec![field("purpose", "batch"), field("file", "{}")];
        let with = |more: &[(&str, &'static str)]| {
            [good(), more.iter().map(|(name, value)| field(name, value)).collect()].concat()
        };
        let anchor = ("expires_after[anchor]", "created_at");
        for (fields, param) in [
            (vec![field("purpose", "batch")], "file"),
            (vec![field("file", "{}")], "purpose"),
            (vec![field("purpose", "vision"), field("file", "{}")], "purpose"),
            (with(&[("telepathy", "yes")]), "telepathy"),
            (with(&[anchor]), "expires_after"),
            (with(&[anchor, ("expires_after[seconds]", "5")]), "expires_after"),
            (with(&[("expires_after[anchor]", "now"), ("expires_after[seconds]", "3600")]), "expires_after"),
        ] {
            assert_eq!(uploaded(fields, 0).unwrap_err().param.as_deref(), Some(param));
        }
    }
}
