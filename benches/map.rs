//! Elementwise functions: all of them in the first-level cache, some out to memory; with a row or a column, too. The
//! parametric ReLU with one slope, with columns and with channels.

mod common;

fn main() {
    common::criterion::bench(
        common::kernels::case,
        &[
            "map/{abs,relu,leaky_relu,sigmoid,tanh,gelu,gelu_tanh,silu,softplus,elu}{,_backward}/{f32,f64}/1003",
            "map/{exp,ln,sqrt,square,reciprocal,pow_3,pow_1.7}{,_backward}/{f32,f64}/1003",
            "map/{exp2,expm1,log2,log1p,rsqrt,erf,log_sigmoid}{,_backward}/{f32,f64}/1003",
            "map/{sin,cos,mish,powi_5}{,_backward}/{f32,f64}/1003",
            "map/{pow,mul_add,lerp}/{f32,f64}/1003",
            "map/{strided_add,cumsum_rows,cumsum_cols}/{f32,f64}/{127x129,128x1000}",
            "convert/{bf16,f16}/f32/30000",
            "map/{clamp,floor,ceil,round,sign}{,_backward}/{f32,f64}/1003",
            "map/{add,mul,max,axpby,scale}/{f32,f64}/1003",
            "map/{relu,gelu,exp}{,_backward}/{f32,f64}/{127,30000,500000,8000000}",
            "map/{add,axpby}/{f32,f64}/{127,30000,500000,8000000}",
            "map/{add_row,mul_col}/{f32,f64}/{100x10,100x100,127x129,128x1000,8192x768}",
            "prelu/{forward,backward}/{f32,f64}/{1x1x1003,1x1x500000,100x100x1,8x32x1024}",
        ],
    );
}
