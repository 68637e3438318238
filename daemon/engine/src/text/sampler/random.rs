//! A random number that is a pure function of the seed, the choice and the position.
//!
//! Philox4x32-10 (Salmon and others, "Parallel random numbers: as easy as 1, 2, 3", 2011): ten rounds of
//! multiplications over a counter, without state. A token that is drawn again after a worker's death draws the same
//! number. The sampler calls it once per token.

/// Two numbers in [0, 1) with 53 random bits each, for the draw of a position, or for another one after it.
pub fn uniform(seed: u64, choice: u16, position: u32, again: bool) -> [f64; 2] {
    let words = philox([position, u32::from(choice), u32::from(again), 0], [seed as u32, (seed >> 32) as u32]);
    let number = |high: u32, low: u32| {
        let bits = (u64::from(high) << 32 | u64::from(low)) >> 11;
        bits as f64 / (1u64 << 53) as f64
    };
    [number(words[0], words[1]), number(words[2], words[3])]
}

/// The Philox4x32-10 block of a counter under a key.
pub fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    const MULTIPLIERS: [u64; 2] = [0xD251_1F53, 0xCD9E_8D57];
    const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
    let ([mut a, mut b, mut c, mut d], [mut first, mut second]) = (counter, key);
    for _ in 0..10 {
        let left = MULTIPLIERS[0] * u64::from(a);
        let right = MULTIPLIERS[1] * u64::from(c);
        (a, b, c, d) = ((right >> 32) as u32 ^ b ^ first, right as u32, (left >> 32) as u32 ^ d ^ second, left as u32);
        first = first.wrapping_add(WEYL[0]);
        second = second.wrapping_add(WEYL[1]);
    }
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_numbers_are_those_of_the_published_generator() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let ones = u32::MAX;
        assert_eq!(philox([ones; 4], [ones; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let counter = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        let block = philox(counter, [0xa409_3822, 0x299f_31d0]);
        assert_eq!(block, [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }
}
