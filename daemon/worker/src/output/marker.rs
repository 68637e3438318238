//! Finds the first of several markers in a text that comes character by character.
//!
//! Text that may still become a marker is held back: exactly the longest end of the text that begins some marker
//! (Knuth, Morris and Pratt, 1977). Of markers that end at the same place the longest wins. Stop strings, reasoning tags
//! and tool-call markers are all found by it.

/// What a character led to.
#[derive(Debug, PartialEq)]
pub enum Found {
    /// No marker; the text that was held back until now and cannot be part of one.
    Text(String),
    /// The marker with this index is complete; the text before it.
    Marker(usize, String),
}

/// Looks for markers.
pub struct Scanner {
    markers: Vec<Marker>,
    held: String,
}

struct Marker {
    bytes: Vec<u8>,
    /// For each length of a match, the next shorter one that is also an end of it.
    shorter: Vec<usize>,
    /// How much of the marker the text ends with.
    matched: usize,
}

impl Scanner {
    /// Begins a text; empty markers are never found.
    pub fn new<S: AsRef<str>>(markers: impl IntoIterator<Item = S>) -> Self {
        Self { markers: markers.into_iter().map(|it| Marker::new(it.as_ref())).collect(), held: String::new() }
    }

    /// Adds a character.
    pub fn push(&mut self, letter: char) -> Found {
        self.held.push(letter);
        for byte in letter.encode_utf8(&mut [0; 4]).bytes() {
            self.markers.iter_mut().for_each(|marker| marker.advance(byte));
        }
        let complete = self.markers.iter().enumerate().filter(|(_, marker)| marker.is_complete());
        if let Some((index, length)) = complete
            .map(|(index, marker)| (index, marker.bytes.len()))
            .max_by_key(|&(index, length)| (length, usize::MAX - index))
        {
            let mut before = self.finish();
            before.truncate(before.len() - length);
            return Found::Marker(index, before);
        }
        let longest = self.markers.iter().map(|marker| marker.matched).max().unwrap_or(0);
        Found::Text(self.held.drain(..self.held.len() - longest).collect())
    }

    /// Whether the text ends with what may become a marker.
    pub fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Ends the text; returns what was held back.
    pub fn finish(&mut self) -> String {
        self.markers.iter_mut().for_each(|marker| marker.matched = 0);
        std::mem::take(&mut self.held)
    }
}

impl Marker {
    fn new(text: &str) -> Self {
        let bytes = text.as_bytes().to_vec();
        let mut shorter = vec![0; bytes.len() + 1];
        let mut length = 0;
        for end in 1..bytes.len() {
            while length > 0 && bytes[length] != bytes[end] {
                length = shorter[length];
            }
            length += usize::from(bytes[length] == bytes[end]);
            shorter[end + 1] = length;
        }
        Self { bytes, shorter, matched: 0 }
    }

    fn advance(&mut self, byte: u8) {
        while self.matched > 0 && self.bytes.get(self.matched) != Some(&byte) {
            self.matched = self.shorter[self.matched];
        }
        self.matched += usize::from(self.bytes.get(self.matched) == Some(&byte));
    }

    fn is_complete(&self) -> bool {
        self.matched > 0 && self.matched == self.bytes.len()
    }
}
