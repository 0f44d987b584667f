//! Images in rows, each with some lines of text.

use std::io::{self, Write};

use flate2::{Compression, Crc, write::ZlibEncoder};

use super::{Anchor, FAINT, INK, Picture};
use crate::error::{Error, Result};

const SIDE: f64 = 112.0;
const GAP: f64 = 20.0;
const TEXT: f64 = 16.0;

/// Images with captions, in rows.
///
/// ```
/// use gristmill::plot::ImageGrid;
/// let gray = [0.0, 0.5, 0.5, 1.0];
/// let grid = ImageGrid::new("two images", 2)
///     .image(&gray, [2, 2, 1], &["first", "a line more"])?
///     .image(&[1.0, 0.0, 0.0], [1, 1, 3], &["red"])?;
/// assert_eq!(grid.draw().to_svg().matches("<image").count(), 2);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ImageGrid {
    title: String,
    columns: usize,
    /// As data URLs, with captions.
    images: Vec<(String, Vec<String>)>,
}

impl ImageGrid {
    /// An empty grid with `columns` images in a row, at least one.
    pub fn new(title: impl Into<String>, columns: usize) -> Self {
        Self { title: title.into(), columns: columns.max(1), images: Vec::new() }
    }

    /// Adds an image `[height, width, channels]` of numbers in [0, 1], with one channel (0 is black) or three
    /// (red, green, blue). Numbers outside this range are clamped; NaN is black.
    ///
    /// # Errors
    /// [`Error::Shape`] if the numbers do not fill the shape, or if the image has no pixels or another number
    /// of channels.
    pub fn image(mut self, pixels: &[f32], shape: [usize; 3], caption: &[&str]) -> Result<Self> {
        let [height, width, channels] = shape;
        let elements = height.checked_mul(width).and_then(|size| size.checked_mul(channels));
        let kind = match channels {
            1 => 0,
            3 => 2,
            _ => return Err(Error::shape("ImageGrid::image", format!("{shape:?} has not 1 or 3 channels"))),
        };
        let sides = (u32::try_from(width), u32::try_from(height));
        let (Ok(width), Ok(height), Some(elements)) = (sides.0, sides.1, elements) else {
            return Err(Error::shape("ImageGrid::image", format!("{shape:?} is too large")));
        };
        if elements != pixels.len() || elements == 0 {
            let message = format!("{} numbers for an image of shape {shape:?}", pixels.len());
            return Err(Error::shape("ImageGrid::image", message));
        }
        // A cast saturates, and turns NaN into 0.
        let bytes: Vec<u8> = pixels.iter().map(|&x| (255.0 * x).round() as u8).collect();
        let png = png(&bytes, width, height, kind)
            .map_err(|error| Error::value("ImageGrid::image", error.to_string()))?;
        let caption = caption.iter().map(|&line| line.to_owned()).collect();
        self.images.push((format!("data:image/png;base64,{}", base64(&png)), caption));
        Ok(self)
    }

    /// The images, each scaled to a height and width of up to 112.
    pub fn draw(&self) -> Picture {
        let lines = self.images.iter().map(|(_, caption)| caption.len()).max().unwrap_or(0);
        let (step_x, step_y) = (SIDE + GAP, SIDE + GAP + TEXT * lines as f64);
        let columns = self.columns.min(self.images.len().max(1));
        let rows = self.images.len().div_ceil(columns);
        let width = (GAP + step_x * columns as f64).max(320.0);
        let mut picture = Picture::new(width, 44.0 + step_y * rows as f64);
        picture.title(GAP, &self.title);
        for (i, (image, caption)) in self.images.iter().enumerate() {
            let (x, y) = (GAP + step_x * (i % columns) as f64, 44.0 + step_y * (i / columns) as f64);
            picture.put(format_args!(
                "<image x=\"{x}\" y=\"{y}\" width=\"{SIDE}\" height=\"{SIDE}\" \
                 style=\"image-rendering:pixelated\" href=\"{image}\"/>"
            ));
            for (line, text) in caption.iter().enumerate() {
                let at = [x + SIDE / 2.0, y + SIDE + TEXT * (line + 1) as f64];
                let (color, style) = if line == 0 { (INK, "font-weight=\"600\"") } else { (FAINT, "") };
                picture.text(at, Anchor::Middle, color, style, text);
            }
        }
        picture
    }
}

/// A file with 8 bits per channel (PNG, W3C 2003); `kind` is 0 for grey and 2 for RGB.
fn png(pixels: &[u8], width: u32, height: u32, kind: u8) -> io::Result<Vec<u8>> {
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |name: &[u8; 4], data: &[u8]| {
        let mut crc = Crc::new();
        crc.update(name);
        crc.update(data);
        file.extend((data.len() as u32).to_be_bytes());
        file.extend(name);
        file.extend(data);
        file.extend(crc.sum().to_be_bytes());
    };
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, kind, 0, 0, 0]].concat();
    chunk(b"IHDR", &header);
    let mut rows = ZlibEncoder::new(Vec::new(), Compression::default());
    for row in pixels.chunks(pixels.len() / height as usize) {
        // Each row starts with its filter type: none.
        rows.write_all(&[0])?;
        rows.write_all(row)?;
    }
    chunk(b"IDAT", &rows.finish()?);
    chunk(b"IEND", &[]);
    Ok(file)
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, i| bits << 8 | u32::from(group.get(i).copied().unwrap_or(0)));
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i)) as usize % 64];
            text.push(if i <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}
