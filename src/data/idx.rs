//! The idx format of the MNIST database, plain or compressed with gzip.
//!
//! Two zero bytes, a byte for the element type (8: `u8`), a byte for the number of dimensions, each dimension
//! as a big-endian number of four bytes, then the elements, the last dimension varying fastest, big-endian as
//! well.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::gzip::{self, Gunzip};
use crate::error::{Error, Result};
use crate::files::{it_is, replace};
use crate::simd::Element;
use crate::tensor::{Shape, Tensor};

/// The element types by their codes.
const KINDS: [(u8, &str); 6] =
    [(0x08, "u8"), (0x09, "i8"), (0x0B, "i16"), (0x0C, "i32"), (0x0D, "f32"), (0x0E, "f64")];

mod sealed {
    pub trait Sealed: Sized {
        /// The code of the type.
        const KIND: u8;
        /// Parses bytes of whole big-endian numbers.
        fn decode(bytes: Vec<u8>) -> Vec<Self>;
        fn encode(self, bytes: &mut Vec<u8>);
        fn to_f64(self) -> f64;
    }
}
use sealed::Sealed;

/// The element types of the format: `u8`, `i8`, `i16`, `i32`, `f32` and `f64`.
pub trait IdxElement: Sealed + Copy {}

impl IdxElement for u8 {}

impl Sealed for u8 {
    const KIND: u8 = 0x08;
    fn decode(bytes: Vec<u8>) -> Vec<u8> {
        bytes
    }
    fn encode(self, bytes: &mut Vec<u8>) {
        bytes.push(self);
    }
    fn to_f64(self) -> f64 {
        self.into()
    }
}

macro_rules! elements {
    ($($type:ident: $kind:literal),+) => {
        $(
            impl IdxElement for $type {}

            impl Sealed for $type {
                const KIND: u8 = $kind;
                fn decode(bytes: Vec<u8>) -> Vec<Self> {
                    bytes.as_chunks().0.iter().map(|&bytes| Self::from_be_bytes(bytes)).collect()
                }
                fn encode(self, bytes: &mut Vec<u8>) {
                    bytes.extend(self.to_be_bytes());
                }
                fn to_f64(self) -> f64 {
                    self.into()
                }
            }
        )+
    };
}
elements!(i8: 0x09, i16: 0x0B, i32: 0x0C, f32: 0x0D, f64: 0x0E);

/// An array of bytes, as in `train-images-idx3-ubyte.gz`, or of other numbers.
///
/// ```
/// use gristmill::data::{Idx, read_idx};
/// let path = std::env::temp_dir().join(format!("gristmill-doc-{}.gz", std::process::id()));
/// let labels = Idx { dims: vec![3], data: vec![5_u8, 0, 4] };
/// labels.write(&path)?;
/// assert_eq!(Idx::read(&path)?, labels);
/// // A file whose type is not known becomes a tensor.
/// assert_eq!(read_idx::<f32>(&path)?.to_vec(), [5.0, 0.0, 4.0]);
/// # std::fs::remove_file(path).ok();
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idx<T = u8> {
    /// The length of each dimension, the outermost first.
    pub dims: Vec<usize>,
    /// The elements, the last dimension varying fastest: as many as the product of `dims`.
    pub data: Vec<T>,
}

impl<T: IdxElement> Idx<T> {
    /// Reads a file with elements of this type, plain or compressed.
    ///
    /// The whole file is read and its checksums are verified; zero bytes after the gzip data are padding. The
    /// header is not trusted: memory grows with the bytes that are actually there, up to the declared number.
    ///
    /// # Errors
    /// [`Error::File`] if the file is missing, unreadable, neither gzip nor idx, damaged, truncated or too
    /// long; if its elements have another type; or if the header declares more elements than can be counted,
    /// or another number than the file holds.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let raw = open(path, |kind| {
            let name = |kind| KINDS.iter().find(|known| known.0 == kind).map_or("unknown", |known| known.1);
            if kind == T::KIND {
                return Ok(());
            }
            let (found, expected) = (name(kind), name(T::KIND));
            Err(format!(
                "holds elements of type 0x{kind:02x} ({found}), expected 0x{:02x} ({expected})",
                T::KIND
            ))
        })?;
        Ok(Self { dims: raw.dims, data: T::decode(raw.bytes) })
    }

    /// Writes a gzip file, by way of a temporary file in the same folder, so that `path` never holds half a
    /// file.
    ///
    /// # Errors
    /// [`Error::Shape`] if `data` does not have as many elements as `dims` say or the format cannot hold
    /// `dims`; [`Error::File`] if the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let mut bytes = self.header()?;
        self.data.iter().for_each(|x| x.encode(&mut bytes));
        replace(path.as_ref(), |file| {
            let mut gzip = GzEncoder::new(BufWriter::new(file), Compression::default());
            gzip.write_all(&bytes)?;
            gzip.finish()?.flush()
        })
        .map_err(|error| Error::file(path, format!("cannot be written: {error}")))
    }

    fn header(&self) -> Result<Vec<u8>> {
        let Self { dims, data } = self;
        if elements(dims) != Some(data.len()) {
            let message = format!("{} elements do not fill the dimensions {dims:?}", data.len());
            return Err(Error::shape("Idx::write", message));
        }
        let too_large = || {
            let message = format!("idx holds up to 255 dimensions below 2^32, not {dims:?}");
            Error::shape("Idx::write", message)
        };
        let rank = u8::try_from(dims.len()).map_err(|_| too_large())?;
        let mut header = vec![0, 0, T::KIND, rank];
        for &dim in dims {
            header.extend(u32::try_from(dim).map_err(|_| too_large())?.to_be_bytes());
        }
        Ok(header)
    }
}

fn elements(dims: &[usize]) -> Option<usize> {
    dims.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim))
}

/// Reads a file of any of the types as a tensor; each number is rounded once if `T` cannot represent it.
///
/// # Errors
/// [`Error::File`] for the reasons given at [`Idx::read`] (of any type, though), and if there are more
/// dimensions than a tensor can have axes.
pub fn read_idx<T: Element>(path: impl AsRef<Path>) -> Result<Tensor<T>> {
    fn numbers<E: IdxElement, T: Element>(bytes: Vec<u8>) -> Vec<T> {
        E::decode(bytes).into_iter().map(|x| T::from_f64(x.to_f64())).collect()
    }
    let path = path.as_ref();
    let Raw { kind, dims, bytes } = open(path, |_| Ok(()))?;
    Shape::new(&dims).map_err(|error| Error::file(path, error.to_string()))?;
    let values = match kind {
        u8::KIND => numbers::<u8, T>(bytes),
        i8::KIND => numbers::<i8, T>(bytes),
        i16::KIND => numbers::<i16, T>(bytes),
        i32::KIND => numbers::<i32, T>(bytes),
        f32::KIND => numbers::<f32, T>(bytes),
        _ => numbers::<f64, T>(bytes),
    };
    Tensor::from_slice(&values, &dims)
}

/// A parsed file: whole elements of a type of the format, as many as the dimensions say.
struct Raw {
    kind: u8,
    dims: Vec<usize>,
    bytes: Vec<u8>,
}

/// Reads a file if `accept` accepts its element type.
fn open(path: &Path, accept: impl Fn(u8) -> Result<(), String>) -> Result<Raw> {
    let file = File::open(path).map_err(|error| Error::file(path, format!("cannot be opened: {error}")))?;
    unpack(BufReader::new(file), accept).map_err(|reason| Error::file(path, reason))
}

fn unpack(mut file: impl BufRead, accept: impl Fn(u8) -> Result<(), String>) -> Result<Raw, String> {
    let start = file.fill_buf().map_err(|error| unreadable("the first bytes", error))?;
    if start.starts_with(&gzip::MAGIC) {
        decode(Gunzip::new(file), accept)
    } else if start.starts_with(&[0, 0]) {
        decode(file, accept)
    } else {
        let found = &start[..start.len().min(2)];
        let what = it_is(start).unwrap_or_else(|| format!("the first bytes are {found:02x?}"));
        Err(format!("is neither gzip nor idx: {what}"))
    }
}

/// The array, or a description of what is wrong with it.
fn decode(mut file: impl Read, accept: impl Fn(u8) -> Result<(), String>) -> Result<Raw, String> {
    let mut magic = [0; 4];
    file.read_exact(&mut magic).map_err(|error| unreadable("the header", error))?;
    let [0, 0, kind, rank] = magic else {
        let found = u32::from_be_bytes(magic);
        return Err(format!("is not idx: expected a magic number 0x0000ttnn, found 0x{found:08x}"));
    };
    accept(kind)?;
    let size = match kind {
        0x08 | 0x09 => 1,
        0x0B => 2,
        0x0C | 0x0D => 4,
        0x0E => 8,
        _ => return Err(format!("holds elements of type 0x{kind:02x} (unknown)")),
    };
    let mut dims = vec![0; usize::from(rank)];
    for dim in &mut dims {
        let mut bytes = [0; 4];
        file.read_exact(&mut bytes).map_err(|error| unreadable("the header", error))?;
        *dim = u32::from_be_bytes(bytes) as usize;
    }
    let (declared, needed) = elements(&dims)
        .and_then(|declared| Some((declared, declared.checked_mul(size)?)))
        .ok_or_else(|| format!("declares the dimensions {dims:?}: more elements than can be counted"))?;

    // Asking for one byte more detects excess data; reaching the end makes the gzip decoder verify the
    // checksum.
    let mut bytes = Vec::new();
    let limit = (needed as u64).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes).map_err(|error| unreadable("the elements", error))?;
    if bytes.len() < needed {
        let found = bytes.len() / size;
        return Err(format!("is truncated: it declares {dims:?}, {declared} elements, and holds {found}"));
    }
    if bytes.len() > needed {
        return Err(format!(
            "holds more than the {declared} elements of the dimensions {dims:?} it declares"
        ));
    }
    bytes.shrink_to_fit();
    Ok(Raw { kind, dims, bytes })
}

fn unreadable(part: &str, error: io::Error) -> String {
    match error.kind() {
        ErrorKind::UnexpectedEof => format!("is truncated: it ends in {part}"),
        _ => format!("cannot be read ({part}): {error}"),
    }
}
