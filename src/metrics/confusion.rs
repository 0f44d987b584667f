//! Which classes are confused with which.

use std::fmt;

use super::check_labels;
use crate::error::{Error, Result};

/// Counts of predictions by class: a row for each actual class, a column for each predicted one.
///
/// A ratio whose denominator is 0, such as the recall of a class that does not occur, is NaN.
///
/// ```
/// use gristmill::metrics::ConfusionMatrix;
/// let mut confusion = ConfusionMatrix::new(2).names(["cat", "dog"])?;
/// confusion.add(&[0, 1, 1, 1], &[0, 0, 1, 1])?;
/// assert_eq!((confusion.accuracy(), confusion.recall(0), confusion.precision(0)), (0.75, 0.5, 1.0));
/// println!("{confusion}\n{}", confusion.report());
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfusionMatrix {
    counts: Vec<u64>,
    names: Vec<String>,
}

impl ConfusionMatrix {
    /// An empty matrix; the classes are called `0`, `1`, ….
    pub fn new(classes: usize) -> Self {
        Self {
            counts: vec![0; classes * classes],
            names: (0..classes).map(|class| class.to_string()).collect(),
        }
    }

    /// Sets the names of the classes.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are more or fewer names than classes.
    pub fn names(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Result<Self> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        if names.len() != self.classes() {
            let message = format!("{} names for {} classes", names.len(), self.classes());
            return Err(Error::shape("ConfusionMatrix::names", message));
        }
        self.names = names;
        Ok(self)
    }

    /// Counts predictions and the correct labels; all of them or, on an error, none.
    ///
    /// # Errors
    /// [`Error::Shape`] if their numbers differ; [`Error::Value`] if one is not a class.
    pub fn add(&mut self, predictions: &[usize], labels: &[usize]) -> Result<()> {
        const OP: &str = "ConfusionMatrix::add";
        if predictions.len() != labels.len() {
            let message = format!("{} predictions for {} labels", predictions.len(), labels.len());
            return Err(Error::shape(OP, message));
        }
        let classes = self.classes();
        check_labels(OP, predictions, classes)?;
        check_labels(OP, labels, classes)?;
        for (predicted, label) in predictions.iter().zip(labels) {
            self.counts[label * classes + predicted] += 1;
        }
        Ok(())
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.names.len()
    }

    /// The name of a class.
    ///
    /// # Panics
    /// If there is no such class.
    pub fn name(&self, class: usize) -> &str {
        &self.names[class]
    }

    /// How many samples of class `actual` were predicted as class `predicted`.
    ///
    /// # Panics
    /// If there is no such class.
    pub fn count(&self, actual: usize, predicted: usize) -> u64 {
        assert!(predicted < self.classes(), "there is no class {predicted} among {}", self.classes());
        self.counts[actual * self.classes() + predicted]
    }

    /// The number of samples.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The number of misclassified samples.
    pub fn wrong(&self) -> u64 {
        self.total() - (0..self.classes()).map(|class| self.count(class, class)).sum::<u64>()
    }

    /// The number of samples of a class.
    pub fn support(&self, class: usize) -> u64 {
        (0..self.classes()).map(|predicted| self.count(class, predicted)).sum()
    }

    fn predicted(&self, class: usize) -> u64 {
        (0..self.classes()).map(|actual| self.count(actual, class)).sum()
    }

    /// The fraction of misclassified samples.
    pub fn error(&self) -> f64 {
        self.wrong() as f64 / self.total() as f64
    }

    /// The fraction of correctly classified samples.
    pub fn accuracy(&self) -> f64 {
        (self.total() - self.wrong()) as f64 / self.total() as f64
    }

    /// The fraction of the samples of a class that were classified as another one: 1 − recall.
    pub fn class_error(&self, class: usize) -> f64 {
        let support = self.support(class);
        (support - self.count(class, class)) as f64 / support as f64
    }

    /// Of the samples classified as a class, the fraction that belongs to it.
    pub fn precision(&self, class: usize) -> f64 {
        self.count(class, class) as f64 / self.predicted(class) as f64
    }

    /// The fraction of the samples of a class that were classified as such.
    pub fn recall(&self, class: usize) -> f64 {
        self.count(class, class) as f64 / self.support(class) as f64
    }

    /// The harmonic mean of precision and recall, 2·TP / (2·TP + FP + FN).
    pub fn f1(&self, class: usize) -> f64 {
        2.0 * self.count(class, class) as f64 / (self.support(class) + self.predicted(class)) as f64
    }

    /// The mean of the F1 of all classes, with equal weights. Classes that neither occur nor are predicted
    /// are ignored.
    pub fn macro_f1(&self) -> f64 {
        let scores: Vec<f64> =
            (0..self.classes()).map(|class| self.f1(class)).filter(|f1| !f1.is_nan()).collect();
        scores.iter().sum::<f64>() / scores.len() as f64
    }

    /// A table of the classes: precision, recall, F1, error, number of samples, and the class that a class is
    /// most often confused with.
    pub fn report(&self) -> String {
        let wide = self.widest();
        let row = |cells: [&str; 7]| {
            let [class, precision, recall, f1, error, samples, taken] = cells;
            let numbers = format!("{precision:>9} {recall:>9} {f1:>7} {error:>9} {samples:>9}");
            format!("{class:>wide$}  {numbers}  {taken}").trim_end().to_owned() + "\n"
        };
        let mut text = row(["class", "precision", "recall", "F1", "error", "samples", "taken for"]);
        let percent = |x: f64| if x.is_nan() { "–".to_owned() } else { format!("{:.2} %", 100.0 * x) };
        for class in 0..self.classes() {
            let taken = (0..self.classes())
                .filter(|&other| other != class && self.count(class, other) > 0)
                .max_by_key(|&other| (self.count(class, other), std::cmp::Reverse(other)))
                .map(|other| format!("{} ({})", self.names[other], self.count(class, other)));
            let f1 = self.f1(class);
            text += &row([
                &self.names[class],
                &percent(self.precision(class)),
                &percent(self.recall(class)),
                &if f1.is_nan() { "–".to_owned() } else { format!("{f1:.4}") },
                &percent(self.class_error(class)),
                &self.support(class).to_string(),
                &taken.unwrap_or_default(),
            ]);
        }
        text
    }

    /// The characters of the longest name or count.
    fn widest(&self) -> usize {
        let names = self.names.iter().map(|name| name.chars().count());
        let counts = self.counts.iter().map(|count| count.to_string().len());
        names.chain(counts).max().unwrap_or(0).max("class".len())
    }
}

/// The counts, a row for each actual class; names that are longer than the counts are truncated in the column
/// heads.
impl fmt::Display for ConfusionMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wide = self.widest();
        let count = self.counts.iter().max().unwrap_or(&0).to_string().len().max(5);
        write!(f, "{:>wide$} ", "")?;
        for name in &self.names {
            write!(f, " {:>count$}", name.chars().take(count).collect::<String>())?;
        }
        writeln!(f, "  ← predicted")?;
        for (actual, name) in self.names.iter().enumerate() {
            write!(f, "{name:>wide$} ")?;
            for predicted in 0..self.classes() {
                match self.count(actual, predicted) {
                    0 => write!(f, " {:>count$}", "·")?,
                    times => write!(f, " {times:>count$}")?,
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
