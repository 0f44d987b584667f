//! Convolutional layers: PyTorch's conventions, fused operations, learning.

use gristmill::autograd::{ConvOptions, Divisor, Padding, PoolOptions};
use gristmill::nn::{
    Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d, Dropout, Flatten, Linear, Module, ReLU, Sequential,
};
use gristmill::optim::{Adam, Optimizer};
use gristmill::{Error, Result, Rng, Tensor};
use serde_json::Value;

use crate::common::{assert_close, data, fixture};

fn input(shape: &[usize]) -> Tensor {
    Tensor::rand(shape, -1.0, 1.0, &mut Rng::seed(9)).unwrap()
}

/// PyTorch's: uniform in ±1/√(weight.size(1) · taps), weight and bias.
#[test]
fn initial_values_are_bounded_by_the_fan_of_the_second_axis() -> Result<()> {
    let mut rng = Rng::seed(4);
    let grouped = ConvOptions { groups: 4, ..ConvOptions::default() };
    let plain: Conv2d = Conv2d::new(16, 64, [3, 3], &mut rng)?;
    let of_groups: Conv2d = Conv2d::with_options(16, 64, [3, 3], grouped, &mut rng)?;
    let transposed: ConvTranspose2d = ConvTranspose2d::new(4, 64, [3, 3], &mut rng)?;
    let sequence: Conv1d = Conv1d::new(9, 40, [4], &mut rng)?;
    for (parameters, fan) in [
        (plain.parameters(), 16 * 9),
        (of_groups.parameters(), 4 * 9),
        (transposed.parameters(), 64 * 9),
        (sequence.parameters(), 9 * 4),
    ] {
        let bound = 1.0 / f64::from(fan).sqrt();
        for parameter in parameters {
            let largest = parameter.value().abs()?.max()?.item()?;
            assert!(f64::from(largest) <= bound * 1.000_001, "{largest} in ±{bound}");
            assert!(f64::from(largest) > bound * 0.9, "{largest} in ±{bound}");
        }
    }
    Ok(())
}

#[test]
fn layers_are_named_and_described_as_in_pytorch() -> Result<()> {
    let mut rng = Rng::seed(4);
    let options = ConvOptions {
        stride: [2, 1],
        padding: Padding::Zeros([1, 0]),
        dilation: [1, 2],
        groups: 2,
        ..ConvOptions::default()
    };
    let layer: Conv2d = Conv2d::with_options(4, 6, [3, 2], options, &mut rng)?.without_bias();
    let model = Sequential::new().add(layer).add(ConvTranspose1d::new(3, 5, [4], &mut rng)?);
    let values = model.state_dict();
    let shapes: Vec<_> = values.iter().map(|(name, value)| (name.as_str(), value.shape().to_vec())).collect();
    let expected = [("0.weight", vec![6, 2, 3, 2]), ("1.bias", vec![5]), ("1.weight", vec![3, 5, 4])];
    assert_eq!(shapes, expected);
    let text = model.to_string();
    for part in [
        "Conv2d(4 → 6, kernel [3, 2], stride [2, 1], padding [1, 0], dilation [1, 2], 2 groups, no bias)",
        "ConvTranspose1d(3 → 5, kernel [4])",
    ] {
        assert!(text.contains(part), "{text}");
    }
    // 2 · terms · elements of the output.
    let layer: Conv2d = Conv2d::new(3, 8, [3, 3], &mut rng)?;
    assert_eq!(layer.flops(&[2, 3, 10, 12]), 2 * 27 * (2 * 8 * 8 * 10));
    assert!(Sequential::new().add(layer).summary_for(&[2, 3, 10, 12])?.contains("[2, 8, 8, 10]"));
    Ok(())
}

#[test]
fn a_relu_and_dropout_behind_a_convolution_are_run_with_it_to_the_same_bits() -> Result<()> {
    for outputs in [3, 40] {
        let mut rng = Rng::seed(4);
        let layer: Conv2d = Conv2d::new(5, outputs, [3, 3], &mut rng)?;
        let (weight, bias) = (layer.weight().value(), layer.bias().unwrap().value());
        let dropout = || Dropout::new(0.3, &mut Rng::seed(8));
        let model = Sequential::new().add(layer).add(ReLU).add(dropout()?);
        let apart = dropout()?;
        let x = input(&[3, 5, 9, 8]);
        let grads = |fused: bool| -> Result<Vec<Vec<f32>>> {
            let x = x.requires_grad();
            let y = if fused {
                model.forward(&x)?
            } else {
                let w = Conv2d::from_parameters(
                    &gristmill::nn::Parameter::new(&weight),
                    Some(&gristmill::nn::Parameter::new(&bias)),
                    ConvOptions::default(),
                )?;
                let y = apart.forward(&w.forward(&x)?.relu()?)?;
                y.square()?.sum()?.backward()?;
                let parameters = w.parameters();
                let of = |i: usize| parameters[i].grad().unwrap().to_vec();
                return Ok(vec![y.to_vec(), x.grad().unwrap().to_vec(), of(0), of(1)]);
            };
            y.square()?.sum()?.backward()?;
            let parameters = model.parameters();
            let of = |i: usize| parameters[i].grad().unwrap().to_vec();
            Ok(vec![y.to_vec(), x.grad().unwrap().to_vec(), of(0), of(1)])
        };
        assert_eq!(grads(true)?, grads(false)?);
    }
    Ok(())
}

#[test]
fn same_padding_puts_the_odd_zero_at_the_end_and_refuses_a_stride() -> Result<()> {
    // Values seen with PyTorch 2.15.0: kernel 4, and kernel 2 with dilation 3, have 1 before and 2 after.
    let x = Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0], [1, 1, 4])?;
    let weight = Tensor::from_slice(&[1.0_f32, 10.0, 100.0, 1000.0], [1, 1, 4])?;
    let same = ConvOptions { padding: Padding::Same, ..ConvOptions::default() };
    assert_eq!(x.conv1d(&weight, None, same)?.to_vec(), [3210.0, 4321.0, 432.0, 43.0]);
    let sides = ConvOptions { padding: Padding::Sides([[1, 2]]), ..ConvOptions::default() };
    assert!(x.conv1d(&weight, None, sides)?.equals(&x.conv1d(&weight, None, same)?));
    let weight = Tensor::from_slice(&[1.0_f32, 10.0], [1, 1, 2])?;
    let dilated = ConvOptions { dilation: [3], ..same };
    assert_eq!(x.conv1d(&weight, None, dilated)?.to_vec(), [30.0, 41.0, 2.0, 3.0]);
    let error = x.conv1d(&weight, None, ConvOptions { stride: [2], ..same }).unwrap_err();
    assert!(matches!(error, Error::Shape { op: "conv1d", .. }), "{error}");
    Ok(())
}

#[test]
fn transposed_convolutions_have_pytorchs_sizes_and_values() -> Result<()> {
    let x = Tensor::from_slice(&[1.0_f32, 2.0], [1, 1, 2])?;
    let weight = Tensor::from_slice(&[1.0_f32, 10.0, 100.0], [1, 1, 3])?;
    let options = ConvOptions { stride: [2], ..ConvOptions::default() };
    assert_eq!(x.conv_transpose1d(&weight, None, options)?.to_vec(), [1.0, 10.0, 102.0, 20.0, 200.0]);
    let options = ConvOptions { padding: Padding::Zeros([1]), output_padding: [1], ..options };
    assert_eq!(x.conv_transpose1d(&weight, None, options)?.to_vec(), [10.0, 102.0, 20.0, 200.0]);
    let error =
        x.conv_transpose1d(&weight, None, ConvOptions { output_padding: [2], ..options }).unwrap_err();
    assert!(error.to_string().contains("output padding [2] must be below the stride [2]"), "{error}");
    let error = x.conv_transpose1d(&weight, None, ConvOptions { padding: Padding::Zeros([4]), ..options });
    assert!(error.unwrap_err().to_string().contains("leave no output"));
    Ok(())
}

#[test]
fn a_single_image_is_a_batch_of_one() -> Result<()> {
    let mut rng = Rng::seed(4);
    let layer: Conv2d = Conv2d::new(3, 5, [3, 2], &mut rng)?;
    let batch = input(&[1, 3, 7, 6]);
    let (of_batch, alone) = (layer.forward(&batch)?, layer.forward(&batch.reshape([3, 7, 6])?)?);
    assert_eq!(alone.shape(), [5, 5, 5]);
    assert!(alone.equals(&of_batch.reshape([5, 5, 5])?));
    let layer: ConvTranspose2d = ConvTranspose2d::new(3, 5, [3, 2], &mut rng)?;
    let (of_batch, alone) = (layer.forward(&batch)?, layer.forward(&batch.reshape([3, 7, 6])?)?);
    assert_eq!(alone.shape(), [5, 9, 7]);
    assert!(alone.equals(&of_batch.reshape([5, 9, 7])?));
    Ok(())
}

#[test]
fn errors_name_the_layer_and_the_shapes() -> Result<()> {
    let mut rng = Rng::seed(4);
    let model: Sequential = Sequential::new().add(Conv2d::new(3, 5, [3, 3], &mut rng)?);
    for (x, parts) in [
        (input(&[2, 4, 8, 8]), ["[2, 4, 8, 8]", "[5, 3, 3, 3]", "conv2d"]),
        (input(&[2, 3, 2, 8]), ["spans 3", "2 padded pixels", "conv2d"]),
        (input(&[8, 8]), ["[channels, height, width]", "[8, 8]", "conv2d"]),
    ] {
        let error = model.forward(&x).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)) && error.contains("layer 0"), "{error}");
    }
    assert!(Conv2d::<f32>::new(0, 5, [3, 3], &mut rng).is_err());
    assert!(Conv2d::<f32>::new(3, 5, [0, 3], &mut rng).is_err());
    let groups = ConvOptions { groups: 2, ..ConvOptions::default() };
    let error = Conv1d::<f32>::with_options(3, 4, [3], groups, &mut rng).err().unwrap().to_string();
    assert!(error.contains("2 groups do not divide 3 inputs and 4 outputs"), "{error}");
    Ok(())
}

/// Which of two strokes an image shows, wherever it is: pooled convolutions learn it, whatever the place.
#[test]
fn a_convolutional_network_learns_to_tell_strokes_apart() -> Result<()> {
    let mut rng = Rng::seed(4);
    let (mut pixels, mut labels) = (vec![0.0_f32; 64 * 100], vec![]);
    for image in 0..64 {
        let (label, at) = (image % 2, (image / 2) % 8);
        for i in 1..9 {
            pixels[image * 100 + if label == 0 { (at + 1) * 10 + i } else { i * 10 + at + 1 }] = 1.0;
        }
        labels.push(label);
    }
    let x = Tensor::from_slice(&pixels, [64, 1, 10, 10])?;
    let down = ConvOptions { stride: [2, 2], ..ConvOptions::default() };
    let model: Sequential = Sequential::new()
        .add(Conv2d::new(1, 4, [3, 3], &mut rng)?)
        .add(ReLU)
        .add(Conv2d::with_options(4, 4, [2, 2], down, &mut rng)?)
        .add(ReLU)
        .add(Flatten)
        .add(Linear::new(64, 2, &mut rng)?);
    let mut optimizer = Adam::new(model.parameters()).lr(0.02);
    let mut last = f32::INFINITY;
    for _ in 0..60 {
        optimizer.zero_grad();
        let loss = model.forward(&x)?.cross_entropy(&labels)?;
        loss.backward()?;
        optimizer.step()?;
        last = loss.item()?;
    }
    assert!(last < 0.05, "{last}");
    Ok(())
}

fn sizes<const D: usize>(value: &Value, default: usize) -> [usize; D] {
    match value.as_array() {
        Some(values) => std::array::from_fn(|i| values[i].as_u64().unwrap() as usize),
        None => [default; D],
    }
}

fn stored(value: &Value) -> Tensor<f64> {
    let shape: Vec<usize> =
        value["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
    Tensor::from_slice(&data(value), shape).unwrap()
}

fn conv_options<const D: usize>(case: &Value) -> ConvOptions<D> {
    ConvOptions {
        stride: sizes(&case["stride"], 1),
        padding: if case["padding"] == "same" {
            Padding::Same
        } else {
            Padding::Zeros(sizes(&case["padding"], 0))
        },
        dilation: sizes(&case["dilation"], 1),
        groups: case["groups"].as_u64().unwrap_or(1) as usize,
        output_padding: sizes(&case["output_padding"], 0),
    }
}

/// Compares y and the gradients of the named inputs.
fn compare(case: &Value, y: &Tensor<f64>, inputs: &[(&str, &Tensor<f64>)]) -> Result<()> {
    let expected = stored(&case["y"]);
    assert_eq!(y.shape(), expected.shape());
    assert_close("y", &y.to_vec(), &expected.to_vec(), 1e-13, 1e-13);
    y.backward_with(&stored(&case["dy"]))?;
    for (name, input) in inputs {
        let gradient = input.grad().unwrap().to_vec();
        assert_close(name, &gradient, &data(&case[format!("d{name}")]), 1e-13, 1e-13);
    }
    Ok(())
}

#[test]
fn convolutions_give_what_pytorch_gives() -> Result<()> {
    for case in fixture("conv") {
        let [x, weight, bias] = ["x", "weight", "bias"].map(|name| stored(&case[name]).requires_grad());
        let y = match (weight.rank(), case["transposed"].as_bool().unwrap()) {
            (3, false) => x.conv1d(&weight, Some(&bias), conv_options(&case))?,
            (3, true) => x.conv_transpose1d(&weight, Some(&bias), conv_options(&case))?,
            (_, false) => x.conv2d(&weight, Some(&bias), conv_options(&case))?,
            (_, true) => x.conv_transpose2d(&weight, Some(&bias), conv_options(&case))?,
        };
        compare(&case, &y, &[("x", &x), ("weight", &weight), ("bias", &bias)])?;
    }
    Ok(())
}

#[test]
fn pooling_gives_what_pytorch_gives() -> Result<()> {
    fn options<const D: usize>(case: &Value) -> PoolOptions<D> {
        PoolOptions {
            stride: case["stride"].is_array().then(|| sizes(&case["stride"], 1)),
            padding: sizes(&case["padding"], 0),
            dilation: sizes(&case["dilation"], 1),
            ceil_mode: case["ceil_mode"].as_bool().unwrap_or(false),
        }
    }
    for case in fixture("pool") {
        let x = stored(&case["x"]).requires_grad();
        let (kernel, output) = (&case["kernel_size"], &case["output_size"]);
        let divisor = match (case["divisor_override"].as_f64(), case["count_include_pad"].as_bool()) {
            (Some(divisor), _) => Divisor::Fixed(divisor),
            (None, Some(false)) => Divisor::Inside,
            _ => Divisor::Window,
        };
        let y = match case["kind"].as_str().unwrap() {
            "max_pool1d" => x.max_pool1d(sizes(kernel, 0), options(&case))?,
            "max_pool2d" => x.max_pool2d(sizes(kernel, 0), options(&case))?,
            "avg_pool1d" => x.avg_pool1d(sizes(kernel, 0), options(&case), divisor)?,
            "avg_pool2d" => x.avg_pool2d(sizes(kernel, 0), options(&case), divisor)?,
            "adaptive_max_pool1d" => x.adaptive_max_pool1d(sizes::<1>(output, 0)[0])?,
            "adaptive_max_pool2d" => x.adaptive_max_pool2d(sizes(output, 0))?,
            "adaptive_avg_pool1d" => x.adaptive_avg_pool1d(sizes::<1>(output, 0)[0])?,
            _ => x.adaptive_avg_pool2d(sizes(output, 0))?,
        };
        compare(&case, &y, &[("x", &x)])?;
    }
    Ok(())
}
