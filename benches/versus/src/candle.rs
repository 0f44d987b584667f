//! candle on the CPU. Operations are called on tensors that exist already and that no gradient is recorded
//! for.

use std::collections::HashMap;
use std::rc::Rc;

use candle_core::{DType, Device, Error, Module, ModuleT, Result, Tensor, Var};
use candle_nn::optim::{AdamW, Optimizer, ParamsAdamW, SGD};
use candle_nn::{BatchNorm, Dropout, LayerNorm, Linear, VarBuilder, VarMap, ops};

use crate::job::{Batches, Images};
use crate::kernels::{dimensions, numbers};
use crate::race::{Contender, native};

const NAME: &str = "candle";
/// What is added to variances.
const EPS: f64 = 1e-5;
/// The learning rate of all optimizers.
const LR: f64 = 1e-3;
/// The numbers of an image.
const INPUTS: usize = 784;
const CLASSES: usize = 10;
const BLOCKS: usize = 3;

/// candle's kernel for this case of the table, or its training step.
pub fn contender(id: &str, threads: usize) -> Option<Box<dyn Contender>> {
    let &[family, op, "f32", shape] = id.split('/').collect::<Vec<_>>().as_slice() else { return None };
    let shape = dimensions(shape)?;
    let built = check_threads(threads).and_then(|()| match (family, shape.as_slice()) {
        ("gemm", &[m, k, n]) => product(op, [m, k, n]),
        ("map", &[len]) => one_to_one(op, len),
        ("map", &[rows, cols]) => broadcast(op, rows, cols),
        ("reduce", &[rows, cols]) => reduce(op, rows, cols),
        ("softmax" | "log_softmax" | "logsumexp", &[rows, cols]) if op == "forward" => {
            along_rows(family, rows, cols).map(Some)
        }
        ("layer_norm", &[rows, cols]) if op == "forward" => layer_norm(rows, cols).map(Some),
        ("batch_norm", &[rows, cols]) => batch_norm(op, rows, cols),
        ("update", &[len]) => update(op, len),
        ("training_step", &[batch, hidden]) if op == "mlp_resnet" => training_step(batch, hidden).map(Some),
        _ => Ok(None),
    });
    built.unwrap_or_else(|error| Some(broken(error)))
}

/// The network in evaluation mode with these weights: of each layer the weight as [out, in] and the bias, of
/// each normalisation γ and β.
pub fn inference(id: &str, weights: &[f32], threads: usize) -> Option<Box<dyn Contender>> {
    let shape = dimensions(id.strip_prefix("inference/mlp_resnet/f32/")?)?;
    let &[batch, hidden] = shape.as_slice() else { return None };
    let built = check_threads(threads).and_then(|()| {
        let network = Network::new(hidden, with_weights(hidden, weights)?)?;
        let images = put(batch * INPUTS, 1)?.reshape((batch, INPUTS))?;
        Ok(kept(move || network.forward_t(&images, false)))
    });
    Some(built.unwrap_or_else(broken))
}

/// Says in the race why there is no contender.
fn broken(error: Error) -> Box<dyn Contender> {
    let message = error.to_string();
    native(NAME, (), move |()| Err(message.clone().into()), |()| vec![])
}

/// Products use so many threads of rayon's global pool as RAYON_NUM_THREADS says, which candle reads each
/// time. Softmax and layer normalisation use all of that pool, and long maps a pool of candle's own, of
/// CANDLE_NUM_THREADS or, without it, RAYON_NUM_THREADS.
fn check_threads(threads: usize) -> Result<()> {
    match candle_core::utils::get_num_threads() {
        found if found == threads => Ok(()),
        found => {
            Err(Error::Msg(format!("RAYON_NUM_THREADS makes candle use {found} threads, not {threads}")))
        }
    }
}

fn put(len: usize, seed: usize) -> Result<Tensor> {
    Tensor::from_vec(numbers::<f32>(len, seed), len, &Device::Cpu)
}

fn read(tensor: &Tensor) -> Vec<f64> {
    let values = tensor.flatten_all().and_then(|flat| flat.to_dtype(DType::F64)?.to_vec1());
    // The race says that numbers are missing.
    values.unwrap_or_default()
}

/// Calls once more and keeps what comes out.
fn kept(call: impl Fn() -> Result<Tensor> + 'static) -> Box<dyn Contender> {
    native(
        NAME,
        None,
        move |kept| {
            *kept = Some(call()?);
            Ok(())
        },
        |kept: &Option<Tensor>| kept.as_ref().map(read).unwrap_or_default(),
    )
}

/// `op` says how A and B are stored: row by row (N) or as their transposes (T).
fn product(op: &str, [m, k, n]: [usize; 3]) -> Result<Option<Box<dyn Contender>>> {
    let matrix = |order, rows: usize, cols: usize, seed| match order {
        b'N' => put(rows * cols, seed)?.reshape((rows, cols)),
        _ => put(rows * cols, seed)?.reshape((cols, rows))?.t(),
    };
    let &[first @ (b'N' | b'T'), second @ (b'N' | b'T')] = op.as_bytes() else { return Ok(None) };
    let (a, b) = (matrix(first, m, k, 1)?, matrix(second, k, n, 2)?);
    Ok(Some(kept(move || a.matmul(&b))))
}

/// Maps without broadcasting. Functions of one number get numbers in [0.5, 2.5) where they want positive
/// ones.
fn one_to_one(op: &str, len: usize) -> Result<Option<Box<dyn Contender>>> {
    let (x, b) = (put(len, 1)?, put(len, 2)?);
    let positive = (&x + 1.5)?;
    Ok(Some(match op {
        "add" => kept(move || &x + &b),
        "mul" => kept(move || &x * &b),
        "max" => kept(move || x.maximum(&b)),
        "abs" => kept(move || x.abs()),
        "relu" => kept(move || x.relu()),
        "leaky_relu" => kept(move || ops::leaky_relu(&x, 0.01)),
        "sigmoid" => kept(move || ops::sigmoid(&x)),
        "tanh" => kept(move || x.tanh()),
        "gelu" => kept(move || x.gelu_erf()),
        "gelu_tanh" => kept(move || x.gelu()),
        "silu" => kept(move || x.silu()),
        "elu" => kept(move || x.elu(1.0)),
        "exp" => kept(move || x.exp()),
        "ln" => kept(move || positive.log()),
        "sqrt" => kept(move || positive.sqrt()),
        "square" => kept(move || x.sqr()),
        "reciprocal" => kept(move || positive.recip()),
        "pow_3" => kept(move || x.powf(3.0)),
        "pow_1.7" => kept(move || positive.powf(1.7)),
        _ => return Ok(None),
    }))
}

/// Maps with a row or a column.
fn broadcast(op: &str, rows: usize, cols: usize) -> Result<Option<Box<dyn Contender>>> {
    let x = put(rows * cols, 1)?.reshape((rows, cols))?;
    let (row, col) = (put(cols, 2)?, put(rows, 2)?.reshape((rows, 1))?);
    Ok(Some(match op {
        "add_row" => kept(move || x.broadcast_add(&row)),
        "mul_col" => kept(move || x.broadcast_mul(&col)),
        _ => return Ok(None),
    }))
}

fn reduce(op: &str, rows: usize, cols: usize) -> Result<Option<Box<dyn Contender>>> {
    let x = put(rows * cols, 1)?.reshape((rows, cols))?;
    Ok(Some(match op {
        "sum_all" => kept(move || x.sum_all()),
        "mean_all" => kept(move || x.mean_all()),
        "max_all" => kept(move || x.max_all()),
        "min_all" => kept(move || x.min_all()),
        "sum_rows" => kept(move || x.sum(1)),
        "mean_rows" => kept(move || x.mean(1)),
        "max_rows" => kept(move || x.max(1)),
        "min_rows" => kept(move || x.min(1)),
        "argmax_all" => kept(move || x.flatten_all()?.argmax(0)),
        "argmax_rows" => kept(move || x.argmax(1)),
        "sum_cols" => kept(move || x.sum(0)),
        "mean_cols" => kept(move || x.mean(0)),
        "max_cols" => kept(move || x.max(0)),
        "min_cols" => kept(move || x.min(0)),
        _ => return Ok(None),
    }))
}

fn along_rows(family: &str, rows: usize, cols: usize) -> Result<Box<dyn Contender>> {
    let x = put(rows * cols, 1)?.reshape((rows, cols))?;
    Ok(match family {
        "softmax" => kept(move || ops::softmax_last_dim(&x)),
        "log_softmax" => kept(move || ops::log_softmax(&x, 1)),
        _ => kept(move || x.log_sum_exp(1)),
    })
}

fn layer_norm(rows: usize, cols: usize) -> Result<Box<dyn Contender>> {
    let x = put(rows * cols, 1)?.reshape((rows, cols))?;
    let layer = LayerNorm::new(put(cols, 3)?, put(cols, 4)?, EPS);
    Ok(kept(move || layer.forward(&x)))
}

/// In training, candle updates the running statistics too: it has no other way.
fn batch_norm(op: &str, rows: usize, cols: usize) -> Result<Option<Box<dyn Contender>>> {
    let x = put(rows * cols, 1)?.reshape((rows, cols))?;
    let (mean, variance) = (put(cols, 5)?, (put(cols, 6)? + 1.5)?);
    let layer = BatchNorm::new(cols, mean, variance, put(cols, 3)?, put(cols, 4)?, EPS)?;
    Ok(Some(match op {
        "forward" => kept(move || layer.forward_t(&x, true)),
        "infer" => kept(move || layer.forward_t(&x, false)),
        _ => return Ok(None),
    }))
}

fn update(op: &str, len: usize) -> Result<Option<Box<dyn Contender>>> {
    fn steps(
        var: Var,
        mut optimizer: impl Optimizer + 'static,
        gradient: &Tensor,
    ) -> Result<Box<dyn Contender>> {
        // The gradient of Σ var · gradient.
        let gradients = (var.as_tensor() * gradient)?.sum_all()?.backward()?;
        Ok(native(NAME, var, move |_| Ok(optimizer.step(&gradients)?), |var| read(var)))
    }
    let (var, gradient) = (Var::from_tensor(&put(len, 1)?)?, put(len, 2)?);
    Ok(Some(match op {
        "adam" => {
            let settings = ParamsAdamW { lr: LR, weight_decay: 0.0, ..ParamsAdamW::default() };
            steps(var.clone(), AdamW::new(vec![var], settings)?, &gradient)?
        }
        "sgd" => steps(var.clone(), SGD::new(vec![var], LR)?, &gradient)?,
        _ => return Ok(None),
    }))
}

/// hidden → hidden/2 → hidden, added to its input.
struct Block {
    linear1: Linear,
    norm1: BatchNorm,
    dropout: Dropout,
    linear2: Linear,
    norm2: BatchNorm,
}

impl Block {
    fn new(hidden: usize, vars: VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            linear1: candle_nn::linear(hidden, hidden / 2, vars.pp("linear1"))?,
            norm1: candle_nn::batch_norm(hidden / 2, EPS, vars.pp("norm1"))?,
            dropout: Dropout::new(0.1),
            linear2: candle_nn::linear(hidden / 2, hidden, vars.pp("linear2"))?,
            norm2: candle_nn::batch_norm(hidden, EPS, vars.pp("norm2"))?,
        })
    }
}

impl ModuleT for Block {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let inner = self.norm1.forward_t(&self.linear1.forward(x)?, train)?.relu()?;
        let inner = self.linear2.forward(&self.dropout.forward(&inner, train)?)?;
        x + self.norm2.forward_t(&inner, train)?
    }
}

/// 784 → hidden, three blocks, hidden → 10.
struct Network {
    input: Linear,
    blocks: Vec<Block>,
    output: Linear,
}

impl Network {
    fn new(hidden: usize, vars: VarBuilder<'_>) -> Result<Self> {
        let blocks = (0..BLOCKS).map(|i| Block::new(hidden, vars.pp(format!("block{i}"))));
        Ok(Self {
            input: candle_nn::linear(INPUTS, hidden, vars.pp("input"))?,
            blocks: blocks.collect::<Result<_>>()?,
            output: candle_nn::linear(hidden, CLASSES, vars.pp("output"))?,
        })
    }
}

impl ModuleT for Network {
    fn forward_t(&self, images: &Tensor, train: bool) -> Result<Tensor> {
        let mut x = self.input.forward(images)?.relu()?;
        for block in &self.blocks {
            x = block.forward_t(&x, train)?.relu()?;
        }
        self.output.forward(&x)
    }
}

/// Forward, backward, update on one batch. AdamW decays the weights themselves: candle has no other Adam.
fn training_step(batch: usize, hidden: usize) -> Result<Box<dyn Contender>> {
    let vars = VarMap::new();
    let network = Network::new(hidden, VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu))?;
    let settings = ParamsAdamW { lr: LR, weight_decay: 1e-3, ..ParamsAdamW::default() };
    let mut optimizer = AdamW::new(vars.all_vars(), settings)?;
    let images = put(batch * INPUTS, 1)?.reshape((batch, INPUTS))?;
    let labels: Vec<u32> = (0..batch).map(|i| (i * 7 % CLASSES) as u32).collect();
    let labels = Tensor::from_vec(labels, batch, &Device::Cpu)?;
    Ok(native(
        NAME,
        None,
        move |kept| {
            let loss = candle_nn::loss::cross_entropy(&network.forward_t(&images, true)?, &labels)?;
            optimizer.backward_step(&loss)?;
            // Without the graph, so that its memory is free again.
            *kept = Some(loss.detach());
            Ok(())
        },
        |kept: &Option<Tensor>| kept.as_ref().map(read).unwrap_or_default(),
    ))
}

/// The main job, if this is it: steps on one batch of images after the other.
pub fn job(id: &str, images: &Rc<Images>, threads: usize) -> Option<Box<dyn Contender>> {
    let shape = dimensions(id.strip_prefix("job/mlp_resnet/f32/")?)?;
    let &[_, batch, hidden] = shape.as_slice() else { return None };
    let built = check_threads(threads).and_then(|()| main_job(batch, hidden, images));
    Some(built.unwrap_or_else(broken))
}

fn main_job(batch: usize, hidden: usize, images: &Rc<Images>) -> Result<Box<dyn Contender>> {
    let vars = VarMap::new();
    let network = Network::new(hidden, VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu))?;
    let settings = ParamsAdamW { lr: LR, weight_decay: 1e-3, ..ParamsAdamW::default() };
    let mut optimizer = AdamW::new(vars.all_vars(), settings)?;
    let pixels = Tensor::from_slice(&images.pixels, (images.labels.len(), INPUTS), &Device::Cpu)?;
    let mut batches = Batches::new(images, batch);
    Ok(native(
        NAME,
        None,
        move |kept| {
            let (rows, labels) = batches.next();
            let indices = |from: &[usize]| {
                let numbers: Vec<u32> = from.iter().map(|&x| x as u32).collect();
                Tensor::from_vec(numbers, batch, &Device::Cpu)
            };
            let (rows, labels) = (indices(rows)?, indices(&labels)?);
            let logits = network.forward_t(&pixels.index_select(&rows, 0)?, true)?;
            let loss = candle_nn::loss::cross_entropy(&logits, &labels)?;
            optimizer.backward_step(&loss)?;
            *kept = Some(loss.detach());
            Ok(())
        },
        |kept: &Option<Tensor>| kept.as_ref().map(read).unwrap_or_default(),
    ))
}

/// The numbers by the names under which `Network::new` asks for them.
fn with_weights(hidden: usize, weights: &[f32]) -> Result<VarBuilder<'static>> {
    let half = hidden / 2;
    let mut shapes = vec![("input".to_owned(), vec![hidden, INPUTS])];
    for i in 0..BLOCKS {
        let layers =
            [("linear1", vec![half, hidden]), ("norm1", vec![half]), ("linear2", vec![hidden, half])];
        shapes.extend(layers.map(|(name, shape)| (format!("block{i}.{name}"), shape)));
        shapes.push((format!("block{i}.norm2"), vec![hidden]));
    }
    shapes.push(("output".to_owned(), vec![CLASSES, hidden]));
    let (mut named, mut rest) = (HashMap::new(), weights);
    for (name, shape) in shapes {
        let outputs = shape[0];
        if shape.len() == 1 {
            named.insert(format!("{name}.running_mean"), Tensor::zeros(outputs, DType::F32, &Device::Cpu)?);
            named.insert(format!("{name}.running_var"), Tensor::ones(outputs, DType::F32, &Device::Cpu)?);
        }
        for (part, shape) in [("weight", shape), ("bias", vec![outputs])] {
            let count = shape.iter().product();
            let (values, others) = rest
                .split_at_checked(count)
                .ok_or_else(|| Error::Msg(format!("{name}.{part} has no numbers")))?;
            named.insert(format!("{name}.{part}"), Tensor::from_slice(values, shape, &Device::Cpu)?);
            rest = others;
        }
    }
    Ok(VarBuilder::from_tensors(named, DType::F32, &Device::Cpu))
}
