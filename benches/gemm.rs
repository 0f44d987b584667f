//! Matrix products, m × k × n, with A and B stored row by row (N) or as their transposes (T).

mod common;

fn main() {
    common::criterion::bench(
        common::kernels::case,
        &[
            // A training step of the MLP-ResNet, batch 100: forward, gradients of weights, gradients of activations.
            "gemm/NT/{f32,f64}/{100x784x100,100x100x50,100x50x100,100x100x10}",
            "gemm/TN/{f32,f64}/{100x100x784,50x100x100,100x100x50,10x100x100}",
            "gemm/NN/{f32,f64}/{100x50x100,100x100x50,100x10x100}",
            // Squares and odd shapes.
            "gemm/NN/{f32,f64}/{16x16x16,64x64x64,127x129x131,256x256x256,512x512x512,1003x1003x1003}",
            "gemm/{NT,TN,TT}/{f32,f64}/{127x129x131,512x512x512}",
            // Transformer layers.
            "gemm/NT/{f32,f64}/{512x768x768,512x768x3072,512x3072x768}",
            "gemm/NN/{f32,f64}/512x3072x768",
            "gemm/TN/{f32,f64}/768x512x3072",
            "gemm/NT/f32/8192x768x768",
            // Vectors, and products that are nearly vectors.
            "gemm/{NN,NT}/{f32,f64}/{1x1024x1024,1024x1024x1}",
            "gemm/NN/{f32,f64}/{1x100000x1,4x4096x4096,64x4096x64}",
            // Columns of A pages apart.
            "gemm/TN/f32/1024x100x1024",
            // A layer in one pass, a layer whose weight was packed before, the heads of attention.
            "linear/{relu,gelu,prepacked}/f32/{100x100x100,100x784x100,1x784x100}",
            "gemm_batched/{NN,NT}/f32/{96x128x64x128,1000x8x8x8}",
        ],
    );
}
