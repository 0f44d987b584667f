//! The parametric ReLU, dropout and embeddings.

use gristmill::kernels::dropout::{self, Key};
use gristmill::kernels::{embedding, prelu};
use gristmill::{Element, reference, rng};

use super::{Case, Draw, Kernel, Length, entries, near, strictly, unit};

pub const KERNELS: &[Kernel] = entries![
    "prelu::forward" => prelu_forward,
    "prelu::backward" => prelu_backward; 2,
    "dropout::forward" => dropout_forward,
    "dropout::backward" => dropout_backward,
    "dropout::in_place" => dropout_in_place,
    "embedding::forward" => embedding_forward,
    "embedding::backward" => embedding_backward,
];

/// Samples, channels and inner elements.
fn channels(draw: &mut Draw) -> [usize; 3] {
    let large = draw.len();
    if large >= 90_000 {
        let [channels, inner] = draw.pick(&[[1, 1], [9, 7], [3, 17_000], [5, 333], [100, 1], [1, 40_000]]);
        return [large / (channels * inner), channels, inner];
    }
    let inner = match draw.below(3) {
        0 => 1,
        1 => 2 + draw.below(62),
        _ => 64 + draw.below(136),
    };
    [large % 7, 1 + draw.below(4), inner]
}

fn prelu_forward<T: Element>(draw: &mut Draw) -> Case<T> {
    let [samples, channels, inner] = channels(draw);
    let sample = channels * inner;
    Case::new(format!("{samples} × {channels} × {inner}"))
        .input_per_item("x", sample, draw.values(samples * sample, -1.0, 1.0))
        .input("slope", draw.values(channels, -1.0, 1.0))
        .output_per_item("y", sample, samples * sample)
        // Another number of channels may fit, too.
        .lengths(Length::Any, &["slope"])
        .run(move |[x, slope], [], [y]| prelu::forward(x, slope, inner, y))
        .expect(move |[x, slope], [], [_]| [strictly(reference::prelu(x, slope, inner), |_| 0.0)])
        .refuses("no slope", move |[x, _], [], [y]| prelu::forward(x, &[], inner, y))
        .refuses("absurd channels", move |[x, slope], [], [y]| prelu::forward(x, slope, usize::MAX, y))
}

fn prelu_backward<T: Element>(draw: &mut Draw) -> Case<T> {
    let [samples, channels, inner] = channels(draw);
    let (sample, wanted) = (channels * inner, draw.below(3) != 2);
    let case = Case::new(format!("{samples} × {channels} × {inner}, dslope {wanted}"))
        .input_per_item("x", sample, draw.values(samples * sample, -1.0, 1.0))
        .input("slope", draw.values(channels, -1.0, 1.0))
        .input_per_item("dy", sample, draw.values(samples * sample, -1.0, 1.0))
        .output_per_item("dx", sample, samples * sample);
    let case = if wanted { case.output("dslope", channels) } else { case.output_per_item("dslope", 0, 0) };
    case.lengths(Length::Any, &["slope"])
        .run(move |[x, slope, dy], [], [dx, dslope]| {
            prelu::Backward { x, slope, inner, dy, dx, dslope: wanted.then_some(dslope) }.run()
        })
        .expect(move |[x, slope, dy], [], [_, _]| {
            let (dx, dslope) = reference::prelu_backward(x, slope, inner, dy);
            let dx = strictly(dx, |_| 0.0);
            if !wanted {
                return [dx, Vec::new()];
            }
            // Σ|x·dy| where x is not positive.
            let below: Vec<f64> = x.iter().map(|&x| if x > 0.0 { x } else { -x.abs() }).collect();
            let size: Vec<f64> = dy.iter().map(|dy| -dy.abs()).collect();
            let (_, sizes) = reference::prelu_backward(&below, slope, inner, &size);
            // The most additions, as documented.
            let samples = samples as f64;
            let k = if channels == 1 {
                300.0 + (x.len() as f64).log2()
            } else if inner < 4 * T::LANES {
                samples + inner as f64 + 20.0
            } else {
                (inner as f64).min(4096.0) / 16.0 + inner as f64 / 4096.0 + 20.0 + samples.log2()
            };
            let units = k * unit::<T>() + x.len() as f64 * f64::EPSILON;
            [dx, strictly(dslope, |c| units * sizes[c])]
        })
        .refuses("no slope", move |[x, _, dy], [], [dx, dslope]| {
            prelu::Backward { x, slope: &[], inner, dy, dx, dslope: wanted.then_some(dslope) }.run()
        })
        .refuses("absurd channels", move |[x, slope, dy], [], [dx, dslope]| {
            prelu::Backward { x, slope, inner: usize::MAX, dy, dx, dslope: wanted.then_some(dslope) }.run()
        })
}

/// The ends, halves, and any other probability.
fn chance(draw: &mut Draw) -> (f64, Key) {
    let p = match draw.below(4) {
        0 => 0.5,
        1 => draw.pick(&[0.0, 1.0]),
        _ => draw.unit(),
    };
    (p, Key { seed: draw.unit().to_bits(), stream: draw.unit().to_bits() })
}

/// `x / (1 − p)` within the rounding of `1 / (1 − p)` and of the product; what is dropped is 0.
fn kept<T: Element>(x: &[f64], p: f64, key: Key) -> Vec<super::Near> {
    let words: Vec<u32> = (0..x.len() as u64).map(|i| rng::word(key.seed, key.stream, i)).collect();
    let exact = reference::dropout(x, p, &words);
    strictly(exact.clone(), |i| (2.0 * unit::<T>() * 1.001 + unit::<f64>()) * exact[i].abs())
}

/// No probabilities.
const NO_CHANCE: [f64; 3] = [f64::NAN, -0.1, 1.1];

fn dropout_forward<T: Element>(draw: &mut Draw) -> Case<T> {
    let (len, (p, key), wrong) = (draw.len(), chance(draw), draw.pick(&NO_CHANCE));
    Case::new(format!("{len}, p {p}"))
        .input("x", draw.values(len, -30.0, 30.0))
        .output("y", len)
        .run(move |[x], [], [y]| dropout::forward(x, p, key, y))
        .expect(move |[x], [], [_]| [kept::<T>(x, p, key)])
        .refuses("no probability", move |[x], [], [y]| dropout::forward(x, wrong, key, y))
}

fn dropout_backward<T: Element>(draw: &mut Draw) -> Case<T> {
    let (len, (p, key), wrong) = (draw.len(), chance(draw), draw.pick(&NO_CHANCE));
    Case::new(format!("{len}, p {p}"))
        .input("dy", draw.values(len, -30.0, 30.0))
        .output("dx", len)
        .run(move |[dy], [], [dx]| dropout::backward(dy, p, key, dx))
        .expect(move |[dy], [], [_]| [kept::<T>(dy, p, key)])
        .refuses("no probability", move |[dy], [], [dx]| dropout::backward(dy, wrong, key, dx))
}

fn dropout_in_place<T: Element>(draw: &mut Draw) -> Case<T> {
    let (len, (p, key), wrong) = (draw.len(), chance(draw), draw.pick(&NO_CHANCE));
    Case::new(format!("{len}, p {p}"))
        .in_place("x", draw.values(len, -30.0, 30.0))
        .lengths(Length::Any, &["x"])
        .run(move |[], [], [x]| dropout::in_place(p, key, x))
        .expect(move |[], [], [x]| [kept::<T>(x, p, key)])
        .refuses("no probability", move |[], [], [x]| dropout::in_place(wrong, key, x))
}

/// Rows of a table, its columns and a number of indices.
fn table(draw: &mut Draw) -> ([usize; 2], Vec<usize>) {
    let [rows, dim] = draw.matrix();
    let count = if rows == 0 { 0 } else { draw.len() / dim.max(7) };
    ([rows, dim], draw.indices(count, rows))
}

/// A table of a single column may have any number of rows.
fn table_length(dim: usize) -> Length {
    if dim == 1 { Length::Any } else { Length::Exact }
}

fn embedding_forward<T: Element>(draw: &mut Draw) -> Case<T> {
    let ([rows, dim], indices) = table(draw);
    let count = indices.len();
    let case = Case::new(format!("{count} of {rows} × {dim}"))
        .input("table", draw.values(rows * dim, -1.0, 1.0))
        .index_per_item("indices", indices)
        .output_per_item("y", dim, count * dim)
        .lengths(table_length(dim), &["table"])
        .run(move |[table], [indices], [y]| embedding::forward(table, dim, indices, y))
        .expect(move |[table], [indices], [_]| [near(reference::embedding(table, dim, indices), |_| 0.0)])
        .refuses("absurd rows", move |[table], [indices], [y]| {
            embedding::forward(table, usize::MAX, indices, y)
        });
    if count == 0 {
        return case;
    }
    case.refuses("an index that is no row", move |[table], [indices], [y]| {
        indices[count - 1] = rows;
        embedding::forward(table, dim, indices, y)
    })
}

fn embedding_backward<T: Element>(draw: &mut Draw) -> Case<T> {
    let ([rows, dim], indices) = table(draw);
    let count = indices.len();
    let padding = (rows > 0 && draw.flip()).then(|| draw.below(rows));
    let case = Case::new(format!("{count} of {rows} × {dim}, padding {padding:?}"))
        .input("dy", draw.values(count * dim, -1.0, 1.0))
        .indices("indices", indices)
        .output("dtable", rows * dim)
        .lengths(table_length(dim), &["dtable"])
        .run(move |[dy], [indices], [dtable]| embedding::backward(indices, dim, padding, dy, dtable))
        .expect(move |[dy], [indices], [_]| {
            let exact = reference::embedding_backward(indices, [rows, dim], padding, dy);
            let sizes: Vec<f64> = dy.iter().map(|dy| dy.abs()).collect();
            let sizes = reference::embedding_backward(indices, [rows, dim], padding, &sizes);
            let mut counts = vec![0.0; rows];
            indices.iter().for_each(|&index| counts[index] += 1.0);
            [strictly(exact, |i| {
                let m: f64 = counts[i / dim];
                // The reference, in f64, rounds too.
                (m - 1.0).max(0.0) * (unit::<T>() + f64::EPSILON) * sizes[i]
            })]
        })
        .refuses("padding that is no row", move |[dy], [indices], [dtable]| {
            embedding::backward(indices, dim, Some(rows), dy, dtable)
        });
    if count == 0 {
        return case;
    }
    case.refuses("an index that is no row", move |[dy], [indices], [dtable]| {
        indices[count - 1] = rows;
        embedding::backward(indices, dim, padding, dy, dtable)
    })
}
