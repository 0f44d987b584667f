//! The idx format of the MNIST database, in gzip.
//!
//! Two zero bytes, a byte for the type of the elements (8: `u8`), a byte for the number of dimensions, each dimension
//! in four bytes, the highest first, then the elements, the last dimension running fastest.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::Path;

use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

use crate::error::{Error, Result};
use crate::files::replace;

const GZIP_MAGIC: [u8; 2] = [0x1F, 0x8B];
const U8: u8 = 0x08;

/// An array of bytes, as in `train-images-idx3-ubyte.gz`.
///
/// ```
/// use gristmill::data::Idx;
/// let path = std::env::temp_dir().join(format!("gristmill-doc-{}.gz", std::process::id()));
/// let labels = Idx { dims: vec![3], data: vec![5, 0, 4] };
/// labels.write(&path)?;
/// assert_eq!(Idx::read(&path)?, labels);
/// # std::fs::remove_file(path).ok();
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idx {
    /// The length of each dimension, the outermost first.
    pub dims: Vec<usize>,
    /// The elements, the last dimension running fastest: as many as the product of `dims`.
    pub data: Vec<u8>,
}

impl Idx {
    /// Reads a gzip file.
    ///
    /// The whole file is read and its checksums are verified. What a header declares is not believed: memory grows
    /// with the bytes that are really there, up to the declared number.
    ///
    /// # Errors
    /// [`Error::File`] when the file is missing, unreadable, not gzip, damaged, truncated or followed by more; when it
    /// is not idx, or idx of another type than `u8`; when the header declares more elements than can be counted, or
    /// another number than the file holds.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file =
            File::open(path).map_err(|error| Error::file(path, format!("cannot be opened: {error}")))?;
        decode(BufReader::new(file)).map_err(|reason| Error::file(path, reason))
    }

    /// Writes a gzip file: under another name in the same folder, then renamed, so that `path` never holds half a file.
    ///
    /// # Errors
    /// [`Error::Shape`] when `data` does not have as many elements as `dims` say or the format cannot hold `dims`;
    /// [`Error::File`] when the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let header = self.header()?;
        replace(path.as_ref(), |file| {
            let mut gzip = GzEncoder::new(BufWriter::new(file), Compression::default());
            gzip.write_all(&header)?;
            gzip.write_all(&self.data)?;
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
        let mut header = vec![0, 0, U8, rank];
        for &dim in dims {
            header.extend(u32::try_from(dim).map_err(|_| too_large())?.to_be_bytes());
        }
        Ok(header)
    }
}

fn elements(dims: &[usize]) -> Option<usize> {
    dims.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim))
}

/// The array in a gzip file, or what is wrong with it.
fn decode(mut file: impl BufRead) -> Result<Idx, String> {
    let start = file.fill_buf().map_err(|error| unreadable("the first bytes", error))?;
    if !start.starts_with(&GZIP_MAGIC) {
        let found = &start[..start.len().min(2)];
        return Err(format!("is not gzip: expected the first bytes {GZIP_MAGIC:02x?}, found {found:02x?}"));
    }
    // A gzip file is a sequence of members. A decoder of the first one would not see what follows it.
    let mut gzip = MultiGzDecoder::new(file);

    let mut magic = [0; 4];
    gzip.read_exact(&mut magic).map_err(|error| unreadable("the header", error))?;
    let [0, 0, kind, rank] = magic else {
        let found = u32::from_be_bytes(magic);
        return Err(format!("is not idx: expected a magic number 0x000008nn, found 0x{found:08x}"));
    };
    if kind != U8 {
        let name = match kind {
            0x09 => "i8",
            0x0B => "i16",
            0x0C => "i32",
            0x0D => "f32",
            0x0E => "f64",
            _ => "unknown",
        };
        return Err(format!("holds elements of type 0x{kind:02x} ({name}), expected 0x{U8:02x} (u8)"));
    }
    let mut dims = vec![0; usize::from(rank)];
    for dim in &mut dims {
        let mut bytes = [0; 4];
        gzip.read_exact(&mut bytes).map_err(|error| unreadable("the header", error))?;
        *dim = u32::from_be_bytes(bytes) as usize;
    }
    let declared = elements(&dims)
        .ok_or_else(|| format!("declares the dimensions {dims:?}: more elements than can be counted"))?;

    // One byte more shows that there is more; reaching the end makes the decoder verify the checksum.
    let mut data = Vec::new();
    let limit = (declared as u64).saturating_add(1);
    gzip.take(limit).read_to_end(&mut data).map_err(|error| unreadable("the elements", error))?;
    if data.len() < declared {
        let found = data.len();
        return Err(format!("is truncated: it declares {dims:?}, {declared} elements, and holds {found}"));
    }
    if data.len() > declared {
        return Err(format!(
            "holds more than the {declared} elements of the dimensions {dims:?} it declares"
        ));
    }
    data.shrink_to_fit();
    Ok(Idx { dims, data })
}

fn unreadable(part: &str, error: io::Error) -> String {
    match error.kind() {
        ErrorKind::UnexpectedEof => format!("is truncated: it ends in {part}"),
        _ => format!("cannot be read ({part}): {error}"),
    }
}
