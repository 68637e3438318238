//! What people and programs write: the bodies and heads of HTTP requests, WebSockets' messages, and settings.

use impetusd::config::{Config, Sources};

/// Reads a body as the request of every dialect.
pub fn read(bytes: &[u8]) {
    impetus_http::outside::read(bytes);
}

/// Reads an upload, its content type first.
pub fn form(bytes: &[u8]) {
    impetus_http::outside::form(bytes);
}

/// Reads what a WebSocket or a login says.
pub fn message(bytes: &[u8]) {
    impetus_http::outside::message(bytes);
}

/// Reads headers that say where a request comes from.
pub fn head(bytes: &[u8]) {
    impetus_http::outside::head(bytes);
}

/// The defaults.
pub fn defaults() -> Vec<Vec<u8>> {
    let text = include_bytes!("../../daemon/impetusd/src/default.toml");
    vec![text.to_vec()]
}

/// Reads a config file, or a setting of a flag and a variable.
pub fn settings(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let file = Sources { file: Some((text.clone().into_owned(), "config.toml".to_owned())), ..Sources::default() };
    let flag = Sources { settings: vec![text.clone().into_owned()], ..Sources::default() };
    let (name, value) = text.split_once('=').unwrap_or((&text, ""));
    let variable = Sources { variables: vec![(format!("IMPETUS_{name}"), value.to_owned())], ..Sources::default() };
    for sources in [file, flag, variable] {
        // What is wrong is said in words; that is all that may happen.
        let _ = Config::parse(&sources).map_err(|error| error.to_string());
    }
}
