//! `watch`: what happens, as far as whoever asks may know of it.

use std::time::Duration;

use protocol::key::KeyRole;
use protocol::news::{Happening, News, WatchRequest};
use protocol::{Error, Result};
use tokio::time::Instant;

use crate::session::Session;

/// The longest wait of one answer.
const WAIT_MS_MAX: u32 = 30_000;

pub async fn watch(session: &Session, request: WatchRequest) -> Result<News> {
    if request.wait_ms > WAIT_MS_MAX {
        let message = format!("wait_ms is {}; it may be {WAIT_MS_MAX} at most", request.wait_ms);
        return Err(Error::invalid("wait_ms", message));
    }
    let newsroom = &session.daemon.newsroom;
    let deadline = Instant::now() + Duration::from_millis(request.wait_ms.into());
    let mut next = request.after.unwrap_or_else(|| newsroom.now());
    let mut missed = false;
    loop {
        let read = newsroom.read(next, deadline).await;
        // Judged after the wait: a key may have been revoked meanwhile.
        session.allow(KeyRole::Readonly)?;
        let sight = Sight::of(session)?;
        let over = read.happenings.is_empty();
        let happenings: Vec<_> = read.happenings.into_iter().filter(|happening| sight.sees(happening)).collect();
        (next, missed) = (read.next, missed || read.missed);
        if over || missed || !happenings.is_empty() {
            return Ok(News { happenings, next, missed });
        }
    }
}

/// What a session may know of.
struct Sight {
    /// Whether it sees what others ask.
    admin: bool,
    /// The only models it sees; empty is all of them.
    models: Vec<String>,
}

impl Sight {
    fn of(session: &Session) -> Result<Self> {
        let models = session.key().map_or(Ok(Vec::new()), |key| session.daemon.keys.models(key))?;
        Ok(Self { admin: session.allow(KeyRole::Admin).is_ok(), models })
    }

    fn sees(&self, happening: &Happening) -> bool {
        let allowed = |name: &str| self.models.is_empty() || self.models.iter().any(|model| model == name);
        match happening {
            Happening::Model(card) => allowed(&card.name),
            Happening::Forgotten(name) => allowed(name),
            Happening::Loading(progress) | Happening::Downloading(progress) => allowed(&progress.subject),
            Happening::Downloaded(downloaded) => allowed(&downloaded.repo),
            Happening::Request(_) => self.admin,
        }
    }
}
