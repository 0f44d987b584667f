//! Idx files, data sets, transforms and the batches made of them.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use flate2::{Compression, write::GzEncoder};
use gristmill::data::{
    DataLoader, Dataset, Idx, LabeledTensors, Mnist, Normalize, RandomCrop, RandomFlipHorizontal, Split,
    Transform, scale_pixels,
};
use gristmill::{Context, Error, Isa, Result, Rng, Tensor, context};
use tempfile::TempDir;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn idx(dims: &[u32], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, dims.len() as u8];
    bytes.extend(dims.iter().flat_map(|dim| dim.to_be_bytes()));
    bytes.extend(data);
    bytes
}

fn put(dir: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// Asserts an error about the file at `path`, for this reason.
#[track_caller]
fn assert_blames<T: std::fmt::Debug>(result: Result<T>, path: &Path, reason: &str) {
    let error = result.unwrap_err();
    assert!(matches!(&error, Error::File { .. }));
    assert_eq!(error.to_string(), format!("{}: {reason}", path.display()));
}

mod files {
    use super::*;

    #[track_caller]
    fn assert_unreadable(bytes: &[u8], reason: &str) {
        let dir = TempDir::new().unwrap();
        let path = put(&dir, "some.gz", bytes);
        assert_blames(Idx::<u8>::read(&path), &path, reason);
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("some.gz");
        for dims in [vec![], vec![0], vec![5], vec![2, 0, 3], vec![3, 70, 100], vec![1; 255]] {
            let data = (0..dims.iter().product::<usize>()).map(|i| (i * i) as u8).collect();
            let array = Idx { dims, data };
            array.write(&path).unwrap();
            assert_eq!(Idx::read(&path).unwrap(), array);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a temporary file is left");
    }

    #[test]
    fn the_format_is_that_of_the_specification() {
        let dir = TempDir::new().unwrap();
        let path = put(&dir, "some.gz", &gzip(&[0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6]));
        let array = Idx { dims: vec![2, 3], data: vec![1_u8, 2, 3, 4, 5, 6] };
        assert_eq!(Idx::read(&path).unwrap(), array);
    }

    #[test]
    fn members_of_a_gzip_file_are_one_stream() {
        let dir = TempDir::new().unwrap();
        let bytes = idx(&[2, 3], &[1, 2, 3, 4, 5, 6]);
        for at in 0..=bytes.len() {
            let members = [gzip(&bytes[..at]), gzip(&bytes[at..])].concat();
            let array = Idx::<u8>::read(put(&dir, "some.gz", &members)).unwrap();
            assert_eq!(array.data, [1, 2, 3, 4, 5, 6]);
        }
    }

    #[test]
    fn what_cannot_be_written_is_named_and_leaves_nothing() {
        let dir = TempDir::new().unwrap();
        let text = |array: &Idx, path: &Path| array.write(path).unwrap_err().to_string();
        let array = Idx { dims: vec![2, 3], data: vec![0; 5] };
        let path = dir.path().join("some.gz");
        assert_eq!(text(&array, &path), "Idx::write: 5 elements do not fill the dimensions [2, 3]");
        let array = Idx { dims: vec![1; 256], data: vec![0] };
        assert!(
            text(&array, &path)
                .starts_with("Idx::write: idx holds up to 255 dimensions below 2^32, not [1, ")
        );
        let array = Idx { dims: vec![0, 1 << 32], data: vec![] };
        assert!(text(&array, &path).ends_with("not [0, 4294967296]"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);

        let array = Idx { dims: vec![1], data: vec![0] };
        let missing = dir.path().join("missing").join("some.gz");
        assert!(text(&array, &missing).starts_with(&format!("{}: cannot be written: ", missing.display())));
        // The name is taken by a folder: renaming fails.
        let folder = dir.path().join("folder");
        fs::create_dir_all(folder.join("inside")).unwrap();
        assert!(text(&array, &folder).contains("cannot be written"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_file_and_a_folder_are_named() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("missing.gz");
        let error = Idx::<u8>::read(&path).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: cannot be opened: ", path.display())), "{error}");
        let error = Idx::<u8>::read(dir.path()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: cannot be ", dir.path().display())), "{error}");
    }

    #[test]
    fn a_wrong_header_is_named_with_what_was_found() {
        assert_unreadable(b"", "is neither gzip nor idx: the first bytes are []");
        assert_unreadable(b"P5", "is neither gzip nor idx: the first bytes are [50, 35]");
        assert_unreadable(
            &gzip(b"hello world"),
            "is not idx: expected a magic number 0x0000ttnn, found 0x68656c6c",
        );
        let kind = |kind| gzip(&[0, 0, kind, 1, 0, 0, 0, 1, 0, 0, 0, 0]);
        assert_unreadable(&kind(0x0D), "holds elements of type 0x0d (f32), expected 0x08 (u8)");
        assert_unreadable(&kind(0x07), "holds elements of type 0x07 (unknown), expected 0x08 (u8)");
        assert_unreadable(&gzip(&[0, 0, 8]), "is truncated: it ends in the header");
        assert_unreadable(&gzip(&[0, 0, 8, 2, 0, 0, 0, 1]), "is truncated: it ends in the header");
    }

    #[test]
    fn a_header_that_lies_costs_no_memory() {
        let most = u32::MAX as usize;
        assert_unreadable(
            &gzip(&idx(&[u32::MAX; 3], &[1, 2, 3])),
            &format!("declares the dimensions {:?}: more elements than can be counted", [most; 3]),
        );
        // Far more than any machine has: reserving it would end the process.
        for dims in [vec![u32::MAX, u32::MAX], vec![1 << 20, 1 << 20]] {
            let declared = dims.iter().map(|&dim| u64::from(dim)).product::<u64>();
            assert_unreadable(
                &gzip(&idx(&dims, &[1, 2, 3])),
                &format!("is truncated: it declares {dims:?}, {declared} elements, and holds 3"),
            );
        }
        assert_unreadable(
            &gzip(&idx(&[2, 2], &[1, 2, 3])),
            "is truncated: it declares [2, 2], 4 elements, and holds 3",
        );
        // 16 MiB of zeros in 16 KiB.
        assert_unreadable(
            &gzip(&idx(&[2, 2], &vec![0; 1 << 24])),
            "holds more than the 4 elements of the dimensions [2, 2] it declares",
        );
    }

    #[test]
    fn every_truncation_is_an_error() {
        let dir = TempDir::new().unwrap();
        let whole = fs::read("../data/t10k-labels-idx1-ubyte.gz").unwrap();
        let path = put(&dir, "cut.gz", &whole);
        let file = fs::File::options().write(true).open(&path).unwrap();
        for len in (0..whole.len()).rev() {
            file.set_len(len as u64).unwrap();
            let error = Idx::<u8>::read(&path).unwrap_err().to_string();
            let expected = if len < 2 { "is neither gzip nor idx" } else { "is truncated" };
            assert!(error.starts_with(&format!("{}: {expected}", path.display())), "{len} bytes: {error}");
        }
    }

    #[test]
    fn zeros_behind_the_end_are_padding() {
        let dir = TempDir::new().unwrap();
        let bytes = idx(&[3], &[1, 2, 3]);
        for zeros in [1, 7, 512, 20_000] {
            let zeros = vec![0; zeros];
            for padded in [
                [gzip(&bytes), zeros.clone()].concat(),
                [gzip(&bytes[..6]), zeros.clone(), gzip(&bytes[6..]), zeros].concat(),
            ] {
                assert_eq!(Idx::<u8>::read(put(&dir, "some.gz", &padded)).unwrap().data, [1, 2, 3]);
            }
        }
    }

    #[test]
    fn whatever_follows_is_an_error() {
        let whole = gzip(&idx(&[3], &[1, 2, 3]));
        let dir = TempDir::new().unwrap();
        let error = |more: &[u8]| {
            let path = put(&dir, "some.gz", &[&whole, more].concat());
            Idx::<u8>::read(&path).unwrap_err().to_string()
        };
        for more in [b"more".as_slice(), b"\0\0m", b"\x1F", b"\x1F\x8C and more than ten", &[b'P'; 20_000]] {
            let error = error(more);
            assert!(more.len() == 1 || error.contains("bytes after the end"), "{more:x?}: {error}");
        }
        // A member that is cut, and one with another element.
        assert!(error(&[0x1F, 0x8B]).contains("is truncated"));
        assert!(error(&gzip(&[4])).contains("holds more than the 3 elements"));
    }

    #[test]
    fn what_is_given_in_place_of_an_idx_file_is_named() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n";
        assert_unreadable(
            pointer,
            "is neither gzip nor idx: it is a Git LFS pointer in place of the file, which `git lfs pull` fetches",
        );
        assert_unreadable(
            b"<!doctype html>\n<title>404</title>",
            "is neither gzip nor idx: it is an HTML page: what a server says in place of the file, or shows around it",
        );
    }

    #[test]
    fn mnist_is_found_under_the_names_of_others() {
        let images = idx(&[1, 1, 1], &[7]);
        let labels = idx(&[1], &[5]);
        for (folder, images_name, labels_name) in [
            ("", "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte"),
            // Kaggle: with a dot, and each in a folder of its name.
            ("", "t10k-images.idx3-ubyte", "t10k-labels.idx1-ubyte"),
            (
                "",
                "t10k-images-idx3-ubyte/t10k-images-idx3-ubyte",
                "t10k-labels-idx1-ubyte/t10k-labels-idx1-ubyte",
            ),
            (
                "",
                "t10k-images.idx3-ubyte/t10k-images.idx3-ubyte",
                "t10k-labels.idx1-ubyte/t10k-labels.idx1-ubyte",
            ),
            // torchvision: of the root, and of the folder of a data set.
            ("MNIST/raw", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
            ("raw", "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
        ] {
            let dir = TempDir::new().unwrap();
            for (name, bytes) in [(images_name, &images), (labels_name, &labels)] {
                let path = dir.path().join(folder).join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, if name.ends_with(".gz") { gzip(bytes) } else { bytes.clone() }).unwrap();
            }
            let mnist = Mnist::load(dir.path(), Split::Test).unwrap();
            assert_eq!((mnist.image(0), mnist.label(0)), (&[7][..], 5), "{images_name}");
            let error = Mnist::load(dir.path(), Split::Train).unwrap_err().to_string();
            assert!(
                error.contains(
                    "train-images-idx3-ubyte.gz: cannot be opened: it is not there, nor is any of "
                ),
                "{error}"
            );
            for name in ["train-images-idx3-ubyte", "train-images.idx3-ubyte"] {
                for path in [format!("{name}.gz"), format!("{name}, ")] {
                    assert!(error.contains(&dir.path().join(path).display().to_string()), "{error}");
                }
            }
            assert_eq!(
                error.matches("no such folder").count(),
                if folder.is_empty() { 2 } else { 1 },
                "{error}"
            );
        }
    }

    #[test]
    fn a_flipped_bit_is_an_error_or_does_not_matter() {
        let dir = TempDir::new().unwrap();
        let small = gzip(&idx(&[3, 2], &[1, 2, 3, 4, 5, 6]));
        let real = fs::read("../data/t10k-labels-idx1-ubyte.gz").unwrap();
        for whole in [small, real] {
            let path = put(&dir, "some.gz", &whole);
            let expected = Idx::<u8>::read(&path).unwrap();
            // The headers, and the checksum and the length at the end.
            let bytes = (0..whole.len()).filter(|&i| i < 150 || i + 8 >= whole.len());
            let mut file = fs::File::options().write(true).open(&path).unwrap();
            let mut set = |byte: usize, to: u8| {
                file.seek(SeekFrom::Start(byte as u64)).unwrap();
                file.write_all(&[to]).unwrap();
            };
            for (byte, bit) in bytes.flat_map(|byte| (0..8).map(move |bit| (byte, bit))) {
                set(byte, whole[byte] ^ 1 << bit);
                match Idx::read(&path) {
                    Ok(array) => assert!(array == expected, "bit {bit} of byte {byte} changes the elements"),
                    Err(error) => assert!(matches!(error, Error::File { .. })),
                }
                set(byte, whole[byte]);
            }
        }
    }
}

mod mnist {
    use super::*;

    #[test]
    fn the_real_images_and_labels_are_there() {
        let test = Mnist::load("../data", Split::Test).unwrap();
        assert_eq!((test.len(), test.rows(), test.cols(), test.classes()), (10_000, 28, 28, 10));
        assert_eq!([0, 1, 2, 3, 4].map(|i| test.label(i)), [7, 2, 1, 0, 4]);
        assert_eq!(test.image(0)[201..206], [0, 84, 185, 159, 151]);
        let sum = |data: &Mnist| -> u64 {
            (0..data.len()).flat_map(|i| data.image(i)).map(|&pixel| u64::from(pixel)).sum()
        };
        assert_eq!(sum(&test), 264_923_200);

        let train = Mnist::load("../data", Split::Train).unwrap();
        assert_eq!(train.len(), 60_000);
        assert_eq!([0, 1, 2, 3, 4].map(|i| train.label(i)), [5, 0, 4, 1, 9]);
        assert_eq!(train.image(0)[151..158], [0, 3, 18, 18, 18, 126, 136]);
        assert_eq!(sum(&train), 1_567_298_545);
        let counts = (0..train.len()).fold([0; 10], |mut counts, i| {
            counts[train.label(i)] += 1;
            counts
        });
        assert_eq!(counts, [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]);
        assert_eq!(format!("{train:?}"), "Mnist(60000 images of 28 × 28)");
    }

    #[test]
    fn an_image_is_read_as_numbers_between_0_and_1() {
        let test = Mnist::load("../data", Split::Test).unwrap();
        assert_eq!(Dataset::shape(&test), [28, 28, 1]);
        let mut image = vec![f32::NAN; 784];
        test.read(9_999, &mut image).unwrap();
        let expected: Vec<f32> = test.image(9_999).iter().map(|&pixel| f32::from(pixel) / 255.0).collect();
        assert_eq!(image, expected);

        let text = |result: Result<()>| result.unwrap_err().to_string();
        assert_eq!(text(test.read(10_000, &mut image)), "Mnist: there is no image 10000 among 10000");
        assert_eq!(text(test.read(0, &mut [])), "scale_pixels: out has 0 elements, expected 784");
    }

    #[test]
    fn scaled_pixels_are_the_rounded_quotients_on_every_isa() {
        let pixels: Vec<u8> = (0..=255).collect();
        let expected: Vec<f32> = pixels.iter().map(|&pixel| f32::from(pixel) / 255.0).collect();
        for isa in Isa::available() {
            for start in [0, 1, 240] {
                let mut scaled = vec![f32::NAN; 256 - start];
                Context::new().isa(isa).run(|| scale_pixels(&pixels[start..], &mut scaled)).unwrap().unwrap();
                assert_eq!(scaled, expected[start..], "{isa}");
            }
        }
        assert!(scale_pixels(&pixels, &mut [0.0; 255]).is_err());
        scale_pixels(&[], &mut []).unwrap();
    }

    #[test]
    fn files_that_do_not_fit_together_are_named() {
        let dir = TempDir::new().unwrap();
        let file = |name, dims: &[u32], data: &[u8]| put(&dir, name, &gzip(&idx(dims, data)));
        let images = file("images", &[3, 2, 1], &[1, 2, 3, 4, 5, 6]);
        let labels = file("labels", &[3], &[9, 0, 1]);
        let good = Mnist::from_files(&images, &labels).unwrap();
        assert_eq!((good.len(), good.rows(), good.cols(), good.image(2)), (3, 2, 1, &[5, 6][..]));

        let bad =
            |labels: &Path, reason: &str| assert_blames(Mnist::from_files(&images, labels), labels, reason);
        bad(&images, "labels have 1 dimension [n], found [3, 2, 1]");
        bad(&file("two", &[2], &[0, 0]), &format!("2 labels for the 3 images of {}", images.display()));
        bad(&file("ten", &[3], &[9, 10, 255]), "label 10 of image 1 is not one of 10 classes");
        let reason = "images have 3 dimensions [n, rows, cols], found [3]";
        assert_blames(Mnist::from_files(&labels, &labels), &labels, reason);
        let error = Mnist::load(dir.path(), Split::Test).unwrap_err().to_string();
        assert!(error.contains("t10k-images-idx3-ubyte.gz: cannot be opened: "), "{error}");
    }

    #[test]
    fn images_without_pixels_and_no_images_do_not_panic() {
        let dir = TempDir::new().unwrap();
        let file = |name, dims: &[u32]| {
            put(&dir, name, &gzip(&idx(dims, &vec![0; dims.iter().product::<u32>() as usize])))
        };
        let flat = Mnist::from_files(file("images", &[3, 0, 28]), file("labels", &[3])).unwrap();
        let (images, labels) = DataLoader::new(flat).batch_size(2).iter().next().unwrap().unwrap();
        assert_eq!((images.shape(), labels.len()), (&[2, 0, 28, 1][..], 2));
        let none = Mnist::from_files(file("images", &[0, 28, 28]), file("labels", &[0])).unwrap();
        assert!(none.is_empty());
    }
}

mod transforms {
    use super::*;

    /// What the transform makes of an image.
    fn applied(transform: &dyn Transform, image: &[f32], shape: [usize; 3], rng: &mut Rng) -> Vec<f32> {
        let mut image = image.to_vec();
        transform.apply(&mut image, shape, rng).unwrap();
        image
    }

    #[test]
    fn flipping_mirrors_columns_and_keeps_channels_together() {
        let flip = RandomFlipHorizontal::new(1.0).unwrap();
        let rng = &mut Rng::seed(1);
        let one = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        assert_eq!(applied(&flip, &one, [2, 3, 1], rng), [3.0, 2.0, 1.0, 6.0, 5.0, 4.0]);
        assert_eq!(applied(&flip, &one, [1, 3, 2], rng), [5.0, 6.0, 3.0, 4.0, 1.0, 2.0]);
        assert_eq!(applied(&flip, &one, [1, 2, 3], rng), [4.0, 5.0, 6.0, 1.0, 2.0, 3.0]);
        assert_eq!(applied(&flip, &one, [6, 1, 1], rng), one);
        for empty in [[0, 3, 1], [2, 0, 1], [2, 3, 0]] {
            assert!(applied(&flip, &[], empty, rng).is_empty());
        }
    }

    #[test]
    fn flips_are_as_frequent_as_asked_for() {
        for (p, expected) in [(0.0, 0.0), (0.25, 2500.0), (1.0, 10_000.0)] {
            let flip = RandomFlipHorizontal::new(p).unwrap();
            let rng = &mut Rng::seed(2);
            let flipped = (0..10_000).filter(|_| applied(&flip, &[1.0, 2.0], [1, 2, 1], rng)[0] == 2.0);
            let deviation = (10_000.0 * p * (1.0 - p)).sqrt();
            assert!((flipped.count() as f64 - expected).abs() <= 4.0 * deviation, "{p}");
        }
    }

    #[test]
    fn cropping_shifts_both_axes_on_their_own_and_pads_with_zeros() {
        let image = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
        let crops = [
            [0, 0, 0, 0, 1, 2, 0, 4, 5],
            [0, 0, 0, 1, 2, 3, 4, 5, 6],
            [0, 0, 0, 2, 3, 0, 5, 6, 0],
            [0, 1, 2, 0, 4, 5, 0, 7, 8],
            [1, 2, 3, 4, 5, 6, 7, 8, 9],
            [2, 3, 0, 5, 6, 0, 8, 9, 0],
            [0, 4, 5, 0, 7, 8, 0, 0, 0],
            [4, 5, 6, 7, 8, 9, 0, 0, 0],
            [5, 6, 0, 8, 9, 0, 0, 0, 0],
        ];
        let mut counts = [0_usize; 9];
        let rng = &mut Rng::seed(3);
        for _ in 0..9000 {
            let crop = applied(&RandomCrop::new(1), &image, [3, 3, 1], rng);
            let which =
                crops.iter().position(|expected| crop.iter().zip(expected).all(|(&a, &b)| a == b as f32));
            counts[which.expect("one of nine crops")] += 1;
        }
        // 1000 each, with a standard deviation of 30.
        assert!(counts.iter().all(|count| count.abs_diff(1000) < 120), "{counts:?}");
    }

    #[test]
    fn a_crop_is_a_window_of_the_padded_image() {
        let mut rng = Rng::seed(4);
        for (case, shape) in
            [[5, 7, 3], [1, 1, 1], [4, 4, 2], [28, 28, 1]].into_iter().cycle().take(200).enumerate()
        {
            let [height, width, channels] = shape;
            let image: Vec<f32> = (1..=height * width * channels).map(|i| i as f32).collect();
            let padding = case % 10;
            let (dy, dx) = {
                let mut twin = rng.clone();
                let mut draw = || twin.below(2 * padding + 1).unwrap();
                (draw(), draw())
            };
            let mut expected = vec![0.0; image.len()];
            for (i, expected) in expected.iter_mut().enumerate() {
                let (y, x, channel) = (i / channels / width + dy, i / channels % width + dx, i % channels);
                if (padding..padding + height).contains(&y) && (padding..padding + width).contains(&x) {
                    *expected = image[((y - padding) * width + x - padding) * channels + channel];
                }
            }
            assert_eq!(
                applied(&RandomCrop::new(padding), &image, shape, &mut rng),
                expected,
                "{shape:?} {padding}"
            );
        }
        // Nothing of the image is left, and nothing overflows.
        for padding in [usize::MAX, usize::MAX / 2, usize::MAX / 2 + 1] {
            assert_eq!(applied(&RandomCrop::new(padding), &[1.0; 6], [2, 3, 1], &mut rng), [0.0; 6]);
        }
        assert!(applied(&RandomCrop::new(2), &[], [2, 0, 1], &mut rng).is_empty());
    }

    #[test]
    fn normalizing_takes_each_channel_by_itself() {
        let rng = &mut Rng::seed(5);
        let one = Normalize::new(&[0.5], &[0.25]).unwrap();
        assert_eq!(applied(&one, &[0.0, 0.5, 1.0, 0.75], [2, 2, 1], rng), [-2.0, 0.0, 2.0, 1.0]);
        let two = Normalize::new(&[0.5, 1.0], &[0.25, 2.0]).unwrap();
        assert_eq!(applied(&two, &[0.0, 3.0, 1.0, -1.0], [1, 2, 2], rng), [-2.0, 1.0, 2.0, -1.0]);
        let special = applied(&one, &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY], [3, 1, 1], rng);
        assert!(special[0].is_nan());
        assert_eq!(special[1..], [f32::INFINITY, f32::NEG_INFINITY]);
    }

    #[test]
    fn bad_parameters_and_shapes_are_named() {
        for p in [-0.1, 1.1, f64::NAN] {
            let error = RandomFlipHorizontal::new(p).unwrap_err().to_string();
            assert_eq!(error, format!("RandomFlipHorizontal: {p} is not a probability"));
        }
        let text = |mean: &[f32], std: &[f32]| Normalize::new(mean, std).unwrap_err().to_string();
        let missing = "Normalize: expected a mean and a std for each channel, got";
        assert_eq!(text(&[], &[]), format!("{missing} [] and []"));
        assert_eq!(text(&[0.5], &[1.0, 2.0]), format!("{missing} [0.5] and [1.0, 2.0]"));
        assert_eq!(text(&[f32::NAN], &[1.0]), "Normalize: the mean [NaN] is not finite");
        for std in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            assert_eq!(
                text(&[0.5], &[std]),
                format!("Normalize: the std [{std:?}] is not finite and positive")
            );
        }

        let normalize = Normalize::new(&[0.5; 3], &[1.0; 3]).unwrap();
        let flip = RandomFlipHorizontal::new(0.5).unwrap();
        let transforms: [(&str, &dyn Transform); 3] =
            [("Normalize", &normalize), ("RandomFlipHorizontal", &flip), ("RandomCrop", &RandomCrop::new(1))];
        for (name, transform) in transforms {
            for shape in [[2, 2, 3], [usize::MAX, usize::MAX, 3]] {
                let error = transform.apply(&mut [0.0; 9], shape, &mut Rng::seed(6)).unwrap_err();
                assert_eq!(
                    error.to_string(),
                    format!("{name}: 9 elements are not an image of shape {shape:?}")
                );
            }
        }
        let error = normalize.apply(&mut [0.0; 4], [2, 2, 1], &mut Rng::seed(6)).unwrap_err();
        assert_eq!(error.to_string(), "Normalize: 3 means for an image of shape [2, 2, 1]");
    }
}

mod loading {
    use super::*;

    /// Image `i` is 2 × 3 × 1 numbers that tell `i`, its label is `i`; some images cannot be read.
    struct Numbered {
        len: usize,
        fails: Option<usize>,
        panics: Option<usize>,
        reads: AtomicUsize,
        soon: Mutex<Vec<usize>>,
    }

    fn numbered(len: usize) -> Numbered {
        Numbered { len, fails: None, panics: None, reads: AtomicUsize::new(0), soon: Mutex::default() }
    }

    fn image(index: usize) -> [f32; 6] {
        std::array::from_fn(|i| (10 * index + i) as f32)
    }

    impl Dataset for Numbered {
        fn len(&self) -> usize {
            self.len
        }
        fn shape(&self) -> &[usize] {
            &[2, 3, 1]
        }
        fn classes(&self) -> usize {
            self.len
        }
        fn read(&self, index: usize, out: &mut [f32]) -> Result<()> {
            self.reads.fetch_add(1, Ordering::SeqCst);
            if self.fails == Some(index) {
                return Err(Error::file("somewhere", format!("image {index} is lost")));
            }
            assert!(self.panics != Some(index), "image {index} is cursed");
            out.copy_from_slice(&image(index));
            Ok(())
        }
        fn label(&self, index: usize) -> usize {
            index
        }
        fn read_soon(&self, index: usize) {
            self.soon.lock().unwrap().push(index);
        }
    }

    /// The labels of each batch of the next epoch, whose images must be the right ones.
    fn epoch<D: Dataset + 'static>(loader: &DataLoader<D>) -> Vec<Vec<usize>> {
        loader
            .iter()
            .map(|batch| {
                let (images, labels) = batch.unwrap();
                assert_eq!(images.shape(), [labels.len(), 2, 3, 1]);
                assert_eq!(images.to_vec(), labels.iter().flat_map(|&i| image(i)).collect::<Vec<_>>());
                labels.to_vec()
            })
            .collect()
    }

    /// All numbers of the next epoch, and all labels.
    fn contents<D: Dataset + 'static>(loader: &DataLoader<D>) -> (Vec<f32>, Vec<usize>) {
        let batches: Vec<_> = loader.iter().map(Result::unwrap).collect();
        (
            batches.iter().flat_map(|(images, _)| images.to_vec()).collect(),
            batches.iter().flat_map(|(_, labels)| labels.to_vec()).collect(),
        )
    }

    #[test]
    fn every_image_comes_once_and_the_last_batch_is_smaller_or_dropped() {
        for prefetch in [0, 1, 2, 100, usize::MAX] {
            let loader = || DataLoader::new(numbered(7)).prefetch(prefetch);
            assert_eq!(epoch(&loader().batch_size(3)), [vec![0, 1, 2], vec![3, 4, 5], vec![6]]);
            assert_eq!(epoch(&loader().batch_size(3).drop_last(true)), [[0, 1, 2], [3, 4, 5]]);
            assert_eq!(epoch(&loader().batch_size(usize::MAX)), [[0, 1, 2, 3, 4, 5, 6]]);
            assert_eq!(epoch(&loader()).len(), 7);
            assert!(epoch(&loader().batch_size(8).drop_last(true)).is_empty());
        }
        let len = |batch_size, drop_last| {
            DataLoader::new(numbered(7)).batch_size(batch_size).drop_last(drop_last).len()
        };
        assert_eq!([len(3, false), len(3, true), len(7, true), len(8, false), len(8, true)], [3, 2, 1, 1, 0]);
        assert!(DataLoader::new(numbered(7)).batch_size(0).is_empty());
        assert_eq!(DataLoader::new(numbered(7)).dataset().len, 7);
    }

    #[test]
    fn shuffling_is_a_permutation_of_its_own_in_every_epoch() {
        let loader = || DataLoader::new(numbered(50)).batch_size(8).shuffle(Rng::seed(4));
        let (one, two) = (loader(), loader());
        let mut orders = BTreeSet::new();
        for _ in 0..5 {
            let order = epoch(&one).concat();
            assert_eq!(order, epoch(&two).concat(), "the same generator gives the same order");
            let mut sorted = order.clone();
            sorted.sort();
            assert_eq!(sorted, (0..50).collect::<Vec<_>>());
            orders.insert(order);
        }
        assert_eq!(orders.len(), 5, "every epoch has another order");
        assert_ne!(epoch(&loader()), epoch(&loader().shuffle(Rng::seed(5))));

        // The stated derivation: an epoch is a split of the generator, its order is drawn from the first
        // split of it.
        let mut rng = Rng::seed(4);
        let expected: Vec<_> = (0..2).map(|_| rng.split().split().permutation(50)).collect();
        let loader = loader();
        assert_eq!([epoch(&loader).concat(), epoch(&loader).concat()][..], expected);
        let resumed = DataLoader::new(numbered(50)).shuffle(Rng::seed(4)).next_epoch(1);
        assert_eq!(epoch(&resumed).concat(), expected[1]);
    }

    fn augmented(len: usize) -> DataLoader<Numbered> {
        DataLoader::new(numbered(len))
            .transform(RandomCrop::new(1))
            .transform(RandomFlipHorizontal::new(0.5).unwrap())
            .transform(Normalize::new(&[10.0], &[2.0]).unwrap())
    }

    #[test]
    fn contents_do_not_depend_on_prefetch_or_batch_size() {
        let expected: Vec<_> = {
            let loader = augmented(41).shuffle(Rng::seed(6)).prefetch(0);
            (0..2).map(|_| contents(&loader)).collect()
        };
        assert_ne!(expected[0], expected[1]);
        for prefetch in [0, 1, 3] {
            for batch_size in [1, 4, 41] {
                let loader = augmented(41).shuffle(Rng::seed(6)).prefetch(prefetch).batch_size(batch_size);
                assert_eq!([contents(&loader), contents(&loader)][..], expected, "{prefetch} {batch_size}");
            }
        }
    }

    #[test]
    fn what_is_drawn_for_an_image_depends_on_generator_epoch_and_index_only() {
        let (images, labels) = contents(&augmented(30).shuffle(Rng::seed(7)));
        let (in_order, _) = contents(&augmented(30).rng(Rng::seed(7)));
        for (image, label) in images.chunks(6).zip(labels) {
            assert_eq!(image, &in_order[label * 6..][..6], "image {label}");
        }
        assert_eq!(
            contents(&augmented(10).rng(Rng::seed(7))).0,
            in_order[..60],
            "other images do not matter"
        );
        assert_ne!(contents(&augmented(30)).0, in_order);
        let loader = augmented(30);
        assert_ne!(contents(&loader).0, contents(&loader).0, "every epoch draws anew");
    }

    #[test]
    fn transforms_are_applied_in_their_order() {
        let loader = DataLoader::new(numbered(1))
            .transform(Normalize::new(&[1.0], &[1.0]).unwrap())
            .transform(Normalize::new(&[0.0], &[0.5]).unwrap());
        assert_eq!(contents(&loader).0, [-2.0, 0.0, 2.0, 4.0, 6.0, 8.0]);
    }

    /// The only item of an epoch, an error.
    #[track_caller]
    fn only_error<D: Dataset + 'static>(loader: &DataLoader<D>) -> String {
        let mut batches = loader.iter();
        let error = batches.next().unwrap().unwrap_err().to_string();
        assert!(batches.next().is_none());
        assert!(batches.next().is_none());
        error
    }

    #[test]
    fn what_gives_no_epoch_gives_one_error() {
        for prefetch in [0, 2] {
            let loader = DataLoader::new(numbered(3)).batch_size(0).prefetch(prefetch);
            for _ in 0..2 {
                assert_eq!(only_error(&loader), "DataLoader: the batch size must be at least 1, got 0");
            }
            let loader = DataLoader::new(numbered(0)).prefetch(prefetch);
            assert_eq!(only_error(&loader), "DataLoader: the data set is empty");
            let flat = LabeledTensors::new(&Tensor::zeros([3, 4]).unwrap(), vec![0; 3], 1).unwrap();
            let loader = DataLoader::new(flat).transform(RandomCrop::new(1)).prefetch(prefetch);
            assert_eq!(
                only_error(&loader),
                "DataLoader: transforms need images [height, width, channels], got [4]"
            );
            let deep =
                LabeledTensors::new(&Tensor::zeros([3, 1, 1, 1, 1, 1]).unwrap(), vec![0; 3], 1).unwrap();
            assert_eq!(contents(&DataLoader::new(deep).prefetch(prefetch)).0, [0.0; 3]);
        }
    }

    #[test]
    fn an_error_ends_the_epoch_and_nothing_else() {
        for prefetch in [0, 1, 3] {
            let broken = Numbered { fails: Some(4), ..numbered(7) };
            let loader = DataLoader::new(broken).batch_size(2).prefetch(prefetch);
            for _ in 0..3 {
                let mut batches = loader.iter();
                assert_eq!(batches.next().unwrap().unwrap().1, [0, 1]);
                assert_eq!(batches.next().unwrap().unwrap().1, [2, 3]);
                let error = batches.next().unwrap().unwrap_err();
                assert!(matches!(error, Error::File { .. }));
                assert_eq!(error.to_string(), "somewhere: image 4 is lost");
                assert!(batches.next().is_none());
            }
            let wrong = Normalize::new(&[0.0; 2], &[1.0; 2]).unwrap();
            let loader = DataLoader::new(numbered(7)).transform(wrong).prefetch(prefetch);
            assert_eq!(only_error(&loader), "Normalize: 2 means for an image of shape [2, 3, 1]");
        }
    }

    /// Panics, or writes down the instruction set it runs with.
    struct Probe {
        isas: Arc<Mutex<Vec<Isa>>>,
        panics: bool,
    }

    impl Transform for Probe {
        fn apply(&self, _: &mut [f32], _: [usize; 3], _: &mut Rng) -> Result<()> {
            if self.panics {
                std::panic::panic_any("no image pleases me");
            }
            self.isas.lock().unwrap().push(context::settings()?.simd.isa());
            Ok(())
        }
    }

    #[test]
    fn a_panic_is_an_error_that_names_the_image() {
        for prefetch in [0, 1, 3] {
            let cursed = Numbered { panics: Some(5), ..numbered(7) };
            let loader = DataLoader::new(cursed).batch_size(2).prefetch(prefetch);
            for _ in 0..2 {
                let items: Vec<_> = loader.iter().collect();
                assert_eq!(items.len(), 3);
                assert_eq!(items[1].as_ref().unwrap().1, [2, 3]);
                let error = items[2].as_ref().unwrap_err().to_string();
                assert_eq!(error, "DataLoader: panic at sample 5: image 5 is cursed");
            }
            let loader = DataLoader::new(numbered(7)).prefetch(prefetch);
            let loader = loader.transform(Probe { isas: Arc::default(), panics: true });
            assert_eq!(only_error(&loader), "DataLoader: panic at sample 0: no image pleases me");
        }
    }

    #[test]
    fn the_worker_runs_with_the_context_of_the_caller() {
        for isa in Isa::available() {
            for prefetch in [0, 2] {
                let isas = Arc::new(Mutex::new(Vec::new()));
                let probe = Probe { isas: isas.clone(), panics: false };
                let loader = DataLoader::new(numbered(3)).transform(probe).prefetch(prefetch);
                Context::new().isa(isa).run(|| contents(&loader)).unwrap();
                assert_eq!(*isas.lock().unwrap(), [isa; 3]);
            }
        }
    }

    #[test]
    fn no_more_batches_are_made_ahead_than_asked_for() {
        for ahead in [0, 1, 3] {
            let dataset = Arc::new(numbered(20));
            let loader = DataLoader::new(dataset.clone()).prefetch(ahead);
            for (taken, batch) in loader.iter().enumerate() {
                batch.unwrap();
                std::thread::sleep(std::time::Duration::from_millis(1));
                let reads = dataset.reads.load(Ordering::SeqCst);
                assert!((taken + 1..=taken + 1 + ahead).contains(&reads), "{reads} read, {taken} taken");
            }
        }
    }

    /// The threads that read, in the order of the samples.
    #[derive(Clone, Default)]
    struct Slow(Arc<Mutex<Vec<std::thread::ThreadId>>>);

    impl Transform for Slow {
        fn apply(&self, _: &mut [f32], _: [usize; 3], _: &mut Rng) -> Result<()> {
            std::thread::sleep(std::time::Duration::from_micros(300));
            self.0.lock().unwrap().push(std::thread::current().id());
            Ok(())
        }
    }

    #[test]
    fn batches_that_take_long_are_made_ahead_unless_it_is_forbidden() {
        let here = std::thread::current().id();
        let slow = Slow::default();
        let expected = contents(&DataLoader::new(numbered(12)).prefetch(0));
        assert_eq!(contents(&DataLoader::new(numbered(12)).transform(slow.clone())), expected);
        let threads = std::mem::take(&mut *slow.0.lock().unwrap());
        assert_eq!(threads[0], here);
        assert_eq!(threads.len(), 12);
        assert!(threads[3..].iter().all(|&thread| thread != here));
        assert_eq!(contents(&DataLoader::new(numbered(12)).transform(slow.clone()).prefetch(0)), expected);
        assert!(slow.0.lock().unwrap().iter().all(|&thread| thread == here));
    }

    #[test]
    fn a_data_set_is_told_what_will_be_read_across_batches() {
        let dataset = Arc::new(numbered(12));
        let loader = DataLoader::new(dataset.clone()).batch_size(3).shuffle(Rng::seed(8));
        let order = epoch(&loader).concat();
        assert_eq!(*dataset.soon.lock().unwrap(), order[4..]);
    }

    #[test]
    fn an_epoch_dropped_early_ends_its_worker() {
        for prefetch in [0, 1, 3] {
            let dataset = Arc::new(numbered(1000));
            let loader = DataLoader::new(dataset.clone()).prefetch(prefetch);
            let mut batches = loader.iter();
            for _ in 0..2 {
                batches.next().unwrap().unwrap();
            }
            drop(batches);
            drop(loader.iter());
            assert!(dataset.reads.load(Ordering::SeqCst) <= 2 + 2 * (prefetch + 1));
            assert_eq!(epoch(&loader).len(), 1000, "the loader is as good as new");
            drop(loader);
            assert_eq!(Arc::strong_count(&dataset), 1, "nobody uses the data set any more");
        }
    }

    #[test]
    fn epochs_can_run_side_by_side_and_on_many_threads() {
        let loader = DataLoader::new(numbered(9)).batch_size(2);
        for (one, two) in loader.iter().zip(&loader) {
            assert_eq!(one.unwrap().1, two.unwrap().1);
        }
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert_eq!(epoch(&loader).concat(), (0..9).collect::<Vec<_>>()));
            }
        });
        let shared: Arc<dyn Dataset> = Arc::new(numbered(4));
        assert_eq!((shared.len(), shared.classes(), shared.is_empty()), (4, 4, false));
        assert_eq!(epoch(&DataLoader::new(shared)).len(), 4);
    }

    #[test]
    fn a_tensor_is_a_data_set() {
        let images = Tensor::from_slice(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [3, 1, 2]).unwrap();
        let dataset = LabeledTensors::new(&images, vec![2, 0, 1], 3).unwrap();
        assert_eq!((dataset.len(), dataset.shape(), dataset.classes()), (3, &[1, 2][..], 3));
        let loader = DataLoader::new(dataset).batch_size(2);
        assert_eq!(contents(&loader), (vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0], vec![2, 0, 1]));

        let dataset = LabeledTensors::new(&images, vec![0; 3], 1).unwrap();
        let text = |result: Result<()>| result.unwrap_err().to_string();
        assert_eq!(text(dataset.read(3, &mut [0.0; 2])), "LabeledTensors: there is no image 3 among 3");
        assert_eq!(text(dataset.read(2, &mut [0.0])), "LabeledTensors: out has 1 elements, expected 2");
        let scalars = LabeledTensors::new(&Tensor::arange(3).unwrap(), vec![0; 3], 1).unwrap();
        assert_eq!(contents(&DataLoader::new(scalars).batch_size(2)).0, [0.0, 1.0, 2.0]);

        let bad = |images: &Tensor, labels| LabeledTensors::new(images, labels, 2).unwrap_err().to_string();
        assert_eq!(bad(&images, vec![0; 2]), "LabeledTensors: 2 labels do not fit images of shape [3, 1, 2]");
        assert_eq!(
            bad(&Tensor::scalar(1.0), vec![]),
            "LabeledTensors: 0 labels do not fit images of shape []"
        );
        assert_eq!(bad(&images, vec![1, 2, 0]), "LabeledTensors: label 2 of image 1 is not one of 2 classes");
    }

    #[test]
    fn an_epoch_of_mnist_has_every_label() {
        let test = Arc::new(Mnist::load("../data", Split::Test).unwrap());
        let loader = DataLoader::new(test.clone()).batch_size(100).shuffle(Rng::seed(4));
        let mut counts = [0; 10];
        for batch in &loader {
            let (images, labels) = batch.unwrap();
            assert_eq!(images.shape(), [100, 28, 28, 1]);
            labels.iter().for_each(|&label| counts[label] += 1);
        }
        assert_eq!(counts, [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]);
    }
}
