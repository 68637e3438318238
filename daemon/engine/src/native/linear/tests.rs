//! Matrix products of every format, shape and instruction set against f64 and against each other.

use super::{Affine, Dense, Gate, Linear};
use crate::native::tests::{Quantized, Random, bits, relative_error, stored};
use crate::native::{
    Activation, Dtype, Isa, Pool, Precision, Scratch, ShapeError, add, gate, silu_mul, swiglu_clipped,
};

const ALL_DTYPES: [Dtype; 3] = [Dtype::Bf16, Dtype::F16, Dtype::F32];

fn product(pool: &Pool, linear: &Linear, x: &[f32]) -> Vec<f32> {
    let rows = x.len() / linear.inputs();
    let mut y = vec![f32::NAN; rows * linear.outputs()];
    linear.forward(pool, &mut Scratch::new(), x, rows, &mut y);
    y
}

fn reference(shape: (usize, usize), weight: &dyn Fn(usize, usize) -> f64, x: &[f32]) -> Vec<f64> {
    let (outputs, inputs) = shape;
    let output = |x: &[f32], o| x.iter().enumerate().map(|(i, x)| weight(o, i) * f64::from(*x)).sum();
    x.chunks_exact(inputs).flat_map(|x| (0..outputs).map(move |o| output(x, o))).collect()
}

#[test]
fn affine_products_are_within_int8_noise_and_bit_equal_on_every_instruction_set() {
    let mut random = Random::new(1);
    for (bits_each, group, dtype) in
        [4, 8].into_iter().flat_map(|b| [32, 64, 128].into_iter().flat_map(move |g| ALL_DTYPES.map(|d| (b, g, d))))
    {
        for (outputs, inputs) in [(16, 128), (40, 256), (5, 384), (97, 640)] {
            let matrix = Quantized::new(&mut random, (outputs, inputs), bits_each, group, dtype);
            // Blocks of 11 and of 12 columns, and as many as are worth a tile unit.
            let x = random.floats(35 * inputs);
            let want = reference(matrix.shape, &|o, i| matrix.weight(o, i), &x);
            let scalar = Pool::with_isa(1, Isa::Scalar);
            let linear = Linear::from_affine(&matrix.affine(), Precision::Fast, &scalar).unwrap();
            let first = product(&scalar, &linear, &x);
            let error = relative_error(&first, &want);
            assert!(error < 0.012, "{bits_each} bits, group {group}, {dtype:?}, {outputs}x{inputs}: {error}");
            for isa in Isa::available() {
                let pool = Pool::with_isa(2, isa);
                let own = Linear::from_affine(&matrix.affine(), Precision::Fast, &pool).unwrap();
                for linear in [&linear, &own] {
                    let got = product(&pool, linear, &x);
                    assert_eq!(bits(&got), bits(&first), "{isa:?}, {bits_each} bits, group {group}, {dtype:?}");
                }
            }
        }
    }
}

#[test]
fn the_largest_weights_and_inputs_in_every_place_have_the_same_bits_on_every_instruction_set() {
    let (outputs, inputs, rows) = (32, 256, 32);
    // Each output and each row has its own of 16 patterns: the bits of its number say where the extremes are.
    let bit = |number: usize, at: usize| number >> (at % 4) & 1;
    let weight = |bits: u32, o: usize, i: usize| {
        // The two weights of a byte follow patterns of their own.
        let at = if bits == 4 { i / 2 + i % 2 * 2 } else { i };
        [0, u8::MAX >> (8 - bits)][bit(o, at)]
    };
    let x: Vec<f32> = (0..rows).flat_map(|r| (0..inputs).map(move |i| [-1.0, 1.0][bit(r, i / 2)])).collect();
    for (bits_each, group) in [4, 8].into_iter().flat_map(|bits| [32, 64, 128].map(|group| (bits, group))) {
        let all: Vec<u8> = (0..outputs * inputs).map(|at| weight(bits_each, at / inputs, at % inputs)).collect();
        let weights = if bits_each == 8 { all } else { all.chunks(2).map(|two| two[0] | two[1] << 4).collect() };
        let ones = stored(&vec![1.0; outputs * inputs / group], Dtype::F32);
        let (scales, biases, dtype) = (&ones[..], &ones[..], Dtype::F32);
        let matrix = Affine { weights: &weights, scales, biases, dtype, outputs, inputs, bits: bits_each, group };
        let on = |isa| {
            let pool = Pool::with_isa(1, isa);
            product(&pool, &Linear::from_affine(&matrix, Precision::Fast, &pool).unwrap(), &x)
        };
        let want = reference((outputs, inputs), &|o, i| f64::from(weight(bits_each, o, i)) + 1.0, &x);
        for isa in Isa::available() {
            let got = on(isa);
            assert_eq!(bits(&got), bits(&on(Isa::Scalar)), "{isa:?}, {bits_each} bits, group {group}");
            assert!(relative_error(&got, &want) < 1e-6, "{isa:?}, {bits_each} bits, group {group}");
        }
    }
}

#[test]
fn exact_products_match_f64_and_are_bit_equal_on_every_instruction_set() {
    let mut random = Random::new(2);
    for (outputs, inputs) in [(16, 64), (33, 128), (100, 320)] {
        let matrix = Quantized::new(&mut random, (outputs, inputs), 4, 64, Dtype::Bf16);
        let x = random.floats(14 * inputs);
        let want = reference(matrix.shape, &|o, i| matrix.weight(o, i), &x);
        let scalar = Pool::with_isa(1, Isa::Scalar);
        let linear = Linear::from_affine(&matrix.affine(), Precision::Exact, &scalar).unwrap();
        let first = product(&scalar, &linear, &x);
        let error = relative_error(&first, &want);
        assert!(error < 1e-6, "{outputs}x{inputs}: {error}");
        for isa in Isa::available() {
            assert_eq!(bits(&product(&Pool::with_isa(2, isa), &linear, &x)), bits(&first), "{isa:?}");
        }
    }
}

#[test]
fn dense_products_match_f64_on_every_instruction_set() {
    let mut random = Random::new(3);
    for (dtype, (outputs, inputs)) in ALL_DTYPES.into_iter().flat_map(|d| [(1, 1), (32, 64), (45, 77)].map(|s| (d, s)))
    {
        let bytes = stored(&random.floats(outputs * inputs), dtype);
        let matrix = Dense { bytes: &bytes, dtype, outputs, inputs };
        let x = random.floats(15 * inputs);
        let want = reference((outputs, inputs), &|o, i| f64::from(dtype.read(&bytes, o * inputs + i)), &x);
        for (isa, (precision, bound)) in Isa::available()
            .into_iter()
            .flat_map(|i| [(Precision::Fast, 1e-2), (Precision::Exact, 1e-6)].map(|p| (i, p)))
        {
            let pool = Pool::with_isa(2, isa);
            let linear = Linear::from_dense(&matrix, precision, &pool).unwrap();
            let error = relative_error(&product(&pool, &linear, &x), &want);
            assert!(error < bound, "{isa:?} {dtype:?} {precision:?} {outputs}x{inputs}: {error}");
        }
    }
}

#[test]
fn a_row_has_the_same_bits_in_every_batch_and_with_any_number_of_threads() {
    let mut random = Random::new(4);
    let (outputs, inputs) = (83, 256);
    let quantized = Quantized::new(&mut random, (outputs, inputs), 4, 64, Dtype::Bf16);
    let wide = Quantized::new(&mut random, (outputs, inputs), 8, 128, Dtype::F16);
    let bytes = stored(&random.floats(outputs * inputs), Dtype::Bf16);
    let dense = Dense { bytes: &bytes, dtype: Dtype::Bf16, outputs, inputs };
    let x = random.floats(33 * inputs);
    for isa in Isa::available() {
        let pools = [1, 2, 3].map(|threads| Pool::with_isa(threads, isa));
        for precision in [Precision::Fast, Precision::Exact] {
            let linears = [
                Linear::from_affine(&quantized.affine(), precision, &pools[0]).unwrap(),
                Linear::from_affine(&wide.affine(), precision, &pools[1]).unwrap(),
                Linear::from_dense(&dense, precision, &pools[2]).unwrap(),
            ];
            for linear in &linears {
                let all = product(&pools[0], linear, &x);
                for (rows, pool) in (1..=33).flat_map(|rows| pools.iter().map(move |pool| (rows, pool))) {
                    let from = (7 * rows) % (34 - rows);
                    let some = product(pool, linear, &x[from * inputs..(from + rows) * inputs]);
                    let want = &all[from * outputs..(from + rows) * outputs];
                    assert_eq!(bits(&some), bits(want), "{isa:?} {precision:?} {rows} rows");
                }
            }
        }
    }
}

#[test]
fn rows_come_back_dequantized() {
    let mut random = Random::new(5);
    for (bits_each, group, dtype) in [(4, 32, Dtype::F16), (4, 64, Dtype::Bf16), (8, 128, Dtype::F32)] {
        let matrix = Quantized::new(&mut random, (37, 256), bits_each, group, dtype);
        let pool = Pool::new(2);
        for precision in [Precision::Fast, Precision::Exact] {
            let linear = Linear::from_affine(&matrix.affine(), precision, &pool).unwrap();
            let mut row = vec![0.0; 256];
            for index in [0, 15, 16, 36] {
                linear.row(index, &mut row);
                let want: Vec<f64> = (0..256).map(|i| matrix.weight(index, i)).collect();
                assert!(relative_error(&row, &want) < 1e-6, "{bits_each} bits, row {index}");
            }
        }
    }
    let values = random.floats(3 * 7);
    let bytes = stored(&values, Dtype::Bf16);
    let dense = Dense { bytes: &bytes, dtype: Dtype::Bf16, outputs: 3, inputs: 7 };
    let linear = Linear::from_dense(&dense, Precision::Fast, &Pool::new(1)).unwrap();
    let mut row = vec![0.0; 7];
    linear.row(2, &mut row);
    assert_eq!(row, values[14..].iter().map(|v| half::bf16::from_f32(*v).to_f32()).collect::<Vec<_>>());
}

#[test]
fn a_stack_equals_its_parts_side_by_side() {
    let mut random = Random::new(6);
    let pool = Pool::new(2);
    let parts = [20, 7, 33].map(|outputs| Quantized::new(&mut random, (outputs, 128), 4, 64, Dtype::Bf16));
    let x = random.floats(6 * 128);
    let affine = parts.each_ref().map(Quantized::affine);
    let stack = Linear::from_affine_stack(&affine, Precision::Fast, &pool).unwrap();
    let whole = product(&pool, &stack, &x);
    let mut first = 0;
    for part in &affine {
        let alone = product(&pool, &Linear::from_affine(part, Precision::Fast, &pool).unwrap(), &x);
        for (whole, alone) in whole.chunks_exact(60).zip(alone.chunks_exact(part.outputs)) {
            assert_eq!(bits(&whole[first..first + part.outputs]), bits(alone));
        }
        first += part.outputs;
    }
    let other = Quantized::new(&mut random, (20, 128), 8, 64, Dtype::Bf16);
    let mixed = Linear::from_affine_stack(&[affine[0], other.affine()], Precision::Fast, &pool);
    assert_eq!(mixed.err(), Some(ShapeError::Stack));
}

#[test]
fn outputs_that_are_added_or_gated_are_those_of_the_passes_that_would_follow() {
    let mut random = Random::new(9);
    let (width, inputs) = (48, 256);
    for (bits_each, group) in [(4, 64), (8, 32), (4, 128)] {
        let mut part = || Quantized::new(&mut random, (width, inputs), bits_each, group, Dtype::Bf16);
        let parts = [part(), part()];
        let affine: Vec<Affine<'_>> = parts.iter().map(Quantized::affine).collect();
        for (isa, rows) in Isa::available().into_iter().flat_map(|isa| [1, 6, 7, 12, 30, 39].map(|rows| (isa, rows))) {
            let (pool, mut scratch) = (Pool::with_isa(2, isa), Scratch::new());
            let plain = Linear::from_affine_stack(&affine, Precision::Fast, &pool).unwrap();
            let x = random.floats(rows * inputs);
            let y = product(&pool, &plain, &x);
            let (mut sum, mut want) = (vec![0.5; y.len()], vec![0.5; y.len()]);
            plain.forward_onto(&pool, &mut scratch, &x, rows, &mut sum);
            add(&pool, &mut want, &y);
            assert_eq!(bits(&sum), bits(&want), "{isa:?}, {bits_each} bits, {rows} rows");
            let gated = Linear::from_affine_gate(&affine, &pool).unwrap().unwrap();
            for form in [Gate::Silu, Gate::GeluTanh, Gate::Clipped] {
                let (mut got, mut want) = (vec![f32::NAN; rows * width], vec![f32::NAN; rows * width]);
                gated.forward_gated(&pool, &mut scratch, form, &x, &mut got);
                let (up, stride) = (&y[width..], 2 * width);
                match form {
                    Gate::Silu => silu_mul(&pool, &y, up, stride, width, &mut want),
                    Gate::GeluTanh => gate(&pool, Activation::GeluTanh, &y, up, stride, width, &mut want),
                    Gate::Clipped => swiglu_clipped(&pool, &y, width, &mut want),
                }
                assert_eq!(bits(&got), bits(&want), "{form:?}, {isa:?}, {bits_each} bits, {rows} rows");
            }
        }
    }
}

#[test]
fn a_gate_whose_halves_are_no_whole_tiles_is_left_to_others() {
    let matrix = Quantized::new(&mut Random::new(10), (40, 128), 4, 64, Dtype::Bf16);
    assert!(Linear::from_affine_gate(&[matrix.affine()], &Pool::new(1)).unwrap().is_none());
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let mut random = Random::new(7);
    let pool = Pool::new(1);
    let good = Quantized::new(&mut random, (16, 128), 4, 64, Dtype::Bf16);
    let check = |affine: Affine<'_>, want: ShapeError| {
        assert_eq!(Linear::from_affine(&affine, Precision::Fast, &pool).err(), Some(want));
    };
    check(Affine { bits: 7, ..good.affine() }, ShapeError::Bits { bits: 7 });
    check(Affine { group: 16, ..good.affine() }, ShapeError::Group { group: 16 });
    check(Affine { inputs: 96, ..good.affine() }, ShapeError::Inputs { inputs: 96, group: 64 });
    check(Affine { outputs: 0, ..good.affine() }, ShapeError::Empty { what: "the number of outputs" });
    check(Affine { outputs: 17, ..good.affine() }, ShapeError::Bytes { what: "the weights", has: 1024, needs: 1088 });
    check(
        Affine { scales: &good.scales[2..], ..good.affine() },
        ShapeError::Bytes { what: "the scales", has: 62, needs: 64 },
    );
    let dense = Dense { bytes: &good.weights, dtype: Dtype::F32, outputs: 16, inputs: 17 };
    let error = Linear::from_dense(&dense, Precision::Fast, &pool).err();
    assert_eq!(error, Some(ShapeError::Bytes { what: "the matrix", has: 1024, needs: 1088 }));
    assert_eq!(
        Linear::from_dense_stack(&[], Precision::Fast, &pool).err(),
        Some(ShapeError::Empty { what: "the stack" })
    );
}

#[test]
fn the_smallest_groups_lose_less_of_their_inputs_than_the_nearest_numbers_of_their_largest_do() {
    let mut random = Random::new(33);
    let (outputs, inputs, rows, group) = (48, 512, 40, 32);
    let x = random.floats(rows * inputs);
    let nearest = |x: &[f32]| {
        let scale = f64::from(x.iter().fold(0.0f32, |most, x| most.max(x.abs()))) / 127.0;
        x.iter().map(move |x| (f64::from(*x) / scale).round_ties_even() * scale).collect::<Vec<_>>()
    };
    let rounded: Vec<f32> = x.chunks_exact(group).flat_map(nearest).map(|x| x as f32).collect();
    for bits in [4, 8] {
        let matrix = Quantized::new(&mut random, (outputs, inputs), bits, group, Dtype::F32);
        let on = |x: &[f32]| reference(matrix.shape, &|o, i| matrix.weight(o, i), x);
        let pool = Pool::new(2);
        let got = product(&pool, &Linear::from_affine(&matrix.affine(), Precision::Fast, &pool).unwrap(), &x);
        let plain: Vec<f32> = on(&rounded).into_iter().map(|y| y as f32).collect();
        let (error, of_plain) = (relative_error(&got, &on(&x)), relative_error(&plain, &on(&x)));
        assert!(error < 0.96 * of_plain, "{bits} bits: {error} in place of {of_plain}");
    }
}

#[test]
fn zeros_and_tiny_activations_give_finite_products() {
    let mut random = Random::new(8);
    let matrix = Quantized::new(&mut random, (16, 128), 4, 64, Dtype::Bf16);
    for (isa, value) in Isa::available().into_iter().flat_map(|isa| [0.0, 1e-38, 1e-45].map(|value| (isa, value))) {
        let pool = Pool::with_isa(1, isa);
        let linear = Linear::from_affine(&matrix.affine(), Precision::Fast, &pool).unwrap();
        assert!(product(&pool, &linear, &[value; 128]).iter().all(|y| y.abs() < 1e-30), "{isa:?} {value}");
    }
}

#[test]
fn what_is_no_number_stays_none_in_its_row() {
    let mut random = Random::new(11);
    let (outputs, inputs, rows) = (48, 256, 14);
    let x = random.floats(rows * inputs);
    for (bits_each, group) in [(4, 32), (4, 64), (8, 128)] {
        let matrix = Quantized::new(&mut random, (outputs, inputs), bits_each, group, Dtype::Bf16);
        for isa in Isa::available() {
            let pool = Pool::with_isa(2, isa);
            let linear = Linear::from_affine(&matrix.affine(), Precision::Fast, &pool).unwrap();
            let sound = product(&pool, &linear, &x);
            for (row, at) in [0, 13].into_iter().flat_map(|row| [0, 17, 64, inputs - 1].map(|at| (row, at))) {
                let mut damaged = x.clone();
                damaged[row * inputs + at] = f32::NAN;
                let got = product(&pool, &linear, &damaged);
                for (r, (got, sound)) in got.chunks(outputs).zip(sound.chunks(outputs)).enumerate() {
                    let as_it_should = if r == row { got.iter().all(|y| y.is_nan()) } else { bits(got) == bits(sound) };
                    assert!(as_it_should, "{isa:?}, {bits_each} bits, row {r} of {row}, input {at}");
                }
            }
            let nothing = product(&pool, &linear, &[f32::NAN; 256]);
            assert!(nothing.iter().all(|y| y.is_nan()), "{isa:?}, {bits_each} bits: {nothing:?}");
        }
    }
}

/// Weight `at` of packed words, bit by bit.
fn unpacked(words: &[u8], bits_each: usize, at: usize) -> usize {
    (0..bits_each)
        .map(|bit| at * bits_each + bit)
        .rev()
        .fold(0, |code, at| code << 1 | usize::from(words[at / 8] >> (at % 8) & 1))
}

/// Checks a matrix of 40 outputs whose weights are known: both precisions, and its rows.
fn check_width(matrix: &Affine<'_>, weight: &dyn Fn(usize, usize) -> f64, x: &[f32]) {
    let shape = (matrix.outputs, matrix.inputs);
    let want = reference(shape, weight, x);
    let pool = Pool::new(2);
    for (precision, largest) in [(Precision::Exact, 1e-6), (Precision::Fast, 0.012)] {
        let linear = Linear::from_affine(matrix, precision, &pool).unwrap();
        let error = relative_error(&product(&pool, &linear, x), &want);
        assert!(error < largest, "{} bits, {precision:?}: {error}", matrix.bits);
        let mut row = vec![f32::NAN; matrix.inputs];
        linear.row(matrix.outputs - 1, &mut row);
        let known: Vec<f64> = (0..matrix.inputs).map(|i| weight(matrix.outputs - 1, i)).collect();
        assert!(relative_error(&row, &known) < 1e-6, "{} bits, {precision:?}", matrix.bits);
    }
}

#[test]
fn weights_of_every_width_are_read() {
    let mut random = Random::new(31);
    let (outputs, inputs, group) = (40, 192, 64);
    for bits_each in [2, 3, 5, 6] {
        let words = random.bytes(outputs * inputs * bits_each / 8);
        let floats = |random: &mut Random| random.floats(outputs * inputs / group);
        let (scales, biases) = (floats(&mut random), floats(&mut random));
        let matrix = Affine {
            weights: &words,
            scales: &stored(&scales, Dtype::F32),
            biases: &stored(&biases, Dtype::F32),
            dtype: Dtype::F32,
            outputs,
            inputs,
            bits: bits_each as u32,
            group,
        };
        let weight = |o: usize, i: usize| {
            let pair = o * (inputs / group) + i / group;
            f64::from(scales[pair]) * unpacked(&words, bits_each, o * inputs + i) as f64 + f64::from(biases[pair])
        };
        check_width(&matrix, &weight, &random.floats(5 * inputs));
    }
}

#[test]
fn mxfp4_weights_are_read() {
    const HALVES: [f64; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    let mut random = Random::new(32);
    let (outputs, inputs, group) = (40, 192, 32);
    let words = random.bytes(outputs * inputs / 2);
    let scales: Vec<u8> = random.bytes(outputs * inputs / group).into_iter().map(|byte| 120 + byte % 8).collect();
    let matrix =
        Affine { weights: &words, scales: &scales, biases: &[], dtype: Dtype::E8m0, outputs, inputs, bits: 4, group };
    let weight = |o: usize, i: usize| {
        let code = unpacked(&words, 4, o * inputs + i);
        let sign = if code < 8 { 1.0 } else { -1.0 };
        let power = i32::from(scales[o * (inputs / group) + i / group]) - 127;
        sign * HALVES[code % 8] * 2f64.powi(power)
    };
    check_width(&matrix, &weight, &random.floats(5 * inputs));
    let wide = Affine { group: 64, scales: &scales[..scales.len() / 2], ..matrix };
    let refused = Linear::from_affine(&wide, Precision::Fast, &Pool::new(1)).err();
    assert_eq!(refused, Some(ShapeError::Mxfp4 { bits: 4, group: 64 }));
}
