//! One file of a model: fetched in pieces that each end in bounded time, resumed from what is on disk, compared with
//! its digest, and only then given its name. A kill at any moment loses nothing and leaves nothing half named.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use hf_hub::Repo;
use protocol::transcript::Stage;
use protocol::{Error, ErrorKind, Result};
use sha1::Sha1;
use sha2::digest::DynDigest;
use sha2::{Digest as _, Sha256};
use ureq::http::StatusCode;

use super::listing::{File, refusal};
use super::{Hub, Meter, Wish, cache};

/// Bytes read or hashed between two looks at the cancellation.
const PIECE_BYTES: usize = 256 << 10;

/// The first wait after a failure; it doubles with each one.
const PAUSE: Duration = Duration::from_millis(500);

impl Hub {
    /// Fetches one file, unless it is there.
    pub(super) fn fetch_file(&self, repo: &Repo, file: &File, meter: &mut Meter<'_>) -> Result<()> {
        if self.cache.has(repo, file) {
            meter.add(file.bytes);
            return Ok(());
        }
        let blob = self.cache.blob(repo, file);
        let broken = |error: io::Error| cache::broken(&blob, &error);
        blob.parent().map_or(Ok(()), fs::create_dir_all).map_err(broken)?;
        if length(&blob) == Some(file.bytes) {
            meter.add(file.bytes);
        } else {
            self.cache.note(repo, file).map_err(broken)?;
            self.fetch_blob(repo, file, &blob, meter)?;
        }
        self.cache.link(repo, file).map_err(broken)
    }

    fn fetch_blob(&self, repo: &Repo, file: &File, blob: &Path, meter: &mut Meter<'_>) -> Result<()> {
        // The name that the other tools of the hub use, so that each can go on where another stopped.
        let part = blob.with_file_name(format!("{}.incomplete", file.digest));
        let broken = |error: io::Error| cache::broken(&part, &error);
        if length(&part).is_some_and(|there| there > file.bytes) {
            fs::remove_file(&part).map_err(broken)?;
        }
        let (mut failures, mut most) = (0, length(&part).unwrap_or(0));
        meter.add(most);
        while length(&part) != Some(file.bytes) {
            meter.check()?;
            let error = match self.fetch_piece(repo, file, &part, meter) {
                Ok(()) if length(&part) == Some(file.bytes) => break,
                Ok(()) => incomplete(file, length(&part).unwrap_or(0)),
                Err(Stop::Final(error)) => return Err(error),
                Err(Stop::Disk(error)) => return Err(broken(error)),
                Err(Stop::Line(error)) => error,
            };
            // Only what was never there is progress: a server that begins anew each time brings none.
            let now = length(&part).unwrap_or(0);
            failures = if now > most { 0 } else { failures + 1 };
            most = most.max(now);
            if failures > self.config.retries {
                return Err(error);
            }
            tracing::warn!(file = %file.name, failures, "a piece failed: {}", error.message);
            std::thread::sleep(PAUSE * (1 << failures.min(5)));
        }
        verify(file, &part, meter)?;
        fs::rename(&part, blob).map_err(broken)
    }

    /// Makes one request from where the part ends; what it brings is kept even if it fails.
    fn fetch_piece(
        &self,
        repo: &Repo,
        file: &File,
        part: &Path,
        meter: &mut Meter<'_>,
    ) -> std::result::Result<(), Stop> {
        let start = length(part).unwrap_or(0);
        let endpoint = self.config.endpoint.trim_end_matches('/');
        let url = format!("{endpoint}/{}/resolve/{}/{}", repo.url(), repo.revision(), file.name);
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_recv_response(Some(Duration::from_secs(30)))
            .timeout_recv_body(Some(self.config.request))
            .redirect_auth_headers(ureq::config::RedirectAuthHeaders::SameHost)
            .user_agent(concat!("impetus/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        let mut request = agent.get(&url).header("Range", format!("bytes={start}-"));
        if let Some(token) = self.config.token.given().or_else(|| self.cache.token()) {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let response = request.call().map_err(|error| self.stop(&error, repo))?;
        let partial = response.status() == StatusCode::PARTIAL_CONTENT;
        let mut output = OpenOptions::new().create(true).append(true).open(part).map_err(Stop::Disk)?;
        if !partial && start > 0 {
            // The server sends all of it again.
            output.set_len(0).map_err(Stop::Disk)?;
            meter.withdraw(start);
        }
        let left = file.bytes - if partial { start } else { 0 };
        // One byte more than is left shows a file that is longer than the hub said.
        copy(&mut response.into_body().into_reader().take(left + 1), &mut output, meter)?;
        if length(part).is_some_and(|there| there > file.bytes) {
            fs::remove_file(part).map_err(Stop::Disk)?;
            return Err(Stop::Final(overlong(file)));
        }
        Ok(())
    }

    fn stop(&self, error: &ureq::Error, repo: &Repo) -> Stop {
        let wish = Wish { repo: repo.url(), revision: repo.revision().to_owned() };
        let refused = refusal(error, &wish, &self.config.endpoint);
        match error {
            ureq::Error::StatusCode(401 | 403 | 404) => Stop::Final(refused),
            _ => Stop::Line(refused),
        }
    }
}

/// Why a piece ended early.
enum Stop {
    /// Trying again is of no use.
    Final(Error),
    /// The disk refused.
    Disk(io::Error),
    /// The network did; trying again may help.
    Line(Error),
}

fn copy(input: &mut impl Read, output: &mut fs::File, meter: &mut Meter<'_>) -> std::result::Result<(), Stop> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        meter.check().map_err(Stop::Final)?;
        let lost = |error: io::Error| {
            Stop::Line(
                Error::new(ErrorKind::Unreachable, format!("the download broke off: {error}"))
                    .hint("pull again: it goes on where it stopped"),
            )
        };
        let count = input.read(&mut piece).map_err(lost)?;
        if count == 0 {
            return Ok(());
        }
        output.write_all(&piece[..count]).map_err(Stop::Disk)?;
        meter.add(count as u64);
    }
}

/// Says that a server ended a file too early, and saw nothing wrong with that.
fn incomplete(file: &File, there: u64) -> Error {
    let message =
        format!("{} is incomplete: it was sent {there} bytes long, and the hub says {}", file.name, file.bytes);
    Error::new(ErrorKind::Unreachable, message).hint("pull again, or look for a proxy that changes files")
}

/// Says that a server sends another file than the hub speaks of.
fn overlong(file: &File) -> Error {
    let message = format!("{} is damaged: it has more than the {} bytes that the hub says", file.name, file.bytes);
    Error::new(ErrorKind::Unreachable, message)
        .hint("it was deleted; pull again, or look for a proxy that changes files")
}

/// Compares a complete part with its digest; a wrong one is deleted, because going on from it is of no use.
fn verify(file: &File, part: &Path, meter: &mut Meter<'_>) -> Result<()> {
    let broken = |error: io::Error| cache::broken(part, &error);
    meter.say(Stage::Verifying);
    let mut input = fs::File::open(part).map_err(broken)?;
    let (what, mut hash): (_, Box<dyn DynDigest>) = match file.hashed {
        true => ("SHA-256", Box::new(Sha256::new())),
        // Git names bytes by the SHA-1 of their kind, their length and themselves.
        false => ("name in git", Box::new(Sha1::new_with_prefix(format!("blob {}\0", file.bytes)))),
    };
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        meter.check()?;
        match input.read(&mut piece).map_err(broken)? {
            0 => break,
            count => hash.update(&piece[..count]),
        }
    }
    let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if found.eq_ignore_ascii_case(&file.digest) {
        return Ok(());
    }
    fs::remove_file(part).map_err(broken)?;
    let message = format!("{} is damaged: its {what} is {found}, and the hub says {}", file.name, file.digest);
    Err(Error::new(ErrorKind::Unreachable, message)
        .hint("it was deleted; pull again, or look for a proxy that changes files"))
}

fn length(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|metadata| metadata.len())
}
