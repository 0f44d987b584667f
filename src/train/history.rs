//! The figures of each epoch.

use std::fmt;
use std::io::Write;
use std::path::Path;

use crate::data::{Csv, CsvFormat};
use crate::error::{Error, Result};
use crate::files::replace;

/// A table of figures: a row for each epoch, a column for each name. In CSV and JSON, each number has enough
/// digits to be read back exactly.
///
/// ```
/// use gristmill::train::History;
/// let mut history = History::new();
/// history.push(&[("loss", 0.5), ("error", 0.1)])?;
/// history.push(&[("loss", 0.25), ("error", 0.05)])?;
/// assert_eq!(history.to_csv(), "loss,error\n0.5,0.1\n0.25,0.05\n");
/// let json = "[\n  {\"loss\": 0.5, \"error\": 0.1},\n  {\"loss\": 0.25, \"error\": 0.05}\n]\n";
/// assert_eq!(history.to_json(), json);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    names: Vec<String>,
    /// By column.
    values: Vec<Vec<f64>>,
}

impl History {
    /// An empty table; the first row names the columns.
    pub const fn new() -> Self {
        Self { names: Vec::new(), values: Vec::new() }
    }

    /// Adds a row with the names of the first row, in their order.
    ///
    /// # Errors
    /// [`Error::Value`] if the names are not those of the first row, or if one is repeated, is empty or
    /// contains line breaks or other control characters.
    pub fn push(&mut self, row: &[(&str, f64)]) -> Result<()> {
        const OP: &str = "History::push";
        let names = || row.iter().map(|&(name, _)| name);
        if self.names.is_empty() {
            let bad = |(i, name): (usize, &str)| {
                name.is_empty()
                    || name.contains(char::is_control)
                    || names().take(i).any(|other| other == name)
            };
            if row.is_empty() || names().enumerate().any(bad) {
                let message = format!("a row needs names, each once, got {:?}", names().collect::<Vec<_>>());
                return Err(Error::value(OP, message));
            }
            self.names = names().map(str::to_owned).collect();
            self.values = vec![Vec::new(); row.len()];
        } else if !names().eq(self.names.iter().map(String::as_str)) {
            let found: Vec<_> = names().collect();
            return Err(Error::value(OP, format!("a row of {found:?} in a table of {:?}", self.names)));
        }
        row.iter().zip(&mut self.values).for_each(|(&(_, value), column)| column.push(value));
        Ok(())
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.values.first().map_or(0, Vec::len)
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The names of the columns.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The figures of a column, one per row; empty if there is no such column.
    pub fn column(&self, name: &str) -> &[f64] {
        let place = self.names.iter().position(|known| known == name);
        place.map_or(&[], |place| &self.values[place])
    }

    /// A line of names, then a line for each row. Numbers that are not finite are `NaN`, `inf` and `-inf`.
    pub fn to_csv(&self) -> String {
        let names: Vec<String> = self.names.iter().map(|name| csv_field(name)).collect();
        let mut text = names.join(",") + "\n";
        for row in 0..self.len() {
            let numbers: Vec<String> = self.values.iter().map(|column| column[row].to_string()).collect();
            text += &(numbers.join(",") + "\n");
        }
        text
    }

    /// An array with an object for each row. JSON cannot represent numbers that are not finite: they become
    /// `null`.
    pub fn to_json(&self) -> String {
        let row = |row: usize| {
            let pairs = self.names.iter().zip(&self.values).map(|(name, column)| {
                let number = Some(column[row]).filter(|x| x.is_finite());
                format!("{}: {}", json_string(name), number.map_or("null".into(), |x| format!("{x:?}")))
            });
            format!("\n  {{{}}}", pairs.collect::<Vec<_>>().join(", "))
        };
        format!("[{}\n]\n", (0..self.len()).map(row).collect::<Vec<_>>().join(","))
    }

    /// Writes [`to_json`](History::to_json) to a file whose name ends in `.json`, otherwise
    /// [`to_csv`](History::to_csv), by way of a temporary file in the same folder.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        let text = if json { self.to_json() } else { self.to_csv() };
        replace(path, |file| file.write_all(text.as_bytes()))
            .map_err(|error| Error::file(path, format!("cannot be written: {error}")))
    }

    /// Reads a file written from [`to_csv`](History::to_csv).
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be read or parsed; [`Csv::read`] describes the format.
    pub fn read_csv(path: impl AsRef<Path>) -> Result<Self> {
        // The names in such a file may be numbers.
        let table: Csv<f64> = CsvFormat::default().read_named(path.as_ref(), |_, _, _| Ok(()))?;
        let (names, numbers) = (table.names().to_vec(), table.values().to_vec());
        let column = |place: usize| numbers.iter().skip(place).step_by(names.len()).copied().collect();
        Ok(Self { values: (0..names.len()).map(column).collect(), names })
    }
}

/// The table with four decimals.
impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wide = |name: &str| name.chars().count().max(10);
        for name in &self.names {
            write!(f, " {name:>0$}", wide(name))?;
        }
        for row in 0..self.len() {
            writeln!(f)?;
            for (name, column) in self.names.iter().zip(&self.values) {
                write!(f, " {:>1$.4}", column[row], wide(name))?;
            }
        }
        writeln!(f)
    }
}

/// In quotes if necessary.
fn csv_field(text: &str) -> String {
    if text.contains([',', '"', '\r', '\n']) || text.trim() != text {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text.to_owned()
}

fn json_string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}
