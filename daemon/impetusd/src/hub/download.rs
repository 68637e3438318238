//! One file of a model: fetched in pieces that each end in bounded time, resumed from what is on disk, compared with
//! its digest, and only then given its name. A kill at any moment loses nothing and leaves nothing half named.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use hf_hub::Repo;
use protocol::transcript::Stage;
use protocol::{Error, ErrorKind, Result};
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
            self.fetch_blob(repo, file, &blob, meter)?;
        }
        self.cache.link(repo, file).map_err(broken)
    }

    fn fetch_blob(&self, repo: &Repo, file: &File, blob: &Path, meter: &mut Meter<'_>) -> Result<()> {
        // The name that the other tools of the hub use, so that each can go on where another stopped.
        let part = blob.with_file_name(format!("{}.incomplete", file.digest));
        let broken = |error: io::Error| cache::broken(&part, &error);
        let mut failures = 0;
        meter.add(length(&part).unwrap_or(0).min(file.bytes));
        while length(&part) != Some(file.bytes) {
            meter.check()?;
            let before = length(&part).unwrap_or(0);
            match self.fetch_piece(repo, file, &part, meter) {
                Ok(()) => {}
                Err(Stop::Final(error)) => return Err(error),
                Err(Stop::Disk(error)) => return Err(broken(error)),
                Err(Stop::Line(error)) => {
                    failures = if length(&part).unwrap_or(0) > before { 0 } else { failures + 1 };
                    if failures > self.config.retries {
                        return Err(error);
                    }
                    tracing::warn!(file = %file.name, failures, "a piece failed: {}", error.message);
                    std::thread::sleep(PAUSE * (1 << failures.min(5)));
                }
            }
        }
        if file.hashed {
            verify(file, &part, meter)?;
        }
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
        if start > file.bytes {
            meter.withdraw(start);
            return fs::remove_file(part).map_err(Stop::Disk);
        }
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
        copy(&mut response.into_body().into_reader().take(left + 1), &mut output, meter)
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

/// Compares a complete part with its digest; a wrong one is deleted, because going on from it is of no use.
fn verify(file: &File, part: &Path, meter: &mut Meter<'_>) -> Result<()> {
    let broken = |error: io::Error| cache::broken(part, &error);
    meter.say(Stage::Verifying);
    let mut input = fs::File::open(part).map_err(broken)?;
    let mut hash = Sha256::new();
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
    let message = format!("{} is damaged: its SHA-256 is {found}, and the hub says {}", file.name, file.digest);
    Err(Error::new(ErrorKind::Unreachable, message)
        .hint("it was deleted; pull again, or look for a proxy that changes files"))
}

fn length(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|metadata| metadata.len())
}
