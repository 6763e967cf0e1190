//! Access control lists: which are valid, and whom they let pass.

use base64::Engine;
use sha1::{Digest, Sha1};

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
