//! What is spoken: the requests, their versions, and the header that each begins with.
//!
//! A version is spoken when all of it has a meaning here. Topic ids instead of names (Fetch from 13 on,
//! Produce from 13 on) and the newer group protocol are not.

use crate::error::ProtocolError;
use crate::shape::{self, Field};
use base::Reader;
use bytes::{Buf, Bytes};
use std::ops::RangeInclusive;

macro_rules! apis {
    ($($name:ident = $key:literal, $min:literal..=$max:literal, flexible $flexible:literal, $shape:ident;)*) => {
        /// A kind of request.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[allow(missing_docs)] // each is named as Kafka names it
        pub enum Api { $($name = $key,)* }

        impl Api {
            /// All of them, in the order of their keys.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The request of this key.
            pub fn from_key(key: i16) -> Option<Self> {
                match key {
                    $($key => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The versions that are spoken.
            pub fn versions(self) -> RangeInclusive<i16> {
                match self {
                    $(Self::$name => $min..=$max,)*
                }
            }

            /// From this version on lengths are varints and tagged fields may follow.
            fn flexible_from(self) -> i16 {
                match self {
                    $(Self::$name => $flexible,)*
                }
            }

            pub(crate) fn shape(self) -> &'static [Field] {
                match self {
                    $(Self::$name => shape::$shape,)*
                }
            }
        }
    };
}

apis! {
    Produce = 0, 3..=11, flexible 9, PRODUCE;
    Fetch = 1, 4..=12, flexible 12, FETCH;
    ListOffsets = 2, 1..=7, flexible 6, LIST_OFFSETS;
    Metadata = 3, 0..=12, flexible 9, METADATA;
    OffsetCommit = 8, 2..=8, flexible 8, OFFSET_COMMIT;
    OffsetFetch = 9, 1..=8, flexible 6, OFFSET_FETCH;
    FindCoordinator = 10, 0..=4, flexible 3, FIND_COORDINATOR;
    JoinGroup = 11, 0..=9, flexible 6, JOIN_GROUP;
    Heartbeat = 12, 0..=4, flexible 4, HEARTBEAT;
    LeaveGroup = 13, 0..=5, flexible 4, LEAVE_GROUP;
    SyncGroup = 14, 0..=5, flexible 4, SYNC_GROUP;
    DescribeGroups = 15, 0..=5, flexible 5, DESCRIBE_GROUPS;
    ListGroups = 16, 0..=4, flexible 3, LIST_GROUPS;
    ApiVersions = 18, 0..=4, flexible 3, API_VERSIONS;
    CreateTopics = 19, 2..=7, flexible 5, CREATE_TOPICS;
    DeleteTopics = 20, 1..=6, flexible 4, DELETE_TOPICS;
    DeleteRecords = 21, 0..=2, flexible 2, DELETE_RECORDS;
    InitProducerId = 22, 0..=4, flexible 2, INIT_PRODUCER_ID;
    OffsetForLeaderEpoch = 23, 2..=4, flexible 4, OFFSET_FOR_LEADER_EPOCH;
    DescribeConfigs = 32, 1..=4, flexible 4, DESCRIBE_CONFIGS;
    CreatePartitions = 37, 0..=3, flexible 2, CREATE_PARTITIONS;
    DeleteGroups = 42, 0..=2, flexible 2, DELETE_GROUPS;
    IncrementalAlterConfigs = 44, 0..=1, flexible 1, INCREMENTAL_ALTER_CONFIGS;
    DescribeCluster = 60, 0..=1, flexible 0, DESCRIBE_CLUSTER;
}

impl Api {
    /// The number that stands for it.
    pub fn key(self) -> i16 {
        self as i16
    }

    /// True when this version has varint lengths and tagged fields.
    pub fn is_flexible(self, version: i16) -> bool {
        version >= self.flexible_from()
    }

    /// The versions that clients are told of. Produce is told from 0 on: older librdkafka takes the lack of
    /// version 0 for a broker that knows no compression. It never asks for those versions.
    pub fn told_versions(self) -> RangeInclusive<i16> {
        match self {
            Self::Produce => 0..=*self.versions().end(),
            _ => self.versions(),
        }
    }
}

/// What a request begins with, and its reply needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// Which request.
    pub api: Api,
    /// In which version; an `ApiVersions` of an unknown version has the version 0 here.
    pub version: i16,
    /// The client's number for it.
    pub correlation: i32,
    /// What the client calls itself.
    pub client_id: String,
}

/// The header, the body, and whether it is an `ApiVersions` of a version that is not spoken.
pub fn decode_header(frame: &Bytes) -> Result<(Header, Bytes, bool), ProtocolError> {
    let length = frame.len();
    let broken = |_| ProtocolError::Header { length };
    let mut r = Reader::new(frame);
    let key = r.u16().map_err(broken)? as i16;
    let version = r.u16().map_err(broken)? as i16;
    let correlation = r.i32().map_err(broken)?;
    let api = Api::from_key(key).ok_or(ProtocolError::UnknownApi { key })?;
    let is_spoken = api.versions().contains(&version);
    if !is_spoken && api != Api::ApiVersions {
        return Err(ProtocolError::UnknownVersion { api, version });
    }
    if !is_spoken {
        // Nothing of it can be relied on but what stands before the version's own fields.
        let header = Header {
            api,
            version: 0,
            correlation,
            client_id: String::new(),
        };
        return Ok((header, Bytes::new(), true));
    }
    let client_id = decode_client_id(&mut r).ok_or(ProtocolError::Header { length })?;
    if api.is_flexible(version) {
        shape::skip_tags(&mut r).map_err(|_| ProtocolError::Header { length })?;
    }
    let mut body = frame.clone();
    body.advance(length - r.rest().len());
    let header = Header {
        api,
        version,
        correlation,
        client_id,
    };
    Ok((header, body, false))
}

fn decode_client_id(r: &mut Reader<'_>) -> Option<String> {
    match r.u16().ok()? as i16 {
        -1 => Some(String::new()),
        n => {
            let bytes = r.take(usize::try_from(n).ok()?).ok()?;
            Some(std::str::from_utf8(bytes).ok()?.to_owned())
        }
    }
}
