//! Base64, as vectors and tokens are written in: the standard alphabet with padding, and the one for addresses without.

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const FOR_URLS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Writes bytes in the standard alphabet, with padding.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = write(bytes, STANDARD);
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}

/// Writes bytes in the alphabet for addresses, without padding.
pub fn encode_for_url(bytes: &[u8]) -> String {
    write(bytes, FOR_URLS)
}

/// Reads what `encode_for_url` wrote; `None` is anything else.
pub fn decode_for_url(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    for chunk in text.as_bytes().chunks(4) {
        let mut bits = 0_u32;
        for letter in chunk {
            bits = bits << 6 | FOR_URLS.iter().position(|known| known == letter)? as u32;
        }
        bits <<= 6 * (4 - chunk.len());
        bytes.extend_from_slice(&bits.to_be_bytes()[1..chunk.len()]);
    }
    // One text for one value: leftover bits that are not zero, or a lone letter, would be a second.
    (encode_for_url(&bytes) == text).then_some(bytes)
}

fn write(bytes: &[u8], alphabet: &[u8; 64]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        text.extend((0..=chunk.len()).map(|at| char::from(alphabet[(bits >> (18 - 6 * at)) as usize & 63])));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_the_standard_one() {
        let texts = ["", "f", "fo", "foo", "foob", "fooba", "foobar"];
        let expected = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        assert_eq!(texts.map(|text| encode(text.as_bytes())), expected);
        assert_eq!(encode(&[0xff, 0xef, 0xfe]), "/+/+");
        assert_eq!(encode_for_url(&[0xff, 0xef, 0xfe, 0xff]), "_-_-_w");
    }

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        for length in 0..20 {
            let bytes: Vec<u8> = (0..length).map(|at: u8| at.wrapping_mul(37).wrapping_add(200)).collect();
            assert_eq!(decode_for_url(&encode_for_url(&bytes)), Some(bytes));
        }
        for wrong in ["Zg==", "Zh", "Z", "Zm9vZ", "Zm 9", "Zm+v", "é"] {
            assert_eq!(decode_for_url(wrong), None, "{wrong}");
        }
    }
}
