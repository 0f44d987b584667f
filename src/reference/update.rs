//! One step of each optimizer for one parameter, as in `torch.optim`.
#![allow(clippy::too_many_arguments, reason = "the hyperparameters by their names, without a type to import")]

/// Adds the penalty `weight_decay` to the gradient, or shrinks the parameter when `decoupled`. Without a penalty not even
/// `0·p` is added, which is NaN where p is infinite.
fn decay(lr: f64, weight_decay: f64, decoupled: bool, g: &mut f64, p: &mut f64) {
    if decoupled {
        *p *= 1.0 - lr * weight_decay;
    } else if weight_decay != 0.0 {
        *g += weight_decay * *p;
    }
}

/// The parameter and the state of a step as they are stored: 0, with its sign, in place of what is below the smallest
/// normal number of their type.
pub fn stored<const N: usize>(smallest_normal: f64, parts: [f64; N]) -> [f64; N] {
    parts.map(|x| if x.abs() < smallest_normal { 0.0_f64.copysign(x) } else { x })
}

/// Stochastic gradient descent; returns the parameter and the momentum buffer.
pub fn sgd(
    lr: f64,
    momentum: f64,
    dampening: f64,
    dampen_first: bool,
    nesterov: bool,
    weight_decay: f64,
    decoupled: bool,
    step: u64,
    mut g: f64,
    mut p: f64,
    mut buffer: f64,
) -> [f64; 2] {
    decay(lr, weight_decay, decoupled, &mut g, &mut p);
    if momentum != 0.0 {
        buffer = if step == 1 && !dampen_first { g } else { momentum * buffer + (1.0 - dampening) * g };
        g = if nesterov { g + momentum * buffer } else { buffer };
    }
    [p - lr * g, buffer]
}

/// RMSprop; returns the parameter, the averages of the squares and of the gradients, and the momentum buffer.
pub fn rmsprop(
    lr: f64,
    alpha: f64,
    eps: f64,
    momentum: f64,
    centered: bool,
    weight_decay: f64,
    decoupled: bool,
    mut g: f64,
    mut p: f64,
    [mut square_avg, mut grad_avg, mut buffer]: [f64; 3],
) -> [f64; 4] {
    decay(lr, weight_decay, decoupled, &mut g, &mut p);
    square_avg = alpha * square_avg + (1.0 - alpha) * g * g;
    let mut variance = square_avg;
    if centered {
        grad_avg = alpha * grad_avg + (1.0 - alpha) * g;
        variance = square_avg - grad_avg * grad_avg;
        // NaN stays.
        variance = if variance < 0.0 { 0.0 } else { variance };
    }
    let mut direction = g / (variance.sqrt() + eps);
    if momentum != 0.0 {
        buffer = momentum * buffer + direction;
        direction = buffer;
    }
    [p - lr * direction, square_avg, grad_avg, buffer]
}

/// Adam; returns the parameter, the two moments and the largest second moment.
pub fn adam(
    lr: f64,
    [beta1, beta2]: [f64; 2],
    eps: f64,
    weight_decay: f64,
    decoupled: bool,
    amsgrad: bool,
    step: u64,
    mut g: f64,
    mut p: f64,
    [mut m, mut v, mut max_v]: [f64; 3],
) -> [f64; 4] {
    decay(lr, weight_decay, decoupled, &mut g, &mut p);
    m = beta1 * m + (1.0 - beta1) * g;
    v = beta2 * v + (1.0 - beta2) * g * g;
    // NaN stays.
    max_v = if v > max_v || v.is_nan() { v } else { max_v };
    let step = step as i32;
    let second = if amsgrad { max_v } else { v } / (1.0 - beta2.powi(step));
    let first = m / (1.0 - beta1.powi(step));
    [p - lr * first / (second.sqrt() + eps), m, v, max_v]
}

/// Adagrad; returns the parameter and the sum of the squares.
pub fn adagrad(
    lr: f64,
    lr_decay: f64,
    eps: f64,
    weight_decay: f64,
    decoupled: bool,
    step: u64,
    mut g: f64,
    mut p: f64,
    mut sum: f64,
) -> [f64; 2] {
    let lr = lr / (1.0 + (step - 1) as f64 * lr_decay);
    decay(lr, weight_decay, decoupled, &mut g, &mut p);
    sum += g * g;
    [p - lr * g / (sum.sqrt() + eps), sum]
}

/// Lion; returns the parameter and the moment.
pub fn lion(
    lr: f64,
    [beta1, beta2]: [f64; 2],
    weight_decay: f64,
    decoupled: bool,
    mut g: f64,
    mut p: f64,
    m: f64,
) -> [f64; 2] {
    decay(lr, weight_decay, decoupled, &mut g, &mut p);
    let direction = beta1 * m + (1.0 - beta1) * g;
    let sign = if direction == 0.0 { 0.0 } else { direction.signum() };
    [p - lr * sign, beta2 * m + (1.0 - beta2) * g]
}

/// NAdam, with the product of the momenta before this step; returns the parameter and the two moments.
pub fn nadam(
    lr: f64,
    [beta1, beta2]: [f64; 2],
    eps: f64,
    weight_decay: f64,
    decoupled: bool,
    momentum_decay: f64,
    step: u64,
    mu_product: f64,
    mut g: f64,
    mut p: f64,
    [mut m, mut v]: [f64; 2],
) -> [f64; 3] {
    decay(lr, weight_decay, decoupled, &mut g, &mut p);
    m = beta1 * m + (1.0 - beta1) * g;
    v = beta2 * v + (1.0 - beta2) * g * g;
    let momentum = |step: u64| beta1 * (1.0 - 0.5 * 0.96_f64.powf(step as f64 * momentum_decay));
    let (mu, next) = (momentum(step), momentum(step + 1));
    let product = mu_product * mu;
    let denominator = (v / (1.0 - beta2.powi(step as i32))).sqrt() + eps;
    p -= lr * (1.0 - mu) / (1.0 - product) * g / denominator;
    p -= lr * next / (1.0 - product * next) * m / denominator;
    [p, m, v]
}

/// RAdam; returns the parameter and the two moments.
pub fn radam(
    lr: f64,
    [beta1, beta2]: [f64; 2],
    eps: f64,
    weight_decay: f64,
    decoupled: bool,
    step: u64,
    mut g: f64,
    mut p: f64,
    [mut m, mut v]: [f64; 2],
) -> [f64; 3] {
    decay(lr, weight_decay, decoupled, &mut g, &mut p);
    m = beta1 * m + (1.0 - beta1) * g;
    v = beta2 * v + (1.0 - beta2) * g * g;
    let (kept, t) = (beta2.powi(step as i32), step as f64);
    let first = m / (1.0 - beta1.powi(step as i32));
    let most = 2.0 / (1.0 - beta2) - 1.0;
    let rho = most - 2.0 * t * kept / (1.0 - kept);
    if rho > 5.0 {
        let r = ((rho - 4.0) * (rho - 2.0) * most / ((most - 4.0) * (most - 2.0) * rho)).sqrt();
        p -= lr * first * r * (1.0 - kept).sqrt() / (v.sqrt() + eps);
    } else {
        p -= lr * first;
    }
    [p, m, v]
}
