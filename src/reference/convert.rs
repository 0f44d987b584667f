//! Narrow floats by definition: a sign, an exponent and a number of bits of the significand.

/// The number with these bits of a 16-bit float with this many stored bits of the significand: 7 for bf16, 10
/// for f16.
pub fn from_narrow(bits: u16, significand: i32) -> f64 {
    let exponent_bits = 15 - significand;
    let (largest, bias) = ((1 << exponent_bits) - 1, (1 << (exponent_bits - 1)) - 1);
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let exponent = i32::from(bits & 0x7FFF) >> significand;
    let fraction = f64::from(i32::from(bits) & ((1 << significand) - 1)) * 2f64.powi(-significand);
    let size = match exponent {
        0 => fraction * 2f64.powi(1 - bias),
        e if e == largest && fraction == 0.0 => f64::INFINITY,
        e if e == largest => f64::NAN,
        e => (1.0 + fraction) * 2f64.powi(e - bias),
    };
    sign * size
}

/// The bits of the nearest 16-bit float, ties to even; for NaN those of a quiet NaN.
pub fn to_narrow(x: f64, significand: i32) -> u16 {
    let exponent_bits = 15 - significand;
    let bias = (1 << (exponent_bits - 1)) - 1;
    let sign = if x.is_sign_negative() { 1 << 15 } else { 0 };
    let infinity = ((1_u16 << exponent_bits) - 1) << significand;
    if x.is_nan() {
        return sign | infinity | 1 << (significand - 1);
    }
    // The exponent of the distance to the next number, not below that of subnormal numbers.
    let exponent = ((x.abs().to_bits() >> 52) as i32 - 1023).max(1 - bias);
    let steps = (x.abs() * 2f64.powi(significand - exponent)).round_ties_even();
    // Steps are counted from the first number with the exponent; a carry moves on to the next exponent.
    let bits = steps + f64::from((exponent + bias - 1) << significand);
    sign | if bits < f64::from(infinity) { bits as u16 } else { infinity }
}
