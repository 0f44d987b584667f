//! What an idx file holds, and whether the readers of the crate say the same.

use std::path::Path;

use gristmill::Result;
use gristmill::data::{Dataset, Idx, Mnist, read_idx};
use gristmill::tensor::Shape;

use super::files::{Nameless, read};
use super::memory;

/// A whole array.
pub struct Array<'a> {
    pub kind: u8,
    pub dims: Vec<usize>,
    pub data: &'a [u8],
}

/// The start of a file: the type of the elements, the dimensions, and what is left.
fn header(bytes: &[u8]) -> Option<(Array<'_>, usize)> {
    let [0, 0, kind, rank, rest @ ..] = bytes else { return None };
    let width = match kind {
        8 | 9 => 1,
        11 => 2,
        12 | 13 => 4,
        14 => 8,
        _ => return None,
    };
    let (dims, data) = rest.split_at_checked(4 * usize::from(*rank))?;
    let dim = |bytes: &[u8]| bytes.iter().fold(0, |dim, &byte| dim << 8 | usize::from(byte));
    let dims: Vec<usize> = dims.chunks(4).map(dim).collect();
    let needed =
        dims.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim))?.checked_mul(width)?;
    Some((Array { kind: *kind, dims, data }, needed))
}

/// The array in the contents of a file, if it is one and nothing else.
pub fn parse(bytes: &[u8]) -> Option<Array<'_>> {
    header(bytes).filter(|(array, needed)| array.data.len() == *needed).map(|(array, _)| array)
}

/// How many bytes of elements a reader may hold: those there are, as far as the header declares them.
fn held(bytes: &[u8]) -> usize {
    header(bytes).map_or(0, |(array, needed)| array.data.len().min(needed.saturating_add(1)))
}

/// Buffers of the file and of the decoder, and texts of errors.
const BUFFERS: usize = 1 << 18;

/// Whether a reader gave what the file holds.
fn given<R>(result: Result<R>, expected: bool, damaged: bool) -> Option<R> {
    let value = read(result);
    assert!(expected || value.is_none(), "there is no such array in the file");
    assert!(damaged || !expected || value.is_some(), "a whole array was refused");
    value
}

/// Reads a file as numbers of each type; `contents` is what it holds, unpacked. A damaged file may be an
/// error, but never anything else than its contents.
pub fn check(path: &Path, contents: &[u8], damaged: bool) {
    let expected = parse(contents);
    let held = held(contents);
    macro_rules! read_as {
        ($($type:ident: $kind:literal),+) => { $({
            let found = memory::within(BUFFERS + 4 * held, || Idx::<$type>::read(path));
            let expected = expected.as_ref().filter(|array| array.kind == $kind);
            if let Some(found) = given(found, expected.is_some(), damaged) {
                let expected = expected.expect("checked above");
                assert_eq!(found.dims, expected.dims);
                assert!(found.data.iter().flat_map(|x| x.to_be_bytes()).eq(expected.data.iter().copied()));
            }
        })+ };
    }
    read_as!(u8: 8, i8: 9, i16: 11, i32: 12, f32: 13, f64: 14);

    let fits = expected.as_ref().filter(|array| Shape::new(&array.dims).is_ok());
    let found = memory::within(BUFFERS + 40 * held, || read_idx::<f64>(path));
    if let Some(found) = given(found, fits.is_some(), damaged) {
        let expected = fits.expect("checked above");
        assert_eq!(found.shape(), expected.dims);
        let bits: Vec<u64> = found.to_vec().into_iter().map(f64::to_bits).collect();
        assert!(bits == numbers(expected), "other numbers than in the file");
    }
}

/// The bits of the numbers as f64.
fn numbers(array: &Array) -> Vec<u64> {
    fn all<const W: usize>(data: &[u8], number: impl Fn([u8; W]) -> f64) -> Vec<u64> {
        data.as_chunks().0.iter().map(|&bytes| number(bytes).to_bits()).collect()
    }
    match array.kind {
        8 => all(array.data, |[x]| x.into()),
        9 => all(array.data, |x| i8::from_be_bytes(x).into()),
        11 => all(array.data, |x| i16::from_be_bytes(x).into()),
        12 => all(array.data, |x| i32::from_be_bytes(x).into()),
        13 => all(array.data, |x| f32::from_be_bytes(x).into()),
        _ => all(array.data, f64::from_be_bytes),
    }
}

/// Reads two files as images and labels below `classes`; what comes out is what they hold.
pub fn check_mnist(images: &[u8], labels: &[u8], classes: usize) {
    let files = [Nameless::new(images), Nameless::new(labels)];
    let held = held(images) + held(labels);
    let found = memory::within(2 * BUFFERS + 4 * held, || {
        Mnist::from_files_with_classes(files[0].path(), files[1].path(), classes)
    });
    let bytes = |contents| parse(contents).filter(|array| array.kind == 8);
    let expected = bytes(images).zip(bytes(labels)).filter(|(images, labels)| {
        let one_each = images.dims.len() == 3 && labels.dims == images.dims[..1];
        one_each && labels.data.iter().all(|&label| usize::from(label) < classes)
    });
    let Some(found) = given(found, expected.is_some(), false) else { return };
    let (images, labels) = expected.expect("checked above");
    assert_eq!([found.len(), found.rows(), found.cols()], images.dims[..]);
    let size = if found.is_empty() { 0 } else { found.rows() * found.cols() };
    let mut out = vec![0.0; size];
    for index in 0..found.len().min(100) {
        assert_eq!(found.image(index), &images.data[index * size..][..size]);
        assert_eq!(found.label(index), usize::from(labels.data[index]));
        found.read(index, &mut out).expect("the image is there");
        assert!(out.iter().zip(found.image(index)).all(|(&x, &pixel)| x == f32::from(pixel) / 255.0));
    }
    assert!(found.read(found.len(), &mut out).is_err());
}
