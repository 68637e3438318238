//! What several bridges share where Redis is given to them: how much of each limit per minute is left, how many bad keys an
//! address has shown, the secret that signs logins, and the logins that were ended. Without Redis the daemon counts, for all of
//! its own bridges, and each bridge signs its own logins; nothing of this is then asked.
//!
//! Made for bridges of several daemons that hold the same keys. It fails closed: where Redis is gone, whoever would have to be
//! counted is refused, and told why. Called by `access` and `login`.

use std::time::Duration;

use protocol::key::{BAD_KEYS_PER_MINUTE, Principal, Purpose, Rate};
use protocol::{Error, ErrorKind, Result};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, cmd};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, timeout};

/// How long Redis may take to be there and to answer, whoever else waits for it.
const PATIENCE: Duration = Duration::from_secs(2);

/// For how long it is not asked again after it was gone: nobody else need wait to hear the same.
const GONE: Duration = Duration::from_secs(1);

/// Takes one token out of a bucket that fills up in a minute, as the daemon's buckets do: what is kept is when it is full again.
/// Says how long until then, and how long to wait, in microseconds. Redis has the clock, so that bridges agree on the time.
const TAKE: &str = "
    local time = redis.call('TIME')
    local now = time[1] * 1000000 + time[2]
    local limit = tonumber(ARGV[1])
    local interval = math.ceil(60000000 / math.max(limit, 1))
    local missing = math.max(tonumber(redis.call('GET', KEYS[1]) or '0') - now, 0)
    local wait = math.max(missing + interval - interval * limit, 0)
    if wait == 0 then
        missing = missing + interval
        redis.call('SET', KEYS[1], string.format('%.0f', now + missing), 'PX', math.ceil(missing / 1000))
    end
    return {missing, wait}";

/// Redis, as several bridges use it.
pub struct Shared {
    client: Client,
    /// Made when first needed, and again when it failed.
    connection: Mutex<Option<MultiplexedConnection>>,
    /// Until when it counts as gone.
    gone_until: watch::Sender<Option<Instant>>,
}

impl Shared {
    /// Connects to the Redis at `url`; fails where it is not there.
    pub async fn connect(url: &str) -> Result<Self> {
        let hint = "write redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE] or redis+unix:///PATH";
        // The reason may name a part of the URL, which may hold a password.
        let client = Client::open(url).map_err(|_| Error::invalid("redis", "this is no URL of a Redis").hint(hint))?;
        let shared = Self { client, connection: Mutex::default(), gone_until: watch::Sender::default() };
        shared.ask::<String>(&cmd("PING")).await?;
        Ok(shared)
    }

    /// Counts a request that the daemon has judged and not counted, whoever of the bridges it came to.
    pub async fn count(&self, judged: Result<Principal>, peer: &str, purpose: Purpose) -> Result<Principal> {
        match judged {
            Ok(mut principal) => {
                if let Some(rate) = principal.rate.filter(|rate| rate.wait_ms == 0) {
                    let bucket = format!("{}:{}", principal.id, word(purpose));
                    principal.rate = Some(self.take(&bucket, rate.limit).await?);
                }
                Ok(principal)
            }
            Err(error) if error.kind == ErrorKind::AuthRequired => {
                let rate = self.take(&format!("peer:{peer}"), BAD_KEYS_PER_MINUTE).await?;
                if rate.wait_ms == 0 {
                    return Err(error);
                }
                let message = "too many bad keys have come from this address";
                Err(Error::new(ErrorKind::RateLimited, message)
                    .hint("wait as long as Retry-After says, then send a good key")
                    .retry_after_ms(rate.wait_ms))
            }
            Err(error) => Err(error),
        }
    }

    async fn take(&self, bucket: &str, limit: u32) -> Result<Rate> {
        let key = format!("impetus:rate:{bucket}");
        let (missing_us, wait_us): (u64, u64) = self.ask(cmd("EVAL").arg(TAKE).arg(1).arg(key).arg(limit)).await?;
        let interval_us = 60_000_000_u64.div_ceil(u64::from(limit.max(1)));
        let left_us = (interval_us * u64::from(limit)).saturating_sub(missing_us);
        Ok(Rate {
            limit,
            remaining: u32::try_from(left_us / interval_us).unwrap_or(u32::MAX),
            reset_ms: missing_us.div_ceil(1_000),
            wait_ms: wait_us.div_ceil(1_000),
        })
    }

    /// Returns the secret that all bridges sign logins with: the first of them draws it, as `drawn`.
    pub async fn secret(&self, drawn: &[u8]) -> Result<Vec<u8>> {
        const KEY: &str = "impetus:login:secret";
        let _: Option<String> = self.ask(cmd("SET").arg(KEY).arg(drawn).arg("NX")).await?;
        self.ask(cmd("GET").arg(KEY)).await
    }

    /// Has all bridges know that a login was ended, for as long as its token would be good.
    pub async fn end_login(&self, name: &str, seconds: u64) -> Result<()> {
        self.ask(cmd("SET").arg(ended(name)).arg(1).arg("EX").arg(seconds.max(1))).await
    }

    /// Whether any bridge was told that a login was ended.
    pub async fn has_ended(&self, name: &str) -> Result<bool> {
        self.ask(cmd("EXISTS").arg(ended(name))).await
    }

    async fn ask<T: FromRedisValue>(&self, question: &Cmd) -> Result<T> {
        if self.gone_until.borrow().is_some_and(|until| Instant::now() < until) {
            return Err(gone());
        }
        let fault = match timeout(PATIENCE, self.try_ask(question)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(fault)) => fault.to_string(),
            Err(late) => {
                // Whoever makes a new one has given this one up.
                if let Ok(mut kept) = self.connection.try_lock() {
                    *kept = None;
                }
                late.to_string()
            }
        };
        tracing::warn!(error = fault, "Redis does not answer");
        self.gone_until.send_replace(Some(Instant::now() + GONE));
        Err(gone())
    }

    async fn try_ask<T: FromRedisValue>(&self, question: &Cmd) -> redis::RedisResult<T> {
        let mut again = true;
        loop {
            let mut connection = self.connection().await?;
            let error = match question.query_async(&mut connection).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            // Whatever failed, the next question gets a new connection; so does this one if its own was only old.
            *self.connection.lock().await = None;
            if !error.is_connection_dropped() || !std::mem::take(&mut again) {
                return Err(error);
            }
        }
    }

    async fn connection(&self) -> redis::RedisResult<MultiplexedConnection> {
        let mut kept = self.connection.lock().await;
        if let Some(connection) = &*kept {
            return Ok(connection.clone());
        }
        let patience =
            AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
        let made = self.client.get_multiplexed_async_connection_with_config(&patience).await?;
        Ok(kept.insert(made).clone())
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::Unreachable, "Redis, which counts for several bridges here, does not answer")
        .hint("start it again, or start the bridge without it")
        .retry_after_ms(GONE.as_millis() as u64)
}

fn ended(name: &str) -> String {
    format!("impetus:login:ended:{name}")
}

fn word(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Inference => "inference",
        Purpose::Read => "read",
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use tokio::net::UnixListener;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_redis_that_hangs_costs_everybody_one_patience_at_most_and_is_asked_again_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let client = Client::open(format!("redis+unix://{}", path.display())).unwrap();
        let shared = Shared { client, connection: Mutex::default(), gone_until: watch::Sender::default() };
        let start = Instant::now();
        for ended in join_all((0..20).map(|_| shared.has_ended("a"))).await {
            let error = ended.unwrap_err();
            assert_eq!((error.kind, error.retry_after_ms), (ErrorKind::Unreachable, Some(1_000)));
        }
        assert!((PATIENCE..PATIENCE + GONE).contains(&start.elapsed()), "{:?}", start.elapsed());
        let start = Instant::now();
        shared.has_ended("a").await.unwrap_err();
        assert_eq!(start.elapsed(), Duration::ZERO, "it is known to be gone");
        tokio::time::advance(GONE).await;
        drop(listener);
        shared.has_ended("a").await.unwrap_err();
        assert_eq!(start.elapsed(), GONE, "it was asked, and refused at once");
    }
}
