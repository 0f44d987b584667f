//! Operations of tensors, each with its twin on the tape of single numbers.

use gristmill::autograd::{BatchStatistics, Reduction, unary_functions};
use gristmill::kernels::norm::Norm;
use gristmill::tensor::step;
use gristmill::{Result, Tensor};

use super::draw::Draw;
use super::tape::{Id, Tape};

pub type T64 = Tensor<f64>;

/// A tensor of numbers on the tape.
#[derive(Clone, Debug)]
pub struct Twin {
    pub shape: Vec<usize>,
    /// Row by row.
    pub ids: Vec<Id>,
}

type Apply = Box<dyn Fn(&[&T64]) -> Result<T64>>;
type Method = fn(&T64) -> Result<T64>;
type Mirror = Box<dyn Fn(&mut Tape, &[&Twin]) -> Twin>;

/// An operation with all that was chosen for it.
pub struct Op {
    pub what: String,
    pub apply: Apply,
    pub mirror: Mirror,
    /// Whether gradients end here.
    pub cuts: bool,
}

fn op(
    what: impl ToString,
    apply: impl Fn(&[&T64]) -> Result<T64> + 'static,
    mirror: impl Fn(&mut Tape, &[&Twin]) -> Twin + 'static,
) -> Option<Op> {
    Some(Op { what: what.to_string(), apply: Box::new(apply), mirror: Box::new(mirror), cuts: false })
}

/// All places of a shape, row by row.
fn places(shape: &[usize]) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for &len in shape {
        all = all.iter().flat_map(|place| (0..len).map(|i| [&place[..], &[i]].concat())).collect();
    }
    all
}

impl Twin {
    pub fn new(shape: &[usize], ids: Vec<Id>) -> Self {
        assert_eq!(shape.iter().product::<usize>(), ids.len());
        Self { shape: shape.to_vec(), ids }
    }

    fn rank(&self) -> usize {
        self.shape.len()
    }

    fn at(&self, place: &[usize]) -> Id {
        assert_eq!(place.len(), self.rank());
        self.ids[place.iter().zip(&self.shape).fold(0, |offset, (i, len)| offset * len + i)]
    }

    /// A tensor whose element at each place is that of another place here.
    fn picked(&self, shape: &[usize], from: impl Fn(&[usize]) -> Vec<usize>) -> Self {
        Self::new(shape, places(shape).iter().map(|place| self.at(&from(place))).collect())
    }

    fn with_axis(&self, axis: usize, len: usize) -> Vec<usize> {
        let mut shape = self.shape.clone();
        shape[axis] = len;
        shape
    }

    /// Place `from(i)` of an axis at each place `i` of it.
    fn along(&self, axis: usize, len: usize, from: impl Fn(usize) -> usize) -> Self {
        self.picked(&self.with_axis(axis, len), |place| {
            let mut place = place.to_vec();
            place[axis] = from(place[axis]);
            place
        })
    }

    fn broadcast(&self, shape: &[usize]) -> Self {
        let new = shape.len() - self.rank();
        self.picked(shape, |place| {
            let stretched = |(i, &len): (&usize, &usize)| if len == 1 { 0 } else { *i };
            place[new..].iter().zip(&self.shape).map(stretched).collect()
        })
    }

    fn values(&self, tape: &Tape) -> Vec<f64> {
        self.ids.iter().map(|&id| tape.value(id)).collect()
    }

    fn map(&self, f: impl FnMut(&Id) -> Id) -> Self {
        Self::new(&self.shape, self.ids.iter().map(f).collect())
    }

    /// The numbers along an axis, one list for each place of the others.
    fn rows(&self, axis: usize) -> Vec<Vec<Id>> {
        let shape = self.with_axis(axis, 1);
        let row = |place: &Vec<usize>| {
            let at = |i| [&place[..axis], &[i], &place[axis + 1..]].concat();
            (0..self.shape[axis]).map(|i| self.at(&at(i))).collect()
        };
        places(&shape).iter().map(row).collect()
    }

    /// From [`rows`](Self::rows) of new numbers back.
    fn from_rows(shape: &[usize], axis: usize, rows: &[Vec<Id>]) -> Self {
        let mut outer = shape.to_vec();
        outer[axis] = 1;
        let row = |place: &[usize]| place.iter().zip(&outer).fold(0, |row, (i, len)| row * len + i);
        let id = |place: &Vec<usize>| {
            let first = [&place[..axis], &[0], &place[axis + 1..]].concat();
            rows[row(&first)][place[axis]]
        };
        Self::new(shape, places(shape).iter().map(id).collect())
    }

    /// One number for all numbers over some axes.
    fn reduced(&self, axes: &[usize], keep: bool, mut to: impl FnMut(&[Id]) -> Id) -> Self {
        let kept = |(axis, &len): (usize, &usize)| if axes.contains(&axis) { 1 } else { len };
        let shape: Vec<usize> = self.shape.iter().enumerate().map(kept).collect();
        let groups = places(&shape);
        let mut ids = vec![Vec::new(); groups.len()];
        for place in places(&self.shape) {
            let group = place.iter().enumerate().map(|(axis, &i)| if axes.contains(&axis) { 0 } else { i });
            let group: Vec<usize> = group.collect();
            let group = groups.iter().position(|known| *known == group).expect("it is a group");
            ids[group].push(self.at(&place));
        }
        let left = |axis: &usize| keep || !axes.contains(axis);
        let shape: Vec<usize> = (0..shape.len()).filter(left).map(|axis| shape[axis]).collect();
        Self::new(&shape, ids.iter().map(|ids| to(ids)).collect())
    }
}

/// More numbers than this in one tensor tell nothing new.
pub const MOST: usize = 96;

/// The shape that two broadcast to, if it is not too large.
fn common(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let len = |shape: &[usize], i: usize| (i + shape.len()).checked_sub(rank).map_or(1, |i| shape[i]);
    let both = |i| match (len(a, i), len(b, i)) {
        (a, b) if a == b => Some(a),
        (1, b) => Some(b),
        (a, 1) => Some(a),
        _ => None,
    };
    let shape: Vec<usize> = (0..rank).map(both).collect::<Option<_>>()?;
    (shape.iter().product::<usize>() <= MOST).then_some(shape)
}

/// A function of one number, its derivative, and where it is smooth and its numbers stay small.
struct Function {
    name: &'static str,
    apply: Method,
    f: Box<dyn Fn(f64) -> f64>,
    derivative: Box<dyn Fn(f64) -> f64>,
    safe: Box<dyn Fn(f64) -> bool>,
}

/// Far enough from a kink.
fn off(x: f64, kink: f64) -> bool {
    (x - kink).abs() > 0.02
}

macro_rules! functions {
    ($($name:literal $apply:expr, $f:expr, $derivative:expr, $safe:expr;)+) => {
        vec![$(Function {
            name: $name,
            apply: $apply,
            f: Box::new($f),
            derivative: Box::new($derivative),
            safe: Box::new($safe),
        }),+]
    };
}

/// Those that take more than a tensor, and all that take nothing else.
fn functions() -> Vec<Function> {
    let mut all: Vec<Function> = functions! {
        "cube" |x| x.powi(3), |x| x * x * x, |x| 3.0 * x * x, |x: f64| x.abs() < 8.0;
        "power" |x| x.powf(2.5), |x| x.powf(2.5), |x| 2.5 * x.powf(1.5), |x| x > 0.2 && x < 10.0;
        "leaky_relu" |x| x.leaky_relu(0.125), |x| if x > 0.0 { x } else { 0.125 * x },
            |x| if x > 0.0 { 1.0 } else { 0.125 }, |x| off(x, 0.0);
        "elu" |x| x.elu(0.75), |x| if x > 0.0 { x } else { 0.75 * x.exp_m1() },
            |x| if x > 0.0 { 1.0 } else { 0.75 * x.exp() }, |x| off(x, 0.0);
        "hardtanh" T64::hardtanh, |x| x.clamp(-1.0, 1.0), |x| f64::from(x.abs() < 1.0), |x| off(x.abs(), 1.0);
        "clamp" |x| x.clamp(-0.5, 0.75), |x| x.clamp(-0.5, 0.75), |x| f64::from(x > -0.5 && x < 0.75),
            |x| off(x, -0.5) && off(x, 0.75);
        "scalars" |x| x.mul_scalar(3.0)?.add_scalar(1.0)?.sub_scalar(0.5)?.div_scalar(-4.0),
            |x| (x * 3.0 + 1.0 - 0.5) / -4.0, |_| -0.75, |_| true;
    };
    all.extend(unary_functions().into_iter().map(|(op, method)| {
        let [value, derivative, safe] = [(); 3].map(|()| op.twin());
        Function {
            name: op.name(),
            apply: method,
            f: Box::new(move |x| value.value(x)),
            derivative: Box::new(move |x| derivative.derivative(x)),
            safe: Box::new(move |x| safe.is_tame(x)),
        }
    }));
    all
}

/// What an operation may choose from.
pub struct Scene<'a, 'b> {
    pub draw: &'a mut Draw<'b>,
    pub tape: &'a Tape,
    pub pool: &'a [&'a Twin],
}

impl Scene<'_, '_> {
    /// The place of one that will do, if there is one.
    fn find(&mut self, will_do: impl Fn(&Twin) -> bool) -> Option<usize> {
        let fitting: Vec<usize> = (0..self.pool.len()).filter(|&i| will_do(self.pool[i])).collect();
        (!fitting.is_empty()).then(|| self.draw.pick(&fitting))
    }

    fn axis(&mut self, x: &Twin) -> Option<usize> {
        (x.rank() > 0).then(|| self.draw.below(x.rank()))
    }

    /// An axis as a caller may write it.
    fn written(&mut self, axis: usize, x: &Twin) -> isize {
        if self.draw.flip() { axis as isize - x.rank() as isize } else { axis as isize }
    }

    fn indices(&mut self, count: usize, len: usize) -> Vec<usize> {
        (0..count).map(|_| self.draw.below(len)).collect()
    }

    /// Some axes, none among them twice, and as a caller may write them: all of them also as none.
    fn axes(&mut self, x: &Twin) -> (Vec<usize>, Vec<isize>) {
        let mut axes: Vec<usize> = (0..x.rank()).filter(|_| self.draw.flip()).collect();
        if self.draw.flip() {
            axes.reverse();
        }
        let written = axes.iter().map(|&axis| self.written(axis, x)).collect();
        if axes.is_empty() {
            axes.extend(0..x.rank());
        }
        (axes, written)
    }

    /// One operation and its inputs, if those chosen have a place where it is smooth.
    pub fn operation(&mut self) -> Option<(Op, Vec<usize>)> {
        let recent = self.pool.len() - 1 - self.draw.below(self.pool.len().min(4));
        let any = self.draw.below(self.pool.len());
        let first = if self.draw.flip() { any } else { recent };
        let x = self.pool[first];
        let one = |op: Option<Op>| op.map(|op| (op, vec![first]));
        match self.draw.below(16) {
            0..3 => one(self.function(x)),
            3..6 => self.binary(first),
            6..9 => one(self.view(x)),
            9..11 => one(self.reduction(x)),
            11 => one(self.along(x)),
            12 => self.product(first),
            13 => self.norm(first),
            14 => self.many(first),
            _ => one(self.cut(x)),
        }
    }

    fn function(&mut self, x: &Twin) -> Option<Op> {
        let mut functions = functions();
        let at = self.draw.below(functions.len());
        functions.rotate_left(at);
        let x = x.values(self.tape);
        let safe = |function: &Function| x.iter().all(|&x| (function.safe)(x));
        let Function { name, apply, f, derivative, .. } = functions.into_iter().find(safe)?;
        op(name, move |x| apply(x[0]), move |tape, x| x[0].map(|&id| tape.function(id, &f, &derivative)))
    }

    fn binary(&mut self, first: usize) -> Option<(Op, Vec<usize>)> {
        let x = self.pool[first];
        let second = self.find(|y| common(&x.shape, &y.shape).is_some())?;
        let y = self.pool[second];
        let shape = common(&x.shape, &y.shape)?;
        let (a, b) = (x.broadcast(&shape).values(self.tape), y.broadcast(&shape).values(self.tape));
        let all = |safe: fn(f64, f64) -> bool| a.iter().zip(&b).all(|(&a, &b)| safe(a, b));
        type Apply = fn(&T64, &T64) -> Result<T64>;
        type Mirror = fn(&mut Tape, Id, Id) -> Id;
        let apart = all(off);
        let (name, apply, mirror): (_, Apply, Mirror) = match self.draw.below(8) {
            0 => ("add", T64::add, |tape, a, b| tape.sum(&[a, b])),
            1 => ("sub", T64::sub, Tape::difference),
            2 if apart => {
                ("minimum", T64::minimum, |tape, a, b| if tape.value(a) < tape.value(b) { a } else { b })
            }
            3 if apart => {
                ("maximum", T64::maximum, |tape, a, b| if tape.value(a) > tape.value(b) { a } else { b })
            }
            4 | 5 if all(|_, b| b.abs() > 0.2) => ("div", T64::div, |tape, a, b| {
                let b = tape.function(b, |x| 1.0 / x, |x| -1.0 / (x * x));
                tape.product(a, b)
            }),
            6 if all(|a, b| a > 0.2 && a < 10.0 && b.abs() < 3.0) => ("pow", T64::pow, |tape, a, b| {
                let ln = tape.function(a, f64::ln, |x| 1.0 / x);
                let power = tape.product(ln, b);
                tape.function(power, f64::exp, f64::exp)
            }),
            _ => ("mul", T64::mul, Tape::product),
        };
        let op = op(
            name,
            move |x| apply(x[0], x[1]),
            move |tape, x| {
                let [a, b] = [x[0], x[1]].map(|x| x.broadcast(&shape));
                Twin::new(&shape, a.ids.iter().zip(&b.ids).map(|(&a, &b)| mirror(tape, a, b)).collect())
            },
        );
        op.map(|op| (op, vec![first, second]))
    }

    /// The same numbers, or some of them, in other places.
    fn view(&mut self, x: &Twin) -> Option<Op> {
        let rank = x.rank();
        match self.draw.below(16) {
            0 | 1 => {
                let (a, b) = (self.axis(x)?, self.axis(x)?);
                let (left, right) = (self.written(a, x), self.written(b, x));
                op(
                    format!("transpose {a} {b}"),
                    move |x| x[0].transpose(left, right),
                    move |_, x| {
                        let mut shape = x[0].shape.clone();
                        shape.swap(a, b);
                        x[0].picked(&shape, |place| {
                            let mut place = place.to_vec();
                            place.swap(a, b);
                            place
                        })
                    },
                )
            }
            2 => {
                let mut axes: Vec<usize> = (0..rank).collect();
                for i in (1..rank).rev() {
                    axes.swap(i, self.draw.below(i + 1));
                }
                let written: Vec<isize> = axes.iter().map(|&axis| self.written(axis, x)).collect();
                op(
                    format!("permute {axes:?}"),
                    move |x| x[0].permute(&written),
                    move |_, x| {
                        let shape: Vec<usize> = axes.iter().map(|&axis| x[0].shape[axis]).collect();
                        x[0].picked(&shape, |place| {
                            let mut from = vec![0; place.len()];
                            axes.iter().zip(place).for_each(|(&axis, &i)| from[axis] = i);
                            from
                        })
                    },
                )
            }
            3 | 4 => {
                let axis = self.axis(x)?;
                let (start, written) = (self.draw.below(x.shape[axis] + 1), self.written(axis, x));
                let len = self.draw.below(x.shape[axis] - start + 1);
                op(
                    format!("slice {axis} {start} {len}"),
                    move |x| x[0].slice(written, start..start + len),
                    move |_, x| x[0].along(axis, len, |i| i + start),
                )
            }
            5 => {
                self.axis(x)?;
                let (start, by) = (self.draw.below(x.shape[0] + 1), 1 + self.draw.below(3));
                let len = (x.shape[0] - start).div_ceil(by);
                op(
                    format!("every {by} from {start}"),
                    move |x| x[0].index(step(start as isize.., by)),
                    move |_, x| x[0].along(0, len, |i| start + i * by),
                )
            }
            6 => {
                let axis = self.axis(x).filter(|&axis| x.shape[axis] > 0)?;
                let (i, written) = (self.draw.below(x.shape[axis]), self.written(axis, x));
                op(
                    format!("select {axis} {i}"),
                    move |x| x[0].select(written, i as isize),
                    move |_, x| {
                        let shape = [&x[0].shape[..axis], &x[0].shape[axis + 1..]].concat();
                        x[0].picked(&shape, |place| [&place[..axis], &[i], &place[axis..]].concat())
                    },
                )
            }
            7 if rank >= 2 => {
                let (rows, cols) = (x.shape[rank - 2], x.shape[rank - 1]);
                let offset = self.draw.below(rows + cols + 1) as isize - rows as isize;
                let (down, right) = (offset.min(0).unsigned_abs(), offset.max(0).unsigned_abs());
                let len = (rows - down).min(cols - right);
                op(
                    format!("diagonal {offset}"),
                    move |x| x[0].diagonal(offset),
                    move |_, x| {
                        let shape = [&x[0].shape[..rank - 2], &[len]].concat();
                        x[0].picked(&shape, |place| {
                            let i = place[rank - 2];
                            [&place[..rank - 2], &[i + down, i + right]].concat()
                        })
                    },
                )
            }
            8 | 9 => {
                // Factors in another order.
                let mut shape = vec![x.ids.len()];
                for factor in [2, 3, 2, 5] {
                    let last = shape[shape.len() - 1];
                    if last > 0 && last % factor == 0 && self.draw.flip() {
                        shape.insert(0, factor);
                        *shape.last_mut().expect("it has an axis") /= factor;
                    }
                }
                if x.ids.len() == 1 && self.draw.flip() {
                    shape.clear();
                }
                let to = shape.clone();
                op(
                    format!("reshape {shape:?}"),
                    move |x| x[0].reshape(&to),
                    move |_, x| Twin::new(&shape, x[0].ids.clone()),
                )
            }
            10 if rank < 4 => {
                let axis = self.draw.below(rank + 1);
                op(
                    format!("unsqueeze {axis}"),
                    move |x| x[0].unsqueeze(axis as isize),
                    move |_, x| {
                        let shape = [&x[0].shape[..axis], &[1], &x[0].shape[axis..]].concat();
                        Twin::new(&shape, x[0].ids.clone())
                    },
                )
            }
            11 => {
                let lens: Vec<usize> = x.shape.iter().map(|&len| if len == 1 { 3 } else { len }).collect();
                let shape = if rank < 3 { [&[2], &lens[..]].concat() } else { lens };
                let to = shape.clone();
                op(
                    format!("broadcast {shape:?}"),
                    move |x| x[0].broadcast_to(&to),
                    move |_, x| x[0].broadcast(&shape),
                )
            }
            12 => {
                let axis = self.axis(x)?;
                let (written, len) = (self.written(axis, x), x.shape[axis]);
                if self.draw.flip() {
                    return op(
                        format!("flip {axis}"),
                        move |x| x[0].flip(&[written]),
                        move |_, x| x[0].along(axis, len, |i| len - 1 - i),
                    );
                }
                let shift = self.draw.below(9) as isize - 4;
                op(
                    format!("roll {axis} by {shift}"),
                    move |x| x[0].roll(shift, written),
                    move |_, x| {
                        x[0].along(axis, len, |i| (i as isize - shift).rem_euclid(len as isize) as usize)
                    },
                )
            }
            13 => {
                let axis = self.axis(x).filter(|&axis| x.shape[axis] > 0)?;
                let (written, count) = (self.written(axis, x), self.draw.below(5));
                let indices = self.indices(count, x.shape[axis]);
                let to = indices.clone();
                op(
                    format!("index_select {axis} {indices:?}"),
                    move |x| x[0].index_select(written, &to),
                    move |_, x| x[0].along(axis, indices.len(), |i| indices[i]),
                )
            }
            14 => {
                let axis = self.axis(x).filter(|_| !x.ids.is_empty())?;
                let written = self.written(axis, x);
                let shape = x.with_axis(axis, 1 + self.draw.below(3));
                let indices = self.indices(shape.iter().product(), x.shape[axis]);
                let to = indices.clone();
                op(
                    format!("gather {axis} {indices:?}"),
                    move |x| x[0].gather(written, &to),
                    move |_, x| {
                        let from = |(mut place, &i): (Vec<usize>, &usize)| {
                            place[axis] = i;
                            x[0].at(&place)
                        };
                        Twin::new(&shape, places(&shape).into_iter().zip(&indices).map(from).collect())
                    },
                )
            }
            _ => op("contiguous", |x| x[0].contiguous(), |_, x| x[0].clone()),
        }
    }

    /// Fewer numbers.
    fn reduction(&mut self, x: &Twin) -> Option<Op> {
        let (axes, written) = self.axes(x);
        let (keep, kind) = (self.draw.flip(), self.draw.below(12));
        let count: usize = axes.iter().map(|&axis| x.shape[axis]).product();
        let tape = self.tape;
        // Whether something holds for the values of each result.
        let each = |holds: &dyn Fn(&[f64]) -> bool| {
            let mut all = true;
            x.reduced(&axes, true, |ids| {
                let values: Vec<f64> = ids.iter().map(|&id| tape.value(id)).collect();
                all &= holds(&values);
                0
            });
            all
        };
        let first_alone = |x: &[f64]| {
            let mut sorted = x.to_vec();
            sorted.sort_by(f64::total_cmp);
            sorted.len() < 2 || off(sorted[0], sorted[1])
        };
        let negated = |x: &[f64]| -> Vec<f64> { x.iter().map(|x| -x).collect() };
        let what = |name: &str| format!("{name} {axes:?} {keep}");
        let over = axes.clone();
        match kind {
            0 | 1 => op(
                what("sum"),
                move |x| x[0].sum_axes(&written, keep),
                move |tape, x| x[0].reduced(&over, keep, |ids| tape.sum(ids)),
            ),
            2 if count > 0 => op(
                what("mean"),
                move |x| x[0].mean_axes(&written, keep),
                move |tape, x| x[0].reduced(&over, keep, |ids| mean(tape, ids)),
            ),
            3 if count > 1 => {
                let correction = self.draw.below(2);
                op(
                    what("var"),
                    move |x| x[0].var_axes(&written, correction, keep),
                    move |tape, x| x[0].reduced(&over, keep, |ids| variance(tape, ids, correction)),
                )
            }
            4 if count > 1 && each(&|x| spread(x) > 0.05) => {
                let correction = self.draw.below(2);
                op(
                    what("std"),
                    move |x| x[0].std_axes(&written, correction, keep),
                    move |tape, x| {
                        x[0].reduced(&over, keep, |ids| {
                            let variance = variance(tape, ids, correction);
                            root(tape, variance)
                        })
                    },
                )
            }
            5 if count > 0 && each(&|x| first_alone(&negated(x))) => op(
                what("max"),
                move |x| x[0].max_axes(&written, keep),
                move |tape, x| {
                    let larger =
                        |tape: &Tape, a: Id, b: Id| if tape.value(b) > tape.value(a) { b } else { a };
                    x[0].reduced(&over, keep, |ids| ids[1..].iter().fold(ids[0], |a, &b| larger(tape, a, b)))
                },
            ),
            6 if count > 0 && each(&first_alone) => op(
                what("min"),
                move |x| x[0].min_axes(&written, keep),
                move |tape, x| {
                    let smaller =
                        |tape: &Tape, a: Id, b: Id| if tape.value(b) < tape.value(a) { b } else { a };
                    x[0].reduced(&over, keep, |ids| ids[1..].iter().fold(ids[0], |a, &b| smaller(tape, a, b)))
                },
            ),
            7 => op(
                what("prod"),
                move |x| x[0].prod_axes(&written, keep),
                move |tape, x| {
                    x[0].reduced(&over, keep, |ids| {
                        let one = tape.constant(1.0);
                        ids.iter().fold(one, |product, &id| tape.product(product, id))
                    })
                },
            ),
            8 if each(&|x| x.iter().map(|x| x * x).sum::<f64>() > 0.05) => op(
                what("norm"),
                move |x| x[0].norm_axes(Norm::L2, &written, keep),
                move |tape, x| {
                    x[0].reduced(&over, keep, |ids| {
                        let squares: Vec<Id> = ids.iter().map(|&id| tape.product(id, id)).collect();
                        let sum = tape.sum(&squares);
                        root(tape, sum)
                    })
                },
            ),
            9 if count > 0 => op(
                what("logsumexp"),
                move |x| x[0].logsumexp_axes(&written, keep),
                move |tape, x| x[0].reduced(&over, keep, |ids| logsumexp(tape, ids)),
            ),
            _ => {
                let all: Vec<usize> = (0..x.rank()).collect();
                op("sum", |x| x[0].sum(), move |tape, x| x[0].reduced(&all, false, |ids| tape.sum(ids)))
            }
        }
    }

    /// Along one axis.
    fn along(&mut self, x: &Twin) -> Option<Op> {
        let axis = self.axis(x).filter(|&axis| x.shape[axis] > 0)?;
        let written = self.written(axis, x);
        type Apply = fn(&T64, isize) -> Result<T64>;
        type Row = fn(&mut Tape, &[Id]) -> Vec<Id>;
        let (name, apply, row): (_, Apply, Row) = match self.draw.below(4) {
            0 => ("softmax", T64::softmax, |tape, x| {
                let logs = log_softmax(tape, x);
                logs.into_iter().map(|x| tape.function(x, f64::exp, f64::exp)).collect()
            }),
            1 => ("log_softmax", T64::log_softmax, log_softmax),
            2 => {
                return op(
                    format!("logsumexp {axis}"),
                    move |x| x[0].logsumexp(written),
                    move |tape, x| x[0].reduced(&[axis], false, |ids| logsumexp(tape, ids)),
                );
            }
            _ => ("cumsum", T64::cumsum, |tape, x| (1..=x.len()).map(|n| tape.sum(&x[..n])).collect()),
        };
        op(
            format!("{name} {axis}"),
            move |x| apply(x[0], written),
            move |tape, x| {
                let rows: Vec<_> = x[0].rows(axis).iter().map(|ids| row(tape, ids)).collect();
                Twin::from_rows(&x[0].shape, axis, &rows)
            },
        )
    }

    /// Matrix products.
    fn product(&mut self, first: usize) -> Option<(Op, Vec<usize>)> {
        let x = self.pool[first];
        if x.rank() < 2 {
            let second = self.find(|y| x.rank() == 1 && y.shape == x.shape)?;
            let op = op(
                "dot",
                |x| x[0].dot(x[1]),
                |tape, x| Twin::new(&[], vec![inner_product(tape, &x[0].ids, &x[1].ids)]),
            );
            return op.map(|op| (op, vec![first, second]));
        }
        let (batch, [rows, inner]) =
            (x.shape[..x.rank() - 2].to_vec(), [x.shape[x.rank() - 2], x.shape[x.rank() - 1]]);
        let fits = |y: &Twin| {
            y.rank() >= 2
                && y.shape[y.rank() - 2] == inner
                && common(&batch, &y.shape[..y.rank() - 2]).is_some()
        };
        // With what fits, else with itself turned.
        let (second, turned) = match self.find(fits) {
            Some(second) if self.draw.below(4) > 0 => (second, false),
            _ => (first, true),
        };
        let weight = self.find(|y| y.rank() == 2 && y.shape[1] == inner);
        if let Some(weight) = weight.filter(|_| self.draw.below(3) == 0) {
            let bias = self.find(|y| y.shape == self.pool[weight].shape[..1]);
            let op = op(
                "linear",
                |x| x[0].linear(x[1], x.get(2).copied()),
                move |tape, x| {
                    let outputs = x[1].shape[0];
                    let shape = x[0].with_axis(x[0].rank() - 1, outputs);
                    let rows = x[0].rows(x[0].rank() - 1);
                    let number = |tape: &mut Tape, row: &[Id], i: usize| {
                        let sum = inner_product(tape, row, &x[1].ids[i * inner..][..inner]);
                        x.get(2).map_or(sum, |bias| tape.sum(&[sum, bias.ids[i]]))
                    };
                    let ids = rows.iter().flat_map(|row| (0..outputs).map(move |i| (row, i)));
                    let ids: Vec<(&Vec<Id>, usize)> = ids.collect();
                    Twin::new(&shape, ids.into_iter().map(|(row, i)| number(tape, row, i)).collect())
                },
            );
            return op.map(|op| (op, [first, weight].into_iter().chain(bias).collect()));
        }
        let y = self.pool[second];
        let cols = if turned { rows } else { y.shape[y.rank() - 1] };
        let batch = common(&batch, &y.shape[..y.rank() - 2])?;
        let apply = move |x: &[&T64]| {
            if turned { x[0].matmul(&x[0].transpose(-1, -2)?) } else { x[0].matmul(x[1]) }
        };
        let op = op(if turned { "matmul with itself" } else { "matmul" }, apply, move |tape, x| {
            let a = x[0].broadcast(&[&batch[..], &[rows, inner]].concat());
            let b = if turned { a.clone() } else { x[1].broadcast(&[&batch[..], &[inner, cols]].concat()) };
            let shape = [&batch[..], &[rows, cols]].concat();
            let number = |place: &Vec<usize>| {
                let [outer @ .., i, j] = &place[..] else { unreachable!("a product has two axes") };
                let row: Vec<Id> = (0..inner).map(|k| a.at(&[outer, &[*i, k]].concat())).collect();
                let of = |k| {
                    if turned { b.at(&[outer, &[*j, k]].concat()) } else { b.at(&[outer, &[k, *j]].concat()) }
                };
                let col: Vec<Id> = (0..inner).map(of).collect();
                inner_product(tape, &row, &col)
            };
            Twin::new(&shape, places(&shape).iter().map(number).collect())
        });
        op.map(|op| (op, vec![first, second]))
    }

    /// Normalising operations and losses.
    fn norm(&mut self, first: usize) -> Option<(Op, Vec<usize>)> {
        const EPS: f64 = 0.03;
        let x = self.pool[first];
        let &last = x.shape.last().filter(|_| !x.ids.is_empty())?;
        let vector = |scene: &mut Self| scene.find(|y| y.shape == [last]);
        let affine = vector(self).zip(vector(self)).filter(|_| self.draw.below(3) > 0);
        let inputs = affine.map_or(vec![first], |(gamma, beta)| vec![first, gamma, beta]);
        let axis = x.rank() - 1;
        let normalised = move |tape: &mut Tape, x: &[&Twin], along: usize| {
            let row = |ids: &Vec<Id>| {
                let (mean, variance) = (mean(tape, ids), variance(tape, ids, 0));
                let scale = rstd(tape, variance, EPS);
                ids.iter()
                    .map(|&id| {
                        let centred = tape.difference(id, mean);
                        tape.product(centred, scale)
                    })
                    .collect()
            };
            let rows: Vec<Vec<Id>> = x[0].rows(along).iter().map(row).collect();
            let y = Twin::from_rows(&x[0].shape, along, &rows);
            let [_, gamma, beta] = x else { return y };
            let affine = |(i, &id): (usize, &Id)| {
                let scaled = tape.product(id, gamma.ids[i % last]);
                tape.sum(&[scaled, beta.ids[i % last]])
            };
            Twin::new(&y.shape, y.ids.iter().enumerate().map(affine).collect())
        };
        fn affine_of<'a>(x: &[&'a T64]) -> Option<(&'a T64, &'a T64)> {
            x.get(1).map(|gamma| (*gamma, x[2]))
        }
        let op = match self.draw.below(6) {
            0 | 1 => op(
                "layer_norm",
                |x| x[0].layer_norm(affine_of(x), EPS),
                move |tape, x| normalised(tape, x, axis),
            ),
            2 if x.rank() == 2 && x.shape[0] > 1 => op(
                "batch_norm",
                |x| x[0].batch_norm(affine_of(x), BatchStatistics::Batch(None), EPS),
                move |tape, x| normalised(tape, x, 0),
            ),
            3 if x.rank() == 2 => {
                let targets = self.indices(x.shape[0], last);
                let to = targets.clone();
                let op = op(
                    format!("cross_entropy {targets:?}"),
                    move |x| x[0].cross_entropy(&to),
                    move |tape, x| {
                        let row = |(ids, &target): (&[Id], &usize)| {
                            let sum = logsumexp(tape, ids);
                            tape.difference(sum, ids[target])
                        };
                        let losses: Vec<Id> = x[0].ids.chunks(last).zip(&targets).map(row).collect();
                        Twin::new(&[], vec![mean(tape, &losses)])
                    },
                );
                return op.map(|op| (op, vec![first]));
            }
            4 => {
                let target = self.find(|y| y.shape == x.shape)?;
                let op = op(
                    "mse_loss",
                    |x| x[0].mse_loss(x[1], Reduction::Mean),
                    |tape, x| {
                        let square = |(&a, &b): (&Id, &Id)| {
                            let off = tape.difference(a, b);
                            tape.product(off, off)
                        };
                        let squares: Vec<Id> = x[0].ids.iter().zip(&x[1].ids).map(square).collect();
                        Twin::new(&[], vec![mean(tape, &squares)])
                    },
                );
                return op.map(|op| (op, vec![first, target]));
            }
            _ => op(
                "rms_norm",
                |x| x[0].rms_norm(x.get(1).copied(), Some(EPS)),
                move |tape, x| {
                    let row = |ids: &Vec<Id>| {
                        let squares: Vec<Id> = ids.iter().map(|&id| tape.product(id, id)).collect();
                        let mean = mean(tape, &squares);
                        let scale = rstd(tape, mean, EPS);
                        ids.iter().map(|&id| tape.product(id, scale)).collect::<Vec<Id>>()
                    };
                    let rows: Vec<Vec<Id>> = x[0].rows(axis).iter().map(row).collect();
                    let y = Twin::from_rows(&x[0].shape, axis, &rows);
                    let Some(gamma) = x.get(1) else { return y };
                    let scaled = |(i, &id): (usize, &Id)| tape.product(id, gamma.ids[i % last]);
                    Twin::new(&y.shape, y.ids.iter().enumerate().map(scaled).collect())
                },
            ),
        };
        // The shift of `rms_norm` is none of its inputs.
        let op = op?;
        let wanted = if op.what == "rms_norm" { inputs[..inputs.len().min(2)].to_vec() } else { inputs };
        Some((op, wanted))
    }

    /// Of several tensors.
    fn many(&mut self, first: usize) -> Option<(Op, Vec<usize>)> {
        let x = self.pool[first];
        match self.draw.below(8) {
            0..3 => {
                let axis = self.axis(x)?;
                let joins = |y: &Twin| y.rank() == x.rank() && y.with_axis(axis, 0) == x.with_axis(axis, 0);
                let others = [self.find(joins)?, self.find(joins)?];
                let inputs = [&[first], &others[..self.draw.below(3)]].concat();
                let written = self.written(axis, x);
                let op = op(
                    format!("concat {axis}"),
                    move |x| T64::concat(x, written),
                    move |_, x| {
                        let rows: Vec<Vec<Vec<Id>>> = x.iter().map(|x| x.rows(axis)).collect();
                        let len = x.iter().map(|x| x.shape[axis]).sum();
                        let joined =
                            |i: usize| rows.iter().flat_map(|rows: &Vec<Vec<Id>>| rows[i].clone()).collect();
                        let joined: Vec<Vec<Id>> = (0..rows[0].len()).map(joined).collect();
                        Twin::from_rows(&x[0].with_axis(axis, len), axis, &joined)
                    },
                );
                op.map(|op| (op, inputs))
            }
            3 => {
                let second = self.find(|y| y.shape == x.shape)?;
                let op = op(
                    "stack",
                    |x| T64::stack(x, 0),
                    |_, x| {
                        let shape = [&[x.len()], &x[0].shape[..]].concat();
                        Twin::new(&shape, x.iter().flat_map(|x| x.ids.clone()).collect())
                    },
                );
                op.map(|op| (op, vec![first, second]))
            }
            4 => {
                let second = self.find(|y| common(&x.shape, &y.shape).is_some())?;
                let shape = common(&x.shape, &self.pool[second].shape)?;
                let bits: Vec<bool> = (0..shape.iter().product()).map(|_| self.draw.flip()).collect();
                let mask: Vec<f64> = bits.iter().map(|&bit| f64::from(bit)).collect();
                let mask = Tensor::from_slice(&mask, &shape).ok()?;
                let op = op(
                    format!("where {bits:?}"),
                    move |x| mask.where_cond(x[0], x[1]),
                    move |_, x| {
                        let [a, b] = [x[0], x[1]].map(|x| x.broadcast(&shape).ids);
                        let choose = |(i, &bit): (usize, &bool)| if bit { a[i] } else { b[i] };
                        Twin::new(&shape, bits.iter().enumerate().map(choose).collect())
                    },
                );
                op.map(|op| (op, vec![first, second]))
            }
            5 => {
                let bits: Vec<bool> = x.ids.iter().map(|_| self.draw.flip()).collect();
                let mask: Vec<f64> = bits.iter().map(|&bit| f64::from(bit)).collect();
                let mask = Tensor::from_slice(&mask, &x.shape).ok()?;
                let chosen = if self.draw.flip() {
                    op(
                        format!("masked_fill {bits:?}"),
                        move |x| x[0].masked_fill(&mask, 0.5),
                        move |tape, x| {
                            let half = tape.constant(0.5);
                            let fill = |(&id, &bit): (&Id, &bool)| if bit { half } else { id };
                            Twin::new(&x[0].shape, x[0].ids.iter().zip(&bits).map(fill).collect())
                        },
                    )
                } else {
                    op(
                        format!("masked_select {bits:?}"),
                        move |x| x[0].masked_select(&mask),
                        move |_, x| {
                            let pairs = x[0].ids.iter().zip(&bits);
                            let ids: Vec<Id> = pairs.filter(|(_, bit)| **bit).map(|(&id, _)| id).collect();
                            Twin::new(&[ids.len()], ids)
                        },
                    )
                };
                chosen.map(|op| (op, vec![first]))
            }
            6 => {
                let axis = self.axis(x).filter(|&axis| x.shape[axis] > 0)?;
                let second =
                    self.find(|y| y.rank() == x.rank() && y.with_axis(axis, 0) == x.with_axis(axis, 0))?;
                let indices = self.indices(self.pool[second].shape[axis], x.shape[axis]);
                let (written, to) = (self.written(axis, x), indices.clone());
                let apply = move |x: &[&T64]| x[0].index_add(written, &to, x[1]);
                let op = op(format!("index_add {axis} {indices:?}"), apply, move |tape, x| {
                    let (mut rows, more) = (x[0].rows(axis), x[1].rows(axis));
                    for (row, more) in rows.iter_mut().zip(&more) {
                        for (&i, &id) in indices.iter().zip(more) {
                            row[i] = tape.sum(&[row[i], id]);
                        }
                    }
                    Twin::from_rows(&x[0].shape, axis, &rows)
                });
                op.map(|op| (op, vec![first, second]))
            }
            _ => {
                let axis = self.axis(x).filter(|&axis| x.shape[axis] > 0)?;
                let second =
                    self.find(|y| y.rank() == x.rank() && y.with_axis(axis, 0) == x.with_axis(axis, 0))?;
                let (adds, written) = (self.draw.flip(), self.written(axis, x));
                let y = self.pool[second];
                let indices = self.indices(y.ids.len(), x.shape[axis]);
                let to = indices.clone();
                let apply = move |x: &[&T64]| match adds {
                    true => x[0].scatter_add(written, &to, x[1]),
                    false => x[0].scatter(written, &to, x[1]),
                };
                let op = op(format!("scatter, adds {adds}, {axis} {indices:?}"), apply, move |tape, x| {
                    let mut ids = x[0].ids.clone();
                    let offset =
                        |place: &[usize]| place.iter().zip(&x[0].shape).fold(0, |at, (i, len)| at * len + i);
                    for ((mut place, &i), &id) in places(&x[1].shape).into_iter().zip(&indices).zip(&x[1].ids)
                    {
                        place[axis] = i;
                        let at = offset(&place);
                        ids[at] = if adds { tape.sum(&[ids[at], id]) } else { id };
                    }
                    Twin::new(&x[0].shape, ids)
                });
                op.map(|op| (op, vec![first, second]))
            }
        }
    }

    /// The same numbers without a past, or with some of them gone.
    fn cut(&mut self, x: &Twin) -> Option<Op> {
        if x.rank() >= 2 && self.draw.flip() {
            let (rank, lower) = (x.rank(), self.draw.flip());
            let diagonal = self.draw.below(7) as isize - 3;
            let apply = move |x: &[&T64]| if lower { x[0].tril(diagonal) } else { x[0].triu(diagonal) };
            return op(format!("triangle {lower} {diagonal}"), apply, move |tape, x| {
                let zero = tape.constant(0.0);
                let number = |(place, &id): (Vec<usize>, &Id)| {
                    let right = place[rank - 1] as isize - place[rank - 2] as isize;
                    let stays = if lower { right <= diagonal } else { right >= diagonal };
                    if stays { id } else { zero }
                };
                Twin::new(&x[0].shape, places(&x[0].shape).into_iter().zip(&x[0].ids).map(number).collect())
            });
        }
        let op = op("detach", |x| Ok(x[0].detach()), |tape, x| x[0].map(|&id| tape.detached(id)));
        op.map(|op| Op { cuts: true, ..op })
    }
}

fn spread(x: &[f64]) -> f64 {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / x.len() as f64
}

fn mean(tape: &mut Tape, ids: &[Id]) -> Id {
    let sum = tape.sum(ids);
    tape.scaled(sum, 1.0 / ids.len() as f64)
}

fn variance(tape: &mut Tape, ids: &[Id], correction: usize) -> Id {
    let mean = mean(tape, ids);
    let square = |&id: &Id| {
        let centred = tape.difference(id, mean);
        tape.product(centred, centred)
    };
    let squares: Vec<Id> = ids.iter().map(square).collect();
    let sum = tape.sum(&squares);
    tape.scaled(sum, 1.0 / (ids.len() - correction) as f64)
}

fn root(tape: &mut Tape, x: Id) -> Id {
    tape.function(x, f64::sqrt, |x| 0.5 / x.sqrt())
}

/// `1 / √(x + eps)`.
fn rstd(tape: &mut Tape, x: Id, eps: f64) -> Id {
    tape.function(x, |x| 1.0 / (x + eps).sqrt(), |x| -0.5 / ((x + eps) * (x + eps).sqrt()))
}

fn logsumexp(tape: &mut Tape, ids: &[Id]) -> Id {
    let max = ids.iter().map(|&id| tape.value(id)).fold(f64::NEG_INFINITY, f64::max);
    let (max, minus) = (tape.constant(max), tape.constant(-max));
    let exp = |&id: &Id| {
        let x = tape.sum(&[id, minus]);
        tape.function(x, f64::exp, f64::exp)
    };
    let exps: Vec<Id> = ids.iter().map(exp).collect();
    let sum = tape.sum(&exps);
    let ln = tape.function(sum, f64::ln, |x| 1.0 / x);
    tape.sum(&[max, ln])
}

fn log_softmax(tape: &mut Tape, ids: &[Id]) -> Vec<Id> {
    let sum = logsumexp(tape, ids);
    ids.iter().map(|&id| tape.difference(id, sum)).collect()
}

fn inner_product(tape: &mut Tape, a: &[Id], b: &[Id]) -> Id {
    let products: Vec<Id> = a.iter().zip(b).map(|(&a, &b)| tape.product(a, b)).collect();
    tape.sum(&products)
}
