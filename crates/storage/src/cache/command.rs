//! The closed set of commands: name, number in the log, arity, access, and where the keys stand.

use bytes::Bytes;

/// What a command does to the keys that it names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Changes nothing; `Cache::read` answers it.
    Read,
    /// May change something; goes through the log.
    Write,
}

/// Where keys stand among the arguments behind the name, as Redis' COMMAND tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyRange {
    /// No key: the command is about a whole database.
    None,
    /// From argument `first` (0 is the one behind the name) every `step` arguments; `last` counts from
    /// the first argument, or from the end when negative (−1 is the last argument).
    Range {
        /// The first key.
        first: u8,
        /// The last key.
        last: i8,
        /// Distance between keys.
        step: u8,
    },
    /// Argument `at` says how many keys follow it; `extra_first` is a further key before (the destination
    /// of a store), which is argument 0.
    Counted {
        /// Where the number of keys stands.
        at: u8,
        /// True when argument 0 is a key too.
        extra_first: bool,
    },
}

/// What is known of a command.
#[derive(Debug)]
pub struct Spec {
    /// Its number.
    pub id: CommandId,
    /// In lower case.
    pub name: &'static str,
    /// Arguments with the name: exactly so many, or at least so many when negative.
    pub arity: i8,
    /// What it does.
    pub access: Access,
    /// Where its keys stand.
    pub keys: KeyRange,
    /// It waits when there is nothing to take. The machine only tries once ([`super::Reply::NilArray`] or
    /// `Nil` says that there was nothing); waiting is the front end's.
    pub is_blocking: bool,
}

/// One command: its number and the arguments behind its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    /// Which.
    pub id: CommandId,
    /// The arguments, without the name.
    pub args: Vec<Bytes>,
}

macro_rules! commands {
    ($($id:ident = $number:literal, $name:literal, $arity:literal, $access:ident, $keys:expr $(, $blocking:ident)?;)*) => {
        /// Every command that the machine knows. Numbers stand in the log and are never reused.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u16)]
        #[allow(missing_docs)] // each is named as Redis names it
        pub enum CommandId { $($id = $number,)* }

        static SPECS: &[Spec] = &[
            $(Spec {
                id: CommandId::$id,
                name: $name,
                arity: $arity,
                access: Access::$access,
                keys: $keys,
                is_blocking: commands!(@blocking $($blocking)?),
            },)*
        ];

        impl CommandId {
            /// The command of a number in the log.
            pub fn from_number(number: u16) -> Option<Self> {
                match number {
                    $($number => Some(Self::$id),)*
                    _ => None,
                }
            }
        }
    };
    (@blocking) => { false };
    (@blocking blocking) => { true };
}

const NONE: KeyRange = KeyRange::None;
const ONE: KeyRange = KeyRange::Range {
    first: 0,
    last: 0,
    step: 1,
};

commands! {
    Get = 1, "get", 2, Read, ONE;
    Set = 2, "set", -3, Write, ONE;
    DbSize = 3, "dbsize", 1, Read, NONE;
}

/// All commands, in the order of their numbers.
pub fn specs() -> &'static [Spec] {
    SPECS
}

/// The command of this name, in any case.
pub fn spec(name: &[u8]) -> Option<&'static Spec> {
    SPECS
        .iter()
        .find(|spec| spec.name.as_bytes().eq_ignore_ascii_case(name))
}
