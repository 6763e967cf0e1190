//! Error numbers, and why a connection cannot go on.

use base::frames::LengthError;
use messaging::ErrorCode;
use std::fmt;

/// Kafka's errors by name; `code()` is the number.
pub use kafka_protocol::ResponseError as Error;

/// Why a byte stream is not the protocol, or not one that is spoken here. The connection must be closed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProtocolError {
    /// A frame announced a negative length.
    NegativeLength {
        /// The length.
        length: i32,
    },
    /// A frame announced a length beyond the cap.
    TooLong {
        /// The length.
        length: i32,
        /// The cap.
        frame_bytes_max: u32,
    },
    /// A frame is too short for a request's header, or the header is broken.
    Header {
        /// The frame's length.
        length: usize,
    },
    /// A request that is not spoken here at all.
    UnknownApi {
        /// Its key.
        key: i16,
    },
    /// A request in a version that is not spoken here.
    UnknownVersion {
        /// Which request.
        api: crate::Api,
        /// The version.
        version: i16,
    },
    /// The frame does not hold what its header says.
    Malformed {
        /// Which request.
        api: crate::Api,
        /// In which version.
        version: i16,
        /// What is wrong.
        why: String,
    },
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NegativeLength { length } => write!(f, "a frame announced the length {length}"),
            Self::TooLong {
                length,
                frame_bytes_max,
            } => write!(
                f,
                "a frame announced {length} bytes, more than the {frame_bytes_max} allowed"
            ),
            Self::Header { length } => {
                write!(f, "a frame of {length} bytes has no request's header")
            }
            Self::UnknownApi { key } => write!(f, "requests with the key {key} are not known"),
            Self::UnknownVersion { api, version } => {
                let range = api.versions();
                write!(
                    f,
                    "{api:?} is spoken in versions {} to {}, not in {version}",
                    range.start(),
                    range.end()
                )
            }
            Self::Malformed { api, version, why } => {
                write!(f, "a {api:?} of version {version} cannot be read: {why}")
            }
        }
    }
}

impl std::error::Error for ProtocolError {}

impl From<LengthError> for ProtocolError {
    fn from(error: LengthError) -> Self {
        match error {
            LengthError::NegativeLength { length } => Self::NegativeLength { length },
            LengthError::TooLong {
                length,
                frame_bytes_max,
            } => Self::TooLong {
                length,
                frame_bytes_max,
            },
        }
    }
}

/// Kafka's error for one of a machine's.
pub fn error_of(code: ErrorCode) -> Error {
    match code {
        ErrorCode::UnknownPartition | ErrorCode::UnknownTopic => Error::UnknownTopicOrPartition,
        ErrorCode::OffsetOutOfRange => Error::OffsetOutOfRange,
        ErrorCode::InvalidRecord => Error::InvalidRecord,
        ErrorCode::BatchTooLarge => Error::MessageTooLarge,
        ErrorCode::OutOfOrderSequence => Error::OutOfOrderSequenceNumber,
        ErrorCode::InvalidProducerEpoch => Error::InvalidProducerEpoch,
        ErrorCode::InvalidGroup => Error::InvalidGroupId,
        ErrorCode::UnknownMember => Error::UnknownMemberId,
        ErrorCode::IllegalGeneration => Error::IllegalGeneration,
        ErrorCode::RebalanceInProgress => Error::RebalanceInProgress,
        ErrorCode::InconsistentProtocol => Error::InconsistentGroupProtocol,
        ErrorCode::FencedInstance => Error::FencedInstanceId,
        ErrorCode::InvalidSessionTimeout => Error::InvalidSessionTimeout,
        ErrorCode::GroupFull => Error::GroupMaxSizeReached,
        ErrorCode::GroupNotFound => Error::GroupIdNotFound,
        ErrorCode::NonEmptyGroup => Error::NonEmptyGroup,
        ErrorCode::OffsetMetadataTooLarge => Error::OffsetMetadataTooLarge,
        ErrorCode::TopicExists => Error::TopicAlreadyExists,
        ErrorCode::InvalidTopicName => Error::InvalidTopicException,
        ErrorCode::InvalidPartitions => Error::InvalidPartitions,
        ErrorCode::InvalidConfig => Error::InvalidConfig,
        ErrorCode::TooManyPartitions => Error::PolicyViolation,
    }
}
