//! What the operator lets members' requests go to besides public addresses: `outbound_allow`.

use std::{net::IpAddr, num::NonZeroU16, str::FromStr};

use ipnet::IpNet;
use url::Host;

/// One entry: a host (`crm.example`), all hosts under one (`*.example`, without `example` itself) or a range of addresses
/// (`10.1.0.0/16`, `10.1.2.3`, `fd12::/16`), everywhere or at one port (`crm.example:8443`, `10.1.0.0/16:8080`,
/// `[fd12::/16]:8080`).
///
/// A host's name opens the addresses of internal networks that it leads to. The special ones (see
/// [`Verdict::Special`](super::Verdict::Special)) are opened by a range alone, as whoever has a name under the host could
/// make it lead there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowRule {
    place: Place,
    port: Option<NonZeroU16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// In lower case, without a dot at its end.
    Host(String),
    /// A dot, and what hosts under it end in after that.
    Under(String),
    Range(IpNet),
}

/// The text is no entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotARule {
    /// What stands before the port is neither.
    #[error(
        "must be hosts like crm.example or *.example, or ranges like 10.1.0.0/16 or [fd12::/16], separated by commas"
    )]
    Place,
    /// What stands behind the colon is none.
    #[error("has a port that is not a number from 1 to 65535")]
    Port,
}

impl AllowRule {
    /// The port, where it is about one alone.
    pub(super) fn port(&self) -> Option<u16> {
        self.port.map(NonZeroU16::get)
    }

    /// Whether it is about ports like this.
    pub(super) fn is_at(&self, port: Option<u16>) -> bool {
        self.port.is_none() || self.port() == port
    }

    /// Whether it names the host, which is in lower case.
    pub(super) fn names(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        match &self.place {
            Place::Host(name) => name == host,
            Place::Under(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
            Place::Range(_) => false,
        }
    }

    /// Whether the address is in its range.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        matches!(&self.place, Place::Range(range) if range.contains(&address) || range.contains(&address.to_canonical()))
    }
}

impl FromStr for AllowRule {
    type Err = NotARule;

    fn from_str(text: &str) -> Result<Self, NotARule> {
        let (place, port) = parts(text)?;
        let port = port.map(|it| it.parse().map_err(|_| NotARule::Port)).transpose()?;
        Ok(Self {
            place: place.parse()?,
            port,
        })
    }
}

impl FromStr for Place {
    type Err = NotARule;

    fn from_str(text: &str) -> Result<Self, NotARule> {
        let address = || text.parse::<IpAddr>().map(IpNet::from);
        if let Ok(range) = text.parse().or_else(|_| address()) {
            return Ok(Self::Range(range));
        }
        let (name, is_under) = match text.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (text, false),
        };
        // As hosts are written in URLs, so that both are compared in one form.
        let Ok(Host::Domain(name)) = Host::parse(name) else {
            return Err(NotARule::Place);
        };
        let name = name.strip_suffix('.').unwrap_or(&name);
        let is_label =
            |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        if !name.split('.').all(is_label) {
            return Err(NotARule::Place);
        }
        Ok(if is_under {
            Self::Under(format!(".{name}"))
        } else {
            Self::Host(name.to_owned())
        })
    }
}

/// What stands before the port, and the port.
fn parts(text: &str) -> Result<(&str, Option<&str>), NotARule> {
    if let Some(rest) = text.strip_prefix('[') {
        let (place, rest) = rest.split_once(']').ok_or(NotARule::Place)?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((place, Some(port))),
            None if rest.is_empty() => Ok((place, None)),
            None => Err(NotARule::Place),
        };
    }
    Ok(match text.split_once(':') {
        Some((_, rest)) if rest.starts_with('/') => return Err(NotARule::Place),
        // More colons are those of an IPv6 address.
        Some((place, port)) if !port.contains(':') => (place, Some(port)),
        _ => (text, None),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> AllowRule {
        text.parse().unwrap()
    }

    #[test]
    fn a_host_is_named_exactly_and_hosts_under_it_by_a_star() {
        assert!(rule("CRM.Example.").names("crm.example") && rule("crm.example").names("crm.example."));
        assert!(!rule("crm.example").names("a.crm.example") && !rule("crm.example").names("crm.example.org"));
        let under = rule("*.crm.example");
        assert!(under.names("a.crm.example") && under.names("a.b.crm.example."));
        for other in ["crm.example", "evilcrm.example", ".crm.example", "a.crm.example.org"] {
            assert!(!under.names(other), "{other}");
        }
        assert!(rule("bücher.example").names("xn--bcher-kva.example"));
        assert!(!rule("crm.example").contains([10, 1, 2, 3].into()));
    }

    #[test]
    fn a_range_holds_addresses_also_those_that_are_mapped_into_ipv6() {
        let holds = |text: &str, address: &str| rule(text).contains(address.parse().unwrap());
        assert!(holds("10.1.0.0/16", "10.1.255.255") && !holds("10.1.0.0/16", "10.2.0.0"));
        assert!(holds("10.1.2.3", "10.1.2.3") && !holds("10.1.2.3", "10.1.2.4"));
        assert!(holds("10.1.0.0/16", "::ffff:10.1.2.3") && !holds("10.1.0.0/16", "64:ff9b::10.1.2.3"));
        assert!(holds("fd12::/16", "fd12:1::1") && holds("::1", "::1") && holds("[::1]", "::1"));
        assert!(!rule("10.1.0.0/16").names("10.1.0.1"));
    }

    #[test]
    fn an_entry_is_about_one_port_or_about_all() {
        for (text, port) in [
            ("crm.example:8443", Some(8443)),
            ("*.example:1", Some(1)),
            ("10.1.0.0/16:8080", Some(8080)),
            ("[fd12::/16]:8080", Some(8080)),
            ("[::1]:65535", Some(65535)),
            ("fd12::1", None),
            ("crm.example", None),
        ] {
            assert_eq!(rule(text).port(), port, "{text}");
            assert!(rule(text).is_at(port.or(Some(7))), "{text}");
            assert_eq!(rule(text).is_at(Some(9)), port.is_none(), "{text}");
        }
    }

    #[test]
    fn what_is_neither_host_nor_range_is_refused() {
        for text in [
            "",
            "*",
            "*.",
            "*.*.example",
            "a.*.example",
            "http://crm.example",
            "crm.example/path",
            "crm..example",
            ".example",
            "user@crm.example",
            "127.1",
            "0x7f000001",
            "10.1.0.0/33",
            "[::1",
            "[::1]8080",
            "10.1.2.3:80:90",
        ] {
            assert_eq!(text.parse::<AllowRule>(), Err(NotARule::Place), "{text}");
        }
        for text in [
            "crm.example:0",
            "crm.example:",
            "crm.example:65536",
            "[::1]:http",
            "10.0.0.0/8:-1",
        ] {
            assert_eq!(text.parse::<AllowRule>(), Err(NotARule::Port), "{text}");
        }
    }
}
