//! Exponentials as plain arithmetic, so that compilers vectorise them and every processor agrees on them.

/// Adding and subtracting 1.5 * 2^23 rounds to the nearest integer, which is then in the low mantissa bits.
const ROUND: f32 = 12_582_912.0;

/// e^x within 2 units in the last place; 0 below -87 and for -infinity, 1 exactly at 0.
///
/// x is split as n ln 2 + r with |r| <= ln 2 / 2 (Cody and Waite).
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let clamped = x.clamp(-87.0, 88.0);
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let value = taylor((clamped - n * LN2_HIGH) - n * LN2_LOW) * power(shifted);
    if x < -87.0 { 0.0 } else { value }
}

/// 2^x, as exact; 0 below -126.
#[inline(always)]
pub(super) fn exp2(x: f32) -> f32 {
    let clamped = x.clamp(-126.0, 127.0);
    let shifted = clamped + ROUND;
    let value = taylor((clamped - (shifted - ROUND)) * std::f32::consts::LN_2) * power(shifted);
    if x < -126.0 { 0.0 } else { value }
}

/// e^r by its Taylor polynomial to degree 7.
#[inline(always)]
fn taylor(r: f32) -> f32 {
    let mut p = 1.0 / 5040.0;
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = p * r + c;
    }
    p
}

/// 2^n for the integer n that was rounded into `shifted`.
#[inline(always)]
fn power(shifted: f32) -> f32 {
    f32::from_bits(shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23)
}
