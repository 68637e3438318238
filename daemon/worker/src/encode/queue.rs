//! Whose texts are computed next: higher levels first, and among equals a text of each request in turn, so that one
//! request of thousands of texts does not hold up a single question. A level is the priority, and rises with waiting as
//! that of a sequence does.
//!
//! Pure: time is an argument. It counts what each request has left and how long it took.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use pipe::WorkId;
use protocol::generation::Priority;
use scheduler::level;

use crate::runner::priority;

/// A text that is to be computed.
#[derive(Debug)]
pub struct Item {
    /// Whose it is.
    pub work: WorkId,
    /// Which of its texts.
    pub index: u32,
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// Of each token; empty where all belong to the first text.
    pub segments: Vec<u8>,
    /// Whether its end was left out.
    pub cut: bool,
}

/// A request whose texts are tokens.
#[derive(Debug)]
pub struct Request {
    /// Its name on the pipe.
    pub work: WorkId,
    /// Who goes first.
    pub priority: Priority,
    /// How many numbers a vector has; `None` asks for scores.
    pub dimensions: Option<usize>,
    /// When it arrived.
    pub arrived: Instant,
    /// What is not in a step yet.
    texts: VecDeque<Item>,
    /// How many results are not there yet.
    left: usize,
    tokens: u32,
    started: Option<Instant>,
}

/// What the result of one text means for its request.
#[derive(Debug, PartialEq, Eq)]
pub struct Done {
    /// As its request asked.
    pub dimensions: Option<usize>,
    /// Tokens of all its texts.
    pub tokens: u32,
    /// How long it waited and how long it took, if this was its last text.
    pub finished: Option<(Duration, Duration)>,
}

/// The requests in line.
#[derive(Debug, Default)]
pub struct Queue {
    requests: VecDeque<Request>,
}

impl Request {
    /// A request of these texts.
    pub fn new(
        work: WorkId,
        priority: Priority,
        dimensions: Option<usize>,
        arrived: Instant,
        texts: Vec<Item>,
    ) -> Self {
        let tokens = texts.iter().map(|text| text.tokens.len() as u32).fold(0, u32::saturating_add);
        Self { work, priority, dimensions, arrived, left: texts.len(), texts: texts.into(), tokens, started: None }
    }

    fn level(&self, now: Instant) -> u8 {
        let waited = now.saturating_duration_since(self.arrived).as_millis();
        level(priority(self.priority), 0, u64::try_from(waited).unwrap_or(u64::MAX))
    }

    /// Whether all its results are there.
    pub fn is_done(&self) -> bool {
        self.left == 0
    }

    /// Tokens of all its texts.
    pub fn tokens(&self) -> u32 {
        self.tokens
    }
}

impl Queue {
    /// How many requests are not finished.
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Whether there is nothing to compute.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// How many of them were in a step.
    pub fn running(&self) -> u32 {
        self.requests.iter().filter(|request| request.started.is_some()).count() as u32
    }

    /// Puts a request in line, which lacks a result at least.
    pub fn add(&mut self, request: Request) {
        self.requests.push_back(request);
    }

    /// Takes a request out, finished or not.
    pub fn remove(&mut self, work: WorkId) {
        self.requests.retain(|request| request.work != work);
    }

    /// The texts of the next step: as many as `tokens_max` tokens hold, and at least one.
    pub fn next(&mut self, tokens_max: usize, now: Instant) -> Vec<Item> {
        let (mut batch, mut tokens) = (Vec::new(), 0);
        loop {
            let waiting = self.requests.iter().enumerate().filter(|(_, request)| !request.texts.is_empty());
            // The first of those that are highest.
            let first = waiting.min_by_key(|(_, request)| Reverse(request.level(now)));
            let Some((at, length)) = first.map(|(at, request)| (at, request.texts[0].tokens.len())) else { break };
            if !batch.is_empty() && tokens + length > tokens_max {
                break;
            }
            tokens += length;
            // To the end of the line, so that the next text is another request's.
            if let Some(mut request) = self.requests.remove(at) {
                request.started.get_or_insert(now);
                batch.extend(request.texts.pop_front());
                self.requests.push_back(request);
            }
        }
        batch
    }

    /// Counts a result; `None` if nobody wants it any more.
    pub fn done(&mut self, work: WorkId, now: Instant) -> Option<Done> {
        let at = self.requests.iter().position(|request| request.work == work)?;
        let request = &mut self.requests[at];
        request.left -= 1;
        let (dimensions, tokens) = (request.dimensions, request.tokens);
        let started = request.started.unwrap_or(now);
        let times = (started.saturating_duration_since(request.arrived), now.saturating_duration_since(started));
        let finished = request.is_done().then_some(times);
        if finished.is_some() {
            self.requests.remove(at);
        }
        Some(Done { dimensions, tokens, finished })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(work: u64, priority: Priority, lengths: &[usize], now: Instant) -> Request {
        let text = |(index, length): (usize, &usize)| Item {
            work: WorkId(work),
            index: index as u32,
            tokens: vec![1; *length],
            segments: Vec::new(),
            cut: false,
        };
        Request::new(WorkId(work), priority, None, now, lengths.iter().enumerate().map(text).collect())
    }

    fn next(queue: &mut Queue, tokens_max: usize) -> Vec<(u64, u32)> {
        queue.next(tokens_max, Instant::now()).iter().map(|item| (item.work.0, item.index)).collect()
    }

    #[test]
    fn requests_of_one_priority_take_turns_text_by_text() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.add(request(1, Priority::Normal, &[4; 5], now));
        queue.add(request(2, Priority::Normal, &[4], now));
        queue.add(request(3, Priority::High, &[4], now));
        assert_eq!(next(&mut queue, 16), [(3, 0), (1, 0), (2, 0), (1, 1)]);
        assert_eq!(next(&mut queue, 16), [(1, 2), (1, 3), (1, 4)]);
        assert_eq!(next(&mut queue, 16), []);
        assert_eq!(queue.len(), 3, "results are still to come");
    }

    #[test]
    fn a_low_request_is_served_beside_higher_ones_that_never_end_once_it_has_waited() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.add(request(1, Priority::Low, &[4; 3], now));
        let mut served = |seconds| {
            let later = now + Duration::from_secs(seconds);
            queue.add(request(2, Priority::High, &[4; 4], later));
            queue.next(8, later).iter().map(|item| item.work.0).collect::<Vec<_>>()
        };
        assert_eq!(served(0), [2, 2]);
        assert_eq!(served(19), [2, 2], "it is not as high yet");
        assert!(served(20).contains(&1));
    }

    #[test]
    fn a_text_longer_than_a_step_goes_alone() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.add(request(1, Priority::Normal, &[100, 3], now));
        queue.add(request(2, Priority::Normal, &[3], now));
        assert_eq!(next(&mut queue, 16), [(1, 0)]);
        assert_eq!(next(&mut queue, 16), [(2, 0), (1, 1)]);
    }

    #[test]
    fn the_last_result_ends_a_request_and_says_how_long_it_took() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let later = |ms| now + Duration::from_millis(ms);
        queue.add(request(1, Priority::Normal, &[2, 3], now));
        queue.next(99, later(10));
        assert_eq!(queue.running(), 1);
        assert_eq!(queue.done(WorkId(1), later(30)).unwrap().finished, None);
        let done = queue.done(WorkId(1), later(30)).unwrap();
        assert_eq!((done.tokens, done.finished), (5, Some((Duration::from_millis(10), Duration::from_millis(20)))));
        assert!(queue.is_empty() && queue.done(WorkId(1), later(40)).is_none());
    }

    #[test]
    fn a_removed_request_gives_no_texts_and_wants_no_results() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.add(request(1, Priority::Normal, &[2, 2], now));
        queue.next(2, now);
        queue.remove(WorkId(1));
        assert_eq!(next(&mut queue, 99), []);
        assert!(queue.done(WorkId(1), now).is_none());
    }
}
