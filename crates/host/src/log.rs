//! Log lines: `time level message`, to standard error, one write a line.

use node::Level;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes one line. Line breaks inside `message` become spaces, so that a line stays a line.
pub fn line(level: Level, message: &str) {
    let level = match level {
        Level::Error => "ERROR",
        Level::Warn => "WARN ",
        Level::Info => "INFO ",
    };
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let message = message.replace(['\n', '\r'], " ");
    let text = format!(
        "{} {level} {message}\n",
        timestamp(now.as_secs(), now.subsec_millis())
    );
    // A closed standard error must not take the node down.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// An [`Level::Error`] line.
pub fn error(message: impl AsRef<str>) {
    line(Level::Error, message.as_ref());
}

/// A [`Level::Warn`] line.
pub fn warn(message: impl AsRef<str>) {
    line(Level::Warn, message.as_ref());
}

/// An [`Level::Info`] line.
pub fn info(message: impl AsRef<str>) {
    line(Level::Info, message.as_ref());
}

/// RFC 3339 in UTC. Days to civil date by counting from 0000-03-01 in eras of 400 years.
fn timestamp(seconds: u64, millis: u32) -> String {
    let days = (seconds / 86_400) as i64 + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let of_day = seconds % 86_400;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{millis:03}Z",
        of_day / 3_600,
        of_day / 60 % 60,
        of_day % 60
    )
}

#[cfg(test)]
mod tests {
    use super::timestamp;

    #[test]
    fn timestamp_of_known_seconds_is_the_civil_date() {
        assert_eq!(timestamp(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(timestamp(951_782_400, 7), "2000-02-29T00:00:00.007Z");
        assert_eq!(timestamp(1_709_210_096, 0), "2024-02-29T12:34:56.000Z");
        assert_eq!(timestamp(4_102_444_799, 999), "2099-12-31T23:59:59.999Z");
    }
}
