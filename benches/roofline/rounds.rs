//! Time, in turns: what is compared runs within the same few milliseconds, so that a neighbour who slows the
//! machine slows both; only ratios within one round are looked at, and of those the quartiles.

use std::time::{Duration, Instant};

use gristmill::Result;
use serde::Serialize;

use crate::common::kernels::Case;

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Quartiles {
    pub q1: f64,
    pub median: f64,
    pub q3: f64,
}

impl Quartiles {
    pub fn new(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |fraction: f64| {
            let place = fraction * (values.len() - 1) as f64;
            let (below, above) = (values[place as usize], values[place.ceil() as usize]);
            below + (above - below) * place.fract()
        };
        Self { q1: at(0.25), median: at(0.5), q3: at(0.75) }
    }
}

/// How long and how often is measured.
#[derive(Clone, Copy)]
pub struct Pace {
    pub rounds: usize,
    /// Slices of a contender's turn, of which the fastest counts: the scheduler interrupts the others.
    pub slices: usize,
    pub slice: Duration,
}

impl Pace {
    /// Everything once.
    pub const ONCE: Self = Self { rounds: 1, slices: 1, slice: Duration::ZERO };

    /// Seconds per call in the fastest slice; each slice has so many calls. Long calls have fewer slices.
    pub fn turn(self, case: &mut Case, calls: usize) -> Result<f64> {
        let (start, mut fastest) = (Instant::now(), f64::INFINITY);
        for _ in 0..self.slices {
            fastest = seconds(case, calls)?.min(fastest);
            if start.elapsed() > 2 * self.slices as u32 * self.slice {
                break;
            }
        }
        Ok(fastest)
    }

    /// How many calls fill a slice.
    pub fn calls(self, case: &mut Case) -> Result<usize> {
        Ok((self.slice.as_secs_f64() / estimate(case)?).ceil().max(1.0) as usize)
    }

    /// What is done per second in the fastest slice; `work` returns how much it did.
    pub fn rate(self, mut work: impl FnMut() -> usize) -> f64 {
        let slice = |_| {
            let (start, mut done) = (Instant::now(), 0);
            loop {
                done += work();
                let elapsed = start.elapsed();
                if elapsed >= self.slice {
                    return done as f64 / elapsed.as_secs_f64();
                }
            }
        };
        (0..self.slices).map(slice).fold(0.0, f64::max)
    }
}

/// Roughly the seconds of one call, once caches are warm.
pub fn estimate(case: &mut Case) -> Result<f64> {
    case.run()?;
    let mut calls = 1;
    loop {
        let seconds = seconds(case, calls)?;
        if seconds * calls as f64 > 50e-6 {
            return Ok(seconds);
        }
        calls *= 4;
    }
}

/// Seconds per call.
pub fn seconds(case: &mut Case, calls: usize) -> Result<f64> {
    let start = Instant::now();
    for _ in 0..calls {
        case.run()?;
    }
    Ok(start.elapsed().as_secs_f64() / calls as f64)
}
