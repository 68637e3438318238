//! Request bodies: JSON read with the name of the field at fault, and parameters that would have no effect refused.
//!
//! A parameter this bridge does not know is a 400 that names it, never ignored: a caller who sets it expects
//! something to happen. Every dialect reads its bodies through here.

use axum::body::Bytes;
use protocol::{Error, ErrorKind};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// A request body whose members are all known.
pub struct Members(Value);

impl Members {
    /// Reads a JSON object, refusing members outside `known`; a null member counts as absent.
    pub fn read(body: &Bytes, known: &[&[&str]]) -> Result<Self, Error> {
        let mut object = object(body)?;
        object.retain(|_, value| !value.is_null());
        match object.keys().find(|name| !known.iter().any(|names| names.contains(&name.as_str()))) {
            None => Ok(Self(Value::Object(object))),
            Some(name) => {
                Err(Error::new(ErrorKind::Unsupported, format!("The parameter '{name}' is not supported here."))
                    .hint("Leave it out: Impetus refuses what it cannot honour instead of ignoring it.")
                    .param(name))
            }
        }
    }

    /// Reads the members that `T` names.
    pub fn part<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_path_to_error::deserialize(&self.0).map_err(|error| {
            let path = error.path().to_string();
            let message = error.into_inner().to_string();
            if path == "." {
                // A missing member has no path of its own; serde names it in backquotes.
                let missing = message.split('`').nth(1).unwrap_or_default().to_owned();
                Error::invalid(missing, format!("The request is incomplete: {message}."))
            } else {
                Error::invalid(path.clone(), format!("Invalid value for '{path}': {message}."))
            }
        })
    }
}

fn object(body: &Bytes) -> Result<Map<String, Value>, Error> {
    let hint = "Send a JSON object with the header Content-Type: application/json.";
    if body.is_empty() {
        return Err(Error::new(ErrorKind::Invalid, "The request has no body.").hint(hint));
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Error::new(ErrorKind::Invalid, "The body is JSON, but not an object.").hint(hint)),
        Err(error) => Err(Error::new(ErrorKind::Invalid, format!("The body is not valid JSON: {error}.")).hint(hint)),
    }
}
