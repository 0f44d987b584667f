//! Changes of images on their way into a batch.

use crate::error::{Error, Result};
use crate::rng::Rng;

/// A change of one image in place.
///
/// ```
/// use gristmill::{Result, Rng, data::Transform};
///
/// /// Black becomes white.
/// struct Invert;
///
/// impl Transform for Invert {
///     fn apply(&self, image: &mut [f32], _shape: [usize; 3], _rng: &mut Rng) -> Result<()> {
///         image.iter_mut().for_each(|x| *x = 1.0 - *x);
///         Ok(())
///     }
/// }
/// ```
pub trait Transform: Send + Sync {
    /// Changes an image of `[height, width, channels]`.
    ///
    /// `rng` belongs to this image in this epoch: what is drawn from it does not depend on other images.
    ///
    /// # Errors
    /// [`Error::Shape`] if the image does not fit the shape, and any other error in changing it; it ends the
    /// epoch.
    fn apply(&self, image: &mut [f32], shape: [usize; 3], rng: &mut Rng) -> Result<()>;
}

/// A closure is also a transform.
impl<F: Fn(&mut [f32], [usize; 3], &mut Rng) -> Result<()> + Send + Sync> Transform for F {
    fn apply(&self, image: &mut [f32], shape: [usize; 3], rng: &mut Rng) -> Result<()> {
        self(image, shape, rng)
    }
}

/// Several transforms applied in order. They draw from one generator, one after the other, like transforms
/// added to a loader one by one.
///
/// ```
/// use gristmill::{Rng, data::{Compose, Normalize, RandomCrop, Transform}};
/// let chain = Compose::new().add(RandomCrop::new(2)).add(Normalize::new(&[0.5], &[0.5])?);
/// let mut image = [0.5; 9];
/// chain.apply(&mut image, [3, 3, 1], &mut Rng::seed(4))?;
/// assert!(image.iter().all(|&x| x == 0.0 || x == -1.0));
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Default)]
pub struct Compose(Vec<Box<dyn Transform>>);

impl Compose {
    /// An empty sequence, which changes nothing.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Appends a transform.
    #[must_use]
    #[allow(clippy::should_implement_trait)]
    pub fn add(mut self, transform: impl Transform + 'static) -> Self {
        self.0.push(Box::new(transform));
        self
    }
}

impl Transform for Compose {
    fn apply(&self, image: &mut [f32], shape: [usize; 3], rng: &mut Rng) -> Result<()> {
        self.0.iter().try_for_each(|transform| transform.apply(image, shape, rng))
    }
}

/// Mirrors an image horizontally with a given probability.
#[derive(Clone, Debug)]
pub struct RandomFlipHorizontal {
    p: f64,
}

impl RandomFlipHorizontal {
    /// Mirrors with probability `p`.
    ///
    /// # Errors
    /// [`Error::Value`] if `p` is not in [0, 1].
    pub fn new(p: f64) -> Result<Self> {
        if !(0.0..=1.0).contains(&p) {
            return Err(Error::value("RandomFlipHorizontal", format!("{p} is not a probability")));
        }
        Ok(Self { p })
    }
}

impl Transform for RandomFlipHorizontal {
    fn apply(&self, image: &mut [f32], shape: [usize; 3], rng: &mut Rng) -> Result<()> {
        check("RandomFlipHorizontal", image, shape)?;
        if image.is_empty() || rng.uniform() >= self.p {
            return Ok(());
        }
        let [_, width, channels] = shape;
        for row in image.chunks_exact_mut(width * channels) {
            // Reversing the row also reverses the channels of each pixel: restore their order.
            row.reverse();
            row.chunks_exact_mut(channels).for_each(<[f32]>::reverse);
        }
        Ok(())
    }
}

/// Shifts an image by up to `padding` pixels along both axes and fills the gap with zeros: pads with zeros on
/// all sides and crops a random window of the old size.
#[derive(Clone, Debug)]
pub struct RandomCrop {
    padding: usize,
}

impl RandomCrop {
    /// `new[y][x] = old[y + dy][x + dx]`, zero outside, with `dy`, then `dx` drawn from
    /// −`padding`..=`padding`.
    pub const fn new(padding: usize) -> Self {
        Self { padding }
    }

    fn offset(&self, rng: &mut Rng) -> Result<isize> {
        let places = self.padding.saturating_mul(2).saturating_add(1);
        Ok(rng.below(places)?.wrapping_sub(self.padding) as isize)
    }
}

impl Transform for RandomCrop {
    fn apply(&self, image: &mut [f32], shape: [usize; 3], rng: &mut Rng) -> Result<()> {
        check("RandomCrop", image, shape)?;
        let [_, width, channels] = shape;
        let (dy, dx) = (self.offset(rng)?, self.offset(rng)?);
        shift(image, dy, width * channels);
        image.chunks_exact_mut((width * channels).max(1)).for_each(|row| shift(row, dx, channels));
        Ok(())
    }
}

/// `x[i] = x[i + by]` for items of `size` elements, 0 where there is no such item.
fn shift(x: &mut [f32], by: isize, size: usize) {
    let distance = by.unsigned_abs().saturating_mul(size).min(x.len());
    let kept = x.len() - distance;
    if by >= 0 {
        x.copy_within(distance.., 0);
        x[kept..].fill(0.0);
    } else {
        x.copy_within(..kept, distance);
        x[..distance].fill(0.0);
    }
}

/// `(x − mean) / std` with a mean and a standard deviation for each channel.
///
/// Two roundings. NaN stays NaN, ±∞ stays ±∞.
#[derive(Clone, Debug)]
pub struct Normalize {
    /// Mean and standard deviation of each channel.
    channels: Vec<(f32, f32)>,
}

impl Normalize {
    /// One mean and one standard deviation for each channel. For the pixels of MNIST: 0.1307 and 0.3081.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are none, or if their numbers differ; [`Error::Value`] if a mean is not
    /// finite or a standard deviation is not finite and positive.
    pub fn new(mean: &[f32], std: &[f32]) -> Result<Self> {
        if mean.is_empty() || mean.len() != std.len() {
            let message = format!("expected a mean and a std for each channel, got {mean:?} and {std:?}");
            return Err(Error::shape("Normalize", message));
        }
        if !mean.iter().all(|mean| mean.is_finite()) {
            return Err(Error::value("Normalize", format!("the mean {mean:?} is not finite")));
        }
        if !std.iter().all(|&std| std.is_finite() && std > 0.0) {
            return Err(Error::value("Normalize", format!("the std {std:?} is not finite and positive")));
        }
        Ok(Self { channels: mean.iter().copied().zip(std.iter().copied()).collect() })
    }
}

impl Transform for Normalize {
    fn apply(&self, image: &mut [f32], shape: [usize; 3], _: &mut Rng) -> Result<()> {
        check("Normalize", image, shape)?;
        if shape[2] != self.channels.len() {
            let message = format!("{} means for an image of shape {shape:?}", self.channels.len());
            return Err(Error::shape("Normalize", message));
        }
        match self.channels[..] {
            // A loop that the compiler vectorises.
            [(mean, std)] => image.iter_mut().for_each(|x| *x = (*x - mean) / std),
            ref channels => {
                for pixel in image.chunks_exact_mut(channels.len()) {
                    pixel.iter_mut().zip(channels).for_each(|(x, (mean, std))| *x = (*x - mean) / std);
                }
            }
        }
        Ok(())
    }
}

/// Checks that the image has as many elements as the shape.
fn check(op: &'static str, image: &[f32], shape: [usize; 3]) -> Result<()> {
    let [height, width, channels] = shape;
    let elements = height.checked_mul(width).and_then(|pixels| pixels.checked_mul(channels));
    if elements == Some(image.len()) {
        return Ok(());
    }
    Err(Error::shape(op, format!("{} elements are not an image of shape {shape:?}", image.len())))
}
