//! The byte form of [`Hello`], the first frame on a stream between cores.

use crate::event::Hello;
use base::{ClusterId, CoreAddress, CoreId, DecodeError, NodeId, Reader, Writer};

const MAGIC: u32 = 0x414c_5448; // "ALTH"
/// Version of the protocol between nodes; a stream of another version is closed.
pub const PROTOCOL_VERSION: u16 = 1;

impl Hello {
    /// The byte form.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u32(MAGIC).u16(PROTOCOL_VERSION).u64(self.cluster.0);
        w.u64(self.from.node.0).u16(self.from.core.0);
        w.str(&self.address).u16(self.to_core.0);
        w.u16(self.cores).u16(self.lanes);
        w.into_vec()
    }

    /// Reads the byte form.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        if r.u32()? != MAGIC {
            return Err(DecodeError::Invalid("greeting: not an Althing node"));
        }
        if r.u16()? != PROTOCOL_VERSION {
            return Err(DecodeError::Invalid("protocol version between nodes"));
        }
        let hello = Self {
            cluster: ClusterId(r.u64()?),
            from: CoreAddress {
                node: NodeId(r.u64()?),
                core: CoreId(r.u16()?),
            },
            address: r.str()?.to_owned(),
            to_core: CoreId(r.u16()?),
            cores: r.u16()?,
            lanes: r.u16()?,
        };
        r.finish()?;
        if hello.cores == 0 || hello.lanes == 0 {
            return Err(DecodeError::Invalid("number of cores or lanes"));
        }
        Ok(hello)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hello_survives_its_byte_form() {
        let hello = Hello {
            cluster: ClusterId(1),
            from: CoreAddress {
                node: NodeId(2),
                core: CoreId(0),
            },
            address: "127.0.0.1:7401".into(),
            to_core: CoreId(1),
            cores: 2,
            lanes: 2,
        };
        let bytes = hello.encode();
        assert_eq!(Hello::decode(&bytes), Ok(hello));
        for cut in 0..bytes.len() {
            assert!(Hello::decode(&bytes[..cut]).is_err());
        }
    }
}
