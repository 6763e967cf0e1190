//! What applying tells the outside.

use super::command::WriteId;
use base::Origin;
use std::fmt;

/// What applying tells, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// The answer to a unit.
    Reply {
        /// Who waits for it.
        origin: Origin,
        /// It.
        reply: Result<Reply, Refusal>,
    },
}

/// A command that was carried out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// It was, and there is no more to say.
    Done,
    /// A writer has begun.
    Begun {
        /// Its number, which its chunks bear.
        write: WriteId,
        /// Copies that its chunks shall have.
        copies: u8,
    },
    /// Copies: so many changes took effect.
    Changed {
        /// How many.
        count: u32,
    },
}

/// Why a command was refused; it has changed nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// There is no such file or directory.
    NotFound,
    /// Something in the path is a file.
    NotADirectory,
    /// It is a directory.
    IsADirectory,
    /// There is something of that name.
    Exists,
    /// The directory is not empty.
    NotEmpty,
    /// Another writer has the file.
    BeingWritten,
    /// The writer's lease has ended, or its file is gone.
    NoSuchWrite,
    /// A writer's chunks come in order.
    OutOfOrder,
    /// The path is not one.
    InvalidPath(&'static str),
    /// A value is out of its range.
    OutOfRange(&'static str),
    /// The root stays where it is.
    Root,
    /// A directory cannot be moved into itself.
    IntoItself,
    /// There are as many as there may be.
    TooMany(&'static str),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => write!(f, "there is no such file or directory"),
            Self::NotADirectory => write!(f, "something in the path is a file, not a directory"),
            Self::IsADirectory => write!(f, "it is a directory"),
            Self::Exists => write!(f, "there is something of that name already"),
            Self::NotEmpty => write!(
                f,
                "the directory is not empty; say `recursive` to remove it with all in it"
            ),
            Self::BeingWritten => write!(
                f,
                "another writer has the file; try again when it is done, or when its lease has ended"
            ),
            Self::NoSuchWrite => write!(
                f,
                "the writer's lease has ended or its file was removed; nothing of this write is kept, begin again"
            ),
            Self::OutOfOrder => write!(f, "a writer's chunks must come in order"),
            Self::InvalidPath(why) => write!(f, "the path is not valid: {why}"),
            Self::OutOfRange(what) => write!(f, "{what} is out of its range"),
            Self::Root => write!(f, "the root directory stays where it is"),
            Self::IntoItself => write!(f, "a directory cannot be moved into itself"),
            Self::TooMany(what) => write!(f, "there are as many {what} as there may be"),
        }
    }
}
