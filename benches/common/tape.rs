//! What an operation costs beside its kernel: a chain of sums of few numbers, recorded, and run through
//! backward.

use gristmill::{Result, Tensor};

use super::kernels::{Case, dimensions};

/// `tape/record/f32/64x4`: a chain of 64 sums of 4 numbers, recorded and forgotten. `tape/backward/f32/64x4`:
/// the same and the backward pass. The result is the last sum's first number.
fn chain(backward: bool, [operations, len]: [usize; 2]) -> Result<Case> {
    let op = if backward { "backward" } else { "record" };
    let (start, one) = (Tensor::<f32>::zeros([len])?.requires_grad(), Tensor::<f32>::ones([len])?);
    let id = format!("tape/{op}/f32/{operations}x{len}");
    let flops = (operations * len * if backward { 2 } else { 1 }) as f64;
    Ok(Case::new(id, flops, [0.0, 0.0], vec![0.0; len], move |result| {
        let mut sum = start.add(&one)?;
        for _ in 1..operations {
            sum = sum.add(&one)?;
        }
        if backward {
            start.zero_grad();
            sum.backward_with(&one)?;
        }
        result.copy_from_slice(&sum.to_vec());
        Ok(())
    }))
}

/// The case with this name, if it is one of this file's.
pub fn case(id: &str) -> Option<Result<Case>> {
    let (op, shape) = id.strip_prefix("tape/")?.split_once("/f32/")?;
    let shape = dimensions(shape)?.try_into().ok()?;
    match op {
        "record" => Some(chain(false, shape)),
        "backward" => Some(chain(true, shape)),
        _ => None,
    }
}
