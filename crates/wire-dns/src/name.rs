//! What a name asks for.

use crate::Wants;
use std::net::IpAddr;

/// The zones that are served.
pub const ZONES: [&str; 2] = ["althing", "consul"];
/// The name of the one datacenter, which may stand before the zone.
const DATACENTER: &str = "dc1";

/// What the labels of a name ask for, in any case.
pub fn wants(labels: &[String]) -> Wants {
    let lower: Vec<String> = labels.iter().map(|l| l.to_ascii_lowercase()).collect();
    let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
    let Some((zone, rest)) = lower.split_last() else {
        return Wants::Foreign;
    };
    if !ZONES.contains(zone) {
        return Wants::Foreign;
    }
    let rest = match rest.split_last() {
        None => return Wants::Zone,
        Some((&DATACENTER, before)) => before,
        Some(_) => rest,
    };
    // As it was asked: names of services and tags keep their case.
    let asked = |i: usize| labels[i].clone();
    let service = |name: String, tag: Option<String>| Wants::Service { name, tag };
    match rest {
        [_, "service"] => service(asked(0), None),
        [first, second, "service"] => match (first.strip_prefix('_'), second.strip_prefix('_')) {
            (Some(_), Some("tcp")) => service(asked(0)[1..].to_owned(), None),
            (Some(_), Some(_)) => service(asked(0)[1..].to_owned(), Some(asked(1)[1..].to_owned())),
            _ => service(asked(1), Some(asked(0))),
        },
        [hex, "addr"] => address(hex).map_or(Wants::Nothing, Wants::Address),
        _ => Wants::Nothing,
    }
}

/// An IP address as hexadecimal digits: 8 of them, or 32.
fn address(hex: &str) -> Option<IpAddr> {
    if !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    match hex.len() {
        8 => Some(IpAddr::from(
            u32::from_str_radix(hex, 16).ok()?.to_be_bytes(),
        )),
        32 => Some(IpAddr::from(
            u128::from_str_radix(hex, 16).ok()?.to_be_bytes(),
        )),
        _ => None,
    }
}

/// The name of an IP address.
pub fn of_address(address: IpAddr) -> String {
    let digits: String = match address {
        IpAddr::V4(v4) => v4.octets().iter().map(|b| format!("{b:02x}")).collect(),
        IpAddr::V6(v6) => v6.octets().iter().map(|b| format!("{b:02x}")).collect(),
    };
    format!("{digits}.addr.{}", ZONES[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Wants {
        let labels: Vec<String> = name.split('.').map(str::to_owned).collect();
        wants(&labels)
    }

    #[test]
    fn names_ask_for_what_they_say() {
        let service = |name: &str, tag: Option<&str>| Wants::Service {
            name: name.into(),
            tag: tag.map(str::to_owned),
        };
        let cases = [
            ("web.service.althing", service("web", None)),
            ("Web.SERVICE.Consul", service("Web", None)),
            ("web.service.dc1.consul", service("web", None)),
            ("blue.web.service.althing", service("web", Some("blue"))),
            ("_web._tcp.service.consul", service("web", None)),
            ("_web._Blue.service.consul", service("web", Some("Blue"))),
            (
                "0a000001.addr.althing",
                Wants::Address([10, 0, 0, 1].into()),
            ),
            ("0a0000.addr.althing", Wants::Nothing),
            ("+a000001.addr.althing", Wants::Nothing),
            ("althing", Wants::Zone),
            ("dc1.consul", Wants::Nothing),
            ("web.althing", Wants::Nothing),
            ("a.b.web.service.althing", Wants::Nothing),
            ("service.althing", Wants::Nothing),
            ("example.com", Wants::Foreign),
            ("web.service.althing.com", Wants::Foreign),
            ("", Wants::Foreign),
        ];
        for (name, wanted) in cases {
            assert_eq!(of(name), wanted, "{name}");
        }
        for ip in ["10.1.2.3", "::1", "fe80::1"] {
            let ip: IpAddr = ip.parse().unwrap();
            assert_eq!(of(&of_address(ip)), Wants::Address(ip));
        }
    }
}
