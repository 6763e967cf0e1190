//! Numbers as text, read and written as Redis does.

/// An integer: no sign but `-`, no leading zero, no space.
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let is_canonical = match digits {
        [b'0'] => !is_negative,
        [b'1'..=b'9', ..] => digits.len() <= 19,
        _ => false,
    };
    if !is_canonical {
        return None;
    }
    let mut value = 0i64;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // Below zero, where there is room for one more.
        value = value.checked_mul(10)?.checked_sub(i64::from(digit))?;
    }
    if is_negative {
        Some(value)
    } else {
        value.checked_neg()
    }
}

/// A floating-point number, infinities among them, never NaN.
pub fn parse_double(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let value: f64 = text.parse().ok()?;
    let is_overflow = value.is_infinite() && text.contains(|c: char| c.is_ascii_digit());
    (!value.is_nan() && !is_overflow).then_some(value)
}

/// The shortest text that reads back as the number, with an exponent where C's `%.17g` has one.
pub fn double_text(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.into();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').expect("has an exponent");
    let exponent: i32 = exponent.parse().expect("a number");
    if (-4..17).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// Digits behind the point that INCRBYFLOAT keeps.
const DECIMALS: u32 = 17;
const ONE: i128 = 10i128.pow(DECIMALS);
/// Beyond this, decimals have less room than an f64 would give them.
const WHOLE_MAX: i128 = 10i128.pow(20);

/// The sum of two numbers as text, for INCRBYFLOAT: without an exponent, 17 digits behind the point, no
/// zeros at the end. Redis computes with 80 bits, so that 0.1 + 0.2 is 0.3; here it is decimal as long as
/// both have at most 20 digits before and 17 behind the point, else an f64. `None` when it is not finite.
pub fn sum_text(one: &[u8], other: &[u8]) -> Option<String> {
    if let (Some(one), Some(other)) = (parse_decimal(one), parse_decimal(other)) {
        let sum = one + other;
        let sign = if sum < 0 { "-" } else { "" };
        let (whole, part) = (sum.abs() / ONE, sum.abs() % ONE);
        return Some(trimmed(format!("{sign}{whole}.{part:017}")));
    }
    let sum = parse_double(one)? + parse_double(other)?;
    sum.is_finite().then(|| trimmed(format!("{sum:.17}")))
}

fn trimmed(text: String) -> String {
    let text = text.trim_end_matches('0').trim_end_matches('.');
    match text {
        "-0" => "0".into(),
        text => text.into(),
    }
}

/// The number times [`ONE`], if that is exact and small enough.
fn parse_decimal(text: &[u8]) -> Option<i128> {
    let (is_negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let point = text.iter().position(|b| *b == b'.').unwrap_or(text.len());
    let (whole, part) = (&text[..point], text.get(point + 1..).unwrap_or_default());
    if whole.len() + part.len() == 0 || whole.len() > 30 || part.len() > DECIMALS as usize {
        return None;
    }
    let mut value = 0i128;
    for digit in whole.iter().chain(part) {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i128::from(digit - b'0');
        if value / 10i128.pow(part.len() as u32) >= WHOLE_MAX {
            return None;
        }
    }
    value *= 10i128.pow(DECIMALS - part.len() as u32);
    if value / ONE >= WHOLE_MAX {
        return None;
    }
    Some(if is_negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_canonical() {
        for n in [0, 1, -1, 10, i64::MAX, i64::MIN] {
            assert_eq!(parse_integer(n.to_string().as_bytes()), Some(n));
        }
        for text in [
            "",
            "-",
            "+1",
            "01",
            "-0",
            " 1",
            "1 ",
            "1a",
            "9223372036854775808",
        ] {
            assert_eq!(parse_integer(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn doubles_golden() {
        let texts = [
            ("3", "3"),
            ("1.50", "1.5"),
            ("-inf", "-inf"),
            ("+inf", "inf"),
            ("1e5", "100000"),
            ("1e20", "1e+20"),
            ("1.5e-7", "1.5e-07"),
            ("0.1", "0.1"),
            ("-0", "-0"),
        ];
        for (text, want) in texts {
            let value = parse_double(text.as_bytes()).expect(text);
            assert_eq!(double_text(value), want);
        }
        for text in ["", "nan", "abc", "1e400", " 1", "1 "] {
            assert_eq!(parse_double(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn sums_golden() {
        let sums = [
            ("0.1", "0.2", Some("0.3")),
            ("10.50", "0.1", Some("10.6")),
            ("3", "5.0e3", Some("5003")),
            ("-1.5", "1.5", Some("0")),
            ("3.0", "-5.5", Some("-2.5")),
            ("1e308", "1e308", None),
            ("inf", "1", None),
        ];
        for (one, other, want) in sums {
            assert_eq!(sum_text(one.as_bytes(), other.as_bytes()).as_deref(), want);
        }
        let long = sum_text(b"1e300", b"1e300").expect("finite");
        assert!(long.len() == 301 && long.starts_with("2000"));
    }
}
