//! Files of tensors and trainings of any bytes: no panic, no memory but for what is there, all is taken or
//! nothing, and what was read is written and read again with the same bits.

use std::collections::BTreeMap;
use std::fmt::Debug;

use gristmill::kernels::update::Rule;
use gristmill::nn::{
    BatchNorm1d, Checkpoint, Dropout, Linear, Module, Parameter, ReLU, Residual, Sequential, StateDict,
};
use gristmill::optim::{self, Adagrad, Adam, AdamW, Optimizer, PlateauMode, RMSprop, ReduceLROnPlateau, SGD};
use gristmill::tensor::{load_safetensors, save_safetensors};
use gristmill::{Element, Result, Rng, Tensor};

use super::files::{Nameless, read, temporary_folder};
use super::{Input, memory};

pub fn check(bytes: &[u8]) {
    let mut input = Input(bytes);
    match input.below(8) {
        0 => npy(input.0),
        1 => npy(&framed_npy(&mut input)),
        2 => safetensors(input.0),
        3 => safetensors(&framed_safetensors(&mut input)),
        #[cfg(feature = "npz")]
        4 => npz::check(input.0),
        #[cfg(feature = "npz")]
        5 => npz::check(&npz::zipped(&mut input)),
        6 => Training::new(&mut input).edited_file(&mut input),
        // Without `npz`, 4 and 5 are states, too.
        _ => Training::new(&mut input).edited_state(&mut input),
    }
}

/// Names, shapes and bits; NaN has many.
fn bits<T: Element>(tensors: &BTreeMap<String, Tensor<T>>) -> Vec<(String, Vec<usize>, Vec<u64>)> {
    let bits = |x: T| if x.is_nan() { u64::MAX } else { x.to_f64().to_bits() };
    let one = |(name, tensor): (&String, &Tensor<T>)| {
        (name.clone(), tensor.shape().to_vec(), tensor.to_vec().into_iter().map(bits).collect())
    };
    tensors.iter().map(one).collect()
}

/// Memory for buffers, texts and tables.
const BUFFERS: usize = 1 << 18;
/// Bytes held at once for a byte of a file: a number of one byte becomes an f64, copied once more, in a
/// buffer of up to twice the size.
const PER_BYTE: usize = 64;

fn npy(bytes: &[u8]) {
    fn one<T: Element>(bytes: &[u8]) {
        let file = Nameless::new(bytes);
        let limit = BUFFERS + PER_BYTE * bytes.len();
        let Some(tensor) = read(memory::within(limit, || Tensor::<T>::load_npy(file.path()))) else { return };
        assert!(tensor.len() <= bytes.len());
        let folder = temporary_folder();
        let path = folder.path().join("again.npy");
        tensor.save_npy(&path).unwrap();
        let again = Tensor::<T>::load_npy(&path).unwrap();
        assert_eq!(bits(&[(String::new(), tensor)].into()), bits(&[(String::new(), again)].into()));
    }
    one::<f32>(bytes);
    one::<f64>(bytes);
}

/// A right start, a header of the length that stands before it, elements.
fn framed_npy(input: &mut Input) -> Vec<u8> {
    let version = input.pick(&[1, 2, 3]);
    let len = input.below(256);
    let header = input.take(len);
    let len = (header.len() as u32).to_le_bytes();
    let len = if version == 1 { &len[..2] } else { &len };
    [b"\x93NUMPY".as_slice(), &[version, 0], len, header, std::mem::take(&mut input.0)].concat()
}

/// Through all readers; models take all of it or nothing.
fn safetensors(bytes: &[u8]) {
    fn one<T: Element>(bytes: &[u8]) {
        let file = Nameless::new(bytes);
        // The header is parsed into a table, whose entries may be much larger than what they stand for.
        let limit = BUFFERS + 4 * PER_BYTE * bytes.len();
        let tensors = read(memory::within(limit, || load_safetensors::<T>(file.path())));
        let checkpoint = read(memory::within(limit, || Checkpoint::<T>::load(file.path())));
        if let Some(tensors) = &tensors {
            let folder = temporary_folder();
            let path = folder.path().join("again.safetensors");
            save_safetensors(tensors, &path).unwrap();
            assert_eq!(bits(tensors), bits(&load_safetensors::<T>(&path).unwrap()));
        }
        if let Some(checkpoint) = &checkpoint {
            let folder = temporary_folder();
            let path = folder.path().join("again.safetensors");
            checkpoint.save(&path).unwrap();
            let again = Checkpoint::<T>::load(&path).unwrap();
            for name in ["generators", "optimizer", "place"] {
                let parts = [checkpoint, &again].map(|checkpoint| {
                    checkpoint.section(name).ok().map(|state| (state.values().clone(), bits(state.tensors())))
                });
                assert_eq!(parts[0], parts[1], "{name}");
            }
        }
        let model = model::<T>(0, 1).unwrap();
        let before = bits(&model.state_dict());
        let loaded = read(model.load(file.path()));
        let after = bits(&model.state_dict());
        match (loaded, tensors) {
            (None, _) => assert_eq!(before, after, "a file that does not fit has changed the model"),
            (Some(()), Some(tensors)) => {
                let known = bits(&tensors);
                assert!(after.iter().all(|value| known.contains(value)), "the model has other numbers");
            }
            // What the model passes over is of a type that has no conversion.
            (Some(()), None) => {}
        }
    }
    one::<f32>(bytes);
    one::<f64>(bytes);
}

/// A header of the length that stands before it, and numbers.
fn framed_safetensors(input: &mut Input) -> Vec<u8> {
    let len = input.below(1 << 12);
    let header = input.take(len);
    [(header.len() as u64).to_le_bytes().as_slice(), header, std::mem::take(&mut input.0)].concat()
}

fn model<T: Element>(which: usize, seed: u64) -> Result<Sequential<T>> {
    let rng = &mut Rng::seed(seed);
    Ok(match which {
        0 => Sequential::new().add(Linear::new(2, 1, rng)?),
        1 => Sequential::new().add(Linear::new(1, 2, rng)?).add(Dropout::new(0.5, rng)?),
        2 => Sequential::new().add(BatchNorm1d::new(2)?),
        _ => {
            let inner = Sequential::new().add(Linear::new(2, 2, rng)?).add(Dropout::new(0.2, rng)?);
            Sequential::new().add(Residual::new(inner)).add(ReLU).add(BatchNorm1d::new(2)?)
        }
    })
}

/// Optimizers with options, before every rule with its defaults.
const OPTIMIZERS: usize = 7;

fn optimizer(which: usize, list: Vec<Parameter>) -> Box<dyn Optimizer> {
    match which {
        0 => Box::new(SGD::new(list, 0.1)),
        1 => Box::new(SGD::new(list, 0.1).momentum(0.9)),
        2 => Box::new(Adam::new(list).clip_grad_norm(1.0)),
        3 => Box::new(Adam::new(list).amsgrad(true).clip_grad_value(0.1)),
        4 => Box::new(AdamW::new(list)),
        5 => Box::new(RMSprop::new(list).centered(true).momentum(0.5)),
        6 => Box::new(Adagrad::new(list).lr_decay(0.1)),
        _ => optim::of_rule(Rule::all()[which - OPTIMIZERS], list),
    }
}

/// A model, its optimizer and a schedule, some steps on.
struct Training {
    model: Sequential,
    optimizer: Box<dyn Optimizer>,
    plateau: ReduceLROnPlateau,
    cols: usize,
}

impl Training {
    fn new(input: &mut Input) -> Self {
        let (which, rule) = (input.below(4), input.below(OPTIMIZERS + Rule::all().len()));
        let model = model(which, 1).unwrap();
        let optimizer = optimizer(rule, model.parameters());
        let plateau = ReduceLROnPlateau::new().mode(PlateauMode::Max).patience(1);
        let cols = if which == 1 { 1 } else { 2 };
        let mut training = Self { model, optimizer, plateau, cols };
        for _ in 0..input.below(3) {
            training.step().unwrap();
        }
        training
    }

    /// May be an error, for a setting that a state brought; nothing else.
    fn step(&mut self) -> Result<()> {
        self.model.zero_grad();
        let rows: Vec<f32> = (0..3 * self.cols).map(|i| i as f32 - 1.5).collect();
        let x = Tensor::from_slice(&rows, [3, self.cols])?;
        self.model.forward(&x)?.square()?.sum()?.backward()?;
        self.optimizer.step()?;
        self.plateau.step(&mut *self.optimizer, 0.5)
    }

    /// All that a training depends on.
    fn state(&self) -> impl Debug + PartialEq + use<> {
        let optimizer = self.optimizer.state_dict();
        let plateau = self.plateau.state_dict::<f32>();
        (
            bits(&self.model.state_dict()),
            self.model.rng_state(),
            bits(optimizer.tensors()),
            optimizer.values().clone(),
            plateau.values().clone(),
        )
    }

    fn checkpoint(&self) -> Checkpoint {
        let whole = Checkpoint::new(&self.model).unwrap().with("optimizer", self.optimizer.state_dict());
        whole.unwrap().with("plateau", self.plateau.state_dict()).unwrap()
    }

    /// What was saved, with some bytes replaced.
    fn edited_file(mut self, input: &mut Input) {
        let folder = temporary_folder();
        let path = folder.path().join("training.safetensors");
        self.checkpoint().save(&path).unwrap();
        let mut file = std::fs::read(&path).unwrap();
        let honest = input.flag();
        let mut header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        while !input.is_empty() && file.len() > 16 {
            let start = 8 + input.below(1 << 16) % (file.len() - 8);
            let end = (start + input.below(24)).min(file.len());
            let len = input.below(24);
            let with = input.take(len);
            if start < 8 + header {
                header = (header + with.len()).saturating_sub(end - start);
            }
            file.splice(start..end, with.iter().copied());
        }
        if honest {
            file[..8].copy_from_slice(&(header as u64).to_le_bytes());
        }
        std::fs::write(&path, &file).unwrap();
        let before = self.state();
        let limit = BUFFERS + 4 * PER_BYTE * file.len();
        let Some(checkpoint) = read(memory::within(limit, || Checkpoint::load(&path))) else {
            return;
        };
        if checkpoint.restore(&self.model).is_err() {
            return assert_eq!(before, self.state(), "half of a checkpoint was restored");
        }
        let model = bits(&self.model.state_dict());
        for (section, part) in [("optimizer", 0), ("plateau", 1)] {
            if let Ok(state) = checkpoint.section(section) {
                self.take(state, part == 1);
            }
        }
        assert_eq!(model, bits(&self.model.state_dict()));
        drop(self.step());
    }

    /// A state goes in whole or not at all; what is in comes out again.
    fn take(&mut self, state: &StateDict, plateau: bool) {
        let before = self.state();
        let taken = match plateau {
            false => self.optimizer.load_state_dict(state),
            true => self.plateau.load_state_dict(state),
        };
        if taken.is_err() {
            return assert_eq!(before, self.state(), "half of a state was taken");
        }
        let now = match plateau {
            false => self.optimizer.state_dict(),
            true => self.plateau.state_dict(),
        };
        let mut other = StateDict::new();
        now.values().iter().for_each(|(name, value)| other.set(name, value));
        now.tensors().iter().for_each(|(name, tensor)| other.set_tensor(name, tensor));
        let again = match plateau {
            false => self.optimizer.load_state_dict(&other),
            true => self.plateau.load_state_dict(&other),
        };
        again.expect("what a state came from takes it back");
        let again = match plateau {
            false => self.optimizer.state_dict(),
            true => self.plateau.state_dict(),
        };
        assert_eq!((now.values(), bits(now.tensors())), (again.values(), bits(again.tensors())));
    }

    /// A state with other values under its names, and some more.
    fn edited_state(mut self, input: &mut Input) {
        let mut states = [self.optimizer.state_dict(), self.plateau.state_dict()];
        while !input.is_empty() {
            let plateau = usize::from(input.below(4) == 0);
            let state = &mut states[plateau];
            let names: Vec<String> = state.values().keys().chain(state.tensors().keys()).cloned().collect();
            let more =
                ["clip_norm", "clip_value", "0.carried", "0.lr_scale", "0.weight_decay"].map(str::to_owned);
            let names = [&names[..], &more].concat();
            let name = names[input.below(names.len())].clone();
            let known =
                ["0", "-1", "1e308", "NaN", "inf", "-inf", "18446744073709551615", "true", "2", "", "5e-324"];
            match input.below(4) {
                0 => {
                    let len = input.below(24);
                    state.set(name, String::from_utf8_lossy(input.take(len)));
                }
                1 => {
                    let shape = [input.below(3), input.below(3)];
                    let values: Vec<f32> =
                        (0..shape[0] * shape[1]).map(|_| f32::from_bits(input.u32())).collect();
                    let shape = if shape[1] == 1 { &shape[..1] } else { &shape };
                    state.set_tensor(name, &Tensor::from_slice(&values, shape).unwrap());
                }
                _ => state.set(name, input.pick(&known)),
            }
        }
        for (state, plateau) in states.iter().zip([false, true]) {
            self.take(state, plateau);
        }
        for _ in 0..2 {
            drop(self.step());
        }
    }
}

/// Archives of arrays.
#[cfg(feature = "npz")]
mod npz {
    use std::io::{Cursor, Read, Write};

    use gristmill::tensor::{load_npz, save_npz};
    use zip::write::SimpleFileOptions;
    use zip::{CompressionMethod, ZipArchive, ZipWriter};

    use super::{BUFFERS, Input, Nameless, PER_BYTE, bits, framed_npy, memory, read, temporary_folder};

    pub fn check(bytes: &[u8]) {
        let unpacked = unpacked(bytes);
        let file = Nameless::new(bytes);
        let limit = 2 * BUFFERS + PER_BYTE * (bytes.len() + unpacked);
        let Some(arrays) = read(memory::within(limit, || load_npz::<f32>(file.path()))) else { return };
        let folder = temporary_folder();
        let path = folder.path().join("again.npz");
        // A name that a zip archive cannot hold.
        if arrays.keys().any(|name| name.len() > usize::from(u16::MAX) - 4) {
            return;
        }
        save_npz(&arrays, &path).unwrap();
        let again = load_npz::<f32>(&path).unwrap();
        // `x.npy` and `x.npy.npy` come back as they were: one ending is taken off, one put on.
        assert_eq!(bits(&arrays), bits(&again));
    }

    /// Bytes of all entries of an archive, as far as they can be unpacked.
    fn unpacked(bytes: &[u8]) -> usize {
        let Ok(mut archive) = ZipArchive::new(Cursor::new(bytes)) else { return 0 };
        let size = |index| {
            let mut contents = Vec::new();
            archive.by_index(index).map_or(0, |mut entry| {
                drop(entry.read_to_end(&mut contents));
                contents.len()
            })
        };
        (0..bytes.len().min(1000)).map(size).sum()
    }

    /// An archive of arrays.
    pub fn zipped(input: &mut Input) -> Vec<u8> {
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        for count in 0..4 {
            let len = input.below(8);
            let name = format!("{}{count}.npy", String::from_utf8_lossy(input.take(len)));
            let method = input.pick(&[CompressionMethod::Stored, CompressionMethod::Deflated]);
            let options = SimpleFileOptions::default().compression_method(method);
            let len = input.below(256);
            let entry = framed_npy(&mut Input(input.take(len)));
            if archive.start_file(name, options).is_ok() {
                archive.write_all(&entry).unwrap();
            }
            if input.is_empty() {
                break;
            }
        }
        archive.finish().unwrap().into_inner()
    }
}
