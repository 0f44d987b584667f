//! Arithmetic of two tensors with NumPy broadcasting, and of a tensor and a number.

use std::ops;

use super::{Backward, Op};
use crate::autograd::{Gradients, Parent, record};
use crate::error::Result;
use crate::kernels::map::{self, Binary};
use crate::kernels::pow;
use crate::simd::Element;
use crate::tensor::{MAX_RANK, Shape, Tensor};

pub(crate) struct BinaryOp<T: Element> {
    op: Binary,
    operands: Operands<T>,
    parents: [Parent; 2],
}

/// Sums and differences need no numbers for their gradients.
enum Operands<T: Element> {
    Shapes(Shape, Shape),
    Tensors(Tensor<T>, Tensor<T>),
}

impl<T: Element> Backward<T> for BinaryOp<T> {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        let Self { op, operands, parents } = self;
        let (a, b) = match operands {
            &Operands::Shapes(da, db) => {
                gradients.add(parents[0], || dy.sum_to(da))?;
                return gradients.add(parents[1], || {
                    if *op == Binary::Sub { dy.neg()?.sum_to(db) } else { dy.sum_to(db) }
                });
            }
            Operands::Tensors(a, b) => (a, b),
        };
        let (da, db) = (a.dims(), b.dims());
        match op {
            Binary::Add | Binary::Sub => unreachable!("these keep shapes"),
            Binary::Mul => {
                gradients.add(parents[0], || apply(Binary::Mul, &dy, b)?.sum_to(da))?;
                gradients.add(parents[1], || apply(Binary::Mul, &dy, a)?.sum_to(db))
            }
            Binary::Div => {
                gradients.add(parents[0], || apply(Binary::Div, &dy, b)?.sum_to(da))?;
                gradients.add(parents[1], || {
                    let quotient = apply(Binary::Div, a, b)?;
                    apply(Binary::Div, &apply(Binary::Mul, &dy, &quotient)?, b)?.neg()?.sum_to(db)
                })
            }
            Binary::Pow => {
                let shape = Shape::broadcast("pow", &da, &db)?;
                let [a, b, dy] = [a, b, &dy].map(|x| x.view_broadcast(shape).compact());
                gradients.add(parents[0], || {
                    Tensor::build(shape, |to| {
                        pow::BaseBackward { a: a.data(), b: b.data(), dy: dy.data(), da: to }.run()
                    })?
                    .sum_to(da)
                })?;
                gradients.add(parents[1], || {
                    let y = apply(Binary::Pow, &a, &b)?;
                    let gradient = |to: &mut [T]| {
                        pow::ExponentBackward { a: a.data(), b: b.data(), y: y.data(), dy: dy.data(), db: to }
                            .run()
                    };
                    Tensor::build(shape, gradient)?.sum_to(db)
                })
            }
            // The gradient goes to the chosen operand; if the two are equal, each gets half of it, as in
            // PyTorch.
            Binary::Min | Binary::Max => {
                let (ones, shape) = (T::ONE, Shape::broadcast("maximum", &da, &db)?);
                let (wide_a, wide_b) = (a.view_broadcast(shape).compact(), b.view_broadcast(shape).compact());
                let share = |this: &Tensor<T>, other: &Tensor<T>| {
                    Tensor::build(shape, |out| {
                        for ((out, &this), &other) in out.iter_mut().zip(this.data()).zip(other.data()) {
                            let wins = if *op == Binary::Max { this > other } else { this < other };
                            *out = match (wins || this.is_nan(), this == other) {
                                (true, _) => ones,
                                (_, true) => ones / (ones + ones),
                                _ => T::ZERO,
                            };
                        }
                        Ok(())
                    })
                };
                gradients
                    .add(parents[0], || apply(Binary::Mul, &dy, &share(&wide_a, &wide_b)?)?.sum_to(da))?;
                gradients.add(parents[1], || apply(Binary::Mul, &dy, &share(&wide_b, &wide_a)?)?.sum_to(db))
            }
        }
    }
}

/// Chooses the kernel by how the shapes broadcast: equal shapes, a scalar, a row, a column, or otherwise
/// repeated copies.
fn apply<T: Element>(op: Binary, a: &Tensor<T>, b: &Tensor<T>) -> Result<Tensor<T>> {
    if a.dims() == b.dims() {
        let (a, b) = (a.dense(), b.dense());
        return Tensor::build(a.dims(), |y| map::binary(op, a.data(), b.data(), y));
    }
    let shape = Shape::broadcast(name(op), &a.dims(), &b.dims())?;
    let spread =
        |x: &Tensor<T>| if x.dims() == shape { x.compact() } else { x.view_broadcast(shape).compact() };
    if shape.elements() == 0 {
        return Ok(spread(a));
    }
    if a.dims() == shape && b.dims() != shape {
        let (wide, narrow) = (a.compact(), b.compact());
        let dims = narrow.shape();
        // Leading axes of length 1 aside, a row consists of the last axes of the shape; a column has length 1
        // in all later axes.
        let leading = dims.iter().take_while(|&&dim| dim == 1).count();
        let trailing = dims.iter().rev().take_while(|&&dim| dim == 1).count();
        if narrow.len() == 1 {
            return Tensor::build(shape, |y| map::binary_scalar(op, wide.data(), narrow.data()[0], y));
        }
        if shape.ends_with(&dims[leading..]) {
            return Tensor::build(shape, |y| map::binary_row(op, wide.data(), narrow.data(), y));
        }
        if dims.len() == shape.len() && shape.starts_with(&dims[..dims.len() - trailing]) {
            return Tensor::build(shape, |y| map::binary_col(op, wide.data(), narrow.data(), y));
        }
    }
    if b.dims() == shape && a.len() == 1 {
        let (a, b) = (a.compact(), b.compact());
        return Tensor::build(shape, |y| map::scalar_binary(op, a.data()[0], b.data(), y));
    }
    let (a, b) = (spread(a), spread(b));
    Tensor::build(shape, |y| map::binary(op, a.data(), b.data(), y))
}

fn name(op: Binary) -> &'static str {
    match op {
        Binary::Add => "add",
        Binary::Sub => "sub",
        Binary::Mul => "mul",
        Binary::Div => "div",
        Binary::Min => "minimum",
        Binary::Max => "maximum",
        Binary::Pow => "pow",
    }
}

impl<T: Element> Tensor<T> {
    #[track_caller]
    fn binary(&self, op: Binary, other: &Self) -> Result<Self> {
        let y = apply(op, self, other)?;
        record(name(op), y, [self, other], |parents, _| {
            let operands = match op {
                Binary::Add | Binary::Sub => Operands::Shapes(self.dims(), other.dims()),
                _ => Operands::Tensors(self.detach(), other.detach()),
            };
            Op::Binary(BinaryOp { op, operands, parents })
        })
    }

    /// Sums over the axes along which a tensor of `shape` was broadcast to this one.
    pub(crate) fn sum_to(&self, shape: Shape) -> Result<Self> {
        if self.dims() == shape {
            return Ok(self.detach());
        }
        let new = self.rank() - shape.len();
        let stretched = |axis: usize| axis < new || (shape[axis - new] == 1 && self.shape()[axis] != 1);
        let (mut axes, mut count) = ([0; MAX_RANK], 0);
        for axis in (0..self.rank()).filter(|&axis| stretched(axis)) {
            axes[count] = axis as isize;
            count += 1;
        }
        Ok(self.detach().sum_axes(&axes[..count], false)?.view_reshape(shape))
    }
}

macro_rules! binary {
    ($($(#[$doc:meta])+ $name:ident = $op:ident;)+) => {
        impl<T: Element> Tensor<T> {
            $(
                $(#[$doc])+
                ///
                /// # Errors
                /// [`Error::Shape`](crate::Error::Shape) if the shapes cannot be broadcast.
                #[track_caller]
                pub fn $name(&self, other: &Self) -> Result<Self> {
                    self.binary(Binary::$op, other)
                }
            )+
        }
    };
}

binary! {
    /// Elementwise sum with broadcasting.
    add = Add;
    /// Elementwise difference with broadcasting.
    sub = Sub;
    /// Elementwise product with broadcasting.
    mul = Mul;
    /// Elementwise quotient with broadcasting. The gradient of the divisor, `−dy·(a/b)/b`, is accurate as
    /// long as `a/b` and `dy·(a/b)` are normal numbers.
    div = Div;
    /// The smaller of two elements, with broadcasting; NaN if either is NaN.
    minimum = Min;
    /// The larger of two elements, with broadcasting; NaN if either is NaN.
    maximum = Max;
    /// The power `selfᵒᵗʰᵉʳ`, with broadcasting and the special cases of C99. The gradients follow PyTorch:
    /// the base has gradient 0 where the exponent is 0, the exponent has gradient NaN where the base is
    /// negative.
    pow = Pow;
}

/// A tensor and a number.
pub(crate) struct BinaryScalar<T: Element> {
    op: Binary,
    number: T,
    parent: Parent,
}

impl<T: Element> Backward<T> for BinaryScalar<T> {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        gradients.add(self.parent, || match self.op {
            Binary::Mul | Binary::Div => {
                let dy = dy.dense();
                Tensor::build(dy.dims(), |dx| map::binary_scalar(self.op, dy.data(), self.number, dx))
            }
            _ => Ok(dy),
        })
    }
}

macro_rules! scalar {
    ($($(#[$doc:meta])+ $name:ident = $op:ident;)+) => {
        impl<T: Element> Tensor<T> {
            $(
                $(#[$doc])+
                ///
                /// # Errors
                /// [`Error::Setting`](crate::Error::Setting) for an invalid `GRISTMILL_` variable;
                /// [`Error::Autograd`](crate::Error::Autograd) for a tensor recorded on another thread.
                #[track_caller]
                pub fn $name(&self, number: T) -> Result<Self> {
                    let x = self.dense();
                    let compute = |y: &mut [T]| map::binary_scalar(Binary::$op, x.data(), number, y);
                    let y = Tensor::build(x.dims(), compute)?;
                    record(stringify!($name), y, [self], |[parent], _| {
                        Op::BinaryScalar(BinaryScalar { op: Binary::$op, number, parent })
                    })
                }
            )+
        }
    };
}

scalar! {
    /// x + number.
    add_scalar = Add;
    /// x − number.
    sub_scalar = Sub;
    /// x · number.
    mul_scalar = Mul;
    /// x / number.
    div_scalar = Div;
}

/// Unwraps the result of an operator, which cannot return an error.
#[track_caller]
fn expected<T: Element>(result: Result<Tensor<T>>) -> Tensor<T> {
    match result {
        Ok(y) => y,
        // Not in a closure, which would lose the caller's location.
        Err(error) => panic!("{error}"),
    }
}

/// Operators for this combination of left and right operands.
macro_rules! operators_of {
    ($left:ty, $right:ty) => {
        operators_of! { $left, $right: Add add; Sub sub; Mul mul; Div div; }
    };
    ($left:ty, $right:ty: $($trait:ident $method:ident;)+) => { $(
        /// # Panics
        /// If the shapes cannot be broadcast.
        impl<T: Element> ops::$trait<$right> for $left {
            type Output = Tensor<T>;
            #[track_caller]
            fn $method(self, other: $right) -> Tensor<T> {
                expected(Tensor::$method(&self, &other))
            }
        }
    )+ };
}
operators_of! { Tensor<T>, Tensor<T> }
operators_of! { Tensor<T>, &Tensor<T> }
operators_of! { &Tensor<T>, Tensor<T> }
operators_of! { &Tensor<T>, &Tensor<T> }

/// Operators with a tensor on the left and a number on the right.
macro_rules! operators_with_number {
    ($left:ty) => {
        operators_with_number! {
            $left: Add add add_scalar; Sub sub sub_scalar; Mul mul mul_scalar; Div div div_scalar;
        }
    };
    ($left:ty: $($trait:ident $method:ident $scalar:ident;)+) => { $(
        /// # Panics
        /// If the tensor was recorded on another thread.
        impl<T: Element> ops::$trait<T> for $left {
            type Output = Tensor<T>;
            #[track_caller]
            fn $method(self, number: T) -> Tensor<T> {
                expected(self.$scalar(number))
            }
        }
    )+ };
}
operators_with_number! { Tensor<T> }
operators_with_number! { &Tensor<T> }

/// Operators with a number on the left and a tensor on the right.
macro_rules! operators_of_number {
    ($($number:ident $right:ty;)+) => {
        $(operators_of_number! { $number, $right: Add add; Sub sub; Mul mul; Div div; })+
    };
    ($number:ident, $right:ty: $($trait:ident $method:ident;)+) => { $(
        /// # Panics
        /// If the tensor was recorded on another thread.
        impl ops::$trait<$right> for $number {
            type Output = Tensor<$number>;
            #[track_caller]
            fn $method(self, x: $right) -> Tensor<$number> {
                expected(Tensor::$method(&Tensor::scalar(self), &x))
            }
        }
    )+ };
}
operators_of_number! {
    f32 Tensor<f32>;
    f32 &Tensor<f32>;
    f64 Tensor<f64>;
    f64 &Tensor<f64>;
}

macro_rules! negation {
    ($($of:ty),+) => { $(
        /// # Panics
        /// If the tensor was recorded on another thread.
        impl<T: Element> ops::Neg for $of {
            type Output = Tensor<T>;
            #[track_caller]
            fn neg(self) -> Tensor<T> {
                expected(Tensor::neg(&self))
            }
        }
    )+ };
}
negation! { Tensor<T>, &Tensor<T> }
