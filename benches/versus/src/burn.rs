//! burn on the CPU, with its Flex backend, which computes at once: nothing is put off. Its threads are those
//! of rayon's global pool.

use std::rc::Rc;

use burn::module::{Module, Param};
use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Dropout, DropoutConfig, Linear, LinearConfig};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::job::{Batches, Images};
use crate::kernels::{dimensions, numbers};
use crate::race::{Contender, Result, native};

const NAME: &str = "burn";
const LR: f64 = 1e-3;
/// The numbers of an image.
const INPUTS: usize = 784;
const CLASSES: usize = 10;
const BLOCKS: usize = 3;

/// burn's training step, if this is that case.
pub fn contender(id: &str) -> Option<Box<dyn Contender>> {
    let &[batch, hidden] = shape(id, "training_step")?.as_slice() else { return None };
    Some(training_step(batch, hidden))
}

/// The main job, if this is it: steps on one batch of images after the other.
pub fn job(id: &str, images: &Rc<Images>) -> Option<Box<dyn Contender>> {
    let &[_, batch, hidden] = shape(id, "job")?.as_slice() else { return None };
    Some(main_job(batch, hidden, images))
}

/// The network in evaluation mode with these weights: of each layer the weight as [out, in] and the bias, of
/// each normalisation γ and β.
pub fn inference(id: &str, weights: &[f32]) -> Option<Box<dyn Contender>> {
    let &[batch, hidden] = shape(id, "inference")?.as_slice() else { return None };
    let device = Device::flex();
    let images = images(batch, &device);
    let network = Network::new(hidden, &device).with_weights(weights, &device);
    Some(native(
        NAME,
        None,
        move |kept| {
            let network = network.as_ref().map_err(|error| error.to_string())?;
            *kept = Some(network.forward(images.clone()));
            Ok(())
        },
        |kept: &Option<Tensor<2>>| kept.clone().map(read).unwrap_or_default(),
    ))
}

fn shape(id: &str, family: &str) -> Option<Vec<usize>> {
    dimensions(id.strip_prefix(family)?.strip_prefix("/mlp_resnet/f32/")?)
}

fn images(batch: usize, device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(numbers::<f32>(batch * INPUTS, 1), [batch, INPUTS]), device)
}

fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter().collect()
}

/// hidden → hidden/2 → hidden, added to its input.
#[derive(Module, Debug)]
struct Block {
    linear1: Linear,
    norm1: BatchNorm,
    dropout: Dropout,
    linear2: Linear,
    norm2: BatchNorm,
}

impl Block {
    fn new(hidden: usize, device: &Device) -> Self {
        Self {
            linear1: LinearConfig::new(hidden, hidden / 2).init(device),
            norm1: BatchNormConfig::new(hidden / 2).init(device),
            dropout: DropoutConfig::new(0.1).init(),
            linear2: LinearConfig::new(hidden / 2, hidden).init(device),
            norm2: BatchNormConfig::new(hidden).init(device),
        }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let inner = relu(self.norm1.forward(self.linear1.forward(x.clone())));
        let inner = self.linear2.forward(self.dropout.forward(inner));
        x + self.norm2.forward(inner)
    }
}

/// 784 → hidden, three blocks, hidden → 10.
#[derive(Module, Debug)]
struct Network {
    input: Linear,
    blocks: Vec<Block>,
    output: Linear,
}

impl Network {
    fn new(hidden: usize, device: &Device) -> Self {
        Self {
            input: LinearConfig::new(INPUTS, hidden).init(device),
            blocks: (0..BLOCKS).map(|_| Block::new(hidden, device)).collect(),
            output: LinearConfig::new(hidden, CLASSES).init(device),
        }
    }

    fn forward(&self, images: Tensor<2>) -> Tensor<2> {
        let x = relu(self.input.forward(images));
        let x = self.blocks.iter().fold(x, |x, block| relu(block.forward(x)));
        self.output.forward(x)
    }

    fn with_weights(mut self, weights: &[f32], device: &Device) -> Result<Self> {
        let mut rest = Weights { rest: weights, device };
        rest.linear(&mut self.input)?;
        for block in &mut self.blocks {
            rest.linear(&mut block.linear1)?;
            rest.norm(&mut block.norm1)?;
            rest.linear(&mut block.linear2)?;
            rest.norm(&mut block.norm2)?;
        }
        rest.linear(&mut self.output)?;
        Ok(self)
    }
}

/// Numbers that layers take from the front.
struct Weights<'a> {
    rest: &'a [f32],
    device: &'a Device,
}

impl<'a> Weights<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [f32]> {
        let (values, rest) = self.rest.split_at_checked(count).ok_or("too few weights")?;
        self.rest = rest;
        Ok(values)
    }

    fn vector(&mut self, count: usize) -> Result<Param<Tensor<1>>> {
        let values = self.take(count)?.to_vec();
        Ok(Param::from_data(TensorData::new(values, [count]), self.device))
    }

    /// burn keeps the weight as [in, out].
    fn linear(&mut self, layer: &mut Linear) -> Result<()> {
        let [inputs, outputs] = layer.weight.val().dims();
        let values = self.take(inputs * outputs)?;
        let transposed: Vec<f32> =
            (0..inputs).flat_map(|i| (0..outputs).map(move |o| values[o * inputs + i])).collect();
        layer.weight = Param::from_data(TensorData::new(transposed, [inputs, outputs]), self.device);
        layer.bias = Some(self.vector(outputs)?);
        Ok(())
    }

    fn norm(&mut self, layer: &mut BatchNorm) -> Result<()> {
        let [features] = layer.gamma.val().dims();
        layer.gamma = self.vector(features)?;
        layer.beta = self.vector(features)?;
        Ok(())
    }
}

/// Forward, backward, update on one batch.
fn training_step(batch: usize, hidden: usize) -> Box<dyn Contender> {
    let device = Device::flex().autodiff();
    let decay = WeightDecayConfig::new(1e-3);
    let mut optimizer = AdamConfig::new().with_epsilon(1e-8).with_weight_decay(Some(decay)).init();
    let criterion: CrossEntropyLoss = CrossEntropyLossConfig::new().init(&device);
    let images = images(batch, &device);
    let labels: Vec<i64> = (0..batch).map(|i| (i * 7 % CLASSES) as i64).collect();
    let labels: Tensor<1, Int> = Tensor::from_data(TensorData::new(labels, [batch]), &device);
    native(
        NAME,
        (Some(Network::new(hidden, &device)), None),
        move |(network, kept)| {
            // The optimizer takes the network and gives back the updated one.
            let before = network.take().ok_or("the network was lost in a step that failed")?;
            let loss = criterion.forward(before.forward(images.clone()), labels.clone());
            let gradients = GradientsParams::from_grads(loss.backward(), &before);
            *network = Some(optimizer.step(LR, before, gradients));
            // Without the graph, so that its memory is free again.
            *kept = Some(loss.inner());
            Ok(())
        },
        |(_, kept): &(_, Option<Tensor<1>>)| kept.clone().map(read).unwrap_or_default(),
    )
}

fn main_job(batch: usize, hidden: usize, images: &Rc<Images>) -> Box<dyn Contender> {
    let device = Device::flex().autodiff();
    let decay = WeightDecayConfig::new(1e-3);
    let mut optimizer = AdamConfig::new().with_epsilon(1e-8).with_weight_decay(Some(decay)).init();
    let criterion: CrossEntropyLoss = CrossEntropyLossConfig::new().init(&device);
    let pixels = TensorData::new(images.pixels.clone(), [images.labels.len(), INPUTS]);
    let pixels: Tensor<2> = Tensor::from_data(pixels, &device);
    let mut batches = Batches::new(images, batch);
    native(
        NAME,
        (Some(Network::new(hidden, &device)), None),
        move |(network, kept)| {
            let (rows, labels) = batches.next();
            let indices = |from: &[usize]| -> Tensor<1, Int> {
                let numbers: Vec<i64> = from.iter().map(|&x| x as i64).collect();
                Tensor::from_data(TensorData::new(numbers, [batch]), &device)
            };
            let (rows, labels) = (indices(rows), indices(&labels));
            let before = network.take().ok_or("the network was lost in a step that failed")?;
            let loss = criterion.forward(before.forward(pixels.clone().select(0, rows)), labels);
            let gradients = GradientsParams::from_grads(loss.backward(), &before);
            *network = Some(optimizer.step(LR, before, gradients));
            *kept = Some(loss.inner());
            Ok(())
        },
        |(_, kept): &(_, Option<Tensor<1>>)| kept.clone().map(read).unwrap_or_default(),
    )
}
