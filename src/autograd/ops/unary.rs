//! Elementwise functions of one tensor.

use super::{Backward, Op};
use crate::autograd::{Gradients, Parent, record};
use crate::error::{Error, Result};
use crate::kernels::map::{self, Reads, Unary};
use crate::simd::Element;
use crate::tensor::{Numbers, Tensor};

pub(crate) struct UnaryOp<T: Element> {
    op: Unary<T>,
    /// The input or the output, depending on which one the derivative is computed from.
    kept: Option<Numbers<T>>,
    parent: Parent,
}

impl<T: Element> Backward<T> for UnaryOp<T> {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        gradients.add(self.parent, || {
            let dy = dy.dense();
            let kept = self.kept.as_ref().map_or(dy.data(), Numbers::data);
            Tensor::build(dy.dims(), |dx| {
                map::UnaryBackward { op: self.op, x: kept, y: kept, dy: dy.data(), dx }.run()
            })
        })
    }
}

fn finite<T: Element>(op: &'static str, name: &str, value: T) -> Result<()> {
    if value.is_finite() { Ok(()) } else { Err(Error::value(op, format!("{name} {value} is not finite"))) }
}

impl<T: Element> Tensor<T> {
    #[track_caller]
    fn unary(&self, op: Unary<T>) -> Result<Self> {
        self.unary_as(op.name(), op)
    }

    #[track_caller]
    fn unary_as(&self, name: &'static str, op: Unary<T>) -> Result<Self> {
        let x = self.dense();
        let y = Tensor::build(x.dims(), |y| map::unary(op, x.data(), y))?;
        record(name, y, [self], |[parent], y| {
            let kept = match op.backward_reads() {
                Reads::Neither => None,
                Reads::Input => Some(x.numbers()),
                Reads::Output => Some(y.numbers()),
            };
            Op::Unary(UnaryOp { op, kept, parent })
        })
    }
}

macro_rules! methods {
    ($(
        $(#[$doc:meta])+
        $variant:ident $name:ident $({ $($fields:tt)* })? $(($($argument:tt)*))?;
    )+) => {
        $(method!($(#[$doc])+ $variant $name $({ $($fields)* })? $(($($argument)*))?);)+

        /// The methods of a tensor that apply one function and take no other argument, under the functions'
        /// names.
        pub fn unary_functions<T: Element>() -> Vec<(Unary<T>, fn(&Tensor<T>) -> Result<Tensor<T>>)> {
            let all = [$(listed!($variant $name $({ $($fields)* })? $(($($argument)*))?)),+];
            all.into_iter().flatten().collect()
        }
    };
}

macro_rules! method {
    ($(#[$doc:meta])+ $variant:ident $name:ident) => {
        impl<T: Element> Tensor<T> {
            $(#[$doc])+
            ///
            /// # Errors
            /// [`Error::Setting`] for an invalid `GRISTMILL_` variable; [`Error::Autograd`] for a tensor
            /// recorded on another thread.
            #[track_caller]
            pub fn $name(&self) -> Result<Self> {
                self.unary(Unary::$variant)
            }
        }
    };
    // Functions with parameters follow, with the parameters' domains.
    ($($others:tt)+) => {};
}

macro_rules! listed {
    ($variant:ident $name:ident) => {
        Some((Unary::$variant, Tensor::$name as fn(&Tensor<T>) -> Result<Tensor<T>>))
    };
    ($($others:tt)+) => {
        None
    };
}

map::functions!(methods);

impl<T: Element> Tensor<T> {
    /// x where x > 0, else slope · x.
    ///
    /// # Errors
    /// [`Error::Value`] if the slope is not finite.
    #[track_caller]
    pub fn leaky_relu(&self, slope: T) -> Result<Self> {
        finite("leaky_relu", "slope", slope)?;
        self.unary(Unary::LeakyRelu { slope })
    }

    /// x clamped to \[min, max\], max if min > max; the derivative is 1 where min ≤ x ≤ max, else 0,
    /// including at NaN.
    ///
    /// # Errors
    /// [`Error::Value`] if a bound is NaN; with ±∞ there is no bound on that side.
    #[track_caller]
    pub fn clamp(&self, min: T, max: T) -> Result<Self> {
        for (name, end) in [("min", min), ("max", max)] {
            if end.is_nan() {
                return Err(Error::value("clamp", format!("{name} is NaN")));
            }
        }
        self.unary(Unary::Clamp { min, max })
    }

    /// [`clamp`](Self::clamp) to \[−1, 1\], with its derivative: 1 at the bounds, where PyTorch's hardtanh
    /// has 0.
    ///
    /// # Errors
    /// [`Error::Setting`] for an invalid `GRISTMILL_` variable; [`Error::Autograd`] for a tensor recorded on
    /// another thread.
    #[track_caller]
    pub fn hardtanh(&self) -> Result<Self> {
        self.unary_as("hardtanh", Unary::Clamp { min: -T::ONE, max: T::ONE })
    }

    /// x where x > 0, else alpha · (eˣ − 1).
    ///
    /// # Errors
    /// [`Error::Value`] if alpha is not finite.
    #[track_caller]
    pub fn elu(&self, alpha: T) -> Result<Self> {
        finite("elu", "alpha", alpha)?;
        self.unary(Unary::Elu { alpha })
    }

    /// xᵖ; for negative x only integer powers are defined, others return NaN.
    ///
    /// # Errors
    /// [`Error::Setting`] for an invalid `GRISTMILL_` variable; [`Error::Autograd`] for a tensor recorded on
    /// another thread.
    #[track_caller]
    pub fn powf(&self, power: T) -> Result<Self> {
        self.unary(Unary::Powf(power))
    }

    /// xⁿ for an integer n.
    ///
    /// # Errors
    /// [`Error::Setting`] for an invalid `GRISTMILL_` variable; [`Error::Autograd`] for a tensor recorded on
    /// another thread.
    #[track_caller]
    pub fn powi(&self, power: i32) -> Result<Self> {
        self.unary(Unary::Powi(power))
    }
}
