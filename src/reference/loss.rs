//! Losses of one prediction and one target, and their derivatives with respect to the prediction.

/// `(x − t)²` and `2(x − t)`.
pub fn squared_error(x: f64, target: f64) -> (f64, f64) {
    ((x - target) * (x - target), 2.0 * (x - target))
}

/// `|x − t|` and its sign, which is 0 at 0.
pub fn absolute_error(x: f64, target: f64) -> (f64, f64) {
    let error = x - target;
    (error.abs(), if error == 0.0 { 0.0 } else { error.signum() })
}

/// `(x − t)²/2` up to a distance of `delta`, `delta·(|x − t| − delta/2)` beyond, and the derivative.
pub fn huber(x: f64, target: f64, delta: f64) -> (f64, f64) {
    let error = x - target;
    if error.abs() <= delta {
        (0.5 * error * error, error)
    } else {
        (delta * (error.abs() - 0.5 * delta), error.clamp(-delta, delta))
    }
}

/// `−t·ln σ(x) − (1 − t)·ln(1 − σ(x))` and `σ(x) − t`, where σ(x) = 1/(1 + e⁻ˣ).
pub fn bce_with_logits(x: f64, target: f64) -> (f64, f64) {
    let weight = if x > 0.0 { 1.0 - target } else { target };
    let small = (-x.abs()).exp() / (1.0 + (-x.abs()).exp());
    let slope = if x > 0.0 { (1.0 - target) - small } else { small - target };
    (x.abs() * weight + (-x.abs()).exp().ln_1p(), slope)
}
