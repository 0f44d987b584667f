//! Chapters, each on one topic and with a program that runs.

#[doc = include_str!("../docs/guide/tensors.md")]
pub mod tensors {}

#[doc = include_str!("../docs/guide/autograd.md")]
pub mod autograd {}

#[doc = include_str!("../docs/guide/layer.md")]
pub mod layer {}

#[doc = include_str!("../docs/guide/dataset.md")]
pub mod dataset {}

#[doc = include_str!("../docs/guide/optimizer.md")]
pub mod optimizer {}

#[doc = include_str!("../docs/guide/resume.md")]
pub mod resume {}

#[doc = include_str!("../docs/guide/serving.md")]
pub mod serving {}

#[doc = include_str!("../docs/guide/kernel.md")]
pub mod kernel {}

#[doc = include_str!("../docs/guide/reproducibility.md")]
pub mod reproducibility {}

#[doc = include_str!("../docs/guide/performance.md")]
pub mod performance {}

#[doc = include_str!("../docs/guide/environment.md")]
#[cfg(any(doc, all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri))))]
pub mod environment {}
