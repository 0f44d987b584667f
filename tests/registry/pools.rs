//! Pooling.

use gristmill::kernels::pool::{AverageBackward, AverageForward, MaxBackward, MaxForward, Shape, Windows};
use gristmill::kernels::window::Window;
use gristmill::{Element, reference};

use super::{Case, Draw, Kernel, entries, strictly, unit};

pub const KERNELS: &[Kernel] = entries![
    "pool::max_forward" => max_forward; 2,
    "pool::max_backward" => max_backward; 2,
    "pool::average_forward" => average_forward; 2,
    "pool::average_backward" => average_backward; 2,
];

/// A shape for any number of planes; pixels and positions of one; and how many planes.
fn shape(draw: &mut Draw) -> (Shape, [usize; 2], usize) {
    let pixels = if draw.is_large() { 60 } else { 9 };
    let kernel = [0; 2].map(|_| draw.pick(&[2, 1, 3, 5]));
    let padding = kernel.map(|kernel| [draw.below(kernel / 2 + 1), draw.below(kernel / 2 + 1)]);
    let (stride, dilation) = ([0; 2].map(|_| 1 + draw.below(3)), [0; 2].map(|_| draw.pick(&[1, 1, 2])));
    let windows = if draw.below(3) == 2 {
        Windows::Adaptive([draw.below(7), 1 + draw.below(20)])
    } else {
        Windows::Sliding { window: Window { kernel, stride, padding, dilation }, ceil: draw.flip() }
    };
    let size = [0, 1].map(|axis| dilation[axis] * (kernel[axis] - 1) + 1 + draw.below(pixels * (1 + axis)));
    let shape = Shape { planes: 1, size, windows };
    let positions: usize = shape.output().expect("sizes that fit").iter().product();
    let planes = if draw.is_large() { 1 + 60_000 / (size[0] * size[1]) } else { draw.below(5) };
    (shape, [size[0] * size[1], positions], planes)
}

fn max_forward<T: Element>(draw: &mut Draw) -> Case<T> {
    let (shape, [pixels, positions], planes) = shape(draw);
    let whole = move |len: usize| Shape { planes: len / pixels, ..shape };
    Case::new(format!("{planes} × {shape:?}"))
        .input_per_item("x", pixels, draw.values(planes * pixels, -1.0, 1.0))
        .output_per_item("y", positions, planes * positions)
        .run(move |[x], [], [y]| MaxForward { shape: whole(x.len()), x, y }.run())
        .expect(move |[x], [], [_]| [strictly(reference::max_pool(&whole(x.len()), x).0, |_| 0.0)])
        .refuses("too much padding", move |[x], [], [y]| {
            let window = Window { kernel: [3, 1], padding: [[2, 0], [0, 0]], ..Window::default() };
            let windows = Windows::Sliding { window, ceil: false };
            MaxForward { shape: Shape { windows, ..whole(x.len()) }, x, y }.run()
        })
        .refuses("absurd planes", move |[x], [], [y]| {
            MaxForward { shape: Shape { planes: usize::MAX / 2, size: [4, 4], ..shape }, x, y }.run()
        })
}

fn max_backward<T: Element>(draw: &mut Draw) -> Case<T> {
    let (shape, [pixels, positions], planes) = shape(draw);
    let whole = move |len: usize| Shape { planes: len / pixels, ..shape };
    // Few different numbers: several of a window are the largest.
    let x = draw.values::<T>(planes * pixels, -2.0, 2.0).into_iter().map(|x| T::from_f64(x.to_f64().round()));
    Case::new(format!("{planes} × {shape:?}"))
        .input_per_item("x", pixels, x.collect())
        .input_per_item("dy", positions, draw.values(planes * positions, -1.0, 1.0))
        .output_per_item("dx", pixels, planes * pixels)
        .run(move |[x, dy], [], [dx]| MaxBackward { shape: whole(x.len()), x, dy, dx }.run())
        .expect(move |[x, dy], [], [_]| {
            let shape = whole(x.len());
            let dy_sizes: Vec<f64> = dy.iter().map(|dy| dy.abs()).collect();
            let sizes = reference::max_pool_backward(&shape, x, &dy_sizes);
            let dx = reference::max_pool_backward(&shape, x, dy);
            [strictly(dx, |i| 100.0 * (unit::<T>() + unit::<f64>()) * sizes[i])]
        })
        .refuses("absurd planes", move |[x, dy], [], [dx]| {
            MaxBackward { shape: Shape { planes: usize::MAX / 2, size: [4, 4], ..shape }, x, dy, dx }.run()
        })
}

fn average_forward<T: Element>(draw: &mut Draw) -> Case<T> {
    let (shape, [pixels, positions], planes) = shape(draw);
    let (count_include_pad, divisor) = (draw.flip(), draw.pick(&[None, None, Some(-3.0)]));
    let whole = move |len: usize| Shape { planes: len / pixels, ..shape };
    Case::new(format!("{planes} × {shape:?}, with padding {count_include_pad}, by {divisor:?}"))
        .input_per_item("x", pixels, draw.values(planes * pixels, -1.0, 1.0))
        .output_per_item("y", positions, planes * positions)
        .run(move |[x], [], [y]| {
            AverageForward { shape: whole(x.len()), count_include_pad, divisor, x, y }.run()
        })
        .expect(move |[x], [], [_]| {
            let shape = whole(x.len());
            let of = |x: &[f64], divisor| reference::avg_pool(&shape, count_include_pad, divisor, x);
            let magnitudes: Vec<f64> = x.iter().map(|x| x.abs()).collect();
            let sizes = of(&magnitudes, divisor.map(f64::abs));
            let units = if let Windows::Sliding { window, .. } = shape.windows {
                window.kernel[0] + window.kernel[1] + 1
            } else {
                shape.size[0] + shape.size[1] + 1
            };
            [strictly(of(x, divisor), |i| units as f64 * (unit::<T>() + 9.0 * unit::<f64>()) * sizes[i])]
        })
        .refuses("a divisor of 0", move |[x], [], [y]| {
            AverageForward { shape: whole(x.len()), divisor: Some(0.0), x, y, ..Default::default() }.run()
        })
        .refuses("absurd planes", move |[x], [], [y]| {
            let shape = Shape { planes: usize::MAX / 2, size: [4, 4], ..shape };
            AverageForward { shape, x, y, ..AverageForward::default() }.run()
        })
}

fn average_backward<T: Element>(draw: &mut Draw) -> Case<T> {
    let (shape, [pixels, positions], planes) = shape(draw);
    let (count_include_pad, divisor) = (draw.flip(), draw.pick(&[None, None, Some(-3.0)]));
    let whole = move |len: usize| Shape { planes: len / pixels, ..shape };
    Case::new(format!("{planes} × {shape:?}, with padding {count_include_pad}, by {divisor:?}"))
        .input_per_item("dy", positions, draw.values(planes * positions, -1.0, 1.0))
        .output_per_item("dx", pixels, planes * pixels)
        .run(move |[dy], [], [dx]| {
            AverageBackward { shape: whole(dx.len()), count_include_pad, divisor, dy, dx }.run()
        })
        .expect(move |[dy], [], [dx]| {
            let shape = whole(dx.len());
            let of =
                |dy: &[f64], divisor| reference::avg_pool_backward(&shape, count_include_pad, divisor, dy);
            let magnitudes: Vec<f64> = dy.iter().map(|dy| dy.abs()).collect();
            let sizes = of(&magnitudes, divisor.map(f64::abs));
            [strictly(of(dy, divisor), |i| 100.0 * (unit::<T>() + unit::<f64>()) * sizes[i])]
        })
        .refuses("a divisor that is not finite", move |[dy], [], [dx]| {
            let (shape, divisor) = (whole(dx.len()), Some(f64::NAN));
            AverageBackward { shape, divisor, dy, dx, ..AverageBackward::default() }.run()
        })
}
