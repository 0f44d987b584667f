//! Conversions against the definition of their formats: all 2¹⁶ narrow numbers, and every rounding between
//! them.

use crate::common::*;
use gristmill::kernels::convert::*;
use gristmill::{Context, Isa, reference};

/// One result on every instruction set, with 1 and 3 threads.
fn everywhere<A: Sync, B: Default + Clone + PartialEq + std::fmt::Debug + Send>(
    x: &[A],
    f: impl Fn(&[A], &mut [B]) -> gristmill::Result<()> + Sync,
) -> Vec<B> {
    let mut expected: Option<Vec<B>> = None;
    for isa in Isa::available() {
        for threads in [1, 3] {
            let mut y = vec![B::default(); x.len()];
            Context::new().isa(isa).threads(threads).run(|| f(x, &mut y)).unwrap().unwrap();
            assert!(*expected.get_or_insert_with(|| y.clone()) == y, "{isa} gives other bits");
        }
    }
    expected.unwrap()
}

type Narrow =
    (i32, fn(&[f32], &mut [u16]) -> gristmill::Result<()>, fn(&[u16], &mut [f32]) -> gristmill::Result<()>);
const NARROW: [Narrow; 2] = [(7, f32_to_bf16, bf16_to_f32), (10, f32_to_f16, f16_to_f32)];

#[test]
fn all_narrow_numbers_are_what_their_bits_say_and_come_back() {
    let all: Vec<u16> = (0..=u16::MAX).collect();
    for (significand, narrow, wide) in NARROW {
        // As bits, in which NaN is equal to itself.
        let numbers: Vec<f32> = everywhere(&all, |x, y: &mut [u32]| {
            let mut floats = vec![0.0; x.len()];
            wide(x, &mut floats)?;
            y.iter_mut().zip(floats).for_each(|(y, x)| *y = x.to_bits());
            Ok(())
        })
        .into_iter()
        .map(f32::from_bits)
        .collect();
        let back = everywhere(&numbers, narrow);
        for ((&bits, number), back) in all.iter().zip(&numbers).zip(back) {
            let exact = reference::from_narrow(bits, significand);
            if exact.is_nan() {
                // Quiet, of the same sign, with the rest of the payload.
                let quiet = bits | 1 << (significand - 1);
                assert!(number.is_nan() && number.to_bits() & 0x0040_0000 != 0, "{bits:04x}");
                assert_eq!(back, quiet);
            } else {
                assert_eq!(f64::from(*number).to_bits(), exact.to_bits(), "{bits:04x}");
                assert_eq!(back, bits);
            }
        }
    }
}

#[test]
fn every_rounding_to_a_narrow_number_is_to_the_nearest_even() {
    for (significand, narrow, _) in NARROW {
        // Each narrow number, the middle between it and the next, and the f32 around both.
        let mut x = Vec::new();
        for bits in 0..=u16::MAX {
            let (number, next) = (
                reference::from_narrow(bits, significand),
                reference::from_narrow(bits.wrapping_add(1), significand),
            );
            for number in [number as f32, ((number + next) / 2.0) as f32] {
                x.extend([-1, 0, 1].map(|step| f32::from_bits(number.to_bits().wrapping_add_signed(step))));
            }
        }
        x.extend((0..=u32::MAX).step_by(9973).map(f32::from_bits));
        x.extend([
            65519.996,
            65520.0,
            65520.01,
            f32::MAX,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MIN_POSITIVE,
        ]);
        for (x, y) in x.iter().zip(everywhere(&x, narrow)) {
            let exact = reference::to_narrow(f64::from(*x), significand);
            if x.is_nan() {
                let kept = significand - 1;
                assert_eq!(y & !((1 << kept) - 1), exact, "{:08x}", x.to_bits());
            } else {
                assert_eq!(y, exact, "{x:e}");
            }
        }
    }
}

#[test]
fn bytes_floats_and_integers() {
    let bytes: Vec<u8> = (0..=255).cycle().take(10_007).collect();
    let (scale, shift) = (1.0 / 255.0_f32, -0.3);
    let y = everywhere(&bytes, |x, y| u8_to_f32(x, scale, shift, y));
    assert!(bytes.iter().zip(&y).all(|(&x, &y)| y == f32::from(x) * scale + shift));

    let mut doubles: Vec<f64> = noise(10_001, 1);
    doubles.extend([
        0.0,
        -0.0,
        1e300,
        -1e-300,
        1e-45,
        f64::INFINITY,
        f64::NEG_INFINITY,
        1.0 + 2f64.powi(-24),
        f64::MAX,
    ]);
    let singles = everywhere(&doubles, f64_to_f32);
    for (x, y) in doubles.iter().zip(&singles) {
        // Nearest: no neighbour is nearer.
        let distance = |y: f32| (f64::from(y) - x).abs();
        assert!(
            y.is_infinite()
                || distance(*y) <= distance(y.next_up()) && distance(*y) <= distance(y.next_down()),
            "{x:e}"
        );
        assert_eq!(x.is_sign_negative(), y.is_sign_negative());
    }
    let wide = everywhere(&singles, f32_to_f64);
    assert!(singles.iter().zip(&wide).all(|(x, y)| f64::from(*x).to_bits() == y.to_bits()));

    let floats =
        [0.9, -0.9, 1.5, -2.5, 2147483520.0, 2147483648.0, -2147483648.0, 3e9, -3e9, f32::INFINITY, f32::NAN];
    let ints = [0, 0, 1, -2, 2147483520, i32::MAX, i32::MIN, i32::MAX, i32::MIN, i32::MAX, 0];
    assert_eq!(everywhere(&floats, f32_to_i32), ints);
    let ints = [0, -1, 16_777_217, 16_777_219, i32::MAX, i32::MIN, -33_554_435];
    let floats = [0.0, -1.0, 16_777_216.0, 16_777_220.0, 2147483648.0, -2147483648.0, -33_554_436.0];
    assert_eq!(everywhere(&ints, i32_to_f32), floats);
    let mut nan = [0.0];
    f64_to_f32(&[f64::NAN], &mut nan).unwrap();
    assert!(nan[0].is_nan());
}

#[test]
fn wrong_lengths_are_named() {
    let error = f32_to_f16(&[0.0; 3], &mut [0; 2]).unwrap_err().to_string();
    assert_eq!(error, "f32_to_f16: y has 2 elements, expected 3");
    u8_to_f32(&[], 1.0, 0.0, &mut []).unwrap();
}
