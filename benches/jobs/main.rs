//! Jobs as a whole, where a bench of single calls sees nothing: what threads of one process do to each other.
//!
//! ```sh
//! cargo bench --bench jobs              # all figures
//! cargo bench --bench jobs -- --test    # one short round: does it run?
//! ```

mod threads;

fn main() -> gristmill::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Cargo adds it, except in `cargo test`.
    let benching = arguments.iter().any(|argument| argument == "--bench");
    let test = !benching || arguments.iter().any(|argument| argument == "--test");
    threads::run(test)
}
