//! The rooflines as a picture: a panel per instruction set and number of threads, operations per second over
//! operations per byte, kernels as numbered points. A level's line is that of its fastest mix of reads and
//! writes; a kernel's own roof is that of its mix. Updates in place, which fetch no line to overwrite it, can
//! lie above a line.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::probes::Machine;
use crate::roof::{Configuration, Kernel};

const CHART_WIDTH: u32 = 860;
const LEGEND_WIDTH: u32 = 420;
/// Pixels from line to line of the legend.
const LINE: i32 = 17;
const FONT: (&str, i32) = ("sans-serif", 13);

type Result<T> = std::result::Result<T, Box<dyn Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

pub fn draw(file: &Path, machine: &Machine, configurations: &[Configuration]) -> Result<()> {
    let lines =
        configurations.iter().map(|configuration| chosen(&configuration.kernels).len()).max().unwrap_or(0);
    let height = (70 + lines as u32 * LINE as u32).max(640);
    let size = (CHART_WIDTH + LEGEND_WIDTH, height * configurations.len() as u32);
    let root = SVGBackend::new(file, size).into_drawing_area();
    root.fill(&WHITE)?;
    for (panel, configuration) in root.split_evenly((configurations.len(), 1)).iter().zip(configurations) {
        draw_panel(&root, panel, machine, configuration)?;
    }
    root.present()?;
    Ok(())
}

fn draw_panel(root: &Area, panel: &Area, machine: &Machine, configuration: &Configuration) -> Result<()> {
    let kernels = chosen(&configuration.kernels);
    let peak = configuration.gflops_f32;
    let [mut x_min, mut x_max, mut y_min] = [0.125, 64.0, 1.0];
    for kernel in &kernels {
        (x_min, x_max) = (kernel.intensity.min(x_min), kernel.intensity.max(x_max));
        y_min = kernel.hot.gflops.min(y_min);
    }
    // On the left, an octave for labels.
    let (x_min, x_max, y_min) = (octave(x_min) / 2.0, 2.0 * octave(x_max), octave(y_min));

    let (left, legend) = panel.split_horizontally(CHART_WIDTH);
    let Configuration { isa, threads, .. } = configuration;
    let mut chart = ChartBuilder::on(&left)
        .caption(
            format!("{}, {isa}, {threads} thread{}", machine.cpu, if *threads == 1 { "" } else { "s" }),
            ("sans-serif", 18),
        )
        .margin(10)
        .x_label_area_size(45)
        .y_label_area_size(60)
        .build_cartesian_2d(
            (x_min..x_max).log_scale().base(2.0),
            (y_min..4.0 * octave(peak)).log_scale().base(2.0),
        )?;
    let number = |x: &f64| if *x < 1.0 { format!("1/{}", 1.0 / x) } else { format!("{x}") };
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.1))
        .x_labels(20)
        .y_labels(20)
        .x_label_formatter(&number)
        .y_label_formatter(&number)
        .label_style(FONT)
        .axis_desc_style(("sans-serif", 15))
        .x_desc("operations per byte")
        .y_desc("GFLOP/s")
        .draw()?;

    let mut labels = Labels { root, taken: vec![] };
    for (element, peak) in [("f32", peak), ("f64", configuration.gflops_f64)] {
        chart.draw_series(LineSeries::new([(x_min, peak), (x_max, peak)], BLACK.stroke_width(1)))?;
        let (x, y) = chart.backend_coord(&(x_max, peak));
        labels.write(&format!("multiply-adds in {element}: {peak:.0} GFLOP/s"), (x - 220, y - 15), &BLACK)?;
    }
    let (mut levels, mut next) = (vec![], i32::MIN);
    let (_, bottom) = chart.backend_coord(&(x_min, y_min));
    for level in &configuration.levels {
        let rate = [level.read, level.triad, level.copy, level.write].into_iter().fold(0.0, f64::max);
        let line = [(x_min.max(y_min / rate), y_min.max(x_min * rate)), (peak / rate, peak)];
        chart.draw_series(LineSeries::new(line, BLACK.stroke_width(1)))?;
        let (x, y) = chart.backend_coord(&line[0]);
        // Under its line, and under the label of a level that is hardly faster; right of a line that starts
        // at the bottom.
        let top = (y + 2).max(next).min(bottom - LINE);
        let aside = (y + 2 - top).max(0);
        next = top + LINE;
        levels.push((format!("{} {rate:.0} GB/s", level.level), (x + 10 + aside, top)));
    }
    for (text, place) in levels {
        labels.write(&text, place, &BLACK)?;
    }

    let points: Vec<(i32, i32)> =
        kernels.iter().map(|kernel| chart.backend_coord(&(kernel.intensity, kernel.hot.gflops))).collect();
    labels.taken.extend(points.iter().map(|&(x, y)| [x - 5, y - 5, x + 5, y + 5]));
    legend.draw(&Text::new("kernel, and percent of its own roof", (10, 24), FONT.into_font()))?;
    for (i, (kernel, &point)) in kernels.iter().zip(&points).enumerate() {
        let color = color(&kernels, kernel);
        labels.write_near(&(i + 1).to_string(), point, &color)?;
        root.draw(&Circle::new(point, 4, color.filled()))?;
        let line = format!("{}  {}: {:.0} %", i + 1, kernel.id, kernel.hot.percent.median);
        let place = (10, 48 + i as i32 * LINE);
        legend.draw(&Text::new(line, place, FONT.into_font().color(&color)))?;
    }
    Ok(())
}

/// Of each operation and element type the largest size that fits a cache, or any; without those that compute
/// nothing but integers, which have no place on the picture.
fn chosen(kernels: &[Kernel]) -> Vec<&Kernel> {
    let mut by_operation: BTreeMap<&str, &Kernel> = BTreeMap::new();
    for kernel in kernels.iter().filter(|kernel| kernel.flops > 0.0) {
        let operation = kernel.id.rsplit_once('/').map_or("", |(operation, _)| operation);
        let chosen = by_operation.entry(operation).or_insert(kernel);
        let size = |kernel: &Kernel| kernel.cold.as_ref().map(|_| kernel.bytes_read + kernel.bytes_written);
        if size(kernel) > size(chosen) {
            *chosen = kernel;
        }
    }
    by_operation.into_values().collect()
}

/// One hue per family.
fn color(kernels: &[&Kernel], kernel: &Kernel) -> HSLColor {
    let family = |kernel: &Kernel| kernel.id.split('/').next().map(str::to_owned);
    let mut families: Vec<_> = kernels.iter().map(|kernel| family(kernel)).collect();
    families.dedup();
    let place = families.iter().position(|other| *other == family(kernel)).unwrap_or(0);
    HSLColor(place as f64 / families.len() as f64, 0.9, 0.35)
}

/// The power of two at or below `x`.
fn octave(x: f64) -> f64 {
    x.log2().floor().exp2()
}

/// Text on the picture, on white, that does not cover other text or points.
struct Labels<'a, 'b> {
    root: &'a Area<'b>,
    /// Left, top, right and bottom of what is there.
    taken: Vec<[i32; 4]>,
}

impl Labels<'_, '_> {
    /// At this left upper corner.
    fn write(&mut self, text: &str, (left, top): (i32, i32), color: &impl Color) -> Result<()> {
        let [_, _, right, bottom] = extent(text, (left, top));
        self.taken.push([left, top, right, bottom]);
        self.root.draw(&Rectangle::new([(left, top), (right, bottom)], WHITE.filled()))?;
        self.root.draw(&Text::new(text.to_owned(), (left, top), FONT.into_font().color(color)))?;
        Ok(())
    }

    /// As near to the point as there is room, with a line to it.
    fn write_near(&mut self, text: &str, (x, y): (i32, i32), color: &impl Color) -> Result<()> {
        let [_, _, width, height] = extent(text, (0, 0));
        let around = |step: i32| {
            let (distance, angle) =
                (12.0 + f64::from(step / 16) * 8.0, f64::from(step % 16) * 22.5_f64.to_radians());
            let (dx, dy) = (distance * angle.cos(), distance * angle.sin());
            (x + dx as i32 - width / 2, y - dy as i32 - height / 2)
        };
        let is_free = |place: &(i32, i32)| {
            let [left, top, right, bottom] = extent(text, *place);
            self.taken.iter().all(|&[l, t, r, b]| right < l || r < left || bottom < t || b < top)
        };
        let place = (0..160).map(around).find(is_free).unwrap_or(around(0));
        let middle = (place.0 + width / 2, place.1 + height / 2);
        self.root.draw(&PathElement::new([(x, y), middle], color.mix(0.5)))?;
        self.write(text, place, color)
    }
}

/// What text takes, its letters being 7 pixels wide.
fn extent(text: &str, (left, top): (i32, i32)) -> [i32; 4] {
    [left, top, left + 7 * text.chars().count() as i32, top + FONT.1]
}
