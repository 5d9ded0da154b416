//! The engine under everything that can go wrong, as a seed has it: the real [`State`](crate::engine::state::State), `Plan`,
//! `Record` and `Wish`, over a database in memory that does what the writer's statement does, with holders that die, stop and
//! go on, lose their lease and do not know it, whose clocks jump, whose writes are reported as failed, late, or refused.
//!
//! What always holds, whatever the seed: no run is lost (each is held, or due, or waits for what can come, and once all is calm
//! each ends); no seq and no try twice, and none left out; nothing follows an end; the order of the journal is that of its
//! hashes and times; whoever has no lease any more writes nothing; what must not happen twice is announced and sent once, and
//! once more for each time that a person says so; what is held is what the bytes fold to; a run goes on at most as often as its
//! limit says; a child has one parent, which learns how it ended; people are asked what the run waits for.
//!
//! `STUDIOS_SEED=n` runs one seed, `STUDIOS_SEEDS=n` so many, `STUDIOS_SEED_SECONDS=n` as many as fit.

mod calls;
mod dice;
mod holder;
mod shapes;
mod store;
mod world;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use service_kit::clock::{Clock, SystemClock};
use world::World;

/// How long seeds are tried where nothing is said.
const A_WHILE: Duration = Duration::from_secs(3);

fn set(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|it| it.parse().ok())
}

#[test]
fn no_seed_breaks_what_the_engine_promises() {
    if let Some(seed) = set("STUDIOS_SEED") {
        let told = World::of(seed).run();
        tracing::info!(seed, ?told, "simulated");
        return;
    }
    let begun = SystemClock.monotonic();
    let time = set("STUDIOS_SEED_SECONDS").map_or(A_WHILE, Duration::from_secs);
    let is_enough = |seed: u64| match set("STUDIOS_SEEDS") {
        Some(seeds) => seed >= seeds,
        None => begun.elapsed() >= time,
    };
    let mut seed = 0;
    let mut all = world::Told::default();
    while !is_enough(seed) {
        let told = catch_unwind(AssertUnwindSafe(|| World::of(seed).run())).unwrap_or_else(|_| {
            panic!(
                "seed {seed} breaks it; again: STUDIOS_SEED={seed} cargo test -p execution-service --lib {}",
                "no_seed_breaks_what_the_engine_promises"
            )
        });
        all += told;
        seed += 1;
    }
    all.proves_something(seed);
}
