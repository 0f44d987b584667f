//! Convolutions.

use gristmill::kernels::conv::{BackwardInput, BackwardWeight, Forward, Shape};
use gristmill::kernels::map::Unary;
use gristmill::kernels::window::Window;
use gristmill::{Element, reference};

use super::{Case, Draw, Kernel, Length, Special, entries, near, strictly, unit};

pub const KERNELS: &[Kernel] = entries![
    "conv::forward" => forward; 3,
    "conv::backward_input" => backward_input; 3,
    "conv::backward_weight" => backward_weight; 3,
];

/// Strides, dilations, groups, paddings; one channel in a group, few channels, and more of them.
fn shape(draw: &mut Draw, large: bool) -> Shape {
    let groups = draw.pick(&[1, 1, 2, 5]);
    let most = if groups > 2 { 2 } else { draw.pick(&[2, 7, 14]) };
    let channels = [0; 2].map(|_| groups * (1 + draw.below(most)));
    let [kernel, stride, dilation] =
        [&[1, 3, 2, 5][..], &[1, 1, 2, 3], &[1, 1, 2]].map(|sizes| [0; 2].map(|_| draw.pick(sizes)));
    let padding = [0; 2].map(|_| [draw.below(3), draw.below(3)]);
    let span = |axis: usize| -> usize { dilation[axis] * (kernel[axis] - 1) + 1 };
    let pixels = if large { 40 } else { 5 };
    let size = [0, 1].map(|axis| {
        let [before, after] = padding[axis];
        span(axis).saturating_sub(before + after).max(1) + draw.below(pixels * (1 + 2 * axis))
    });
    Shape { batch: 0, channels, groups, size, window: Window { kernel, stride, padding, dilation } }
}

/// A shape and, of one image, the elements of x and of y, then those of the weight.
fn sizes(draw: &mut Draw) -> (Shape, usize, [usize; 3]) {
    let large = draw.is_large();
    let shape = shape(draw, large);
    let [rows, cols] = shape.output().expect("sizes that fit");
    let [inputs, outputs] = shape.channels;
    let x = inputs * shape.size[0] * shape.size[1];
    let batch = if large { 1 + 30_000 / x } else { draw.below(4) };
    let weight = outputs * inputs / shape.groups * shape.window.kernel[0] * shape.window.kernel[1];
    (shape, batch, [x, outputs * rows * cols, weight])
}

fn absolute(x: &[f64]) -> Vec<f64> {
    x.iter().map(|x| x.abs()).collect()
}

/// The bound of sums of so many terms, cut every 256, and a few roundings more.
fn bound<T: Element>(terms: usize, sizes: &[f64], extra: f64, i: usize) -> f64 {
    let steps = (terms + terms.div_ceil(256) + 6) as f64 * (unit::<T>() + unit::<f64>());
    steps / (1.0 - steps) * (sizes[i] + extra)
}

fn forward<T: Element>(draw: &mut Draw) -> Case<T> {
    let (shape, batch, [x, y, weight]) = sizes(draw);
    let outputs = shape.channels[1];
    let activation = draw.pick(&[None, Some(Unary::Relu)]);
    let with_residual = draw.flip();
    let terms = weight / outputs;
    let whole = move |x_len: usize| Shape { batch: x_len / x, ..shape };
    Case::new(format!("{batch} × {shape:?}, {activation:?}, residual {with_residual}"))
        .input_per_item("x", x, draw.values(batch * x, -1.0, 1.0))
        .input("weight", draw.values(weight, -1.0, 1.0))
        .input("bias", draw.values(outputs, -1.0, 1.0))
        .input_per_item("residual", y, draw.values(batch * y, -1.0, 1.0))
        .output_per_item("y", y, batch * y)
        .run(move |[x, weight, bias, residual], [], [y]| {
            let residual = with_residual.then_some(residual);
            let bias = Some(bias);
            Forward { shape: whole(x.len()), x, weight, bias, residual, activation, y }.run()
        })
        .lengths(if with_residual { Length::Exact } else { Length::Any }, &["residual"])
        .expect(move |[x, weight, bias, residual], [], [_]| {
            let shape = whole(x.len());
            let mut y = reference::conv(&shape, x, weight);
            let sizes = reference::conv(&shape, &absolute(x), &absolute(weight));
            let plane = y.len().checked_div(shape.batch * outputs).unwrap_or(1);
            let added = |i: usize| {
                let bias = bias[i / plane % outputs];
                if with_residual { [bias, residual[i]] } else { [bias, 0.0] }
            };
            for (i, y) in y.iter_mut().enumerate() {
                *y += added(i)[0];
                *y += added(i)[1];
                if activation.is_some() {
                    *y = reference::map::relu(*y);
                }
            }
            [strictly(y, |i| bound::<T>(terms, &sizes, added(i).map(f64::abs).iter().sum(), i))]
        })
        .refuses("groups that do not divide", move |[x, weight, _, _], [], [y]| {
            let shape = Shape { groups: shape.channels[0] + 1, ..whole(x.len()) };
            Forward { shape, x, weight, y, ..Forward::default() }.run()
        })
        .refuses("a kernel larger than the image", move |[x, weight, _, _], [], [y]| {
            let window = Window { kernel: [1000, 1], ..shape.window };
            Forward { shape: Shape { window, ..whole(x.len()) }, x, weight, y, ..Forward::default() }.run()
        })
        .refuses("an absurd batch", move |[x, weight, _, _], [], [y]| {
            let shape = Shape { batch: usize::MAX, ..shape };
            Forward { shape, x, weight, y, ..Forward::default() }.run()
        })
        .refuses("no stride", move |[x, weight, _, _], [], [y]| {
            let window = Window { stride: [1, 0], ..shape.window };
            Forward { shape: Shape { window, ..whole(x.len()) }, x, weight, y, ..Forward::default() }.run()
        })
}

fn backward_input<T: Element>(draw: &mut Draw) -> Case<T> {
    let (shape, batch, [x, y, weight]) = sizes(draw);
    let [inputs, outputs] = shape.channels;
    let masked = draw.flip();
    let terms = outputs / shape.groups * shape.window.kernel[0] * shape.window.kernel[1];
    let whole = move |dy_len: usize| Shape { batch: dy_len / y, ..shape };
    Case::new(format!("{batch} × {shape:?}, masked {masked}"))
        .input("weight", draw.values(weight, -1.0, 1.0))
        .input_per_item("dy", y, draw.values(batch * y, -1.0, 1.0))
        .input("bias", draw.values(inputs, -1.0, 1.0))
        .input_per_item("relu_mask", x, draw.values(batch * x, -1.0, 1.0))
        .output_per_item("dx", x, batch * x)
        // Beyond dy the weight is multiplied with 0, and an infinite one gives NaN.
        .special(Special::No)
        .run(move |[weight, dy, bias, mask], [], [dx]| {
            let relu_mask = masked.then_some(mask);
            BackwardInput { shape: whole(dy.len()), weight, dy, bias: Some(bias), relu_mask, dx }.run()
        })
        .lengths(if masked { Length::Exact } else { Length::Any }, &["relu_mask"])
        .expect(move |[weight, dy, bias, mask], [], [_]| {
            let shape = whole(dy.len());
            let dx = reference::conv_backward_input(&shape, weight, dy);
            let sizes = reference::conv_backward_input(&shape, &absolute(weight), &absolute(dy));
            let pixels = shape.size[0] * shape.size[1];
            let bias = |i: usize| bias[i / pixels % inputs];
            let passes = |i: usize| !masked || mask[i] > 0.0 || mask[i].is_nan();
            let values = dx.iter().enumerate().map(|(i, dx)| if passes(i) { dx + bias(i) } else { 0.0 });
            [near(values.collect(), |i| bound::<T>(terms, &sizes, bias(i).abs(), i))]
        })
        .refuses("groups that do not divide", move |[weight, dy, _, _], [], [dx]| {
            let shape = Shape { groups: shape.channels[0] + 1, ..whole(dy.len()) };
            BackwardInput { shape, weight, dy, dx, ..BackwardInput::default() }.run()
        })
        .refuses("an absurd image", move |[weight, dy, _, _], [], [dx]| {
            let shape = Shape { size: [usize::MAX / 2, usize::MAX / 2], ..whole(dy.len()) };
            BackwardInput { shape, weight, dy, dx, ..BackwardInput::default() }.run()
        })
}

fn backward_weight<T: Element>(draw: &mut Draw) -> Case<T> {
    let (shape, batch, [x, y, weight]) = sizes(draw);
    let outputs = shape.channels[1];
    let wanted = draw.flip();
    let whole = Shape { batch, ..shape };
    Case::new(format!("{batch} × {shape:?}, bias {wanted}"))
        .input("x", draw.values(batch * x, -1.0, 1.0))
        .input("dy", draw.values(batch * y, -1.0, 1.0))
        .output("dweight", weight)
        .output("dbias", if wanted { outputs } else { 0 })
        .run(move |[x, dy], [], [dweight, dbias]| {
            BackwardWeight { shape: whole, x, dy, dweight, dbias: wanted.then_some(dbias) }.run()
        })
        .expect(move |[x, dy], [], [_, _]| {
            let [dweight, mut dbias] = reference::conv_backward_weight(&whole, x, dy);
            let [sizes, of_bias] = reference::conv_backward_weight(&whole, &absolute(x), &absolute(dy));
            let terms = dy.len() / outputs;
            dbias.truncate(if wanted { outputs } else { 0 });
            let of_weights = strictly(dweight, |i| bound::<T>(terms, &sizes, 0.0, i));
            [of_weights, strictly(dbias, |i| bound::<T>(terms, &of_bias, 0.0, i))]
        })
        .refuses("groups that do not divide", move |[x, dy], [], [dweight, _]| {
            let shape = Shape { groups: shape.channels[0] + 1, ..whole };
            BackwardWeight { shape, x, dy, dweight, dbias: None }.run()
        })
        .refuses("a kernel of no pixels", move |[x, dy], [], [dweight, _]| {
            let shape = Shape { window: Window { kernel: [0, 1], ..shape.window }, ..whole };
            BackwardWeight { shape, x, dy, dweight, dbias: None }.run()
        })
}
