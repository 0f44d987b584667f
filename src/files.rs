//! Writing files so that they are never left half written, and recognising foreign files by their first
//! bytes.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Writes a file beside `path` and renames it to `path` once it is complete.
pub(crate) fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    /// Distinguishes files that this process writes at the same time.
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let beside = path.with_file_name(format!(".gristmill-{}-{count}.tmp", std::process::id()));
    let mut file = File::create(&beside)?;
    write(&mut file)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&beside, path))
        .inspect_err(|_| drop(fs::remove_file(&beside)))
}

/// How many of a file's first bytes [`recognise`] looks at.
#[cfg(feature = "train")]
pub(crate) const START: usize = 512;

/// Recognises a file by its first bytes, if it is of a kind that is often given by mistake. Readers mention
/// it when they cannot read a file.
#[cfg(feature = "train")]
pub(crate) fn recognise(start: &[u8]) -> Option<&'static str> {
    const ZIP: &[u8] = b"PK\x03\x04";
    let start = &start[..start.len().min(START)];
    let holds = |text: &[u8]| start.windows(text.len()).any(|window| window == text);
    let known: [(&[u8], &str); 11] = [
        (
            b"version https://git-lfs.github.com/spec/",
            "a Git LFS pointer in place of the file, which `git lfs pull` fetches",
        ),
        (b"\x1F\x8B", "a gzip file"),
        (b"\x93NUMPY", "a .npy file"),
        (b"\x89HDF\r\n\x1A\n", "an HDF5 file"),
        (b"PAR1\x15", "a Parquet file"),
        (b"%PDF-", "a PDF file"),
        (b"\x89PNG\r\n\x1A\n", "a PNG image"),
        (b"\x28\xB5\x2F\xFD", "a zstd file"),
        (b"\xFD7zXZ\0", "an xz file"),
        (b"\xFF\xFE", "text in UTF-16, not UTF-8"),
        (b"\xFE\xFF", "text in UTF-16, not UTF-8"),
    ];
    if let Some(&(_, what)) = known.iter().find(|(magic, _)| start.starts_with(magic)) {
        return Some(what);
    }
    if start.starts_with(ZIP) {
        return Some(match () {
            () if holds(b"data.pkl") => {
                "a file of torch.save: in Python, safetensors.torch.save_file writes its tensors as safetensors"
            }
            () if holds(b".npy") => "a .npz file",
            () if holds(b"[Content_Types].xml") => "an Office document, such as an Excel workbook",
            () => "a zip archive",
        });
    }
    if let [0x80, 2..=5, ..] = start {
        return Some("a Python pickle, such as torch.save wrote before version 1.6");
    }
    if let Some((len, [b'{', ..])) = start.split_first_chunk::<8>()
        && u64::from_le_bytes(*len) < 1 << 32
    {
        return Some("a safetensors file");
    }
    if let [0, 0, 0x08 | 0x09 | 0x0B..=0x0E, 1..=6, ..] = start {
        return Some("an idx file");
    }
    let text = start.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(start).trim_ascii_start();
    let begins = |with: &[u8]| text.get(..with.len()).is_some_and(|text| text.eq_ignore_ascii_case(with));
    if begins(b"<!doctype html") || begins(b"<html") {
        return Some("an HTML page: what a server says in place of the file, or shows around it");
    }
    begins(b"<?xml").then_some("an XML document, such as a server's message in place of the file")
}

/// [`recognise`], worded for the end of an error message.
#[cfg(feature = "train")]
pub(crate) fn it_is(start: &[u8]) -> Option<String> {
    recognise(start).map(|what| format!("it is {what}"))
}

#[cfg(all(test, feature = "train"))]
mod tests {
    use super::recognise;

    #[test]
    fn files_of_others_are_known_by_their_first_bytes() {
        let torch = b"PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\0\0\0archive/data.pklFB";
        let cases: [(&[u8], &str); 11] = [
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "Git LFS pointer"),
            (torch, "torch.save"),
            (b"\x80\x02\x8a\nl\xfc", "Python pickle"),
            (b"PK\x03\x04 x.npy", ".npz"),
            (b"PK\x03\x04 x.txt", "zip archive"),
            (b"\n <!DOCTYPE HTML><title>404", "HTML page"),
            (b"\xEF\xBB\xBF<html>", "HTML page"),
            (b"<?xml version='1.0'?><Error>", "XML"),
            (b"\x02\0\0\0\0\0\0\0{}", "safetensors"),
            (b"\0\0\x08\x01\0\0\0\0", "idx"),
            (b"\xFF\xFEa\0,\0", "UTF-16"),
        ];
        for (start, what) in cases {
            assert!(
                recognise(start).is_some_and(|found| found.contains(what)),
                "{what}: {:?}",
                recognise(start)
            );
        }
        for start in
            [b"".as_slice(), b"a,b\n1,2\n", b"[0] \"x\"", b"<5,>5\n1,2", b"1,2", b"P5", b"version,oid\n1,2\n"]
        {
            assert_eq!(recognise(start), None, "{start:?}");
        }
    }
}
