//! Rivals in a Python process, driven line by line, so that their rounds interleave with ours.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;

use tempfile::NamedTempFile;

use crate::race::{Contender, Result};

struct Process {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Process {
    /// Sends a line; the answer is one line, and an error if it starts with `error`.
    fn ask(&mut self, line: &str) -> Result<String> {
        writeln!(self.to, "{line}")?;
        self.answer()
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.from.read_line(&mut line)? == 0 {
            return Err("the Python process has ended".into());
        }
        match line.trim() {
            answer if answer.starts_with("error") => Err(answer.into()),
            answer => Ok(answer.to_owned()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = writeln!(self.to, "quit");
        let _ = self.child.wait();
    }
}

/// A Python process with one framework.
#[derive(Clone)]
pub struct Python {
    name: &'static str,
    process: Rc<RefCell<Process>>,
    pub version: String,
}

impl Python {
    /// Starts `rivals.py` for a framework; what fails is named on stderr. Its threads come from the
    /// environment.
    pub fn start(environment: &Path, framework: &'static str, threads: usize) -> Option<Self> {
        let start = || -> Result<Self> {
            let python = environment.join("bin/python");
            let threads = threads.to_string();
            let mut child = Command::new(&python)
                .args([concat!(env!("CARGO_MANIFEST_DIR"), "/rivals.py"), framework, &threads])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .map_err(|e| format!("{}: {e}", python.display()))?;
            let to = child.stdin.take().ok_or("no pipe")?;
            let from = BufReader::new(child.stdout.take().ok_or("no pipe")?);
            let mut process = Process { child, to, from };
            let version = process.answer()?;
            Ok(Self { name: framework, process: Rc::new(RefCell::new(process)), version })
        };
        start().inspect_err(|error| eprintln!("{framework}: {error}, skipped")).ok()
    }

    /// A contender for a case, in a variant where the framework has several; whether it has any shows when it
    /// runs.
    pub fn contender<'a>(&self, id: &str, [variant, argument]: [&str; 2]) -> Box<dyn Contender + 'a> {
        let name = if variant.is_empty() { self.name.to_owned() } else { format!("{} {variant}", self.name) };
        let set_up = Some(format!("case {id} {argument}"));
        Box::new(Remote { name, set_up, python: self.clone(), key: None })
    }
}

struct Remote {
    name: String,
    /// Sent before the first run, so that a failure is this contender's.
    set_up: Option<String>,
    python: Python,
    key: Option<String>,
}

impl Remote {
    fn key(&mut self) -> Result<String> {
        if let Some(line) = self.set_up.take() {
            self.key = Some(self.python.process.borrow_mut().ask(&line)?);
        }
        Ok(self.key.clone().ok_or("its set-up failed")?)
    }
}

impl Contender for Remote {
    fn name(&self) -> &str {
        &self.name
    }

    fn run(&mut self, repetitions: usize) -> Result<f64> {
        let key = self.key()?;
        Ok(self.python.process.borrow_mut().ask(&format!("run {key} {repetitions}"))?.parse()?)
    }

    fn output(&mut self) -> Result<Vec<f64>> {
        let key = self.key()?;
        let file = NamedTempFile::new()?;
        self.python.process.borrow_mut().ask(&format!("output {key} {}", file.path().display()))?;
        let bytes = std::fs::read(file.path())?;
        Ok(bytes.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect())
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        if let Some(key) = &self.key {
            let _ = self.python.process.borrow_mut().ask(&format!("drop {key}"));
        }
    }
}
