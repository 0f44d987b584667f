//! Functions on registers: exp, ln, tanh, sigmoid, erf.

pub mod erf;
pub mod exp;
pub mod ln;
pub mod sigmoid;
pub mod tanh;
