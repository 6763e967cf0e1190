//! Error numbers, and why a connection cannot go on.

use base::DecodeError;
use base::frames::LengthError;
use coordination::ErrorCode;
use std::fmt;

/// Why a byte stream is not the protocol. The connection must be closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
    /// The first frame is no connect request (or response).
    Connect(DecodeError),
    /// A frame is too short for the header of a request (or reply).
    Header {
        /// The frame's length.
        length: usize,
    },
    /// A notification cannot be read. Only on the client's side.
    Notification(DecodeError),
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
            Self::Connect(why) => write!(f, "the first frame does not open a session: {why}"),
            Self::Header { length } => {
                write!(f, "a frame of {length} bytes is too short for its header")
            }
            Self::Notification(why) => write!(f, "a notification cannot be read: {why}"),
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

/// The protocol's number of an error; success is 0.
pub fn error_number(error: ErrorCode) -> i32 {
    match error {
        ErrorCode::SystemError => -1,
        ErrorCode::RuntimeInconsistency => -2,
        ErrorCode::MarshallingError => -5,
        ErrorCode::Unimplemented => -6,
        ErrorCode::BadArguments => -8,
        ErrorCode::NoNode => -101,
        ErrorCode::NoAuth => -102,
        ErrorCode::BadVersion => -103,
        ErrorCode::NoChildrenForEphemerals => -108,
        ErrorCode::NodeExists => -110,
        ErrorCode::NotEmpty => -111,
        ErrorCode::SessionExpired => -112,
        ErrorCode::InvalidAcl => -114,
        ErrorCode::AuthFailed => -115,
        ErrorCode::SessionMoved => -118,
        ErrorCode::NoWatcher => -121,
    }
}

/// The error of a number, if it is one that this server sends.
pub fn error_code(number: i32) -> Option<ErrorCode> {
    Some(match number {
        -1 => ErrorCode::SystemError,
        -2 => ErrorCode::RuntimeInconsistency,
        -5 => ErrorCode::MarshallingError,
        -6 => ErrorCode::Unimplemented,
        -8 => ErrorCode::BadArguments,
        -101 => ErrorCode::NoNode,
        -102 => ErrorCode::NoAuth,
        -103 => ErrorCode::BadVersion,
        -108 => ErrorCode::NoChildrenForEphemerals,
        -110 => ErrorCode::NodeExists,
        -111 => ErrorCode::NotEmpty,
        -112 => ErrorCode::SessionExpired,
        -114 => ErrorCode::InvalidAcl,
        -115 => ErrorCode::AuthFailed,
        -118 => ErrorCode::SessionMoved,
        -121 => ErrorCode::NoWatcher,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_names_its_error_and_no_other() {
        let known: Vec<i32> = (-200..10).filter(|n| error_code(*n).is_some()).collect();
        assert_eq!(known.len(), 16);
        for number in known {
            assert_eq!(error_code(number).map(error_number), Some(number));
        }
    }
}
