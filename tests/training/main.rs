//! Layers, losses, optimizers, data and the systems made of them.

#[path = "../common/mod.rs"]
mod common;

mod checkpoints;
mod conv_layers;
mod conventions;
mod data;
mod environment;
mod faults;
mod fuzz;
mod modules;
mod nn;
mod norm_layers;
mod samples;
mod schedule;
mod systems;
mod together;
mod train;

// What the fuzz targets call, by the names that it has in their crate.
extern crate self as gristmill_fuzz;
extern crate self as libfuzzer_sys;
#[cfg(target_os = "linux")]
use common::smoke::{fuzz_target, start};
#[cfg(target_os = "linux")]
use fuzz::{checkpoint, gzip_bomb, idx_parser, loader};
