//! How often one address may call, and what services are told of it.
//!
//! The address is the peer's; of trusted proxies in front of the gateway it is what they say. Services hear of it by a header
//! that is always the gateway's own. Each gateway counts for itself; pages are not counted.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request};
use service_kit::{
    clock::SharedClock,
    error::Result,
    limits::{CLIENT_ADDRESS, ClientAddress, Limit, Limiter, Network, TrustedPeers, too_many},
};

/// The limit of the addresses that call.
pub(crate) struct Limits {
    addresses: Option<Limiter<Network>>,
    proxies: TrustedPeers,
    clock: SharedClock,
}

impl Limits {
    pub(crate) fn new(address: Limit, proxies: TrustedPeers, clock: SharedClock) -> Self {
        let now = clock.monotonic();
        Self {
            addresses: address.rate().map(|rate| Limiter::new(rate, now)),
            proxies,
            clock,
        }
    }

    /// Counts a request, and writes into it where its client calls from.
    ///
    /// # Errors
    /// `ResourceExhausted` where there were too many from there.
    pub(crate) fn admit(&self, request: &mut Request) -> Result<()> {
        request.headers_mut().remove(CLIENT_ADDRESS);
        let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<SocketAddr>>() else {
            return Ok(());
        };
        let client = ClientAddress::behind(peer.ip(), request.headers(), &self.proxies);
        request.headers_mut().insert(CLIENT_ADDRESS, client.header());
        let Some(limiter) = &self.addresses else { return Ok(()) };
        limiter
            .check(client.network(), self.clock.monotonic())
            .map_err(|wait| too_many("RATE_LIMITED_ADDRESS", "requests from this address", wait))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::Body;
    use service_kit::clock::SystemClock;

    use super::*;

    fn told(limits: &Limits, peer: &str, headers: &[(&str, &str)]) -> (bool, String) {
        let peer: SocketAddr = peer.parse().unwrap();
        let mut request = Request::builder().extension(ConnectInfo(peer));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::empty()).unwrap();
        let admitted = limits.admit(&mut request).is_ok();
        (admitted, request.headers()[CLIENT_ADDRESS].to_str().unwrap().to_owned())
    }

    #[test]
    fn what_a_caller_says_of_his_address_is_replaced() {
        let limits = Limits::new(Limit::OFF, "10.0.0.0/8".parse().unwrap(), Arc::new(SystemClock));
        let invented = [("x-studios-client-address", "1.2.3.4"), ("x-forwarded-for", "5.6.7.8")];
        assert_eq!(told(&limits, "192.0.2.1:9", &invented), (true, "192.0.2.1".into()));
        assert_eq!(
            told(&limits, "10.0.0.1:9", &invented),
            (true, "5.6.7.8".into()),
            "a proxy is believed"
        );
    }

    #[test]
    fn an_address_is_limited_and_not_its_neighbour() {
        let limits = Limits::new("1/h".parse().unwrap(), TrustedPeers::none(), Arc::new(SystemClock));
        assert!(told(&limits, "192.0.2.1:1", &[]).0);
        assert!(!told(&limits, "192.0.2.1:2", &[]).0);
        assert!(told(&limits, "192.0.2.2:1", &[]).0);
        assert!(told(&limits, "[2001:db8::1]:1", &[]).0);
        assert!(!told(&limits, "[2001:db8::2]:1", &[]).0, "the same /64");
    }
}
