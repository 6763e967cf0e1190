//! Numbers as text, read and written as Redis does.

use std::io::{Cursor, Write};

/// A signed number the one way that it is written: no plus, no leading zero, no minus before 0.
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] => {}
        _ => return None,
    }
    digits.iter().try_fold(0i64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| i64::from(digit - b'0'))?;
        let number = number.checked_mul(10)?;
        if negative {
            number.checked_sub(digit)
        } else {
            number.checked_add(digit)
        }
    })
}

/// A floating-point number, infinities among them, never NaN.
pub fn parse_double(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let value: f64 = text.parse().ok()?;
    let is_overflow = value.is_infinite() && text.contains(|c: char| c.is_ascii_digit());
    (!value.is_nan() && !is_overflow).then_some(value)
}

/// Significant digits of the layout: C's `%.17g` writes exponents from here on.
const DIGITS_MAX: i32 = 17;

/// Room for the longest text: sign, 17 digits, point, four zeros or an exponent.
const TEXT_BYTES_MAX: usize = 32;

/// The text of a floating-point number as Redis lays it out (C's `%.17g`), with the fewest digits that read
/// back as the same number: `1`, `0.1`, `1e+17`, `1e-05`, `inf`, `-inf`, `nan`.
pub fn double_text<R>(number: f64, with: impl FnOnce(&[u8]) -> R) -> R {
    if number.is_nan() {
        return with(b"nan");
    }
    if number.is_infinite() {
        return with(if number > 0.0 { b"inf" } else { b"-inf" });
    }
    let whole = number as i64;
    if whole as f64 == number
        && whole.unsigned_abs() < 1 << 53
        && (whole != 0 || number.is_sign_positive())
    {
        return with(itoa::Buffer::new().format(whole).as_bytes());
    }
    // Rust prints the fewest digits: "-d.ddde-x".
    let mut scientific = Cursor::new([0; TEXT_BYTES_MAX]);
    let mut text = Cursor::new([0; TEXT_BYTES_MAX]);
    let laid_out =
        write!(scientific, "{number:e}").and_then(|()| lay_out(written(&scientific), &mut text));
    debug_assert!(laid_out.is_ok(), "{number:e}");
    with(written(&text))
}

fn written(text: &Cursor<[u8; TEXT_BYTES_MAX]>) -> &[u8] {
    &text.get_ref()[..text.position() as usize]
}

/// Writes digits and exponent as `%g` does.
fn lay_out(scientific: &[u8], out: &mut impl Write) -> std::io::Result<()> {
    let (sign, scientific) = match scientific {
        [b'-', rest @ ..] => ("-", rest),
        rest => ("", rest),
    };
    let at = scientific.iter().position(|byte| *byte == b'e');
    let (mantissa, exponent) = scientific.split_at(at.unwrap_or(scientific.len()));
    let exponent = exponent.get(1..).and_then(parse_integer).unwrap_or(0) as i32;
    // The first digit, and those behind the point.
    let (first, rest) = (&mantissa[..1], mantissa.get(2..).unwrap_or_default());

    out.write_all(sign.as_bytes())?;
    if !(-4..DIGITS_MAX).contains(&exponent) {
        out.write_all(first)?;
        if !rest.is_empty() {
            out.write_all(b".")?;
            out.write_all(rest)?;
        }
        let sign = if exponent < 0 { '-' } else { '+' };
        return write!(out, "e{sign}{:02}", exponent.unsigned_abs());
    }
    if exponent < 0 {
        let zeros = exponent.unsigned_abs() as usize - 1;
        out.write_all(b"0.")?;
        out.write_all(&b"0000"[..zeros])?;
        out.write_all(first)?;
        return out.write_all(rest);
    }
    let before_point = exponent as usize;
    out.write_all(first)?;
    if rest.len() > before_point {
        out.write_all(&rest[..before_point])?;
        out.write_all(b".")?;
        return out.write_all(&rest[before_point..]);
    }
    out.write_all(rest)?;
    (rest.len()..before_point).try_for_each(|_| out.write_all(b"0"))
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

    fn text(number: f64) -> String {
        double_text(number, |text| String::from_utf8_lossy(text).into_owned())
    }

    #[test]
    fn doubles_are_laid_out_as_c_does_with_the_fewest_digits() {
        for (number, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-3.0, "-3"),
            (0.1, "0.1"),
            (-0.1, "-0.1"),
            (3.25, "3.25"),
            (1234.5, "1234.5"),
            (100.0 / 3.0, "33.333333333333336"),
            (0.0001, "0.0001"),
            (0.00012345, "0.00012345"),
            (0.00001, "1e-05"),
            (0.0000123, "1.23e-05"),
            (1e16, "10000000000000000"),
            (1.5e16, "15000000000000000"),
            (9_007_199_254_740_993.0, "9007199254740992"),
            (1e17, "1e+17"),
            (1.25e17, "1.25e+17"),
            (-1e100, "-1e+100"),
            (1e-300, "1e-300"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::MIN, "-1.7976931348623157e+308"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
            (5e-324, "5e-324"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(text(number), expected);
        }
    }

    #[test]
    fn doubles_of_all_sizes_read_back_the_same() {
        let mut rng = base::Rng::new(5);
        for _ in 0..100_000 {
            let number = f64::from_bits(rng.next_u64());
            if !number.is_nan() {
                let read = parse_double(text(number).as_bytes()).expect("a number");
                assert_eq!(read.to_bits(), number.to_bits());
            }
            let small = rng.range(0, 1 << 50) as f64 / 1024.0;
            assert_eq!(parse_double(text(small).as_bytes()), Some(small));
        }
    }

    #[test]
    fn integers_are_read_the_one_way_they_are_written() {
        for number in [0, 7, -1, 10, i64::MAX, i64::MIN] {
            assert_eq!(parse_integer(number.to_string().as_bytes()), Some(number));
        }
        for text in [
            "",
            "-",
            "+1",
            "01",
            "-0",
            "00",
            "1 ",
            " 1",
            "1a",
            "0x1",
            "9223372036854775808",
            "-9223372036854775809",
            "99999999999999999999999",
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
            assert_eq!(self::text(value), want);
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
