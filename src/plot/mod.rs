//! Charts of a training run as SVG: [`Curves`], a [`confusion`] matrix, an [`ImageGrid`].
//!
//! Generated without a dependency, since charts of this kind are a few lines of text; fonts are those of the
//! viewer.
//!
//! ```
//! use gristmill::plot::{Curves, Picture};
//! let loss = Curves::new("loss").x_label("epoch").line("training", [(1.0, 0.4), (2.0, 0.2), (3.0, 0.1)]);
//! let error = Curves::new("error, %").x_label("epoch").line("test", [(1.0, 9.0), (2.0, 6.0), (3.0, 5.0)]);
//! let svg = Picture::row(&[loss.draw(), error.draw()]).to_svg();
//! assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
//! ```

mod curves;
mod images;
mod matrix;

pub use curves::Curves;
pub use images::ImageGrid;
pub use matrix::confusion;

use std::fmt::{Display, Write as _};
use std::io::Write as _;
use std::path::Path;

use crate::error::{Error, Result};
use crate::files::replace;

const INK: &str = "#222";
const FAINT: &str = "#666";
const RULE: &str = "#e4e4e4";
/// Colours that people with any type of colour vision can tell apart (Okabe and Ito, *Color universal
/// design*, 2008).
const COLORS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/// A drawing: lengths are in pixels, from the upper left corner.
#[derive(Clone, Debug)]
pub struct Picture {
    width: f64,
    height: f64,
    body: String,
}

/// Which point of a text is at its position.
#[derive(Clone, Copy)]
enum Anchor {
    Start,
    Middle,
    End,
}

impl Picture {
    fn new(width: f64, height: f64) -> Self {
        Self { width, height, body: String::new() }
    }

    /// Places pictures side by side.
    pub fn row(pictures: &[Self]) -> Self {
        let height = pictures.iter().fold(0.0, |height: f64, picture| height.max(picture.height));
        let mut row = Self::new(0.0, height);
        for picture in pictures {
            let x = row.width;
            row.put(format_args!("<g transform=\"translate({x} 0)\">\n{}</g>", picture.body));
            row.width += picture.width;
        }
        row
    }

    /// The picture as the text of a file.
    pub fn to_svg(&self) -> String {
        let Self { width, height, body } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"system-ui, Helvetica, Arial, sans-serif\" \
             font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
        )
    }

    /// Writes the picture to a file, by way of a temporary file in the same folder.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        replace(path, |file| file.write_all(self.to_svg().as_bytes()))
            .map_err(|error| Error::file(path, format!("cannot be written: {error}")))
    }

    fn put(&mut self, element: impl Display) {
        // Writing to a string does not fail.
        let _ = writeln!(self.body, "{element}");
    }

    fn line(&mut self, [x1, y1]: [f64; 2], [x2, y2]: [f64; 2], color: &str) {
        self.put(format_args!(
            "<path d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\" stroke=\"{color}\" fill=\"none\"/>"
        ));
    }

    /// `style` holds further attributes.
    fn text(&mut self, [x, y]: [f64; 2], anchor: Anchor, color: &str, style: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escaped(text);
        self.put(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{color}\" {style}>{text}</text>"
        ));
    }

    fn title(&mut self, x: f64, title: &str) {
        self.text([x, 24.0], Anchor::Start, INK, "font-size=\"15\" font-weight=\"600\"", title);
    }
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            // XML does not allow them.
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

/// The approximate width of a text of the usual size: the font depends on the viewer.
fn width_of(text: &str) -> f64 {
    6.6 * text.chars().count() as f64
}
