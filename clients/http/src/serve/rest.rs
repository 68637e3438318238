//! What nobody read of a body. Whoever is refused before their body is read sends it all the same, and many clients read no
//! answer before they have sent all: a connection that ends under them is a failure to them, not a refusal. So what is left is
//! read and dropped, beside the answer, which waits for none of it. `app` puts it around every route.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use futures::StreamExt;
use hyper::body::{Body as _, Frame, SizeHint};
use tokio::time::timeout;

/// How much is read and dropped: more than the largest file, so that who sends a little too much reads why that was refused.
const REST_BYTES_MAX: u64 = 96 << 20;

/// How long the rest may take to arrive.
const REST_PATIENCE: Duration = Duration::from_secs(60);

/// Reads and drops what the answer leaves of the body. Where that is too much, or was not sent yet because the client waits
/// for a word, the connection ends instead.
pub async fn drop_rest(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let waits = request.headers().contains_key(header::EXPECT);
    let (head, body) = request.into_parts();
    let lent = Lent(Arc::new(Mutex::new(Rest { body, ended: false })));
    let response = next.run(Request::from_parts(head, Body::new(lent.clone()))).await;
    if lent.is_end_stream() || response.headers().contains_key(header::CONNECTION) {
        return response;
    }
    if waits || lent.size_hint().lower() > REST_BYTES_MAX {
        return last(response);
    }
    // There is one at most for each connection, and it ends with it.
    tokio::spawn(timeout(REST_PATIENCE, drain(Body::new(lent))));
    response
}

/// Ends a connection with a response: what is left of the body cannot be told from a next request.
pub fn last(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Reads to the end. Where that does not come, the body is dropped unread, and the connection with it.
async fn drain(body: Body) {
    let (mut pieces, mut size) = (body.into_data_stream(), 0_u64);
    while let Some(Ok(piece)) = pieces.next().await {
        size = size.saturating_add(piece.len() as u64);
        if size > REST_BYTES_MAX {
            return;
        }
    }
}

/// A body that can be read on once whoever it was lent to is done.
#[derive(Clone)]
struct Lent(Arc<Mutex<Rest>>);

struct Rest {
    body: Body,
    ended: bool,
}

impl Lent {
    fn lock(&self) -> MutexGuard<'_, Rest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl hyper::body::Body for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut rest = self.lock();
        let polled = Pin::new(&mut rest.body).poll_frame(cx);
        rest.ended |= matches!(polled, Poll::Ready(None | Some(Err(_))));
        polled
    }

    fn is_end_stream(&self) -> bool {
        let rest = self.lock();
        rest.ended || rest.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.lock().body.size_hint()
    }
}
