//! A matrix a head gives what plain sums give, whatever rows are beside each other.

use super::*;

fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|at| ((at * 37 + seed * 101) % 113) as f32 / 64.0 - 0.8).collect()
}

#[test]
fn each_head_is_multiplied_by_its_own_matrix_and_the_rest_stays() {
    let (heads, outputs, inputs, rows) = (3, 70, 10, 6);
    let weights = numbers(heads * outputs * inputs, 1);
    let from = Places { stride: 50, offset: 4, step: 12 };
    let to = Places { stride: 230, offset: 2, step: 72 };
    let x = numbers(rows * from.stride, 2);
    for isa in crate::native::Isa::available() {
        let pool = Pool::with_isa(2, isa);
        let matrix = PerHead::pack((heads, outputs, inputs), Precision::Exact, |head, output, row| {
            row.copy_from_slice(&weights[(head * outputs + output) * inputs..][..inputs]);
        });
        let mut y = vec![9.0; rows * to.stride];
        matrix.forward(&pool, (&x, from), (&mut y, to), rows);
        for row in 0..rows {
            for head in 0..heads {
                let x = &x[row * from.stride + from.offset + head * from.step..][..inputs];
                let y = &y[row * to.stride + to.offset + head * to.step..][..72];
                for (output, y) in y[..outputs].iter().enumerate() {
                    let weights = &weights[(head * outputs + output) * inputs..][..inputs];
                    let expected = weights.iter().zip(x).fold(0.0, |sum, (weight, x)| sum + weight * x);
                    assert_eq!(y.to_bits(), expected.to_bits(), "{isa:?}, row {row}, head {head}, output {output}");
                }
                assert_eq!(y[outputs..], [9.0; 2], "what lies between heads stays");
            }
            let (mut alone, at) = (vec![9.0; to.stride], row * to.stride);
            matrix.forward(&pool, (&x[row * from.stride..], from), (&mut alone, to), 1);
            assert_eq!(alone, y[at..at + to.stride], "{isa:?}: row {row} alone");
        }
    }
}

#[test]
fn fast_weights_are_bf16() {
    let matrix = PerHead::pack((1, 2, 1), Precision::Fast, |_, output, row| row[0] = [1.001, -3.0][output]);
    let (mut y, places) = ([0.0; 2], Places { stride: 2, offset: 0, step: 2 });
    matrix.forward(&Pool::new(1), (&[2.0, 0.0], places), (&mut y, places), 1);
    assert_eq!(y, [2.0, -6.0]);
}
