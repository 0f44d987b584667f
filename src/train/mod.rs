//! Small tools for a training loop; the loop itself is yours.
//!
//! ```
//! use gristmill::data::{DataLoader, LabeledTensors, random_split};
//! use gristmill::nn::{Linear, Module};
//! use gristmill::optim::{Adam, Optimizer};
//! use gristmill::train::{EarlyStopping, History, evaluate};
//! use gristmill::{Rng, Tensor};
//!
//! let mut rng = Rng::seed(4);
//! let x = Tensor::rand([300, 2], -1.0, 1.0, &mut rng)?;
//! let labels = x.to_vec().chunks(2).map(|p| usize::from(p[0] > p[1])).collect();
//! let [train, test] = random_split(LabeledTensors::new(&x, labels, 2)?, [0.8, 0.2], &mut rng)?;
//! let train = DataLoader::new(train).batch_size(20).shuffle(rng.split());
//! let test = DataLoader::new(test).batch_size(60);
//!
//! let model: Linear = Linear::new(2, 2, &mut rng)?;
//! let mut optimizer = Adam::new(model.parameters()).lr(0.05);
//! let mut history = History::new();
//! let mut stopping = EarlyStopping::new(5);
//! for _epoch in 0..50 {
//!     model.train();
//!     for batch in &train {
//!         let (x, labels) = batch?;
//!         optimizer.zero_grad();
//!         model.forward(&x)?.cross_entropy(&labels)?.backward()?;
//!         optimizer.step()?;
//!     }
//!     let tested = evaluate(&model, &test)?;
//!     history.push(&[("loss", tested.loss), ("error", tested.confusion.error())])?;
//!     if stopping.step(tested.loss) {
//!         break;
//!     }
//! }
//! assert!(history.column("error").last() < Some(&0.1));
//! # Ok::<(), gristmill::Error>(())
//! ```

mod best;
mod evaluate;
mod history;

pub use best::{Checkpoints, EarlyStopping};
pub use evaluate::{Evaluation, evaluate};
pub use history::History;
