//! Convolutions against products with the explicit matrix of patches, PyTorch's conventions and their
//! promises; the laws cover the rest.

use crate::common::*;
use gristmill::kernels::conv::{BackwardInput, BackwardWeight, Forward, Shape};
use gristmill::kernels::gemm::{Bias, Epilogue, MatMut, MatRef, gemm_with_epilogue};
use gristmill::kernels::map::Unary;
use gristmill::kernels::window::Window;
use gristmill::{Context, Element, Error};
use proptest::prelude::*;

fn square(batch: usize, channels: [usize; 2], size: usize, kernel: usize) -> Shape {
    let window = Window { kernel: [kernel; 2], ..Window::default() };
    Shape { batch, channels, size: [size; 2], window, ..Shape::default() }
}

fn positions(shape: &Shape) -> usize {
    shape.output().unwrap().iter().product()
}

fn weight_len(shape: &Shape) -> usize {
    let [inputs, outputs] = shape.channels;
    outputs * inputs / shape.groups * shape.window.kernel[0] * shape.window.kernel[1]
}

fn x_len(shape: &Shape) -> usize {
    shape.batch * shape.channels[0] * shape.size[0] * shape.size[1]
}

fn y_len(shape: &Shape) -> usize {
    shape.batch * shape.channels[1] * positions(shape)
}

/// The patches of one group of one image: a row for each channel and tap, a column for each position.
fn patches<T: Element>(shape: &Shape, x: &[T], image: usize, group: usize) -> Vec<T> {
    let Shape { channels: [inputs, _], groups, size: [height, width], window, .. } = *shape;
    let [rows, cols] = shape.output().unwrap();
    let per_group = inputs / groups;
    let mut matrix = vec![];
    for c in 0..per_group {
        let plane = &x[(image * inputs + group * per_group + c) * height * width..][..height * width];
        for a in 0..window.kernel[0] {
            for b in 0..window.kernel[1] {
                for i in 0..rows {
                    for j in 0..cols {
                        let h = i * window.stride[0] + a * window.dilation[0];
                        let w = j * window.stride[1] + b * window.dilation[1];
                        let h = h.checked_sub(window.padding[0][0]).filter(|&h| h < height);
                        let w = w.checked_sub(window.padding[1][0]).filter(|&w| w < width);
                        matrix.push(h.zip(w).map_or(T::ZERO, |(h, w)| plane[h * width + w]));
                    }
                }
            }
        }
    }
    matrix
}

fn forward<T: Element>(shape: Shape, x: &[T], weight: &[T], bias: Option<&[T]>) -> Vec<T> {
    let mut y = vec![T::NAN; y_len(&shape)];
    Forward { shape, x, weight, bias, y: &mut y, ..Forward::default() }.run().unwrap();
    y
}

fn shapes() -> impl Strategy<Value = Shape> {
    let channels = (1..4usize, 1..9usize, 1..20usize).prop_map(|(groups, inputs, outputs)| {
        if groups == 3 { ([3, 3 * outputs.min(3)], 3) } else { ([groups * inputs, groups * outputs], groups) }
    });
    let window = ([1..5usize, 1..5], [1..4usize, 1..4], [1..3usize, 1..3], [0..3usize, 0..3, 0..3, 0..3]);
    (1..4usize, channels, [1..20usize, 1..40], window).prop_filter_map(
        "the window fits",
        |(batch, (channels, groups), size, (kernel, stride, dilation, [top, bottom, left, right]))| {
            let padding = [[top, bottom], [left, right]];
            let window = Window { kernel, stride, padding, dilation };
            let shape = Shape { batch, channels, groups, size, window };
            shape.output().is_ok().then_some(shape)
        },
    )
}

/// The output is that of one product for each group of each image, with the same bits.
fn is_a_product<T: Element>(shape: Shape, seed: u64) -> Result<(), TestCaseError> {
    let (x, weight) = (noise::<T>(x_len(&shape), seed), noise::<T>(weight_len(&shape), seed + 1));
    let bias = noise::<T>(shape.channels[1], seed + 2);
    let y = forward(shape, &x, &weight, Some(&bias));
    let (n, m) = (positions(&shape), shape.channels[1] / shape.groups);
    let k = weight.len() / shape.channels[1];
    for image in 0..shape.batch {
        for group in 0..shape.groups {
            let matrix = patches(&shape, &x, image, group);
            let mut c = vec![T::NAN; m * n];
            let epilogue = Epilogue::from(Bias::PerRow(&bias[group * m..][..m]));
            let a = MatRef::row_major(&weight[group * m * k..], m, k).unwrap();
            let b = MatRef::row_major(&matrix, k, n).unwrap();
            gemm_with_epilogue(T::ONE, a, b, T::ZERO, epilogue, MatMut::row_major(&mut c, m, n).unwrap())
                .unwrap();
            let part = &y[(image * shape.groups + group) * m * n..][..m * n];
            prop_assert_eq!(bits(part), bits(&c), "{:?}, image {}, group {}", shape, image, group);
        }
    }
    Ok(())
}

fn bits<T: Element>(x: &[T]) -> Vec<u64> {
    x.iter().map(|x| x.to_f64().to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_output_is_a_product_with_patches(shape in shapes(), seed in 0..1000u64) {
        is_a_product::<f32>(shape, seed)?;
        is_a_product::<f64>(shape, seed)?;
    }

    /// ⟨y, dy⟩ as a function of x and of the weight is linear: its gradients are found by putting in units.
    #[test]
    fn gradients_are_the_transposes_of_the_forward_pass(shape in shapes(), seed in 0..1000u64) {
        let (x, dy) = (noise::<f64>(x_len(&shape), seed), noise::<f64>(y_len(&shape), seed + 1));
        let weight = noise::<f64>(weight_len(&shape), seed + 2);
        let (mut dx, mut dweight) = (vec![f64::NAN; x.len()], vec![f64::NAN; weight.len()]);
        BackwardInput { shape, weight: &weight, dy: &dy, dx: &mut dx, ..Default::default() }.run().unwrap();
        BackwardWeight { shape, x: &x, dy: &dy, dweight: &mut dweight, dbias: None }.run().unwrap();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let value = dot(&forward(shape, &x, &weight, None), &dy);
        let tolerance = 1e-12 * (1.0 + dot(&x, &x) * dot(&weight, &weight)) * (1.0 + dot(&dy, &dy));
        prop_assert!((dot(&dx, &x) - value).abs() <= tolerance, "{shape:?}");
        prop_assert!((dot(&dweight, &weight) - value).abs() <= tolerance, "{shape:?}");
    }
}

#[test]
fn channels_and_taps_beyond_a_block_of_the_sums_are_products_too() {
    for outputs in [1, 7, 30] {
        for (channels, kernel, size) in [(40, 3, 9), (300, 1, 5), (1, 17, 20), (33, 3, 40)] {
            let mut shape = square(2, [channels, outputs], size, kernel);
            shape.window.padding = [[1, 1]; 2];
            is_a_product::<f32>(shape, 7).unwrap();
        }
    }
}

#[test]
fn gradients_of_the_weight_are_products_too() {
    // Of four output channels and more; fewer are summed in another order.
    for (batch, channels, size, kernel) in [(3, [5, 6], 13, 3), (2, [3, 4], 30, 5), (9, [2, 20], 7, 2)] {
        let shape = square(batch, channels, size, kernel);
        let (x, dy) = (noise::<f32>(x_len(&shape), 3), noise::<f32>(y_len(&shape), 4));
        let [mut dweight, mut dbias] = [vec![f32::NAN; weight_len(&shape)], vec![f32::NAN; channels[1]]];
        BackwardWeight { shape, x: &x, dy: &dy, dweight: &mut dweight, dbias: Some(&mut dbias) }
            .run()
            .unwrap();
        // All images side by side.
        let (m, n, k) = (channels[1], channels[0] * kernel * kernel, positions(&shape));
        let mut a = vec![0.0; m * batch * k];
        let mut b = vec![0.0; (n + 1) * batch * k];
        for image in 0..batch {
            for (o, row) in dy[image * m * k..][..m * k].chunks(k).enumerate() {
                a[(o * batch + image) * k..][..k].copy_from_slice(row);
            }
            let matrix = [patches(&shape, &x, image, 0), vec![1.0; k]].concat();
            for (t, row) in matrix.chunks(k).enumerate() {
                b[(t * batch + image) * k..][..k].copy_from_slice(row);
            }
        }
        let mut c = vec![0.0; m * (n + 1)];
        let (a, b) =
            (MatRef::row_major(&a, m, batch * k).unwrap(), MatRef::row_major(&b, n + 1, batch * k).unwrap());
        let c_view = MatMut::row_major(&mut c, m, n + 1).unwrap();
        gristmill::kernels::gemm::gemm(1.0, a, b.t(), 0.0, c_view).unwrap();
        for (o, row) in c.chunks(n + 1).enumerate() {
            assert_eq!(bits(&dweight[o * n..][..n]), bits(&row[..n]), "{shape:?}");
            assert_eq!(dbias[o].to_bits(), row[n].to_bits(), "{shape:?}");
        }
    }
}

#[test]
fn what_follows_the_sums_has_the_bits_of_separate_calls() {
    for outputs in [3, 40] {
        let mut shape = square(2, [4, outputs], 11, 3);
        shape.window.stride = [2, 1];
        let (x, weight) = (noise::<f32>(x_len(&shape), 1), noise::<f32>(weight_len(&shape), 2));
        let (bias, residual) = (noise::<f32>(outputs, 3), noise::<f32>(y_len(&shape), 4));
        let plain = forward(shape, &x, &weight, Some(&bias));
        let mut y = vec![f32::NAN; plain.len()];
        let (residual, activation) = (Some(&residual[..]), Some(Unary::Relu));
        Forward { shape, x: &x, weight: &weight, bias: Some(&bias), residual, activation, y: &mut y }
            .run()
            .unwrap();
        let expected: Vec<f32> = plain.iter().zip(residual.unwrap()).map(|(y, r)| (y + r).max(0.0)).collect();
        assert_eq!(y, expected);
    }
}

#[test]
fn conventions_are_those_of_pytorch() {
    // Values seen with PyTorch 2.15.0.
    let line = |n: usize, window: Window| Shape {
        batch: 1,
        channels: [1, 1],
        size: [1, n],
        window,
        ..Shape::default()
    };
    let row = |kernel: usize| Window { kernel: [1, kernel], ..Window::default() };
    assert_eq!(forward(line(3, row(2)), &[1.0, 2.0, 3.0], &[1.0, 10.0], None), [21.0, 32.0]);
    // A transposed convolution with padding 1 and output padding 1.
    let window = Window { stride: [1, 2], padding: [[0, 0], [1, 1]], ..row(3) };
    let mut dx = [f32::NAN; 4];
    let shape = line(4, window);
    let (weight, dy) = (&[1.0, 10.0, 100.0], &[1.0, 2.0]);
    BackwardInput { shape, weight, dy, dx: &mut dx, ..BackwardInput::default() }.run().unwrap();
    assert_eq!(dx, [10.0, 102.0, 20.0, 200.0]);
    // Padding counts as 0, which an infinite weight turns into NaN.
    let window = Window { padding: [[0, 0], [1, 0]], ..row(1) };
    let y = forward(line(2, window), &[1.0, 2.0], &[f32::INFINITY], None);
    assert!(y[0].is_nan() && y[1..] == [f32::INFINITY; 2], "{y:?}");
    // A NaN reaches the windows that hold it, in every output channel, though the weights are 0.
    let mut x = vec![0.0_f32; 25];
    x[12] = f32::NAN;
    for outputs in [2, 30] {
        let y = forward(square(1, [1, outputs], 5, 2), &x, &vec![0.0; 4 * outputs], None);
        for (i, y) in y.iter().enumerate() {
            let holds = [5, 6, 9, 10].contains(&(i % 16));
            assert_eq!(y.is_nan(), holds, "output {i}");
        }
    }
    // No input channels: the bias alone, and not, as in PyTorch, one output channel less.
    let shape = Shape { groups: 1, ..square(1, [0, 2], 5, 3) };
    let y = forward::<f32>(shape, &[], &[], Some(&[1.0, 2.0]));
    assert_eq!(y, [[1.0; 9], [2.0; 9]].concat());
    // No images: gradients of 0.
    let shape = square(0, [2, 5], 5, 3);
    let (mut dweight, mut dbias) = (vec![f32::NAN; 90], vec![f32::NAN; 5]);
    let call = BackwardWeight { shape, x: &[], dy: &[], dweight: &mut dweight, dbias: Some(&mut dbias) };
    call.run().unwrap();
    assert!(dweight.iter().chain(&dbias).all(|&x| x == 0.0));
}

#[test]
fn pixels_that_no_window_reads_have_no_gradient() {
    let mut shape = square(2, [3, 4], 8, 1);
    shape.window.stride = [3, 2];
    let (weight, dy) = (noise::<f32>(12, 1), noise::<f32>(y_len(&shape), 2));
    let mut dx = vec![f32::NAN; x_len(&shape)];
    BackwardInput { shape, weight: &weight, dy: &dy, dx: &mut dx, ..Default::default() }.run().unwrap();
    for (i, dx) in dx.iter().enumerate() {
        assert_eq!(*dx != 0.0, i / 8 % 8 % 3 == 0 && i % 2 == 0, "pixel {i}: {dx}");
    }
}

#[test]
fn an_image_has_the_same_bits_alone_as_in_any_batch_on_any_number_of_threads() {
    for (channels, groups) in [([6, 16], 1), ([3, 5], 1), ([32, 32], 32), ([8, 20], 2)] {
        let mut shape = Shape { groups, ..square(9, channels, 19, 3) };
        shape.window.padding = [[1, 1]; 2];
        let (x, weight) = (noise::<f32>(x_len(&shape), 5), noise::<f32>(weight_len(&shape), 6));
        let dy = noise::<f32>(y_len(&shape), 7);
        let alone = Context::new().threads(1);
        let single = Shape { batch: 1, ..shape };
        let per_image = y_len(&single);
        same_bits_everywhere(|| {
            let y = forward(shape, &x, &weight, None);
            for image in [0, 4, 8] {
                let x = &x[image * x_len(&single)..][..x_len(&single)];
                let of_one = alone.run(|| forward(single, x, &weight, None)).unwrap();
                assert_eq!(bits(&of_one), bits(&y[image * per_image..][..per_image]));
            }
            let (mut dx, mut dweight) = (vec![f32::NAN; x.len()], vec![f32::NAN; weight.len()]);
            BackwardInput { shape, weight: &weight, dy: &dy, dx: &mut dx, ..Default::default() }
                .run()
                .unwrap();
            BackwardWeight { shape, x: &x, dy: &dy, dweight: &mut dweight, dbias: None }.run().unwrap();
            [y, dx, dweight].concat()
        });
    }
}

#[test]
fn wide_images_are_staged_in_parts() {
    let window = Window { kernel: [1, 9], padding: [[0, 0], [4, 4]], ..Window::default() };
    let shape = Shape { batch: 1, channels: [2, 20], size: [1, 5000], window, ..Shape::default() };
    is_a_product::<f32>(shape, 8).unwrap();
    is_a_product::<f32>(Shape { channels: [2, 3], ..shape }, 8).unwrap();
}

#[test]
fn errors_name_the_sizes() {
    let shape = square(1, [3, 4], 5, 3);
    let run = |shape: Shape, x: usize| {
        let (x, weight, mut y) = (vec![0.0_f32; x], vec![0.0; 108], vec![0.0; 36]);
        Forward { shape, x: &x, weight: &weight, y: &mut y, ..Forward::default() }.run()
    };
    assert!(run(shape, 75).is_ok());
    let message = |shape: Shape, x: usize| match run(shape, x) {
        Err(error @ Error::Shape { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(message(shape, 74), "conv: x has 74 elements, expected 75");
    assert_eq!(
        message(Shape { groups: 2, ..shape }, 75),
        "conv: 2 groups do not divide 3 input and 4 output channels"
    );
    let text = message(Shape { size: [5, 2], ..shape }, 30);
    assert!(
        text.contains("spans 3") && text.contains("2 padded pixels") && text.contains("[5, 2]"),
        "{text}"
    );
    for window in [
        Window { stride: [0, 1], ..shape.window },
        Window { dilation: [1, 0], ..shape.window },
        Window { kernel: [0, 3], ..shape.window },
        Window { dilation: [usize::MAX, 1], ..shape.window },
        Window { padding: [[usize::MAX, 1], [0, 0]], ..shape.window },
        Window { padding: [[usize::MAX / 9, 1], [usize::MAX / 9, 0]], ..shape.window },
    ] {
        message(Shape { window, ..shape }, 75);
    }
    message(Shape { size: [0, 5], ..shape }, 0);
    message(Shape { batch: usize::MAX / 2, ..shape }, 75);
}
