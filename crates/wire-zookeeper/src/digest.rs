//! The `digest` scheme: what a client proves with a user and a password.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coordination::Identity;
use sha1::{Digest, Sha1};

/// The identity that `user:password` proves: `user:base64(sha1(user:password))`. None for what is not UTF-8.
/// Without a colon the whole is the user, as in ZooKeeper.
pub fn digest_identity(auth: &[u8]) -> Option<Identity> {
    let text = std::str::from_utf8(auth).ok()?;
    let user = text.split(':').next().unwrap_or_default();
    let hash = STANDARD.encode(Sha1::digest(auth));
    Some(Identity {
        scheme: "digest".into(),
        id: format!("{user}:{hash}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_become_the_known_digest() {
        // The example that ZooKeeper's own documentation uses for the super user.
        let identity = digest_identity(b"super:admin").expect("text");
        assert_eq!(identity.scheme, "digest");
        assert_eq!(identity.id, "super:xQJmxLMiHGwaqBvst5y6rkB6HQs=");
    }

    #[test]
    fn a_colon_in_the_password_stays_in_the_password() {
        let id = digest_identity(b"a:b:c").expect("text").id;
        assert!(id.starts_with("a:") && id.ends_with('=') && id.matches(':').count() == 1);
    }

    #[test]
    fn bytes_that_are_not_text_prove_nothing() {
        assert_eq!(digest_identity(b"a:\xff"), None);
    }
}
