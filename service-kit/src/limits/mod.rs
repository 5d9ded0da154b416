//! How often somebody may call: rates as they are configured, and the limits that each replica keeps for itself, per user
//! and per client address.
//!
//! What all replicas share lies in the database, with the feature that it is about; it counts by the same rule ([`Rate`]).
//! A limit of a replica is kept in memory and forgotten with it: behind N replicas a caller has up to N times of it.

mod address;
mod limiter;
mod rate;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{Extensions, HeaderMap};
use tonic::transport::server::TcpConnectInfo;

pub use self::{
    address::{CLIENT_ADDRESS, ClientAddress, Network, TrustedPeers},
    limiter::Limiter,
    rate::{Limit, NotALimit, Rate},
};
use crate::{
    clock::{SharedClock, SystemClock},
    config::Reader,
    error::{Error, Result},
    ids::UserId,
};

const USER: Limit = Limit::of(200, Duration::from_secs(1), 400);
/// The requests from one client address, by default.
pub const ADDRESS: Limit = Limit::of(2_000, Duration::from_secs(1), 4_000);

/// The settings of a replica's own limits.
#[derive(Debug, Clone)]
pub struct LimitsConfig {
    /// `limits_user`: the requests of a user to this replica; `200/s burst 400` by default, `off` for no limit.
    pub user: Limit,
    /// `limits_address`: the requests from a client address to this replica; `2000/s burst 4000` by default.
    pub address: Limit,
    /// `trusted_peers`: the networks of the gateways and services that call; the loopback addresses by default. They are
    /// believed what address their client has, and are not limited by their own.
    pub trusted_peers: TrustedPeers,
}

impl LimitsConfig {
    /// Takes the settings from a reader, which keeps the mistakes.
    pub fn read(reader: &mut Reader) -> Self {
        Self {
            user: reader.get_or("limits_user", USER),
            address: reader.get_or("limits_address", ADDRESS),
            trusted_peers: reader.get_or("trusted_peers", TrustedPeers::loopback()),
        }
    }
}

/// The limits of this replica.
pub struct Limits {
    users: Option<Limiter<UserId>>,
    addresses: Option<Limiter<Network>>,
    trusted: TrustedPeers,
    clock: SharedClock,
    has_warned: AtomicBool,
}

impl Limits {
    /// Limits as configured.
    pub fn new(config: LimitsConfig, clock: SharedClock) -> Self {
        let now = clock.monotonic();
        Self {
            users: config.user.rate().map(|rate| Limiter::new(rate, now)),
            addresses: config.address.rate().map(|rate| Limiter::new(rate, now)),
            trusted: config.trusted_peers,
            clock,
            has_warned: AtomicBool::new(false),
        }
    }

    /// No limits.
    pub fn off() -> Self {
        let config = LimitsConfig {
            user: Limit::OFF,
            address: Limit::OFF,
            trusted_peers: TrustedPeers::loopback(),
        };
        Self::new(config, Arc::new(SystemClock))
    }

    /// The address of the client behind a request; none where a trusted peer calls for itself.
    pub fn client_address(&self, extensions: &Extensions, headers: &HeaderMap) -> Option<ClientAddress> {
        let peer = extensions.get::<TcpConnectInfo>()?.remote_addr()?.ip().to_canonical();
        if self.trusted.contains(peer) {
            return ClientAddress::told(headers);
        }
        if headers.contains_key(CLIENT_ADDRESS) && !self.has_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(%peer, "it names addresses of clients and is not in trusted_peers: not believed");
        }
        Some(ClientAddress::from(peer))
    }

    /// Counts a request from a client address.
    ///
    /// # Errors
    /// `ResourceExhausted` where there were too many.
    pub fn address(&self, address: ClientAddress) -> Result<()> {
        let Some(limiter) = &self.addresses else { return Ok(()) };
        limiter
            .check(address.network(), self.clock.monotonic())
            .map_err(|wait| too_many("RATE_LIMITED_ADDRESS", "requests from this address", wait))
    }

    /// Counts a request of a user.
    ///
    /// # Errors
    /// `ResourceExhausted` where there were too many.
    pub fn user(&self, user: UserId) -> Result<()> {
        let Some(limiter) = &self.users else { return Ok(()) };
        limiter
            .check(user, self.clock.monotonic())
            .map_err(|wait| too_many("RATE_LIMITED_USER", "requests of this user", wait))
    }
}

impl std::fmt::Debug for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limits")
            .field("trusted", &self.trusted)
            .finish_non_exhaustive()
    }
}

/// The answer to one request too many of a kind, like `sign-ins of this account`. The wait is told in whole milliseconds,
/// from a second on in whole seconds.
pub fn too_many(reason: &'static str, what: &str, wait: Duration) -> Error {
    let unit = if wait < Duration::from_secs(1) {
        1_000_000
    } else {
        1_000_000_000
    };
    let rounded = wait.as_nanos().div_ceil(unit).max(1) * unit;
    Error::ResourceExhausted {
        reason,
        message: format!("too many {what}"),
        retry_after: Some(Duration::from_nanos(u64::try_from(rounded).unwrap_or(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::clock::FakeClock;

    fn request(peer: &str, told: Option<&str>) -> (Extensions, HeaderMap) {
        let mut extensions = Extensions::new();
        extensions.insert(TcpConnectInfo {
            local_addr: None,
            remote_addr: Some(peer.parse().unwrap()),
        });
        let told = told.map(|it| (CLIENT_ADDRESS, it.parse().unwrap()));
        (extensions, told.into_iter().collect())
    }

    #[test]
    fn a_client_address_is_believed_from_trusted_peers_alone() {
        let limits = Limits::off();
        let seen = |peer, told| {
            let (extensions, headers) = request(peer, told);
            limits.client_address(&extensions, &headers).map(|it| it.to_string())
        };
        assert_eq!(seen("127.0.0.1:9", Some("192.0.2.7")).as_deref(), Some("192.0.2.7"));
        assert_eq!(
            seen("[::ffff:127.0.0.1]:9", Some("192.0.2.7")).as_deref(),
            Some("192.0.2.7")
        );
        assert_eq!(seen("127.0.0.1:9", None), None, "a peer that calls for itself");
        assert_eq!(
            seen("198.51.100.1:9", Some("192.0.2.7")).as_deref(),
            Some("198.51.100.1")
        );
        assert_eq!(limits.client_address(&Extensions::new(), &HeaderMap::new()), None);
    }

    #[test]
    fn a_user_is_let_through_again_when_he_was_told() {
        let clock = Arc::new(FakeClock::new(OffsetDateTime::UNIX_EPOCH));
        let config = LimitsConfig {
            user: "10/s burst 2".parse().unwrap(),
            address: Limit::OFF,
            trusted_peers: TrustedPeers::loopback(),
        };
        let limits = Limits::new(config, clock.clone());
        let user = UserId::generate();
        limits.user(user).unwrap();
        limits.user(user).unwrap();
        limits.user(UserId::generate()).expect("another user has his own");
        let Err(Error::ResourceExhausted {
            reason, retry_after, ..
        }) = limits.user(user)
        else {
            panic!("the third is one too many");
        };
        assert_eq!(
            (reason, retry_after),
            ("RATE_LIMITED_USER", Some(Duration::from_millis(100)))
        );
        clock.advance(Duration::from_millis(100));
        limits.user(user).unwrap();
        limits.user(user).unwrap_err();
    }

    #[test]
    fn a_wait_is_told_in_whole_units_and_is_never_nothing() {
        for (wait, told) in [
            (0, 1_000_000),
            (1, 1_000_000),
            (1_000_001, 2_000_000),
            (1_000_000_001, 2_000_000_000),
        ] {
            let Error::ResourceExhausted { retry_after, .. } = too_many("R", "calls", Duration::from_nanos(wait))
            else {
                panic!("it is one");
            };
            assert_eq!(retry_after, Some(Duration::from_nanos(told)));
        }
    }
}
