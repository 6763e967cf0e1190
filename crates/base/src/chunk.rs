//! How the chunks of a machine's snapshot begin: the format, and the chunk's number from 0.

use crate::{Reader, Writer};

/// Begins chunk `number`.
pub fn begin(w: &mut Writer, format: u16, number: u32) {
    w.u16(format).u32(number);
}

/// True for the chunk that a snapshot begins with.
pub fn is_first(chunk: &[u8]) -> bool {
    let mut r = Reader::new(chunk);
    r.u16().and_then(|_| r.u32()) == Ok(0)
}

/// What stands behind the beginning of a chunk that must be of this format and have this number. An error
/// says what is wrong.
pub fn open(chunk: &[u8], format: u16, number: u32) -> Result<Reader<'_>, String> {
    let mut r = Reader::new(chunk);
    let found = r.u16().map_err(|e| e.to_string())?;
    if found != format {
        return Err(format!(
            "its format is {found}, this version reads {format}; upgrade this node"
        ));
    }
    let found = r.u32().map_err(|e| e.to_string())?;
    if found != number {
        return Err(format!(
            "it says that it is chunk {found}; feed them in order"
        ));
    }
    Ok(r)
}
