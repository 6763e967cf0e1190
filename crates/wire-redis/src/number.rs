//! Numbers as text, both ways.

use std::io::{Cursor, Write};

/// A signed number the one way that it is written: no plus, no leading zero, no minus before 0.
pub(crate) fn parse_integer(text: &[u8]) -> Option<i64> {
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

/// A floating-point number as [`double_text`] writes it, or in any other form with a point or an exponent.
pub(crate) fn parse_double(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    text.parse().ok()
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
            let read = parse_double(text(number).as_bytes()).expect("a number");
            assert!(read.to_bits() == number.to_bits() || number.is_nan() && read.is_nan());
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
}
