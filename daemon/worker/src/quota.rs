//! What a request may take of its key's tokens of a day. The daemon says how many that are; how long a prompt is, is known
//! here first. Asked by `prompt` and by the reader of `encode`.

use protocol::{Error, ErrorKind};

const DAY_MS: i64 = 86_400_000;

/// How many tokens each of `choices` answers may have, `each` at most; refuses a prompt that leaves none of what is `allowed`.
pub fn share(allowed: Option<u64>, prompt: usize, choices: u16, each: u32, now_unix_ms: i64) -> Result<u32, Error> {
    let Some(allowed) = allowed else { return Ok(each) };
    let left = allowed.checked_sub(prompt as u64).map(|left| left / u64::from(choices.max(1)));
    match left.map(|left| u32::try_from(left).unwrap_or(u32::MAX).min(each)) {
        Some(share) if share > 0 || each == 0 => Ok(share),
        _ => Err(exceeded(allowed, prompt as u64, now_unix_ms)),
    }
}

/// Refuses texts of so many tokens where no more than so many are allowed.
pub fn check(allowed: Option<u64>, tokens: u64, now_unix_ms: i64) -> Result<(), Error> {
    match allowed {
        Some(allowed) if tokens > allowed => Err(exceeded(allowed, tokens, now_unix_ms)),
        _ => Ok(()),
    }
}

fn exceeded(allowed: u64, tokens: u64, now_unix_ms: i64) -> Error {
    let message = format!("the key has {allowed} tokens left today for this request, which begins with {tokens}");
    let left_ms = (DAY_MS - now_unix_ms.rem_euclid(DAY_MS)).unsigned_abs();
    Error::new(ErrorKind::RateLimited, message)
        .hint("send less, or wait: days begin at midnight UTC")
        .retry_after_ms(left_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompt_and_answers_take_no_more_than_is_allowed() {
        for (allowed, prompt, choices, each, share) in [
            (None, 9, 1, 100, Some(100)),
            (Some(50), 9, 1, 100, Some(41)),
            (Some(50), 9, 1, 10, Some(10)),
            (Some(50), 9, 4, 100, Some(10)),
            (Some(12), 9, 4, 100, None),
            (Some(9), 9, 1, 100, None),
            (Some(9), 9, 1, 0, Some(0)),
            (Some(8), 9, 1, 0, None),
        ] {
            assert_eq!(super::share(allowed, prompt, choices, each, 0).ok(), share, "{allowed:?} {choices} {each}");
        }
        assert!(check(Some(9), 9, 0).is_ok() && check(None, 9, 0).is_ok());
        let refused = check(Some(8), 9, DAY_MS - 5).unwrap_err();
        assert_eq!((refused.kind, refused.retry_after_ms), (ErrorKind::RateLimited, Some(5)));
    }
}
