//! Paths: absolute, parts between single slashes, the root is `/`.

/// The path of the parent; the root's is the root.
pub fn parent(path: &str) -> &str {
    match path.rfind('/') {
        None | Some(0) => "/",
        Some(at) => &path[..at],
    }
}

/// The path up to its last slash and the name behind it; `None` without a slash. The parent of a child of
/// the root is the empty string, which names the root.
pub fn split(path: &str) -> Option<(&str, &str)> {
    path.rsplit_once('/')
}

/// True for the root and the nodes under `/zookeeper` that exist from the start: they cannot be deleted.
pub fn is_reserved(path: &str) -> bool {
    matches!(
        path,
        "/" | "/zookeeper" | "/zookeeper/quota" | "/zookeeper/config"
    )
}

/// ZooKeeper's rules: absolute, no trailing slash, no part that is empty, `.` or `..`, and no characters
/// from the control, surrogate, private-use and special ranges.
pub fn is_valid(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else {
        return false;
    };
    // A character beyond the basic plane is a pair of surrogates to ZooKeeper, hence not allowed either.
    let is_allowed = |c: char| !matches!(c, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..);
    rest.is_empty()
        || rest
            .split('/')
            .all(|part| !matches!(part, "" | "." | "..") && part.chars().all(is_allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_judged_as_zookeeper_does() {
        for good in [
            "/",
            "/a",
            "/a/b",
            "/a.b",
            "/...",
            "/.a",
            "/a..",
            "/é",
            "/a b",
            "/\u{ffef}",
        ] {
            assert!(is_valid(good), "{good:?}");
        }
        for bad in [
            "",
            "a",
            "a/b",
            "//",
            "/a/",
            "/a//b",
            "/.",
            "/..",
            "/a/.",
            "/a/../b",
            "/\0",
            "/a\u{1f}",
            "/\u{7f}",
            "/\u{9f}",
            "/\u{e000}",
            "/\u{f8ff}",
            "/\u{fff0}",
            "/\u{1f600}",
        ] {
            assert!(!is_valid(bad), "{bad:?}");
        }
    }

    #[test]
    fn parents_are_prefixes_down_to_the_root() {
        assert_eq!(
            (parent("/a/b"), parent("/a"), parent("/")),
            ("/a", "/", "/")
        );
        assert_eq!(
            (split("/a/b"), split("/a"), split("a")),
            (Some(("/a", "b")), Some(("", "a")), None)
        );
    }
}
