//! What a command answers, free of any protocol version.

use base::{DecodeError, Reader, Writer};
use bytes::Bytes;
use std::borrow::Cow;

/// Answers nest no deeper in their byte form.
const DEPTH_MAX: u32 = 16;

/// The answer to one command.
///
/// Where Redis' two protocol versions differ, the variant says what is meant and the wire decides how to
/// say it: a `Map`, a `Set` or `Pairs` is a flat array in the older one, a `Double` or a `Verbatim` a bulk
/// string, a `Bool` an integer.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    /// Nothing: a missing key or element.
    Nil,
    /// Nothing where a list would have been: a transaction that was not carried out, a pop that timed out.
    NilArray,
    /// A short status, `OK` for most.
    Status(Cow<'static, str>),
    /// A refusal; begins with its code (`ERR`, `WRONGTYPE`, …). Nothing was changed.
    Error(Cow<'static, str>),
    /// A signed number.
    Integer(i64),
    /// A floating-point number.
    Double(f64),
    /// Yes or no.
    Bool(bool),
    /// Bytes.
    Bulk(Bytes),
    /// Text for people.
    Verbatim(String),
    /// Several answers.
    Array(Vec<Reply>),
    /// Fields with their values.
    Map(Vec<(Reply, Reply)>),
    /// Members without order.
    Set(Vec<Reply>),
    /// Two by two: flat in the older protocol, nested in the newer.
    Pairs(Vec<(Reply, Reply)>),
}

impl Reply {
    /// The usual status.
    pub const OK: Self = Self::Status(Cow::Borrowed("OK"));

    /// The key holds something else.
    pub const WRONG_TYPE: Self = Self::Error(Cow::Borrowed(
        "WRONGTYPE Operation against a key holding the wrong kind of value",
    ));

    /// A refusal known beforehand.
    pub const fn error(text: &'static str) -> Self {
        Self::Error(Cow::Borrowed(text))
    }

    /// True for a refusal.
    pub fn is_error(&self) -> bool {
        matches!(self, Self::Error(_))
    }

    /// Appends the byte form: what is kept of transactions that ended.
    pub fn encode_into(&self, w: &mut Writer) {
        match self {
            Self::Nil => w.u8(1),
            Self::NilArray => w.u8(2),
            Self::Status(text) => w.u8(3).str(text),
            Self::Error(text) => w.u8(4).str(text),
            Self::Integer(number) => w.u8(5).i64(*number),
            Self::Double(number) => w.u8(6).u64(number.to_bits()),
            Self::Bool(is_true) => w.u8(7).bool(*is_true),
            Self::Bulk(bytes) => w.u8(8).bytes(bytes),
            Self::Verbatim(text) => w.u8(9).str(text),
            Self::Array(all) => encode_all(w.u8(10), all),
            Self::Map(all) => encode_pairs(w.u8(11), all),
            Self::Set(all) => encode_all(w.u8(12), all),
            Self::Pairs(all) => encode_pairs(w.u8(13), all),
        };
    }

    /// Reads the byte form out of `source`, which `r` reads.
    pub fn decode_from(source: &Bytes, r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        decode(source, r, DEPTH_MAX)
    }
}

fn encode_all<'a>(w: &'a mut Writer, all: &[Reply]) -> &'a mut Writer {
    w.u32(all.len() as u32);
    all.iter().for_each(|reply| reply.encode_into(w));
    w
}

fn encode_pairs<'a>(w: &'a mut Writer, all: &[(Reply, Reply)]) -> &'a mut Writer {
    w.u32(all.len() as u32);
    for (one, other) in all {
        one.encode_into(w);
        other.encode_into(w);
    }
    w
}

fn decode(source: &Bytes, r: &mut Reader<'_>, depth: u32) -> Result<Reply, DecodeError> {
    let deeper = depth
        .checked_sub(1)
        .ok_or(DecodeError::Invalid("depth of an answer"))?;
    let text = |r: &mut Reader<'_>| Ok(Cow::Owned(r.str()?.to_owned()));
    let all = |r: &mut Reader<'_>| -> Result<Vec<Reply>, DecodeError> {
        (0..r.count(1)?)
            .map(|_| decode(source, r, deeper))
            .collect()
    };
    let pairs = |r: &mut Reader<'_>| -> Result<Vec<(Reply, Reply)>, DecodeError> {
        let pair =
            |r: &mut Reader<'_>| Ok((decode(source, r, deeper)?, decode(source, r, deeper)?));
        (0..r.count(2)?).map(|_| pair(r)).collect()
    };
    Ok(match r.u8()? {
        1 => Reply::Nil,
        2 => Reply::NilArray,
        3 => Reply::Status(text(r)?),
        4 => Reply::Error(text(r)?),
        5 => Reply::Integer(r.i64()?),
        6 => Reply::Double(f64::from_bits(r.u64()?)),
        7 => Reply::Bool(r.bool()?),
        8 => Reply::Bulk(source.slice_ref(r.bytes()?)),
        9 => Reply::Verbatim(r.str()?.to_owned()),
        10 => Reply::Array(all(r)?),
        11 => Reply::Map(pairs(r)?),
        12 => Reply::Set(all(r)?),
        13 => Reply::Pairs(pairs(r)?),
        _ => return Err(DecodeError::Invalid("kind of an answer")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_survives_its_byte_form() {
        let bulk = Reply::Bulk(Bytes::from_static(b"x"));
        let pair = (bulk.clone(), Reply::Integer(-1));
        let all = Reply::Array(vec![
            Reply::Nil,
            Reply::NilArray,
            Reply::OK,
            Reply::WRONG_TYPE,
            Reply::Double(0.5),
            Reply::Bool(true),
            Reply::Verbatim("v".into()),
            Reply::Map(vec![pair.clone()]),
            Reply::Set(vec![bulk]),
            Reply::Pairs(vec![pair]),
        ]);
        let mut w = Writer::new();
        all.encode_into(&mut w);
        let bytes = w.into_bytes();
        assert_eq!(
            Reply::decode_from(&bytes, &mut Reader::new(&bytes)),
            Ok(all)
        );
        for cut in 0..bytes.len() {
            let part = bytes.slice(..cut);
            assert!(Reply::decode_from(&part, &mut Reader::new(&part)).is_err());
        }
        let deep = Bytes::from([10, 0, 0, 0, 1].repeat(40));
        assert!(Reply::decode_from(&deep, &mut Reader::new(&deep)).is_err());
    }
}
