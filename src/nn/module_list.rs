//! Modules in a list, which does not say in which order they run.

use super::{Item, Module, Visitor};
use crate::simd::Element;

/// Submodules of your own module under the names `0`, `1`, …; its forward pass decides when each of them
/// runs.
///
/// ```
/// use gristmill::{Result, Rng, Tensor, nn::{Linear, Module, ModuleList, Visitor}};
///
/// struct Averaged {
///     heads: ModuleList,
/// }
///
/// impl Module for Averaged {
///     fn forward(&self, x: &Tensor) -> Result<Tensor> {
///         let all = self.heads.iter().map(|head| head.forward(x)).collect::<Result<Vec<_>>>()?;
///         Tensor::stack(&all.iter().collect::<Vec<_>>(), 0)?.mean_axes(&[0], false)
///     }
///     fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a>) {
///         visitor.list("heads", &self.heads);
///     }
/// }
///
/// let mut rng = Rng::seed(4);
/// let heads = ModuleList::new().add(Linear::new(3, 2, &mut rng)?).add(Linear::new(3, 2, &mut rng)?);
/// let model = Averaged { heads };
/// assert_eq!(model.forward(&Tensor::zeros([5, 3])?)?.shape(), [5, 2]);
/// assert!(model.state_dict().contains_key("heads.1.bias"));
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Default)]
pub struct ModuleList<T: Element = f32> {
    modules: Vec<Box<dyn Module<T>>>,
}

impl<T: Element> ModuleList<T> {
    /// An empty list.
    pub fn new() -> Self {
        Self { modules: Vec::new() }
    }

    /// Appends `module`.
    #[must_use]
    #[allow(clippy::should_implement_trait)]
    pub fn add(mut self, module: impl Module<T> + 'static) -> Self {
        self.modules.push(Box::new(module));
        self
    }

    /// The modules in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &dyn Module<T>> {
        self.modules.iter().map(|module| &**module)
    }

    /// Module `index`; `None` if the list is shorter.
    pub fn get(&self, index: usize) -> Option<&dyn Module<T>> {
        self.modules.get(index).map(|module| &**module)
    }

    /// The number of modules.
    pub fn len(&self) -> usize {
        self.modules.len()
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.modules.is_empty()
    }
}

impl<T: Element, M: Module<T> + 'static> FromIterator<M> for ModuleList<T> {
    fn from_iter<I: IntoIterator<Item = M>>(modules: I) -> Self {
        modules.into_iter().fold(Self::new(), Self::add)
    }
}

impl<'a, T: Element> Visitor<'_, 'a, T> {
    /// Shows the modules of a list under their indices.
    pub fn list(&mut self, name: &str, list: &'a ModuleList<T>) {
        self.under(name, |this| {
            (this.seen)(&this.path, Item::Layer("ModuleList".into()));
            for (index, module) in list.iter().enumerate() {
                this.child(&index.to_string(), module);
            }
        });
    }
}
