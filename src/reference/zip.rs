//! Functions of three numbers.

/// a·b + c.
pub fn mul_add(a: f64, b: f64, c: f64) -> f64 {
    a * b + c
}

/// Interpolates from a to b by the weight w.
pub fn lerp(a: f64, b: f64, w: f64) -> f64 {
    if w < 0.5 { a + w * (b - a) } else { b - (b - a) * (1.0 - w) }
}

/// b where a is not 0, else c.
pub fn choose(a: f64, b: f64, c: f64) -> f64 {
    if a != 0.0 { b } else { c }
}
