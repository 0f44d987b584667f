//! Tables of numbers as text: CSV.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::gzip::{self, Gunzip};
use crate::error::{Error, Result};
use crate::files::it_is;
use crate::simd::environment::{self, Environment};
use crate::simd::{self, Element};
use crate::tensor::{Shape, Tensor};

/// A table of numbers, `[rows, columns]`.
///
/// ```
/// use gristmill::data::{Csv, DataLoader, TensorDataset};
/// let path = std::env::temp_dir().join(format!("gristmill-doc-{}.csv", std::process::id()));
/// std::fs::write(&path, "rooms,area,price\n3,70,210\n4,95.5,260\n")?;
/// let table: Csv = Csv::read(&path)?;
/// # std::fs::remove_file(&path)?;
/// let (x, y) = table.split(&["price"])?;
/// assert_eq!((x.to_vec(), y.to_vec()), (vec![3.0, 70.0, 4.0, 95.5], vec![210.0, 260.0]));
/// let loader = DataLoader::new(TensorDataset::new([&x, &y])?).batch_size(2);
/// # assert_eq!(loader.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Csv<T: Element = f32> {
    path: PathBuf,
    names: Vec<String>,
    /// The line number of each row, counted from 1.
    lines: Vec<usize>,
    values: Tensor<T>,
}

/// The options of a CSV file.
///
/// ```no_run
/// use gristmill::data::{Csv, CsvFormat};
/// let format = CsvFormat { delimiter: b'\t', header: false, ..CsvFormat::default() };
/// let table: Csv = format.read("numbers.tsv")?;
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CsvFormat {
    /// The separator of fields, an ASCII character; a comma by default.
    pub delimiter: u8,
    /// Whether the first line names the columns; true by default. Otherwise they are called `0`, `1`, …
    pub header: bool,
    /// A text for missing numbers, such as `NA`, in addition to empty fields. Missing numbers are errors by
    /// default; with this option they become NaN.
    pub missing: Option<&'static str>,
    /// Whether the first column is an index, such as the row names of pandas and R, which is then skipped,
    /// whatever it contains. False by default, but a first column without a name is an error that says so.
    pub index: bool,
}

impl Default for CsvFormat {
    fn default() -> Self {
        Self { delimiter: b',', header: true, missing: None, index: false }
    }
}

impl<T: Element> Csv<T> {
    /// Reads a file with commas and a header; see [`CsvFormat::read`].
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be read or parsed; [`CsvFormat::read`] lists the reasons.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        CsvFormat::default().read(path)
    }

    /// The names of the columns.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The numbers, `[rows, columns]`.
    pub fn values(&self) -> &Tensor<T> {
        &self.values
    }

    /// The columns with these names in this order, `[rows, names]`.
    ///
    /// # Errors
    /// [`Error::File`] naming a column that does not exist.
    pub fn columns(&self, names: &[&str]) -> Result<Tensor<T>> {
        let places = names.iter().map(|name| self.place(name)).collect::<Result<Vec<_>>>()?;
        self.pick(&places)
    }

    /// All other columns, `[rows, others]`, and the targets, `[rows, targets]`.
    ///
    /// # Errors
    /// [`Error::File`] naming a column that does not exist.
    pub fn split(&self, targets: &[&str]) -> Result<(Tensor<T>, Tensor<T>)> {
        let places = targets.iter().map(|name| self.place(name)).collect::<Result<Vec<_>>>()?;
        let others: Vec<usize> = (0..self.names.len()).filter(|place| !places.contains(place)).collect();
        Ok((self.pick(&others)?, self.pick(&places)?))
    }

    /// All other columns, `[rows, others]`, and a column of class indices 0, 1, ….
    ///
    /// # Errors
    /// [`Error::File`] if the column does not exist, or naming the line of a number that is not an integer ≥
    /// 0.
    pub fn split_labels(&self, target: &str) -> Result<(Tensor<T>, Vec<usize>)> {
        let (others, labels) = self.split(&[target])?;
        let label = |(x, line): (T, &usize)| {
            let x = x.to_f64();
            // Class indices above 2³² are certainly mistakes.
            if x >= 0.0 && x.fract() == 0.0 && x <= f64::from(u32::MAX) {
                return Ok(x as usize);
            }
            let message = format!("line {line}, column {target}: {x} is not the number of a class");
            Err(Error::file(&self.path, message))
        };
        let labels = labels.to_vec().into_iter().zip(&self.lines).map(label).collect::<Result<_>>()?;
        Ok((others, labels))
    }

    fn place(&self, name: &str) -> Result<usize> {
        self.names.iter().position(|known| known == name).ok_or_else(|| {
            Error::file(&self.path, format!("there is no column {name:?} among {:?}", self.names))
        })
    }

    fn pick(&self, places: &[usize]) -> Result<Tensor<T>> {
        let (rows, columns) = (self.lines.len(), self.names.len());
        Tensor::build(Shape::new(&[rows, places.len()])?, |out| {
            let from = self.values.data().chunks_exact(columns.max(1));
            for (row, out) in from.zip(out.chunks_exact_mut(places.len().max(1))) {
                places.iter().zip(out).for_each(|(&place, out)| *out = row[place]);
            }
            Ok(())
        })
    }
}

/// All bytes of a file, unpacked if it is a gzip file.
fn contents(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = BufReader::new(File::open(path)?);
    let mut bytes = Vec::new();
    match file.fill_buf()?.starts_with(&gzip::MAGIC) {
        true => Gunzip::new(file).read_to_end(&mut bytes)?,
        false => file.read_to_end(&mut bytes)?,
    };
    Ok(bytes)
}

/// The lines of a text, which may end in LF, CR LF or, as on old Macs and in some exports, CR.
fn lines_of(text: &str) -> impl Iterator<Item = &str> {
    text.split_terminator('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

impl CsvFormat {
    /// Reads a file of numbers, plain or compressed with gzip.
    ///
    /// Lines end in LF, CR LF or CR. Fields may be quoted, with `""` for a quote, but may not span several
    /// lines; blanks around fields and empty lines are ignored. Numbers are those that Rust's `f32` and `f64`
    /// parse, rounded to the nearest: `1`, `-2.5e3`, `NaN`, `inf`.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be read or is not UTF-8; if a line, which is named, has a different
    /// number of fields than the first one or an unclosed quote; if a field, named by line and column, is not
    /// a number, is missing, or is too large for the element type; if there are no columns, two have the same
    /// name, or one has none; or if the line of names contains numbers (other than 0, 1, …, which pandas
    /// gives to columns without names), since a row would get lost.
    pub fn read<T: Element>(self, path: impl AsRef<Path>) -> Result<Csv<T>> {
        self.read_named(path.as_ref(), Self::check_names)
    }

    /// [`read`](CsvFormat::read) with a different test of whether a line can be the line of names.
    pub(crate) fn read_named<T: Element>(
        self,
        path: &Path,
        check: fn(Self, usize, &[String]) -> Result<(), String>,
    ) -> Result<Csv<T>> {
        let bytes = contents(path).map_err(|error| Error::file(path, format!("cannot be read: {error}")))?;
        self.parse(&bytes, path, check).map_err(|reason| Error::file(path, reason))
    }

    fn parse<T: Element>(
        self,
        bytes: &[u8],
        path: &Path,
        check: fn(Self, usize, &[String]) -> Result<(), String>,
    ) -> Result<Csv<T>, String> {
        if !self.delimiter.is_ascii() || matches!(self.delimiter, b'"' | b'\n' | b'\r') {
            return Err(format!("{:?} cannot be a delimiter", char::from(self.delimiter)));
        }
        if let Some(what) = it_is(bytes) {
            return Err(format!("is not a table: {what}"));
        }
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let before = std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
            format!("line {} is not UTF-8", lines_of(&format!("{before}?")).count())
        })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = lines_of(text).enumerate().filter(|(_, line)| !line.trim().is_empty());
        let mut lines = lines.map(|(i, line)| (i + 1, line)).peekable();

        let Some(&(number, first)) = lines.peek() else { return Err("holds no columns".into()) };
        let first = self.fields(number, first)?;
        // The number of leading fields to skip.
        let start = usize::from(self.index).min(first.len());
        let names = match self.header {
            true => {
                lines.next();
                check(self, number, &first)?;
                first[start..].to_vec()
            }
            false => (start..first.len()).map(|place| (place - start).to_string()).collect(),
        };
        if names.is_empty() {
            return Err("holds no columns".into());
        }
        if let Some(twice) = (1..names.len()).find(|&i| names[..i].contains(&names[i])) {
            return Err(format!("line {number}: two columns are called {:?}", names[twice]));
        }

        let (mut numbers, mut values) = (Vec::new(), Vec::new());
        for (number, line) in lines {
            let fields = self.fields(number, line)?;
            if fields.len() != start + names.len() {
                let (found, expected) = (fields.len(), start + names.len());
                return Err(format!("line {number} has {found} fields, expected {expected}"));
            }
            for (field, name) in fields[start..].iter().zip(&names) {
                let value = self.number(field);
                values.push(value.map_err(|reason| format!("line {number}, column {name}: {reason}"))?);
            }
            numbers.push(number);
        }
        let values =
            Tensor::from_slice(&values, [numbers.len(), names.len()]).map_err(|error| error.to_string())?;
        Ok(Csv { path: path.to_owned(), names, lines: numbers, values })
    }

    /// Rejects a line of names that would silently turn a row of numbers, or an index, into something else.
    fn check_names(self, line: usize, names: &[String]) -> Result<(), String> {
        let number = |name: &String| name.parse::<f64>().is_ok();
        let skip = usize::from(self.index);
        let columns = names.get(skip..).unwrap_or_default();
        let counted = columns.iter().enumerate().all(|(place, name)| *name == place.to_string());
        if columns.iter().all(number) && !counted {
            let first = &columns[0];
            return Err(format!(
                "line {line} holds numbers where the names of the columns should be, {first:?} first: \
                 with `header: false` it is the first row"
            ));
        }
        // The name that pandas gives to an index that was written and read again.
        let nameless = |place: usize, name: &str| name.is_empty() || place == 0 && name == "Unnamed: 0";
        match names.iter().enumerate().skip(skip).find(|(place, name)| nameless(*place, name)) {
            Some((0, name)) => Err(format!(
                "line {line}: the first column is called {name:?}, as the index that pandas and R write: \
                 `index: true` leaves it out"
            )),
            Some((place, _)) => Err(format!("line {line}: column {} has no name", place + 1)),
            None => Ok(()),
        }
    }

    fn number<T: Element>(self, field: &str) -> Result<T, String> {
        if self.missing.is_some_and(|missing| field.is_empty() || field == missing) {
            return Ok(T::from_f64(f64::NAN));
        }
        if field.is_empty() {
            return Err("a number is missing".into());
        }
        // Parsed in its own type, since by way of f64 a number could be rounded twice; in a fixed
        // environment, since the parser does floating-point arithmetic.
        let value = environment::within(Environment::KEEP, || {
            if simd::is::<T, f32>() {
                field.parse::<f32>().map(|x| T::from_f64(x.into()))
            } else {
                field.parse::<f64>().map(T::from_f64)
            }
        });
        let value = value.map_err(|_| format!("{field:?} is not a number"))?;
        let infinite = field.trim_start_matches(['+', '-']).starts_with(['i', 'I']);
        if value.to_f64().is_infinite() && !infinite {
            return Err(format!("{field} is too large for {}", T::NAME));
        }
        Ok(value)
    }

    /// The fields of a line, without their quotes and the blanks around them.
    fn fields(self, number: usize, line: &str) -> Result<Vec<String>, String> {
        let delimiter = char::from(self.delimiter);
        let mut fields = Vec::new();
        let mut rest = line;
        loop {
            let blank = |c: char| c.is_whitespace() && c != delimiter;
            let start = rest.trim_start_matches(blank);
            let Some(mut quoted) = start.strip_prefix('"') else {
                let (field, more) = match start.split_once(delimiter) {
                    Some((field, more)) => (field, Some(more)),
                    None => (start, None),
                };
                fields.push(field.trim_matches(blank).to_owned());
                match more {
                    Some(more) => rest = more,
                    None => return Ok(fields),
                }
                continue;
            };
            let mut field = String::new();
            loop {
                let Some((part, more)) = quoted.split_once('"') else {
                    return Err(format!("line {number}: field {} lacks its closing quote", fields.len() + 1));
                };
                field += part;
                match more.strip_prefix('"') {
                    Some(more) => {
                        field.push('"');
                        quoted = more;
                    }
                    None => {
                        quoted = more.trim_start_matches(blank);
                        break;
                    }
                }
            }
            fields.push(field);
            match quoted.strip_prefix(delimiter) {
                Some(more) => rest = more,
                None if quoted.is_empty() => return Ok(fields),
                None => {
                    return Err(format!("line {number}: text behind the quotes of field {}", fields.len()));
                }
            }
        }
    }
}
