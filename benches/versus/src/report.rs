//! What the race gave: lines for the terminal, JSON, and a page.

use std::fmt;

use serde_json::{Map, Value, json};

use crate::families::group_of;
use crate::race::{Result, Score, Standing, geometric_mean};

/// The rivals' best of each case, as if one contender.
const BEST: &str = "best rival";

/// Where the race was run, and who ran.
pub struct Machine {
    cpu: String,
    isa: String,
    threads: usize,
    cores: usize,
    rustc: String,
    rivals: Vec<String>,
}

impl Machine {
    pub fn new(threads: usize, rivals: Vec<String>) -> Result<Self> {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line = info.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let rustc = std::process::Command::new("rustc").arg("--version").output();
        let numbers = [field("cpu family"), field("model\t")].map(|n| n.unwrap_or_else(|| "?".into()));
        Ok(Self {
            cpu: format!(
                "{} (family {}, model {})",
                field("model name").unwrap_or_else(|| std::env::consts::ARCH.into()),
                numbers[0],
                numbers[1]
            ),
            isa: gristmill::context::settings()?.simd.isa().to_string(),
            threads,
            cores: std::thread::available_parallelism()?.get(),
            rustc: rustc
                .map_or_else(|_| "?".into(), |o| String::from_utf8_lossy(&o.stdout).trim().to_owned()),
            rivals,
        })
    }

    fn json(&self) -> Value {
        let Self { cpu, isa, threads, cores, rustc, rivals } = self;
        json!({ "cpu": cpu, "isa": isa, "threads": threads, "cores": cores, "rustc": rustc, "rivals": rivals })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, isa, threads, cores, rustc, rivals } = self;
        write!(
            f,
            "{threads} thread(s) of {cores} cores, {cpu}; gristmill with {isa}, {rustc}; {}",
            rivals.join(", ")
        )
    }
}

/// `12.3 µs`
fn time(nanoseconds: f64) -> String {
    match nanoseconds {
        ns if ns < 1e3 => format!("{ns:.0} ns"),
        ns if ns < 1e4 => format!("{:.2} µs", ns / 1e3),
        ns if ns < 1e6 => format!("{:.1} µs", ns / 1e3),
        ns => format!("{:.2} ms", ns / 1e6),
    }
}

/// Three or four digits of a ratio.
fn digits(ratio: f64) -> String {
    match ratio {
        r if r < 10.0 => format!("{r:.2}"),
        r if r < 100.0 => format!("{r:.1}"),
        r => format!("{r:.0}"),
    }
}

/// One race on one line: gristmill's time, and the others' as multiples of it.
pub fn line(score: &Score) -> String {
    let mut line = format!("{:<40} {:>9}", score.id, time(score.standings[0].median_ns));
    for standing in &score.standings[1..] {
        let [ratio, q1, q3] = [standing.ratio, standing.q1, standing.q3].map(digits);
        line += &format!("  {} {ratio} ({q1}–{q3})", standing.name);
    }
    if let Some(best) = score.best_rival() {
        line += &format!("  → best: {}", best.name);
    }
    line
}

/// What each part of a job took with each contender, and the last as a multiple of the second.
pub fn parts(score: &Score) -> String {
    let mut text = String::new();
    for Standing { name, parts_ns, .. } in &score.standings {
        let ms: Vec<String> = parts_ns.iter().map(|ns| format!("{:.0}", ns / 1e6)).collect();
        let drift = match parts_ns.as_slice() {
            [_, second, .., last] => last / second,
            _ => 1.0,
        };
        text += &format!("  {name:<16} {} ms, last / second {}\n", ms.join(" "), digits(drift));
    }
    text
}

/// The names of these races' groups, or families, in order.
fn kinds(scores: &[Score], kind: fn(&str) -> String) -> Vec<(String, Vec<&Score>)> {
    let mut kinds: Vec<(String, Vec<&Score>)> = Vec::new();
    for score in scores {
        let name = kind(&score.id);
        match kinds.iter_mut().find(|(known, _)| *known == name) {
            Some((_, members)) => members.push(score),
            None => kinds.push((name, vec![score])),
        }
    }
    kinds
}

fn family(id: &str) -> String {
    group_of(id).0
}

fn group(id: &str) -> String {
    group_of(id).1
}

/// Geometric means over these races: of the best rival, then of each contender that took part in all of them.
fn means(scores: &[&Score]) -> Vec<(String, f64)> {
    let best = geometric_mean(scores.iter().filter_map(|s| Some(s.best_rival()?.ratio)));
    let mut means: Vec<_> = best.map(|mean| (BEST.to_owned(), mean)).into_iter().collect();
    let find =
        |score: &Score, name: &str| score.standings[1..].iter().find(|s| s.name == name).map(|s| s.ratio);
    for Standing { name, .. } in &scores[0].standings[1..] {
        let ratios: Option<Vec<f64>> = scores.iter().map(|score| find(score, name)).collect();
        if let Some(mean) = ratios.and_then(|ratios| geometric_mean(ratios.into_iter())) {
            means.push((name.clone(), mean));
        }
    }
    means
}

/// The best rival's smallest ratio and where it is.
fn worst<'a>(scores: &[&'a Score]) -> Option<(&'a Score, &'a Standing)> {
    let bests = scores.iter().filter_map(|&score| Some((score, score.best_rival()?)));
    bests.min_by(|a, b| a.1.ratio.total_cmp(&b.1.ratio))
}

/// Means of each group.
pub fn summary(scores: &[Score]) -> String {
    let mut text =
        "\nTimes relative to gristmill's, geometric means (above 1, gristmill is faster):\n".to_owned();
    for (name, scores) in kinds(scores, group) {
        text += &format!("{name} ({} cases):", scores.len());
        for (name, mean) in means(&scores) {
            text += &format!("  {name} {}", digits(mean));
        }
        if let Some((score, rival)) = worst(&scores) {
            text += &format!("  | worst: {}, {} by {}", digits(rival.ratio), score.id, rival.name);
        }
        text.push('\n');
    }
    text
}

/// All figures.
pub fn json(machine: &Machine, scores: &[Score]) -> Result<String> {
    let case =
        |score: &Score| {
            let contenders: Map<String, Value> = score.standings.iter().map(|s| {
            let mut figures = json!({
                "median_ns": s.median_ns, "ratio_to_gristmill_median": s.ratio, "q1": s.q1, "q3": s.q3,
            });
            if !s.parts_ns.is_empty() {
                figures["parts_ns"] = json!(s.parts_ns);
            }
            (s.name.clone(), figures)
        }).collect();
            let (family, group) = group_of(&score.id);
            json!({
                "family": family, "group": group, "case": score.id, "threads": machine.threads,
                "contenders": contenders, "best_rival": score.best_rival().map(|s| &s.name),
            })
        };
    let geomean = |kind| -> Map<String, Value> {
        let of = |(name, scores): (String, Vec<&Score>)| {
            (name, means(&scores).into_iter().map(|(n, m)| (n, json!(m))).collect::<Map<_, _>>().into())
        };
        kinds(scores, kind).into_iter().map(of).collect()
    };
    let cases: Vec<Value> = scores.iter().map(case).collect();
    let all = json!({
        "machine": machine.json(), "cases": cases, "geomean": geomean(family), "geomean_by_group": geomean(group),
    });
    Ok(serde_json::to_string_pretty(&all)?)
}

const STYLE: &str = "
:root { color-scheme: light dark; --text: #1d2129; --dim: #667; --page: #fff; --line: #dde; --win: #2a7f62;
  --loss: #c2542d; --even: #8a8f98; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e8ec; --dim: #9aa; --page: #16181d; --line: #333843; --win: #4fb893; --loss: #ec8a5f; --even: #8b93a1; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page); margin: 2rem auto;
  max-width: 76rem; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; }
p { color: var(--dim); max-width: 60rem; }
svg { width: 100%; max-width: 52rem; height: auto; display: block; } svg text { font: 13px system-ui, sans-serif; fill: var(--text); }
svg .axis { stroke: var(--line); } svg .one { stroke: var(--text); stroke-dasharray: 4 3; }
svg .dim { fill: var(--dim); } .win { fill: var(--win); } .loss { fill: var(--loss); } .even { fill: var(--even); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .85rem; }
th, td { padding: .2rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
td.win { color: var(--win); } td.loss { color: var(--loss); font-weight: 600; }
td small { color: var(--dim); font-weight: 400; }
";

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Faster, slower, or within 5 %.
fn verdict(ratio: f64) -> &'static str {
    match ratio {
        r if r > 1.05 => "win",
        r if r < 0.95 => "loss",
        _ => "even",
    }
}

/// Horizontal bars on a logarithmic axis around 1.
fn bars(means: &[(String, f64)]) -> String {
    const LEFT: f64 = 170.0;
    const WIDTH: f64 = 540.0;
    const ROW: f64 = 24.0;
    let low = means.iter().fold(0.7, |low, (_, mean)| mean.min(low)) / 1.1;
    let high = means.iter().fold(1.5, |high, (_, mean)| mean.max(high)) * 1.1;
    let x = |ratio: f64| LEFT + WIDTH * (ratio / low).ln() / (high / low).ln();
    let height = ROW * means.len() as f64 + 30.0;
    let mut svg = format!("<svg viewBox='0 0 {} {height}' role='img'>", LEFT + WIDTH + 70.0);
    let ticks = [0.25, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0];
    let mut free = 0.0;
    for tick in ticks.into_iter().filter(|&tick| tick > low && tick < high) {
        let (at, bottom, class) = (x(tick), height - 24.0, if tick == 1.0 { "one" } else { "axis" });
        svg += &format!("<line class='{class}' x1='{at:.1}' x2='{at:.1}' y1='0' y2='{bottom}'/>");
        if at > free {
            svg += &format!(
                "<text class='dim' x='{at:.1}' y='{}' text-anchor='middle'>{tick}×</text>",
                height - 8.0
            );
            free = at + 34.0;
        }
    }
    for (row, (name, mean)) in means.iter().enumerate() {
        let (top, from, to) = (ROW * row as f64 + 4.0, x(1.0_f64.min(*mean)), x(1.0_f64.max(*mean)));
        svg += &format!(
            "<text x='{}' y='{}' text-anchor='end'>{}</text><rect class='{}' x='{from:.1}' y='{top}' width='{:.1}' \
             height='16' rx='2'/><text x='{:.1}' y='{}'>{}</text>",
            LEFT - 8.0,
            top + 13.0,
            escape(name),
            verdict(*mean),
            (to - from).max(1.0),
            to + 6.0,
            top + 13.0,
            digits(*mean),
        );
    }
    svg + "</svg>"
}

fn table(scores: &[&Score]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for standing in scores.iter().flat_map(|score| &score.standings[1..]) {
        if !names.contains(&standing.name.as_str()) {
            names.push(&standing.name);
        }
    }
    let mut html = "<div class='scroll'><table><tr><th>case</th><th>gristmill</th>".to_owned();
    names.iter().for_each(|name| html += &format!("<th>{}</th>", escape(name)));
    html += "<th>best rival</th></tr>";
    for score in scores {
        html += &format!("<tr><td>{}</td><td>{}</td>", escape(&score.id), time(score.standings[0].median_ns));
        for name in &names {
            html += &match score.standings[1..].iter().find(|s| s.name == *name) {
                Some(s) => {
                    let [ratio, q1, q3] = [s.ratio, s.q1, s.q3].map(digits);
                    format!("<td class='{}'>{ratio} <small>{q1}–{q3}</small></td>", verdict(s.ratio))
                }
                None => "<td>–</td>".to_owned(),
            };
        }
        html += &format!("<td>{}</td></tr>", escape(score.best_rival().map_or("–", |s| &s.name)));
    }
    html + "</table></div>"
}

/// One page with everything in it.
pub fn html(machine: &Machine, scores: &[Score]) -> String {
    let mut page = format!(
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><meta name='viewport' \
         content='width=device-width'><title>gristmill versus</title><style>{STYLE}</style></head><body>\
         <h1>gristmill versus its rivals</h1><p>{}</p><p>Times relative to gristmill's: above 1, gristmill is faster. \
         Contenders take turns, round by round; each figure is the median of the ratios of the rounds, with the \
         quartiles behind it. Bars are geometric means over the cases of the table below them.</p>",
        escape(&machine.to_string())
    );
    for (name, scores) in kinds(scores, group) {
        page += &format!("<h2>{}</h2>{}{}", escape(&name), bars(&means(&scores)), table(&scores));
    }
    page + "</body></html>\n"
}
