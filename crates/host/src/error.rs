//! Why a host could not start or had to stop.

use std::fmt;

/// Each says what was attempted, on what, and what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HostError {
    /// The configuration asks for something that is not allowed.
    Config(String),
    /// The data directory cannot be used.
    Directory(String),
    /// A port cannot be listened on.
    Listen(String),
    /// The core stopped the process, or a thread of the host ended unexpectedly.
    Stopped(String),
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(text)
            | Self::Directory(text)
            | Self::Listen(text)
            | Self::Stopped(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for HostError {}
