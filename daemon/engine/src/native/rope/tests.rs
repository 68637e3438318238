//! Rotations against their closed form.

use super::{Angles, Rope, Scaling};
use crate::native::Isa;
use crate::native::tests::Random;

#[test]
fn heads_are_rotated_by_their_position() {
    let before = Random::new(1).floats(32);
    let positions = [0u32, 5, 30_000];
    for dim in [16, 8] {
        let rope = Rope::new(dim, 10_000.0, &Scaling::None);
        let mut angles = Angles::default();
        rope.angles(positions, &mut angles);
        for (row, position) in positions.into_iter().enumerate() {
            let mut after = before.clone();
            rope.turn(Isa::detect(), &angles, row, &mut after, 16);
            for (head, old) in after.chunks_exact(16).zip(before.chunks_exact(16)) {
                assert_eq!(head[dim..], old[dim..]);
                for i in 0..dim / 2 {
                    let angle = f64::from(position) * 10_000f64.powf(-2.0 * i as f64 / dim as f64);
                    let (a, b) = (f64::from(old[i]), f64::from(old[i + dim / 2]));
                    let want = (a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin());
                    // An f32 angle near 30,000 is off by up to a thousandth.
                    let near = |got: f32, want: f64| (f64::from(got) - want).abs() < 3e-3;
                    assert!(near(head[i], want.0) && near(head[i + dim / 2], want.1), "{position} {i}");
                }
            }
        }
    }
}

#[test]
fn linear_scaling_divides_positions() {
    let plain = Rope::new(64, 10_000.0, &Scaling::None);
    let scaled = Rope::new(64, 10_000.0, &Scaling::Linear { factor: 4.0 });
    for (plain, scaled) in plain.frequencies.iter().zip(&scaled.frequencies) {
        assert!((plain / scaled / 4.0 - 1.0).abs() < 1e-6);
    }
}

#[test]
fn llama3_scaling_keeps_short_waves_and_divides_long_ones() {
    // The factors of Llama 3.1: waves under 2,048 positions are kept, those over 8,192 divided by 8.
    let scaling = Scaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 8192.0 };
    let (plain, scaled) = (Rope::new(128, 500_000.0, &Scaling::None), Rope::new(128, 500_000.0, &scaling));
    let mut ramp = 0;
    for (plain, scaled) in plain.frequencies.iter().zip(&scaled.frequencies) {
        let (wave, ratio) = (std::f32::consts::TAU / plain, plain / scaled);
        match wave {
            _ if wave < 2048.0 => assert_eq!(ratio, 1.0),
            _ if wave > 8192.0 => assert!((ratio - 8.0).abs() < 1e-4),
            _ => {
                let smooth = (8192.0 / wave - 1.0) / 3.0;
                assert!((1.0 / ratio - (smooth + (1.0 - smooth) / 8.0)).abs() < 1e-5);
                ramp += 1;
            }
        }
    }
    assert!(ramp > 0);
}

#[test]
fn yarn_keeps_fast_dimensions_divides_slow_ones_and_lengthens() {
    let scaling =
        Scaling::Yarn { factor: 4.0, fast: 32.0, slow: 1.0, original: 32_768.0, whole: true, magnitude: None };
    let (plain, scaled) = (Rope::new(128, 1_000_000.0, &Scaling::None), Rope::new(128, 1_000_000.0, &scaling));
    let ratio = |i: usize| plain.frequencies[i] / scaled.frequencies[i];
    // 32 turns happen at dimension 23.59 of 64, one turn at 39.65.
    assert_eq!(ratio(23), 1.0);
    assert!(ratio(24) > 1.0 && ratio(39) < 4.0);
    assert!((ratio(40) - 4.0).abs() < 1e-5);
    assert!((scaled.magnitude - (0.1 * 4f32.ln() + 1.0)).abs() < 1e-6);
    let mut angles = Angles::default();
    scaled.angles([0], &mut angles);
    assert_eq!((angles.cos[0], angles.sin[0]), (scaled.magnitude, 0.0));
}
