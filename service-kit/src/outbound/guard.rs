//! The guard: which addresses a member's request may go to.
//!
//! A host's addresses are judged where they come from the resolver, and the connection is made to what is left of them. So
//! nothing lies between the judgement and the connection that a name could be bound anew in. Literal addresses never meet a
//! resolver and are judged before the request is made; they come in their usual form, as URLs are parsed.
//!
//! Whoever is refused does not learn why. A name that leads to refused addresses alone reads like one that does not exist,
//! since the difference would tell members what names an internal network has. The operator finds it in the log.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use super::{
    allow::AllowRule,
    judge::{Verdict, judge},
};

/// Why a member's request is not sent. The words are for the member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It cannot be read as a URL.
    #[error("it is no address")]
    NoAddress,
    /// It is longer than so many bytes.
    #[error("an address must not have more than {0} bytes")]
    TooLong(usize),
    /// It is no address of http or https.
    #[error("an address must begin with http:// or https:// and a host")]
    Scheme,
    /// It holds a user's name or password.
    #[error("an address must not hold credentials")]
    Credentials,
    /// The address itself, or a name that always means this machine, is one that members may not call.
    #[error("{0} must not be called")]
    Host(String),
    /// The name does not exist, or leads to no address that members may call. Which of them it is, nobody is told.
    #[error("{0} has no address that can be called")]
    Name(String),
}

impl Refusal {
    /// Whether the same request may be let through later: names change what they lead to.
    pub const fn may_pass(&self) -> bool {
        matches!(self, Self::Name(_))
    }
}

/// The rules that hold at a port.
#[derive(Debug, Clone)]
pub(super) struct Guard(Arc<[AllowRule]>);

impl Guard {
    /// Of these rules the ones about this port or about all; without a port, only the latter.
    pub(super) fn at(port: Option<u16>, rules: &[AllowRule]) -> Self {
        Self(rules.iter().filter(|it| it.is_at(port)).cloned().collect())
    }

    /// Judges what the address says of itself.
    ///
    /// # Errors
    /// `Host`: it is a literal address, or a name for this machine (RFC 6761), that must not be called.
    pub(super) fn check(&self, url: &Url) -> Result<(), Refusal> {
        let (host, address) = match url.host() {
            Some(Host::Ipv4(address)) => (None, address.into()),
            Some(Host::Ipv6(address)) => (None, address.into()),
            Some(Host::Domain(name)) if is_this_machine(name) => (Some(name), IpAddr::from(Ipv4Addr::LOCALHOST)),
            Some(Host::Domain(_)) => return Ok(()),
            None => return Err(Refusal::Scheme),
        };
        if self.permits(host, address) {
            Ok(())
        } else {
            Err(Refusal::Host(url.host_str().unwrap_or_default().to_owned()))
        }
    }

    /// Whether a request to this host may go to this address.
    fn permits(&self, host: Option<&str>, address: IpAddr) -> bool {
        let is_in_range = || self.0.iter().any(|rule| rule.contains(address));
        match judge(address) {
            Verdict::Public => true,
            Verdict::Internal(_) => {
                host.is_some_and(|host| self.0.iter().any(|rule| rule.names(host))) || is_in_range()
            }
            Verdict::Special(_) => is_in_range(),
        }
    }
}

fn is_this_machine(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

/// A resolver that answers only what the guard permits.
pub(super) struct Guarded {
    /// The guard.
    pub(super) guard: Guard,
    /// What knows the names.
    pub(super) resolver: Arc<dyn Resolve>,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        let (guard, resolving) = (self.guard.clone(), self.resolver.resolve(name));
        Box::pin(async move {
            let found: Vec<SocketAddr> = match resolving.await {
                Ok(found) => found.collect(),
                Err(error) => {
                    tracing::info!(host, %error, "a member's request was not sent: its host was not resolved");
                    Vec::new()
                }
            };
            let (permitted, refused): (Vec<_>, Vec<_>) =
                found.into_iter().partition(|it| guard.permits(Some(&host), it.ip()));
            if permitted.is_empty() {
                if let Some(address) = refused.first() {
                    let address = address.ip();
                    let verdict = judge(address);
                    tracing::info!(host, %address, ?verdict, "a member's request was refused: not in outbound_allow");
                }
                return Err(Refusal::Name(host).into());
            }
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

/// The system's resolver.
pub(super) struct System;

impl Resolve for System {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            // The connection is made to the URL's port.
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::Destination;

    fn guard(port: Option<u16>, rules: &[&str]) -> Guard {
        let rules: Vec<AllowRule> = rules.iter().map(|it| it.parse().unwrap()).collect();
        Guard::at(port, &rules)
    }

    fn check(guard: &Guard, text: &str) -> Result<(), Refusal> {
        guard.check(Destination::member(text).unwrap().url())
    }

    #[test]
    fn a_literal_is_judged_however_it_is_written() {
        let guard = guard(Some(80), &[]);
        for (text, host) in [
            ("http://127.0.0.1/", "127.0.0.1"),
            ("http://127.1/", "127.0.0.1"),
            ("http://127.0.1/", "127.0.0.1"),
            ("http://2130706433/", "127.0.0.1"),
            ("http://0x7f000001/", "127.0.0.1"),
            ("http://0x7F.1/", "127.0.0.1"),
            ("http://017700000001/", "127.0.0.1"),
            ("http://0177.0.0.01/", "127.0.0.1"),
            ("http://127.0.0.1./", "127.0.0.1"),
            ("http://%31%32%37.0.0.1/", "127.0.0.1"),
            ("http://①②⑦.0.0.1/", "127.0.0.1"),
            ("http://127。0。0。1/", "127.0.0.1"),
            ("http:\\\\127.0.0.1\\", "127.0.0.1"),
            ("http:127.0.0.1", "127.0.0.1"),
            ("http://0/", "0.0.0.0"),
            ("http://169.254.169.254/latest/meta-data/", "169.254.169.254"),
            ("http://0xa9fea9fe/", "169.254.169.254"),
            ("http://10.0.0.1/", "10.0.0.1"),
            ("http://[::]/", "[::]"),
            ("http://[::1]/", "[::1]"),
            ("http://[0:0:0:0:0:0:0:1]/", "[::1]"),
            ("http://[::ffff:127.0.0.1]/", "[::ffff:7f00:1]"),
            ("http://[::ffff:7f00:1]/", "[::ffff:7f00:1]"),
            ("http://[::127.0.0.1]/", "[::7f00:1]"),
            ("http://[64:ff9b::10.0.0.1]/", "[64:ff9b::a00:1]"),
            ("http://[2002:7f00:1::]/", "[2002:7f00:1::]"),
            ("http://[fe80::1]/", "[fe80::1]"),
            ("http://[fd00:ec2::254]/", "[fd00:ec2::254]"),
            ("http://localhost/", "localhost"),
            ("http://LOCALHOST./", "localhost."),
            ("http://a.localhost/", "a.localhost"),
        ] {
            assert_eq!(check(&guard, text), Err(Refusal::Host(host.into())), "{text}");
        }
        for text in [
            "http://8.8.8.8/",
            "http://134744072/",
            "http://[2606:4700::1111]/",
            "http://crm.example/",
        ] {
            assert_eq!(check(&guard, text), Ok(()), "{text}");
        }
    }

    #[test]
    fn a_range_opens_literals_and_a_name_opens_itself_alone() {
        let range = guard(Some(80), &["127.0.0.0/8"]);
        for text in ["http://127.1/", "http://[::ffff:127.0.0.1]/", "http://localhost/"] {
            assert_eq!(check(&range, text), Ok(()), "{text}");
        }
        assert!(check(&range, "http://10.0.0.1/").is_err());
        let name = guard(Some(80), &["localhost"]);
        assert_eq!(check(&name, "http://localhost./"), Ok(()));
        assert!(check(&name, "http://127.0.0.1/").is_err() && check(&name, "http://a.localhost/").is_err());
    }

    #[test]
    fn a_name_does_not_open_what_only_a_range_may() {
        let name = guard(Some(80), &["crm.example"]);
        let crm = Some("crm.example");
        assert!(name.permits(crm, [10, 1, 2, 3].into()) && name.permits(crm, [127, 0, 0, 1].into()));
        assert!(!name.permits(Some("other.example"), [10, 1, 2, 3].into()));
        for special in [[169, 254, 169, 254], [0, 0, 0, 0], [224, 0, 0, 1]] {
            assert!(!name.permits(crm, special.into()), "{special:?}");
        }
        assert!(guard(Some(80), &["169.254.0.0/16"]).permits(crm, [169, 254, 169, 254].into()));
    }

    #[test]
    fn a_rule_about_a_port_holds_at_that_port_alone() {
        let rules = ["127.0.0.0/8:8080", "crm.example:8443"];
        assert!(guard(Some(8080), &rules).permits(None, [127, 0, 0, 1].into()));
        assert!(guard(Some(8443), &rules).permits(Some("crm.example"), [10, 0, 0, 1].into()));
        for port in [None, Some(80), Some(8443)] {
            assert!(!guard(port, &rules).permits(None, [127, 0, 0, 1].into()), "{port:?}");
        }
    }

    /// Knows every name by the same addresses.
    struct Fixed(Vec<IpAddr>);

    impl Resolve for Fixed {
        fn resolve(&self, _: Name) -> Resolving {
            let found: Vec<_> = self.0.iter().map(|it| SocketAddr::new(*it, 0)).collect();
            Box::pin(async move { Ok(Box::new(found.into_iter()) as Addrs) })
        }
    }

    async fn resolve(found: &[&str], rules: &[&str]) -> Result<Vec<String>, Refusal> {
        let resolver = Arc::new(Fixed(found.iter().map(|it| it.parse().unwrap()).collect()));
        let guarded = Guarded {
            guard: guard(Some(80), rules),
            resolver,
        };
        match guarded.resolve("crm.example".parse().unwrap()).await {
            Ok(addresses) => Ok(addresses.map(|it| it.ip().to_string()).collect()),
            Err(error) => Err(error.downcast_ref::<Refusal>().unwrap().clone()),
        }
    }

    #[tokio::test]
    async fn of_a_names_addresses_only_the_permitted_are_called() {
        let mixed = [
            "127.0.0.1",
            "93.184.215.14",
            "::1",
            "10.0.0.1",
            "2606:2800::1",
            "169.254.169.254",
        ];
        assert_eq!(resolve(&mixed, &[]).await.unwrap(), ["93.184.215.14", "2606:2800::1"]);
        assert_eq!(
            resolve(&mixed, &["10.0.0.0/8"]).await.unwrap(),
            ["93.184.215.14", "10.0.0.1", "2606:2800::1"]
        );
        assert_eq!(resolve(&mixed, &["*.example"]).await.unwrap().len(), 5);
    }

    #[tokio::test]
    async fn a_name_that_leads_to_refused_addresses_reads_like_one_that_does_not_exist() {
        let refused = resolve(&["10.0.0.1"], &[]).await.unwrap_err();
        assert_eq!(refused, resolve(&["169.254.169.254", "::1"], &[]).await.unwrap_err());
        let nowhere = Guarded {
            guard: guard(Some(80), &[]),
            resolver: Arc::new(System),
        };
        let unknown = nowhere
            .resolve("no such name.invalid".parse().unwrap())
            .await
            .err()
            .unwrap();
        let unknown = unknown.downcast_ref::<Refusal>().unwrap().to_string();
        assert_eq!(
            refused.to_string().replace("crm.example", "no such name.invalid"),
            unknown
        );
    }
}
