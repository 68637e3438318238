//! Codecs and prefaces: what must survive a round trip, and what must be refused.

use serde_json::{Value, json};

use super::*;
use crate::generation::{Delta, GenerateRequest, Sampling, Stop, TokenLogprob};
use crate::service::ImpetusRequest;
use crate::transcript::{Cursor, Event, Page};
use crate::{Error, ErrorKind, Result};

/// A generator of varied values; the same seed gives the same values.
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn text(&mut self) -> String {
        let letters = ['a', '\n', '"', '\\', 'ß', '🌍', '\u{0}', '\u{2028}'];
        (0..self.next() % 12).map(|_| letters[self.next() as usize % letters.len()]).collect()
    }

    fn delta(&mut self) -> Delta {
        Delta {
            choice: self.next() as u16,
            text: self.text(),
            reasoning: self.text(),
            tokens: self.next() as u32,
            logprobs: (0..self.next() % 3)
                .map(|_| TokenLogprob {
                    token: self.next() as u32,
                    bytes: self.text().into_bytes(),
                    logprob: -(self.next() as f32) / 1e6,
                    top: vec![(self.next() as u32, vec![self.next() as u8], -(self.next() as f32) / 3e7)],
                })
                .collect(),
            tool_calls: vec![],
            prompt: vec![],
        }
    }

    fn page(&mut self) -> Page {
        let events = (0..self.next() % 5)
            .map(|_| match self.next() % 2 {
                0 => Event::Delta(self.delta()),
                _ => Event::Failed(Error::new(ErrorKind::Internal, self.text()).hint(self.text())),
            })
            .collect();
        Page { events, next: Cursor(self.next() << 31 | self.next()), ended: self.next().is_multiple_of(2) }
    }
}

#[test]
fn json_and_bincode_agree_on_every_value() {
    let mut seeded = Seeded(1);
    for _ in 0..2_000 {
        let reply = Reply { id: seeded.next(), result: Ok(seeded.page()) };
        for codec in [Codec::Bincode, Codec::Json] {
            let body = codec.encode(&reply).unwrap();
            assert_eq!(codec.decode::<Reply<Page>>(&body).unwrap(), reply);
        }
    }
}

#[test]
fn a_cut_body_is_an_error_wherever_it_is_cut() {
    let reply: Reply<Page> = Reply { id: 3, result: Ok(Seeded(9).page()) };
    for codec in [Codec::Bincode, Codec::Json] {
        let body = codec.encode(&reply).unwrap();
        for length in 0..body.len() {
            assert!(codec.decode::<Reply<Page>>(&body[..length]).is_err(), "{codec:?} took {length} bytes");
        }
    }
}

#[test]
fn flipped_bytes_never_crash_the_decoder() {
    let body = encode(&Reply { id: 3, result: Ok(Seeded(5).page()) }).unwrap();
    let mut seeded = Seeded(2);
    for _ in 0..5_000 {
        let mut body = body.clone();
        let at = seeded.next() as usize % body.len();
        body[at] ^= 1 << (seeded.next() % 8);
        // Either outcome is right; what must not happen is a panic or an allocation that the length claims.
        if let Ok(reply) = decode::<Reply<Page>>(&body) {
            assert_eq!(encode(&reply).unwrap().len(), body.len());
        }
    }
}

#[test]
fn a_length_beyond_the_body_is_refused_before_it_is_allocated() {
    let mut body = u64::MAX.to_le_bytes().to_vec();
    body.extend([0; 32]);
    assert!(matches!(decode::<Vec<u8>>(&body), Err(WireError::Decode(_))));
    assert!(matches!(decode::<String>(&body), Err(WireError::Decode(_))));
}

#[test]
fn trailing_bytes_are_refused() {
    let mut body = encode(&7_u32).unwrap();
    body.push(0);
    assert!(decode::<u32>(&body).is_err());
    assert!(Codec::Json.decode::<u32>(b"7 7").is_err());
}

#[test]
fn a_body_longer_than_a_frame_is_refused() {
    let long = "x".repeat(FRAME_BYTES_MAX);
    for codec in [Codec::Bincode, Codec::Json] {
        assert!(matches!(codec.encode(&long), Err(WireError::TooLong { bytes }) if bytes > FRAME_BYTES_MAX));
    }
}

#[test]
fn a_preface_survives_its_bytes_and_another_magic_does_not() {
    let preface = Preface { version: 0x0102, codec: 1, status: 3 };
    assert_eq!(preface.to_bytes(), *b"IMPT\x02\x01\x01\x03");
    assert_eq!(Preface::from_bytes(preface.to_bytes()), Some(preface));
    assert_eq!(Preface::from_bytes(*b"GET / HT"), None);
}

#[test]
fn a_json_request_may_leave_out_what_has_a_default() {
    let body = json!({ "prompt": { "Chat": { "messages": [{ "role": "User", "content": "hi" }] } } });
    let request: GenerateRequest = serde_json::from_value(body).unwrap();
    assert_eq!(request.choices, 1);
    assert_eq!(request.stop, Stop::default());
    assert_eq!(request.sampling, Sampling::default());
}

#[test]
fn an_endless_deadline_is_shortened_instead_of_overflowing() {
    let call = Call::Request { id: 1, deadline_ms: u64::MAX, verb: ImpetusRequest::Status {} };
    match Call::from_tarpc(call.into_tarpc()) {
        Some(Call::Request { deadline_ms, .. }) => assert!(deadline_ms <= frame::DEADLINE_MS_MAX),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_refusal_keeps_its_fields_through_tarpc() {
    let error = Error::new(ErrorKind::Busy, "full").hint("wait").retry_after_ms(5);
    let reply: Reply<()> = Reply { id: 4, result: Result::Err(error.clone()) };
    let server_error = reply.into_tarpc().message.unwrap_err();
    assert_eq!(frame::unwrap_refusal(server_error), error);
}

#[test]
fn the_json_of_a_call_is_what_the_documentation_shows() {
    let call = Call::Request { id: 1, deadline_ms: 5_000, verb: ImpetusRequest::Models {} };
    let value: Value = serde_json::from_slice(&Codec::Json.encode(&call).unwrap()).unwrap();
    assert_eq!(value, json!({ "Request": { "id": 1, "deadline_ms": 5_000, "verb": { "Models": {} } } }));
}
