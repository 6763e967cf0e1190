//! Access control lists: which are valid, and whom they let pass. Schemes are `world`, `auth`, `digest`
//! and `ip`; the super user passes everywhere.

use crate::{Acl, ErrorCode, Identity, Principal};
use base::planted::{Bug, planted};
use base64::Engine;
use sha1::{Digest, Sha1};
use std::net::IpAddr;

/// The digest scheme's id of credentials in the form `user:password`: `user:base64(sha1(user:password))`.
/// `None` without a colon or a user.
pub fn digest_id(credentials: &str) -> Option<String> {
    let (user, _) = credentials.split_once(':')?;
    if user.is_empty() {
        return None;
    }
    let hash =
        base64::engine::general_purpose::STANDARD.encode(Sha1::digest(credentials.as_bytes()));
    Some(format!("{user}:{hash}"))
}

/// The list as it will be kept: duplicates dropped and `auth` replaced by the caller's own identities.
pub(crate) fn expand(acl: Vec<Acl>, principal: &Principal) -> Result<Vec<Acl>, ErrorCode> {
    // The list that nearly every node has, without the copying.
    if matches!(acl.as_slice(), [only] if is_world(&only.identity)) {
        return Ok(acl);
    }
    let mut kept: Vec<Acl> = Vec::with_capacity(acl.len());
    let mut keep = |line: Acl| {
        if !kept.contains(&line) {
            kept.push(line);
        }
    };
    for line in acl {
        match line.identity.scheme.as_str() {
            "world" if line.identity.id == "anyone" => keep(line),
            "auth" => {
                let mut own = principal
                    .identities
                    .iter()
                    .filter(|identity| identity.scheme == "digest")
                    .peekable();
                if own.peek().is_none() {
                    return Err(ErrorCode::InvalidAcl);
                }
                own.for_each(|identity| {
                    keep(Acl {
                        permissions: line.permissions,
                        identity: identity.clone(),
                    });
                });
            }
            "digest" if is_digest(&line.identity.id) => keep(line),
            "ip" if parse_network(&line.identity.id).is_some() => keep(line),
            _ => return Err(ErrorCode::InvalidAcl),
        }
    }
    if kept.is_empty() {
        return Err(ErrorCode::InvalidAcl);
    }
    Ok(kept)
}

/// True when some line grants one of the `wanted` permissions to the caller.
pub(crate) fn permits(acl: &[Acl], wanted: u32, principal: &Principal) -> bool {
    principal.superuser
        || planted(Bug::LetEverybodyPass)
        || acl
            .iter()
            .any(|line| line.permissions & wanted != 0 && matches(&line.identity, principal))
}

/// The list as shown to one who may read the node but not administer it: hashes of passwords are hidden.
pub(crate) fn without_hashes(acl: &[Acl]) -> Vec<Acl> {
    acl.iter()
        .map(|line| {
            let mut line = line.clone();
            if line.identity.scheme == "digest"
                && let Some((user, _)) = line.identity.id.split_once(':')
            {
                line.identity.id = format!("{user}:x");
            }
            line
        })
        .collect()
}

fn is_world(identity: &Identity) -> bool {
    identity.scheme == "world" && identity.id == "anyone"
}

fn matches(granted: &Identity, principal: &Principal) -> bool {
    match granted.scheme.as_str() {
        "world" => granted.id == "anyone",
        "digest" => principal.identities.contains(granted),
        "ip" => {
            let Some((network, bits)) = parse_network(&granted.id) else {
                return false;
            };
            let address: Option<IpAddr> = principal.address.parse().ok();
            address.is_some_and(|address| {
                same_family_prefix(address, network, bits)
                    || same_family_prefix(address.to_canonical(), network, bits)
            })
        }
        _ => false,
    }
}

/// `user:hash`: two parts, as ZooKeeper counts them (empty parts at the end do not count).
fn is_digest(id: &str) -> bool {
    id.trim_end_matches(':').split(':').count() == 2
}

/// `address` or `address/bits`.
fn parse_network(text: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let bits_max = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        Some(bits) => bits.parse().ok()?,
        None => bits_max,
    };
    (bits <= bits_max).then_some((address, bits))
}

fn same_family_prefix(a: IpAddr, b: IpAddr, bits: u32) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            (a.to_bits() ^ b.to_bits())
                .checked_shr(32 - bits)
                .unwrap_or(0)
                == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            (a.to_bits() ^ b.to_bits())
                .checked_shr(128 - bits)
                .unwrap_or(0)
                == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(scheme: &str, id: &str) -> Acl {
        Acl {
            permissions: 1,
            identity: Identity {
                scheme: scheme.into(),
                id: id.into(),
            },
        }
    }

    fn caller(address: &str, digests: &[&str]) -> Principal {
        Principal {
            identities: digests
                .iter()
                .map(|id| line("digest", id).identity)
                .collect(),
            address: address.into(),
            superuser: false,
        }
    }

    #[test]
    fn lists_are_valid_as_zookeeper_says() {
        let anonymous = caller("1.2.3.4", &[]);
        for (scheme, id, valid) in [
            ("world", "anyone", true),
            ("world", "someone", false),
            ("auth", "", false),
            ("digest", "a:b", true),
            ("digest", "a", false),
            ("digest", "a:", false),
            ("digest", "a:b:c", false),
            ("ip", "1.2.3.4", true),
            ("ip", "1.2.3.4/24", true),
            ("ip", "1.2.3.4/33", false),
            ("ip", "::1/128", true),
            ("ip", "1.2.3", false),
            ("sasl", "x", false),
        ] {
            let result = expand(vec![line(scheme, id)], &anonymous);
            assert_eq!(result.is_ok(), valid, "{scheme}:{id}");
        }
        assert_eq!(expand(vec![], &anonymous), Err(ErrorCode::InvalidAcl));
    }

    #[test]
    fn auth_becomes_the_callers_identities_once() {
        let bob = caller("", &["bob:x", "bob:y", "bob:x"]);
        let acl = expand(vec![line("auth", "ignored"), line("digest", "bob:y")], &bob);
        assert_eq!(
            acl,
            Ok(vec![line("digest", "bob:x"), line("digest", "bob:y")])
        );
    }

    #[test]
    fn addresses_match_by_prefix_within_their_family() {
        for (acl, address, passes) in [
            ("10.0.0.0/8", "10.9.8.7", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "9.9.9.9", true),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "::ffff:10.0.0.1", true),
            ("fe80::/10", "fe80::1", true),
            ("fe80::/10", "10.0.0.1", false),
            ("::/0", "", false),
        ] {
            let acl = [line("ip", acl)];
            assert_eq!(permits(&acl, 1, &caller(address, &[])), passes, "{address}");
        }
    }

    #[test]
    fn digests_are_those_of_zookeepers_generator() {
        // echo -n super:test | openssl dgst -sha1 -binary | base64
        assert_eq!(
            digest_id("super:test").as_deref(),
            Some("super:D/InIHSb7yEEbrWz8b9l71RjZJU=")
        );
        assert_eq!((digest_id("nobody"), digest_id(":x")), (None, None));
    }

    #[test]
    fn hashes_are_hidden_from_readers() {
        assert_eq!(
            without_hashes(&[line("digest", "a:b")]),
            vec![line("digest", "a:x")]
        );
    }
}
