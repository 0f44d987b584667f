//! Gzip files: a series of members, possibly followed by zeros.

use std::io::{self, BufRead, ErrorKind, Read};

use flate2::bufread::GzDecoder;

/// The first bytes of a gzip file.
pub(super) const MAGIC: [u8; 2] = [0x1F, 0x8B];

/// Unpacks all members of a gzip file, as `gzip` and Python do: zero bytes between and after them, with which
/// tapes and downloads are padded, are ignored. Anything else after the last member is an error of the kind
/// [`InvalidData`](ErrorKind::InvalidData).
pub(super) struct Gunzip<R: BufRead> {
    /// `None` after the last member.
    member: Option<GzDecoder<R>>,
    /// Not the first member: these may turn out to be other bytes.
    later: bool,
}

impl<R: BufRead> Gunzip<R> {
    pub fn new(file: R) -> Self {
        Self { member: Some(GzDecoder::new(file)), later: false }
    }

    /// The bytes after the end of a member.
    fn next(mut file: R) -> io::Result<Option<GzDecoder<R>>> {
        loop {
            let rest = match file.fill_buf() {
                Ok(rest) => rest,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let zeros = rest.iter().take_while(|&&byte| byte == 0).count();
            match rest.get(zeros) {
                Some(&byte) if byte == MAGIC[0] => {
                    file.consume(zeros);
                    return Ok(Some(GzDecoder::new(file)));
                }
                Some(_) => return Err(follows()),
                None if zeros == 0 => return Ok(None),
                None => file.consume(zeros),
            }
        }
    }
}

fn follows() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "there are bytes after the end of the gzip data")
}

impl<R: BufRead> Read for Gunzip<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        while let Some(member) = &mut self.member {
            match member.read(out) {
                Ok(0) => {}
                Ok(read) => return Ok(read),
                Err(error) => {
                    let no_member = member.header().is_none() && error.kind() == ErrorKind::InvalidInput;
                    return Err(if self.later && no_member { follows() } else { error });
                }
            }
            let ended = self.member.take().map(GzDecoder::into_inner);
            self.member = ended.map(Self::next).transpose()?.flatten();
            self.later = true;
        }
        Ok(0)
    }
}
