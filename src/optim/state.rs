//! What an optimizer remembers, under names.

use super::{ParamGroup, Parameters, Progress, Rule};
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::kernels::update::Decay;
use crate::nn::StateDict;
use crate::simd::Element;
use crate::tensor::Tensor;

const OP: &str = "load_state_dict";

/// A hyperparameter of any kind.
pub(super) enum Setting<'a> {
    Number(&'a mut f64),
    Flag(&'a mut bool),
    Decay(&'a mut Decay),
}

impl Setting<'_> {
    fn write<T: Element>(self, name: &str, state: &mut StateDict<T>) {
        match self {
            Setting::Number(number) => state.set(name, *number),
            Setting::Flag(flag) => state.set(name, *flag),
            Setting::Decay(Decay::L2) => state.set(name, "L2"),
            Setting::Decay(Decay::Decoupled) => state.set(name, "decoupled"),
        }
    }

    fn read<T: Element>(self, name: &str, state: &StateDict<T>) -> Result<()> {
        match self {
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
        Ok(())
    }
}

/// The settings in a state of the optimizer `name`.
pub(super) fn settings<T: Element, R: Rule<N>, const N: usize>(
    name: &str,
    rule: R,
    state: &StateDict<T>,
) -> Result<R> {
    let found: String = state.get("optimizer")?;
    if found != name {
        return Err(Error::value(OP, format!("the state is one of {found}, expected {name}")));
    }
    let mut rule = rule;
    for (name, setting) in rule.settings() {
        setting.read(name, state)?;
    }
    Ok(rule)
}

/// A value that may be missing.
fn optional<T: Element, V: std::str::FromStr>(state: &StateDict<T>, name: &str) -> Result<Option<V>> {
    state.values().contains_key(name).then(|| state.get(name)).transpose()
}

impl<T: Element, const N: usize> Parameters<T, N> {
    pub(super) fn state_dict<R: Rule<N>>(&self, name: &str, rule: R) -> StateDict<T> {
        let (mut state, mut rule) = (StateDict::new(), rule);
        state.set("optimizer", name);
        state.set("parameters", self.list.len());
        let used = rule.used();
        for (name, setting) in rule.settings() {
            setting.write(name, &mut state);
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
            for ((name, numbers), used) in R::STATES.iter().zip(&self.state).zip(used) {
                // What no step has needed yet stays out, unless the next step expects it.
                let initial = vec![T::from_f64(rule.initial()); value.len()];
                let numbers = match numbers.get(place.clone()) {
                    Some(numbers) if step > 0 => numbers,
                    None if step > 0 && used => &initial,
                    _ => continue,
                };
                let tensor = Tensor::from_slice(numbers, value.shape());
                state.set_tensor(format!("{i}.{name}"), &tensor.expect("as many numbers as the parameter"));
            }
        }
        state
    }

    pub(super) fn load_state_dict<R: Rule<N>>(&mut self, rule: R, state: &StateDict<T>) -> Result<()> {
        let count: usize = state.get("parameters")?;
        if count != self.list.len() {
            let message = format!("the state is one of {count} parameters, expected {}", self.list.len());
            return Err(Error::value(OP, message));
        }
        let used = rule.used();
        let total = self.list.iter().map(|parameter| parameter.len()).sum();
        let (mut progress, mut groups) = (Vec::new(), Vec::new());
        let mut buffers: [Buffer<T>; N] = std::array::from_fn(|_| Buffer::stale(0));
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
            for ((name, buffer), used) in R::STATES.iter().zip(&mut buffers).zip(used) {
                let name = format!("{i}.{name}");
                let expected = used && step > 0;
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
