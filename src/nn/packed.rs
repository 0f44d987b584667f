//! A layer's weight in the order in which products read it, kept while the layer is not being trained.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::Result;
use crate::kernels::gemm::{MatRef, PackedB};
use crate::simd::Element;
use crate::tensor::{Numbers, Tensor};
use crate::value::{Read, Value};

/// The number of calls after which a copy of the weight is kept: making it takes as long as two products with
/// one row.
const CALLS: usize = 4;
/// The most rows for which products gain from it.
const ROWS: usize = 64;

/// The packed weight of a layer, if there is one.
pub(super) struct Packed<T: Element> {
    kept: Value<PackedWeight<T>>,
    /// Calls since a weight was packed or dropped.
    calls: AtomicUsize,
}

/// The weight and its packed copy. While it is kept here, the weight's buffer has two owners and cannot be
/// written, so that the same address implies the same numbers.
#[derive(Clone)]
pub(super) struct PackedWeight<T: Element>(Option<(Numbers<T>, PackedB<T>)>);

impl<T: Element> PackedWeight<T> {
    pub fn get(&self) -> Option<&PackedB<T>> {
        self.0.as_ref().map(|(_, packed)| packed)
    }

    fn is_of(&self, weight: &Tensor<T>) -> bool {
        self.0.as_ref().is_some_and(|(numbers, _)| std::ptr::eq(numbers.data(), weight.data()))
    }
}

impl<T: Element> Default for Packed<T> {
    fn default() -> Self {
        Self { kept: Value::new(PackedWeight(None)), calls: AtomicUsize::new(0) }
    }
}

impl<T: Element> Packed<T> {
    /// Drops the packed weight.
    pub fn forget(&self) {
        if self.calls.load(Ordering::Relaxed) > 0 {
            self.calls.store(0, Ordering::Relaxed);
            self.kept.lock().change().0 = None;
        }
    }

    /// The packed transpose of this `[outputs, inputs]` weight for a product with this many rows, if that
    /// pays and the layer has been called often enough.
    pub fn read(&self, weight: &Tensor<T>, rows: usize) -> Option<Read<'_, PackedWeight<T>>> {
        if rows > ROWS || weight.shape()[0] == 1 || !weight.is_contiguous() {
            return None;
        }
        let current = || self.kept.read().filter(|kept| kept.is_of(weight));
        current().or_else(|| {
            // Once the weight is packed, threads that share the layer write nothing that other threads read.
            let calls = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
            if calls < CALLS {
                return None;
            }
            self.pack(weight).ok()?;
            current()
        })
    }

    fn pack(&self, weight: &Tensor<T>) -> Result<()> {
        let mut kept = self.kept.lock();
        if !kept.is_of(weight) {
            let [outputs, inputs] = weight.shape() else { unreachable!("checked by the layer") };
            let packed = PackedB::new(MatRef::row_major(weight.data(), *outputs, *inputs)?.t())?;
            kept.change().0 = Some((weight.numbers(), packed));
            self.calls.store(1, Ordering::Relaxed);
        }
        Ok(())
    }
}
