//! Patterns as KEYS, SCAN and the rest take them: `*`, `?`, `[a-z]`, `[^a]`, `\` before what is meant as it is.
//!
//! Only the last `*` has to be tried again, so the cost is at most pattern times text.

/// True when the whole text fits the pattern.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on when something does not fit: behind the last star, one byte further in the text.
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p + 1, t));
            p += 1;
            continue;
        }
        if t == text.len() {
            return p >= pattern.len();
        }
        match one(&pattern[p.min(pattern.len())..], text[t]) {
            Some(length) => (p, t) = (p + length, t + 1),
            None => {
                let Some((behind, from)) = star else {
                    return false;
                };
                star = Some((behind, from + 1));
                (p, t) = (behind, from + 1);
            }
        }
    }
}

/// How long the first element of a pattern without a star in front is, if it fits the byte.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'\\', literal, ..] => (*literal == byte).then_some(2),
        [b'[', rest @ ..] => class(rest, byte).map(|length| length + 1),
        [literal, ..] => (*literal == byte).then_some(1),
    }
}

/// The same for what stands behind `[`. A class that does not end takes the rest of the pattern.
fn class(pattern: &[u8], byte: u8) -> Option<usize> {
    let is_negated = pattern.first() == Some(&b'^');
    let mut at = usize::from(is_negated);
    let mut is_in = false;
    loop {
        match &pattern[at.min(pattern.len())..] {
            [] => break,
            [b']', ..] => {
                at += 1;
                break;
            }
            [b'\\', literal, ..] => {
                is_in |= *literal == byte;
                at += 2;
            }
            [low, b'-', high, ..] => {
                let range = *low.min(high)..=*low.max(high);
                is_in |= range.contains(&byte);
                at += 3;
            }
            [literal, ..] => {
                is_in |= *literal == byte;
                at += 1;
            }
        }
    }
    (is_in != is_negated).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_golden() {
        let yes = [
            ("*", ""),
            ("*", "abc"),
            ("h?llo", "hello"),
            ("h*llo", "heeello"),
            ("h[ae]llo", "hallo"),
            ("h[^e]llo", "hallo"),
            ("h[a-b]llo", "hbllo"),
            ("a\\*b", "a*b"),
            ("*a*b*", "xxaxxbxx"),
            ("**", "x"),
            ("[a", "a"),
            ("a*", "a"),
            ("[z-a]", "m"),
            ("", ""),
        ];
        let no = [
            ("", "a"),
            ("h?llo", "hllo"),
            ("h[^e]llo", "hello"),
            ("a\\*b", "axb"),
            ("*a*b", "xxaxxc"),
            ("[a-c]", "d"),
            ("a", "ab"),
            ("?", ""),
            ("[]", "a"),
        ];
        for (pattern, text) in yes {
            assert!(
                matches(pattern.as_bytes(), text.as_bytes()),
                "{pattern} {text}"
            );
        }
        for (pattern, text) in no {
            assert!(
                !matches(pattern.as_bytes(), text.as_bytes()),
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn many_stars_cost_little() {
        let pattern = b"a*".repeat(1000);
        let text = [b'a'; 900];
        assert!(!matches(&pattern, &text));
    }
}
