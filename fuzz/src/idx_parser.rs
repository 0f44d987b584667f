//! Any bytes as an idx file, plain, and as the two files of a database: no panic, no memory but for what is
//! there, and what is read is what the format says.

use super::files::Nameless;
use super::{Input, idx};

pub fn check(bytes: &[u8]) {
    let mut input = Input(bytes);
    match input.below(3) {
        0 => plain(input.0),
        // A right start.
        1 => plain(&[&[0, 0], input.0].concat()),
        _ => {
            let (classes, len) = (input.below(256), input.below(1 << 16));
            let images = input.take(len);
            idx::check_mnist(&[&[0, 0, 8], images].concat(), &[&[0, 0, 8], input.0].concat(), classes);
        }
    }
}

fn plain(contents: &[u8]) {
    // What looks like gzip is the business of another target.
    if !contents.starts_with(&[0x1F, 0x8B]) {
        idx::check(Nameless::new(contents).path(), contents, false);
    }
}
