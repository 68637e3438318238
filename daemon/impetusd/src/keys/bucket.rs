//! A limit per minute, as a token bucket. Pure: time is an argument. Used by `keys` for requests and for bad keys.

use protocol::key::Rate;

const MINUTE_US: u64 = 60_000_000;

/// How full a bucket is: only the time at which it will be full again has to be known. A new one is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    full_at_us: u64,
}

impl Bucket {
    /// Takes one token out of a bucket that holds `limit` and fills up in a minute; one that is empty stays as it is.
    pub fn take(&mut self, limit: u32, now_us: u64) -> Rate {
        // Rounded up: a minute never lets in more than the limit.
        let interval = MINUTE_US.div_ceil(u64::from(limit.max(1)));
        let capacity = interval * u64::from(limit);
        let missing = self.full_at_us.saturating_sub(now_us);
        let wait_us = (missing + interval).saturating_sub(capacity);
        let missing = if wait_us == 0 { missing + interval } else { missing };
        self.full_at_us = now_us + missing;
        Rate {
            limit,
            remaining: u32::try_from(capacity.saturating_sub(missing) / interval).unwrap_or(u32::MAX),
            reset_ms: missing.div_ceil(1_000),
            wait_ms: wait_us.div_ceil(1_000),
        }
    }

    /// Whether it is full, and so no different from a new one.
    pub fn is_full(&self, now_us: u64) -> bool {
        self.full_at_us <= now_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_bucket_lets_a_burst_in_and_then_one_an_interval() {
        let mut bucket = Bucket::default();
        for left in (0..60).rev() {
            let rate = bucket.take(60, 5);
            assert_eq!((rate.remaining, rate.wait_ms), (left, 0));
        }
        assert_eq!(bucket.take(60, 5), Rate { limit: 60, remaining: 0, reset_ms: 60_000, wait_ms: 1_000 });
        assert_eq!(bucket.take(60, 5 + 999_999).wait_ms, 1);
        assert_eq!(bucket.take(60, 5 + 1_000_000).wait_ms, 0);
        assert_eq!(bucket.take(60, 5 + 1_000_001).wait_ms, 1_000);
    }

    #[test]
    fn no_minute_after_the_burst_lets_in_more_than_the_limit() {
        for limit in [1, 7, 60, 119, 10_000] {
            let mut bucket = Bucket::default();
            // Somebody who tries all the time: the burst goes first, then what a minute brings.
            let mut let_in =
                |from: u64| (0..60_000).filter(|ms| bucket.take(limit, from + ms * 1_000).wait_ms == 0).count();
            let (first, second) = (let_in(0), let_in(MINUTE_US));
            assert!(first <= 2 * limit as usize && second <= limit as usize, "{limit}: {first}, {second}");
            assert!(second + 1 >= limit as usize, "{limit}: {second}");
        }
    }

    #[test]
    fn a_refusal_costs_nothing_and_idleness_fills_up() {
        let mut bucket = Bucket::default();
        let refused = (0..6).map(|_| bucket.take(5, 0)).last().unwrap();
        assert!(refused.wait_ms > 0);
        assert_eq!(bucket.take(5, 0), refused);
        assert!(!bucket.is_full(MINUTE_US - 1) && bucket.is_full(MINUTE_US));
        assert_eq!(bucket.take(5, MINUTE_US).remaining, 4);
        assert_eq!(bucket.take(5, 9 * MINUTE_US).remaining, 4);
    }
}
