//! The state of an optimizer as a [`StateDict`].

use super::parameters::{ParamGroup, Parameters, STATES};
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::kernels::update::{Decay, Progress, Rule, Setting};
use crate::nn::StateDict;
use crate::simd::Element;
use crate::tensor::Tensor;

const OP: &str = "load_state_dict";

fn write<T: Element>(setting: Setting<'_>, name: &str, state: &mut StateDict<T>) {
    match setting {
        Setting::Number(number) => state.set(name, *number),
        Setting::Flag(flag) => state.set(name, *flag),
        Setting::Decay(Decay::L2) => state.set(name, "L2"),
        Setting::Decay(Decay::Decoupled) => state.set(name, "decoupled"),
    }
}

/// Reads the settings from a state of the optimizer `name`.
pub(super) fn read<T: Element>(
    name: &str,
    settings: Vec<(&'static str, Setting<'_>)>,
    state: &StateDict<T>,
) -> Result<()> {
    let found: String = state.get("optimizer")?;
    if found != name {
        return Err(Error::value(OP, format!("the state is one of {found}, expected {name}")));
    }
    for (name, setting) in settings {
        match setting {
            Setting::Number(number) => *number = state.get(name)?,
            Setting::Flag(flag) => *flag = state.get(name)?,
            Setting::Decay(decay) => {
                *decay = match state.get::<String>(name)?.as_str() {
                    "L2" => Decay::L2,
                    "decoupled" => Decay::Decoupled,
                    other => {
                        return Err(Error::value(OP, format!("{name} is {other}, expected L2 or decoupled")));
                    }
                }
            }
        }
    }
    Ok(())
}

/// A value that may be missing.
fn optional<T: Element, V: std::str::FromStr>(state: &StateDict<T>, name: &str) -> Result<Option<V>> {
    state.values().contains_key(name).then(|| state.get(name)).transpose()
}

impl<T: Element> Parameters<T> {
    pub(super) fn state_dict(&self, name: &str, mut rule: Rule) -> StateDict<T> {
        let mut state = StateDict::new();
        state.set("optimizer", name);
        state.set("parameters", self.list.len());
        for (name, setting) in rule.settings() {
            write(setting, name, &mut state);
        }
        let limits = [("clip_norm", self.clip_norm), ("clip_value", self.clip_value)];
        for (name, limit) in limits {
            if let Some(limit) = limit {
                state.set(name, limit);
            }
        }
        let mut start = 0;
        for (i, (parameter, group)) in self.list.iter().zip(&self.groups).enumerate() {
            let value = parameter.value();
            let place = start..start + value.len();
            start = place.end;
            let Progress { step, carried } = self.progress[i];
            state.set(format!("{i}.step"), step);
            if carried != 1.0 {
                state.set(format!("{i}.carried"), carried);
            }
            if group.lr_scale != 1.0 {
                state.set(format!("{i}.lr_scale"), group.lr_scale);
            }
            if let Some(weight_decay) = group.weight_decay {
                state.set(format!("{i}.weight_decay"), weight_decay);
            }
            for (at, (part, numbers)) in rule.state().iter().zip(&self.state).enumerate() {
                // State that no step has needed yet is left out, unless the next step expects it.
                let initial = vec![T::from_f64(rule.initial()); value.len()];
                let numbers = match numbers.get(place.clone()) {
                    Some(numbers) if step > 0 => numbers,
                    None if step > 0 && rule.uses(at) => &initial,
                    _ => continue,
                };
                let tensor = Tensor::from_slice(numbers, value.shape());
                state.set_tensor(
                    format!("{i}.{}", part.name),
                    &tensor.expect("as many numbers as the parameter"),
                );
            }
        }
        state
    }

    pub(super) fn load_state_dict(&mut self, rule: Rule, state: &StateDict<T>) -> Result<()> {
        let count: usize = state.get("parameters")?;
        if count != self.list.len() {
            let message = format!("the state is one of {count} parameters, expected {}", self.list.len());
            return Err(Error::value(OP, message));
        }
        let total = self.list.iter().map(|parameter| parameter.len()).sum();
        let (mut progress, mut groups) = (Vec::new(), Vec::new());
        let mut buffers: [Buffer<T>; STATES] = std::array::from_fn(|_| Buffer::stale(0));
        let mut start = 0;
        for (i, parameter) in self.list.iter().enumerate() {
            let shape = parameter.value();
            let place = start..start + shape.len();
            start = place.end;
            let step = state.get(&format!("{i}.step"))?;
            let carried = optional(state, &format!("{i}.carried"))?.unwrap_or(1.0);
            progress.push(Progress { step, carried });
            groups.push(ParamGroup {
                lr_scale: optional(state, &format!("{i}.lr_scale"))?.unwrap_or(1.0),
                weight_decay: optional(state, &format!("{i}.weight_decay"))?,
            });
            for (at, (part, buffer)) in rule.state().iter().zip(&mut buffers).enumerate() {
                let name = format!("{i}.{}", part.name);
                let expected = rule.uses(at) && step > 0;
                if !expected && !state.tensors().contains_key(&name) {
                    continue;
                }
                let numbers = state.tensor(&name, shape.shape())?.compact();
                if buffer.is_empty() {
                    *buffer = Buffer::full(total, T::from_f64(rule.initial()));
                }
                buffer.fresh_mut()[place.clone()].copy_from_slice(numbers.data());
            }
        }
        let limits = [optional(state, "clip_norm")?, optional(state, "clip_value")?];
        [self.clip_norm, self.clip_value] = limits;
        (self.progress, self.groups, self.state) = (progress, groups, buffers);
        Ok(())
    }
}
