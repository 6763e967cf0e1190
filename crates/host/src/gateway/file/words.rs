//! Values of the file of routes that are one word or number, each refused where it stands.

use hyper::Method;
use hyper::header::HeaderName;
use serde::Deserialize;
use std::time::Duration;
use traffic::balance;

/// A time from 1 ms to a day.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(try_from = "u64")]
pub struct Millis(pub(super) u64);

impl TryFrom<u64> for Millis {
    type Error = String;

    fn try_from(ms: u64) -> Result<Self, String> {
        match ms {
            1..=86_400_000 => Ok(Self(ms)),
            _ => Err(format!("{ms} ms is not from 1 to 86400000 (a day)")),
        }
    }
}

impl Millis {
    /// In microseconds.
    pub fn us(self) -> u64 {
        self.0 * 1_000
    }

    /// As a duration.
    pub fn time(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

/// A method of balancing.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(try_from = "String")]
pub struct MethodName(pub balance::Method);

impl Default for MethodName {
    fn default() -> Self {
        Self(balance::Method::RoundRobin)
    }
}

impl TryFrom<String> for MethodName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        balance::Method::named(&name).map(Self).ok_or_else(|| {
            let known = balance::Method::ALL.map(|(name, _)| name).join(", ");
            format!("there is no method {name:?} of balancing; there are {known}")
        })
    }
}

/// What tells requests apart.
#[derive(Deserialize, Clone, PartialEq, Eq, Debug, Default)]
#[serde(try_from = "String")]
pub enum KeyOf {
    /// The client's IP address.
    #[default]
    Source,
    /// The path.
    Path,
    /// A header's value.
    Header(HeaderName),
}

impl TryFrom<String> for KeyOf {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match (text.as_str(), text.strip_prefix("header:")) {
            ("source", _) => Ok(Self::Source),
            ("path", _) => Ok(Self::Path),
            (_, Some(name)) => header_name(name).map(Self::Header),
            _ => Err(format!(
                "{text:?} is none of \"source\", \"path\", \"header:NAME\""
            )),
        }
    }
}

fn header_name(name: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is no header's name"))
}

/// A part, above 0 up to 1.
#[derive(Deserialize, Clone, Copy, PartialEq, Debug)]
#[serde(try_from = "f64")]
pub struct Ratio(pub f64);

impl TryFrom<f64> for Ratio {
    type Error = String;

    fn try_from(ratio: f64) -> Result<Self, String> {
        match ratio > 0.0 && ratio <= 1.0 {
            true => Ok(Self(ratio)),
            false => Err(format!("{ratio} is not above 0 and at most 1")),
        }
    }
}

/// An HTTP method.
#[derive(Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(try_from = "String")]
pub struct MethodWord(pub Method);

impl TryFrom<String> for MethodWord {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let method = Method::from_bytes(text.as_bytes());
        method
            .map(Self)
            .map_err(|_| format!("{text:?} is no HTTP method"))
    }
}

/// A header's name as a key.
#[derive(Deserialize, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[serde(try_from = "String")]
pub struct HeaderWord(pub String);

impl TryFrom<String> for HeaderWord {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        header_name(&text).map(|name| Self(name.as_str().to_owned()))
    }
}

/// Requests a second, from one in a day to a million.
#[derive(Deserialize, Clone, Copy, PartialEq, Debug)]
#[serde(try_from = "f64")]
pub struct Rate(pub(super) f64);

impl TryFrom<f64> for Rate {
    type Error = String;

    fn try_from(rate: f64) -> Result<Self, String> {
        match (1.0 / 86_400.0..=1e6).contains(&rate) {
            true => Ok(Self(rate)),
            false => Err(format!(
                "{rate} requests a second is not from 1/86400 (one a day) to 1000000"
            )),
        }
    }
}
