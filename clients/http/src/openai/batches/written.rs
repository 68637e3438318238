//! A file that a batch writes: whole lines, appended to its last piece, and found again after an interruption.

use protocol::Result;
use protocol::client::Client;
use serde::Deserialize;

use crate::openai::files::OUTPUT;
use crate::openai::files::kept::{File, piece, put_piece};

/// The longest piece, in bytes: the last one is written anew with every few lines, so it is short.
const PIECE_BYTES: usize = 64 << 10;

/// A file while it is written.
pub struct Written {
    id: String,
    seconds: u64,
    /// The number of the last piece, and what it will hold; more than a piece may, until it is flushed.
    at: u32,
    text: String,
    /// How many bytes lie in the pieces before it.
    before: u64,
    flushed: bool,
    lines: usize,
}

#[derive(Deserialize)]
struct Named {
    custom_id: String,
}

/// What was found of a file that somebody began to write.
#[derive(Default)]
struct Found {
    /// The number of the piece with the end of the last whole line, what it holds up to there, and the bytes before it.
    at: u32,
    text: String,
    before: u64,
    /// How many pieces and bytes were read.
    pieces: u32,
    bytes: u64,
    /// What comes after the last whole line, by a bridge that ended in the middle of one.
    torn: String,
    /// The requests that have a line.
    names: Vec<String>,
}

impl Found {
    fn read(&mut self, piece: String) {
        match piece.rfind('\n') {
            Some(end) => {
                self.torn.push_str(&piece[..end]);
                let named = |line: &str| {
                    serde_json::from_str(line).map_or_else(|_| String::new(), |Named { custom_id }| custom_id)
                };
                self.names.extend(self.torn.lines().map(named));
                self.torn = piece[end + 1..].to_owned();
                (self.at, self.before, self.text) = (self.pieces, self.bytes, piece[..=end].to_owned());
            }
            None => self.torn.push_str(&piece),
        }
        (self.pieces, self.bytes) = (self.pieces + 1, self.bytes + piece.len() as u64);
    }
}

impl Written {
    /// Opens a file whose pieces are kept for so many seconds; tells `seen` which requests have a line in it already.
    pub async fn open(client: &Client, id: &str, seconds: u64, seen: impl FnMut(String)) -> Result<Self> {
        let mut found = Found::default();
        while let Some(text) = piece(client, id, found.pieces).await? {
            found.read(text);
        }
        let Found { at, text, before, torn, names, .. } = found;
        let lines = names.len();
        names.into_iter().for_each(seen);
        // What is torn is left out, so the piece is to be written anew.
        Ok(Self { id: id.to_owned(), seconds, at, text, before, flushed: torn.is_empty(), lines })
    }

    /// How many lines it has.
    pub fn lines(&self) -> usize {
        self.lines
    }

    /// Adds a line, which is written with the next flush.
    pub fn push(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
        self.lines += 1;
        self.flushed = false;
    }

    /// Whether so much waits that it should be written now.
    pub fn is_full(&self) -> bool {
        self.text.len() > PIECE_BYTES
    }

    /// Writes what was added.
    pub async fn flush(&mut self, client: &Client) -> Result<()> {
        if self.flushed {
            return Ok(());
        }
        while self.text.len() > PIECE_BYTES {
            let cut = self.text.floor_char_boundary(PIECE_BYTES);
            put_piece(client, &self.id, self.at, &self.text[..cut], self.seconds).await?;
            self.text.drain(..cut);
            (self.at, self.before) = (self.at + 1, self.before + cut as u64);
        }
        put_piece(client, &self.id, self.at, &self.text, self.seconds).await?;
        self.flushed = true;
        Ok(())
    }

    /// Gives the file its name, so that clients can read it; returns its id, or nothing where there are no lines.
    pub async fn close(&mut self, client: &Client, filename: String, now: u64) -> Result<Option<String>> {
        self.flush(client).await?;
        if self.lines == 0 {
            return Ok(None);
        }
        let file = File {
            filename,
            purpose: OUTPUT.to_owned(),
            bytes: self.before + self.text.len() as u64,
            pieces: self.at + 1,
            created_at: now,
            expires_at: now + self.seconds,
        };
        file.keep(client, &self.id, now).await?;
        Ok(Some(self.id.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pieces: &[&str]) -> Found {
        let mut found = Found::default();
        pieces.iter().for_each(|piece| found.read((*piece).to_owned()));
        found
    }

    #[test]
    fn whole_lines_are_found_wherever_pieces_were_cut() {
        let (a, b) = (r#"{"custom_id":"a","x":1}"#, r#"{"custom_id":"b"}"#);
        let text = format!("{a}\n{b}\n");
        for cut in 1..text.len() {
            let whole = found(&[&text[..cut], &text[cut..]]);
            assert_eq!(whole.names, ["a", "b"], "{cut}");
            assert_eq!((whole.torn.as_str(), whole.before + whole.text.len() as u64), ("", text.len() as u64));
            // A bridge that ended between the two pieces.
            let half = found(&[&text[..cut]]);
            let lines = text[..cut].matches('\n').count();
            assert_eq!((half.names.len(), half.torn.is_empty()), (lines, text[..cut].ends_with('\n')), "{cut}");
            assert!(half.text.is_empty() || half.text.ends_with('\n'));
        }
    }

    #[test]
    fn a_torn_line_of_many_pieces_goes_back_to_the_last_whole_one() {
        let torn = found(&["{\"custom_id\":\"a\"}\n{\"cus", "tom_id", "\":"]);
        assert_eq!((torn.at, torn.pieces, torn.before), (0, 3, 0));
        assert_eq!((torn.text.as_str(), torn.names.len()), ("{\"custom_id\":\"a\"}\n", 1));
    }
}
