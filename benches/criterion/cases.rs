//! The cases that criterion times: patterns of names, see [`expand`](crate::common::expand).

/// Each kernel by itself.
pub const KERNELS: &[&str] = &[
    // Products, m × k × n, with A and B stored row by row (N) or as their transposes (T). A training step of
    // the MLP-ResNet, batch 100: forward, gradients of weights, gradients of activations.
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
    // Convolutions: batch, channels in and out, height, width, kernel, stride, padding, groups. LeNet's, those
    // of residual networks, the first of a large one, pointwise, by channel, along sequences.
    "conv/{forward,backward_input,backward_weight}/f32/{100x1x6x28x28x5x1x0x1,100x6x16x12x12x5x1x0x1}",
    "conv/{forward,backward_input,backward_weight}/f32/64x{16x16,32x32,64x64}x32x32x3x1x1x1",
    "conv/{forward,backward_input,backward_weight}/f32/8x{64x64x56x56,128x128x28x28}x3x1x1x1",
    "conv/{forward,backward_input,backward_weight}/f32/{2x3x64x224x224x7x2x3x1,8x256x64x14x14x1x1x0x1}",
    "conv/{forward,backward_input,backward_weight}/f32/{2x32x32x112x112x3x1x1x32,8x384x384x14x14x3x1x1x384}",
    "conv/{forward,backward_input,backward_weight}/f32/{8x96x96x56x56x3x2x1x96,64x32x64x32x32x3x2x1x1}",
    "conv/{forward,backward_input,backward_weight}/f32/{16x32x32x1x1000x3x1x1x1,16x32x32x1x1000x9x1x4x1}",
    // Pooling: planes, height, width, kernel, stride, 0 for adaptive windows. LeNet's, overlapping, global.
    "pool/{max,average}{,_backward}/{f32,f64}/{600x24x24x2x2,512x56x56x3x2,4096x7x7x1x0}",
    // Elementwise functions: all of them in the first-level cache, some out to memory; with a row or a
    // column, too.
    "map/{functions}{,_backward}/{f32,f64}/1003",
    "map/{pow_3,pow_1.7,powi_5}{,_backward}/{f32,f64}/1003",
    "map/{add,mul,max,axpby,scale}/{f32,f64}/1003",
    "map/{pow,pow_base_backward,pow_exponent_backward}/{f32,f64}/1003",
    "map/{mul_add,lerp,lerp_in_place,lerp_backward}/{f32,f64}/1003",
    "map/{mul_scalar,scalar_sub,gate,accumulate,axpy}/{f32,f64}/1003",
    "map/{relu,gelu,exp}{,_backward}/{f32,f64}/{127,30000,500000,8000000}",
    "map/{add,axpby}/{f32,f64}/{127,30000,500000,8000000}",
    "map/{add_row,mul_col}/{f32,f64}/{100x10,100x100,127x129,128x1000,8192x768}",
    "map/{strided_add,strided_exp,cumsum_rows,cumsum_cols}/{f32,f64}/{127x129,128x1000}",
    "convert/{bf16,f16}/f32/30000",
    // The parametric ReLU with one slope, with columns and with channels.
    "prelu/{forward,backward}/{f32,f64}/{1x1x1003,1x1x500000,100x100x1,8x32x1024}",
    // Reductions: from the rows of a small network, over odd and tall matrices, to more than a cache holds.
    "reduce/{sum,max,variance}_{all,rows,cols}/{f32,f64}/{100x10,127x129,128x1000,65536x10,4096x4096}",
    "reduce/{mean,min,squares}_{all,rows,cols}/{f32,f64}/128x1000",
    "reduce/{count,l1,l2,size}_{all,rows,cols}/{f32,f64}/128x1000",
    "reduce/std_{all,rows,cols}/{f32,f64}/128x1000",
    "reduce/{dot_all,nonzero_all}/{f32,f64}/{127x129,128x1000}",
    "reduce/{l1,l2,size}_backward_{rows,cols}/{f32,f64}/128x1000",
    "reduce/prod_backward_rows/{f32,f64}/{100x10,128x1000}",
    "reduce/argmin_{all,rows,cols}/{f32,f64}/128x1000",
    "reduce/argmax_{all,rows,cols}/{f32,f64}/{100x10,127x129,128x1000,4096x4096}",
    // Softmax and its relatives: the logits of ten classes, a middling layer, the vocabulary of a language
    // model, and more than a cache holds.
    "{softmax,log_softmax,logsumexp}/{forward,backward}/{f32,f64}/{100x10,127x129,128x1000,32x50257,8192x1024}",
    "logsumexp/{forward,backward}_cols/{f32,f64}/{100x10,127x129,128x1000}",
    "cross_entropy/{forward,backward}/{f32,f64}/{100x10,127x129,128x1000,32x50257,8192x1024}",
    "cross_entropy/options_{forward,backward}/f32/{100x10,128x1000}",
    "{soft_cross_entropy,nll_loss}/{forward,backward}/{f32,f64}/{100x10,127x129,128x1000,8192x1024}",
    // Elementwise losses, from the first-level cache to memory.
    "loss/{squared_error,absolute_error,huber,bce_with_logits}{,_backward}/{f32,f64}/{127,1003,500000}",
    "loss/{squared_error,absolute_error,huber,bce_with_logits}_backward_uniform/{f32,f64}/1003",
    "loss/{squared_error,bce_with_logits}{,_backward}/{f32,f64}/{30000,8000000}",
    // Normalisation: batches of the MLP-ResNet, odd and wide ones, a tall one, and one that no cache holds.
    "batch_norm/{forward,backward,infer}/{f32,f64}/{100x50,100x100,127x129,128x1000,50000x16,8192x1024}",
    "batch_norm/{forward_relu,backward_gated,infer_relu,infer_backward}/{f32,f64}/{100x100,127x129}",
    // Rows of a small network, odd ones, and those of a transformer; short channels and images.
    "layer_norm/{forward,backward}/{f32,f64}/{100x10,100x100,127x129,128x1000,2048x768,8192x768}",
    "rms_norm/{forward,backward,infer}/{f32,f64}/{100x10,100x100,127x129,128x1000,2048x768,8192x768}",
    "group_norm/{forward,backward}/{f32,f64}/{100x100x1x4,16x64x49x8,8x32x1024x8,8x128x3136x32}",
    // From the first-level cache to memory.
    "dropout/{forward,backward}/{f32,f64}/{127,1003,30000,500000,8000000}",
    "dropout/in_place/{f32,f64}/{1003,500000}",
    "rng/{uniform,normal,bernoulli}/{f32,f64}/{127,1003,30000,500000,8000000}",
    // A bias, small networks, and more parameters than a cache holds.
    "update/{sgd,sgd_momentum,rmsprop,adam}/{f32,f64}/{127,30000,8000000}",
    "update/{rules,sgd_momentum,run}/{f32,f64}/{1003,500000}",
    // Rows × elements × indices: a small table, one of words, and one that no cache holds.
    "embedding/{forward,backward}/{f32,f64}/{100x16x1000,1000x129x1000,50000x128x8192,1000x768x32768}",
];

/// Networks: one training step, inference, an optimizer's step; and what the tape costs by itself.
#[cfg(feature = "train")]
pub const NETWORKS: &[&str] = &[
    "training_step/mlp_resnet/f32/{100x32,100x100,100x512}",
    "training_step/two_layer_net/f32/64x1000x100x10",
    "inference/mlp_resnet/f32/{1,100}x{32,100,512}",
    "optimizer_step/mlp_resnet/f32/100",
    "tape/{record,backward}/f32/64x4",
];
