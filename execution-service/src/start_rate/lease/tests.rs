//! Replicas share a bucket, counted as `execution.take_starts` does.

use proptest::prelude::*;
use service_kit::{
    clock::{Clock, FakeClock},
    limits::Limit,
};
use time::OffsetDateTime;

use super::*;

/// The shared row. Times are seconds since the beginning.
#[derive(Default)]
struct Bucket {
    over_at: f64,
    questions: u32,
}

impl Bucket {
    fn take(&mut self, plan: &Plan, wanted: u32, now: f64) -> Grant {
        self.questions += 1;
        let ahead = (self.over_at - now).max(0.0) * plan.per_second;
        let starts = whole((plan.burst - ahead).floor()).min(wanted);
        if starts > 0 {
            self.over_at = self.over_at.max(now) + f64::from(starts) / plan.per_second;
            return Grant {
                starts,
                wait: Duration::ZERO,
            };
        }
        Grant {
            starts,
            wait: Duration::from_secs_f64((ahead + 1.0 - plan.burst) / plan.per_second),
        }
    }
}

struct Cluster {
    clock: FakeClock,
    plan: Plan,
    bucket: Bucket,
    replicas: Vec<Lease>,
    /// When starts were made.
    starts: Vec<f64>,
}

impl Cluster {
    fn new(rate: Rate, replicas: usize) -> Self {
        Self {
            clock: FakeClock::new(OffsetDateTime::UNIX_EPOCH),
            plan: Plan::of(rate),
            bucket: Bucket::default(),
            replicas: (0..replicas).map(|_| Lease::default()).collect(),
            starts: Vec::new(),
        }
    }

    fn seconds(&self) -> f64 {
        (self.clock.now() - OffsetDateTime::UNIX_EPOCH).as_seconds_f64()
    }

    /// Somebody wants to start at a replica; says whether he may.
    fn start(&mut self, replica: usize) -> bool {
        let (now, seconds) = (self.clock.monotonic(), self.seconds());
        let lease = &mut self.replicas[replica];
        let spent = match lease.spend(now) {
            Spend::Spent => true,
            Spend::Wait(_) => false,
            Spend::Ask => {
                let wanted = lease.wanted(&self.plan, 1, now);
                let grant = self.bucket.take(&self.plan, wanted, seconds);
                *lease = Lease::granted(&self.plan, now, wanted, grant);
                lease.spend_first()
            }
        };
        if spent {
            self.starts.push(seconds);
        }
        spent
    }
}

fn rate(text: &str) -> Rate {
    text.parse::<Limit>().unwrap().rate().unwrap()
}

proptest! {
    /// The sum over the replicas: in any stretch of time at most the burst and what the rate brings in it.
    #[test]
    fn all_replicas_together_never_start_more_than_the_rate_and_the_burst(
        count in 1_u32..2_000,
        burst in 1_u32..500,
        replicas in 1_usize..5,
        steps in prop::collection::vec((0_u64..60_000, 0_usize..5, 1_u32..40), 1..300),
    ) {
        let rate = rate(&format!("{count}/s burst {burst}"));
        let mut cluster = Cluster::new(rate, replicas);
        for (pause_us, replica, tries) in steps {
            cluster.clock.advance(Duration::from_micros(pause_us));
            for _ in 0..tries {
                cluster.start(replica % replicas);
            }
        }
        let starts = &cluster.starts;
        let slack = if burst == 1 { 1.0 } else { 0.0 } + 1e-3;
        // From each start to each later one; starting with a start and ending with one is the worst.
        for (i, from) in starts.iter().enumerate().step_by(7) {
            for (k, to) in starts[i..].iter().enumerate() {
                let allowed = f64::from(burst) + (to - from) * rate.per_second() + slack;
                let made = f64::from(u32::try_from(k + 1).unwrap());
                prop_assert!(made <= allowed, "{made} in {} s", to - from);
            }
        }
    }
}

/// Runs starts that come evenly, at one replica after the other, and returns how many were made.
fn evenly(cluster: &mut Cluster, per_second: u32, time: Duration) -> usize {
    let before = cluster.starts.len();
    let replicas = cluster.replicas.len();
    for i in 0..per_second * u32::try_from(time.as_secs()).unwrap() {
        cluster.clock.advance(Duration::from_secs(1) / per_second);
        cluster.start(i as usize % replicas);
    }
    cluster.starts.len() - before
}

#[test]
fn five_thousand_starts_a_second_are_few_statements() {
    let mut cluster = Cluster::new(rate("10000/s burst 10000"), 1);
    assert_eq!(evenly(&mut cluster, 5_000, Duration::from_secs(10)), 50_000);
    assert!(cluster.bucket.questions <= 50, "{} in 10 s", cluster.bucket.questions);
}

#[test]
fn a_company_over_its_limit_causes_few_statements_and_gets_its_rate() {
    let mut cluster = Cluster::new(rate("100/s burst 200"), 2);
    let made = evenly(&mut cluster, 2_000, Duration::from_secs(10));
    assert!((1_000..=1_200).contains(&made), "{made}");
    assert!(
        cluster.bucket.questions <= 2 * 10 * 10,
        "{} in 10 s",
        cluster.bucket.questions
    );
}

#[test]
fn what_replicas_take_and_do_not_spend_leaves_a_company_its_rate() {
    let mut cluster = Cluster::new(rate("100/s burst 50"), 4);
    let made = evenly(&mut cluster, 80, Duration::from_secs(20));
    assert_eq!(made, 1_600, "80 of 100 a second at four replicas");
}

#[test]
fn a_lone_start_takes_one() {
    let mut cluster = Cluster::new(rate("100/s burst 50"), 1);
    for _ in 0..20 {
        cluster.clock.advance(Duration::from_secs(1));
        assert!(cluster.start(0));
        assert_eq!(cluster.replicas[0].left, 0);
    }
    assert!(!cluster.replicas[0].counts(cluster.clock.monotonic() + LIFE));
}

#[test]
fn a_slow_rate_is_told_how_long_to_wait() {
    let mut cluster = Cluster::new(rate("2/h burst 1"), 1);
    assert!(cluster.start(0));
    cluster.clock.advance(Duration::from_mins(10));
    assert!(!cluster.start(0));
    let wait = match cluster.replicas[0].spend(cluster.clock.monotonic()) {
        Spend::Wait(wait) => wait.as_secs(),
        other => panic!("{other:?}"),
    };
    assert!((1_199..=1_200).contains(&wait), "{wait}");
    cluster.clock.advance(Duration::from_secs(1_201));
    assert!(cluster.start(0));
}
