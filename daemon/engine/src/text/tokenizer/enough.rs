//! Reads no more of a text than tells that it is too long: reading takes a hundred times the memory of what is read. Prompts
//! and the texts of encoders are read through here; what is refused, and in which words, is for those who ask.

/// How many bytes a token has at most as a rule; a text of longer ones is only read twice.
const TOKEN_BYTES: usize = 8;
/// How many tokens a text may lose where it goes on after a cut.
const CUT_TOKENS: usize = 256;

/// Reads a text, or so much of a long one that it comes to more than `most` tokens; `count` counts those of what `read` gives.
/// In the second case it says how many tokens the text has more than.
pub fn read_enough<T, E>(
    text: &str,
    most: usize,
    read: impl Fn(&str) -> Result<T, E>,
    count: impl Fn(&T) -> usize,
) -> Result<(T, Option<usize>), E> {
    let enough = most.saturating_add(CUT_TOKENS);
    let mut bytes = enough.saturating_mul(TOKEN_BYTES);
    while bytes < text.len() {
        let part = read(&text[..text.floor_char_boundary(bytes)])?;
        let tokens = count(&part);
        if tokens > enough {
            return Ok((part, Some(tokens - CUT_TOKENS)));
        }
        bytes = bytes.saturating_mul(2);
    }
    Ok((read(text)?, None))
}
