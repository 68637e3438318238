//! What a login is remembered by: a JSON Web Token that this bridge signs and nobody else can make.
//!
//! There is one algorithm, HMAC with SHA-256, and one header: a token with any other is not looked at. The secret is drawn
//! when the bridge starts and never leaves its memory, so a restart ends every login, unless bridges share one. Pure but for
//! that; `login` hands in the time.

use protocol::key::Login;
use protocol::{Error, Result};
use ring::hmac::{self, HMAC_SHA256, Key};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::base64::{decode_for_url, encode_for_url};

/// For how long a token is good, in seconds; it is renewed while it is used.
pub const LIFE_S: u64 = 3_600;

/// For how long after the key was shown a token is renewed, in seconds.
pub const LOGIN_S: u64 = 12 * 3_600;

/// `{"alg":"HS256","typ":"JWT"}`.
const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";

/// The length of a secret.
const SECRET_BYTES: usize = 32;

/// Longer texts are no tokens of ours.
const TOKEN_BYTES_MAX: usize = 1_024;

/// What a token says; the short names are those of the standard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// The key's id.
    pub sub: String,
    /// Which of the key's secrets was shown.
    pub print: u64,
    /// The login's own name.
    pub jti: String,
    /// When the key was shown, in seconds since 1970.
    pub auth_time: u64,
    /// When the token was made.
    pub iat: u64,
    /// From when on it is refused.
    pub exp: u64,
}

impl Claims {
    /// Makes those of a login that begins now.
    pub fn new(login: Login, name: String, now: u64) -> Self {
        Self { sub: login.key, print: login.print, jti: name, auth_time: now, iat: now, exp: now + LIFE_S }
    }

    /// Returns newer ones for the same login once half of the life is over; `None` while that is not needed or not allowed.
    pub fn renewed(&self, now: u64) -> Option<Self> {
        let exp = (now + LIFE_S).min(self.auth_time + LOGIN_S);
        (now >= self.iat + LIFE_S / 2 && exp > self.exp).then(|| Self { iat: now, exp, ..self.clone() })
    }

    /// What the daemon judges.
    pub fn login(&self) -> Login {
        Login { key: self.sub.clone(), print: self.print }
    }
}

/// Draws a secret from the system.
pub fn draw() -> Result<[u8; SECRET_BYTES]> {
    let mut secret = [0; SECRET_BYTES];
    let drawn = SystemRandom::new().fill(&mut secret);
    drawn.map(|()| secret).map_err(|_| Error::internal("the system has no randomness to sign logins with"))
}

/// Signs tokens, and knows its own.
#[derive(Debug)]
pub struct Signer(Key);

impl Signer {
    /// Signs with a secret.
    pub fn new(secret: &[u8]) -> Self {
        Self(Key::new(HMAC_SHA256, secret))
    }

    /// Returns the token of `claims`.
    pub fn sign(&self, claims: &Claims) -> String {
        self.seal(&serde_json::to_vec(claims).expect("claims have string keys and no failing serialisers"))
    }

    /// Returns the token that says this, whatever it is.
    pub fn seal(&self, said: &[u8]) -> String {
        let mut token = format!("{HEADER}.{}", encode_for_url(said));
        let signature = hmac::sign(&self.0, token.as_bytes());
        token.push('.');
        token.push_str(&encode_for_url(signature.as_ref()));
        token
    }

    /// Returns what a token says, if it is one of ours and good at `now`.
    pub fn read(&self, token: &str, now: u64) -> Option<Claims> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, said) = signed.split_once('.')?;
        if header != HEADER {
            return None;
        }
        // The comparison takes the same time wherever the two differ.
        hmac::verify(&self.0, signed.as_bytes(), &decode_for_url(signature)?).ok()?;
        let claims: Claims = serde_json::from_slice(&decode_for_url(said)?).ok()?;
        (now < claims.exp).then_some(claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(now: u64) -> Claims {
        Claims::new(Login { key: "key_1".to_owned(), print: u64::MAX }, "login_1".to_owned(), now)
    }

    #[test]
    fn a_token_is_read_by_the_signer_that_made_it_until_its_time_is_over() {
        let (ours, theirs) = (Signer::new(b"ours"), Signer::new(b"theirs"));
        let token = ours.sign(&claims(100));
        assert_eq!(ours.read(&token, 100), Some(claims(100)));
        assert_eq!(ours.read(&token, 100 + LIFE_S - 1), Some(claims(100)));
        assert_eq!(ours.read(&token, 100 + LIFE_S), None);
        assert_eq!(theirs.read(&token, 100), None);
    }

    #[test]
    fn whatever_is_changed_in_a_token_it_is_refused() {
        let ours = Signer::new(b"ours");
        let token = ours.sign(&claims(100));
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(ours.read(&String::from_utf8(changed).unwrap(), 100), None, "letter {at}");
        }
        let said = token.split('.').nth(1).unwrap();
        let none = encode_for_url(br#"{"alg":"none","typ":"JWT"}"#);
        for wrong in [format!("{none}.{said}."), format!("{HEADER}.{said}."), format!("{HEADER}.{said}"), String::new()]
        {
            assert_eq!(ours.read(&wrong, 100), None, "{wrong}");
        }
    }

    #[test]
    fn a_login_is_renewed_while_it_is_used_and_ends_all_the_same() {
        let mut claims = claims(0);
        assert_eq!(claims.renewed(LIFE_S / 2 - 1), None);
        let mut now = 0;
        while let Some(newer) = claims.renewed(now) {
            assert_eq!((newer.auth_time, newer.iat, &newer.jti), (0, now, &claims.jti));
            claims = newer;
            now += LIFE_S / 2;
            if now < LIFE_S / 2 * 2 {
                now = LIFE_S / 2;
            }
        }
        assert!(claims.exp <= LOGIN_S);
        let mut last = claims.clone();
        for now in (0..2 * LOGIN_S).step_by(600) {
            if now < last.exp {
                last = last.renewed(now).unwrap_or(last);
            }
        }
        assert_eq!(last.exp, LOGIN_S, "one that is used all the time lasts exactly so long");
    }
}
