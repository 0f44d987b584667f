//! What is raced: names of the table's cases, by family and group. Each group gets a geometric mean of its
//! own.

use crate::kernels::expand;

/// Cases that belong together, as patterns of names.
pub struct Group {
    pub family: &'static str,
    pub name: &'static str,
    cases: &'static [&'static str],
}

impl Group {
    /// `layer_norm/forward/f32/100x100`, …
    pub fn ids(&self) -> impl Iterator<Item = String> {
        self.cases.iter().flat_map(|pattern| expand(pattern))
    }
}

const fn group(family: &'static str, name: &'static str, cases: &'static [&'static str]) -> Group {
    Group { family, name, cases }
}

pub const GROUPS: &[Group] = &[
    group(
        "gemm",
        "gemm f32 train",
        &[
            "gemm/NN/f32/{100x784x100,100x100x50,100x50x100,100x100x10,100x10x100}",
            "gemm/NN/f32/{64x1000x100,32x784x128,256x784x96,256x512x512,128x128x128}",
            "gemm/NT/f32/{100x784x100,100x100x784,100x100x50,100x50x100,100x100x10}",
            "gemm/NT/f32/{256x10x96,256x512x512,128x128x128}",
            "gemm/TN/f32/{784x100x100,100x100x784,100x100x50,50x100x100,10x100x100}",
            "gemm/TN/f32/{1000x64x100,512x256x512,128x128x128}",
        ],
    ),
    group("gemm", "gemm f32 tiny", &["gemm/NN/f32/{8x8x8,16x16x16,24x24x24,32x32x32,48x48x48,64x64x64}"]),
    group(
        "gemm",
        "gemm f32 thin",
        &[
            "gemm/NN/f32/{1x1024x1024,1024x1024x1,4x1024x1024,8x4096x1024,1024x1024x8,1000x8x1000,1000x4x1000}",
            "gemm/NT/f32/{1x1024x1024,8x4096x1024}",
            "gemm/TN/f32/1024x1024x1",
        ],
    ),
    group("gemm", "gemm f32 long k", &["gemm/{NN,TN}/f32/{64x10000x64,16x20000x16}"]),
    group(
        "gemm",
        "gemm f32 large",
        &[
            "gemm/NN/f32/{512x512x512,1024x1024x1024,2048x768x768}",
            "gemm/NT/f32/{512x512x512,512x3072x768}",
            "gemm/TN/f32/512x512x512",
        ],
    ),
    group("gemm", "gemm f32 odd", &["gemm/NN/f32/{127x127x127,129x129x129,257x255x253,45x46x47}"]),
    group(
        "gemm",
        "gemm f64 train",
        &[
            "gemm/NN/f64/{100x784x100,100x100x10,128x128x128}",
            "gemm/NT/f64/{100x100x50,256x512x512}",
            "gemm/TN/f64/784x100x100",
        ],
    ),
    group("gemm", "gemm f64 tiny", &["gemm/NN/f64/{8x8x8,16x16x16,32x32x32,64x64x64}"]),
    group("gemm", "gemm f64 thin", &["gemm/NN/f64/{1x1024x1024,1024x1024x1,4x1024x1024,1000x8x1000}"]),
    group(
        "gemm",
        "gemm f64 large",
        &["gemm/NN/f64/{512x512x512,1024x1024x1024}", "gemm/NT/f64/512x3072x768"],
    ),
    group(
        "conv",
        "conv",
        &[
            "conv/{forward,backward_input,backward_weight}/f32/{100x1x6x28x28x5x1x0x1,100x6x16x12x12x5x1x0x1}",
            "conv/{forward,backward_input,backward_weight}/f32/64x{16x16,32x32,64x64}x32x32x3x1x1x1",
            "conv/{forward,backward_input,backward_weight}/f32/8x{64x64x56x56,128x128x28x28}x3x1x1x1",
            "conv/{forward,backward_input,backward_weight}/f32/{2x3x64x224x224x7x2x3x1,8x256x64x14x14x1x1x0x1}",
            "conv/{forward,backward_input,backward_weight}/f32/{16x32x32x1x1000x3x1x1x1,16x32x32x1x1000x9x1x4x1}",
        ],
    ),
    group(
        "conv",
        "conv by channel",
        &[
            "conv/{forward,backward_input,backward_weight}/f32/2x32x32x112x112x3x{1,2}x1x32",
            "conv/{forward,backward_input,backward_weight}/f32/8x96x96x56x56x3x{1,2}x1x96",
            "conv/{forward,backward_input,backward_weight}/f32/8x192x192x28x28x3x{1,2}x1x192",
            "conv/{forward,backward_input,backward_weight}/f32/8x384x384x14x14x3x{1,2}x1x384",
        ],
    ),
    group(
        "pool",
        "pool",
        &["pool/{max,average}{,_backward}/f32/{600x24x24x2x2,512x56x56x3x2,512x28x28x2x2,4096x7x7x1x0}"],
    ),
    group("map", "map cheap", &["map/{add,mul,axpby,relu,relu_backward}/f32/{1000,10000,100000,10000000}"]),
    group(
        "map",
        "map functions",
        &["map/{exp,ln,tanh,sigmoid,gelu,silu,gelu_backward}/f32/{1000,10000,100000,10000000}"],
    ),
    group(
        "reduce",
        "reduce all",
        &["reduce/{sum,max,argmax,variance}_all/f32/{1x1000,1x10000,1x100000,1x10000000}"],
    ),
    group(
        "reduce",
        "reduce axes",
        &["reduce/{sum_rows,sum_cols,max_rows,variance_cols}/f32/{100x100,128x1000,4096x4096}"],
    ),
    group(
        "softmax",
        "softmax",
        &["{softmax,log_softmax}/{forward,backward}/f32/{100x10,100x100,128x1000,8192x768,4096x4096}"],
    ),
    group("softmax", "logsumexp", &["logsumexp/forward/f32/{100x10,100x100,128x1000,8192x768}"]),
    group(
        "softmax",
        "cross_entropy",
        &["cross_entropy/{forward,backward}/f32/{100x10,100x100,128x1000,8192x768}"],
    ),
    group(
        "layer_norm",
        "layer_norm",
        &["layer_norm/{forward,backward}/f32/{100x10,100x100,128x1000,8192x768,4096x4096}"],
    ),
    group(
        "batch_norm",
        "batch_norm",
        &["batch_norm/{forward,backward}/f32/{100x50,100x100,128x1000,8192x768,4096x4096}"],
    ),
    group("optimizer", "optimizer, all parameters", &["optimizer_step/mlp_resnet/f32/100"]),
    group("optimizer", "optimizer", &["update/{sgd,sgd_momentum,adam}/f32/{1000,100000,10000000}"]),
    group(
        "training_step",
        "training_step",
        &["training_step/mlp_resnet/f32/{100x100,100x32,100x512,100x2048}"],
    ),
    group("training_step", "two_layer_net", &["training_step/two_layer_net/f32/64x1000x100x10"]),
    group("job", "job", &["job/mlp_resnet/f32/10x100x100", "job/mlp/f32/8x100", "job/dqn/f32/20x64"]),
    group("inference", "inference", &["inference/mlp_resnet/f32/{1x100,100x100}"]),
];

/// The families, in the order of the groups.
pub fn families() -> Vec<&'static str> {
    let mut families: Vec<_> = GROUPS.iter().map(|group| group.family).collect();
    families.dedup();
    families
}

/// Family and group of a case; one that is in no group makes a group of its kind.
pub fn group_of(id: &str) -> (String, String) {
    match GROUPS.iter().find(|group| group.ids().any(|known| known == id)) {
        Some(group) => (group.family.to_owned(), group.name.to_owned()),
        None => {
            let kind = id.split('/').next().unwrap_or(id);
            (kind.to_owned(), format!("{kind}, other"))
        }
    }
}
