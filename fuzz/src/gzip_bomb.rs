//! Gzip streams that expand a thousandfold, lie about what they hold, or are damaged: memory for what is
//! declared and there, and an error that names the file.

use std::io::{Read, Write};
use std::sync::OnceLock;

use flate2::bufread::MultiGzDecoder;
use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};
use gristmill::data::Idx;

use super::files::Nameless;
use super::{Input, idx, memory};

/// What one bomb expands to.
const BOMB: usize = 1 << 18;
/// More expanded bytes make a run slow and tell nothing new.
const MOST: usize = 1 << 20;

pub fn check(bytes: &[u8]) {
    let mut input = Input(bytes);
    if input.below(8) == 0 {
        return any(&[&[0x1F, 0x8B, 8], input.0].concat());
    }
    let mut archive = Archive::default();
    archive.member(&mut input, true);
    while !input.is_empty() && archive.contents.len() < MOST && archive.file.len() < 1 << 16 {
        archive.member(&mut input, false);
    }
    idx::check(Nameless::new(&archive.file).path(), &archive.contents, archive.damaged);
}

/// Bytes that look like gzip: readable if all of it can be unpacked. Zeros behind the end are padding, at
/// which flate2 gives up after it has unpacked all there is.
fn any(packed: &[u8]) {
    let file = Nameless::new(packed);
    let mut contents = Vec::new();
    let damaged = MultiGzDecoder::new(packed).read_to_end(&mut contents).is_err();
    if damaged && !packed.ends_with(&[0]) {
        let read = memory::within((1 << 18) + 4 * contents.len(), || Idx::<u8>::read(file.path()));
        return assert!(read.is_err());
    }
    idx::check(file.path(), &contents, damaged);
}

/// A file of gzip members, and what they hold together.
#[derive(Default)]
struct Archive {
    file: Vec<u8>,
    contents: Vec<u8>,
    damaged: bool,
}

impl Archive {
    fn member(&mut self, input: &mut Input, first: bool) {
        let packed = if first { self.header(input) } else { self.elements(input) };
        let (contents, deflated) = packed;
        let start = self.file.len();
        let optional = input.byte();
        // The flags of the extra field, the name, the comment; a checksum of the header is left to the bytes
        // above.
        let flags = if optional.is_multiple_of(4) { optional & 0b1_1100 } else { 0 };
        self.file.extend([0x1F, 0x8B, 8, flags, 0, 0, 0, 0, 0, 255]);
        if flags & 4 != 0 {
            let extra = input.take(usize::from(optional));
            self.file.extend((extra.len() as u16).to_le_bytes());
            self.file.extend(extra);
        }
        for flag in [8, 16] {
            if flags & flag != 0 {
                self.file.extend(input.take(5).iter().filter(|&&byte| byte != 0));
                self.file.push(0);
            }
        }
        self.file.extend(&deflated);
        let mut crc = Crc::new();
        crc.update(&contents);
        self.file.extend(crc.sum().to_le_bytes());
        self.file.extend((contents.len() as u32).to_le_bytes());
        self.contents.extend(contents);
        self.damage(input, start);
    }

    /// The header of an array, which may declare anything, and the first elements.
    fn header(&self, input: &mut Input) -> (Vec<u8>, Vec<u8>) {
        let kind = input.pick(&[8, 8, 8, 9, 11, 12, 13, 14, 7]);
        let rank = input.below(5);
        let mut contents = vec![0, 0, kind, rank as u8];
        for _ in 0..rank {
            let known = [1, 0, 2, 3, 28, 1 << 10, BOMB as u32, 2 * BOMB as u32, u32::MAX, 1 << 31];
            let other = input.flag();
            contents.extend(if other { input.u32() } else { input.pick(&known) }.to_be_bytes());
        }
        let len = input.below(64);
        contents.extend(input.take(len));
        let deflated = deflate(&contents, Compression::new(input.below(10) as u32));
        (contents, deflated)
    }

    /// Elements that are there, as they are and packed.
    fn elements(&self, input: &mut Input) -> (Vec<u8>, Vec<u8>) {
        if input.below(4) == 0 {
            static BOMBS: OnceLock<Vec<u8>> = OnceLock::new();
            let zeros = vec![0; BOMB];
            let packed = BOMBS.get_or_init(|| deflate(&zeros, Compression::best())).clone();
            return (zeros, packed);
        }
        let contents = if input.flag() {
            let byte = input.byte();
            vec![byte; input.below(1 << 16)]
        } else {
            let len = input.below(256);
            input.take(len).to_vec()
        };
        let deflated = deflate(&contents, Compression::new(input.below(10) as u32));
        (contents, deflated)
    }

    /// Damages what was written from `start` on, in one case of four.
    fn damage(&mut self, input: &mut Input, start: usize) {
        let len = self.file.len() - start;
        match input.below(16) {
            13 => {
                let place = input.below(1 << 16) % (8 * len);
                self.file[start + place / 8] ^= 1 << (place % 8);
            }
            14 => self.file.truncate(start + 1 + input.below(1 << 16) % (len - 1)),
            15 => self.file.extend(input.take(9)),
            _ => return,
        }
        self.damaged = true;
    }
}

fn deflate(contents: &[u8], level: Compression) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), level);
    encoder.write_all(contents).expect("there is memory");
    encoder.finish().expect("there is memory")
}
