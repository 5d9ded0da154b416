//! A benchmark's result: figures, the machine's limits beside them, and the conditions that they were measured under.

use std::{fmt::Write as _, fs, thread};

use serde_json::{Map, Value, json};
use service_kit::clock::{Clock, SystemClock};
use time::format_description::well_known::Rfc3339;

use super::{Effort, cpu::Cpu, load::Outcome};

/// What one benchmark found, in the order in which it was found.
#[derive(Debug)]
pub(super) struct Report {
    name: String,
    figures: Vec<(String, Value)>,
    limits: Vec<(String, Value)>,
    conditions: Vec<(String, Value)>,
}

impl Report {
    /// A report that knows the machine and the build.
    pub(super) fn new(name: String, effort: Effort) -> Self {
        let mut report = Self {
            name,
            figures: Vec::new(),
            limits: Vec::new(),
            conditions: Vec::new(),
        };
        report.limit("cores", thread::available_parallelism().map_or(0, usize::from));
        report.limit("cpu_model", cpu_model());
        report.condition("build", build());
        report.condition("version", env!("CARGO_PKG_VERSION"));
        report.condition("quick", effort.quick);
        report.condition("time", SystemClock.now().format(&Rfc3339).unwrap_or_default());
        report.condition("load_average_before", load_average());
        report
    }

    /// Adds a figure; its name ends in its unit.
    pub(super) fn figure(&mut self, name: impl Into<String>, value: f64) {
        self.figures.push((name.into(), json!(rounded(value))));
    }

    /// Adds a number of something.
    pub(super) fn count(&mut self, name: impl Into<String>, value: usize) {
        self.figures.push((name.into(), value.into()));
    }

    /// Adds what the machine allows.
    pub(super) fn limit(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        let value = value.into();
        let value = match value.as_f64() {
            Some(number) if value.is_f64() => json!(rounded(number)),
            _ => value,
        };
        self.limits.push((name.into(), value));
    }

    /// Adds something that the figures depend on.
    pub(super) fn condition(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        self.conditions.push((name.into(), value.into()));
    }

    /// Adds a load's rate, latencies and CPU; `suffix` names the load where there are several.
    pub(super) fn load(&mut self, rate: &str, suffix: &str, measured: &Measured) {
        self.figure(format!("{rate}{suffix}"), measured.rate);
        self.figure(format!("p50_ms{suffix}"), measured.p50_ms);
        self.figure(format!("p99_ms{suffix}"), measured.p99_ms);
        self.cpu(suffix, measured);
    }

    /// Adds what 1,000 of something cost: service and PostgreSQL together, and each process alone.
    pub(super) fn cpu(&mut self, suffix: &str, measured: &Measured) {
        let cpu = measured.cpu;
        self.figure(format!("cpu_s_per_1000{suffix}"), cpu.service + cpu.postgres);
        self.figure(format!("cpu_s_per_1000_service{suffix}"), cpu.service);
        self.figure(format!("cpu_s_per_1000_postgres{suffix}"), cpu.postgres);
        self.figure(format!("cpu_s_per_1000_stub{suffix}"), cpu.stub);
        self.figure(format!("cpu_s_per_1000_driver{suffix}"), cpu.driver);
    }

    /// The report as one value.
    pub(super) fn json(&self) -> Value {
        let object = |pairs: &[(String, Value)]| -> Map<String, Value> { pairs.iter().cloned().collect() };
        json!({
            "name": self.name,
            "figures": object(&self.figures),
            "limits": object(&self.limits),
            "conditions": object(&self.conditions),
        })
    }
}

/// All reports as one table for people.
pub(super) fn table(reports: &[Report]) -> String {
    let mut text = String::new();
    for report in reports {
        for (part, pairs) in [
            ("", &report.figures),
            ("limit: ", &report.limits),
            ("condition: ", &report.conditions),
        ] {
            for (name, value) in pairs {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                // A String takes everything.
                let _ = writeln!(text, "{:<14} {:<44} {value}", report.name, format!("{part}{name}"));
            }
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text
}

/// One measurement of a load, its CPU for 1,000 of what was done.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Measured {
    pub(super) rate: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) cpu: Cpu,
}

impl Measured {
    /// From what a load did and the CPU that passed meanwhile.
    pub(super) fn new(outcome: &Outcome, used: Cpu) -> Self {
        let per_1000 = |seconds: f64| seconds * 1000.0 / outcome.count().max(1.0);
        Self {
            rate: outcome.rate(),
            p50_ms: outcome.quantile_ms(0.5),
            p99_ms: outcome.quantile_ms(0.99),
            cpu: Cpu {
                service: per_1000(used.service),
                postgres: per_1000(used.postgres),
                stub: per_1000(used.stub),
                driver: per_1000(used.driver),
            },
        }
    }

    /// Which of them has the highest rate.
    pub(super) fn best(of: &[Self]) -> usize {
        let rates = of.iter().map(|it| it.rate).enumerate();
        rates.max_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(index, _)| index)
    }

    /// Each value's median over several rounds.
    pub(super) fn median_of(rounds: &[Self]) -> Self {
        let of = |value: fn(&Self) -> f64| median(rounds.iter().map(value).collect());
        Self {
            rate: of(|it| it.rate),
            p50_ms: of(|it| it.p50_ms),
            p99_ms: of(|it| it.p99_ms),
            cpu: Cpu {
                service: of(|it| it.cpu.service),
                postgres: of(|it| it.cpu.postgres),
                stub: of(|it| it.cpu.stub),
                driver: of(|it| it.cpu.driver),
            },
        }
    }
}

/// What was measured with some number of callers, round by round.
#[derive(Debug, Clone)]
pub(super) struct Series {
    pub(super) callers: usize,
    pub(super) rounds: Vec<Measured>,
}

impl Series {
    /// One for each number of callers, empty yet.
    pub(super) fn of(callers: &[usize]) -> Vec<Self> {
        callers
            .iter()
            .map(|&callers| Self {
                callers,
                rounds: Vec::new(),
            })
            .collect()
    }

    /// The medians.
    pub(super) fn median(&self) -> Measured {
        Measured::median_of(&self.rounds)
    }
}

/// The middle value, the mean of the two middle ones of an even number; 0 of none.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.len().saturating_sub(1) / 2, values.len() / 2);
    match (values.get(low), values.get(high)) {
        (Some(low), Some(high)) => f64::midpoint(*low, *high),
        _ => 0.0,
    }
}

/// Four significant digits: more would claim what no such measurement knows.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

const fn build() -> &'static str {
    if cfg!(debug_assertions) {
        "DEBUG: the figures mean nothing"
    } else {
        "optimised"
    }
}

fn cpu_model() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name"));
    model
        .map(|it| it.trim_start_matches([' ', '\t', ':']).to_owned())
        .unwrap_or_default()
}

fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_or_the_mean_of_the_two_middle_ones() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(vec![]).abs() < f64::EPSILON);
    }

    #[test]
    fn a_figure_has_four_significant_digits() {
        for (value, shown) in [(12_345.6, "12350.0"), (0.012_345_6, "0.01235"), (0.0, "0.0")] {
            assert_eq!(json!(rounded(value)).to_string(), shown);
        }
    }
}
