//! Follows a constrained answer through its grammar without holding up the heartbeat.
//!
//! While the model computes the next logits, a thread of its own finds which tokens may come next; a matcher travels there
//! and back. The heartbeat waits for it only if the step was faster, and never for long: a search that does not end is
//! stopped and ends its request alone. An answer that is free until it calls something is followed lazily: each token is looked
//! at once it is drawn, and only where it does not fit are all looked for that would. Choices own a [`Follower`]; the prompt threads make them.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::Builder;
use std::time::Duration;

use engine::text::{Allowed, GrammarError, Interrupt, Matcher};

/// How long the heartbeat waits for one answer's next tokens. The engine's own limits end a search much sooner.
const PATIENCE: Duration = Duration::from_secs(3);
/// The most searches that wait; one more is done where it is asked for.
const SEARCHES_MAX: usize = 1024;

/// A matcher on its way, and where it is waited for.
struct Search {
    matcher: Matcher,
    home: SyncSender<Found>,
}

/// A matcher that comes back with the tokens that may come next.
struct Found {
    matcher: Matcher,
    allowed: Result<Allowed, GrammarError>,
}

/// Where searches are sent.
#[derive(Clone)]
pub struct Scout(SyncSender<Search>);

impl Scout {
    /// Starts the thread, which ends when every scout and follower is gone. Without one, searches are done in place.
    pub fn start() -> Self {
        let (sender, searches) = sync_channel(SEARCHES_MAX);
        if let Err(error) = Builder::new().name("grammars".to_string()).spawn(move || search_all(&searches)) {
            tracing::error!(%error, "the thread for grammars cannot be started");
        }
        Self(sender)
    }
}

fn search_all(searches: &Receiver<Search>) {
    while let Ok(Search { mut matcher, home }) = searches.recv() {
        let allowed = matcher.allowed();
        // Its answer may have been cancelled meanwhile.
        let _ = home.send(Found { matcher, allowed });
    }
}

/// One answer's place in its grammar.
pub struct Follower {
    scout: Scout,
    /// `None` while it is away, and after it failed.
    matcher: Option<Matcher>,
    interrupt: Interrupt,
    home: SyncSender<Found>,
    returns: Receiver<Found>,
    /// Whether tokens are drawn first and looked at then.
    lazy: bool,
    /// The next tokens, once they are known.
    allowed: Option<Allowed>,
}

impl Follower {
    /// Begins an answer.
    pub fn new(matcher: Matcher, scout: &Scout, lazy: bool) -> Self {
        let (home, returns) = sync_channel(1);
        let interrupt = matcher.interrupt();
        Self { scout: scout.clone(), matcher: Some(matcher), interrupt, home, returns, lazy, allowed: None }
    }

    /// Whether tokens are drawn first and looked at then.
    pub fn is_lazy(&self) -> bool {
        self.lazy
    }

    /// The tokens that may come next in place of one that was drawn, unless that one may.
    pub fn instead_of(&mut self, token: u32) -> Result<Option<&Allowed>, GrammarError> {
        if self.matcher.as_mut().ok_or_else(gone)?.admits(token)? { Ok(None) } else { self.allowed().map(Some) }
    }

    /// Has the next tokens looked for elsewhere, if they will be asked for.
    pub fn look_ahead(&mut self) {
        if !self.lazy {
            self.search();
        }
    }

    fn search(&mut self) {
        if self.allowed.is_some() {
            return;
        }
        let Some(matcher) = self.matcher.take() else { return };
        let search = Search { matcher, home: self.home.clone() };
        if let Err(unsent) = self.scout.0.try_send(search) {
            let (TrySendError::Full(search) | TrySendError::Disconnected(search)) = unsent;
            self.matcher = Some(search.matcher);
        }
    }

    /// The tokens that may come next; waits for them if need be, in bounded time.
    pub fn allowed(&mut self) -> Result<&Allowed, GrammarError> {
        if self.allowed.is_none() {
            if self.lazy {
                // Elsewhere it can be stopped.
                self.search();
            }
            let allowed = match &mut self.matcher {
                Some(matcher) => matcher.allowed()?,
                None => self.returned()?,
            };
            self.allowed = Some(allowed);
        }
        self.allowed.as_ref().ok_or_else(gone)
    }

    fn returned(&mut self) -> Result<Allowed, GrammarError> {
        match self.returns.recv_timeout(PATIENCE) {
            Ok(Found { matcher, allowed }) => {
                self.matcher = Some(matcher);
                allowed
            }
            Err(RecvTimeoutError::Timeout) => {
                self.interrupt.stop();
                Err(GrammarError::Stuck(format!("finding the next tokens took over {} s", PATIENCE.as_secs())))
            }
            Err(RecvTimeoutError::Disconnected) => Err(gone()),
        }
    }

    /// Takes the next token; returns whether the answer is over with it.
    pub fn take(&mut self, token: u32) -> Result<bool, GrammarError> {
        if self.matcher.is_none() {
            self.returned()?;
        }
        self.allowed = None;
        let matcher = self.matcher.as_mut().ok_or_else(gone)?;
        matcher.take(token)?;
        Ok(matcher.is_over())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // A search for an answer that is gone would only hold up the others.
        if self.matcher.is_none() {
            self.interrupt.stop();
        }
    }
}

fn gone() -> GrammarError {
    GrammarError::Stuck("its place in the grammar is lost".to_string())
}

#[cfg(test)]
mod tests {
    use engine::text::{Grammar, Grammars, Shape, Tokenizer};

    use super::*;
    use crate::tests::kit::Folder;

    /// Follows an answer that is one of two texts.
    fn follower(folder: &Folder, scout: &Scout) -> Follower {
        let tokenizer = Tokenizer::open(folder.path()).unwrap();
        let vocabulary = crate::facts::inspect(folder.path()).unwrap().vocabulary;
        let grammars = Grammars::new(&tokenizer, &[vocabulary - 1], vocabulary);
        let shape = Grammar::Shape(Shape::Choice(["ab", "ac"].map(String::from).to_vec()));
        Follower::new(grammars.compile(&shape).unwrap(), scout, false)
    }

    fn may_come(allowed: &Allowed) -> Vec<u32> {
        let mut logits = vec![0.0; engine::random::TOKENS as usize];
        allowed.apply(&mut logits);
        (0..256).filter(|token| logits[*token as usize] == 0.0).collect()
    }

    #[test]
    fn the_next_tokens_are_looked_for_elsewhere_and_are_there_when_they_are_asked_for() {
        let folder = Folder::new("followed", |recipe| recipe);
        let (sender, searches) = sync_channel(4);
        let mut follower = follower(&folder, &Scout(sender));
        for (may, token) in [(&b"a"[..], b'a'), (b"bc", b'c')] {
            follower.look_ahead();
            // The heartbeat goes on, and has nothing to do with what is done here.
            let Search { mut matcher, home } = searches.try_recv().unwrap();
            let allowed = matcher.allowed();
            assert!(home.try_send(Found { matcher, allowed }).is_ok());
            let may: Vec<u32> = may.iter().map(|byte| u32::from(*byte)).collect();
            assert_eq!(may_come(follower.allowed().unwrap()), may);
            follower.look_ahead();
            assert!(searches.try_recv().is_err(), "what is known is not looked for again");
            assert_eq!(follower.take(u32::from(token)).unwrap(), token == b'c');
        }
    }

    #[test]
    fn a_search_that_nobody_can_do_is_done_where_it_is_asked_for() {
        let folder = Folder::new("in-place", |recipe| recipe);
        let (sender, searches) = sync_channel(4);
        drop(searches);
        let mut follower = follower(&folder, &Scout(sender));
        follower.look_ahead();
        assert_eq!(may_come(follower.allowed().unwrap()), [u32::from(b'a')]);
    }
}
