//! Shared code of the references of all optimizer rules; each reference is next to its rule, as
//! [`Rule::exact`](crate::kernels::update::Rule::exact).

/// The gradient and the parameter with weight decay: as a penalty, or, decoupled, as a shrinkage. Without a
/// penalty not even `0·p` is added, which would be NaN where p is infinite.
pub fn decayed(lr: f64, weight_decay: f64, coupled: bool, g: f64, p: f64) -> (f64, f64) {
    match coupled {
        true if weight_decay == 0.0 => (g, p),
        true => (g + weight_decay * p, p),
        false => (g, p * (1.0 - lr * weight_decay)),
    }
}

/// The parameter and the state of a step as they are stored: numbers below the smallest normal number of
/// their type become 0 with the same sign.
pub fn stored<const N: usize>(smallest_normal: f64, parts: [f64; N]) -> [f64; N] {
    parts.map(|x| if x.abs() < smallest_normal { 0.0_f64.copysign(x) } else { x })
}
