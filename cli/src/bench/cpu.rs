//! The CPU and memory that processes have used, from /proc.
//!
//! PostgreSQL's share is its first process, the backends that it has waited for, and those that run now: short-lived
//! backends are in the first one's sum of ended children.

use std::{fs, ops::Sub};

use anyhow::{Context, Result, bail};

/// The kernel counts in hundredths of a second for every program (USER_HZ), whatever it ticks with itself.
const TICKS_PER_SECOND: f64 = 100.0;
/// A server starts and ends a backend now and then, not all the time.
const LOOKS: usize = 100;

/// The processes beside this one, by id.
#[derive(Debug, Clone, Copy)]
pub(super) struct Processes {
    pub(super) service: u32,
    pub(super) postgres: u32,
    pub(super) stub: Option<u32>,
}

/// CPU-seconds by process.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cpu {
    pub(super) service: f64,
    pub(super) postgres: f64,
    pub(super) stub: f64,
    pub(super) driver: f64,
}

impl Processes {
    /// What they have used since they started; the driver is this process.
    pub(super) fn cpu(self) -> Result<Cpu> {
        Ok(Cpu {
            service: used(self.service)?,
            postgres: family(self.postgres)?,
            stub: self.stub.map_or(Ok(0.0), used)?,
            driver: used(std::process::id())?,
        })
    }
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            service: self.service - earlier.service,
            postgres: self.postgres - earlier.postgres,
            stub: self.stub - earlier.stub,
            driver: self.driver - earlier.driver,
        }
    }
}

/// CPU-seconds of one process, its ended children not counted.
pub(super) fn used(pid: u32) -> Result<f64> {
    let stat = Stat::of(pid)?;
    Ok(stat.own / TICKS_PER_SECOND)
}

/// CPU-seconds of a process and all its children, ended or not. A child that ends between the looks would be missed or
/// counted twice, so they are taken until none has.
fn family(pid: u32) -> Result<f64> {
    let mut first = Stat::of(pid)?;
    for _ in 0..LOOKS {
        let running = running_children(pid)?;
        let again = Stat::of(pid)?;
        if again.ended_children.total_cmp(&first.ended_children).is_eq() {
            return Ok((again.own + again.ended_children + running) / TICKS_PER_SECOND);
        }
        first = again;
    }
    bail!("the children of process {pid} end faster than they are counted")
}

fn running_children(pid: u32) -> Result<f64> {
    let mut ticks = 0.0;
    for entry in fs::read_dir("/proc").context("reading /proc")?.flatten() {
        let child = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(Ok(stat)) = child.map(Stat::of)
            && stat.parent == pid
        {
            ticks += stat.own + stat.ended_children;
        }
    }
    Ok(ticks)
}

/// Resident memory in MB (of 2^20 bytes).
pub(super) fn resident_mb(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid}"))?;
    let kib: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok())
        .context("no VmRSS in /proc")?;
    Ok(kib / 1024.0)
}

/// The fields of /proc/PID/stat (proc(5)) that are of use here, times in ticks.
struct Stat {
    parent: u32,
    own: f64,
    ended_children: f64,
}

impl Stat {
    fn of(pid: u32) -> Result<Self> {
        let line = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid}"))?;
        Self::parse(&line).with_context(|| format!("the state of process {pid}"))
    }

    /// The name in brackets may hold anything, so fields are counted from the last bracket on: state, parent, …
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            own: ticks(11)? + ticks(12)?,
            ended_children: ticks(13)? + ticks(14)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_brackets_and_blanks_does_not_shift_the_fields() {
        let line = "7 (a) b (c)) S 3 7 7 0 -1 4194560 1 2 3 4 50 6 700 8 20 0 1 0 100 1 1";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.parent, stat.own, stat.ended_children), (3, 56.0, 708.0));
        assert!(Stat::parse("7 (x) S 3").is_none());
    }

    #[test]
    fn this_process_has_used_some_cpu_and_memory() {
        let own = std::process::id();
        assert!(family(own).unwrap() >= used(own).unwrap());
        assert!(resident_mb(own).unwrap() > 1.0);
    }
}
