//! Samples of any type: rows of tensors, splits, samplers, batches of one's own, tables and idx files of any
//! type.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use flate2::{Compression, write::GzEncoder};
use gristmill::data::{
    Collate, Compose, Csv, CsvFormat, DataLoader, Dataset, FASHION_MNIST_CLASSES, Idx, LabeledTensors,
    Lengths, Mnist, Normalize, Picks, RandomCrop, RandomFlipHorizontal, RandomSampler, Sampler, Samples,
    SequentialSampler, Split, Subset, TensorDataset, Transform, VecDataset, WeightedRandomSampler,
    random_split, read_idx,
};
use gristmill::{Error, Result, Rng, Tensor};
use proptest::prelude::*;
use tempfile::TempDir;

fn numbers(len: usize) -> VecDataset<usize> {
    (0..len).collect()
}

fn put(dir: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

#[track_caller]
fn text<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().to_string()
}

mod batches {
    use super::*;

    #[test]
    fn rows_of_several_tensors_stay_together() {
        let x = Tensor::<f64>::arange(20).unwrap().reshape([10, 2]).unwrap();
        let y = Tensor::arange(10).unwrap();
        let dataset = TensorDataset::new([&x, &y]).unwrap();
        assert_eq!((dataset.len(), dataset.is_empty()), (10, false));
        for prefetch in [0, 2] {
            let loader =
                DataLoader::new(dataset.clone()).batch_size(4).shuffle(Rng::seed(1)).prefetch(prefetch);
            let mut seen = BTreeSet::new();
            for (batch, rows) in loader.iter().zip([4, 4, 2]) {
                let [x, y] = batch.unwrap();
                assert_eq!((x.shape(), y.shape()), (&[rows, 2][..], &[rows][..]));
                for (row, y) in x.to_vec().chunks(2).zip(y.to_vec()) {
                    assert_eq!(row, [2.0 * y, 2.0 * y + 1.0]);
                    seen.insert(y as usize);
                }
            }
            assert_eq!(seen.len(), 10);
        }
    }

    #[test]
    fn tensors_that_do_not_fit_together_are_named() {
        let tensor = |shape: &[usize]| Tensor::<f32>::zeros(shape).unwrap();
        let expected = "TensorDataset: expected tensors with the same first axis, got the shapes ";
        let error = text(TensorDataset::new([&tensor(&[3, 2]), &tensor(&[2])]));
        assert_eq!(error, format!("{expected}[[3, 2], [2]]"));
        assert_eq!(text(TensorDataset::new([&tensor(&[]), &tensor(&[])])), format!("{expected}[[], []]"));
        assert_eq!(text(TensorDataset::<0>::new([])), format!("{expected}[]"));
        let dataset = TensorDataset::new([&tensor(&[0, 2])]).unwrap();
        assert_eq!(
            text(DataLoader::new(dataset).iter().next().unwrap()),
            "DataLoader: the data set is empty"
        );
        let dataset = TensorDataset::new([&tensor(&[3, 2])]).unwrap();
        assert!(text(dataset.rows(&[1, 3])).contains("index 3 at place 1"));
    }

    /// A sample and a batch that are nobody's but the user's.
    #[derive(Clone)]
    struct Sentence(Vec<u32>);
    #[derive(Debug, PartialEq)]
    struct Padded {
        words: Vec<u32>,
        longest: usize,
    }

    #[test]
    fn samples_of_ones_own_become_batches_of_ones_own() {
        let sentences = VecDataset::new((1..=5).map(|len| Sentence(vec![len; len as usize])).collect());
        let padded = sentences.collate(|sentences: Vec<Sentence>| {
            let longest = sentences.iter().map(|sentence| sentence.0.len()).max().unwrap_or(0);
            let words = sentences.into_iter().flat_map(|mut sentence| {
                sentence.0.resize(longest, 0);
                sentence.0
            });
            Ok(Padded { words: words.collect(), longest })
        });
        for prefetch in [0, 3] {
            let loader = DataLoader::new(padded.clone()).batch_size(2).prefetch(prefetch);
            let batches: Vec<Padded> = loader.iter().map(Result::unwrap).collect();
            assert_eq!(batches[0], Padded { words: vec![1, 0, 2, 2], longest: 2 });
            assert_eq!(batches[1], Padded { words: vec![3, 3, 3, 0, 4, 4, 4, 4], longest: 4 });
            assert_eq!(batches[2], Padded { words: vec![5; 5], longest: 5 });
        }
    }

    /// Noise, drawn from the sample's generator.
    struct Noise;

    impl Samples for Noise {
        type Sample = (usize, f64);
        fn len(&self) -> usize {
            40
        }
        fn get(&self, index: usize, rng: &mut Rng) -> Result<(usize, f64)> {
            Ok((index, rng.uniform()))
        }
    }

    #[test]
    fn what_a_sample_draws_depends_on_generator_epoch_and_index_only() {
        let epochs = |batch_size, prefetch, shuffled: bool| -> Vec<Vec<(usize, f64)>> {
            let loader = DataLoader::new(Noise.collate(Ok)).batch_size(batch_size).prefetch(prefetch);
            let rng = Rng::seed(9);
            let loader = if shuffled { loader.shuffle(rng) } else { loader.rng(rng) };
            let epoch = || {
                let mut samples: Vec<_> = loader.iter().flat_map(Result::unwrap).collect();
                samples.sort_by_key(|sample| sample.0);
                samples
            };
            vec![epoch(), epoch()]
        };
        let expected = epochs(7, 0, false);
        assert_ne!(expected[0], expected[1]);
        for (batch_size, prefetch, shuffled) in [(1, 2, true), (40, 0, true), (13, 1, false)] {
            assert_eq!(epochs(batch_size, prefetch, shuffled), expected);
        }
    }

    #[test]
    fn a_sample_that_comes_again_draws_anew() {
        let loader = DataLoader::new(Noise.collate(Ok)).batch_size(9).rng(Rng::seed(3));
        let once: Vec<_> = loader.iter().flat_map(Result::unwrap).collect();
        let loader = DataLoader::new(Noise.collate(Ok)).batch_size(11).rng(Rng::seed(3));
        let loader = loader.sampler(RandomSampler::new().num_samples(120));
        let drawn: Vec<_> = loader.iter().flat_map(Result::unwrap).collect();
        let values: BTreeSet<u64> = drawn.iter().map(|sample| sample.1.to_bits()).collect();
        assert_eq!((drawn.len(), values.len()), (120, 120));
        // The first time is the time of an epoch without repetition.
        let mut first = drawn[..40].to_vec();
        first.sort_by_key(|sample| sample.0);
        assert_eq!(first, once);
    }

    #[test]
    fn errors_and_panics_of_samples_and_batches_end_the_epoch() {
        struct Broken;
        impl Samples for Broken {
            type Sample = usize;
            fn len(&self) -> usize {
                6
            }
            fn get(&self, index: usize, _: &mut Rng) -> Result<usize> {
                match index {
                    3 => Err(Error::value("Broken", "sample 3 is lost")),
                    5 => panic!("out of order"),
                    _ => Ok(index),
                }
            }
        }
        for prefetch in [0, 2] {
            let loader = DataLoader::new(Broken.collate(Ok)).batch_size(2).prefetch(prefetch);
            let items: Vec<_> = loader.iter().collect();
            assert_eq!(items.len(), 2);
            assert_eq!(items[1].as_ref().unwrap_err().to_string(), "Broken: sample 3 is lost");
            let part = Subset::new(Broken.collate(Ok), vec![4, 5]).unwrap();
            let loader = DataLoader::new(part).batch_size(2).prefetch(prefetch);
            let error = text(loader.iter().next().unwrap());
            assert_eq!(error, "DataLoader: panic at sample 1: out of order");
            let refusing = numbers(3).collate(|_| Err::<(), _>(Error::value("collate", "not these")));
            let loader = DataLoader::new(refusing).prefetch(prefetch);
            assert_eq!(text(loader.iter().next().unwrap()), "collate: not these");
        }
        assert_eq!(text(numbers(2).get(2, &mut Rng::seed(0))), "VecDataset: there is no sample 2 among 2");
        assert_eq!(numbers(2).samples(), [0, 1]);
    }

    /// Batches made as a whole.
    struct Whole;

    impl Collate for Whole {
        type Batch = Vec<usize>;
        fn samples(&self) -> usize {
            5
        }
        fn collate(&self, picks: &mut Picks<'_>) -> Result<Vec<usize>> {
            assert_eq!(picks.len(), picks.indices().len());
            let first = picks.next().unwrap().index;
            assert_eq!(picks.len() + 1, picks.indices().len());
            Ok([first].into_iter().chain(picks.map(|pick| pick.index)).collect())
        }
    }

    #[test]
    fn picks_are_the_indices_of_a_batch() {
        let batches: Vec<_> = DataLoader::new(Whole).batch_size(3).iter().map(Result::unwrap).collect();
        assert_eq!(batches, [vec![0, 1, 2], vec![3, 4]]);
    }
}

mod splits {
    use super::*;

    #[test]
    fn counts_and_fractions_give_the_stated_lengths() {
        assert_eq!([3, 4].counts(7).unwrap(), [3, 4]);
        assert_eq!([0.5, 0.5].counts(7).unwrap(), [4, 3]);
        assert_eq!([0.7, 0.2, 0.1].counts(10).unwrap(), [7, 2, 1]);
        assert_eq!([0.29, 0.71].counts(100).unwrap(), [29, 71]);
        assert_eq!([0.0, 1.0].counts(5).unwrap(), [0, 5]);
        assert_eq!([1.0 / 3.0; 3].counts(0).unwrap(), [0; 3]);
        let error = |result: Result<[usize; 2]>| text(result);
        assert_eq!(
            error([3, 3].counts(7)),
            "random_split: the counts [3, 3] do not sum to the 7 samples there are"
        );
        assert!(error([usize::MAX, 8].counts(7)).contains("do not sum to the 7 samples"));
        assert_eq!(
            error([0.5, 0.4].counts(7)),
            "random_split: the fractions [0.5, 0.4] sum to 0.9, expected 1"
        );
        assert_eq!(
            error([1.5, -0.5].counts(7)),
            "random_split: 1.5 in [1.5, -0.5] is not a fraction of the whole"
        );
        assert!(error([f64::NAN, 1.0].counts(7)).contains("NaN"));
    }

    proptest! {
        #[test]
        fn a_split_is_a_partition_of_its_own_for_every_seed(len in 0_usize..200, cuts in [0_u32..50, 0..50, 1..50], seed: u64) {
            let sum = f64::from(cuts.iter().sum::<u32>());
            let fractions = cuts.map(|cut| f64::from(cut) / sum);
            let split = |seed| random_split(numbers(len).collate(Ok), fractions, &mut Rng::seed(seed)).unwrap();
            let parts = split(seed);
            let mut all = parts.iter().flat_map(|part| part.indices().to_vec()).collect::<Vec<_>>();
            prop_assert_eq!(&all, &Rng::seed(seed).permutation(len), "the stated order");
            all.sort();
            prop_assert_eq!(all, (0..len).collect::<Vec<_>>());
            for (part, fraction) in parts.iter().zip(fractions) {
                prop_assert!((part.len() as f64 - fraction * len as f64).abs() <= 1.0 + 1e-9);
            }
            let again = split(seed);
            for (part, again) in parts.iter().zip(&again) {
                prop_assert_eq!(part.indices(), again.indices());
            }
        }
    }

    #[test]
    fn a_part_is_what_the_whole_is() {
        // Of images: a data set, with transforms.
        let images = Tensor::arange(12).unwrap().reshape([6, 1, 2, 1]).unwrap();
        let whole = LabeledTensors::new(&images, vec![0, 1, 2, 3, 4, 5], 6).unwrap();
        let part = Subset::new(whole, vec![4, 1, 4]).unwrap();
        assert_eq!(
            (Dataset::len(&part), part.shape(), part.classes(), part.label(0)),
            (3, &[1, 2, 1][..], 6, 4)
        );
        assert_eq!((part.len(), part.is_empty(), part.whole().classes()), (3, false, 6));
        let flip = RandomFlipHorizontal::new(1.0).unwrap();
        let loader = DataLoader::new(part.clone()).batch_size(3).transform(flip);
        let (images, labels) = loader.iter().next().unwrap().unwrap();
        assert_eq!((images.to_vec(), &labels[..]), (vec![9.0, 8.0, 3.0, 2.0, 9.0, 8.0], &[4, 1, 4][..]));
        assert_eq!(text(part.read(3, &mut [0.0; 2])), "Subset: there is no image 3 among 3");
        // Of rows and of samples: the same batches.
        let x = Tensor::<f32>::arange(5).unwrap();
        let rows = Subset::new(TensorDataset::new([&x]).unwrap(), vec![3, 0]).unwrap();
        let [x] = DataLoader::new(rows).batch_size(2).iter().next().unwrap().unwrap();
        assert_eq!(x.to_vec(), [3.0, 0.0]);
        let samples = Subset::new(numbers(5).collate(Ok), vec![3, 0]).unwrap();
        assert_eq!(DataLoader::new(samples).batch_size(2).iter().next().unwrap().unwrap(), [3, 0]);
        let error = text(Subset::new(numbers(5).collate(Ok), vec![0, 5]).map(|part| part.len()));
        assert_eq!(error, "Subset: there is no image 5 among 5");
    }
}

mod samplers {
    use super::*;

    fn order(sampler: &dyn Sampler, samples: usize, seed: u64) -> Result<Vec<usize>> {
        sampler.order(samples, &mut Rng::seed(seed))
    }

    #[test]
    fn uniform_samplers_give_what_they_say() {
        assert_eq!(order(&SequentialSampler, 4, 0).unwrap(), [0, 1, 2, 3]);
        assert_eq!(order(&RandomSampler::new(), 50, 1).unwrap(), Rng::seed(1).permutation(50));
        let sampler = RandomSampler::new().num_samples(7);
        let twice = order(&sampler, 3, 1).unwrap();
        assert_eq!(twice.len(), 7);
        for round in twice[..6].chunks(3) {
            assert_eq!(round.iter().collect::<BTreeSet<_>>().len(), 3, "{twice:?}");
        }
        let drawn = order(&RandomSampler::new().replacement(true).num_samples(6000), 6, 2).unwrap();
        for i in 0..6 {
            let count = drawn.iter().filter(|&&index| index == i).count();
            // 1000 each, with a standard deviation of 29.
            assert!(count.abs_diff(1000) < 130, "{i}: {count}");
        }
        assert_eq!(text(order(&sampler, 0, 1)), "RandomSampler: 7 samples of none");
        assert!(order(&RandomSampler::new().replacement(true).num_samples(1), 0, 1).is_err());
    }

    #[test]
    fn weights_decide_how_often_a_sample_is_drawn() {
        let sampler = WeightedRandomSampler::new([0.0, 1.0, 2.0, 0.0, 5.0, 0.0]).unwrap().num_samples(8000);
        let drawn = order(&sampler, 6, 3).unwrap();
        for (i, expected) in [0.0_f64, 1000.0, 2000.0, 0.0, 5000.0, 0.0].into_iter().enumerate() {
            let count = drawn.iter().filter(|&&index| index == i).count() as f64;
            assert!((count - expected).abs() <= 4.5 * expected.sqrt(), "{i}: {count}");
        }
    }

    #[test]
    fn without_replacement_the_first_place_has_the_weights_and_the_second_those_left() {
        let weights = [1.0, 2.0, 5.0];
        let sampler = WeightedRandomSampler::new(weights).unwrap().replacement(false);
        let (mut first, mut second) = ([0.0; 3], [[0.0; 3]; 3]);
        let rounds = 8000;
        for seed in 0..rounds {
            let order = order(&sampler, 3, seed).unwrap();
            assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), 3);
            first[order[0]] += 1.0;
            second[order[0]][order[1]] += 1.0;
        }
        for i in 0..3 {
            let expected = rounds as f64 * weights[i] / 8.0;
            assert!((first[i] - expected).abs() <= 4.5 * expected.sqrt(), "{i}: {}", first[i]);
            for j in (0..3).filter(|&j| j != i) {
                let expected = first[i] * weights[j] / (8.0 - weights[i]);
                assert!(
                    (second[i][j] - expected).abs() <= 4.5 * expected.sqrt(),
                    "{i} {j}: {}",
                    second[i][j]
                );
            }
        }
    }

    proptest! {
        #[test]
        fn weighted_orders_hold_no_sample_of_weight_0(
            weights in prop::collection::vec(prop_oneof![Just(0.0), 1e-12..1e12_f64], 1..40), seed: u64,
        ) {
            let positive = weights.iter().filter(|&&weight| weight > 0.0).count();
            prop_assume!(positive > 0);
            let sampler = WeightedRandomSampler::new(&weights[..]).unwrap().num_samples(positive);
            for replacement in [false, true] {
                let order = order(&sampler.clone().replacement(replacement), weights.len(), seed).unwrap();
                prop_assert_eq!(order.len(), positive);
                prop_assert!(order.iter().all(|&index| weights[index] > 0.0));
                let different = order.iter().collect::<BTreeSet<_>>().len();
                prop_assert!(replacement || different == positive);
            }
        }
    }

    #[test]
    fn bad_weights_and_counts_are_named() {
        let new = |weights: &[f64]| text(WeightedRandomSampler::new(weights));
        assert_eq!(new(&[1.0, -2.0]), "WeightedRandomSampler: weight 1 is -2, expected a finite number ≥ 0");
        assert_eq!(new(&[f64::NAN]), "WeightedRandomSampler: weight 0 is NaN, expected a finite number ≥ 0");
        assert_eq!(new(&[0.0, 0.0]), "WeightedRandomSampler: the 2 weights sum to 0");
        assert!(new(&[f64::MAX, f64::MAX]).ends_with("sum to inf"));
        assert!(new(&[]).contains("the 0 weights"));
        let sampler = WeightedRandomSampler::new([1.0, 0.0]).unwrap();
        assert_eq!(text(order(&sampler, 3, 1)), "WeightedRandomSampler: 2 weights for 3 samples");
        assert_eq!(
            text(order(&sampler.replacement(false), 2, 1)),
            "WeightedRandomSampler: 2 samples without replacement, but only 1 weights are positive"
        );
        assert!(WeightedRandomSampler::balanced(&[]).is_err());
    }

    #[test]
    fn orders_longer_than_memory_are_errors() {
        let most = usize::MAX;
        let weighted = WeightedRandomSampler::new([1.0, 2.0, 1.0]).unwrap().num_samples(most);
        let samplers: [(&str, &dyn Sampler); 3] = [
            ("RandomSampler", &RandomSampler::new().num_samples(most)),
            ("RandomSampler", &RandomSampler::new().num_samples(most).replacement(true)),
            ("WeightedRandomSampler", &weighted),
        ];
        for (name, sampler) in samplers {
            let expected = format!("{name}: there is no memory for the indices of {most} samples");
            assert_eq!(text(order(sampler, 3, 1)), expected);
        }
        assert!(
            order(&SequentialSampler, most, 1).is_err() && order(&RandomSampler::new(), most, 1).is_err()
        );
    }

    /// Counts more indices than it gives.
    struct Boastful;

    impl Sampler for Boastful {
        fn order(&self, samples: usize, _: &mut Rng) -> Result<Vec<usize>> {
            Ok((0..samples).rev().collect())
        }

        fn count(&self, _: usize) -> usize {
            usize::MAX
        }
    }

    #[test]
    fn batches_are_made_ahead_for_the_indices_that_there_are() {
        let loader = DataLoader::new(numbers(3).collate(Ok)).batch_size(2).sampler(Boastful);
        let batches: Vec<Vec<usize>> = loader.prefetch(usize::MAX).iter().map(Result::unwrap).collect();
        assert_eq!(batches, [vec![2, 1], vec![0]]);
    }

    #[test]
    fn balanced_weights_draw_all_classes_alike() {
        let labels: Vec<usize> = (0..1000).map(|i| usize::from(i % 50 == 0)).collect();
        let sampler = WeightedRandomSampler::balanced(&labels).unwrap().num_samples(4000);
        let rare = order(&sampler, 1000, 5).unwrap().into_iter().filter(|&index| labels[index] == 1).count();
        assert!(rare.abs_diff(2000) < 150, "{rare}");
    }

    #[test]
    fn a_loader_follows_its_sampler() {
        let sampler = || WeightedRandomSampler::new([1.0, 0.0, 1.0]).unwrap().num_samples(10);
        let loader =
            || DataLoader::new(numbers(3).collate(Ok)).batch_size(4).rng(Rng::seed(4)).sampler(sampler());
        assert_eq!((loader().len(), loader().drop_last(true).len()), (3, 2));
        let (one, two) = (loader(), loader());
        let epoch = |loader: &DataLoader<_>| -> Vec<usize> {
            let batches: Vec<Vec<usize>> = loader.iter().map(Result::unwrap).collect();
            assert_eq!(batches.len(), 3);
            batches.concat()
        };
        let first = epoch(&one);
        assert_eq!((first.len(), &first), (10, &epoch(&two)));
        assert!(!first.contains(&1));
        assert_ne!(first, epoch(&one), "every epoch has another order");
        struct Wild;
        impl Sampler for Wild {
            fn order(&self, samples: usize, _: &mut Rng) -> Result<Vec<usize>> {
                Ok(vec![0, samples])
            }
        }
        let loader = DataLoader::new(numbers(3).collate(Ok)).sampler(Wild);
        let error = text(loader.iter().next().unwrap());
        assert_eq!(error, "DataLoader: the sampler gives index 3, but there are 3 samples");
    }
}

mod transforms {
    use super::*;

    #[test]
    fn a_chain_as_one_is_the_same_as_one_by_one() {
        let images = Tensor::rand([20, 5, 4, 1], 0.0, 1.0, &mut Rng::seed(1)).unwrap();
        let dataset = LabeledTensors::new(&images, vec![0; 20], 1).unwrap();
        let flip = || RandomFlipHorizontal::new(0.5).unwrap();
        let normalize = || Normalize::new(&[0.5], &[2.0]).unwrap();
        let invert = |image: &mut [f32], _: [usize; 3], _: &mut Rng| {
            image.iter_mut().for_each(|x| *x = 1.0 - *x);
            Ok(())
        };
        let epoch = |loader: DataLoader<LabeledTensors>| -> Vec<f32> {
            loader.rng(Rng::seed(2)).iter().flat_map(|batch| batch.unwrap().0.to_vec()).collect()
        };
        let loader = || DataLoader::new(dataset.clone()).batch_size(6);
        let chain = Compose::new().add(RandomCrop::new(1)).add(flip()).add(normalize()).add(invert);
        let one_by_one = loader().transform(RandomCrop::new(1)).transform(flip()).transform(normalize());
        let expected = epoch(one_by_one.transform(invert));
        assert_eq!(epoch(loader().transform(chain)), expected);
        assert_ne!(epoch(loader()), expected);

        let mut image = [1.0, 2.0];
        Compose::new().apply(&mut image, [1, 2, 1], &mut Rng::seed(1)).unwrap();
        assert_eq!(image, [1.0, 2.0]);
        let bad = Compose::new().add(Normalize::new(&[0.0; 2], &[1.0; 2]).unwrap());
        assert!(text(bad.apply(&mut image, [1, 2, 1], &mut Rng::seed(1))).starts_with("Normalize: 2 means"));
    }
}

mod tables {
    use super::*;

    fn read(text: &[u8]) -> Result<Csv<f64>> {
        let dir = TempDir::new().unwrap();
        Csv::read(put(&dir, "table.csv", text))
    }

    #[test]
    fn numbers_names_and_quotes_are_read() {
        let table = read(b"\xEF\xBB\xBFa, \"b, \"\"c\"\"\" ,d\r\n1, \"2\" ,-3e2\r\n\r\n.5,+6,NaN\n").unwrap();
        assert_eq!(table.names(), ["a", "b, \"c\"", "d"]);
        assert_eq!(table.values().shape(), [2, 3]);
        let values = table.values().to_vec();
        assert_eq!(values[..5], [1.0, 2.0, -300.0, 0.5, 6.0]);
        assert!(values[5].is_nan());
        let (x, y) = table.split(&["d", "a"]).unwrap();
        assert_eq!((x.shape(), x.to_vec()), (&[2, 1][..], vec![2.0, 6.0]));
        assert_eq!((y.shape(), y.to_vec()[..2].to_vec()), (&[2, 2][..], vec![-300.0, 1.0]));
        assert_eq!(table.columns(&["a"]).unwrap().to_vec(), [1.0, 0.5]);
        assert_eq!(table.columns(&[]).unwrap().shape(), [2, 0]);
        let empty = read(b"a,b\n").unwrap();
        assert_eq!(empty.values().shape(), [0, 2]);
        assert_eq!(empty.split(&["b"]).unwrap().0.shape(), [0, 1]);
    }

    #[test]
    fn other_formats_are_settings() {
        let dir = TempDir::new().unwrap();
        let path = put(&dir, "table.tsv", b"1\t2\t\n3\tNA\t4\n");
        let format = CsvFormat { delimiter: b'\t', header: false, missing: Some("NA"), index: false };
        let table: Csv = format.read(&path).unwrap();
        assert_eq!(table.names(), ["0", "1", "2"]);
        let values = table.values().to_vec();
        assert!(values[2].is_nan() && values[4].is_nan());
        assert_eq!([values[0], values[1], values[3], values[5]], [1.0, 2.0, 3.0, 4.0]);
        for delimiter in [b'"', b'\n', 0xFF] {
            let error = CsvFormat { delimiter, ..format }.read::<f32>(&path).unwrap_err().to_string();
            assert!(error.contains("cannot be a delimiter"), "{error}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_file_line_and_column() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("table.csv");
        let error = |text: &[u8]| {
            fs::write(&path, text).unwrap();
            let error = Csv::<f32>::read(&path).unwrap_err().to_string();
            error.strip_prefix(&format!("{}: ", path.display())).expect("names the file").to_owned()
        };
        assert_eq!(error(b""), "holds no columns");
        assert_eq!(error(b"\n \n"), "holds no columns");
        assert_eq!(error(b"a,b\n1,2\n\n3,x\n"), "line 4, column b: \"x\" is not a number");
        assert_eq!(error(b"a,b\n1,\n"), "line 2, column b: a number is missing");
        assert_eq!(error(b"a,b\n1,2,3\n"), "line 2 has 3 fields, expected 2");
        assert_eq!(error(b"a,b\n1\n"), "line 2 has 1 fields, expected 2");
        assert_eq!(error(b"a,a\n1,2\n"), "line 1: two columns are called \"a\"");
        assert_eq!(error(b"a\n1e39\n"), "line 2, column a: 1e39 is too large for f32");
        assert_eq!(error(b"a\n\"1\n"), "line 2: field 1 lacks its closing quote");
        assert_eq!(error(b"a,b\n1,\"1\"2\n"), "line 2: text behind the quotes of field 2");
        assert_eq!(error(b"a\n1\n\xFF\n"), "line 3 is not UTF-8");
        fs::remove_file(&path).unwrap();
        assert!(Csv::<f32>::read(&path).unwrap_err().to_string().contains("table.csv: cannot be read: "));
        assert_eq!(read(b"a\n-inf\n1e39\n").unwrap().values().to_vec(), [f64::NEG_INFINITY, 1e39]);
    }

    #[test]
    fn lines_end_in_lf_cr_lf_or_cr() {
        for text in [
            "a,b\n1,2\n3,4\n",
            "a,b\r\n1,2\r\n3,4",
            "a,b\r1,2\r3,4\r",
            "a,b\r1,2\r\r\n3,4",
            "\ra,b\n1,2\r3,4",
        ] {
            let table = read(text.as_bytes()).unwrap();
            assert_eq!(table.names(), ["a", "b"], "{text:?}");
            assert_eq!(table.values().to_vec2().unwrap(), [[1.0, 2.0], [3.0, 4.0]], "{text:?}");
        }
        let error = text(read(b"a\r1\rx\r"));
        assert!(error.ends_with("line 3, column a: \"x\" is not a number"), "{error}");
        assert!(text(read(b"a\r1\r\xFF\r")).ends_with("line 3 is not UTF-8"));
    }

    #[test]
    fn an_index_is_no_column() {
        let dir = TempDir::new().unwrap();
        let index = CsvFormat { index: true, ..CsvFormat::default() };
        for (header, row) in
            [(",x", "0,0.5"), ("\"\",\"x\"", "\"row 1\",0.5"), ("Unnamed: 0,x", "0,0.5"), ("id,x", "a,0.5")]
        {
            let path = put(&dir, "table.csv", format!("{header}\n{row}\n").as_bytes());
            let table: Csv = index.read(&path).unwrap();
            assert_eq!(
                (table.names(), table.values().to_vec()),
                (&["x".to_owned()][..], vec![0.5]),
                "{header}"
            );
            let error = text(Csv::<f32>::read(&path));
            if !header.starts_with("id") {
                assert!(
                    error.contains("line 1: the first column is called ") && error.contains("`index: true`"),
                    "{error}"
                );
            }
        }
        let columns: Csv = index.read(put(&dir, "table.csv", b",0,1\n0,5,6\n")).unwrap();
        assert_eq!(
            (columns.names(), columns.values().to_vec()),
            (&["0".to_owned(), "1".into()][..], vec![5.0, 6.0])
        );
        let bare: Csv =
            CsvFormat { header: false, ..index }.read(put(&dir, "table.csv", b"r,5,6\n")).unwrap();
        assert_eq!(
            (bare.names(), bare.values().to_vec()),
            (&["0".to_owned(), "1".into()][..], vec![5.0, 6.0])
        );
        assert!(text(read(b"a,,b\n1,2,3\n")).ends_with("line 1: column 2 has no name"));
        assert!(text(index.read::<f32>(put(&dir, "table.csv", b"a\n1\n"))).ends_with("holds no columns"));
    }

    #[test]
    fn a_row_of_numbers_is_not_taken_for_names() {
        let error = text(read(b"5.1,3.5\n4.9,3.0\n"));
        assert!(error.ends_with("\"5.1\" first: with `header: false` it is the first row"), "{error}");
        // The names that pandas gives to columns without names.
        assert_eq!(read(b"0,1\n4.9,3.0\n").unwrap().values().to_vec(), [4.9, 3.0]);
        assert_eq!(read(b"x,1\n4.9,3.0\n").unwrap().names(), ["x", "1"]);
    }

    #[test]
    fn a_table_is_read_from_gzip_too() {
        let dir = TempDir::new().unwrap();
        let gzip = |text: &[u8]| {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
            gzip.write_all(text).unwrap();
            gzip.finish().unwrap()
        };
        let whole = gzip(b"a,b\n1,2\n");
        let path = put(&dir, "table.csv.gz", &[&whole[..], &[0; 9]].concat());
        assert_eq!(Csv::<f32>::read(&path).unwrap().values().to_vec(), [1.0, 2.0]);
        fs::write(&path, &whole[..whole.len() - 3]).unwrap();
        assert!(text(Csv::<f32>::read(&path)).contains("table.csv.gz: cannot be read: "));
        fs::write(&path, [&whole[..], b"more"].concat()).unwrap();
        assert!(text(Csv::<f32>::read(&path)).contains("bytes after the end"));
    }

    #[test]
    fn what_is_given_in_place_of_a_table_is_named() {
        for (bytes, what) in [
            (
                b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n".as_slice(),
                "a Git LFS pointer",
            ),
            (b"<!DOCTYPE html>\n<p>1,2</p>", "an HTML page"),
            (b"PK\x03\x04\x14\0\x06\0[Content_Types].xml", "an Office document"),
            (b"\xFF\xFEa\0,\0", "text in UTF-16"),
            (b"PAR1\x15\x04", "a Parquet file"),
        ] {
            let error = text(read(bytes));
            assert!(error.contains(&format!("table.csv: is not a table: it is {what}")), "{error}");
        }
    }

    #[test]
    fn labels_are_whole_numbers() {
        let table = read(b"x,class\n0.5,2\n0.25,0\n").unwrap();
        let (x, labels) = table.split_labels("class").unwrap();
        assert_eq!((x.to_vec(), labels), (vec![0.5, 0.25], vec![2, 0]));
        assert!(text(table.split_labels("y")).ends_with("there is no column \"y\" among [\"x\", \"class\"]"));
        for bad in ["1.5", "-1", "NaN", "inf", "1e300"] {
            let table = read(format!("x,class\n1,1\n\n1,{bad}\n").as_bytes()).unwrap();
            let error = text(table.split_labels("class"));
            assert!(
                error.contains("line 4, column class: ") && error.ends_with("is not the number of a class"),
                "{error}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_table_or_an_error(bytes in prop::collection::vec(
            prop_oneof![Just(b','), Just(b'"'), Just(b'\n'), Just(b' '), b'0'..=b'9', any::<u8>()], 0..60)) {
            if let Ok(table) = read(&bytes) {
                prop_assert_eq!(table.values().shape()[1], table.names().len());
            }
        }

        #[test]
        fn numbers_that_are_written_are_read_to_the_bit(numbers in prop::collection::vec(any::<f32>(), 1..20)) {
            let dir = TempDir::new().unwrap();
            let text: String = numbers.iter().map(|x| format!("{x}\n")).collect();
            let table: Csv = CsvFormat { header: false, ..CsvFormat::default() }
                .read(put(&dir, "n.csv", text.as_bytes())).unwrap();
            for (x, y) in numbers.iter().zip(table.values().to_vec()) {
                prop_assert!(x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan());
            }
        }
    }
}

mod idx {
    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    }

    /// A header for `count` elements, then the elements.
    fn file(kind: u8, dims: &[u32], elements: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, kind, dims.len() as u8];
        dims.iter().for_each(|dim| bytes.extend(dim.to_be_bytes()));
        [&bytes[..], elements].concat()
    }

    #[test]
    fn every_type_is_read_from_gzip_and_plain_files() {
        let dir = TempDir::new().unwrap();
        let both = |name: &str, bytes: &[u8]| {
            [put(&dir, name, bytes), put(&dir, &format!("{name}.gz"), &gzip(bytes))]
        };
        for path in both("i16", &file(0x0B, &[2], &[0xFF, 0xFE, 1, 2])) {
            assert_eq!(Idx::<i16>::read(&path).unwrap(), Idx { dims: vec![2], data: vec![-2, 258] });
            assert_eq!(read_idx::<f64>(&path).unwrap().to_vec(), [-2.0, 258.0]);
            let expected = "holds elements of type 0x0b (i16), expected 0x0c (i32)";
            assert_eq!(text(Idx::<i32>::read(&path)), format!("{}: {expected}", path.display()));
        }
        for path in both("i8", &file(0x09, &[1, 2], &[0xFF, 3])) {
            let tensor = read_idx::<f32>(&path).unwrap();
            assert_eq!((tensor.shape(), tensor.to_vec()), (&[1, 2][..], vec![-1.0, 3.0]));
        }
        for path in both("f32", &file(0x0D, &[1], &1.5_f32.to_be_bytes())) {
            assert_eq!(Idx::<f32>::read(&path).unwrap().data, [1.5]);
        }
        for path in both("f64", &file(0x0E, &[], &(1.0 / 3.0_f64).to_be_bytes())) {
            assert_eq!(read_idx::<f64>(&path).unwrap().item().unwrap(), 1.0 / 3.0);
            assert_eq!(read_idx::<f32>(&path).unwrap().item().unwrap(), 1.0 / 3.0_f32);
        }
        for path in both("odd", &file(0x0A, &[1], &[0; 8])) {
            assert!(text(read_idx::<f32>(&path)).ends_with("holds elements of type 0x0a (unknown)"));
        }
        for path in both("half", &file(0x0C, &[2], &[0; 7])) {
            let expected = "is truncated: it declares [2], 2 elements, and holds 1";
            assert_eq!(text(read_idx::<f32>(&path)), format!("{}: {expected}", path.display()));
        }
        for path in both("more", &file(0x0C, &[1], &[0; 5])) {
            assert!(text(read_idx::<f32>(&path)).contains("holds more than the 1 elements"));
        }
        for path in both("deep", &file(0x08, &[1; 7], &[0])) {
            assert!(text(read_idx::<f32>(&path)).contains("7 axes, at most 6"));
        }
        for path in both("huge", &file(0x0E, &[u32::MAX, 1 << 30], &[])) {
            assert!(text(read_idx::<f32>(&path)).contains("more elements than can be counted"));
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(dims in prop::collection::vec(0_usize..5, 0..4), seed: u64) {
            let dir = TempDir::new().unwrap();
            let path = dir.path().join("some.gz");
            let count = dims.iter().product::<usize>();
            let mut rng = Rng::seed(seed);
            let data: Vec<i32> = (0..count).map(|_| rng.next_u32() as i32).collect();
            let array = Idx { dims: dims.clone(), data };
            array.write(&path).unwrap();
            prop_assert_eq!(Idx::<i32>::read(&path).unwrap(), array);
            let array = Idx { dims, data: (0..count).map(|_| rng.uniform()).collect::<Vec<f64>>() };
            array.write(&path).unwrap();
            prop_assert_eq!(Idx::<f64>::read(&path).unwrap(), array);
        }
    }

    #[test]
    fn databases_with_the_names_of_mnist_are_read_by_the_same_code() {
        let dir = TempDir::new().unwrap();
        put(&dir, "t10k-images-idx3-ubyte", &file(0x08, &[2, 1, 2], &[1, 2, 3, 4]));
        put(&dir, "t10k-labels-idx1-ubyte.gz", &gzip(&file(0x08, &[2], &[9, 8])));
        let fashion = Mnist::load(dir.path(), Split::Test).unwrap();
        assert_eq!((fashion.len(), fashion.image(1)), (2, &[3, 4][..]));
        let names = [0, 1].map(|i| FASHION_MNIST_CLASSES[fashion.label(i)]);
        assert_eq!(names, ["ankle boot", "bag"]);
        // EMNIST has more classes.
        let images = put(&dir, "images", &file(0x08, &[1, 1, 1], &[1]));
        let labels = put(&dir, "labels", &file(0x08, &[1], &[46]));
        let letters = Mnist::from_files_with_classes(&images, &labels, 47).unwrap();
        assert_eq!((letters.classes(), letters.label(0)), (47, 46));
        let error = text(Mnist::from_files_with_classes(&images, &labels, 46));
        assert!(error.ends_with("label 46 of image 0 is not one of 46 classes"), "{error}");
    }
}
