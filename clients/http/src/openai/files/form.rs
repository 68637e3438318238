//! Forms with files (`multipart/form-data`, RFC 7578): a received body in, its fields out. Pure; nothing is copied.

use axum::body::Bytes;
use protocol::Error;

/// The most fields of a form.
const FIELDS_MAX: usize = 16;

/// The longest head of a field, and the longest boundary, in bytes.
const HEAD_BYTES_MAX: usize = 8 << 10;
const BOUNDARY_BYTES_MAX: usize = 70;

/// One field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// The name of the file that it holds, if it holds one.
    pub filename: Option<String>,
    /// What it holds.
    pub value: Bytes,
}

/// Reads the fields of a form; `content_type` is the header that names their boundary.
pub fn read(content_type: Option<&str>, body: &Bytes) -> Result<Vec<Field>, Error> {
    let boundary = content_type.and_then(boundary).ok_or_else(|| {
        Error::new(protocol::ErrorKind::Invalid, "The body is not a form with files.")
            .hint("Send it as multipart/form-data with a boundary.")
    })?;
    let delimiter = format!("\r\n--{boundary}").into_bytes();
    // The first delimiter may stand at the very start, without a line before it.
    let opening = &delimiter[2..];
    let mut at = match body.starts_with(opening) {
        true => opening.len(),
        false => {
            find(body, &delimiter, 0).map(|found| found + delimiter.len()).ok_or_else(|| broken("has no field"))?
        }
    };
    let mut fields = Vec::new();
    while !body[at..].starts_with(b"--") {
        if fields.len() == FIELDS_MAX {
            return Err(broken(&format!("has more than {FIELDS_MAX} fields")));
        }
        let line = find(body, b"\r\n", at).ok_or_else(|| broken("ends in the middle of a field"))?;
        let end = find(body, &delimiter, line).ok_or_else(|| broken("has no end"))?;
        fields.push(field(body, line, end)?);
        at = end + delimiter.len();
    }
    Ok(fields)
}

/// Reads the field whose head begins with the line break at `start` and whose value goes up to `end`.
fn field(body: &Bytes, start: usize, end: usize) -> Result<Field, Error> {
    let window = start..end.min(start + HEAD_BYTES_MAX);
    let head_end = find(&body[..window.end], b"\r\n\r\n", start).ok_or_else(|| broken("has a field without a head"))?;
    let head = std::str::from_utf8(&body[start..head_end]).map_err(|_| broken("has a head that is not UTF-8"))?;
    let disposition = head
        .split("\r\n")
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("content-disposition"))
        .map(|(_, value)| value)
        .ok_or_else(|| broken("has a field without a Content-Disposition"))?;
    let name = parameter(disposition, "name").ok_or_else(|| broken("has a field without a name"))?;
    let filename = parameter(disposition, "filename");
    Ok(Field { name, filename, value: body.slice(head_end + 4..end) })
}

/// Returns the boundary that a content type names.
fn boundary(content_type: &str) -> Option<String> {
    let kind = content_type.split(';').next()?.trim();
    let boundary = parameter(content_type, "boundary")?;
    let fits = (1..=BOUNDARY_BYTES_MAX).contains(&boundary.len());
    (kind.eq_ignore_ascii_case("multipart/form-data") && fits).then_some(boundary)
}

/// Returns a parameter of a header's value; quoted ones may hold semicolons, and quotes behind a backslash.
fn parameter(value: &str, wanted: &str) -> Option<String> {
    let mut rest = value;
    while let Some((_, after)) = rest.split_once(';') {
        let (name, after) = after.split_once('=')?;
        let (value, left) = match after.strip_prefix('"') {
            Some(quoted) => unquoted(quoted)?,
            None => {
                let end = after.find(';').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = left;
    }
    None
}

/// Reads up to the closing quote; returns what stood before it and what comes after.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(letters.next()?.1),
            letter => value.push(letter),
        }
    }
    None
}

fn find(bytes: &[u8], wanted: &[u8], from: usize) -> Option<usize> {
    let (first, rest) = wanted.split_first()?;
    let mut at = from;
    loop {
        at += bytes.get(at..)?.iter().position(|byte| byte == first)?;
        if bytes[at + 1..].starts_with(rest) {
            return Some(at);
        }
        at += 1;
    }
}

fn broken(what: &str) -> Error {
    Error::new(protocol::ErrorKind::Invalid, format!("The form {what}.")).hint("Send it as multipart/form-data.")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: Option<&str> = Some("multipart/form-data; charset=utf-8; boundary=\"b 1\"");

    fn parse(text: &str) -> Result<Vec<(String, Option<String>, String)>, Error> {
        let fields = read(TYPE, &Bytes::from(text.to_owned()))?;
        let text = |value: Bytes| String::from_utf8(value.to_vec()).unwrap();
        Ok(fields.into_iter().map(|field| (field.name, field.filename, text(field.value))).collect())
    }

    #[test]
    fn fields_and_files_are_found_whatever_they_hold() {
        let form = "--b 1\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n\
            --b 1\r\nContent-Type: text/plain\r\ncontent-disposition: form-data; filename=\"a;\\\"b\\\".jsonl\"; name=file\r\n\r\n\
            {\"a\": 1}\r\n--b\r\n\r\n--b 1--\r\n";
        let file = ("file".to_owned(), Some("a;\"b\".jsonl".to_owned()), "{\"a\": 1}\r\n--b\r\n".to_owned());
        assert_eq!(parse(form).unwrap(), [("purpose".to_owned(), None, "batch".to_owned()), file]);
        let preamble = "for old mailers\r\n--b 1\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n--b 1--";
        assert_eq!(parse(preamble).unwrap(), [("a".to_owned(), None, String::new())]);
        assert_eq!(parse("--b 1--").unwrap(), []);
    }

    #[test]
    fn what_is_no_form_is_refused() {
        let head = "--b 1\r\nContent-Disposition: form-data; name=a\r\n\r\n";
        for broken in [
            "",
            "--b 1",
            "--b 1\r\n",
            "--b 1\r\n\r\n--b 1--",
            head,
            "--b 1\r\nContent-Disposition: form-data; name=a\r\n--b 1--",
            "--b 1\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b 1--",
            "--b 1\r\nContent-Disposition: form-data; name=\"a\r\n\r\nx\r\n--b 1--",
        ] {
            assert!(parse(broken).is_err(), "{broken:?}");
        }
        let many = format!("{}--b 1--", format!("{head}\r\n").repeat(FIELDS_MAX + 1));
        assert!(parse(&many).is_err());
        for wrong in [None, Some("application/json"), Some("multipart/form-data"), Some("text/plain; boundary=b")] {
            assert!(read(wrong, &Bytes::from_static(b"--b--")).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn every_cut_of_a_form_is_refused_or_read_without_a_panic() {
        let form = "--b 1\r\nContent-Disposition: form-data; name=\"a\"; filename=\"b\"\r\n\r\nvalue\r\n--b 1--\r\n";
        for end in 0..form.len() {
            let _ = parse(&form[..end]);
        }
        assert!(parse(form).is_ok());
    }
}
