//! Metrics, the tools of a training loop, and the pictures of it.

use std::fs;
use std::io::Read;

use gristmill::data::{DataLoader, LabeledTensors};
use gristmill::metrics::{ConfusionMatrix, Mean, accuracy, top_k_accuracy};
use gristmill::nn::{BatchNorm1d, Linear, Module, Sequential, StateDict};
use gristmill::optim::PlateauMode;
use gristmill::train::{Checkpoints, EarlyStopping, History, evaluate};
use gristmill::{Result, Rng, Tensor};
use proptest::prelude::*;
use tempfile::TempDir;

#[track_caller]
fn text<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().to_string()
}

mod metrics {
    use super::*;

    proptest! {
        /// Against a sort of each row; the few values make ties frequent.
        #[test]
        fn top_k_is_what_sorting_gives(
            rows in 1_usize..20, classes in 1_usize..8, k in 1_usize..9, seed: u64,
        ) {
            let mut rng = Rng::seed(seed);
            let mut draw = || match rng.below(8).unwrap() {
                0 => f32::NAN,
                1 => f32::NEG_INFINITY,
                x => x as f32,
            };
            let logits: Vec<f32> = (0..rows * classes).map(|_| draw()).collect();
            let labels: Vec<usize> = (0..rows).map(|row| row * 7 % classes).collect();
            let tensor = Tensor::from_slice(&logits, [rows, classes]).unwrap();
            let right = logits.chunks(classes).zip(&labels).filter(|(row, label)| {
                let mut order: Vec<usize> = (0..classes).collect();
                // Largest first, NaN before all; a stable sort leaves equal ones in their order.
                order.sort_by(|&a, &b| match (row[a].is_nan(), row[b].is_nan()) {
                    (false, false) => row[b].partial_cmp(&row[a]).unwrap(),
                    (a, b) => b.cmp(&a),
                });
                order[..k.min(classes)].contains(label)
            });
            let expected = right.count() as f64 / rows as f64;
            prop_assert_eq!(top_k_accuracy(&tensor, &labels, k).unwrap(), expected);
            let hits = tensor.argmax().unwrap().iter().zip(&labels).filter(|(a, b)| a == b).count();
            prop_assert_eq!(accuracy(&tensor, &labels).unwrap(), hits as f64 / rows as f64);
        }

        #[test]
        fn the_shares_of_a_confusion_matrix_are_those_of_its_counts(
            pairs in prop::collection::vec((0_usize..4, 0_usize..4), 1..60), cut in 0_usize..60,
        ) {
            let (predictions, labels): (Vec<_>, Vec<_>) = pairs.iter().copied().unzip();
            let mut matrix = ConfusionMatrix::new(4);
            let cut = cut.min(pairs.len());
            matrix.add(&predictions[..cut], &labels[..cut]).unwrap();
            matrix.add(&predictions[cut..], &labels[cut..]).unwrap();
            let count = |f: &dyn Fn(usize, usize) -> bool| pairs.iter().filter(|&&(p, l)| f(p, l)).count() as f64;
            let total = pairs.len() as f64;
            let same = |a: f64, b: f64| (a.is_nan() && b.is_nan()) || (a - b).abs() < 1e-15;
            prop_assert_eq!(matrix.total(), pairs.len() as u64);
            prop_assert!(same(matrix.accuracy(), count(&|p, l| p == l) / total));
            prop_assert!(same(matrix.error(), count(&|p, l| p != l) / total));
            for class in 0..4 {
                let hits = count(&|p, l| p == class && l == class);
                let (precision, recall) = (hits / count(&|p, _| p == class), hits / count(&|_, l| l == class));
                prop_assert!(same(matrix.precision(class), precision));
                prop_assert!(same(matrix.recall(class), recall));
                prop_assert!(same(matrix.class_error(class), 1.0 - recall) || (matrix.class_error(class) - 1.0 + recall).abs() < 1e-12);
                prop_assert_eq!(matrix.support(class) as f64, count(&|_, l| l == class));
                if hits > 0.0 {
                    prop_assert!((matrix.f1(class) - 2.0 * precision * recall / (precision + recall)).abs() < 1e-12);
                }
                for other in 0..4 {
                    prop_assert_eq!(matrix.count(class, other) as f64, count(&|p, l| p == other && l == class));
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_named_and_nothing_is_counted() {
        let logits = Tensor::<f32>::zeros([2, 3]).unwrap();
        assert_eq!(text(accuracy(&logits, &[0])), "top_k_accuracy: 1 labels for logits of shape [2, 3]");
        assert_eq!(text(accuracy(&logits, &[0, 3])), "top_k_accuracy: 3 in row 1 is not one of 3 classes");
        assert_eq!(text(top_k_accuracy(&logits, &[0, 1], 0)), "top_k_accuracy: k is 0, expected at least 1");
        let flat = Tensor::<f32>::zeros([3]).unwrap();
        assert_eq!(text(accuracy(&flat, &[0, 1, 2])), "top_k_accuracy: expected [n, classes], got [3]");
        assert!(accuracy(&Tensor::<f32>::zeros([0, 3]).unwrap(), &[]).unwrap().is_nan());
        assert!(accuracy(&Tensor::<f32>::zeros([1, 0]).unwrap(), &[0]).is_err());
        let mut matrix = ConfusionMatrix::new(2);
        assert_eq!(text(matrix.add(&[0, 1], &[0])), "ConfusionMatrix::add: 2 predictions for 1 labels");
        assert_eq!(
            text(matrix.add(&[0, 0], &[0, 2])),
            "ConfusionMatrix::add: 2 in row 1 is not one of 2 classes"
        );
        assert_eq!(
            text(matrix.add(&[5, 0], &[0, 0])),
            "ConfusionMatrix::add: 5 in row 0 is not one of 2 classes"
        );
        assert_eq!(matrix.total(), 0);
        assert!(matrix.accuracy().is_nan() && matrix.macro_f1().is_nan());
        assert_eq!(text(matrix.names(["one"])), "ConfusionMatrix::names: 1 names for 2 classes");
    }

    #[test]
    fn a_matrix_is_printed_with_its_names() {
        let mut matrix = ConfusionMatrix::new(3).names(["cat", "dog", "sparrow"]).unwrap();
        matrix.add(&[0, 1, 1, 1, 0], &[0, 1, 1, 2, 1]).unwrap();
        let expected = "           cat   dog sparr  ← predicted\n    \
                        cat      1     ·     ·\n    \
                        dog      1     2     ·\n\
                        sparrow      ·     1     ·\n";
        assert_eq!(matrix.to_string(), expected);
        let report = matrix.report();
        let lines: Vec<&str> = report.lines().collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[0], "  class  precision    recall      F1     error   samples  taken for");
        assert_eq!(lines[1], "    cat    50.00 %  100.00 %  0.6667    0.00 %         1");
        assert_eq!(lines[2], "    dog    66.67 %   66.67 %  0.6667   33.33 %         3  cat (1)");
        assert_eq!(lines[3], "sparrow          –    0.00 %  0.0000  100.00 %         1  dog (1)");
        assert!((matrix.macro_f1() - 4.0 / 9.0).abs() < 1e-15);
    }

    #[test]
    fn a_mean_has_weights() {
        let mut mean = Mean::default();
        assert!(mean.mean().is_nan());
        mean.add(1.0, 3.0);
        mean.add(5.0, 1.0);
        assert_eq!((mean.mean(), mean.weight()), (2.0, 4.0));
    }
}

mod stopping {
    use super::*;

    #[test]
    fn a_state_goes_on_where_it_was() {
        let values = [3.0, 2.0, 2.5, 2.4, 1.0, 1.5, 1.4, 1.3];
        let whole = stops_at(EarlyStopping::new(3), &values);
        for split in 0..values.len() {
            let (mut first, mut second) = (EarlyStopping::new(3), EarlyStopping::new(3));
            if values[..split].iter().any(|&value| first.step(value)) {
                continue;
            }
            second.load_state_dict::<f32>(&first.state_dict()).unwrap();
            let stopped = values[split..].iter().position(|&value| second.step(value));
            assert_eq!(stopped.map(|at| at + split), whole);
        }
        let mut state = StateDict::<f32>::new();
        let mut stopping = EarlyStopping::new(3);
        assert_eq!(text(stopping.load_state_dict(&state)), "StateDict: steps is missing");
        state.set("steps", 2);
        state.set("best", 0.5);
        state.set("best_step", 2);
        assert_eq!(
            text(stopping.load_state_dict(&state)),
            "EarlyStopping: the best of 2 steps is not one of them"
        );
        assert_eq!(stopping.best(), None);
        state.set("steps", usize::MAX);
        stopping.load_state_dict(&state).unwrap();
        assert!(stopping.step(1.0) && !stopping.step(0.1));
    }

    fn stops_at(stopping: EarlyStopping, values: &[f64]) -> Option<usize> {
        let mut stopping = stopping;
        values.iter().position(|&value| stopping.step(value))
    }

    #[test]
    fn patience_counts_values_without_improvement() {
        let values = [3.0, 2.0, 2.0, 2.5, 1.0, 1.5, 1.5, 1.5];
        assert_eq!(stops_at(EarlyStopping::new(0), &values), Some(2));
        assert_eq!(stops_at(EarlyStopping::new(1), &values), Some(2));
        assert_eq!(stops_at(EarlyStopping::new(2), &values), Some(3));
        assert_eq!(stops_at(EarlyStopping::new(3), &values), Some(7));
        assert_eq!(stops_at(EarlyStopping::new(4), &values), None);
    }

    #[test]
    fn an_improvement_is_more_than_min_delta_in_the_right_direction() {
        let falling = [1.0, 0.95, 0.9, 0.85, 0.8];
        assert_eq!(stops_at(EarlyStopping::new(2).min_delta(0.08), &falling), None);
        assert_eq!(stops_at(EarlyStopping::new(2).min_delta(0.2), &falling), Some(2));
        let mut up = EarlyStopping::new(2).mode(PlateauMode::Max);
        assert!(![0.1, 0.2, 0.15].map(|value| up.step(value)).contains(&true));
        assert!(up.step(0.2));
        assert_eq!((up.best(), up.best_step()), (Some(0.2), Some(1)));
        assert_eq!(stops_at(EarlyStopping::new(3), &[f64::NAN; 5]), Some(2), "NaN is no improvement");
        assert_eq!(
            stops_at(EarlyStopping::new(3), &[f64::INFINITY; 5]),
            Some(2),
            "nor is a loss without bound"
        );
        let below_zero = [-1.0, -0.99, -1.05, -1.2, -1.15];
        assert_eq!(stops_at(EarlyStopping::new(2).min_delta(0.1), &below_zero), Some(2));
        let gaining = [f64::NEG_INFINITY, -3.0, -4.0, f64::NEG_INFINITY, -3.0];
        assert_eq!(stops_at(EarlyStopping::new(2).mode(PlateauMode::Max), &gaining), Some(3));
        assert_eq!(stops_at(EarlyStopping::new(2), &[f64::NAN, 1.0, f64::NAN, f64::NAN]), Some(3));
    }

    #[test]
    fn the_best_and_the_last_model_are_kept() {
        let dir = TempDir::new().unwrap();
        let dir = dir.path().join("made/for/this");
        let model: Linear = Linear::new(3, 2, &mut Rng::seed(1)).unwrap();
        let mut kept = Checkpoints::new(&dir).unwrap().mode(PlateauMode::Max);
        let set = |x: f32| {
            model
                .parameters()
                .iter()
                .for_each(|p| p.set(&Tensor::full(p.value().shape(), x).unwrap()).unwrap())
        };
        let number = || model.parameters()[0].value().to_vec()[0];
        for (x, value, better) in
            [(1.0, f64::NAN, false), (2.0, 0.5, true), (3.0, 0.7, true), (4.0, 0.6, false)]
        {
            set(x);
            assert_eq!(kept.save(&model, value).unwrap(), better);
        }
        assert_eq!(kept.best_value(), Some(0.7));
        model.load(kept.best()).unwrap();
        assert_eq!(number(), 3.0);
        model.load(kept.last()).unwrap();
        assert_eq!(number(), 4.0);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2, "nothing else is left");
        // What could not be written is not the best.
        fs::remove_dir_all(&dir).unwrap();
        assert!(kept.save(&model, 0.9).is_err());
        assert_eq!(kept.best_value(), Some(0.7));
        let file = TempDir::new().unwrap();
        let file = file.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(text(Checkpoints::new(&file)).contains("the folder cannot be made"));
    }
}

mod history {
    use super::*;

    #[test]
    fn rows_have_the_names_of_the_first() {
        let mut history = History::new();
        assert!(history.is_empty() && history.column("loss").is_empty());
        assert!(text(history.push(&[])).contains("a row needs names"));
        assert!(history.push(&[("a", 1.0), ("a", 2.0)]).is_err());
        assert!(history.push(&[("a\n", 1.0)]).is_err());
        history.push(&[("a", 1.0), ("b", 2.0)]).unwrap();
        let error = text(history.push(&[("b", 1.0), ("a", 2.0)]));
        assert_eq!(error, "History::push: a row of [\"b\", \"a\"] in a table of [\"a\", \"b\"]");
        history.push(&[("a", 3.0), ("b", f64::NAN)]).unwrap();
        assert_eq!((history.len(), history.column("a"), history.names().len()), (2, &[1.0, 3.0][..], 2));
        assert_eq!(
            history.to_string(),
            "          a          b\n     1.0000     2.0000\n     3.0000        NaN\n"
        );
    }

    #[test]
    fn numbers_that_are_not_finite_are_null_in_json() {
        let mut history = History::new();
        history.push(&[("say \"a\\b\"", f64::INFINITY), ("x", 1e-300)]).unwrap();
        let json: serde_json::Value = serde_json::from_str(&history.to_json()).unwrap();
        assert_eq!(json, serde_json::json!([{ "say \"a\\b\"": null, "x": 1e-300 }]));
        let nothing: serde_json::Value = serde_json::from_str(&History::new().to_json()).unwrap();
        assert_eq!(nothing, serde_json::json!([]));
    }

    #[test]
    fn names_may_be_numbers() {
        let mut history = History::new();
        history.push(&[("1", 0.5), ("5", 0.25)]).unwrap();
        let dir = TempDir::new().unwrap();
        history.write(dir.path().join("h.csv")).unwrap();
        assert_eq!(History::read_csv(dir.path().join("h.csv")).unwrap(), history);
    }

    proptest! {
        #[test]
        fn csv_and_json_give_the_same_bits_back(
            rows in prop::collection::vec(any::<[f64; 2]>(), 1..20), name in "[ -~é]{1,12}",
        ) {
            prop_assume!(name != "other");
            let mut history = History::new();
            for [a, b] in &rows {
                history.push(&[(&name, *a), ("other", *b)]).unwrap();
            }
            let dir = TempDir::new().unwrap();
            let (csv, json) = (dir.path().join("h.csv"), dir.path().join("h.json"));
            history.write(&csv).unwrap();
            history.write(&json).unwrap();
            let back = History::read_csv(&csv).unwrap();
            prop_assert_eq!(back.names(), history.names());
            let json: Vec<serde_json::Map<String, serde_json::Value>> =
                serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
            for (column, key) in [&name, "other"].into_iter().enumerate() {
                for (i, (x, row)) in back.column(key).iter().zip(&rows).enumerate() {
                    let expected = row[column];
                    prop_assert!(x.to_bits() == expected.to_bits() || x.is_nan() && expected.is_nan());
                    prop_assert_eq!(json[i][key].as_f64(), Some(expected).filter(|x| x.is_finite()));
                }
            }
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let error = text(History::new().write("/nowhere/at/all.csv"));
        assert!(error.starts_with("/nowhere/at/all.csv: cannot be written: "), "{error}");
    }
}

mod evaluation {
    use super::*;

    /// A model whose logits are its input, behind a norm whose mode shows.
    fn model() -> Sequential {
        Sequential::new().add(BatchNorm1d::new(3).unwrap())
    }

    #[test]
    fn loss_and_counts_are_those_of_all_samples_whatever_the_batches() {
        let x = Tensor::randn([50, 3], 0.0, 1.0, &mut Rng::seed(1)).unwrap();
        let labels: Vec<usize> = (0..50).map(|i| i % 3).collect();
        let model = model();
        model.train();
        let dataset = LabeledTensors::new(&x, labels.clone(), 3).unwrap();
        let run =
            |batch_size| evaluate(&model, &DataLoader::new(dataset.clone()).batch_size(batch_size)).unwrap();
        let (one, all) = (run(7), run(50));
        assert_eq!(one.confusion, all.confusion);
        assert!((one.loss - all.loss).abs() < 1e-6, "{} {}", one.loss, all.loss);
        // In evaluation mode a fresh norm divides by √(1 + ε) only, and its statistics stay.
        let logits = model.forward(&x).unwrap();
        let scaled = x.mul_scalar(1.0 / 1.00001_f32.sqrt()).unwrap();
        let expected = scaled.cross_entropy(&labels).unwrap().item().unwrap();
        assert!((all.loss - f64::from(expected)).abs() < 1e-6);
        assert!((all.confusion.accuracy() - accuracy(&logits, &labels).unwrap()).abs() < 1e-15);
        assert_eq!(all.confusion.total(), 50);
    }

    #[test]
    fn labels_may_lie_in_any_slice() {
        let model = model();
        let batch = || (Tensor::ones([2, 3]).unwrap(), vec![0, 1]);
        let evaluation = evaluate(&model, [Ok(batch()), Ok(batch())]).unwrap();
        assert_eq!(evaluation.confusion.total(), 4);
    }

    #[test]
    fn errors_of_batches_and_of_the_model_come_out() {
        let model = model();
        assert_eq!(text(evaluate::<Vec<usize>>(&model, [])), "evaluate: there are no batches");
        let x = Tensor::zeros([4, 2]).unwrap();
        let loader = DataLoader::new(LabeledTensors::new(&x, vec![0; 4], 1).unwrap()).batch_size(2);
        assert!(evaluate(&model, &loader).is_err(), "2 features for 3");
        let loader = loader.batch_size(0);
        assert_eq!(text(evaluate(&model, &loader)), "DataLoader: the batch size must be at least 1, got 0");
    }
}

mod plots {
    use super::*;
    use gristmill::plot::{Curves, ImageGrid, Picture, confusion};

    /// Elements are closed, and no number is missing.
    #[track_caller]
    fn check(picture: &Picture) -> String {
        let svg = picture.to_svg();
        assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"));
        assert_eq!(svg.matches("<g ").count(), svg.matches("</g>").count());
        assert_eq!(svg.matches("<text ").count(), svg.matches("</text>").count());
        for line in svg.lines().filter(|line| !line.contains("base64")) {
            assert!(!["NaN", "inf", "&&"].iter().any(|bad| line.contains(bad)), "{line}");
        }
        svg
    }

    #[test]
    fn points_lie_where_their_numbers_say() {
        let svg = check(&Curves::new("a & <b>").line("x\u{1}", [(1.0, 0.0), (2.0, 1.0), (3.0, 2.0)]).draw());
        assert!(svg.contains("a &amp; &lt;b&gt;") && svg.contains(">x </text>"));
        let number = |text: &str, name: &str| -> f64 {
            text.split_once(&format!("{name}=\"")).unwrap().1.split('"').next().unwrap().parse().unwrap()
        };
        let dots: Vec<(f64, f64)> =
            svg.split("<circle ").skip(1).map(|dot| (number(dot, "cx"), number(dot, "cy"))).collect();
        assert_eq!(dots.len(), 3);
        // Evenly to the right and upwards, from the left end to the right one.
        assert!((dots[1].0 - dots[0].0 - (dots[2].0 - dots[1].0)).abs() < 0.2);
        assert!((dots[1].1 - dots[0].1 - (dots[2].1 - dots[1].1)).abs() < 0.2);
        assert!(dots[2].0 > dots[0].0 + 300.0 && dots[2].1 < dots[0].1 - 150.0, "{dots:?}");
    }

    proptest! {
        #[test]
        fn any_numbers_give_a_picture(points in prop::collection::vec((any::<f64>(), any::<f64>()), 0..20), log: bool) {
            let curves = Curves::new("any").x_label("x").line("numbers", points.clone()).epochs("two", &[1.0, f64::NAN]);
            check(&if log { curves.log_y() } else { curves }.draw());
        }
    }

    #[test]
    fn epochs_have_whole_numbers() {
        let labels = |svg: &str| svg.matches(">1.5</text>").count() + svg.matches(">1.2</text>").count();
        let svg = check(&Curves::new("").epochs("two", &[3.0, 4.0]).draw());
        assert!(labels(&svg) == 0 && svg.contains(">1</text>") && svg.contains(">2</text>"), "{svg}");
        let svg = check(&Curves::new("").line("between", [(1.0, 3.0), (1.25, 3.5), (2.0, 4.0)]).draw());
        assert!(labels(&svg) > 0, "{svg}");
    }

    #[test]
    fn what_is_not_finite_is_a_gap() {
        let values = [1.0, f64::NAN, 3.0, 4.0, f64::INFINITY];
        let svg = check(&Curves::new("").epochs("gaps", &values).draw());
        assert_eq!(svg.matches("stroke-width=\"2\"").count(), 2);
        let svg = check(&Curves::new("").log_y().epochs("gaps", &[1.0, 0.0, 3.0, -1.0]).draw());
        assert_eq!(svg.matches("stroke-width=\"2\"").count(), 2);
        check(&Curves::new("nothing").draw());
        let far = [(0.0, -f64::MAX), (f64::MAX, f64::MAX), (-f64::MAX, 0.0)];
        check(&Curves::new("far").line("far", far).draw());
    }

    #[test]
    fn a_confusion_matrix_shows_every_count() {
        let mut matrix = ConfusionMatrix::new(3).names(["cat", "dog", "<bird of paradise>"]).unwrap();
        check(&confusion(&matrix));
        matrix.add(&[0, 1, 1, 1, 0, 0, 0, 0], &[0, 1, 1, 2, 1, 1, 1, 1]).unwrap();
        let svg = check(&confusion(&matrix));
        for expected in
            [">4</text>", ">2</text>", "&lt;bird of paradise&gt;", "62.50 % of 8 wrong", "100.00 %"]
        {
            assert!(svg.contains(expected), "{expected}");
        }
        check(&confusion(&ConfusionMatrix::new(0)));
    }

    fn base64(text: &str) -> Vec<u8> {
        const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let bytes = text.trim_end_matches('=').as_bytes().chunks(4).flat_map(|group| {
            let digit = |i: usize| group.get(i).map_or(0, |&c| DIGITS.find(char::from(c)).unwrap());
            let bits = (0..4).fold(0, |bits, i| bits << 6 | digit(i));
            (1..group.len()).map(move |i| (bits >> (24 - 8 * i)) as u8)
        });
        bytes.collect()
    }

    #[test]
    fn images_are_png_files_inside() {
        let gray: Vec<f32> = (0..12).map(|i| i as f32 / 11.0).collect();
        let grid = ImageGrid::new("digits", 2).image(&gray, [3, 4, 1], &["1 → 7", "98 %"]).unwrap();
        let grid = grid.image(&[f32::NAN, 2.0, -1.0], [1, 1, 3], &[]).unwrap();
        let svg = check(&grid.draw());
        assert!(svg.contains("1 → 7"));
        // The file is what the numbers say: signature, size, kind, and rows behind their filter, 0.
        let file = base64(svg.split_once("base64,").unwrap().1.split('"').next().unwrap());
        assert!(file.starts_with(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x04\0\0\0\x03\x08\0\0\0\0"));
        assert!(file.ends_with(b"\0\0\0\0IEND\xae\x42\x60\x82"));
        let data = file.windows(4).position(|name| name == b"IDAT").unwrap() + 4;
        let mut rows = Vec::new();
        flate2::read::ZlibDecoder::new(&file[data..]).read_to_end(&mut rows).unwrap();
        let expected =
            gray.chunks(4).flat_map(|row| [0.0].iter().chain(row).map(|x| (255.0 * x).round() as u8));
        assert!(rows.iter().copied().eq(expected), "{rows:?}");
        let error = |pixels: &[f32], shape| text(ImageGrid::new("", 0).image(pixels, shape, &[]));
        assert_eq!(
            error(&[0.0; 3], [2, 2, 1]),
            "ImageGrid::image: 3 numbers for an image of shape [2, 2, 1]"
        );
        assert_eq!(error(&[0.0; 4], [1, 2, 2]), "ImageGrid::image: [1, 2, 2] has not 1 or 3 channels");
        assert!(error(&[], [0, 2, 1]).contains("0 numbers"));
        assert!(error(&[], [usize::MAX, 2, 1]).contains("too large"));
        check(&ImageGrid::new("none", 0).draw());
    }

    #[test]
    fn pictures_stand_side_by_side_and_are_saved_whole() {
        let one = Curves::new("one").draw();
        let row = Picture::row(&[one.clone(), one]);
        assert!(check(&row).contains("width=\"960\" height=\"360\""));
        check(&Picture::row(&[]));
        let dir = TempDir::new().unwrap();
        row.save(dir.path().join("row.svg")).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("row.svg")).unwrap(), row.to_svg());
        assert!(text(row.save(dir.path().join("no/row.svg"))).contains("cannot be written"));
    }
}
