//! What of a topic can be configured: one table of the keys that have a meaning here.
//!
//! A key with one value only says what holds anyway; asking for anything else is refused rather than
//! ignored. Keys that are not in the table are refused too.

use super::Topic;
use crate::command::LogConfig;
use crate::reply::ErrorCode;
use std::collections::BTreeMap;

/// No partition keeps more, whatever is configured: records are held in memory.
const RETENTION_BYTES_MAX: i64 = 256 << 20;
/// Segments are not larger, whatever is configured.
const SEGMENT_BYTES_MAX: i64 = 1 << 20;
/// The largest batch that can be configured.
const BATCH_BYTES_MAX: i64 = 16 << 20;

/// The key of the hash tag that says where a topic's partitions lie.
pub const PLACEMENT_TAG: &str = "placement.tag";
const TAG_BYTES_MAX: usize = 64;

#[derive(Clone, Copy)]
enum Values {
    /// From the first to the second.
    Number(i64, i64),
    /// The default alone.
    Fixed,
    /// At most [`TAG_BYTES_MAX`] visible ASCII characters, none of them a brace.
    Tag,
}

struct Key {
    name: &'static str,
    default: &'static str,
    values: Values,
    set: fn(&mut LogConfig, i64),
}

const fn fixed(name: &'static str, default: &'static str) -> Key {
    Key {
        name,
        default,
        values: Values::Fixed,
        set: |_, _| {},
    }
}

static KEYS: [Key; 12] = [
    fixed("cleanup.policy", "delete"),
    fixed("compression.type", "producer"),
    Key {
        name: "max.message.bytes",
        default: "1048588",
        values: Values::Number(0, BATCH_BYTES_MAX),
        set: |config, value| config.batch_bytes_max = value as u64,
    },
    fixed("message.timestamp.type", "CreateTime"),
    Key {
        // A majority has each record anyway.
        name: "min.insync.replicas",
        default: "1",
        values: Values::Number(1, i32::MAX as i64),
        set: |_, _| {},
    },
    Key {
        // Ours: partitions lie where a key `{tag}` of the cache does.
        name: PLACEMENT_TAG,
        default: "",
        values: Values::Tag,
        set: |_, _| {},
    },
    Key {
        name: "retention.bytes",
        default: "-1",
        values: Values::Number(-1, i64::MAX),
        set: |config, value| {
            let all = value == -1;
            let bytes = if all { RETENTION_BYTES_MAX } else { value };
            config.retention_bytes = bytes.min(RETENTION_BYTES_MAX) as u64;
        },
    },
    Key {
        name: "retention.ms",
        default: "604800000",
        values: Values::Number(-1, i64::MAX),
        set: |config, value| config.retention_ms = u64::try_from(value).ok(),
    },
    Key {
        // Ours: Kafka knows no retention by count.
        name: "retention.records",
        default: "-1",
        values: Values::Number(-1, i64::MAX),
        set: |config, value| config.retention_records = u64::try_from(value).ok(),
    },
    Key {
        name: "segment.bytes",
        default: "1048576",
        values: Values::Number(14, i32::MAX as i64),
        set: |config, value| config.segment_bytes = value.min(SEGMENT_BYTES_MAX) as u64,
    },
    fixed("unclean.leader.election.enable", "false"),
    fixed("preallocate", "false"),
];

fn key(name: &str) -> Result<&'static Key, ErrorCode> {
    let found = KEYS.iter().find(|key| key.name == name);
    found.ok_or(ErrorCode::InvalidConfig)
}

/// Refuses a key that does not exist.
pub fn check_key(name: &str) -> Result<(), ErrorCode> {
    key(name).map(|_| ())
}

/// What a topic's partitions keep, or that a key or a value does not exist.
pub fn log_config(config: &BTreeMap<String, String>) -> Result<LogConfig, ErrorCode> {
    let mut made = LogConfig::default();
    for (name, value) in config {
        let key = key(name)?;
        match key.values {
            Values::Fixed if value == key.default => {}
            Values::Fixed => return Err(ErrorCode::InvalidConfig),
            Values::Tag if is_tag(value) => {}
            Values::Tag => return Err(ErrorCode::InvalidConfig),
            Values::Number(min, max) => {
                let number: i64 = value.trim().parse().map_err(|_| ErrorCode::InvalidConfig)?;
                if !(min..=max).contains(&number) {
                    return Err(ErrorCode::InvalidConfig);
                }
                (key.set)(&mut made, number);
            }
        }
    }
    Ok(made)
}

fn is_tag(tag: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_graphic() && b != b'{' && b != b'}';
    tag.len() <= TAG_BYTES_MAX && tag.bytes().all(is_allowed)
}

/// One line of a topic's configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigEntry {
    /// The key.
    pub name: &'static str,
    /// Its value.
    pub value: String,
    /// True when it was not configured.
    pub is_default: bool,
    /// True when no other value is possible.
    pub is_fixed: bool,
}

/// A topic's whole configuration.
pub fn describe(topic: &Topic) -> Vec<ConfigEntry> {
    let entry = |key: &Key| {
        let own = topic.config.get(key.name);
        ConfigEntry {
            name: key.name,
            value: own.map_or(key.default, String::as_str).to_owned(),
            is_default: own.is_none(),
            is_fixed: matches!(key.values, Values::Fixed),
        }
    };
    KEYS.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_of_the_table_are_the_defaults_of_a_log() {
        let all = KEYS
            .iter()
            .map(|k| (k.name.to_owned(), k.default.to_owned()));
        assert_eq!(log_config(&all.collect()), Ok(LogConfig::default()));
    }

    #[test]
    fn values_outside_of_the_table_are_refused() {
        for (name, value) in [
            ("retention.ms", "-2"),
            ("retention.ms", "soon"),
            ("segment.bytes", "13"),
            ("cleanup.policy", "compact"),
            ("min.insync.replicas", "0"),
            ("no.such.key", "1"),
            ("placement.tag", "{tree}"),
            ("placement.tag", "a b"),
        ] {
            let config = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            assert_eq!(
                log_config(&config),
                Err(ErrorCode::InvalidConfig),
                "{name}={value}"
            );
        }
        let config = BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]);
        assert_eq!(log_config(&config).map(|c| c.retention_ms), Ok(None));
    }
}
