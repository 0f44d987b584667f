//! Errors, worded so that the reader can fix the cause.

use std::fmt;
use std::path::{Path, PathBuf};

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error that names the operation and the values, or the file and the reason.
///
/// ```
/// use gristmill::Error;
/// let error = Error::shape("matmul", "inner dimensions differ: [100, 784] × [100, 10]");
/// assert_eq!(error.to_string(), "matmul: inner dimensions differ: [100, 784] × [100, 10]");
/// ```
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Lengths, shapes or axes that do not fit together.
    #[error("{op}: {message}")]
    Shape {
        /// The operation that was called.
        op: &'static str,
        /// Which shapes, and what was expected.
        message: String,
    },
    /// A value outside its domain: a label, a probability, a hyperparameter.
    #[error("{op}: {message}")]
    Value {
        /// The operation that was called.
        op: &'static str,
        /// Which value, and what was expected.
        message: String,
    },
    /// A derivative that does not exist or can no longer be computed.
    #[error("{op}: {message}")]
    Autograd {
        /// The operation that was called.
        op: &'static str,
        /// What is missing.
        message: String,
    },
    /// An instruction set or a number of threads that is not available.
    #[error("{setting}: {message}")]
    Setting {
        /// The environment variable or the setter.
        setting: &'static str,
        /// What was requested, and what is available.
        message: String,
    },
    /// A file that cannot be read or written, or does not contain what it should.
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
}

/// The same text as `Display`: what `fn main() -> gristmill::Result<()>` and `unwrap` print.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Error {
    /// Lengths, shapes or axes that do not fit `op`.
    pub fn shape(op: &'static str, message: impl Into<String>) -> Self {
        Self::Shape { op, message: message.into() }
    }

    /// A value outside the domain of `op`.
    pub fn value(op: &'static str, message: impl Into<String>) -> Self {
        Self::Value { op, message: message.into() }
    }

    /// A derivative that `op` does not have or can no longer compute.
    pub fn autograd(op: &'static str, message: impl Into<String>) -> Self {
        Self::Autograd { op, message: message.into() }
    }

    /// A `setting` that is not available on this machine.
    pub fn setting(setting: &'static str, message: impl Into<String>) -> Self {
        Self::Setting { setting, message: message.into() }
    }

    /// Adds the name of a layer, as seen from the module that contains it, to its error.
    #[cfg(feature = "train")]
    pub(crate) fn in_layer(mut self, name: &str) -> Self {
        const IN: &str = ", in layer ";
        if let Self::Shape { message, .. } | Self::Value { message, .. } | Self::Autograd { message, .. } =
            &mut self
        {
            match message.rfind(IN) {
                Some(at) => message.insert_str(at + IN.len(), &format!("{name}.")),
                None => *message += &format!("{IN}{name}"),
            }
        }
        self
    }

    /// Something wrong with the file at `path`.
    pub fn file(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Self::File { path: path.as_ref().to_owned(), message: message.into() }
    }
}
