//! All of criterion's benches in one program, as each would compile the table of kernels for itself:
//! products, elementwise functions, reductions, normalisations, losses, updates, random numbers, networks,
//! batches of data.
//!
//! ```sh
//! cargo bench --bench criterion                          # everything
//! cargo bench --bench criterion -- layer_norm/forward    # what has this in its name
//! ```

mod cases;
#[path = "../common/mod.rs"]
mod common;
#[cfg(feature = "train")]
mod data;
mod table;

fn main() {
    common::start_at_the_root();
    table::bench(cases::KERNELS);
    #[cfg(feature = "train")]
    {
        table::bench(cases::NETWORKS);
        data::bench();
    }
    criterion::Criterion::default().configure_from_args().final_summary();
}
