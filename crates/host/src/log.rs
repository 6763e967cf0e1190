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
        base::time::utc(now.as_millis() as i64)
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
