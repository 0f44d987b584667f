//! Reductions: from the rows of a small network, over odd and tall matrices, to more than a cache holds.

mod common;

fn main() {
    common::criterion::bench(
        common::kernels::case,
        &[
            "reduce/{sum,max,variance}_{all,rows,cols}/{f32,f64}/{100x10,127x129,128x1000,65536x10,4096x4096}",
            "reduce/{mean,min,squares}_{all,rows,cols}/{f32,f64}/128x1000",
            "reduce/{count,l1,l2,size}_{all,rows,cols}/{f32,f64}/128x1000",
            "reduce/argmin_{all,rows}/{f32,f64}/128x1000",
            "reduce/argmax_{all,rows}/{f32,f64}/{100x10,127x129,128x1000,4096x4096}",
        ],
    );
}
