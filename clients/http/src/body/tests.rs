//! Bodies at and over their limits, and the names that refusals give.

use futures::stream;
use serde::Deserialize;
use serde_json::json;

use super::*;

fn pieces(count: usize) -> Body {
    let piece = Bytes::from(vec![b'x'; 1 << 20]);
    Body::from_stream(stream::iter((0..count).map(move |_| Ok::<_, std::convert::Infallible>(piece.clone()))))
}

fn status(body: Body) -> Result<usize, StatusCode> {
    futures::executor::block_on(read(body, BODY_BYTES_MAX, &mut Room::default().enter()))
        .map(|bytes| bytes.len())
        .map_err(|Refusal(status, _)| status)
}

#[test]
fn a_body_at_the_limit_is_read_and_one_over_it_is_refused() {
    assert_eq!(status(pieces(16)), Ok(BODY_BYTES_MAX));
    assert_eq!(status(pieces(17)), Err(StatusCode::PAYLOAD_TOO_LARGE));
    assert_eq!(status(pieces(1000)), Err(StatusCode::PAYLOAD_TOO_LARGE));
}

#[test]
fn a_body_that_breaks_off_is_a_bad_request() {
    let body = Body::from_stream(stream::iter([Ok(Bytes::from_static(b"{")), Err(std::io::Error::other("reset"))]));
    assert_eq!(status(body), Err(StatusCode::BAD_REQUEST));
}

#[test]
fn members_are_known_or_refused_by_name() {
    #[derive(Debug, Deserialize)]
    struct Own {
        #[expect(dead_code, reason = "only its reading is tested")]
        n: u8,
    }
    let read = |body: Value| Members::read(&Bytes::from(body.to_string()), &[&["n"], &["m"]]);
    let refused = |result: Result<Own, Error>| result.unwrap_err().param;
    assert_eq!(read(json!({"n": 1, "x": 2})).err().and_then(|error| error.param).as_deref(), Some("x"));
    assert!(read(json!({"n": 1, "x": null})).unwrap().part::<Own>().is_ok());
    assert_eq!(refused(read(json!({"n": "many"})).unwrap().part()).as_deref(), Some("n"));
    assert_eq!(refused(read(json!({"m": 1})).unwrap().part()).as_deref(), Some("n"));
}

#[test]
fn what_is_expected_is_said_without_the_names_of_types() {
    #[derive(Debug, Deserialize)]
    struct Turn {
        #[expect(dead_code, reason = "only its reading is tested")]
        role: String,
    }
    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only its reading is tested")]
    struct Own {
        n: Option<u16>,
        p: Option<f32>,
        turns: Option<Vec<Turn>>,
    }
    let message = |body: Value| {
        let members = Members::read(&Bytes::from(body.to_string()), &[&["n", "p", "turns"]]).unwrap();
        members.part::<Own>().unwrap_err().message
    };
    for (body, expected) in [
        (json!({"n": 70_000}), "expected a whole number from 0 to 65535."),
        (json!({"p": "much"}), "expected a number."),
        (json!({"turns": ["Hi"]}), "expected an object."),
        (json!({"turns": "Hi"}), "expected a sequence."),
    ] {
        let message = message(body);
        assert!(message.ends_with(expected), "{message}");
    }
}

#[test]
fn what_is_no_object_is_refused() {
    for body in [&b""[..], b"{", b"[]", b"\"\xff\"", b"nul", &[b'['; 4096]] {
        let error = Members::read(&Bytes::copy_from_slice(body), &[]).err().expect("it is refused");
        assert_eq!(error.kind, ErrorKind::Invalid);
    }
}

#[test]
fn a_query_is_refused_with_the_name_that_is_wrong() {
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Own {
        #[expect(dead_code, reason = "only its reading is tested")]
        limit: Option<u8>,
    }
    let read = |uri: &'static str| query(Query::<Own>::try_from_uri(&Uri::from_static(uri)));
    assert!(read("/x?limit=5").is_ok() && read("/x").is_ok());
    for (uri, param) in [("/x?limit=many", "limit"), ("/x?colour=red", "colour"), ("/x?limit=1&limit=2", "limit")] {
        assert_eq!(read(uri).unwrap_err().param.as_deref(), Some(param), "{uri}");
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_a_timeout() {
    let body = Body::from_stream(stream::pending::<std::io::Result<Bytes>>());
    let Refusal(status, _) =
        read_within(Duration::from_millis(10), body, BODY_BYTES_MAX, &mut Room::default().enter()).await.unwrap_err();
    assert_eq!(status, StatusCode::REQUEST_TIMEOUT);
}

#[test]
fn a_body_of_too_many_values_is_refused_and_commas_in_texts_are_none() {
    let read = |body: String| object(&Bytes::from(body)).map(drop);
    let many = format!("{{\"a\":[{}0]}}", "0,".repeat(VALUES_MAX));
    let error = read(many).unwrap_err();
    assert!(error.message.contains("more than 1048576 values"), "{}", error.message);
    let text = "\\\", [{".repeat(VALUES_MAX);
    read(format!("{{\"a\":\"{text}\",\"b\":[1,2]}}")).unwrap();
}
