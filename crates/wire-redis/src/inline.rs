//! Requests without lengths: words on a line, as a person types them.

use bytes::Bytes;

/// The words of a line. None when a quote is not closed or is followed by anything but space.
///
/// Inside of double quotes `\n`, `\r`, `\t`, `\b`, `\a` and `\xHH` stand for bytes and `\` for whatever
/// follows; inside of single quotes only `\'` does. Words without quotes are slices of the line.
pub(crate) fn split(line: &Bytes) -> Option<Vec<Bytes>> {
    let mut words = Vec::new();
    let mut at = 0;
    loop {
        while line.get(at).is_some_and(is_space) {
            at += 1;
        }
        if at == line.len() {
            return Some(words);
        }
        let (word, end) = word(line, at)?;
        words.push(word);
        at = end;
    }
}

/// The word that begins at `start`, and where it ends.
fn word(line: &Bytes, start: usize) -> Option<(Bytes, usize)> {
    let plain = line[start..]
        .iter()
        .position(|byte| is_space(byte) || matches!(byte, b'"' | b'\''))
        .map_or(line.len(), |length| start + length);
    if line.get(plain).is_none_or(is_space) {
        return Some((line.slice(start..plain), plain));
    }
    let mut word = line[start..plain].to_vec();
    let mut at = plain;
    loop {
        match line.get(at) {
            None => break,
            Some(byte) if is_space(byte) => break,
            Some(quote @ (b'"' | b'\'')) => {
                at = quoted(line, at + 1, *quote, &mut word)?;
                if line.get(at).is_some_and(|byte| !is_space(byte)) {
                    return None;
                }
            }
            Some(byte) => {
                word.push(*byte);
                at += 1;
            }
        }
    }
    Some((word.into(), at))
}

/// Reads from behind an opening quote to behind the closing one.
fn quoted(line: &[u8], mut at: usize, quote: u8, word: &mut Vec<u8>) -> Option<usize> {
    loop {
        match (*line.get(at)?, line.get(at + 1)) {
            (byte, _) if byte == quote => return Some(at + 1),
            (b'\\', Some(b'\'')) if quote == b'\'' => {
                word.push(b'\'');
                at += 2;
            }
            (b'\\', Some(escaped)) if quote == b'"' => {
                if let Some(byte) = hexadecimal(&line[at + 1..]) {
                    word.push(byte);
                    at += 4;
                } else {
                    word.push(match escaped {
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        b'b' => 0x08,
                        b'a' => 0x07,
                        other => *other,
                    });
                    at += 2;
                }
            }
            (byte, _) => {
                word.push(byte);
                at += 1;
            }
        }
    }
}

/// The byte that `xHH` stands for.
fn hexadecimal(text: &[u8]) -> Option<u8> {
    let [b'x', high, low, ..] = text else {
        return None;
    };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    Some((digit(*high)? * 16 + digit(*low)?) as u8)
}

fn is_space(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
        let words = split(&Bytes::copy_from_slice(line))?;
        Some(words.iter().map(|word| word.to_vec()).collect())
    }

    #[test]
    fn words_and_quotes_are_read_as_redis_reads_them() {
        let cases: [(&[u8], &[&[u8]]); 12] = [
            (b"", &[]),
            (b"  \t ", &[]),
            (b"PING", &[b"PING"]),
            (b"  set  a\tb ", &[b"set", b"a", b"b"]),
            (br#"set k "hello world""#, &[b"set", b"k", b"hello world"]),
            (br#"set k """#, &[b"set", b"k", b""]),
            (br#""\n\r\t\b\a\"\\\q""#, &[b"\n\r\t\x08\x07\"\\q"]),
            (br#""\x00\xfF\xg1\x1""#, &[b"\x00\xffxg1x1"]),
            (br"'a b' 'it\'s' '\n'", &[b"a b", b"it's", br"\n"]),
            (br#"a"b c""#, &[b"ab c"]),
            (b"\xff\x00", &[b"\xff\x00"]),
            (br"a\nb", &[br"a\nb"]),
        ];
        for (line, expected) in cases {
            let words = words(line).unwrap_or_else(|| panic!("{}", line.escape_ascii()));
            assert_eq!(words, expected, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn quotes_that_do_not_close_or_go_on_are_refused() {
        for line in [
            r#"""#,
            r#""a"#,
            r#"a "b"#,
            "'",
            "'a",
            r#""a"b"#,
            "'a'b",
            r#""a""b""#,
            r#""a\""#,
            r"'a\'",
            r#""\"#,
            r#""\x"#,
            r#""\x1"#,
        ] {
            assert_eq!(words(line.as_bytes()), None, "{line}");
        }
    }
}
