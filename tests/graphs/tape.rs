//! A tape of single numbers, with what rounding may have done to each: the opponent of the crate's tape.

/// Half the distance from 1 to the next number.
const UNIT: f64 = f64::EPSILON / 2.0;
/// Roundings of a function and of its derivative, in units, as generous as any of the crate's documents.
const FUNCTION: f64 = 16.0;

/// The place of a number on the tape.
pub type Id = usize;

/// A number that others were made from.
struct Parent {
    id: Id,
    /// The derivative with respect to it.
    partial: f64,
    error: f64,
}

struct Number {
    value: f64,
    /// How far another way of computing it may be off: to the first order, and of products, which may be of
    /// two zeros, to the second.
    error: f64,
    parents: Vec<Parent>,
}

/// A derivative, and how far it may be off.
#[derive(Clone, Copy, Default)]
pub struct Slope {
    pub value: f64,
    pub error: f64,
}

#[derive(Default)]
pub struct Tape(Vec<Number>);

impl Tape {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Forgets all numbers from the place `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    pub fn value(&self, id: Id) -> f64 {
        self.0[id].value
    }

    pub fn error(&self, id: Id) -> f64 {
        self.0[id].error
    }

    fn push(&mut self, value: f64, error: f64, parents: Vec<Parent>) -> Id {
        self.0.push(Number { value, error, parents });
        self.0.len() - 1
    }

    /// A number given from outside.
    pub fn constant(&mut self, value: f64) -> Id {
        self.push(value, 0.0, Vec::new())
    }

    /// The same number, made from nothing.
    pub fn detached(&mut self, x: Id) -> Id {
        self.push(self.value(x), self.error(x), Vec::new())
    }

    /// The sum in any order.
    pub fn sum(&mut self, terms: &[Id]) -> Id {
        let (mut value, mut size, mut error) = (0.0, 0.0, 0.0);
        for &term in terms {
            value += self.value(term);
            size += self.value(term).abs();
            error += self.error(term);
        }
        let parents = terms.iter().map(|&id| Parent { id, partial: 1.0, error: 0.0 }).collect();
        self.push(value, error + terms.len() as f64 * UNIT * size, parents)
    }

    pub fn product(&mut self, x: Id, y: Id) -> Id {
        let [(a, da), (b, db)] = [x, y].map(|id| (self.value(id), self.error(id)));
        let parents = vec![
            Parent { id: x, partial: b, error: db + UNIT * b.abs() },
            Parent { id: y, partial: a, error: da + UNIT * a.abs() },
        ];
        self.push(a * b, a.abs() * db + b.abs() * da + da * db + UNIT * (a * b).abs(), parents)
    }

    /// `factor · x`.
    pub fn scaled(&mut self, x: Id, factor: f64) -> Id {
        let factor = self.constant(factor);
        self.product(x, factor)
    }

    /// `x − y`.
    pub fn difference(&mut self, x: Id, y: Id) -> Id {
        let minus = self.scaled(y, -1.0);
        self.sum(&[x, minus])
    }

    /// A function with its derivative.
    pub fn function(&mut self, x: Id, f: impl Fn(f64) -> f64, derivative: impl Fn(f64) -> f64) -> Id {
        let (at, error) = (self.value(x), self.error(x));
        let (value, partial) = (f(at), derivative(at));
        let step = 1e-6 * (1.0 + at.abs());
        let curvature = (derivative(at + step) - derivative(at - step)).abs() / (2.0 * step);
        // The terms that a derivative is made of, such as the two of 1 − y².
        let terms = partial.abs() + 1.0 + at.abs();
        let parent = Parent { id: x, partial, error: curvature * error + FUNCTION * UNIT * terms };
        self.push(value, partial.abs() * error + FUNCTION * UNIT * (value.abs() + 1.0), vec![parent])
    }

    /// The derivatives of `Σ seed · root` with respect to all numbers.
    pub fn backward(&self, seeds: &[(Id, f64)]) -> Vec<Slope> {
        struct Sum {
            slope: Slope,
            size: f64,
            terms: f64,
        }
        let mut sums: Vec<Sum> =
            self.0.iter().map(|_| Sum { slope: Slope::default(), size: 0.0, terms: 0.0 }).collect();
        let add = |sums: &mut [Sum], id: Id, value: f64, error: f64| {
            let sum = &mut sums[id];
            sum.slope.value += value;
            sum.slope.error += error;
            sum.size += value.abs();
            sum.terms += 1.0;
        };
        seeds.iter().for_each(|&(root, seed)| add(&mut sums, root, seed, 0.0));
        for id in (0..self.0.len()).rev() {
            let sum = &mut sums[id];
            sum.slope.error += sum.terms * UNIT * sum.size;
            let Slope { value, error } = sum.slope;
            for parent in &self.0[id].parents {
                let term = value * parent.partial;
                let off = error * parent.partial.abs() + value.abs() * parent.error + UNIT * term.abs();
                add(&mut sums, parent.id, term, off);
            }
        }
        sums.into_iter().map(|sum| sum.slope).collect()
    }
}
