//! Einstein summation, built from diagonals, permutations, sums and matrix products, each with its own
//! gradient.

use crate::error::{Error, Result};
use crate::simd::Element;
use crate::tensor::{MAX_RANK, Tensor};

/// A tensor whose axes have names, all of them different.
struct Named<T: Element> {
    axes: Vec<char>,
    tensor: Tensor<T>,
}

impl<T: Element> Named<T> {
    /// Takes the diagonals of axes that have the same name.
    #[track_caller]
    fn new(mut axes: Vec<char>, tensor: &Tensor<T>) -> Result<Self> {
        let mut tensor = tensor.clone();
        while let Some(second) = (0..axes.len()).find(|&i| axes[..i].contains(&axes[i])) {
            let name = axes[second];
            let mut order: Vec<isize> = (0..axes.len() as isize).collect();
            order.sort_by_key(|&axis| axes[axis as usize] == name);
            // Merges the last two axes of this name into their diagonal.
            tensor = tensor.permute(&order)?.diagonal(0)?;
            axes = order[..axes.len() - 1].iter().map(|&axis| axes[axis as usize]).collect();
        }
        Ok(Self { axes, tensor })
    }

    /// Sums over the axes that are not in `keep`.
    #[track_caller]
    fn sum_to(self, keep: impl Fn(char) -> bool) -> Result<Self> {
        let gone = |&(_, &axis): &(usize, &char)| !keep(axis);
        let sums: Vec<isize> = self.axes.iter().enumerate().filter(gone).map(|(i, _)| i as isize).collect();
        if sums.is_empty() {
            return Ok(self);
        }
        let tensor = self.tensor.sum_axes(&sums, false)?;
        Ok(Self { axes: self.axes.into_iter().filter(|&axis| keep(axis)).collect(), tensor })
    }

    /// Permutes the axes into this order.
    #[track_caller]
    fn ordered(&self, axes: &[char]) -> Result<Tensor<T>> {
        if self.axes == axes {
            return Ok(self.tensor.clone());
        }
        let place = |axis| self.axes.iter().position(|other| other == axis).map(|place| place as isize);
        self.tensor.permute(&axes.iter().filter_map(place).collect::<Vec<_>>())
    }

    /// The product with another tensor, summed over the axes of both that are not in `keep`.
    #[track_caller]
    fn product(self, other: Self, keep: impl Fn(char) -> bool) -> Result<Self> {
        let (in_a, in_b) = (self.axes.clone(), other.axes.clone());
        let a = self.sum_to(|axis| keep(axis) || in_b.contains(&axis))?;
        let b = other.sum_to(|axis| keep(axis) || in_a.contains(&axis))?;
        let both = |axis: &char| a.axes.contains(axis) && b.axes.contains(axis);
        let of = |axes: &[char], f: &dyn Fn(&char) -> bool| -> Vec<char> {
            axes.iter().copied().filter(|axis| f(axis)).collect()
        };
        let batch = of(&a.axes, &|axis| both(axis) && keep(*axis));
        let inner = of(&a.axes, &|axis| both(axis) && !keep(*axis));
        let (rows, cols) = (of(&a.axes, &|axis| !both(axis)), of(&b.axes, &|axis| !both(axis)));
        let x = a.ordered(&[&batch[..], &rows, &inner].concat())?;
        let y = b.ordered(&[&batch[..], &inner, &cols].concat())?;
        let lengths =
            |tensor: &Tensor<T>, from: usize, count: usize| tensor.shape()[from..][..count].to_vec();
        let batch_dims = lengths(&x, 0, batch.len());
        let (row_dims, col_dims) =
            (lengths(&x, batch.len(), rows.len()), lengths(&y, batch.len() + inner.len(), cols.len()));
        let axes = [&batch[..], &rows, &cols].concat();
        if inner.is_empty() || (!batch.is_empty() && rows.is_empty() && cols.is_empty()) {
            // There is no matrix product in it, or many products of vectors with vectors.
            let wide =
                [&batch_dims[..], &row_dims, &vec![1; cols.len()], &x.shape()[axes.len() - cols.len()..]];
            let tall = [&batch_dims[..], &vec![1; rows.len()], &y.shape()[batch.len()..]];
            let product = reshaped(&x, &wide.concat())?.mul(&reshaped(&y, &tall.concat())?)?;
            let sums: Vec<isize> = (0..inner.len()).map(|i| (axes.len() + i) as isize).collect();
            let tensor = if sums.is_empty() { product } else { product.sum_axes(&sums, false)? };
            return Ok(Self { axes, tensor });
        }
        let count = |dims: &[usize]| dims.iter().product::<usize>();
        let depth = count(&lengths(&y, batch.len(), inner.len()));
        let front: &[usize] = if batch.is_empty() { &[] } else { &[count(&batch_dims)] };
        let x = reshaped(&x, &[front, &[count(&row_dims), depth]].concat())?;
        let y = reshaped(&y, &[front, &[depth, count(&col_dims)]].concat())?;
        let tensor = reshaped(&x.matmul(&y)?, &[batch_dims, row_dims, col_dims].concat())?;
        Ok(Self { axes, tensor })
    }
}

/// [`Tensor::reshape`], which copies non-contiguous tensors, only if the shape changes.
#[track_caller]
fn reshaped<T: Element>(x: &Tensor<T>, shape: &[usize]) -> Result<Tensor<T>> {
    if x.shape() == shape { Ok(x.clone()) } else { x.reshape(shape) }
}

/// The names of the axes of each operand and of the result. Axes covered by an ellipsis are called 0 to 5,
/// the last of them 5.
fn parse(pattern: &str, ranks: &[usize]) -> Result<(Vec<Vec<char>>, Vec<char>)> {
    let bad = |why: String| Error::value("einsum", format!("{why} in {pattern:?}"));
    let (inputs, output) = match pattern.split_once("->") {
        Some((inputs, output)) => (inputs, Some(output)),
        None => (pattern, None),
    };
    // Replaces an ellipsis by one dot.
    let letters = |text: &str| -> Result<Vec<char>> {
        let text: String = text.split_whitespace().collect();
        let names: Vec<char> = text.replacen("...", ".", 1).chars().collect();
        let known = |name: &&char| !(name.is_ascii_alphabetic() || **name == '.' && text.contains("..."));
        match names.iter().find(known) {
            Some(name) => Err(bad(format!("{name:?} is no name of an axis"))),
            None if names.iter().filter(|name| **name == '.').count() > 1 => {
                Err(bad("an input has two ellipses".to_owned()))
            }
            None => Ok(names),
        }
    };
    let spread = |names: Vec<char>, hidden: &[char]| -> Vec<char> {
        names
            .iter()
            .flat_map(|name| if *name == '.' { hidden } else { std::slice::from_ref(name) })
            .copied()
            .collect()
    };
    let inputs: Vec<&str> = inputs.split(',').collect();
    if inputs.len() != ranks.len() {
        return Err(bad(format!("{} tensors for the {} inputs", ranks.len(), inputs.len())));
    }
    let (mut named, mut hidden) = (Vec::new(), &HIDDEN[MAX_RANK..]);
    for (names, &rank) in inputs.into_iter().zip(ranks) {
        let names = letters(names)?;
        let count = if names.contains(&'.') { (rank + 1).saturating_sub(names.len()) } else { 0 };
        let own = &HIDDEN[MAX_RANK - count..];
        hidden = if own.len() > hidden.len() { own } else { hidden };
        named.push(spread(names, own));
    }
    let all = named.concat();
    let output = match output {
        Some(output) => spread(letters(output)?, hidden),
        None => {
            let mut once = all.clone();
            once.retain(|name| {
                hidden.contains(name) || all.iter().filter(|other| *other == name).count() == 1
            });
            once.sort_unstable();
            once.dedup();
            once
        }
    };
    if let Some(name) = output.iter().find(|name| !all.contains(name)) {
        return Err(bad(format!("axis {name} of the result is in no input")));
    }
    if let Some(i) = (0..output.len()).find(|&i| output[..i].contains(&output[i])) {
        return Err(bad(format!("axis {} comes twice in the result", output[i])));
    }
    Ok((named, output))
}

/// The names of the axes covered by an ellipsis.
const HIDDEN: [char; MAX_RANK] = ['0', '1', '2', '3', '4', '5'];

/// Checks that axes with the same name have the same length.
fn check<T: Element>(inputs: &[Vec<char>], operands: &[&Tensor<T>]) -> Result<()> {
    let mut known: Vec<(char, usize, usize)> = Vec::new();
    for (operand, (names, tensor)) in inputs.iter().zip(operands).enumerate() {
        let shape = tensor.shape();
        if names.len() != shape.len() {
            let names: String = names.iter().collect();
            let message = format!("{names:?} names {} axes of operand {operand} of {shape:?}", names.len());
            return Err(Error::shape("einsum", message));
        }
        for (&name, &len) in names.iter().zip(shape) {
            match known.iter().find(|other| other.0 == name) {
                None => known.push((name, len, operand)),
                Some(&(_, other, first)) if other != len => {
                    let axis =
                        if HIDDEN.contains(&name) { "of the ellipsis".into() } else { name.to_string() };
                    let message = format!(
                        "axis {axis} has length {other} in operand {first} of {:?}, \
                         {len} in operand {operand} of {shape:?}",
                        operands[first].shape()
                    );
                    return Err(Error::shape("einsum", message));
                }
                Some(_) => {}
            }
        }
    }
    Ok(())
}

impl<T: Element> Tensor<T> {
    /// Sums of products in Einstein notation: a letter for each axis of each tensor, then those of the
    /// result. Axes with the same letter share an index; indices that the result does not name are summed
    /// over. Without `->`, the result has the letters that occur once, in alphabetical order.
    ///
    /// Tensors are multiplied from left to right, by matrix products wherever an axis of two tensors is
    /// summed over. A letter that occurs twice in one tensor takes its diagonal. An ellipsis `...` denotes
    /// the remaining axes of a tensor, which are aligned at the last one; without `->` they come first.
    /// Unlike in PyTorch, axes of length 1 do not broadcast.
    ///
    /// ```
    /// use gristmill::Tensor;
    /// let (a, b) = (Tensor::<f32>::ones([2, 3])?, Tensor::ones([3, 4])?);
    /// assert_eq!(Tensor::einsum("ij,jk->ik", &[&a, &b])?.shape(), [2, 4]); // the matrix product
    /// assert_eq!(Tensor::einsum("ij->j", &[&a])?.to_vec(), [2.0, 2.0, 2.0]); // the sums of columns
    /// assert_eq!(Tensor::einsum("ij,jk->kj", &[&a, &b])?.shape(), [4, 3]);
    /// assert_eq!(Tensor::einsum("...j->...", &[&a])?.to_vec(), [3.0, 3.0]); // the sums of rows
    /// assert_eq!(Tensor::einsum("ii", &[&Tensor::<f32>::eye(5)?])?.item()?, 5.0); // the trace
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Value`] for a pattern that cannot be parsed or is not supported; [`Error::Shape`] if it does
    /// not fit the tensors, or if an intermediate result has more than [`MAX_RANK`] axes.
    #[track_caller]
    pub fn einsum(pattern: &str, operands: &[&Self]) -> Result<Self> {
        let ranks: Vec<usize> = operands.iter().map(|operand| operand.rank()).collect();
        let (inputs, output) = parse(pattern, &ranks)?;
        check(&inputs, operands)?;
        let mut result: Option<Named<T>> = None;
        for (i, (axes, operand)) in inputs.iter().zip(operands).enumerate() {
            let named = Named::new(axes.clone(), operand)?;
            let later =
                |axis| output.contains(&axis) || inputs[i + 1..].iter().any(|axes| axes.contains(&axis));
            result = Some(match result {
                None => named.sum_to(later)?,
                Some(result) => result.product(named, later)?,
            });
        }
        match result {
            Some(result) => result.ordered(&output),
            None => Err(Error::value("einsum", format!("there is no tensor for {pattern:?}"))),
        }
    }
}
