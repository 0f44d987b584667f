//! NumPy's files with a single array.
//!
//! After the magic bytes and the version come the length of the header, in two bytes or from version 2 on in
//! four, and the header: a Python dictionary of the type (`'descr'`), the order of the elements
//! (`'fortran_order'`) and the shape. Then come the elements.
//! <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;

use super::bytes::{Encoding, encode};
use super::{MAX_RANK, Shape, Tensor};
use crate::error::{Error, Result};
use crate::files::{START, it_is, replace};
use crate::simd::Element;

const MAGIC: &[u8] = b"\x93NUMPY";
/// Longer headers describe records, or are damaged.
const LONGEST_HEADER: usize = 1 << 16;

impl<T: Element> Tensor<T> {
    /// Reads an array from a `.npy` file, versions 1 to 3, in C or Fortran order and either byte order.
    ///
    /// Floating-point numbers of 2, 4 and 8 bytes, integers and booleans become the nearest number of the
    /// element type. The header is not trusted: memory grows with the bytes that are actually there.
    ///
    /// ```
    /// use gristmill::Tensor;
    /// let path = std::env::temp_dir().join(format!("gristmill-doc-{}.npy", std::process::id()));
    /// Tensor::from([[1.0_f32, 2.0]]).save_npy(&path)?;
    /// assert_eq!(Tensor::<f32>::load_npy(&path)?.to_vec2()?, [[1.0, 2.0]]);
    /// # std::fs::remove_file(path).ok();
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::File`] naming the file if it cannot be read, is not a `.npy` file, is damaged, truncated or
    /// too long, holds another type, or has more than [`MAX_RANK`] axes.
    pub fn load_npy(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file =
            File::open(path).map_err(|error| Error::file(path, format!("cannot be opened: {error}")))?;
        read(BufReader::new(file)).map_err(|reason| Error::file(path, reason.text()))
    }

    /// Writes the numbers to a `.npy` file, version 1, in C order, as little-endian numbers of the element
    /// type, by way of a temporary file in the same folder.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be written.
    pub fn save_npy(&self, path: impl AsRef<Path>) -> Result<()> {
        replace(path.as_ref(), |file| file.write_all(&to_bytes(self)))
            .map_err(|error| Error::file(path, format!("cannot be written: {error}")))
    }
}

/// The contents of a file.
pub(super) fn to_bytes<T: Element>(tensor: &Tensor<T>) -> Vec<u8> {
    let shape: String = tensor.shape().iter().map(|len| format!("{len}, ")).collect();
    let (width, shape) = (size_of::<T>(), shape.trim_end_matches(if tensor.rank() > 1 { ", " } else { " " }));
    let mut header = format!("{{'descr': '<f{width}', 'fortran_order': False, 'shape': ({shape}), }}");
    // The elements start at a multiple of 64 bytes.
    let len = (MAGIC.len() + 4 + header.len() + 1).next_multiple_of(64) - MAGIC.len() - 4;
    header = format!("{header:<width$}\n", width = len - 1);
    [MAGIC, &[1, 0], &(len as u16).to_le_bytes(), header.as_bytes(), &encode(tensor)].concat()
}

/// Why there is no tensor.
pub(super) enum Refused {
    /// The file may be intact, but a tensor cannot hold its contents.
    Foreign(String),
    /// The file is damaged or cannot be read.
    Damaged(String),
}

impl Refused {
    pub fn text(self) -> String {
        let (Self::Foreign(text) | Self::Damaged(text)) = self;
        text
    }
}

impl From<String> for Refused {
    fn from(text: String) -> Self {
        Self::Damaged(text)
    }
}

/// Reads a whole file, or returns what is wrong with it.
pub(super) fn read<T: Element>(mut file: impl Read) -> Result<Tensor<T>, Refused> {
    let unread = |error: std::io::Error| format!("cannot be read: {error}");
    let mut start = Vec::with_capacity(8);
    file.by_ref().take(8).read_to_end(&mut start).map_err(unread)?;
    if !start.starts_with(&MAGIC[..start.len().min(MAGIC.len())]) {
        file.take((START - 8) as u64).read_to_end(&mut start).map_err(unread)?;
        let what = it_is(&start).map(|what| format!(": {what}")).unwrap_or_default();
        return Err(Refused::Foreign(format!("is not a .npy file{what}")));
    }
    if start.len() < 8 {
        return Err(Refused::Damaged("is truncated: it ends in the header".to_owned()));
    }
    let mut len = [0; 4];
    let bytes = match start[6] {
        1 => 2,
        2 | 3 => 4,
        version => return Err(Refused::Foreign(format!("has the unknown version {version}"))),
    };
    file.read_exact(&mut len[..bytes]).map_err(unread)?;
    let len = u32::from_le_bytes(len) as usize;
    if len > LONGEST_HEADER {
        return Err(Refused::Damaged(format!("has a header of {len} bytes, more than {LONGEST_HEADER}")));
    }
    let mut header = vec![0; len];
    file.read_exact(&mut header).map_err(unread)?;
    let text = String::from_utf8_lossy(&header);
    let header = NpyHeader::parse(&text).ok_or_else(|| {
        let message = format!("has a header that cannot be read: {text}");
        // The type of records is a list, whatever the rest of their header says.
        if text.contains("'descr': [") { Refused::Foreign(message) } else { Refused::Damaged(message) }
    })?;
    let (format, big_endian) = header.format().map_err(Refused::Foreign)?;
    if header.dims.len() > MAX_RANK {
        let message = format!("has {} axes, at most {MAX_RANK} are supported", header.dims.len());
        return Err(Refused::Foreign(message));
    }
    let shape = Shape::new(&header.dims).map_err(|error| error.to_string())?;
    let expected = shape.elements() * format.width();
    let mut data = Vec::new();
    file.take(expected as u64 + 1).read_to_end(&mut data).map_err(unread)?;
    if data.len() != expected {
        let found = if data.len() < expected { data.len().to_string() } else { "more".to_owned() };
        let message =
            format!("should hold {expected} bytes of elements for the shape {shape:?}, holds {found}");
        return Err(Refused::Damaged(message));
    }
    let stored = if header.fortran_order { header.dims.iter().rev().copied().collect() } else { header.dims };
    let tensor = format.decode(&data, big_endian, Shape::from_dims(&stored));
    let tensor: Tensor<T> = tensor.map_err(|error| error.to_string())?;
    if !header.fortran_order {
        return Ok(tensor);
    }
    let mut axes: [usize; MAX_RANK] = std::array::from_fn(|axis| axis);
    axes[..stored.len()].reverse();
    Ok(tensor.view_permute(&axes[..stored.len()]).compact())
}

/// The contents of the dictionary.
struct NpyHeader {
    descr: String,
    fortran_order: bool,
    dims: Vec<usize>,
}

impl NpyHeader {
    /// Parses a dictionary with these three keys, in any order; `None` if it is anything else.
    fn parse(text: &str) -> Option<Self> {
        let (mut descr, mut fortran_order, mut dims) = (None, None, None);
        let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
        while !rest.is_empty() {
            let (key, value) = quoted(rest)?;
            let value = value.trim_start().strip_prefix(':')?.trim_start();
            let after = match key {
                "descr" => {
                    let (name, after) = quoted(value)?;
                    descr = Some(name.to_owned());
                    after
                }
                "fortran_order" => {
                    let after = value.strip_prefix("True").or_else(|| value.strip_prefix("False"))?;
                    fortran_order = Some(value.starts_with('T'));
                    after
                }
                "shape" => {
                    let (inside, after) = value.strip_prefix('(')?.split_once(')')?;
                    // Python 2 wrote long integers with an L.
                    let len = |len: &str| len.trim().trim_end_matches('L').parse::<usize>().ok();
                    let inside = inside.trim();
                    let listed = inside.strip_suffix(',').unwrap_or(inside);
                    let lens = listed.split(',').filter(|_| !inside.is_empty());
                    dims = Some(lens.map(len).collect::<Option<Vec<_>>>()?);
                    after
                }
                _ => return None,
            };
            rest = after.trim_start();
            rest = match rest.strip_prefix(',') {
                Some(rest) => rest.trim_start(),
                None if rest.is_empty() => rest,
                None => return None,
            };
        }
        Some(Self { descr: descr?, fortran_order: fortran_order?, dims: dims? })
    }

    /// The element type, and whether it is big-endian.
    fn format(&self) -> Result<(Encoding, bool), String> {
        let unknown = || format!("holds elements of type {}, not numbers of 1 to 8 bytes", self.descr);
        let mut letters = self.descr.chars();
        let (order, kind) = (letters.next().ok_or_else(unknown)?, letters.next().ok_or_else(unknown)?);
        let format = match (kind, letters.as_str()) {
            ('f', "2") => Encoding::F16,
            ('f', "4") => Encoding::F32,
            ('f', "8") => Encoding::F64,
            ('b', "1") => Encoding::Bool,
            ('i' | 'u', width @ ("1" | "2" | "4" | "8")) => {
                let width = width.parse().map_err(|_| unknown())?;
                if kind == 'i' { Encoding::Signed(width) } else { Encoding::Unsigned(width) }
            }
            _ => return Err(unknown()),
        };
        match order {
            '<' | '|' => Ok((format, false)),
            '>' => Ok((format, true)),
            '=' => Ok((format, cfg!(target_endian = "big"))),
            _ => Err(unknown()),
        }
    }
}

/// The text between the quotes at the start, and the rest after them.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|&quote| quote == '\'' || quote == '"')?;
    text[1..].split_once(quote)
}
