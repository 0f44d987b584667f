//! Which samples an epoch has, and in which order.

use crate::error::{Error, Result};
use crate::rng::Rng;

/// Chooses the samples of an epoch, in their order.
///
/// ```
/// use gristmill::{Result, Rng, data::{DataLoader, Sampler, Samples, VecDataset}};
///
/// /// From the last to the first.
/// struct Backwards;
///
/// impl Sampler for Backwards {
///     fn order(&self, samples: usize, _: &mut Rng) -> Result<Vec<usize>> {
///         Ok((0..samples).rev().collect())
///     }
/// }
///
/// let loader = DataLoader::new(VecDataset::new(vec![1, 2, 3]).collate(Ok)).batch_size(2).sampler(Backwards);
/// let batches: Result<Vec<_>> = loader.iter().collect();
/// assert_eq!(batches?, [vec![3, 2], vec![1]]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub trait Sampler: Send + Sync {
    /// The indices of one epoch, each below `samples`. `rng` belongs to the epoch.
    ///
    /// # Errors
    /// [`Error::Value`] if the settings do not allow an epoch.
    fn order(&self, samples: usize, rng: &mut Rng) -> Result<Vec<usize>>;

    /// How many indices [`order`](Sampler::order) returns; `samples` by default.
    fn count(&self, samples: usize) -> usize {
        samples
    }
}

/// An empty order with room for this many indices.
fn room(op: &'static str, count: usize) -> Result<Vec<usize>> {
    let mut order = Vec::new();
    let none = |_| Error::value(op, format!("there is no memory for the indices of {count} samples"));
    order.try_reserve_exact(count).map_err(none)?;
    Ok(order)
}

/// 0, 1, 2, …
#[derive(Clone, Copy, Debug, Default)]
pub struct SequentialSampler;

impl Sampler for SequentialSampler {
    fn order(&self, samples: usize, _: &mut Rng) -> Result<Vec<usize>> {
        let mut order = room("SequentialSampler", samples)?;
        order.extend(0..samples);
        Ok(order)
    }
}

/// All samples in random order; with replacement, each index is drawn from all samples.
#[derive(Clone, Copy, Debug, Default)]
pub struct RandomSampler {
    replacement: bool,
    num_samples: Option<usize>,
}

impl RandomSampler {
    /// Every sample once.
    pub const fn new() -> Self {
        Self { replacement: false, num_samples: None }
    }

    /// Whether each index is drawn from all samples, so that it may be repeated; false by default.
    #[must_use]
    pub const fn replacement(mut self, replacement: bool) -> Self {
        self.replacement = replacement;
        self
    }

    /// Sets the number of samples in an epoch; by default that of the data set. Without replacement, samples
    /// beyond a whole round come from another round, in its own order.
    #[must_use]
    pub const fn num_samples(mut self, num_samples: usize) -> Self {
        self.num_samples = Some(num_samples);
        self
    }
}

impl Sampler for RandomSampler {
    fn order(&self, samples: usize, rng: &mut Rng) -> Result<Vec<usize>> {
        let count = self.count(samples);
        let mut order = room("RandomSampler", count.max(samples))?;
        if self.replacement {
            for _ in 0..count {
                order.push(rng.below(samples)?);
            }
            return Ok(order);
        }
        if samples == 0 && count > 0 {
            return Err(Error::value("RandomSampler", format!("{count} samples of none")));
        }
        while order.len() < count {
            order.extend(rng.permutation(samples));
        }
        order.truncate(count);
        Ok(order)
    }

    fn count(&self, samples: usize) -> usize {
        self.num_samples.unwrap_or(samples)
    }
}

/// Samples drawn with probabilities in proportion to their weights.
///
/// Without replacement, the distribution is that of drawing one sample after the other from the remaining
/// ones: sample `i` gets the key −ln(u)/wᵢ, and the smallest keys come first (Efraimidis and Spirakis,
/// *Weighted random sampling with a reservoir*, 2006).
///
/// ```
/// use gristmill::data::WeightedRandomSampler;
/// // Class 1 is rare: its samples are drawn as often as those of class 0.
/// let labels = [0, 0, 0, 1];
/// let balanced = WeightedRandomSampler::balanced(&labels)?.num_samples(8);
/// assert_eq!(balanced.weights(), [1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0, 1.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct WeightedRandomSampler {
    weights: Vec<f64>,
    num_samples: usize,
    replacement: bool,
}

impl WeightedRandomSampler {
    /// One weight for each sample of the data set; an epoch has as many samples as there are weights, drawn
    /// with replacement.
    ///
    /// # Errors
    /// [`Error::Value`] if a weight is negative or not finite, or their sum is not finite and positive.
    pub fn new(weights: impl Into<Vec<f64>>) -> Result<Self> {
        let weights = weights.into();
        if let Some((index, weight)) =
            weights.iter().enumerate().find(|(_, weight)| !(weight.is_finite() && **weight >= 0.0))
        {
            let message = format!("weight {index} is {weight}, expected a finite number ≥ 0");
            return Err(Error::value("WeightedRandomSampler", message));
        }
        let sum: f64 = weights.iter().sum();
        if !(sum.is_finite() && sum > 0.0) {
            let message = format!("the {} weights sum to {sum}", weights.len());
            return Err(Error::value("WeightedRandomSampler", message));
        }
        Ok(Self { num_samples: weights.len(), weights, replacement: true })
    }

    /// Weights that give each class that occurs the same probability: 1 / (number of samples with this
    /// label).
    ///
    /// # Errors
    /// [`Error::Value`] if there are no labels.
    pub fn balanced(labels: &[usize]) -> Result<Self> {
        let mut counts = std::collections::HashMap::new();
        labels.iter().for_each(|&label| *counts.entry(label).or_insert(0_u32) += 1);
        Self::new(labels.iter().map(|label| 1.0 / f64::from(counts[label])).collect::<Vec<_>>())
    }

    /// Sets the number of samples in an epoch.
    #[must_use]
    pub const fn num_samples(mut self, num_samples: usize) -> Self {
        self.num_samples = num_samples;
        self
    }

    /// Whether a sample may occur more than once in an epoch; true by default.
    #[must_use]
    pub const fn replacement(mut self, replacement: bool) -> Self {
        self.replacement = replacement;
        self
    }

    /// The weights.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    fn with_replacement(&self, rng: &mut Rng) -> Result<Vec<usize>> {
        let mut order = room("WeightedRandomSampler", self.num_samples)?;
        let mut sum = 0.0;
        let mut end = |weight| {
            sum += weight;
            sum
        };
        let ends: Vec<f64> = self.weights.iter().map(&mut end).collect();
        let last = self.weights.iter().rposition(|&weight| weight > 0.0).unwrap_or(0);
        let draw = |_| {
            let place = rng.uniform() * sum;
            // The first cumulative weight above the position, so that samples of weight 0 are never chosen.
            // The product may round to the sum.
            ends.partition_point(|&end| end <= place).min(last)
        };
        order.extend((0..self.num_samples).map(draw));
        Ok(order)
    }

    fn without_replacement(&self, rng: &mut Rng) -> Result<Vec<usize>> {
        let mut keys: Vec<(f64, usize)> = Vec::new();
        for (index, &weight) in self.weights.iter().enumerate() {
            // One number for each sample, so that a weight of 0 does not change what the others draw.
            let key = rng.exponential() / weight;
            if weight > 0.0 {
                keys.push((key, index));
            }
        }
        if keys.len() < self.num_samples {
            let message = format!(
                "{} samples without replacement, but only {} weights are positive",
                self.num_samples,
                keys.len()
            );
            return Err(Error::value("WeightedRandomSampler", message));
        }
        keys.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        Ok(keys[..self.num_samples].iter().map(|&(_, index)| index).collect())
    }
}

impl Sampler for WeightedRandomSampler {
    fn order(&self, samples: usize, rng: &mut Rng) -> Result<Vec<usize>> {
        if samples != self.weights.len() {
            let message = format!("{} weights for {samples} samples", self.weights.len());
            return Err(Error::shape("WeightedRandomSampler", message));
        }
        if self.replacement { self.with_replacement(rng) } else { self.without_replacement(rng) }
    }

    fn count(&self, _: usize) -> usize {
        self.num_samples
    }
}
