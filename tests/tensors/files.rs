//! Tensors in files of NumPy and of safetensors, and in arrays of ndarray: what is written is read, what is
//! damaged is an error.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::common::noise;
use gristmill::tensor::{load_safetensors, save_safetensors};
use gristmill::{Element, Result, Tensor};
use proptest::prelude::*;
use tempfile::TempDir;

/// A folder that goes with it, and a file in it.
fn place(name: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    (folder, path)
}

/// A `.npy` file as NumPy writes it.
fn npy(version: u8, header: &str, elements: &[u8]) -> Vec<u8> {
    let len = (header.len() as u32).to_le_bytes();
    let len = if version == 1 { &len[..2] } else { &len[..] };
    [b"\x93NUMPY".as_slice(), &[version, 0], len, header.as_bytes(), elements].concat()
}

fn load<T: Element>(bytes: &[u8]) -> Result<Tensor<T>> {
    let (_folder, path) = place("array.npy");
    fs::write(&path, bytes).unwrap();
    Tensor::load_npy(&path)
}

fn round_trip<T: Element>(shape: &[usize]) {
    let x = Tensor::from_slice(&noise::<T>(shape.iter().product(), 1), shape).unwrap();
    let (_folder, path) = place("array.npy");
    x.save_npy(&path).unwrap();
    assert!(Tensor::load_npy(&path).unwrap().equals(&x));
    let bytes = fs::read(&path).unwrap();
    assert_eq!((bytes.len() - x.len() * size_of::<T>()) % 64, 0);
}

#[test]
fn arrays_come_back_from_npy_files() {
    for shape in [[].as_slice(), &[0], &[1], &[7], &[2, 3], &[3, 0, 2], &[1, 2, 1, 3, 1, 2]] {
        round_trip::<f32>(shape);
        round_trip::<f64>(shape);
    }
}

/// The bytes are those that NumPy 2 writes for the same array.
#[test]
fn npy_files_are_those_of_numpy() {
    let (_folder, path) = place("array.npy");
    Tensor::from([[1.0_f32, -2.0, 0.5]]).t().unwrap().save_npy(&path).unwrap();
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 1), }";
    let expected = npy(1, &format!("{header:<117}\n"), &[0, 0, 128, 63, 0, 0, 0, 192, 0, 0, 0, 63]);
    assert_eq!(fs::read(&path).unwrap(), expected);
    Tensor::from([1.0_f64]).save_npy(&path).unwrap();
    assert!(
        fs::read(&path).unwrap()[10..]
            .starts_with(b"{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }")
    );
    Tensor::scalar(1.0_f64).save_npy(&path).unwrap();
    assert!(
        fs::read(&path).unwrap()[10..]
            .starts_with(b"{'descr': '<f8', 'fortran_order': False, 'shape': (), }")
    );
}

#[test]
fn all_types_orders_and_versions_are_read() {
    let header = |descr: &str, fortran: bool, shape: &str| {
        let fortran = if fortran { "True" } else { "False" };
        format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}   \n")
    };
    let case = |descr: &str, bytes: &[u8]| {
        load::<f64>(&npy(1, &header(descr, false, "(2,)"), bytes)).unwrap().to_vec()
    };
    let both = |a: &[u8], b: &[u8]| [a, b].concat();
    assert_eq!(case("<f8", &both(&1.5f64.to_le_bytes(), &(-3f64).to_le_bytes())), [1.5, -3.0]);
    assert_eq!(case(">f8", &both(&1.5f64.to_be_bytes(), &(-3f64).to_be_bytes())), [1.5, -3.0]);
    assert_eq!(case("<f4", &both(&1.5f32.to_le_bytes(), &(-3f32).to_le_bytes())), [1.5, -3.0]);
    assert_eq!(case(">f4", &both(&1.5f32.to_be_bytes(), &(-3f32).to_be_bytes())), [1.5, -3.0]);
    assert_eq!(case("<f2", &[0x00, 0x3E, 0x01, 0x80]), [1.5, -(2f64.powi(-24))]);
    assert_eq!(case(">f2", &[0x7B, 0xFF, 0xFC, 0x00]), [65504.0, f64::NEG_INFINITY]);
    assert_eq!(case("|b1", &[1, 0]), [1.0, 0.0]);
    assert_eq!(case("|i1", &[0xFF, 0x7F]), [-1.0, 127.0]);
    assert_eq!(case("|u1", &[0xFF, 0x7F]), [255.0, 127.0]);
    assert_eq!(case("<i2", &both(&(-300i16).to_le_bytes(), &300i16.to_le_bytes())), [-300.0, 300.0]);
    assert_eq!(case(">u2", &both(&65535u16.to_be_bytes(), &1u16.to_be_bytes())), [65535.0, 1.0]);
    assert_eq!(case(">i4", &both(&i32::MIN.to_be_bytes(), &7i32.to_be_bytes())), [-2147483648.0, 7.0]);
    assert_eq!(case("<u4", &both(&u32::MAX.to_le_bytes(), &7u32.to_le_bytes())), [4294967295.0, 7.0]);
    assert_eq!(case("<i8", &both(&(-5i64).to_le_bytes(), &i64::MIN.to_le_bytes())), [-5.0, -(2f64.powi(63))]);
    assert_eq!(case("<u8", &both(&5u64.to_le_bytes(), &u64::MAX.to_le_bytes())), [5.0, 2f64.powi(64)]);
    let six: Vec<u8> = (0..6u8).collect();
    for version in [1, 2, 3] {
        let c = load::<f32>(&npy(version, &header("|u1", false, "(2, 3)"), &six)).unwrap();
        assert_eq!(c.to_vec2().unwrap(), [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]);
        let fortran = load::<f32>(&npy(version, &header("|u1", true, "(2, 3)"), &six)).unwrap();
        assert_eq!(fortran.to_vec2().unwrap(), [[0.0, 2.0, 4.0], [1.0, 3.0, 5.0]]);
    }
    // Other spellings of the same dictionary.
    for text in [
        "{\"shape\":(2,3),\"fortran_order\":False,\"descr\":\"|u1\"}",
        " { 'shape' : ( 2L , 3L ) , 'descr' : '|u1' , 'fortran_order' : False , } ",
    ] {
        assert_eq!(load::<f32>(&npy(1, text, &six)).unwrap().shape(), [2, 3]);
    }
}

#[test]
fn what_is_no_npy_file_is_named() {
    let text = |bytes: &[u8]| {
        let error = load::<f32>(bytes).unwrap_err().to_string();
        error.split_once("array.npy: ").unwrap_or_else(|| panic!("no file in {error}")).1.to_owned()
    };
    let with = |header: &str| npy(1, header, &[0; 8]);
    assert_eq!(text(b"PK\x03\x04 a zip file"), "is not a .npy file: it is a zip archive");
    assert_eq!(text(b"1, 2\n"), "is not a .npy file");
    for start in [b"".as_slice(), b"\x93", b"\x93NUMPY\x01"] {
        assert_eq!(text(start), "is truncated: it ends in the header");
    }
    assert_eq!(text(&npy(4, "{}", &[])), "has the unknown version 4");
    assert_eq!(
        text(&with("{'descr': '<c8', 'fortran_order': False, 'shape': (1,)}")),
        "holds elements of type <c8, not numbers of 1 to 8 bytes"
    );
    assert_eq!(
        text(&with("{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}")),
        "should hold 12 bytes of elements for the shape [3], holds 8"
    );
    assert_eq!(
        text(&with("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}")),
        "should hold 4 bytes of elements for the shape [1], holds more"
    );
    assert_eq!(
        text(&with("{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,2)}")),
        "has 7 axes, at most 6 are supported"
    );
    // A header that asks for all the memory there is.
    assert!(
        text(&with("{'descr': '<f8', 'fortran_order': False, 'shape': (1152921504606846975,)}"))
            .contains("holds 8")
    );
    assert!(
        text(&with("{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296)}"))
            .contains("too many")
    );
    assert!(text(&npy(2, "", &[0; 4])).contains("header that cannot be read"));
    assert!(text(b"\x93NUMPY\x02\x00\xFF\xFF\xFF\xFF{}").contains("header of 4294967295 bytes"));
    for header in [
        "{'descr': '<f4', 'fortran_order': False}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'more': 1}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,}",
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f4' 'fortran_order': False, 'shape': (1,)}",
        "é",
    ] {
        assert!(text(&with(header)).contains("header that cannot be read"), "{header}");
    }
    let missing = Tensor::<f32>::load_npy("/no/such/file.npy").unwrap_err().to_string();
    assert!(missing.starts_with("/no/such/file.npy: cannot be opened"), "{missing}");
    assert!(Tensor::scalar(1.0_f32).save_npy("/no/such/folder/file.npy").is_err());
}

#[test]
fn damaged_npy_files_never_panic() {
    let (_folder, path) = place("array.npy");
    Tensor::from([[1.0_f32, 2.0, 3.0], [4.0, 5.0, 6.0]]).save_npy(&path).unwrap();
    let whole = fs::read(&path).unwrap();
    for len in 0..whole.len() {
        assert!(load::<f32>(&whole[..len]).is_err(), "cut at {len}");
    }
    let header = whole.len() - 24;
    for place in 0..header {
        for bit in 0..8 {
            let mut damaged = whole.clone();
            damaged[place] ^= 1 << bit;
            // Some damage leaves another valid header; then the number of elements is the same.
            if let Ok(x) = load::<f32>(&damaged) {
                assert_eq!(x.len(), 6, "bit {bit} of byte {place}");
            }
        }
    }
}

#[test]
fn named_tensors_come_back_from_safetensors_files() {
    let tensors: BTreeMap<String, Tensor> = [
        ("a.weight".to_owned(), Tensor::from([[1.0, -0.0, f32::INFINITY], [4.0, 1e-45, 6.0]])),
        ("b".to_owned(), Tensor::scalar(2.5)),
        ("none".to_owned(), Tensor::zeros([0, 3]).unwrap()),
    ]
    .into();
    let (_folder, path) = place("x.safetensors");
    save_safetensors(&tensors, &path).unwrap();
    let read = load_safetensors::<f32>(&path).unwrap();
    assert_eq!(read.len(), 3);
    assert!(tensors.iter().all(|(name, tensor)| read[name].equals(tensor)));
    assert_eq!(load_safetensors::<f64>(&path).unwrap()["b"].item().unwrap(), 2.5);
    let whole = fs::read(&path).unwrap();
    for len in 0..whole.len() {
        fs::write(&path, &whole[..len]).unwrap();
        let error = load_safetensors::<f32>(&path).unwrap_err().to_string();
        assert!(error.contains("x.safetensors: is not a safetensors file"), "{error}");
    }
    assert!(
        load_safetensors::<f32>("/no/such/file")
            .unwrap_err()
            .to_string()
            .starts_with("/no/such/file: cannot")
    );
}

#[test]
fn safetensors_of_other_types_are_converted() {
    let (_folder, path) = place("x.safetensors");
    let file = |dtype: &str, bytes: &[u8]| {
        let header =
            format!("{{\"x\":{{\"dtype\":\"{dtype}\",\"shape\":[2],\"data_offsets\":[0,{}]}}}}", bytes.len());
        let len = (header.len() as u64).to_le_bytes();
        fs::write(&path, [&len, header.as_bytes(), bytes].concat()).unwrap();
        load_safetensors::<f32>(&path).map(|tensors| tensors["x"].to_vec())
    };
    assert_eq!(file("BF16", &[0xC0, 0x3F, 0x80, 0xFF]).unwrap(), [1.5, f32::NEG_INFINITY]);
    assert_eq!(file("F16", &[0x00, 0x3E, 0x00, 0xC2]).unwrap(), [1.5, -3.0]);
    assert_eq!(file("I64", &[1i64.to_le_bytes(), (-9i64).to_le_bytes()].concat()).unwrap(), [1.0, -9.0]);
    assert_eq!(file("BOOL", &[1, 0]).unwrap(), [1.0, 0.0]);
    let error = file("F8_E4M3", &[1, 0]).unwrap_err().to_string();
    assert!(error.ends_with("x.safetensors: x holds F8_E4M3, which has no conversion"), "{error}");
}

#[test]
fn one_tensor_without_conversion_does_not_refuse_the_others() {
    let (_folder, path) = place("x.safetensors");
    let header = r#"{"a":{"dtype":"F8_E5M2","shape":[1],"data_offsets":[0,1]},
        "b":{"dtype":"C64","shape":[1],"data_offsets":[1,9]},
        "c":{"dtype":"U8","shape":[1,1,1,1,1,1,1],"data_offsets":[9,10]},
        "d":{"dtype":"U8","shape":[2],"data_offsets":[10,12]}}"#;
    fs::write(&path, [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[7; 12]].concat()).unwrap();
    let read = load_safetensors::<f32>(&path).unwrap();
    assert_eq!((read.len(), read["d"].to_vec()), (1, vec![7.0, 7.0]));
    assert_eq!(read.tensor("d").unwrap().to_vec(), [7.0, 7.0]);
    let skipped: Vec<(&str, &str)> =
        read.skipped().iter().map(|(name, why)| (name.as_str(), why.as_str())).collect();
    assert_eq!(
        skipped,
        [
            ("a", "holds F8_E5M2, which has no conversion"),
            ("b", "holds C64, which has no conversion"),
            ("c", "has 7 axes, at most 6 are supported"),
        ]
    );
    let text = |name: &str| read.tensor(name).unwrap_err().to_string();
    assert!(text("b").ends_with("x.safetensors: b holds C64, which has no conversion"), "{}", text("b"));
    assert!(text("e").ends_with("x.safetensors: there is no e among d"), "{}", text("e"));
}

#[test]
fn names_lose_a_prefix_unless_two_become_one() {
    let one = Tensor::from([1.0_f32]);
    let (_folder, path) = place("x.safetensors");
    let mut tensors: BTreeMap<String, Tensor> =
        ["module.a", "module.b.module.c", "d"].map(|name| (name.to_owned(), one.clone())).into();
    save_safetensors(&tensors, &path).unwrap();
    let bare: BTreeMap<_, _> =
        load_safetensors::<f32>(&path).unwrap().without_prefix("module.").unwrap().into();
    assert_eq!(bare.into_keys().collect::<Vec<_>>(), ["a", "b.module.c", "d"]);
    tensors.insert("a".to_owned(), one.clone());
    save_safetensors(&tensors, &path).unwrap();
    let error = load_safetensors::<f32>(&path).unwrap().without_prefix("module.").unwrap_err().to_string();
    assert!(error.ends_with("x.safetensors: holds a twice"), "{error}");
}

#[cfg(feature = "npz")]
#[test]
fn one_entry_that_is_no_array_of_numbers_does_not_refuse_the_others() {
    use std::io::Write;

    use gristmill::tensor::load_npz;
    let number = npy(1, "{'descr': '|u1', 'fortran_order': False, 'shape': (1,)}", &[7]);
    let text = npy(1, "{'descr': '<U1', 'fortran_order': False, 'shape': (1,)}", b"a\0\0\0");
    let object = npy(1, "{'descr': '|O', 'fortran_order': False, 'shape': ()}", b"\x80\x02N.");
    let record = npy(1, "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", &[0; 4]);
    let archive = |entries: &[(&str, &[u8])]| {
        let (folder, path) = place("x.npz");
        let mut archive = zip::ZipWriter::new(fs::File::create(&path).unwrap());
        for (name, bytes) in entries {
            archive.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            archive.write_all(bytes).unwrap();
        }
        archive.finish().unwrap();
        (folder, path)
    };
    let entries: [(&str, &[u8]); 5] = [
        ("labels.npy", &text),
        ("object.npy", &object),
        ("record.npy", &record),
        ("readme.txt", b"read me"),
        ("x.npy", &number),
    ];
    let (_folder, path) = archive(&entries);
    let read = load_npz::<f32>(&path).unwrap();
    assert_eq!((read.len(), read["x"].to_vec()), (1, vec![7.0]));
    assert_eq!(read.skipped().keys().collect::<Vec<_>>(), ["labels", "object", "readme.txt", "record"]);
    let error = read.tensor("labels").unwrap_err().to_string();
    assert!(
        error.ends_with("x.npz: labels holds elements of type <U1, not numbers of 1 to 8 bytes"),
        "{error}"
    );

    // What is damaged, there twice or all there is, is an error as before.
    let text_of = |entries: &[(&str, &[u8])]| {
        let (_folder, path) = archive(entries);
        load_npz::<f32>(&path).unwrap_err().to_string()
    };
    assert!(text_of(&[("x.npy", &number), ("y.npy", &number[..20])]).contains("x.npz: y.npy "));
    assert!(text_of(&[("x.npy", &number), ("x", &number)]).ends_with("x.npz: holds x twice"));
    assert!(
        text_of(&entries[..1]).ends_with("labels holds elements of type <U1, not numbers of 1 to 8 bytes")
    );
    let torch = text_of(&[("archive/data.pkl", b"\x80\x02N."), ("archive/version", b"3\n")]);
    assert!(torch.contains("x.npz: is not a .npz file: it is a file of torch.save"), "{torch}");
    for (bytes, what) in [
        (b"<!DOCTYPE html>".as_slice(), "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (&number, "a .npy file"),
    ] {
        fs::write(&path, bytes).unwrap();
        let error = load_npz::<f32>(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("x.npz: is not a .npz file: it is {what}")), "{error}");
    }
}

#[cfg(feature = "npz")]
#[test]
fn named_arrays_come_back_from_npz_files() {
    use gristmill::tensor::{load_npz, save_npz};
    let arrays: BTreeMap<String, Tensor> = [
        ("images/first".to_owned(), Tensor::from_slice(&noise::<f32>(3000, 1), [10, 300]).unwrap()),
        ("zeros".to_owned(), Tensor::zeros([100, 100]).unwrap()),
    ]
    .into();
    let (_folder, path) = place("x.npz");
    save_npz(&arrays, &path).unwrap();
    let read = load_npz::<f32>(&path).unwrap();
    assert_eq!(read.len(), 2);
    assert!(arrays.iter().all(|(name, array)| read[name].equals(array)));
    let whole = fs::read(&path).unwrap();
    assert!(whole.len() < 20_000, "{} bytes are not compressed", whole.len());
    for len in (0..whole.len()).step_by(7) {
        fs::write(&path, &whole[..len]).unwrap();
        assert!(load_npz::<f32>(&path).is_err(), "cut at {len}");
    }
    for place in (0..whole.len()).step_by(11) {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x10;
        fs::write(&path, &damaged).unwrap();
        if let Ok(read) = load_npz::<f32>(&path) {
            // Only what the archive does not protect may differ: names and times.
            assert!(read.values().all(|x| arrays.values().any(|y| x.equals(y))), "byte {place}");
        }
    }
    assert!(load_npz::<f32>("/no/such/file").unwrap_err().to_string().starts_with("/no/such/file: cannot"));
}

#[cfg(feature = "ndarray")]
#[test]
fn arrays_of_any_strides_become_tensors() {
    use ndarray::{Array3, ArrayD, Axis, IxDyn, s};
    let array = Array3::from_shape_fn((2, 3, 4), |(i, j, k)| (100 * i + 10 * j + k) as f64);
    let x = Tensor::try_from(&array).unwrap();
    assert_eq!((x.shape(), x.index((1, 2, 3)).unwrap().item().unwrap()), ([2, 3, 4].as_slice(), 123.0));
    let part = array.slice(s![.., ..;-1, 1..;2]);
    let y = Tensor::try_from(part).unwrap();
    assert_eq!((y.shape(), y.to_vec()[..4].to_vec()), ([2, 3, 2].as_slice(), vec![21.0, 23.0, 11.0, 13.0]));
    assert_eq!(y.to_ndarray(), part.to_owned().into_dyn());
    assert_eq!(x.permute(&[2, 0, 1]).unwrap().to_ndarray(), array.permuted_axes([2, 0, 1]).into_dyn());
    assert_eq!(Tensor::try_from(&ArrayD::<f32>::zeros(IxDyn(&[0, 3]))).unwrap().shape(), [0, 3]);
    assert_eq!(Tensor::<f32>::scalar(2.0).to_ndarray().ndim(), 0);
    let deep = ArrayD::<f32>::zeros(IxDyn(&[1; 7]));
    assert!(Tensor::try_from(deep.view()).unwrap_err().to_string().contains("7 axes"));
    let repeated = ndarray::arr1(&[1.0_f32, 2.0]).insert_axis(Axis(0));
    assert_eq!(
        Tensor::try_from(repeated.broadcast((3, 2)).unwrap()).unwrap().to_vec(),
        [1.0, 2.0, 1.0, 2.0, 1.0, 2.0]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_header_panics(header in "[{}()':, a-z<f4L0-9]{0,60}", elements in prop::collection::vec(any::<u8>(), 0..20)) {
        drop(load::<f64>(&npy(1, &header, &elements)));
    }

    #[test]
    fn no_shape_panics(dims in prop::collection::vec(any::<u64>(), 0..8), fortran: bool) {
        let dims: String = dims.iter().map(|len| format!("{},", len >> (len % 64))).collect();
        let fortran = if fortran { "True" } else { "False" };
        let header = format!("{{'descr': '<f4', 'fortran_order': {fortran}, 'shape': ({dims})}}");
        drop(load::<f64>(&npy(1, &header, &[0; 16])));
    }
}
