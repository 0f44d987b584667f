//! Elementwise functions of one tensor.

use super::{Backward, Op};
use crate::autograd::{Gradients, Parent, record};
use crate::error::{Error, Result};
use crate::kernels::map::{self, Reads, Unary};
use crate::simd::Element;
use crate::tensor::{Numbers, Tensor};

pub(crate) struct UnaryOp<T: Element> {
    op: Unary<T>,
    /// The input or the output, whichever the derivative is computed from.
    kept: Option<Numbers<T>>,
    parent: Parent,
}

impl<T: Element> Backward<T> for UnaryOp<T> {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        gradients.add(self.parent, || {
            let dy = dy.dense();
            let kept = self.kept.as_ref().map_or(dy.data(), Numbers::data);
            Tensor::build(dy.dims(), |dx| map::unary_backward(self.op, kept, kept, dy.data(), dx))
        })
    }
}

fn finite<T: Element>(op: &'static str, name: &str, value: T) -> Result<()> {
    if value.is_finite() { Ok(()) } else { Err(Error::value(op, format!("{name} {value} is not finite"))) }
}

impl<T: Element> Tensor<T> {
    #[track_caller]
    fn unary(&self, name: &'static str, op: Unary<T>) -> Result<Self> {
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

macro_rules! unary {
    ($($(#[$doc:meta])+ $name:ident = $op:expr;)+) => {
        impl<T: Element> Tensor<T> {
            $(
                $(#[$doc])+
                ///
                /// # Errors
                /// Only those of a bad setting or of recording; see [`Error`](crate::Error).
                #[track_caller]
                pub fn $name(&self) -> Result<Self> {
                    self.unary(stringify!($name), $op)
                }
            )+
        }
    };
}

unary! {
    /// −x.
    neg = Unary::Neg;
    /// |x|; the derivative at 0 is 0.
    abs = Unary::Abs;
    /// max(x, 0); the derivative at 0 is 0.
    relu = Unary::Relu;
    /// Rounded towards −∞; the derivative is 0.
    floor = Unary::Floor;
    /// Rounded towards +∞; the derivative is 0.
    ceil = Unary::Ceil;
    /// The nearest integer, halves to the even one; the derivative is 0.
    round = Unary::Round;
    /// −1, ±0 or 1; the derivative is 0.
    sign = Unary::Sign;
    /// ln(1 / (1 + e⁻ˣ)).
    log_sigmoid = Unary::LogSigmoid;
    /// The error function.
    erf = Unary::Erf;
    /// 1 / (1 + e⁻ˣ).
    sigmoid = Unary::Sigmoid;
    /// The hyperbolic tangent.
    tanh = Unary::Tanh;
    /// x·Φ(x) with the exact normal distribution function (Hendrycks and Gimpel 2016).
    gelu = Unary::Gelu;
    /// GELU by its tanh formula.
    gelu_tanh = Unary::GeluTanh;
    /// x · sigmoid(x).
    silu = Unary::Silu;
    /// ln(1 + eˣ); x itself above 20.
    softplus = Unary::Softplus;
    /// eˣ.
    exp = Unary::Exp;
    /// 2ˣ.
    exp2 = Unary::Exp2;
    /// eˣ − 1, also near 0.
    expm1 = Unary::Expm1;
    /// The binary logarithm.
    log2 = Unary::Log2;
    /// ln(1 + x), also near 0.
    log1p = Unary::Log1p;
    /// 1/√x.
    rsqrt = Unary::Rsqrt;
    /// The natural logarithm.
    ln = Unary::Ln;
    /// The square root.
    sqrt = Unary::Sqrt;
    /// x².
    square = Unary::Square;
    /// 1/x.
    reciprocal = Unary::Reciprocal;
}

impl<T: Element> Tensor<T> {
    /// x where x > 0, else slope · x.
    ///
    /// # Errors
    /// [`Error::Value`] unless the slope is finite.
    #[track_caller]
    pub fn leaky_relu(&self, slope: T) -> Result<Self> {
        finite("leaky_relu", "slope", slope)?;
        self.unary("leaky_relu", Unary::LeakyRelu { slope })
    }

    /// x within \[min, max\], max where min > max; the derivative is 1 where min ≤ x ≤ max, else 0, also at NaN.
    ///
    /// # Errors
    /// [`Error::Value`] if an end is NaN; ±∞ leave a side open.
    #[track_caller]
    pub fn clamp(&self, min: T, max: T) -> Result<Self> {
        for (name, end) in [("min", min), ("max", max)] {
            if end.is_nan() {
                return Err(Error::value("clamp", format!("{name} is NaN")));
            }
        }
        self.unary("clamp", Unary::Clamp { min, max })
    }

    /// [`clamp`](Self::clamp) to \[−1, 1\], with its derivative: 1 at the ends, where PyTorch's hardtanh has 0.
    ///
    /// # Errors
    /// Only those of a bad setting or of recording.
    #[track_caller]
    pub fn hardtanh(&self) -> Result<Self> {
        self.unary("hardtanh", Unary::Clamp { min: -T::ONE, max: T::ONE })
    }

    /// x where x > 0, else alpha · (eˣ − 1).
    ///
    /// # Errors
    /// [`Error::Value`] unless alpha is finite.
    #[track_caller]
    pub fn elu(&self, alpha: T) -> Result<Self> {
        finite("elu", "alpha", alpha)?;
        self.unary("elu", Unary::Elu { alpha })
    }

    /// xᵖ; of a negative x only whole powers exist, others give NaN.
    ///
    /// # Errors
    /// Only those of a bad setting or of recording.
    #[track_caller]
    pub fn powf(&self, power: T) -> Result<Self> {
        self.unary("powf", Unary::Powf(power))
    }
}
