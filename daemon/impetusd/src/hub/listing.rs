//! What a repository holds, and which of it a model needs: configuration, tokenizer, template and safetensors.
//! Never pickles, which are programs. Names and digests come from outside, and are checked before they become paths.

use std::time::Duration;

use hf_hub::Repo;
use hf_hub::api::sync::ApiBuilder;
use protocol::{Error, ErrorKind, Result};
use serde::Deserialize;

use super::Wish;
use super::cache::Cache;
use crate::config;

/// How long the hub may take to list a repository.
const LISTING: Duration = Duration::from_secs(30);

/// Files of one model: more is no model.
const FILES_MAX: usize = 1000;

/// A repository at one commit.
#[derive(Debug, Deserialize)]
pub struct Listing {
    /// The commit.
    #[serde(rename = "sha")]
    pub commit: String,
    siblings: Vec<Sibling>,
}

#[derive(Debug, Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Debug, Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

/// One file that is to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its name, which may begin with one folder.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// What the cache calls its bytes: their SHA-256, or for small files git's own name.
    pub digest: String,
    /// Whether `digest` is a SHA-256.
    pub hashed: bool,
}

/// Asks the hub what a repository holds.
pub fn ask(config: &config::Hub, cache: &Cache, repo: &Repo, wish: &Wish) -> Result<Listing> {
    let token = config.token.given().or_else(|| cache.token());
    let builder = ApiBuilder::from_cache(hf_hub::Cache::new(cache.root().to_owned()));
    let api = builder.with_endpoint(config.endpoint.trim_end_matches('/').to_owned()).with_token(token).build();
    let api = api.map_err(|error| Error::internal(format!("the hub client cannot be made: {error}")))?;
    let request = api.repo(repo.clone()).info_request().query("blobs", "true");
    let response = request.config().timeout_global(Some(LISTING)).build().call();
    let mut response = response.map_err(|error| refusal(&error, wish, &config.endpoint))?;
    let listing: Listing = response.body_mut().read_json().map_err(|error| {
        Error::new(ErrorKind::Unreachable, format!("{} answered with no listing: {error}", config.endpoint))
    })?;
    if !is_hex(&listing.commit) {
        return Err(Error::new(ErrorKind::Unreachable, format!("the hub named the commit {:?}", listing.commit)));
    }
    Ok(listing)
}

impl Listing {
    /// Returns the files that a model needs, small ones first and weights last.
    pub fn needed(&self, repo: &str) -> Result<Vec<File>> {
        let mut files = Vec::new();
        for sibling in self.siblings.iter().filter(|sibling| is_needed(&sibling.rfilename)) {
            files.push(sibling.file(repo)?);
        }
        let named = |name: &str| files.iter().any(|file| file.name == name);
        let weights = files.iter().any(|file| file.is_weights() && !file.name.contains('/'));
        if files.len() > FILES_MAX || !weights || !named("config.json") {
            let message =
                format!("{repo} holds no model that Impetus can serve: it needs config.json and *.safetensors");
            let hint = "choose a repository in safetensors format, or download a GGUF file and give it to impetusctl models import";
            return Err(Error::new(ErrorKind::Unsupported, message).hint(hint));
        }
        files.sort_by_key(|file| (file.is_weights(), file.bytes));
        Ok(files)
    }
}

impl File {
    /// Whether it is not needed to know what the model is.
    pub fn is_weights(&self) -> bool {
        self.name.ends_with(".safetensors")
    }
}

impl Sibling {
    fn file(&self, repo: &str) -> Result<File> {
        let name = self.rfilename.clone();
        let file = match (&self.lfs, &self.blob, self.size) {
            (Some(lfs), ..) => Some(File { name, bytes: lfs.size, digest: lfs.sha256.clone(), hashed: true }),
            (None, Some(blob), Some(bytes)) => Some(File { name, bytes, digest: blob.clone(), hashed: false }),
            _ => None,
        };
        let digits = |file: &File| if file.hashed { 64 } else { 40 };
        file.filter(|file| is_hex(&file.digest) && file.digest.len() == digits(file)).ok_or_else(|| {
            let message = format!("the hub gives no size and digest for {} of {repo}", self.rfilename);
            Error::new(ErrorKind::Unreachable, message)
        })
    }
}

/// The template for tools, where it is not the one of other conversations.
const TOOL_TEMPLATE: &str = "additional_chat_templates/tool_use.jinja";

/// Whether a model needs this file; its license goes with it. Files in folders are other forms of the same weights, but for
/// the template for tools, and for those in which sentence-transformers says how an embedder pools, through which matrices its
/// vectors go, and in which words a reranker answers.
fn is_needed(name: &str) -> bool {
    let plain = |name: &str| !name.contains(['/', '\\']) && !name.contains(char::is_control) && !name.starts_with('.');
    let of_module = |file: &str, kinds: &[&str]| {
        let folder = name.strip_suffix(file).filter(|folder| plain(folder));
        folder.is_some_and(|folder| kinds.iter().any(|kind| folder.ends_with(kind)))
    };
    if of_module("/config.json", &["_Pooling", "_Dense", "_LogitScore"]) || of_module("/model.safetensors", &["_Dense"])
    {
        return true;
    }
    let flat = plain(name);
    // Mistral ships its weights twice; the consolidated form is not the one that config.json describes.
    let again = name.starts_with("consolidated") && name.ends_with(".safetensors");
    let ends = [".json", ".safetensors", ".jinja"].iter().any(|end| name.ends_with(end));
    let license = ["LICENSE", "LICENSE.txt", "LICENSE.md"].contains(&name);
    name == TOOL_TEMPLATE || (flat && !again && (ends || license || name == "tokenizer.model"))
}

fn is_hex(text: &str) -> bool {
    (7..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What it means that the hub did not answer well.
pub fn refusal(error: &ureq::Error, wish: &Wish, endpoint: &str) -> Error {
    let repo = &wish.repo;
    match error {
        ureq::Error::StatusCode(401 | 403) => {
            let message = format!("the hub does not show {repo} to you: it is private, gated, or does not exist");
            Error::new(ErrorKind::Forbidden, message)
                .hint("check the name; for a gated model accept its terms and set HF_TOKEN")
        }
        ureq::Error::StatusCode(404) => {
            let message = format!("the hub has no model {repo} at revision {}", wish.revision);
            Error::new(ErrorKind::NotFound, message)
                .param("repo")
                .hint("check the name; it is ORG/NAME as in its web address")
        }
        ureq::Error::StatusCode(429) => Error::new(ErrorKind::Unreachable, "the hub asks for fewer requests")
            .hint("wait a while, or set HF_TOKEN")
            .retry_after_ms(60_000),
        error => {
            let message = format!("{endpoint} cannot be reached, so {repo} is not fetched: {error}");
            let hint = "check the network; what is there already serves without one (`impetusctl models`)";
            Error::new(ErrorKind::Unreachable, message).hint(hint)
        }
    }
}
