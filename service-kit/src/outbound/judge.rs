//! What kind of address an address is. Pure.
//!
//! By the registries of special-purpose addresses (RFC 6890 and what IANA has added since), and stricter where those leave a
//! doubt: of IPv6 only what is given out as global unicast is public. An IPv6 address that stands for an IPv4 address and
//! gets there is judged as that one; other forms that hold one are refused whole.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// What kind of address it is, and the name of its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Anybody's server may be there.
    Public,
    /// Of this machine or of a network that companies keep to themselves.
    Internal(&'static str),
    /// No service has such an address, or one that nobody's requests are meant for: link-local (where clouds keep their
    /// credentials), multicast, reserved, documentation.
    Special(&'static str),
}

/// Judges an address.
pub fn judge(address: IpAddr) -> Verdict {
    match address {
        IpAddr::V4(address) => judge_v4(address),
        IpAddr::V6(address) => translated(address).map_or_else(|| judge_v6(address), judge_v4),
    }
}

fn judge_v4(address: Ipv4Addr) -> Verdict {
    let named = |table: &[(Ipv4Net, &'static str)]| {
        let found = table.iter().find(|(range, _)| range.contains(&address));
        found.map(|(_, name)| *name)
    };
    named(&SPECIAL_V4)
        .map(Verdict::Special)
        .or_else(|| named(&INTERNAL_V4).map(Verdict::Internal))
        .unwrap_or(Verdict::Public)
}

fn judge_v6(address: Ipv6Addr) -> Verdict {
    let named = |table: &[(Ipv6Net, &'static str)]| {
        let found = table.iter().find(|(range, _)| range.contains(&address));
        found.map(|(_, name)| *name)
    };
    if let Some(name) = named(&SPECIAL_V6) {
        return Verdict::Special(name);
    }
    if let Some(name) = named(&INTERNAL_V6) {
        return Verdict::Internal(name);
    }
    if GLOBAL_UNICAST.contains(&address) {
        Verdict::Public
    } else {
        Verdict::Special("not given out")
    }
}

/// The IPv4 address that a packet to this address comes to: mapped (RFC 4291), by the well-known prefix of NAT64 (RFC 6052),
/// by 6to4 (RFC 3056).
fn translated(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [_, b, c, .., g, h] = address.segments();
    let of = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    if MAPPED.contains(&address) || NAT64.contains(&address) {
        Some(of(g, h))
    } else {
        SIX_TO_FOUR.contains(&address).then(|| of(b, c))
    }
}

const MAPPED: Ipv6Net = v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96);
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);
const SIX_TO_FOUR: Ipv6Net = v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16);
const GLOBAL_UNICAST: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

const INTERNAL_V4: [(Ipv4Net, &str); 5] = [
    (v4([127, 0, 0, 0], 8), "loopback"),
    (v4([10, 0, 0, 0], 8), "private"),
    (v4([172, 16, 0, 0], 12), "private"),
    (v4([192, 168, 0, 0], 16), "private"),
    (v4([100, 64, 0, 0], 10), "shared by a carrier's customers"),
];

const SPECIAL_V4: [(Ipv4Net, &str); 12] = [
    (v4([0, 0, 0, 0], 8), "this network"),
    (v4([169, 254, 0, 0], 16), "link-local"),
    (v4([192, 0, 0, 0], 24), "protocol assignments"),
    (v4([192, 0, 2, 0], 24), "documentation"),
    (v4([198, 51, 100, 0], 24), "documentation"),
    (v4([203, 0, 113, 0], 24), "documentation"),
    (v4([192, 88, 99, 0], 24), "6to4 relays"),
    (v4([198, 18, 0, 0], 15), "benchmarking"),
    (v4([224, 0, 0, 0], 4), "multicast"),
    // With the limited broadcast address.
    (v4([240, 0, 0, 0], 4), "reserved"),
    // They lie in ranges that would be public or internal.
    (v4([168, 63, 129, 16], 32), "a cloud's platform"),
    (v4([100, 100, 100, 200], 32), "a cloud's metadata"),
];

const INTERNAL_V6: [(Ipv6Net, &str); 2] = [
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), "loopback"),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), "unique local"),
];

/// Of what is no global unicast only what has a name of its own.
const SPECIAL_V6: [(Ipv6Net, &str); 13] = [
    (v6([0; 8], 128), "unspecified"),
    (v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), "local-use NAT64"),
    (v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), "discard"),
    // Teredo, ORCHID, benchmarking and others.
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), "protocol assignments"),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), "documentation"),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), "documentation"),
    (v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16), "segment routing"),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), "link-local"),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), "site-local"),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "multicast"),
    // They lie in ranges that would be internal.
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0], 32), "a cloud's metadata"),
    (v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128), "a cloud's metadata"),
    (v6([0xfd00, 0xc1, 0, 0, 0, 0, 0, 0], 32), "a cloud's metadata"),
];

const fn v4(of: [u8; 4], length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::from_octets(of), length)
}

const fn v6(of: [u16; 8], length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::from_segments(of), length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Verdict {
        judge(text.parse().unwrap())
    }

    /// First, last, and the public neighbours of every range of IPv4.
    const RANGES: [(&str, &str, Option<&str>, Option<&str>); 16] = [
        ("0.0.0.0", "0.255.255.255", None, Some("1.0.0.0")),
        ("10.0.0.0", "10.255.255.255", Some("9.255.255.255"), Some("11.0.0.0")),
        (
            "100.64.0.0",
            "100.127.255.255",
            Some("100.63.255.255"),
            Some("100.128.0.0"),
        ),
        (
            "127.0.0.0",
            "127.255.255.255",
            Some("126.255.255.255"),
            Some("128.0.0.0"),
        ),
        (
            "168.63.129.16",
            "168.63.129.16",
            Some("168.63.129.15"),
            Some("168.63.129.17"),
        ),
        (
            "169.254.0.0",
            "169.254.255.255",
            Some("169.253.255.255"),
            Some("169.255.0.0"),
        ),
        (
            "172.16.0.0",
            "172.31.255.255",
            Some("172.15.255.255"),
            Some("172.32.0.0"),
        ),
        ("192.0.0.0", "192.0.0.255", Some("191.255.255.255"), Some("192.0.1.0")),
        ("192.0.2.0", "192.0.2.255", Some("192.0.1.255"), Some("192.0.3.0")),
        (
            "192.88.99.0",
            "192.88.99.255",
            Some("192.88.98.255"),
            Some("192.88.100.0"),
        ),
        (
            "192.168.0.0",
            "192.168.255.255",
            Some("192.167.255.255"),
            Some("192.169.0.0"),
        ),
        (
            "198.18.0.0",
            "198.19.255.255",
            Some("198.17.255.255"),
            Some("198.20.0.0"),
        ),
        (
            "198.51.100.0",
            "198.51.100.255",
            Some("198.51.99.255"),
            Some("198.51.101.0"),
        ),
        (
            "203.0.113.0",
            "203.0.113.255",
            Some("203.0.112.255"),
            Some("203.0.114.0"),
        ),
        ("224.0.0.0", "239.255.255.255", Some("223.255.255.255"), None),
        ("240.0.0.0", "255.255.255.255", None, None),
    ];

    #[test]
    fn every_range_of_ipv4_is_refused_from_its_first_address_to_its_last_and_no_further() {
        for (first, last, before, after) in RANGES {
            for inside in [first, last] {
                assert_ne!(of(inside), Verdict::Public, "{inside}");
            }
            for outside in before.into_iter().chain(after) {
                assert_eq!(of(outside), Verdict::Public, "{outside}");
            }
        }
    }

    #[test]
    fn what_an_allowed_name_may_lead_to_is_told_from_what_it_never_may() {
        for internal in [
            "127.0.0.1",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "::1",
            "fd12::1",
            "fc00::",
        ] {
            assert!(matches!(of(internal), Verdict::Internal(_)), "{internal}");
        }
        for special in [
            "0.0.0.0",
            "169.254.169.254",
            "100.100.100.200",
            "192.0.0.192",
            "255.255.255.255",
            "::",
            "fe80::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fd00:c1::a9fe:a9fe",
        ] {
            assert!(matches!(of(special), Verdict::Special(_)), "{special}");
        }
    }

    #[test]
    fn of_ipv6_only_global_unicast_is_public() {
        for public in [
            "2606:4700:4700::1111",
            "2a00:1450::1",
            "2001:200::",
            "2001:4860:4860::8888",
            "2400::",
            "3ffe::1",
        ] {
            assert_eq!(of(public), Verdict::Public, "{public}");
        }
        for refused in [
            "::",
            "::1",
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:0:8.8.8.8",
            "64:ff9b:1::8.8.8.8",
            "64:ff9b:1:ffff:ffff:ffff:ffff:ffff",
            "64:ff9b:2::1",
            "100::1",
            "100:0:0:1::1",
            "1fff::1",
            "2001::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2001:1ff:ffff::1",
            "2001:db8::1",
            "2001:db8:ffff:ffff::1",
            "3fff::1",
            "3fff:fff::1",
            "4000::1",
            "5f00::1",
            "fbff::1",
            "fc00::1",
            "fdff:ffff::1",
            "fe00::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "feff::1",
            "ff02::1",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ] {
            assert_ne!(of(refused), Verdict::Public, "{refused}");
        }
    }

    /// IPv6 addresses that stand for this one and get there.
    fn forms(address: Ipv4Addr, rest: u64) -> [Ipv6Addr; 3] {
        let bits = u128::from(address.to_bits());
        [
            address.to_ipv6_mapped(),
            Ipv6Addr::from_bits(0x64_ff9b << 96 | bits),
            Ipv6Addr::from_bits(0x2002 << 112 | bits << 80 | u128::from(rest)),
        ]
    }

    proptest! {
        #[test]
        fn an_ipv4_address_within_an_ipv6_address_is_judged_as_itself(bits: u32, rest: u64) {
            let address = Ipv4Addr::from_bits(bits);
            for form in forms(address, rest) {
                prop_assert_eq!(judge(form.into()), judge(address.into()), "{}", form);
            }
        }

        #[test]
        fn forms_that_only_hold_an_ipv4_address_are_refused_whatever_it_is(bits: u32, rest: u64) {
            let (bits, rest) = (u128::from(bits), u128::from(rest));
            for form in [
                bits,
                0xffff << 48 | bits,
                0x64_ff9b_0001 << 80 | bits,
                0x64_ff9b_0001 << 80 | (bits >> 16) << 64 | (bits & 0xffff) << 40,
                0x2001_0000 << 96 | rest << 32 | !bits & 0xffff_ffff,
                0x2001_0000 << 96 | bits << 64 | rest,
            ] {
                let form = Ipv6Addr::from_bits(form);
                prop_assert_ne!(judge(form.into()), Verdict::Public, "{}", form);
            }
        }

        #[test]
        fn whatever_the_standard_library_knows_as_not_public_is_not(bits: u32, wide: u128) {
            let four = Ipv4Addr::from_bits(bits);
            let known = four.is_unspecified() || four.is_loopback() || four.is_private() || four.is_link_local()
                || four.is_broadcast() || four.is_documentation() || four.is_multicast();
            prop_assert!(!known || judge(four.into()) != Verdict::Public, "{}", four);
            let six = Ipv6Addr::from_bits(wide);
            let known = six.is_unspecified() || six.is_loopback() || six.is_unique_local()
                || six.is_unicast_link_local() || six.is_multicast();
            prop_assert!(!known || judge(six.into()) != Verdict::Public, "{}", six);
        }
    }
}
