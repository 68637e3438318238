//! The document, and the page that shows it and tries it out. The page is this bridge's own and needs no other machine.
//! Both are open: they say how to ask, and nothing of what is here.

use std::sync::OnceLock;

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::{Operation, Routes, write};
use crate::app;

/// What the page may do: run its own script, wear its own style, ask this bridge.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Returns the routes of this module.
pub fn routes() -> Routes {
    let document = Operation::new("Show this document")
        .more("`/docs` is a page for people that shows it and tries it out.")
        .gives_object("The OpenAPI document.");
    let file = |kind, text| get(move || async move { file(kind, text) });
    Routes::new("Document")
        .get("/openapi.json", self::document, document)
        .unlisted("/docs", file("text/html; charset=utf-8", include_str!("explorer/page.html")))
        .unlisted("/docs/page.js", file("text/javascript; charset=utf-8", include_str!("explorer/page.js")))
        .unlisted("/docs/page.css", file("text/css; charset=utf-8", include_str!("explorer/page.css")))
        .open()
}

async fn document() -> Response {
    static DOCUMENT: OnceLock<String> = OnceLock::new();
    let text = DOCUMENT.get_or_init(|| write(app::keyed().merge(app::open()).endpoints()));
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], text.as_str()).into_response()
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let headers: [(HeaderName, HeaderValue); 2] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    ];
    (headers, text).into_response()
}
