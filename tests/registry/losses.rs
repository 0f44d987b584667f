//! Losses: of numbers element by element, of classes row by row.

use gristmill::kernels::cross_entropy::{self, Options};
use gristmill::kernels::loss::{self, Loss};
use gristmill::kernels::{nll_loss, soft_cross_entropy};
use gristmill::{Element, reference};

use super::{Case, Draw, Kernel, Near, anything, claimed_unless, entries, log2_ceil, strictly, unit};

pub const KERNELS: &[Kernel] = entries![
    "loss::forward" => loss_forward; 2,
    "loss::backward" => loss_backward; 2,
    "loss::backward_uniform" => loss_backward_uniform; 2,
    "cross_entropy::forward" => cross_entropy_forward; 2,
    "cross_entropy::backward" => cross_entropy_backward; 2,
    "nll_loss::forward" => nll_loss_forward,
    "nll_loss::backward" => nll_loss_backward,
    "soft_cross_entropy::forward" => soft_forward,
    "soft_cross_entropy::backward" => soft_backward,
];

/// A few of the smallest positive numbers: the errors of subnormal results.
fn smallest<T: Element>() -> f64 {
    4.0 * if T::NAME == "f32" { 2f64.powi(-149) } else { f64::from_bits(1) }
}

/// Loss and derivative of one element.
pub fn loss_and_slope<T: Element>(op: Loss<T>, x: f64, target: f64) -> (f64, f64) {
    match op {
        Loss::SquaredError => reference::squared_error(x, target),
        Loss::AbsoluteError => reference::absolute_error(x, target),
        Loss::Huber { delta } => reference::huber(x, target, delta.to_f64()),
        Loss::BceWithLogits => reference::bce_with_logits(x, target),
    }
}

/// The documented bound of a loss.
fn loss_bound<T: Element>(op: Loss<T>, loss: f64) -> f64 {
    let units = match op {
        Loss::SquaredError => 3.0,
        Loss::AbsoluteError => 1.0,
        Loss::Huber { .. } => 4.0,
        Loss::BceWithLogits => 12.0,
    };
    units * (unit::<T>() + unit::<f64>()) * loss + smallest::<T>()
}

/// The documented bound of a derivative times the gradient `g` of the loss.
fn slope_bound<T: Element>(op: Loss<T>, slope: f64, target: f64, g: f64) -> f64 {
    let units = match op {
        Loss::AbsoluteError => 1.0,
        Loss::SquaredError | Loss::Huber { .. } => 2.0,
        Loss::BceWithLogits => 8.0,
    };
    // Labels 0 and 1 do not cancel.
    let cancels = op == Loss::BceWithLogits && target != 0.0 && target != 1.0;
    let size = if cancels { 7.0 } else { units * slope.abs() };
    size * (unit::<T>() + unit::<f64>()) * g.abs() + smallest::<T>() * (1.0 + g.abs())
}

/// A loss, predictions and targets.
fn predictions<T: Element>(draw: &mut Draw) -> (Loss<T>, Vec<T>, Vec<T>) {
    let huber = Loss::Huber { delta: T::from_f64(draw.pick(&[1.0, 0.1])) };
    let op = draw.pick(&[Loss::BceWithLogits, huber, Loss::SquaredError, Loss::AbsoluteError]);
    let (len, scale) = (draw.len(), draw.pick(&[1.0, 1e-3, 20.0, 100.0]));
    let (x, mut target) = (draw.values(len, -scale, scale), draw.values::<T>(len, -0.2, 1.2));
    if op == Loss::BceWithLogits {
        for target in &mut target {
            let inside = target.to_f64().clamp(0.0, 1.0);
            *target = T::from_f64(if inside.is_nan() { 0.5 } else { inside });
        }
    }
    (op, x, target)
}

const NO_DELTAS: [(&str, f64); 4] = [
    ("a delta of 0", 0.0),
    ("a negative delta", -1.0),
    ("an infinite delta", f64::INFINITY),
    ("a delta that is no number", f64::NAN),
];
const NO_PROBABILITIES: [(&str, f64); 3] =
    [("a target above 1", 1.5), ("a target below 0", -0.5), ("a target that is no number", f64::NAN)];

/// The same targets but for the last.
fn with_last<T: Element>(target: &[T], last: f64) -> Vec<T> {
    let mut changed = vec![T::ZERO; target.len()];
    changed[target.len() - 1] = T::from_f64(last);
    changed
}

fn loss_forward<T: Element>(draw: &mut Draw) -> Case<T> {
    let (op, x, target) = predictions(draw);
    loss_forward_of(op, x, target)
}

pub fn loss_forward_of<T: Element>(op: Loss<T>, x: Vec<T>, target: Vec<T>) -> Case<T> {
    let len = x.len();
    let case = Case::new(format!("{op:?} of {len}"))
        .input_per_item("x", 1, x)
        .input_per_item("target", 1, target)
        .output_per_item("losses", 1, len)
        .run(move |[x, target], [], [losses]| loss::forward(op, x, target, losses))
        .expect(move |[x, target], [], [_]| {
            let exact: Vec<f64> = x.iter().zip(target).map(|(&x, &t)| loss_and_slope(op, x, t).0).collect();
            [strictly(exact.clone(), |i| loss_bound(op, exact[i]))]
        });
    let case = NO_DELTAS.into_iter().fold(case, |case, (why, delta)| {
        let op = Loss::Huber { delta: T::from_f64(delta) };
        case.refuses(why, move |[x, target], [], [losses]| loss::forward(op, x, target, losses))
    });
    NO_PROBABILITIES.into_iter().fold(case, |case, (why, last)| {
        case.refuses(why, move |[x, target], [], [losses]| {
            loss::forward(Loss::BceWithLogits, x, &with_last(target, last), losses)
        })
    })
}

/// The gradients of predictions and, if wanted, of targets, from those of the losses.
fn loss_gradients<T: Element>(
    op: Loss<T>,
    [x, target]: [&[f64]; 2],
    g: impl Fn(usize) -> f64,
    with_target: bool,
) -> [Vec<Near>; 2] {
    let slope = |i: usize| loss_and_slope(op, x[i], target[i]).1;
    let dx: Vec<f64> = (0..x.len()).map(|i| g(i) * slope(i)).collect();
    let bound = |i: usize| slope_bound(op, slope(i), target[i], g(i));
    let dtarget = match op {
        _ if !with_target => vec![],
        Loss::BceWithLogits => {
            let exact: Vec<f64> = (0..x.len()).map(|i| -g(i) * x[i]).collect();
            strictly(exact.clone(), |i| unit::<T>() * exact[i].abs())
        }
        _ => strictly(dx.iter().map(|dx| -dx).collect(), bound),
    };
    [strictly(dx.clone(), bound), dtarget]
}

fn loss_backward<T: Element>(draw: &mut Draw) -> Case<T> {
    let ((op, x, target), with_target) = (predictions(draw), draw.flip());
    let dlosses = draw.values(x.len(), -2.0, 2.0);
    loss_backward_of(op, x, target, dlosses, with_target)
}

pub fn loss_backward_of<T: Element>(
    op: Loss<T>,
    x: Vec<T>,
    target: Vec<T>,
    dlosses: Vec<T>,
    with_target: bool,
) -> Case<T> {
    let (len, targets) = (x.len(), usize::from(with_target));
    let case = Case::new(format!("{op:?} of {len}, gradient of the targets {with_target}"))
        .input_per_item("x", 1, x)
        .input_per_item("target", 1, target)
        .input_per_item("dlosses", 1, dlosses)
        .output_per_item("dx", 1, len)
        .output_per_item("dtarget", targets, targets * len)
        .run(move |[x, target, dlosses], [], [dx, dtarget]| {
            loss::Backward { op, x, target, dlosses, dx, dtarget: with_target.then_some(dtarget) }.run()
        })
        .expect(move |[x, target, dlosses], [], _: [&[f64]; 2]| {
            loss_gradients(op, [x, target], |i| dlosses[i], with_target)
        });
    let case = NO_DELTAS.into_iter().fold(case, |case, (why, delta)| {
        let op = Loss::Huber { delta: T::from_f64(delta) };
        case.refuses(why, move |[x, target, dlosses], [], [dx, _]| {
            loss::Backward { op, x, target, dlosses, dx, dtarget: None }.run()
        })
    });
    NO_PROBABILITIES.into_iter().fold(case, |case, (why, last)| {
        case.refuses(why, move |[x, target, dlosses], [], [dx, _]| {
            loss::Backward {
                op: Loss::BceWithLogits,
                x,
                target: &with_last(target, last),
                dlosses,
                dx,
                dtarget: None,
            }
            .run()
        })
    })
}

fn loss_backward_uniform<T: Element>(draw: &mut Draw) -> Case<T> {
    let (op, x, target) = predictions::<T>(draw);
    let (len, with_target) = (x.len(), draw.flip());
    let (targets, dloss) = (usize::from(with_target), T::from_f64(draw.pick(&[0.3, 1.0, -2.0, 0.0])));
    let case = Case::new(format!("{op:?} of {len}, {dloss} each, gradient of the targets {with_target}"))
        .input_per_item("x", 1, x)
        .input_per_item("target", 1, target)
        .output_per_item("dx", 1, len)
        .output_per_item("dtarget", targets, targets * len)
        .run(move |[x, target], [], [dx, dtarget]| {
            loss::BackwardUniform { op, x, target, dloss, dx, dtarget: with_target.then_some(dtarget) }.run()
        })
        .expect(move |[x, target], [], _: [&[f64]; 2]| {
            loss_gradients(op, [x, target], |_| dloss.to_f64(), with_target)
        });
    let case = NO_DELTAS.into_iter().fold(case, |case, (why, delta)| {
        let op = Loss::Huber { delta: T::from_f64(delta) };
        case.refuses(why, move |[x, target], [], [dx, _]| {
            loss::BackwardUniform { op, x, target, dloss, dx, dtarget: None }.run()
        })
    });
    NO_PROBABILITIES.into_iter().fold(case, |case, (why, last)| {
        case.refuses(why, move |[x, target], [], [dx, _]| {
            loss::BackwardUniform {
                op: Loss::BceWithLogits,
                x,
                target: &with_last(target, last),
                dloss,
                dx,
                dtarget: None,
            }
            .run()
        })
    })
}

/// The most additions from an element of a row to its sum, as documented.
fn depth<T: Element>(n: usize) -> f64 {
    n.min(4096).div_ceil(4 * T::LANES) as f64 + 6.0 + log2_ceil(n.div_ceil(4096))
}

/// What the kernel may be off, with its depth and units, and what the reference may be, with n additions in
/// f64.
fn both<T: Element>(n: usize, bound: impl Fn(f64, f64) -> f64) -> f64 {
    bound(depth::<T>(n), unit::<T>()) + bound(n as f64, unit::<f64>()) + smallest::<T>()
}

/// Logits around 0, near and far.
fn logits<T: Element>(draw: &mut Draw, len: usize) -> Vec<T> {
    let scale = draw.pick(&[1.0, 30.0, 500.0]);
    draw.values(len, -scale, scale)
}

/// The share of all classes, weights of the classes if any, and a target that does not count.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rule {
    pub smoothing: f64,
    pub weighted: bool,
    pub ignore_index: Option<usize>,
}

impl Rule {
    fn draw(draw: &mut Draw, classes: usize) -> Self {
        let ignored = [None, Some(draw.below(classes)), Some(classes + 3)];
        Self {
            // Numbers that every type has: a conversion when the kernel is called would round as the process
            // says.
            smoothing: draw.pick(&[0.0, 0.125, 1.0]),
            weighted: draw.flip(),
            ignore_index: draw.pick(&ignored),
        }
    }

    /// Classes, and here and there the target that does not count.
    fn targets(self, draw: &mut Draw, rows: usize, classes: usize) -> Vec<usize> {
        let mut targets = draw.indices(rows, classes);
        if let Some(ignored) = self.ignore_index {
            targets.iter_mut().filter(|target| **target % 5 == 1).for_each(|target| *target = ignored);
        }
        targets
    }

    /// A weight of each class from 0 to 2, some of them 0; as documented none is negative or infinite.
    fn weights<T: Element>(self, draw: &mut Draw, classes: usize) -> Vec<T> {
        let weight = |class| if class % 5 == 4 { 0.0 } else { 2.0 * draw.unit() };
        (0..if self.weighted { classes } else { 0 }).map(weight).map(T::from_f64).collect()
    }

    /// The smoothing as `T` has it.
    fn share<T: Element>(self) -> T {
        T::from_f64(self.smoothing)
    }

    fn options<T: Element>(self, weight: &[T]) -> Options<'_, T> {
        let weight = self.weighted.then_some(weight);
        Options { label_smoothing: self.share(), weight, ignore_index: self.ignore_index }
    }

    /// The weights that count.
    fn all_weights(self, weight: &[f64], classes: usize) -> Vec<f64> {
        if self.weighted { weight.to_vec() } else { vec![1.0; classes] }
    }
}

/// The log-sum-exp of each row; as documented, a row that makes its loss NaN has one that makes its gradients
/// NaN.
fn logsumexp(logits: &[f64], classes: usize) -> Vec<f64> {
    let largest = reference::by_row(logits, classes, reference::max);
    let sums = reference::logsumexp(logits, classes);
    sums.into_iter().zip(largest).map(|(sum, max)| if max.is_finite() { sum } else { f64::NAN }).collect()
}

/// The documented bound of a log-sum-exp.
fn logsumexp_bound<T: Element>(classes: usize, lse: f64) -> f64 {
    both::<T>(classes, |d, u| (d + 4.0 + 5.0 * (classes as f64).ln() + lse.abs()) * u)
}

/// The log-sum-exp of each row, rounded, and what the rounding leaves over.
fn logsumexp_and_rest<T: Element>(logits: &[f64], classes: usize) -> (Vec<T>, Vec<T>) {
    let largest = reference::by_row(logits, classes, reference::max);
    let shifted: Vec<f64> = logits.iter().enumerate().map(|(i, z)| z - largest[i / classes.max(1)]).collect();
    let ln_sums = logsumexp(&shifted, classes);
    let split = |(max, ln_sum): (f64, f64)| {
        let sum = T::from_f64(max + ln_sum);
        (sum, T::from_f64((max - sum.to_f64()) + ln_sum))
    };
    largest.into_iter().zip(ln_sums).map(split).unzip()
}

/// The error of a log-sum-exp and its rest, and what the reference is off.
fn split_error<T: Element>(classes: usize, lse: f64) -> f64 {
    let ln = (classes as f64).ln();
    (ln + 2.0) * unit::<T>() + (classes as f64 + 4.0 + 5.0 * ln + lse.abs()) * unit::<f64>()
}

/// `distance·p`, but 0 where the distance is infinite and p is 0.
fn far(distance: f64, p: f64) -> f64 {
    if p == 0.0 { 0.0 } else { distance * p }
}

const WRONG_SMOOTHINGS: [(&str, f64); 3] =
    [("smoothing above 1", 1.5), ("negative smoothing", -0.1), ("smoothing that is no number", f64::NAN)];

/// The same targets but for the last, which is no class.
fn no_class(targets: &[usize]) -> Vec<usize> {
    let mut targets = targets.to_vec();
    *targets.last_mut().expect("a row") = usize::MAX;
    targets
}

fn cross_entropy_forward<T: Element>(draw: &mut Draw) -> Case<T> {
    let [rows, classes] = draw.matrix();
    let (rule, z) = (Rule::draw(draw, classes), logits(draw, rows * classes));
    let weight = rule.weights(draw, classes);
    cross_entropy_forward_of(z, rule.targets(draw, rows, classes), classes, rule, weight)
}

pub fn cross_entropy_forward_of<T: Element>(
    z: Vec<T>,
    targets: Vec<usize>,
    classes: usize,
    rule: Rule,
    weight: Vec<T>,
) -> Case<T> {
    let rows = targets.len();
    let case = Case::new(format!("{rows} × {classes}, {rule:?}"))
        .input_per_item("logits", classes, z)
        .input("weight", weight)
        .index_per_item("targets", targets)
        .output_per_item("losses", 1, rows)
        .output_per_item("logsumexp", 1, rows)
        .output_per_item("rest", 1, rows)
        .run(move |[z, weight], [targets], [losses, lse, rest]| {
            cross_entropy::Forward {
                logits: z,
                targets,
                classes,
                options: rule.options(weight),
                losses,
                logsumexp: lse,
                rest,
            }
            .run()
        })
        .expect(move |[z, weight], [targets], _: [&[f64]; 3]| {
            let (s, w) = (rule.share::<T>().to_f64(), rule.all_weights(weight, classes));
            let losses = reference::cross_entropy(z, targets, classes, s, &w, rule.ignore_index);
            let (lse, shared) = (logsumexp(z, classes), s / classes as f64 * w.iter().sum::<f64>());
            let loss_bound = |i: usize| {
                if rule.ignore_index == Some(targets[i]) {
                    return 0.0;
                }
                let all = (1.0 - s) * w[targets[i]] + shared;
                both::<T>(classes, |d, u| {
                    let growth = if s == 0.0 && !rule.weighted { 2.0 } else { d + 10.0 };
                    (growth * losses[i] + all * (d + 4.0 + 5.0 * (classes as f64).ln())) * u
                })
            };
            [
                strictly(losses.clone(), loss_bound),
                strictly(lse.clone(), |i| logsumexp_bound::<T>(classes, lse[i])),
                // It depends on how the log-sum-exp was rounded; the gradients of large logits tell.
                anything(rows),
            ]
        })
        .refuses("absurd rows", move |[z, _], [targets], [losses, lse, rest]| {
            cross_entropy::Forward {
                logits: z,
                targets,
                classes: usize::MAX,
                losses,
                logsumexp: lse,
                rest,
                ..Default::default()
            }
            .run()
        })
        .refuses("a target that is no class", move |[z, weight], [targets], [losses, lse, rest]| {
            cross_entropy::Forward {
                logits: z,
                targets: &no_class(targets),
                classes,
                options: rule.options(weight),
                losses,
                logsumexp: lse,
                rest,
            }
            .run()
        })
        .refuses("a weight too many", move |[z, _], [targets], [losses, lse, rest]| {
            let weight = vec![T::ONE; classes + 1];
            let options = Options { weight: Some(&weight), ..rule.options(&[]) };
            cross_entropy::Forward { logits: z, targets, classes, options, losses, logsumexp: lse, rest }
                .run()
        });
    WRONG_SMOOTHINGS.into_iter().fold(case, |case, (why, smoothing)| {
        case.refuses(why, move |[z, weight], [targets], [losses, lse, rest]| {
            let rule = Rule { smoothing, ..rule };
            cross_entropy::Forward {
                logits: z,
                targets,
                classes,
                options: rule.options(weight),
                losses,
                logsumexp: lse,
                rest,
            }
            .run()
        })
    })
}

fn cross_entropy_backward<T: Element>(draw: &mut Draw) -> Case<T> {
    let [rows, classes] = draw.matrix();
    let (rule, z) = (Rule::draw(draw, classes), logits(draw, rows * classes));
    let (weight, dlosses) = (rule.weights(draw, classes), draw.values(rows, -1.0, 1.0));
    cross_entropy_backward_of(z, rule.targets(draw, rows, classes), classes, rule, weight, dlosses)
}

pub fn cross_entropy_backward_of<T: Element>(
    z: Vec<T>,
    targets: Vec<usize>,
    classes: usize,
    rule: Rule,
    weight: Vec<T>,
    dlosses: Vec<T>,
) -> Case<T> {
    let rows = targets.len();
    let wide: Vec<f64> = z.iter().map(|z| z.to_f64()).collect();
    let (lse, rest) = logsumexp_and_rest::<T>(&wide, classes);
    let case = Case::new(format!("{rows} × {classes}, {rule:?}"))
        .input_per_item("logits", classes, z)
        .input("weight", weight)
        .input_per_item("logsumexp", 1, lse)
        .input_per_item("rest", 1, rest)
        .input_per_item("dlosses", 1, dlosses)
        .index_per_item("targets", targets)
        .output_per_item("dlogits", classes, rows * classes)
        .run(move |[z, weight, lse, rest, dlosses], [targets], [dz]| {
            cross_entropy::Backward {
                logits: z,
                targets,
                classes,
                options: rule.options(weight),
                logsumexp: lse,
                rest,
                dlosses,
                dlogits: dz,
            }
            .run()
        })
        .expect(move |[z, weight, _, _, dlosses], [targets], [_]| {
            let (s, w) = (rule.share::<T>().to_f64(), rule.all_weights(weight, classes));
            let dz =
                reference::cross_entropy_backward(z, targets, classes, s, &w, rule.ignore_index, dlosses);
            let (lse, share, total) = (logsumexp(z, classes), s / classes as f64, w.iter().sum::<f64>());
            let ignored = |row: usize| rule.ignore_index == Some(targets[row]);
            let bound = |i: usize| {
                let (row, class) = (i / classes, i % classes);
                if ignored(row) {
                    return 0.0;
                }
                let hard = (1.0 - s) * w[targets[row]];
                let (distance, all) = ((z[i] - lse[row]).abs(), hard + share * total);
                let (p, hard) = (all * (-distance).exp(), if class == targets[row] { hard } else { 0.0 });
                let growth = if s > 0.0 && rule.weighted { depth::<T>(classes) + 16.0 } else { 12.0 };
                let terms = 2.0 * far(distance, p) + growth * p + 5.0 * share * w[class] + 4.0 * hard;
                let exact_lse =
                    both::<T>(classes, |d, u| if u == unit::<T>() { terms * u } else { d * terms * u });
                let error = exact_lse + 1.01 * p * split_error::<T>(classes, lse[row]);
                // The exponential may be subnormal before it is multiplied.
                dlosses[row].abs() * (error + smallest::<T>() * all) + smallest::<T>()
            };
            // Zero times an infinite gradient, where the reference multiplies later.
            let infinite = |i: usize| dlosses[i / classes].is_infinite() && !ignored(i / classes);
            [claimed_unless(strictly(dz, bound), infinite)]
        })
        .refuses("absurd rows", move |[z, _, lse, rest, dlosses], [targets], [dz]| {
            cross_entropy::Backward {
                logits: z,
                targets,
                classes: usize::MAX,
                logsumexp: lse,
                rest,
                dlosses,
                dlogits: dz,
                ..Default::default()
            }
            .run()
        })
        .refuses("a target that is no class", move |[z, weight, lse, rest, dlosses], [targets], [dz]| {
            let targets = no_class(targets);
            cross_entropy::Backward {
                logits: z,
                targets: &targets,
                classes,
                options: rule.options(weight),
                logsumexp: lse,
                rest,
                dlosses,
                dlogits: dz,
            }
            .run()
        });
    WRONG_SMOOTHINGS.into_iter().fold(case, |case, (why, smoothing)| {
        case.refuses(why, move |[z, weight, lse, rest, dlosses], [targets], [dz]| {
            let rule = Rule { smoothing, ..rule };
            cross_entropy::Backward {
                logits: z,
                targets,
                classes,
                options: rule.options(weight),
                logsumexp: lse,
                rest,
                dlosses,
                dlogits: dz,
            }
            .run()
        })
    })
}

fn nll_loss_forward<T: Element>(draw: &mut Draw) -> Case<T> {
    let [rows, classes] = draw.matrix();
    let rule = Rule::draw(draw, classes);
    let weights = if rule.weighted { classes } else { 0 };
    Case::new(format!("{rows} × {classes}, {rule:?}"))
        .input_per_item("log_p", classes, draw.values(rows * classes, -9.0, 0.0))
        .input("weight", draw.values(weights, 0.0, 2.0))
        .index_per_item("targets", rule.targets(draw, rows, classes))
        .output_per_item("losses", 1, rows)
        .run(move |[log_p, weight], [targets], [losses]| {
            let weight = rule.weighted.then_some(weight);
            nll_loss::Forward { log_p, targets, classes, weight, ignore_index: rule.ignore_index, losses }
                .run()
        })
        .expect(move |[log_p, weight], [targets], [_]| {
            let w = rule.all_weights(weight, classes);
            let losses = reference::nll_loss(log_p, targets, classes, &w, rule.ignore_index);
            [strictly(losses.clone(), |i| unit::<T>() * losses[i].abs())]
        })
        .refuses("absurd rows", move |[log_p, _], [targets], [losses]| {
            nll_loss::Forward { log_p, targets, classes: usize::MAX, losses, ..Default::default() }.run()
        })
        .refuses("a target that is no class", move |[log_p, _], [targets], [losses]| {
            nll_loss::Forward {
                log_p,
                targets: &no_class(targets),
                classes,
                ignore_index: rule.ignore_index,
                losses,
                ..Default::default()
            }
            .run()
        })
}

fn nll_loss_backward<T: Element>(draw: &mut Draw) -> Case<T> {
    let [rows, classes] = draw.matrix();
    let rule = Rule::draw(draw, classes);
    let weights = if rule.weighted { classes } else { 0 };
    Case::new(format!("{rows} × {classes}, {rule:?}"))
        .input_per_item("dlosses", 1, draw.values(rows, -1.0, 1.0))
        .input("weight", draw.values(weights, 0.0, 2.0))
        .index_per_item("targets", rule.targets(draw, rows, classes))
        .output_per_item("dlog_p", classes, rows * classes)
        .run(move |[dlosses, weight], [targets], [dlog_p]| {
            let weight = rule.weighted.then_some(weight);
            nll_loss::Backward { targets, classes, weight, ignore_index: rule.ignore_index, dlosses, dlog_p }
                .run()
        })
        .expect(move |[dlosses, weight], [targets], [_]| {
            let w = rule.all_weights(weight, classes);
            let dlog_p = reference::nll_loss_backward(targets, classes, &w, rule.ignore_index, dlosses);
            [strictly(dlog_p.clone(), |i| unit::<T>() * dlog_p[i].abs())]
        })
        .refuses("absurd rows", move |[dlosses, _], [targets], [dlog_p]| {
            nll_loss::Backward { targets, classes: usize::MAX, dlosses, dlog_p, ..Default::default() }.run()
        })
        .refuses("a target that is no class", move |[dlosses, _], [targets], [dlog_p]| {
            nll_loss::Backward {
                targets: &no_class(targets),
                classes,
                ignore_index: rule.ignore_index,
                dlosses,
                dlog_p,
                ..Default::default()
            }
            .run()
        })
}

/// Numbers like probabilities, which need not add up to 1; no infinite ones, which the documentation does not
/// know.
fn probabilities<T: Element>(draw: &mut Draw, len: usize) -> Vec<T> {
    let mut targets: Vec<T> = draw.values(len, 0.0, 1.0);
    let infinite = |x: &&mut T| x.abs() == T::INFINITY;
    targets.iter_mut().filter(infinite).for_each(|x| *x = T::from_f64(0.5));
    targets
}

fn soft_forward<T: Element>(draw: &mut Draw) -> Case<T> {
    let [rows, classes] = draw.matrix();
    let rule = Rule { ignore_index: None, ..Rule::draw(draw, classes) };
    let case = Case::new(format!("{rows} × {classes}, {rule:?}"))
        .input_per_item("logits", classes, logits(draw, rows * classes))
        .input_per_item("targets", classes, probabilities(draw, rows * classes))
        .input("weight", rule.weights(draw, classes))
        .output_per_item("losses", 1, rows)
        .output_per_item("logsumexp", 1, rows)
        .output_per_item("rest", 1, rows)
        .run(move |[z, t, weight], [], [losses, lse, rest]| {
            let weight = rule.weighted.then_some(weight);
            soft_cross_entropy::Forward {
                logits: z,
                targets: t,
                classes,
                label_smoothing: rule.share(),
                weight,
                losses,
                logsumexp: lse,
                rest,
            }
            .run()
        })
        .expect(move |[z, t, weight], [], _: [&[f64]; 3]| {
            let (s, w) = (rule.share::<T>().to_f64(), rule.all_weights(weight, classes));
            let losses = reference::soft_cross_entropy(z, t, classes, s, &w);
            let lse = logsumexp(z, classes);
            let mass = |i: usize| ((1.0 - s) * t[i] + s / classes as f64) * w[i % classes];
            let all = |row: usize| (row * classes..(row + 1) * classes).map(mass).sum::<f64>();
            let loss_bound = |row: usize| {
                let all = all(row);
                both::<T>(classes, |d, u| {
                    ((2.0 * d + 10.0) * losses[row] + all * (d + 4.0 + 5.0 * (classes as f64).ln())) * u
                })
            };
            [
                strictly(losses.clone(), loss_bound),
                strictly(lse.clone(), |row| logsumexp_bound::<T>(classes, lse[row])),
                anything(rows),
            ]
        })
        .refuses("absurd rows", move |[z, t, _], [], [losses, lse, rest]| {
            soft_cross_entropy::Forward {
                logits: z,
                targets: t,
                classes: usize::MAX,
                label_smoothing: T::ZERO,
                losses,
                logsumexp: lse,
                rest,
                ..Default::default()
            }
            .run()
        });
    WRONG_SMOOTHINGS.into_iter().fold(case, |case, (why, smoothing)| {
        case.refuses(why, move |[z, t, _], [], [losses, lse, rest]| {
            soft_cross_entropy::Forward {
                logits: z,
                targets: t,
                classes,
                label_smoothing: T::from_f64(smoothing),
                losses,
                logsumexp: lse,
                rest,
                ..Default::default()
            }
            .run()
        })
    })
}

fn soft_backward<T: Element>(draw: &mut Draw) -> Case<T> {
    let [rows, classes] = draw.matrix();
    let rule = Rule { ignore_index: None, ..Rule::draw(draw, classes) };
    let with_targets = draw.flip();
    let z: Vec<T> = logits(draw, rows * classes);
    let wide: Vec<f64> = z.iter().map(|z| z.to_f64()).collect();
    let (lse, rest) = logsumexp_and_rest::<T>(&wide, classes);
    let targets = if with_targets { classes } else { 0 };
    let case = Case::new(format!("{rows} × {classes}, {rule:?}, gradient of the targets {with_targets}"))
        .input_per_item("logits", classes, z)
        .input_per_item("targets", classes, probabilities(draw, rows * classes))
        .input("weight", rule.weights(draw, classes))
        .input_per_item("logsumexp", 1, lse)
        .input_per_item("rest", 1, rest)
        .input_per_item("dlosses", 1, draw.values(rows, -1.0, 1.0))
        .output_per_item("dlogits", classes, rows * classes)
        .output_per_item("dtargets", targets, rows * targets)
        .run(move |[z, t, weight, lse, rest, dlosses], [], [dz, dt]| {
            let (weight, dt) = (rule.weighted.then_some(weight), with_targets.then_some(dt));
            soft_cross_entropy::Backward {
                logits: z,
                targets: t,
                classes,
                label_smoothing: rule.share(),
                weight,
                logsumexp: lse,
                rest,
                dlosses,
                dlogits: dz,
                dtargets: dt,
            }
            .run()
        })
        .expect(move |[z, t, weight, _, _, dlosses], [], _: [&[f64]; 2]| {
            let (s, w) = (rule.share::<T>().to_f64(), rule.all_weights(weight, classes));
            let lse = logsumexp(z, classes);
            let (dz, dt) = reference::soft_cross_entropy_backward(z, t, classes, s, &w, dlosses);
            let mass = |i: usize| ((1.0 - s) * t[i] + s / classes as f64) * w[i % classes];
            let all: Vec<f64> =
                (0..rows).map(|row| (row * classes..(row + 1) * classes).map(mass).sum()).collect();
            let distance = |i: usize| (z[i] - lse[i / classes]).abs();
            let lse_error = |i: usize| split_error::<T>(classes, lse[i / classes]);
            let dz = strictly(dz, |i| {
                let p = all[i / classes] * (-distance(i)).exp();
                let own = both::<T>(classes, |d, u| {
                    (2.0 * far(distance(i), p) + (2.0 * d + 16.0) * p + 6.0 * mass(i)) * u
                });
                // The exponential may be subnormal before it is multiplied.
                let own = own + smallest::<T>() * all[i / classes];
                dlosses[i / classes].abs() * (own + 1.01 * p * lse_error(i)) + smallest::<T>()
            });
            let dt = strictly(dt, |i| {
                let error = both::<T>(classes, |_, u| 6.0 * distance(i) * u) + lse_error(i);
                dlosses[i / classes].abs() * (1.0 - s) * w[i % classes] * error + smallest::<T>()
            });
            // Zero times an infinite gradient, where the reference multiplies later.
            let infinite = |i: usize| dlosses[i / classes].is_infinite();
            [claimed_unless(dz, infinite), if with_targets { claimed_unless(dt, infinite) } else { vec![] }]
        })
        .refuses("absurd rows", move |[z, t, _, lse, rest, dlosses], [], [dz, _]| {
            soft_cross_entropy::Backward {
                logits: z,
                targets: t,
                classes: usize::MAX,
                label_smoothing: T::ZERO,
                logsumexp: lse,
                rest,
                dlosses,
                dlogits: dz,
                ..Default::default()
            }
            .run()
        });
    WRONG_SMOOTHINGS.into_iter().fold(case, |case, (why, smoothing)| {
        case.refuses(why, move |[z, t, _, lse, rest, dlosses], [], [dz, _]| {
            let smoothing = T::from_f64(smoothing);
            soft_cross_entropy::Backward {
                logits: z,
                targets: t,
                classes,
                label_smoothing: smoothing,
                logsumexp: lse,
                rest,
                dlosses,
                dlogits: dz,
                ..Default::default()
            }
            .run()
        })
    })
}
