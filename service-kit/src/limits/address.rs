//! Whose address a client has: a peer's own, or what a trusted peer tells of its client.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Says to a service, from the gateway, where its client calls from.
pub const CLIENT_ADDRESS: HeaderName = HeaderName::from_static("x-studios-client-address");

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The address of a client; an IPv4 address that came mapped into IPv6 is one of IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientAddress(IpAddr);

impl ClientAddress {
    /// The address that the server found; none where a trusted peer calls for itself.
    pub fn of<T>(request: &tonic::Request<T>) -> Option<Self> {
        request.extensions().get().copied()
    }

    /// What a trusted peer tells.
    pub(super) fn told(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get(CLIENT_ADDRESS)?.to_str().ok()?;
        text.parse().ok().map(|it: IpAddr| it.into())
    }

    /// The client behind proxies, each of which has added to `x-forwarded-for` whom it was called by: the last one that is
    /// no trusted proxy itself. What stands before that may be invented.
    pub fn behind(peer: IpAddr, headers: &HeaderMap, proxies: &TrustedPeers) -> Self {
        let mut client = peer.to_canonical();
        let values: Vec<_> = headers.get_all(FORWARDED_FOR).iter().collect();
        let named = values.into_iter().rev().flat_map(|value| {
            let text = value.to_str().unwrap_or("unreadable");
            text.rsplit(',').map(|it| it.trim().parse::<IpAddr>())
        });
        for address in named {
            let (true, Ok(address)) = (proxies.contains(client), address) else {
                break;
            };
            client = address.to_canonical();
        }
        Self(client)
    }

    /// As a header says it.
    pub fn header(self) -> HeaderValue {
        HeaderValue::from_str(&self.0.to_string()).expect("an address is visible ASCII")
    }

    /// What is limited as one.
    pub fn network(self) -> Network {
        Network(match self.0 {
            IpAddr::V4(_) => self.0,
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
        })
    }
}

impl From<IpAddr> for ClientAddress {
    fn from(address: IpAddr) -> Self {
        Self(address.to_canonical())
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An IPv4 address, or the /64 of an IPv6 address: as little as a subscriber has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network(IpAddr);

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(prefix) => write!(f, "{prefix}/64"),
        }
    }
}

/// The networks of peers that are believed what they tell of their clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedPeers(Vec<IpNet>);

/// The text is no list of networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be networks like 10.0.0.0/8 or addresses, separated by commas, or none")]
pub struct NotNetworks;

impl TrustedPeers {
    /// This machine.
    pub fn loopback() -> Self {
        let v4 = Ipv4Net::new([127, 0, 0, 0].into(), 8).expect("8 is a length of a prefix");
        let v6 = Ipv6Net::new(Ipv6Addr::LOCALHOST, 128).expect("128 is a length of a prefix");
        Self(vec![v4.into(), v6.into()])
    }

    /// Nobody.
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// Whether an address is in one of the networks.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|it| it.contains(&address))
    }
}

impl FromStr for TrustedPeers {
    type Err = NotNetworks;

    fn from_str(text: &str) -> Result<Self, NotNetworks> {
        if text.trim() == "none" {
            return Ok(Self::none());
        }
        let network = |item: &str| {
            let item = item.trim();
            let address = || item.parse::<IpAddr>().map(IpNet::from);
            item.parse().or_else(|_| address()).map_err(|_| NotNetworks)
        };
        text.split(',').map(network).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> ClientAddress {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn an_ipv6_client_is_its_64() {
        let network = |text| address(text).network();
        assert_eq!(network("2001:db8:1:2:3::4"), network("2001:db8:1:2::9"));
        assert_ne!(network("2001:db8:1:2::9"), network("2001:db8:1:3::9"));
        assert_eq!(network("2001:db8:1:2:3::4").to_string(), "2001:db8:1:2::/64");
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
    }

    #[test]
    fn trusted_peers_read_as_networks_and_addresses() {
        let peers: TrustedPeers = "10.0.0.0/8, 2001:db8::/32,192.0.2.1".parse().unwrap();
        for (text, is_trusted) in [
            ("10.1.2.3", true),
            ("2001:db8::1", true),
            ("192.0.2.1", true),
            ("192.0.2.2", false),
            ("::1", false),
        ] {
            assert_eq!(peers.contains(text.parse().unwrap()), is_trusted, "{text}");
        }
        assert_eq!("none".parse(), Ok(TrustedPeers::none()));
        for wrong in ["", "localhost", "10.0.0.0/33", "10.0.0.1,"] {
            assert_eq!(wrong.parse::<TrustedPeers>(), Err(NotNetworks), "{wrong}");
        }
    }

    #[test]
    fn the_client_is_the_last_that_no_trusted_proxy_vouches_for() {
        let proxies: TrustedPeers = "10.0.0.0/8".parse().unwrap();
        let client = |peer: &str, values: &[&str]| {
            let headers = values
                .iter()
                .map(|it| (HeaderName::from_static(FORWARDED_FOR), it.parse().unwrap()))
                .collect();
            ClientAddress::behind(peer.parse().unwrap(), &headers, &proxies).to_string()
        };
        assert_eq!(
            client("192.0.2.9", &["198.51.100.1"]),
            "192.0.2.9",
            "a stranger is not believed"
        );
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(
            client("10.0.0.1", &["198.51.100.1, 192.0.2.7"]),
            "192.0.2.7",
            "the first was invented"
        );
        assert_eq!(client("10.0.0.1", &["192.0.2.7, 10.0.0.2"]), "192.0.2.7");
        assert_eq!(
            client("10.0.0.1", &["198.51.100.1", "192.0.2.7"]),
            "192.0.2.7",
            "as two headers"
        );
        assert_eq!(client("10.0.0.1", &["nonsense"]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["192.0.2.7, nonsense"]), "10.0.0.1");
    }
}
