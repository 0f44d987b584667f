//! Every operation of the virtual registers, on every instruction set, against scalar code.

use gristmill::Isa;
use gristmill::simd::{Dispatcher, Float, Int, Kernel, Mask, Simd};

/// A name, the bits of each lane, and whether a NaN may be any NaN.
type Row = (&'static str, Vec<u64>, bool);

/// The lanes i and i + n/2, then i and i + n/4, …
fn tree<T: Copy>(x: &[T], op: fn(T, T) -> T) -> T {
    if x.len() == 1 {
        return x[0];
    }
    let (low, high) = x.split_at(x.len() / 2);
    tree(&low.iter().zip(high).map(|(&a, &b)| op(a, b)).collect::<Vec<_>>(), op)
}

macro_rules! conformance {
    ($name:ident, $float:ident, $int:ident, $signed:ident, $wide:ident, $vector:ident, $ints:ident, $lanes:literal) => {
        mod $name {
            use super::*;

            type Floats = [$float; $lanes];
            type Ints = [$int; $lanes];
            const WIDTH: u32 = $int::BITS;
            /// Integers below this are rounded and converted.
            const CONVERTIBLE: $float = if WIDTH == 32 { 2147483520.0 } else { 2251799813685247.0 };

            fn special() -> Vec<$float> {
                let positive = [
                    0.0,
                    $float::from_bits(1),
                    $float::MIN_POSITIVE / 3.0,
                    $float::MIN_POSITIVE,
                    0.1,
                    0.5,
                    1.0,
                    1.0 + $float::EPSILON,
                    1.5,
                    2.5,
                    3.0,
                    7.75,
                    1e6 + 0.5,
                    0.5 / $float::EPSILON - 0.5,
                    1.0 / $float::EPSILON + 1.0,
                    $float::MAX / 2.0,
                    $float::MAX,
                    $float::INFINITY,
                    $float::NAN,
                ];
                positive.iter().flat_map(|&x| [x, -x]).collect()
            }

            /// All pairs of special values, with a third one that wanders, by registers.
            fn triples() -> Vec<[Floats; 3]> {
                let x = special();
                let n = x.len();
                let lane = |i: usize| [x[i / n % n], x[i % n], x[i * 7 / 5 % n]];
                (0..(n * n).div_ceil($lanes))
                    .map(|block| [0, 1, 2].map(|k| std::array::from_fn(|i| lane(block * $lanes + i)[k])))
                    .collect()
            }

            fn mix(seed: u64) -> u64 {
                let x = seed.wrapping_add(0x9E37_79B9_7F4A_7C15).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                (x ^ x >> 29).wrapping_mul(0x94D0_49BB_1331_11EB)
            }

            struct Vectors([Floats; 3]);

            impl Kernel for Vectors {
                type Output = Vec<Row>;
                #[inline(always)]
                fn run<S: Simd>(self, s: S) -> Vec<Row> {
                    let [a, b, c] = self.0.each_ref().map(|x| s.load::<$float>(x));
                    let lanes = |x: S::$vector| {
                        let mut y = [0.0; $lanes];
                        s.store::<$float>(x, &mut y);
                        y.map(|y| u64::from(y.to_bits())).to_vec()
                    };
                    let ints = |x: S::$ints| {
                        let mut y = [0; $lanes];
                        // SAFETY: the array is a register long.
                        unsafe { x.store_ptr(y.as_mut_ptr()) };
                        y.map(u64::from).to_vec()
                    };
                    let one = |x: $float| vec![u64::from(x.to_bits())];
                    let mask = |m: <S::$vector as Float<S>>::Mask| vec![u64::from(m.to_bits())];
                    let inside =
                        S::$vector::select(a.abs().lt(s.splat(CONVERTIBLE)), a, s.splat::<$float>(0.0));
                    vec![
                        ("add", lanes(a + b), true),
                        ("sub", lanes(a - b), true),
                        ("mul", lanes(a * b), true),
                        ("div", lanes(a / b), true),
                        ("mul_add", lanes(a.mul_add(b, c)), true),
                        ("mul_sub", lanes(a.mul_sub(b, c)), true),
                        ("neg_mul_add", lanes(a.neg_mul_add(b, c)), true),
                        ("sqrt", lanes(a.sqrt()), true),
                        ("floor", lanes(a.floor()), true),
                        ("ceil", lanes(a.ceil()), true),
                        ("round_ties_even", lanes(a.round_ties_even()), true),
                        ("neg", lanes(-a), false),
                        ("abs", lanes(a.abs()), false),
                        ("copysign", lanes(a.copysign(b)), false),
                        ("min", lanes(a.min(b)), false),
                        ("max", lanes(a.max(b)), false),
                        ("minimum", lanes(a.minimum(b)), false),
                        ("maximum", lanes(a.maximum(b)), false),
                        ("select", lanes(S::$vector::select(a.lt(b), b, c)), false),
                        ("splat", lanes(s.splat(self.0[0][3])), false),
                        ("to_bits", ints(a.to_bits()), false),
                        ("from_bits", lanes(S::$vector::from_bits(a.to_bits())), false),
                        ("to_int", ints(inside.to_int()), false),
                        ("from_int", lanes(S::$vector::from_int(inside.to_int())), false),
                        ("eq", mask(a.eq(b)), false),
                        ("lt", mask(a.lt(b)), false),
                        ("le", mask(a.le(b)), false),
                        ("is_nan", mask(a.is_nan()), false),
                        ("reduce_add", one(c.reduce_add()), true),
                        ("reduce_min", one(c.reduce_min()), false),
                        ("reduce_max", one(c.reduce_max()), false),
                    ]
                }
            }

            fn min(a: $float, b: $float) -> $float {
                if a < b { a } else { b }
            }

            fn max(a: $float, b: $float) -> $float {
                if a > b { a } else { b }
            }

            fn expected_floats(isa: Isa, [a, b, c]: [Floats; 3]) -> Vec<Vec<u64>> {
                let each = |f: &dyn Fn($float, $float, $float) -> $float| {
                    (0..$lanes).map(|i| f(a[i], b[i], c[i]).to_bits().into()).collect::<Vec<u64>>()
                };
                let mask = |f: fn($float, $float) -> bool| {
                    vec![(0..$lanes).map(|i| u64::from(f(a[i], b[i])) << i).sum::<u64>()]
                };
                let one = |x: $float| vec![u64::from(x.to_bits())];
                let fused = |a: $float, b: $float, c: $float| {
                    if isa.has_fma() { a.mul_add(b, c) } else { a * b + c }
                };
                let int = |a: $float| {
                    if a.abs() < CONVERTIBLE { a.round_ties_even() as $signed } else { 0 }
                };
                vec![
                    each(&|a, b, _| a + b),
                    each(&|a, b, _| a - b),
                    each(&|a, b, _| a * b),
                    each(&|a, b, _| a / b),
                    each(&|a, b, c| fused(a, b, c)),
                    each(&|a, b, c| fused(a, b, -c)),
                    each(&|a, b, c| fused(-a, b, c)),
                    each(&|a, _, _| a.sqrt()),
                    each(&|a, _, _| a.floor()),
                    each(&|a, _, _| a.ceil()),
                    each(&|a, _, _| a.round_ties_even()),
                    each(&|a, _, _| -a),
                    each(&|a, _, _| a.abs()),
                    each(&|a, b, _| a.copysign(b)),
                    each(&|a, b, _| min(a, b)),
                    each(&|a, b, _| max(a, b)),
                    each(&|a, b, _| if a.is_nan() { a } else { min(a, b) }),
                    each(&|a, b, _| if a.is_nan() { a } else { max(a, b) }),
                    each(&|a, b, c| if a < b { b } else { c }),
                    each(&|_, _, _| a[3]),
                    each(&|a, _, _| a),
                    each(&|a, _, _| a),
                    a.map(|a| u64::from(int(a) as $int)).to_vec(),
                    each(&|a, _, _| int(a) as $float),
                    mask(|a, b| a == b),
                    mask(|a, b| a < b),
                    mask(|a, b| a <= b),
                    mask(|a, _| a.is_nan()),
                    one(tree(&c, |a, b| a + b)),
                    one(tree(&c, min)),
                    one(tree(&c, max)),
                ]
            }

            #[test]
            fn floats_behave_as_scalars() {
                for isa in Isa::available() {
                    for x in triples() {
                        let rows = Dispatcher::new(isa).unwrap().run(Vectors(x));
                        let expected = expected_floats(isa, x);
                        assert_eq!(rows.len(), expected.len());
                        for ((name, actual, any_nan), expected) in rows.into_iter().zip(expected) {
                            let nan = |bits: u64| any_nan && $float::from_bits(bits as $int).is_nan();
                            let alike = |(a, e): (&u64, &u64)| a == e || nan(*a) && nan(*e);
                            assert!(
                                actual.len() == expected.len() && actual.iter().zip(&expected).all(alike),
                                "{isa} {name} of {x:?}: {actual:x?}, expected {expected:x?}"
                            );
                        }
                    }
                }
            }

            /// Numbers, and exponents to scale them by.
            struct Instructions(Floats, Floats);

            impl Kernel for Instructions {
                type Output = [Option<Floats>; 4];
                #[inline(always)]
                fn run<S: Simd>(self, s: S) -> Self::Output {
                    let [x, n] = [self.0, self.1].each_ref().map(|x| s.load::<$float>(x));
                    let lanes = |x: S::$vector| {
                        let mut y = [0.0; $lanes];
                        s.store::<$float>(x, &mut y);
                        y
                    };
                    let parts = x.exponent_and_mantissa();
                    [
                        x.scaled(n).map(lanes),
                        parts.map(|parts| lanes(parts.0)),
                        parts.map(|parts| lanes(parts.1)),
                        x.logarithm_or(n).map(lanes),
                    ]
                }
            }

            /// What `Some` instruction sets do in one instruction.
            #[test]
            fn scaling_and_taking_apart_is_exact() {
                fn scaled(x: $float, n: $float) -> $float {
                    // Neither factor leaves the normal range: what rounds is the last multiplication.
                    let half = (n / 2.0).floor();
                    x * half.exp2() * (n - half).exp2()
                }
                fn parts(x: $float) -> ($float, $float) {
                    let (mut k, mut mantissa) = (0.0, x);
                    while mantissa >= 1.5 {
                        (k, mantissa) = (k + 1.0, mantissa / 2.0);
                    }
                    while mantissa < 0.75 {
                        (k, mantissa) = (k - 1.0, mantissa * 2.0);
                    }
                    (k, mantissa)
                }
                fn logarithm(x: $float, value: $float) -> $float {
                    match x {
                        0.0 => -$float::INFINITY,
                        _ if x > 0.0 && x.is_finite() => value,
                        _ if x > 0.0 => x,
                        _ => $float::NAN,
                    }
                }
                let alike = |a: $float, b: $float| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
                let range = if WIDTH == 32 { 160.0 } else { 1080.0 };
                for isa in Isa::available() {
                    let run = |x, n| Dispatcher::new(isa).unwrap().run(Instructions(x, n));
                    for round in 0..2_000 {
                        let random =
                            |i: usize| mix((round * 2 * $lanes + i) as u64) as $float / u64::MAX as $float;
                        let x: Floats = std::array::from_fn(|i| match (random(i), i % 4) {
                            (x, 0) => 1.0 + x,
                            (x, 1) => -0.6 - x,
                            (x, 2) => x * $float::MIN_POSITIVE,
                            (x, _) => special()[(x * special().len() as $float) as usize % special().len()],
                        });
                        let n: Floats =
                            std::array::from_fn(|i| ((random($lanes + i) - 0.5) * 2.0 * range).round());
                        let results = run(x, n);
                        assert_eq!(results.iter().all(Option::is_some), isa == Isa::Avx512);
                        let [Some(scales), Some(exponents), Some(mantissas), Some(logarithms)] = results
                        else {
                            continue;
                        };
                        for i in 0..$lanes {
                            let (x, n) = (x[i], n[i]);
                            // The two factors round twice where x is subnormal itself.
                            if !(x.abs() < 0.1 && x != 0.0) {
                                let expected = scaled(x, n);
                                assert!(
                                    alike(scales[i], expected),
                                    "{isa}: {x:e}·2^{n} is not {:e}",
                                    scales[i]
                                );
                            }
                            if x > 0.0 && x.is_finite() {
                                assert_eq!((exponents[i], mantissas[i]), parts(x), "{isa}: {x:e}");
                            }
                            let expected = logarithm(x, n);
                            assert!(alike(logarithms[i], expected), "{isa}: {x:e} gives {:e}", logarithms[i]);
                        }
                    }
                }
            }

            struct Integers(Ints, Ints, u32);

            impl Kernel for Integers {
                type Output = Vec<Row>;
                #[inline(always)]
                fn run<S: Simd>(self, s: S) -> Vec<Row> {
                    let Self(a, b, count) = self;
                    // SAFETY: the array is a register long.
                    let load = |x: Ints| unsafe { S::$ints::load_ptr(s, x.as_ptr()) };
                    let (a, b) = (load(a), load(b));
                    let lanes = |x: S::$ints| {
                        let mut y = [0; $lanes];
                        // SAFETY: the array is a register long.
                        unsafe { x.store_ptr(y.as_mut_ptr()) };
                        y.map(u64::from).to_vec()
                    };
                    let (low, high) = a.mul_wide(b);
                    vec![
                        ("add", lanes(a + b), false),
                        ("sub", lanes(a - b), false),
                        ("and", lanes(a.and(b)), false),
                        ("or", lanes(a.or(b)), false),
                        ("xor", lanes(a.xor(b)), false),
                        ("shl", lanes(a.shl(count)), false),
                        ("shr", lanes(a.shr(count)), false),
                        ("sar", lanes(a.sar(count.max(1))), false),
                        ("eq", vec![a.eq(b).to_bits().into()], false),
                        ("lt", vec![a.lt(b).to_bits().into()], false),
                        ("select", lanes(S::$ints::select(a.lt(b), a, b)), false),
                        ("mul_wide low", lanes(low), false),
                        ("mul_wide high", lanes(high), false),
                        ("splat", lanes(S::$ints::splat(s, self.0[1])), false),
                        ("iota", lanes(S::$ints::iota(s)), false),
                    ]
                }
            }

            #[test]
            fn integers_behave_as_scalars() {
                let extreme = [0, 1, $int::MAX, $int::MAX - 1, 1 << (WIDTH - 1), (1 << (WIDTH - 1)) - 1];
                for seed in 0..4 * WIDTH {
                    let value = |i: usize, k: u64| match mix(u64::from(seed) << 8 | (i as u64) << 1 | k) {
                        pick if pick % 3 == 0 => extreme[(pick >> 8) as usize % extreme.len()],
                        pick => (pick >> 3) as $int,
                    };
                    let (a, mut b): (Ints, Ints) =
                        (std::array::from_fn(|i| value(i, 0)), std::array::from_fn(|i| value(i, 1)));
                    b[2] = a[2];
                    let count = seed % WIDTH;
                    let each = |f: &dyn Fn($int, $int) -> $int| {
                        (0..$lanes).map(|i| f(a[i], b[i]).into()).collect::<Vec<u64>>()
                    };
                    let mask = |f: fn($int, $int) -> bool| {
                        vec![(0..$lanes).map(|i| u64::from(f(a[i], b[i])) << i).sum::<u64>()]
                    };
                    let factor = |x: $int| (x as u32) as $wide;
                    let product = |a, b| factor(a) * factor(b);
                    let high = |a, b| if WIDTH == 32 { (product(a, b) >> 32) as $int } else { 0 };
                    let expected = vec![
                        each(&|a, b| a.wrapping_add(b)),
                        each(&|a, b| a.wrapping_sub(b)),
                        each(&|a, b| a & b),
                        each(&|a, b| a | b),
                        each(&|a, b| a ^ b),
                        each(&|a, _| a << count),
                        each(&|a, _| a >> count),
                        each(&|a, _| (a as $signed >> count.max(1)) as $int),
                        mask(|a, b| a == b),
                        mask(|a, b| a < b),
                        each(&|a, b| a.min(b)),
                        each(&|a, b| product(a, b) as $int),
                        each(&|a, b| high(a, b)),
                        each(&|_, _| a[1]),
                        (0..$lanes).collect(),
                    ];
                    for isa in Isa::available() {
                        let rows = Dispatcher::new(isa).unwrap().run(Integers(a, b, count));
                        assert_eq!(rows.len(), expected.len());
                        for ((name, actual, _), expected) in rows.into_iter().zip(&expected) {
                            assert_eq!(actual, *expected, "{isa} {name} of {a:x?} and {b:x?}, count {count}");
                        }
                    }
                }
            }

            struct Masks;

            impl Kernel for Masks {
                type Output = ();
                #[inline(always)]
                fn run<S: Simd>(self, s: S) {
                    let all = (1_u32 << $lanes) - 1;
                    let mask = |bits| <<S::$vector as Float<S>>::Mask as Mask<S>>::from_bits(s, bits);
                    for bits in 0..=all {
                        let other = mix(bits.into()) as u32 & all;
                        let (m, n) = (mask(bits), mask(other));
                        assert_eq!(m.to_bits(), bits);
                        assert_eq!(m.and(n).to_bits(), bits & other);
                        assert_eq!(m.or(n).to_bits(), bits | other);
                        assert_eq!(m.not().to_bits(), !bits & all);
                        assert_eq!(m.any(), bits != 0);
                    }
                    for count in 0..=$lanes {
                        let first = <<S::$vector as Float<S>>::Mask as Mask<S>>::first(s, count);
                        assert_eq!(first.to_bits(), (1_u32 << count) - 1);
                    }
                }
            }

            #[test]
            fn masks_are_their_bits() {
                Isa::available().for_each(|isa| Dispatcher::new(isa).unwrap().run(Masks));
            }

            struct Memory;

            impl Kernel for Memory {
                type Output = ();
                #[inline(always)]
                fn run<S: Simd>(self, s: S) {
                    assert_eq!(s.lanes::<$float>(), $lanes);
                    let numbers: Vec<$float> = (0..3 * $lanes).map(|i| i as $float + 1.0).collect();
                    // Every alignment and every count.
                    for start in 0..=$lanes {
                        for count in 0..=$lanes {
                            let from = &numbers[start..start + count];
                            let mut lanes = [$float::NAN; $lanes];
                            s.store::<$float>(s.load_partial(from), &mut lanes);
                            assert_eq!(lanes[..count], *from);
                            assert!(lanes[count..].iter().all(|x| x.to_bits() == 0));
                            s.store::<$float>(s.load_partial_or(from, -7.0), &mut lanes);
                            assert_eq!(lanes[..count], *from);
                            assert!(lanes[count..].iter().all(|&x| x == -7.0));

                            let mut to = vec![-1.0; 3 * $lanes];
                            s.store_partial::<$float>(s.load(&numbers), &mut to[start..start + count]);
                            assert_eq!(to[start..start + count], numbers[..count]);
                            assert!(to[..start].iter().chain(&to[start + count..]).all(|&x| x == -1.0));
                        }
                        let mut to = vec![-1.0; 3 * $lanes];
                        s.store::<$float>(s.load(&numbers[start..]), &mut to[start..]);
                        assert_eq!(to[start..start + $lanes], numbers[start..start + $lanes]);
                        assert!(to[..start].iter().chain(&to[start + $lanes..]).all(|&x| x == -1.0));
                    }
                    for (stride, rows, to_stride) in
                        [($lanes, $lanes, $lanes), ($lanes + 1, $lanes, 2 * $lanes), (3 * $lanes, 3, $lanes)]
                    {
                        // What can be read ends with the last row.
                        let from: Vec<$float> =
                            (0..(rows - 1) * stride + $lanes).map(|i| i as $float).collect();
                        let mut to = vec![-1.0; ($lanes - 1) * to_stride + $lanes];
                        // SAFETY: `rows` registers lie in `from`, `stride` apart, and there is room for the
                        // square.
                        unsafe {
                            let (from, to) = (from.as_ptr(), to.as_mut_ptr());
                            S::$vector::transpose_ptr(s, from, stride, rows, to, to_stride);
                        }
                        for (j, row) in to.chunks(to_stride).enumerate() {
                            for (i, &x) in row[..$lanes].iter().enumerate() {
                                let expected = from[i.min(rows - 1) * stride + j];
                                assert_eq!(x, expected, "stride {stride}: row {j}, column {i}");
                            }
                            assert!(row[$lanes..].iter().all(|&x| x == -1.0));
                        }
                    }
                }
            }

            #[test]
            fn loads_and_stores_touch_what_they_name() {
                Isa::available().for_each(|isa| Dispatcher::new(isa).unwrap().run(Memory));
            }
        }
    };
}

conformance!(single, f32, u32, i32, u64, F32, U32, 16);
conformance!(double, f64, u64, i64, u64, F64, U64, 8);

#[test]
fn instruction_sets_have_names_and_tokens() {
    let available: Vec<Isa> = Isa::available().collect();
    assert_eq!(available[0], Isa::Portable);
    for isa in available {
        assert_eq!(Isa::from_name(isa.name()), Some(isa));
        assert_eq!(Dispatcher::new(isa).unwrap().isa(), isa);
        assert_eq!(format!("{isa:>9}").len(), 9);
    }
    assert_eq!(Isa::from_name("sse9"), None);
    assert_eq!(Some(Dispatcher::widest().isa()), Isa::available().last());
}

#[test]
#[should_panic]
fn a_load_beyond_the_slice_panics() {
    struct Load;
    impl Kernel for Load {
        type Output = f32;
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> f32 {
            s.load::<f32>(&[1.0; 15]).reduce_add()
        }
    }
    Dispatcher::widest().run(Load);
}
