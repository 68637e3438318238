//! Each form against the numbers that the `gguf` package makes of the same blocks (`tools/goldens/gguf_forms.py`).

use std::collections::BTreeMap;

use safetensors::SafeTensors;

use crate::gguf::form::{Becomes, Form, GROUP, Moved};
use crate::native::Dtype;

const FORMS: [(&str, Form); 13] = [
    ("Q4_0", Form::Q4_0),
    ("Q4_1", Form::Q4_1),
    ("Q5_0", Form::Q5_0),
    ("Q5_1", Form::Q5_1),
    ("Q8_0", Form::Q8_0),
    ("Q2_K", Form::Q2K),
    ("Q3_K", Form::Q3K),
    ("Q4_K", Form::Q4K),
    ("Q5_K", Form::Q5K),
    ("Q6_K", Form::Q6K),
    ("IQ4_NL", Form::Iq4Nl),
    ("IQ4_XS", Form::Iq4Xs),
    ("MXFP4", Form::Mxfp4),
];

/// What the forms' blocks become, by form: what was made, and the golden's numbers.
fn forms() -> BTreeMap<&'static str, (Vec<f32>, Vec<f32>)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/gguf/forms.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    let of = |(name, form): (&'static str, Form)| {
        let blocks = golden.tensor(&format!("{name}.blocks")).unwrap();
        let values = golden.tensor(&format!("{name}.values")).unwrap();
        let expected = values.data().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        (name, (unpacked(form, blocks.data()), expected))
    };
    FORMS.into_iter().map(of).collect()
}

fn unpacked(form: Form, blocks: &[u8]) -> Vec<f32> {
    const E2M1: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    let (elements, bytes) = form.block();
    let mut values = Vec::new();
    for block in blocks.chunks_exact(bytes) {
        let (mut codes, mut pairs) = (vec![0; elements], vec![[0.0; 2]; elements / GROUP]);
        form.unpack(block, &mut codes, &mut pairs, &mut Moved::default());
        if form == Form::Mxfp4 {
            let scale = f32::from_bits(u32::from(block[0]) << 23);
            let sign = |code: u8| if code < 8 { scale } else { -scale };
            values.extend(codes.iter().map(|code| sign(*code) * E2M1[usize::from(code & 7)]));
            continue;
        }
        let Becomes::Affine { bits, pairs: dtype } = form.becomes() else { panic!("{form:?} is affine") };
        assert!(codes.iter().all(|code| u32::from(*code) < 1 << bits), "{form:?} codes fit {bits} bits");
        for (codes, [scale, bias]) in codes.chunks_exact(GROUP).zip(pairs) {
            let held = |value: f32| if dtype == Dtype::F16 { half::f16::from_f32(value).to_f32() } else { value };
            values.extend(codes.iter().map(|code| held(scale) * f32::from(*code) + held(bias)));
        }
    }
    values
}

/// The largest difference, as a share of the largest weight of its group.
fn worst(name: &str) -> f32 {
    let forms = forms();
    let (made, expected) = &forms[name];
    assert_eq!(made.len(), expected.len(), "{name}");
    let groups = made.chunks_exact(GROUP).zip(expected.chunks_exact(GROUP));
    let of_group = |(made, expected): (&[f32], &[f32])| {
        let largest = expected.iter().fold(0.0f32, |most, value| value.abs().max(most));
        let differences = made.iter().zip(expected).map(|(made, expected)| (made - expected).abs());
        differences.fold(0.0, f32::max) / largest
    };
    groups.map(of_group).fold(0.0, f32::max)
}

#[test]
fn forms_that_mlx_can_say_lose_nothing() {
    for name in ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q3_K", "Q4_K", "Q5_K", "IQ4_NL", "IQ4_XS", "MXFP4"] {
        let worst = worst(name);
        assert!(worst < 1e-6, "{name} is off by {worst}");
    }
}

#[test]
fn groups_of_16_with_scales_of_their_own_move_by_less_than_a_step_of_256() {
    for name in ["Q2_K", "Q6_K"] {
        let worst = worst(name);
        assert!(worst < 1.01 / 255.0, "{name} is off by {worst}");
    }
}

#[test]
fn two_groups_of_16_with_one_scale_lose_nothing() {
    let mut block = [0u8; 210];
    (0..192).for_each(|at| block[at] = (at * 37 + 11) as u8);
    block[192..208].fill(90);
    block[208..].copy_from_slice(&half::f16::from_f32(0.01).to_le_bytes());
    let mut moved = Moved::default();
    let (mut codes, mut pairs) = ([0; 256], [[0.0; 2]; 8]);
    Form::Q6K.unpack(&block, &mut codes, &mut pairs, &mut moved);
    assert!(moved.weights > 0.0 && moved.differences == 0.0, "{moved:?}");
}
