//! Layers, losses, optimizers, data and the systems made of them.

#[path = "../common/mod.rs"]
mod common;

mod checkpoint;
mod conventions;
mod data;
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
