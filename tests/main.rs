//! Everything through real servers: scenarios, contract, tenancy, faults, traces, and what the documentation says.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(
    clippy::disallowed_methods,
    reason = "the peers that tests make up are no services of ours"
)]

mod attacks;
mod browser;
mod contract;
mod docs;
mod faults;
mod scenarios;
mod supabase;
mod tenancy;
mod trace;
