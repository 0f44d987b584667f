//! Normalisations of rows, of groups of channels and of columns.

use gristmill::kernels::batch_norm::{self, After, Gate, Running};
use gristmill::kernels::group_norm::{self, Layout};
use gristmill::kernels::{layer_norm, rms_norm};
use gristmill::{Element, reference};

use super::{Case, Draw, Kernel, Near, claimed_unless, entries, strictly, unit};

pub const KERNELS: &[Kernel] = entries![
    "layer_norm::forward" => layer_norm_forward,
    "layer_norm::backward" => layer_norm_backward,
    "group_norm::forward" => group_norm_forward,
    "group_norm::backward" => group_norm_backward,
    "rms_norm::forward" => rms_norm_forward,
    "rms_norm::backward" => rms_norm_backward,
    "batch_norm::forward" => batch_norm_forward; 2,
    "batch_norm::infer" => batch_norm_infer; 2,
    "batch_norm::infer_backward" => batch_norm_infer_backward,
    "batch_norm::backward" => batch_norm_backward; 2,
];

/// What is added to variances.
const EPS: [f64; 3] = [1e-5, 1e-3, 0.0];
const WRONG_EPS: [(&str, f64); 3] =
    [("eps that is no number", f64::NAN), ("an infinite eps", f64::INFINITY), ("a negative eps", -1e-5)];

fn narrow<T: Element>(x: &[f64]) -> Vec<T> {
    x.iter().map(|&x| T::from_f64(x)).collect()
}

fn widen<T: Element>(x: &[T]) -> Vec<f64> {
    x.iter().map(|x| x.to_f64()).collect()
}

/// An operand that need not be given.
fn maybe<T: Element>(draw: &mut Draw, len: usize) -> Option<Vec<T>> {
    draw.flip().then(|| draw.values(len, -2.0, 2.0))
}

/// What counts: an operand that is given, or `value` everywhere.
fn or_all(x: &[f64], given: bool, len: usize, value: f64) -> Vec<f64> {
    if given { x.to_vec() } else { vec![value; len] }
}

/// An output over all items: wanted, or empty. Without it the items do not know each other.
fn sums_if<T: Element>(case: Case<T>, name: &'static str, wanted: bool, len: usize) -> Case<T> {
    if wanted { case.output(name, len) } else { case.output_per_item(name, 0, 0) }
}

/// Which of dγ and dβ are wanted.
fn wanted(draw: &mut Draw) -> [bool; 2] {
    draw.pick(&[[true, true], [false, false], [true, false], [false, true]])
}

/// The roundings of a sum over a row of n elements, as documented, and a few more.
fn row_roundings(n: usize) -> f64 {
    n.min(4096) as f64 / 16.0 + n as f64 / 4096.0 + 20.0
}

/// `k·q·u`: what of the rounding of a mean can be left in x̂. The reference, in f64, has its own rounding of
/// n elements.
fn rounding<T: Element>(k: f64, n: usize, largest: f64, rstd: f64) -> f64 {
    let shift = k * unit::<T>() * largest * rstd;
    k * unit::<T>() * (1.0 + shift * shift) + 4.0 * f64::EPSILON * (n as f64 + largest * rstd)
}

/// Groups, or rows as groups of single elements, and their exact moments.
struct Groups<'a> {
    x: &'a [f64],
    layout: Layout,
    mean: &'a [f64],
    rstd: &'a [f64],
}

impl Groups<'_> {
    /// Channels of a group.
    fn depth(&self) -> usize {
        self.layout.channels / self.layout.groups
    }

    /// Elements of a group.
    fn len(&self) -> usize {
        self.depth() * self.layout.inner
    }

    fn channel(&self, i: usize) -> usize {
        i / self.layout.inner % self.layout.channels
    }

    fn over<'a>(&'a self, group: usize, f: impl Fn(usize) -> f64 + 'a) -> impl Iterator<Item = f64> + 'a {
        (group * self.len()..(group + 1) * self.len()).map(f)
    }

    /// Of each group, `f` summed.
    fn sums(&self, f: impl Fn(usize) -> f64) -> Vec<f64> {
        (0..self.mean.len()).map(|group| self.over(group, &f).sum()).collect()
    }

    /// Of each channel, `f` summed.
    fn channel_sums(&self, f: impl Fn(usize) -> f64) -> Vec<f64> {
        let mut sums = vec![0.0; self.layout.channels];
        (0..self.x.len()).for_each(|i| sums[self.channel(i)] += f(i));
        sums
    }

    /// |x̂|.
    fn normal(&self, i: usize) -> f64 {
        let group = i / self.len();
        ((self.x[i] - self.mean[group]) * self.rstd[group]).abs()
    }

    /// `k·q·u` of each group, for some roundings more.
    fn roundings<T: Element>(&self, more: f64) -> Vec<f64> {
        let k = row_roundings(self.len()) + more;
        let largest = |group| self.over(group, |i| self.x[i].abs()).fold(0.0, f64::max);
        let one = |group| rounding::<T>(k, self.len(), largest(group), self.rstd[group]);
        (0..self.mean.len()).map(one).collect()
    }

    /// y, mean and rstd.
    fn outputs<T: Element>(&self, y: &[f64], gamma: &[f64], beta: &[f64]) -> [Vec<Near>; 3] {
        let (k, kq, u) = (row_roundings(self.len()), self.roundings::<T>(0.0), unit::<T>());
        let (mean, rstd) = (self.mean, self.rstd);
        [
            strictly(y.to_vec(), |i| {
                let (gamma, beta) = (gamma[self.channel(i)].abs(), beta[self.channel(i)].abs());
                kq[i / self.len()] * (self.normal(i) + 1.0) * gamma + 2.0 * u * (y[i].abs() + beta)
            }),
            strictly(mean.to_vec(), |r| k * u * mean[r].abs() + kq[r] / rstd[r]),
            strictly(rstd.to_vec(), |r| kq[r] * rstd[r]),
        ]
    }

    /// dx, with `k·q·u` of each group.
    fn gradient(&self, dx: Vec<f64>, gamma: &[f64], dy: &[f64], kq: &[f64]) -> Vec<Near> {
        let n = self.len() as f64;
        let g = |i: usize| (dy[i] * gamma[self.channel(i)]).abs();
        let (sum_g, sum_gx) = (self.sums(g), self.sums(|i| g(i) * self.normal(i)));
        let dx = strictly(dx, |i| {
            let r = i / self.len();
            let (mean_g, mean_gx) = (sum_g[r] / n, sum_gx[r] / n);
            4.0 * kq[r] * self.rstd[r] * (g(i) + mean_g + (self.normal(i) + 1.0) * (mean_gx + mean_g))
        });
        // Infinities of both signs meet in other places than in the reference.
        let infinite = |i: usize| dy[i].is_infinite() || gamma[self.channel(i)].is_infinite();
        let infinite = self.sums(|i| f64::from(infinite(i)));
        claimed_unless(dx, |i| infinite[i / self.len()] > 0.0)
    }
}

fn layer_norm_forward<T: Element>(draw: &mut Draw) -> Case<T> {
    let ([rows, cols], eps) = (draw.matrix(), draw.pick(&EPS));
    let (gamma, beta) = (maybe(draw, cols), maybe(draw, cols));
    layer_norm_forward_of(draw.activations(rows * cols), cols, gamma, beta, eps)
}

pub fn layer_norm_forward_of<T: Element>(
    x: Vec<T>,
    cols: usize,
    gamma: Option<Vec<T>>,
    beta: Option<Vec<T>>,
    eps: f64,
) -> Case<T> {
    let (rows, with_gamma, with_beta) = (x.len() / cols, gamma.is_some(), beta.is_some());
    let case = Case::new(format!("{rows} × {cols}, γ {with_gamma}, β {with_beta}, eps {eps}"))
        .input_per_item("x", cols, x)
        .input("gamma", gamma.unwrap_or_default())
        .input("beta", beta.unwrap_or_default())
        .output_per_item("y", cols, rows * cols)
        .output_per_item("mean", 1, rows)
        .output_per_item("rstd", 1, rows)
        .run(move |[x, gamma, beta], [], [y, mean, rstd]| {
            let (gamma, beta) = (with_gamma.then_some(gamma), with_beta.then_some(beta));
            let (mean, rstd) = (Some(mean), Some(rstd));
            layer_norm::Forward { x, cols, gamma, beta, eps, y, mean, rstd }.run()
        })
        .expect(move |[x, gamma, beta], [], _: [&[f64]; 3]| {
            let (gamma, beta) = (or_all(gamma, with_gamma, cols, 1.0), or_all(beta, with_beta, cols, 0.0));
            let (y, mean, rstd) = reference::layer_norm(x, cols, &gamma, &beta, eps);
            let layout = Layout { channels: cols, inner: 1, groups: 1 };
            Groups { x, layout, mean: &mean, rstd: &rstd }.outputs::<T>(&y, &gamma, &beta)
        })
        .refuses("absurd rows", move |[x, _, _], [], [y, mean, rstd]| {
            let (mean, rstd) = (Some(mean), Some(rstd));
            layer_norm::Forward { x, cols: usize::MAX, eps, y, mean, rstd, ..Default::default() }.run()
        });
    WRONG_EPS.into_iter().fold(case, |case, (why, eps)| {
        case.refuses(why, move |[x, _, _], [], [y, mean, rstd]| {
            let (mean, rstd) = (Some(mean), Some(rstd));
            layer_norm::Forward { x, cols, eps, y, mean, rstd, ..Default::default() }.run()
        })
    })
}

fn layer_norm_backward<T: Element>(draw: &mut Draw) -> Case<T> {
    let ([rows, cols], eps, wanted) = (draw.matrix(), draw.pick(&EPS), wanted(draw));
    let (gamma, x) = (maybe(draw, cols), draw.activations(rows * cols));
    layer_norm_backward_of(x, cols, gamma, eps, draw.values(rows * cols, -1.0, 1.0), wanted)
}

pub fn layer_norm_backward_of<T: Element>(
    x: Vec<T>,
    cols: usize,
    gamma: Option<Vec<T>>,
    eps: f64,
    dy: Vec<T>,
    wanted: [bool; 2],
) -> Case<T> {
    let (rows, with_gamma) = (x.len() / cols, gamma.is_some());
    let (_, mean, rstd) = reference::layer_norm(&widen(&x), cols, &vec![1.0; cols], &vec![0.0; cols], eps);
    let case = Case::new(format!("{rows} × {cols}, γ {with_gamma}, eps {eps}, dγ and dβ {wanted:?}"))
        .input_per_item("x", cols, x)
        .input("gamma", gamma.unwrap_or_default())
        .input_per_item("mean", 1, narrow(&mean))
        .input_per_item("rstd", 1, narrow(&rstd))
        .input_per_item("dy", cols, dy)
        .output_per_item("dx", cols, rows * cols);
    let case = sums_if(case, "dgamma", wanted[0], cols);
    sums_if(case, "dbeta", wanted[1], cols)
        .run(move |[x, gamma, mean, rstd, dy], [], [dx, dgamma, dbeta]| {
            let gamma = with_gamma.then_some(gamma);
            layer_norm::Backward {
                x,
                cols,
                gamma,
                mean,
                rstd,
                dy,
                dx,
                dgamma: wanted[0].then_some(dgamma),
                dbeta: wanted[1].then_some(dbeta),
            }
            .run()
        })
        .expect(move |[x, gamma, _, _, dy], [], _: [&[f64]; 3]| {
            let gamma = or_all(gamma, with_gamma, cols, 1.0);
            let (_, mean, rstd) = reference::layer_norm(x, cols, &gamma, &vec![0.0; cols], eps);
            let (dx, dgamma, dbeta) = reference::layer_norm_backward(x, cols, &gamma, eps, dy);
            let layout = Layout { channels: cols, inner: 1, groups: 1 };
            let groups = Groups { x, layout, mean: &mean, rstd: &rstd };
            let (kq, ku) = (groups.roundings::<T>(0.0), (rows as f64 + 20.0) * unit::<T>());
            let of_gamma = groups.channel_sums(|i| {
                let normal = groups.normal(i);
                dy[i].abs() * (kq[i / cols] * (normal + 1.0) + ku * normal)
            });
            let of_beta = groups.channel_sums(|i| dy[i].abs());
            let sums = |wanted, sums, bound: &dyn Fn(usize) -> f64| {
                if wanted { strictly(sums, bound) } else { vec![] }
            };
            [
                groups.gradient(dx, &gamma, dy, &kq),
                sums(wanted[0], dgamma, &|c| of_gamma[c]),
                sums(wanted[1], dbeta, &|c| ku * of_beta[c]),
            ]
        })
        .refuses("absurd rows", move |[x, _, mean, rstd, dy], [], [dx, dgamma, dbeta]| {
            layer_norm::Backward {
                x,
                cols: usize::MAX,
                gamma: None,
                mean,
                rstd,
                dy,
                dx,
                dgamma: wanted[0].then_some(dgamma),
                dbeta: wanted[1].then_some(dbeta),
            }
            .run()
        })
}

/// The number of samples, and how they lie.
fn groups(draw: &mut Draw) -> (usize, Layout) {
    let [rows, cols] = draw.matrix();
    let inner = draw.pick(&[cols, cols, 1]);
    let (groups, depth) = (draw.pick(&[1, 2, 3, 5]), draw.pick(&[1, 2, 3, 4, 7]));
    let layout = Layout { channels: groups * depth, inner, groups };
    ((rows * (cols / inner).min(40)).div_ceil(layout.channels), layout)
}

fn group_norm_forward<T: Element>(draw: &mut Draw) -> Case<T> {
    let ((samples, layout), eps) = (groups(draw), draw.pick(&EPS));
    let (gamma, beta) = (maybe(draw, layout.channels), maybe(draw, layout.channels));
    let x = draw.activations(samples * layout.channels * layout.inner);
    group_norm_forward_of(x, layout, gamma, beta, eps)
}

pub fn group_norm_forward_of<T: Element>(
    x: Vec<T>,
    layout: Layout,
    gamma: Option<Vec<T>>,
    beta: Option<Vec<T>>,
    eps: f64,
) -> Case<T> {
    let Layout { channels, inner, groups } = layout;
    let (sample, shape) = (channels * inner, [channels, inner, groups]);
    let (samples, with_gamma, with_beta) = (x.len() / sample, gamma.is_some(), beta.is_some());
    let case = Case::new(format!("{samples} of {layout:?}, γ {with_gamma}, β {with_beta}, eps {eps}"))
        .input_per_item("x", sample, x)
        .input("gamma", gamma.unwrap_or_default())
        .input("beta", beta.unwrap_or_default())
        .output_per_item("y", sample, samples * sample)
        .output_per_item("mean", groups, samples * groups)
        .output_per_item("rstd", groups, samples * groups)
        .run(move |[x, gamma, beta], [], [y, mean, rstd]| {
            let (gamma, beta) = (with_gamma.then_some(gamma), with_beta.then_some(beta));
            group_norm::Forward { x, layout, gamma, beta, eps, y, mean: Some(mean), rstd: Some(rstd) }.run()
        })
        .expect(move |[x, gamma, beta], [], _: [&[f64]; 3]| {
            let gamma = or_all(gamma, with_gamma, channels, 1.0);
            let beta = or_all(beta, with_beta, channels, 0.0);
            let (y, mean, rstd) = reference::group_norm(x, shape, &gamma, &beta, eps);
            Groups { x, layout, mean: &mean, rstd: &rstd }.outputs::<T>(&y, &gamma, &beta)
        })
        .refuses("more channels than memory", move |[x, _, _], [], [y, mean, rstd]| {
            let layout = Layout { channels: usize::MAX / 4 * 4, inner: 4, groups: 1 };
            group_norm::Forward {
                x,
                layout,
                eps,
                y,
                mean: Some(mean),
                rstd: Some(rstd),
                ..Default::default()
            }
            .run()
        })
        .refuses("uneven groups", move |[x, _, _], [], [y, mean, rstd]| {
            let layout = Layout { groups: channels + 1, ..layout };
            group_norm::Forward {
                x,
                layout,
                eps,
                y,
                mean: Some(mean),
                rstd: Some(rstd),
                ..Default::default()
            }
            .run()
        })
        .refuses("no groups", move |[x, _, _], [], [y, mean, rstd]| {
            let layout = Layout { groups: 0, ..layout };
            group_norm::Forward {
                x,
                layout,
                eps,
                y,
                mean: Some(mean),
                rstd: Some(rstd),
                ..Default::default()
            }
            .run()
        });
    WRONG_EPS.into_iter().fold(case, |case, (why, eps)| {
        case.refuses(why, move |[x, _, _], [], [y, mean, rstd]| {
            group_norm::Forward {
                x,
                layout,
                eps,
                y,
                mean: Some(mean),
                rstd: Some(rstd),
                ..Default::default()
            }
            .run()
        })
    })
}

fn group_norm_backward<T: Element>(draw: &mut Draw) -> Case<T> {
    let ((samples, layout), eps, wanted) = (groups(draw), draw.pick(&EPS), wanted(draw));
    let len = samples * layout.channels * layout.inner;
    let (gamma, x) = (maybe(draw, layout.channels), draw.activations(len));
    group_norm_backward_of(x, layout, gamma, eps, draw.values(len, -1.0, 1.0), wanted)
}

pub fn group_norm_backward_of<T: Element>(
    x: Vec<T>,
    layout: Layout,
    gamma: Option<Vec<T>>,
    eps: f64,
    dy: Vec<T>,
    wanted: [bool; 2],
) -> Case<T> {
    let Layout { channels, inner, groups } = layout;
    let (sample, shape) = (channels * inner, [channels, inner, groups]);
    let (samples, with_gamma, zeros) = (x.len() / sample, gamma.is_some(), vec![0.0; channels]);
    let (_, mean, rstd) = reference::group_norm(&widen(&x), shape, &zeros, &zeros, eps);
    let case = Case::new(format!("{samples} of {layout:?}, γ {with_gamma}, eps {eps}, dγ and dβ {wanted:?}"))
        .input_per_item("x", sample, x)
        .input("gamma", gamma.unwrap_or_default())
        .input_per_item("mean", groups, narrow(&mean))
        .input_per_item("rstd", groups, narrow(&rstd))
        .input_per_item("dy", sample, dy)
        .output_per_item("dx", sample, samples * sample);
    let case = sums_if(case, "dgamma", wanted[0], channels);
    sums_if(case, "dbeta", wanted[1], channels)
        .run(move |[x, gamma, mean, rstd, dy], [], [dx, dgamma, dbeta]| {
            let gamma = with_gamma.then_some(gamma);
            group_norm::Backward {
                x,
                layout,
                gamma,
                mean,
                rstd,
                dy,
                dx,
                dgamma: wanted[0].then_some(dgamma),
                dbeta: wanted[1].then_some(dbeta),
            }
            .run()
        })
        .expect(move |[x, gamma, _, _, dy], [], _: [&[f64]; 3]| {
            let (gamma, zeros) = (or_all(gamma, with_gamma, channels, 1.0), vec![0.0; channels]);
            let (_, mean, rstd) = reference::group_norm(x, shape, &gamma, &zeros, eps);
            let (dx, dgamma, dbeta) = reference::group_norm_backward(x, shape, &gamma, eps, dy);
            let groups = Groups { x, layout, mean: &mean, rstd: &rstd };
            let kq = groups.roundings::<T>(groups.depth() as f64);
            let kq_sums = groups.roundings::<T>(samples as f64 + 20.0 + 64.0);
            let of_gamma =
                groups.channel_sums(|i| dy[i].abs() * kq_sums[i / groups.len()] * (groups.normal(i) + 1.0));
            // x has no part in it.
            let k_sums = row_roundings(groups.len()) + samples as f64 + 20.0 + 64.0;
            let of_dy = rounding::<T>(k_sums, groups.len(), 0.0, 0.0);
            let of_beta = groups.channel_sums(|i| dy[i].abs() * of_dy);
            let sums =
                |wanted, sums, bound: &[f64]| if wanted { strictly(sums, |c| bound[c]) } else { vec![] };
            // An infinite sum of dy meets the rest of the mean.
            let infinite = groups.channel_sums(|i| f64::from(dy[i].is_infinite()));
            [
                groups.gradient(dx, &gamma, dy, &kq),
                claimed_unless(sums(wanted[0], dgamma, &of_gamma), |c| infinite[c] > 0.0),
                sums(wanted[1], dbeta, &of_beta),
            ]
        })
        .refuses("more channels than memory", move |[x, _, mean, rstd, dy], [], [dx, dgamma, dbeta]| {
            let layout = Layout { channels: usize::MAX / 4 * 4, inner: 4, groups: 1 };
            group_norm::Backward {
                x,
                layout,
                mean,
                rstd,
                dy,
                dx,
                dgamma: wanted[0].then_some(dgamma),
                dbeta: wanted[1].then_some(dbeta),
                ..Default::default()
            }
            .run()
        })
        .refuses("uneven groups", move |[x, _, mean, rstd, dy], [], [dx, dgamma, dbeta]| {
            let layout = Layout { groups: channels + 1, ..layout };
            group_norm::Backward {
                x,
                layout,
                mean,
                rstd,
                dy,
                dx,
                dgamma: wanted[0].then_some(dgamma),
                dbeta: wanted[1].then_some(dbeta),
                ..Default::default()
            }
            .run()
        })
}

/// What is added to a mean square.
fn rms_eps<T: Element>(draw: &mut Draw) -> f64 {
    draw.pick(&[1e-5, T::EPSILON.to_f64(), 0.0])
}

/// The documented bound of a mean of squares, and what the reference rounds.
fn rms_rounding<T: Element>(cols: usize) -> f64 {
    row_roundings(cols) * unit::<T>() + 4.0 * f64::EPSILON * cols as f64
}

fn rms_norm_forward<T: Element>(draw: &mut Draw) -> Case<T> {
    let ([rows, cols], eps) = (draw.matrix(), rms_eps::<T>(draw));
    let (gamma, kept) = (maybe(draw, cols), draw.flip());
    rms_norm_forward_of(draw.activations(rows * cols), cols, gamma, eps, kept)
}

pub fn rms_norm_forward_of<T: Element>(
    x: Vec<T>,
    cols: usize,
    gamma: Option<Vec<T>>,
    eps: f64,
    kept: bool,
) -> Case<T> {
    let (rows, with_gamma) = (x.len() / cols, gamma.is_some());
    let case = Case::new(format!("{rows} × {cols}, γ {with_gamma}, eps {eps}, rstd {kept}"))
        .input_per_item("x", cols, x)
        .input("gamma", gamma.unwrap_or_default())
        .output_per_item("y", cols, rows * cols)
        .output_per_item("rstd", usize::from(kept), if kept { rows } else { 0 })
        .run(move |[x, gamma], [], [y, rstd]| {
            rms_norm::Forward {
                x,
                cols,
                gamma: with_gamma.then_some(gamma),
                eps,
                y,
                rstd: kept.then_some(rstd),
            }
            .run()
        })
        .expect(move |[x, gamma], [], _: [&[f64]; 2]| {
            let (y, rstd) = reference::rms_norm(x, cols, &or_all(gamma, with_gamma, cols, 1.0), eps);
            let ku = rms_rounding::<T>(cols);
            [
                strictly(y.clone(), |i| 2.0 * ku * y[i].abs()),
                if kept { strictly(rstd.clone(), |r| ku * rstd[r]) } else { vec![] },
            ]
        })
        .refuses("absurd rows", move |[x, _], [], [y, rstd]| {
            rms_norm::Forward {
                x,
                cols: usize::MAX,
                eps,
                y,
                rstd: kept.then_some(rstd),
                ..Default::default()
            }
            .run()
        });
    WRONG_EPS.into_iter().fold(case, |case, (why, eps)| {
        case.refuses(why, move |[x, _], [], [y, rstd]| {
            rms_norm::Forward { x, cols, eps, y, rstd: kept.then_some(rstd), ..Default::default() }.run()
        })
    })
}

fn rms_norm_backward<T: Element>(draw: &mut Draw) -> Case<T> {
    let ([rows, cols], eps, wanted) = (draw.matrix(), rms_eps::<T>(draw), draw.flip());
    let (gamma, x) = (maybe(draw, cols), draw.activations(rows * cols));
    rms_norm_backward_of(x, cols, gamma, eps, draw.values(rows * cols, -1.0, 1.0), wanted)
}

pub fn rms_norm_backward_of<T: Element>(
    x: Vec<T>,
    cols: usize,
    gamma: Option<Vec<T>>,
    eps: f64,
    dy: Vec<T>,
    wanted: bool,
) -> Case<T> {
    let (rows, with_gamma) = (x.len() / cols, gamma.is_some());
    let (_, rstd) = reference::rms_norm(&widen(&x), cols, &vec![1.0; cols], eps);
    let case = Case::new(format!("{rows} × {cols}, γ {with_gamma}, eps {eps}, dγ {wanted}"))
        .input_per_item("x", cols, x)
        .input("gamma", gamma.unwrap_or_default())
        .input_per_item("rstd", 1, narrow(&rstd))
        .input_per_item("dy", cols, dy)
        .output_per_item("dx", cols, rows * cols);
    sums_if(case, "dgamma", wanted, cols)
        .run(move |[x, gamma, rstd, dy], [], [dx, dgamma]| {
            rms_norm::Backward {
                x,
                cols,
                gamma: with_gamma.then_some(gamma),
                rstd,
                dy,
                dx,
                dgamma: wanted.then_some(dgamma),
            }
            .run()
        })
        .expect(move |[x, gamma, _, dy], [], _: [&[f64]; 2]| {
            let gamma = or_all(gamma, with_gamma, cols, 1.0);
            let (_, rstd) = reference::rms_norm(x, cols, &gamma, eps);
            let (dx, dgamma) = reference::rms_norm_backward(x, cols, &gamma, eps, dy);
            let ku = rms_rounding::<T>(cols);
            let normal = |i: usize| (x[i] * rstd[i / cols]).abs();
            let g = |i: usize| (dy[i] * gamma[i % cols]).abs();
            let mean_gx = |r: usize| (r * cols..(r + 1) * cols).map(|i| g(i) * normal(i)).sum::<f64>();
            let mean_gx: Vec<f64> = (0..rows).map(|r| mean_gx(r) / cols as f64).collect();
            let mut terms = vec![0.0; cols];
            (0..x.len()).for_each(|i| terms[i % cols] += dy[i].abs() * normal(i));
            let sums = strictly(dgamma, |c| (ku + (rows as f64 + 20.0) * unit::<T>()) * terms[c]);
            [
                strictly(dx, |i| 4.0 * ku * rstd[i / cols] * (g(i) + normal(i) * mean_gx[i / cols])),
                if wanted { sums } else { vec![] },
            ]
        })
        .refuses("absurd rows", move |[x, _, rstd, dy], [], [dx, dgamma]| {
            rms_norm::Backward {
                x,
                cols: usize::MAX,
                rstd,
                dy,
                dx,
                dgamma: wanted.then_some(dgamma),
                ..Default::default()
            }
            .run()
        })
}

/// The roundings of a sum down a column of n elements, as documented, and a few more.
fn column_roundings(n: usize) -> f64 {
    n.min(128) as f64 + 4.0 * (n as f64 / 128.0).log2().max(0.0) + 20.0
}

/// Columns and their exact moments.
struct Columns<'a> {
    x: &'a [f64],
    mean: &'a [f64],
    rstd: &'a [f64],
}

impl Columns<'_> {
    fn cols(&self) -> usize {
        self.mean.len()
    }

    fn rows(&self) -> usize {
        self.x.len() / self.cols()
    }

    /// |x̂|.
    fn normal(&self, i: usize) -> f64 {
        let c = i % self.cols();
        ((self.x[i] - self.mean[c]) * self.rstd[c]).abs()
    }

    /// Of each column, `f` summed.
    fn sums(&self, f: impl Fn(usize) -> f64) -> Vec<f64> {
        let mut sums = vec![0.0; self.cols()];
        (0..self.x.len()).for_each(|i| sums[i % self.cols()] += f(i));
        sums
    }

    /// `k·q·u` of each column.
    fn roundings<T: Element>(&self) -> Vec<f64> {
        let mut largest = vec![0.0; self.cols()];
        self.x.iter().enumerate().for_each(|(i, x)| {
            let largest: &mut f64 = &mut largest[i % self.cols()];
            *largest = largest.max(x.abs());
        });
        let (k, n) = (column_roundings(self.rows()), self.rows());
        largest.iter().zip(self.rstd).map(|(&largest, &rstd)| rounding::<T>(k, n, largest, rstd)).collect()
    }
}

/// What follows a normalisation in the same pass.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    Nothing,
    Relu,
    AddRelu,
}

impl Then {
    const ALL: [Self; 3] = [Then::Relu, Then::AddRelu, Then::Nothing];

    fn after<T>(self, residual: &[T]) -> After<'_, T> {
        match self {
            Then::Nothing => After::Nothing,
            Then::Relu => After::Relu,
            Then::AddRelu => After::AddRelu(residual),
        }
    }

    /// Of values with their bounds: a sum is rounded, and a ReLU keeps distances or shortens them.
    fn apply<T: Element>(self, y: Vec<Near>, residual: &[f64]) -> Vec<Near> {
        let one = |(i, Near { exact, bound }): (usize, Near)| match self {
            Then::Nothing => Near { exact, bound },
            Then::Relu => Near { exact: reference::map::relu(exact), bound },
            Then::AddRelu => {
                let sum = exact + residual[i];
                let u = unit::<T>() + unit::<f64>();
                let rounding = if sum.is_finite() { u * (sum.abs() + bound) } else { 0.0 };
                Near { exact: reference::map::relu(sum), bound: bound + rounding }
            }
        };
        y.into_iter().enumerate().map(one).collect()
    }
}

fn batch_norm_forward<T: Element>(draw: &mut Draw) -> Case<T> {
    let then = draw.pick(&Then::ALL);
    let ([rows, cols], eps, mix) = (draw.matrix(), draw.pick(&EPS), draw.flip());
    let mix = mix.then(|| (draw.pick(&[0.1, 0.0, 1.0, 0.3]), draw.flip()));
    let (gamma, beta) = (maybe(draw, cols), maybe(draw, cols));
    let statistics = if mix.is_some() { cols } else { 0 };
    let running = [draw.values(statistics, -1.0, 1.0), draw.values(statistics, 0.0, 2.0)];
    let len = (rows + 2) * cols;
    let x = draw.activations(len);
    let residual = if then == Then::AddRelu { draw.values(len, -1.0, 1.0) } else { vec![] };
    Training { x, cols, gamma, beta, eps, mix, running, then, residual }.case()
}

pub fn batch_norm_forward_of<T: Element>(
    x: Vec<T>,
    cols: usize,
    gamma: Option<Vec<T>>,
    beta: Option<Vec<T>>,
    eps: f64,
) -> Case<T> {
    let (running, residual) = ([vec![], vec![]], vec![]);
    Training { x, cols, gamma, beta, eps, mix: None, running, then: Then::Nothing, residual }.case()
}

/// A forward pass in training.
struct Training<T> {
    x: Vec<T>,
    cols: usize,
    gamma: Option<Vec<T>>,
    beta: Option<Vec<T>>,
    eps: f64,
    /// The momentum of the running statistics, if there are some, and whether their variance is unbiased.
    mix: Option<(f64, bool)>,
    /// Mean and variance.
    running: [Vec<T>; 2],
    then: Then,
    residual: Vec<T>,
}

impl<T: Element> Training<T> {
    fn case(self) -> Case<T> {
        let Self {
            x,
            cols,
            gamma,
            beta,
            eps,
            mix,
            running: [running_mean, running_var],
            then: after,
            residual,
        } = self;
        let (rows, with_gamma, with_beta) = (x.len() / cols, gamma.is_some(), beta.is_some());
        let (momentum, unbiased) = mix.unwrap_or((0.0, false));
        let case = Case::new(format!(
            "{rows} × {cols}, γ {with_gamma}, β {with_beta}, eps {eps}, {mix:?}, {after:?}"
        ))
        .input("x", x)
        .input("gamma", gamma.unwrap_or_default())
        .input("beta", beta.unwrap_or_default())
        .input("residual", residual)
        .output("y", rows * cols)
        .output("mean", cols)
        .output("rstd", cols)
        .in_place("running mean", running_mean)
        .in_place("running var", running_var)
        .run(move |[x, gamma, beta, residual], [], [y, mean, rstd, running_mean, running_var]| {
            let (gamma, beta) = (with_gamma.then_some(gamma), with_beta.then_some(beta));
            let running = mix.map(|_| Running { mean: running_mean, var: running_var, momentum, unbiased });
            let (after, mean, rstd) = (after.after(residual), Some(mean), Some(rstd));
            batch_norm::Forward { x, cols, gamma, beta, eps, running, after, y, mean, rstd }.run()
        })
        .expect(move |[x, gamma, beta, residual], [], [_, _, _, old_mean, old_var]| {
            let (gamma, beta) = (or_all(gamma, with_gamma, cols, 1.0), or_all(beta, with_beta, cols, 0.0));
            let [y, mean, var, rstd] = reference::batch_norm(x, cols, &gamma, &beta, eps);
            let columns = Columns { x, mean: &mean, rstd: &rstd };
            let (k, kq, u) = (column_roundings(rows), columns.roundings::<T>(), unit::<T>());
            let of_mean = |c: usize| k * u * mean[c].abs() + kq[c] / rstd[c];
            // Where rstd = 1/√(var + eps) is within kq.
            let of_var = |c: usize| match kq[c] {
                kq if kq < 1.0 => (1.0 / ((1.0 - kq) * (1.0 - kq)) - 1.0) * (var[c] + eps),
                _ => f64::INFINITY,
            };
            let normalised = strictly(y.clone(), |i| {
                let c = i % cols;
                kq[c] * (gamma[c].abs() * (columns.normal(i) + 1.0) + beta[c].abs()) + 2.0 * u * y[i].abs()
            });
            let mixed = |old: &[f64], new: &[f64], weight: f64, bound: &dyn Fn(usize) -> f64| {
                let keep = |c: usize| (1.0 - momentum) * old[c];
                strictly((0..old.len()).map(|c| keep(c) + weight * new[c]).collect(), |c| {
                    let of_new = if weight == 0.0 { 0.0 } else { weight * bound(c) };
                    of_new + 4.0 * (u + unit::<f64>()) * (keep(c).abs() + (weight * new[c]).abs())
                })
            };
            let correction = if unbiased { rows as f64 / (rows - 1) as f64 } else { 1.0 };
            [
                // Infinities of both signs meet: what the rounding of the mean left, times γ.
                claimed_unless(after.apply::<T>(normalised, residual), |i| gamma[i % cols].is_infinite()),
                strictly(mean.clone(), of_mean),
                strictly(rstd.clone(), |c| kq[c] * rstd[c]),
                mixed(old_mean, &mean, momentum, &of_mean),
                mixed(old_var, &var, momentum * correction, &of_var),
            ]
        })
        .refuses("absurd rows", move |[x, _, _, _], [], [y, mean, rstd, _, _]| {
            batch_norm::Forward {
                x,
                cols: usize::MAX,
                eps,
                y,
                mean: Some(mean),
                rstd: Some(rstd),
                ..Default::default()
            }
            .run()
        })
        .refuses("a single row", move |[x, _, _, _], [], [y, mean, rstd, _, _]| {
            batch_norm::Forward {
                x: &x[..cols],
                cols,
                eps,
                y: &mut y[..cols],
                mean: Some(mean),
                rstd: Some(rstd),
                ..Default::default()
            }
            .run()
        })
        .refuses("a residual of another length", move |[x, _, _, _], [], [y, mean, rstd, _, _]| {
            let after = After::AddRelu(&x[1..]);
            batch_norm::Forward {
                x,
                cols,
                eps,
                after,
                y,
                mean: Some(mean),
                rstd: Some(rstd),
                ..Default::default()
            }
            .run()
        })
        .refuses("a momentum above 1", move |[x, _, _, _], [], [y, mean, rstd, _, _]| {
            let (mut a, mut b) = (vec![T::ZERO; cols], vec![T::ZERO; cols]);
            let running = Running { mean: &mut a, var: &mut b, momentum: 1.5, unbiased };
            batch_norm::Forward {
                x,
                cols,
                eps,
                running: Some(running),
                y,
                mean: Some(mean),
                rstd: Some(rstd),
                ..Default::default()
            }
            .run()
        })
        .refuses("a momentum that is no number", move |[x, _, _, _], [], [y, mean, rstd, _, _]| {
            let (mut a, mut b) = (vec![T::ZERO; cols], vec![T::ZERO; cols]);
            let running = Running { mean: &mut a, var: &mut b, momentum: f64::NAN, unbiased };
            batch_norm::Forward {
                x,
                cols,
                eps,
                running: Some(running),
                y,
                mean: Some(mean),
                rstd: Some(rstd),
                ..Default::default()
            }
            .run()
        });
        WRONG_EPS.into_iter().fold(case, |case, (why, eps)| {
            case.refuses(why, move |[x, _, _, _], [], [y, mean, rstd, _, _]| {
                batch_norm::Forward {
                    x,
                    cols,
                    eps,
                    y,
                    mean: Some(mean),
                    rstd: Some(rstd),
                    ..Default::default()
                }
                .run()
            })
        })
    }
}

fn batch_norm_infer<T: Element>(draw: &mut Draw) -> Case<T> {
    let after = draw.pick(&Then::ALL);
    let ([rows, cols], eps) = (draw.matrix(), draw.pick(&EPS));
    let (gamma, beta) = (maybe(draw, cols), maybe(draw, cols));
    let (with_gamma, with_beta) = (gamma.is_some(), beta.is_some());
    let residual = if after == Then::AddRelu { cols } else { 0 };
    let what = format!("{rows} × {cols}, γ {with_gamma}, β {with_beta}, eps {eps}, {after:?}");
    let case = Case::new(what)
        .input_per_item("x", cols, draw.activations(rows * cols))
        .input("gamma", gamma.unwrap_or_default())
        .input("beta", beta.unwrap_or_default())
        .input("running_mean", draw.values(cols, -1.0, 1.0))
        .input("running_var", draw.values(cols, 0.0, 2.0))
        .input_per_item("residual", residual, draw.values(rows * residual, -1.0, 1.0))
        .output_per_item("y", cols, rows * cols)
        .run(move |[x, gamma, beta, mean, var, residual], [], [y]| {
            let (gamma, beta) = (with_gamma.then_some(gamma), with_beta.then_some(beta));
            let (running_mean, running_var, after) = (mean, var, after.after(residual));
            batch_norm::Infer { x, cols, gamma, beta, running_mean, running_var, eps, after, y }.run()
        })
        .expect(move |[x, gamma, beta, mean, var, residual], [], [_]| {
            let (gamma, beta) = (or_all(gamma, with_gamma, cols, 1.0), or_all(beta, with_beta, cols, 0.0));
            let y = reference::batch_norm_infer(x, cols, &gamma, &beta, mean, var, eps);
            // eps is rounded to T, and so are the sum, the root, the quotient and the products.
            let u = unit::<T>() + unit::<f64>();
            let y = strictly(y.clone(), |i| {
                let c = i % cols;
                let slope = gamma[c] / (var[c] + eps).sqrt();
                1.01 * u * (6.0 * (slope * (x[i] - mean[c])).abs() + y[i].abs())
            });
            [after.apply::<T>(y, residual)]
        })
        .refuses("absurd rows", move |[x, _, _, mean, var, _], [], [y]| {
            batch_norm::Infer {
                x,
                cols: usize::MAX,
                running_mean: mean,
                running_var: var,
                eps,
                y,
                ..Default::default()
            }
            .run()
        });
    WRONG_EPS.into_iter().fold(case, |case, (why, eps)| {
        case.refuses(why, move |[x, _, _, mean, var, _], [], [y]| {
            batch_norm::Infer { x, cols, running_mean: mean, running_var: var, eps, y, ..Default::default() }
                .run()
        })
    })
}

fn batch_norm_infer_backward<T: Element>(draw: &mut Draw) -> Case<T> {
    let ([rows, cols], eps, wanted) = (draw.matrix(), draw.pick(&EPS), wanted(draw));
    let gamma = maybe(draw, cols);
    let with_gamma = gamma.is_some();
    let case = Case::new(format!("{rows} × {cols}, γ {with_gamma}, eps {eps}, dγ and dβ {wanted:?}"))
        .input_per_item("x", cols, draw.activations(rows * cols))
        .input("gamma", gamma.unwrap_or_default())
        .input("running_mean", draw.values(cols, -1.0, 1.0))
        .input("running_var", draw.values(cols, 0.0, 2.0))
        .input_per_item("dy", cols, draw.values(rows * cols, -1.0, 1.0))
        .output_per_item("dx", cols, rows * cols);
    let case = sums_if(case, "dgamma", wanted[0], cols);
    let case = sums_if(case, "dbeta", wanted[1], cols)
        .run(move |[x, gamma, mean, var, dy], [], [dx, dgamma, dbeta]| {
            let gamma = with_gamma.then_some(gamma);
            batch_norm::InferBackward {
                x,
                cols,
                gamma,
                running_mean: mean,
                running_var: var,
                eps,
                dy,
                dx,
                dgamma: wanted[0].then_some(dgamma),
                dbeta: wanted[1].then_some(dbeta),
            }
            .run()
        })
        .expect(move |[x, gamma, mean, var, dy], [], _: [&[f64]; 3]| {
            let gamma = or_all(gamma, with_gamma, cols, 1.0);
            let [dx, dgamma, dbeta] =
                reference::batch_norm_infer_backward(x, cols, &gamma, mean, var, eps, dy);
            let u = unit::<T>() + unit::<f64>();
            // The reference adds one after the other.
            let sum = |k: f64| k * unit::<T>() + rows as f64 * f64::EPSILON;
            let (k, rstd) = (column_roundings(rows), |c: usize| 1.0 / (var[c] + eps).sqrt());
            let columns = Columns { x, mean, rstd: mean };
            let of_gamma = columns.sums(|i| (dy[i] * (x[i] - mean[i % cols])).abs());
            let of_beta = columns.sums(|i| dy[i].abs());
            let dgamma = strictly(dgamma, |c| sum(k + 6.0) * rstd(c) * of_gamma[c]);
            // Each term is infinite in the reference, but only the sum in the kernel.
            let dgamma = claimed_unless(dgamma, |c| rstd(c) == f64::INFINITY);
            [
                strictly(dx.clone(), |i| 1.01 * u * 6.0 * dx[i].abs()),
                if wanted[0] { dgamma } else { vec![] },
                if wanted[1] { strictly(dbeta, |c| sum(k) * of_beta[c]) } else { vec![] },
            ]
        })
        .refuses("absurd rows", move |[x, _, mean, var, dy], [], [dx, dgamma, dbeta]| {
            batch_norm::InferBackward {
                x,
                cols: usize::MAX,
                running_mean: mean,
                running_var: var,
                eps,
                dy,
                dx,
                dgamma: wanted[0].then_some(dgamma),
                dbeta: wanted[1].then_some(dbeta),
                ..Default::default()
            }
            .run()
        });
    WRONG_EPS.into_iter().fold(case, |case, (why, eps)| {
        case.refuses(why, move |[x, _, mean, var, dy], [], [dx, dgamma, dbeta]| {
            batch_norm::InferBackward {
                x,
                cols,
                running_mean: mean,
                running_var: var,
                eps,
                dy,
                dx,
                dgamma: wanted[0].then_some(dgamma),
                dbeta: wanted[1].then_some(dbeta),
                ..Default::default()
            }
            .run()
        })
    })
}

fn batch_norm_backward<T: Element>(draw: &mut Draw) -> Case<T> {
    let ([rows, cols], eps, wanted) = (draw.matrix(), draw.pick(&EPS), wanted(draw));
    let len = (rows + 2) * cols;
    let (gated, scale) = (draw.flip(), T::from_f64(draw.pick(&[1.0, 1.25])));
    let (gamma, x) = (maybe(draw, cols), draw.activations(len));
    let gate = gated.then(|| (draw.values(len, -1.0, 1.0), scale));
    training_backward_of(x, cols, gamma, eps, draw.values(len, -1.0, 1.0), gate, wanted)
}

pub fn batch_norm_backward_of<T: Element>(
    x: Vec<T>,
    cols: usize,
    gamma: Option<Vec<T>>,
    eps: f64,
    dy: Vec<T>,
) -> Case<T> {
    training_backward_of(x, cols, gamma, eps, dy, None, [true; 2])
}

fn training_backward_of<T: Element>(
    x: Vec<T>,
    cols: usize,
    gamma: Option<Vec<T>>,
    eps: f64,
    dy: Vec<T>,
    gate: Option<(Vec<T>, T)>,
    wanted: [bool; 2],
) -> Case<T> {
    let (rows, with_gamma, zeros) = (x.len() / cols, gamma.is_some(), vec![0.0; cols]);
    let [_, mean, _, rstd] = reference::batch_norm(&widen(&x), cols, &zeros, &zeros, eps);
    let (gated, (gate, scale)) = (gate.is_some(), gate.unwrap_or((vec![], T::ONE)));
    let what =
        format!("{rows} × {cols}, γ {with_gamma}, eps {eps}, gate {gated} {scale}, dγ and dβ {wanted:?}");
    Case::new(what)
        .input("x", x)
        .input("gamma", gamma.unwrap_or_default())
        .input("mean", narrow(&mean))
        .input("rstd", narrow(&rstd))
        .input("dy", dy)
        .input("gate", gate)
        .output("dx", rows * cols)
        .output("dgamma", if wanted[0] { cols } else { 0 })
        .output("dbeta", if wanted[1] { cols } else { 0 })
        .run(move |[x, gamma, mean, rstd, dy, gate], [], [dx, dgamma, dbeta]| {
            let gamma = with_gamma.then_some(gamma);
            let gate = gated.then_some(Gate { y: gate, scale });
            let (dgamma, dbeta) = (wanted[0].then_some(dgamma), wanted[1].then_some(dbeta));
            batch_norm::Backward { x, cols, gamma, mean, rstd, gate, dy, dx, dgamma, dbeta }.run()
        })
        .expect(move |[x, gamma, _, _, dy, gate], [], _: [&[f64]; 3]| {
            let through = |(&dy, &y): (&f64, &f64)| {
                if y <= 0.0 { 0.0 } else { T::from_f64(dy * scale.to_f64()).to_f64() }
            };
            let dy = if gated { dy.iter().zip(gate).map(through).collect() } else { dy.to_vec() };
            let gamma = or_all(gamma, with_gamma, cols, 1.0);
            let [_, mean, _, rstd] = reference::batch_norm(x, cols, &gamma, &vec![0.0; cols], eps);
            let [dx, dgamma, dbeta] = reference::batch_norm_backward(x, cols, &gamma, eps, &dy);
            let columns = Columns { x, mean: &mean, rstd: &rstd };
            let (k, kq, u, n) = (column_roundings(rows), columns.roundings::<T>(), unit::<T>(), rows as f64);
            let sum_dy = columns.sums(|i| dy[i].abs());
            let sum_dyx = columns.sums(|i| dy[i].abs() * columns.normal(i));
            let dx = strictly(dx, |i| {
                let (c, normal) = (i % cols, columns.normal(i));
                let terms = dy[i].abs() + sum_dy[c] / n + (normal + 1.0) * (sum_dyx[c] + sum_dy[c]) / n;
                4.0 * kq[c] * gamma[c].abs() * rstd[c] * terms
            });
            let dgamma = strictly(dgamma, |c| kq[c] * (sum_dyx[c] + sum_dy[c]));
            let dbeta = strictly(dbeta, |c| (k * u + n * f64::EPSILON) * sum_dy[c]);
            // Infinities of both signs meet in other places than in the reference.
            let infinite = columns.sums(|i| f64::from(dy[i].is_infinite()));
            let infinite = |c: usize| infinite[c] > 0.0;
            let dx = claimed_unless(dx, |i| infinite(i % cols) || gamma[i % cols].is_infinite());
            [
                dx,
                if wanted[0] { claimed_unless(dgamma, infinite) } else { vec![] },
                if wanted[1] { dbeta } else { vec![] },
            ]
        })
        .refuses("absurd rows", move |[x, _, mean, rstd, dy, _], [], [dx, dgamma, dbeta]| {
            batch_norm::Backward {
                x,
                cols: usize::MAX,
                mean,
                rstd,
                dy,
                dx,
                dgamma: wanted[0].then_some(dgamma),
                dbeta: wanted[1].then_some(dbeta),
                ..Default::default()
            }
            .run()
        })
        .refuses("a single row", move |[x, _, mean, rstd, dy, _], [], [dx, dgamma, dbeta]| {
            let (x, dy, dx) = (&x[..cols], &dy[..cols], &mut dx[..cols]);
            batch_norm::Backward {
                x,
                cols,
                mean,
                rstd,
                dy,
                dx,
                dgamma: wanted[0].then_some(dgamma),
                dbeta: wanted[1].then_some(dbeta),
                ..Default::default()
            }
            .run()
        })
}
