//! Line charts.

use super::{Anchor, COLORS, FAINT, INK, Picture, RULE, width_of};

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = WIDTH - 20.0;
const BOTTOM: f64 = HEIGHT - 48.0;
/// Lines with more points than this are drawn without markers.
const DOTS: usize = 40;

/// Curves in one chart.
///
/// Points that are not finite, or not positive on a logarithmic axis, leave gaps in their line.
///
/// ```
/// use gristmill::plot::Curves;
/// let points = (0..100).map(f64::from).map(|step| (step, (-0.1 * step).exp()));
/// let loss = Curves::new("loss").x_label("step").log_y().line("Adam", points);
/// assert!(loss.draw().to_svg().contains("Adam"));
/// ```
#[derive(Clone, Debug)]
pub struct Curves {
    title: String,
    x_label: String,
    log_y: bool,
    lines: Vec<(String, Vec<(f64, f64)>)>,
}

impl Curves {
    /// An empty chart.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), x_label: String::new(), log_y: false, lines: Vec::new() }
    }

    /// Sets the label of the x axis.
    #[must_use]
    pub fn x_label(mut self, label: impl Into<String>) -> Self {
        self.x_label = label.into();
        self
    }

    /// Makes the y axis logarithmic.
    #[must_use]
    pub fn log_y(mut self) -> Self {
        self.log_y = true;
        self
    }

    /// Adds a line through these points.
    #[must_use]
    pub fn line(mut self, name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        self.lines.push((name.into(), points.into_iter().collect()));
        self
    }

    /// Adds a line through the figures of epochs 1, 2, ….
    #[must_use]
    pub fn epochs(self, name: impl Into<String>, values: &[f64]) -> Self {
        let points: Vec<_> = values.iter().enumerate().map(|(i, &y)| ((i + 1) as f64, y)).collect();
        self.line(name, points)
    }

    fn seen(&self, (x, y): (f64, f64)) -> bool {
        x.is_finite() && y.is_finite() && (!self.log_y || y > 0.0)
    }

    /// The chart, 480 × 360.
    pub fn draw(&self) -> Picture {
        let mut picture = Picture::new(WIDTH, HEIGHT);
        picture.title(LEFT, &self.title);
        let top = self.legend(&mut picture) + 18.0;

        let seen =
            || self.lines.iter().flat_map(|(_, points)| points).copied().filter(|&point| self.seen(point));
        let xs = PlotAxis::linear(seen().map(|(x, _)| x), false);
        let ys = seen().map(|(_, y)| y);
        let ys = if self.log_y { PlotAxis::logarithmic(ys) } else { PlotAxis::linear(ys, true) };
        let place =
            |x: f64, y: f64| [LEFT + xs.share(x) * (RIGHT - LEFT), BOTTOM - ys.share(y) * (BOTTOM - top)];

        for (y, label) in &ys.ticks {
            let [_, y] = place(xs.low, *y);
            picture.line([LEFT, y], [RIGHT, y], RULE);
            picture.text([LEFT - 8.0, y + 4.0], Anchor::End, FAINT, "", label);
        }
        for (x, label) in &xs.ticks {
            let [x, _] = place(*x, ys.low);
            picture.line([x, BOTTOM], [x, BOTTOM + 4.0], FAINT);
            picture.text([x, BOTTOM + 18.0], Anchor::Middle, FAINT, "", label);
        }
        picture.line([LEFT, BOTTOM], [RIGHT, BOTTOM], FAINT);
        picture.text([(LEFT + RIGHT) / 2.0, BOTTOM + 38.0], Anchor::Middle, FAINT, "", &self.x_label);

        for ((_, points), color) in self.lines.iter().zip(COLORS.iter().cycle()) {
            for piece in points.split(|&point| !self.seen(point)).filter(|piece| !piece.is_empty()) {
                let places: Vec<_> = piece.iter().map(|&(x, y)| place(x, y)).collect();
                let path: Vec<_> = places.iter().map(|[x, y]| format!("{x:.1} {y:.1}")).collect();
                picture.put(format_args!(
                    "<path d=\"M{}\" stroke=\"{color}\" stroke-width=\"2\" stroke-linejoin=\"round\" fill=\"none\"/>",
                    path.join("L")
                ));
                // A point between two gaps would be invisible without a marker.
                if points.len() <= DOTS || piece.len() == 1 {
                    for [x, y] in places {
                        picture.put(format_args!(
                            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{color}\" stroke=\"white\"/>"
                        ));
                    }
                }
            }
        }
        picture
    }

    /// Writes the names of the lines below the title, in as many rows as they need; returns the end of the
    /// last row.
    fn legend(&self, picture: &mut Picture) -> f64 {
        let (mut x, mut y) = (LEFT, 46.0);
        for ((name, _), color) in self.lines.iter().zip(COLORS.iter().cycle()) {
            let width = 24.0 + width_of(name) + 18.0;
            if x > LEFT && x + width > WIDTH {
                (x, y) = (LEFT, y + 18.0);
            }
            picture.put(format_args!(
                "<path d=\"M{x} {}h18\" stroke=\"{color}\" stroke-width=\"3\" stroke-linecap=\"round\"/>",
                y - 4.0
            ));
            picture.text([x + 24.0, y], Anchor::Start, INK, "", name);
            x += width;
        }
        y
    }
}

/// The range of an axis, and the positions of its labels.
struct PlotAxis {
    low: f64,
    high: f64,
    logarithmic: bool,
    ticks: Vec<(f64, String)>,
}

impl PlotAxis {
    /// 0 at the low end, 1 at the high end.
    fn share(&self, x: f64) -> f64 {
        let (low, high, x) =
            if self.logarithmic { (self.low.ln(), self.high.ln(), x.ln()) } else { (self.low, self.high, x) };
        // Halved first, so that the difference of huge numbers does not overflow.
        let span = high / 2.0 - low / 2.0;
        if span > 0.0 { (x / 2.0 - low / 2.0) / span } else { 0.5 }
    }

    /// A linear axis: with `room`, it extends a little beyond the numbers, and starts at 0 if that is not far
    /// from them. If all numbers are integers, such as epochs, so are the labels.
    fn linear(numbers: impl Iterator<Item = f64> + Clone, room: bool) -> Self {
        let whole = !room && numbers.clone().all(|x| x.fract() == 0.0);
        let (mut low, mut high) = ends(numbers).unwrap_or((0.0, 1.0));
        if room && low > 0.0 && low < 0.5 * high {
            low = 0.0;
        }
        if low == high {
            let around = if low == 0.0 { 1.0 } else { 0.5 * low.abs() };
            (low, high) = ((low - around).max(f64::MIN), (high + around).min(f64::MAX));
        } else if room {
            high = (high + 0.05 * (high / 2.0 - low / 2.0)).min(f64::MAX);
        }
        // 1, 2 or 5 times a power of ten, so that there are 4 to 10 steps.
        let rough = (high / 4.0 - low / 4.0).max(f64::MIN_POSITIVE);
        let power = 10_f64.powi(rough.log10().floor() as i32);
        let step =
            [5.0, 2.0, 1.0].into_iter().map(|k| k * power).find(|&step| step <= rough).unwrap_or(rough);
        let step = if whole { step.max(1.0) } else { step };
        let first = (low / step).ceil();
        let ticks = (0..12)
            .map(|i| (first + f64::from(i)) * step)
            .take_while(|&tick| tick.is_finite() && tick <= high + 1e-9 * step)
            .map(|tick| (tick, label(tick, step)))
            .collect();
        Self { low, high, logarithmic: false, ticks }
    }

    fn logarithmic(numbers: impl Iterator<Item = f64>) -> Self {
        let (low, high) = ends(numbers).unwrap_or((0.1, 1.0));
        // Integer powers of ten, or also halves and fifths of them if there are few.
        let few = high / low < 30.0;
        let factors: &[f64] = if few { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
        let every = if few { 1 } else { 1 + (last - first) / 8 };
        let ticks = (first..=last)
            .filter(|exponent| (exponent - first) % every == 0)
            .flat_map(|exponent| factors.iter().map(move |factor| factor * 10_f64.powi(exponent)));
        let ticks: Vec<f64> = ticks.filter(|tick| tick.is_normal()).collect();
        // From the last tick at or below the numbers to the first at or above them.
        let from = ticks.iter().rev().copied().find(|&tick| tick <= low * 1.001).unwrap_or(low);
        let to = ticks.iter().copied().find(|&tick| tick >= high * 0.999).unwrap_or(high);
        let to = if to > from { to } else { from * 2.0 };
        let ticks = ticks.into_iter().filter(|tick| (from..=to).contains(tick));
        Self {
            low: from,
            high: to,
            logarithmic: true,
            ticks: ticks.map(|tick| (tick, label(tick, tick))).collect(),
        }
    }
}

fn ends(numbers: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    numbers.fold(None, |ends, x| {
        let (low, high) = ends.unwrap_or((x, x));
        Some((x.min(low), x.max(high)))
    })
}

/// A number with enough digits to tell it from its neighbours, which are `step` away.
fn label(number: f64, step: f64) -> String {
    if number.abs() < 1e-9 * step {
        return "0".into();
    }
    let largest = number.abs().max(step);
    if !(1e-4..1e6).contains(&largest) {
        // Formats by the power of ten of the step, with the digits of the number down to it.
        let digits = (largest.log10().floor() - step.log10().floor()).clamp(0.0, 15.0) as usize;
        return format!("{number:.digits$e}");
    }
    let digits = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
    format!("{number:.digits$}")
}
