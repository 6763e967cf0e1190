//! The image of all services, and reading it back.

use super::{Check, Entry, Instance, Services, index_hash};
use base::{DecodeError, Reader, State, Writer};

/// Version of the form.
const FORMAT: u16 = 1;

impl Services {
    pub(super) fn image(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(self.rows.bytes as usize + 128);
        w.u16(FORMAT).u64(self.revision).u64(self.names);
        w.u64(self.extinct).u64(self.last_number).i64(self.time_ms);
        w.u64(self.digest()).u32(self.services.len() as u32);
        for (name, service) in &self.services {
            w.str(name).u64(service.index);
        }
        w.u32(self.instances.len() as u32);
        for entry in self.instances.values() {
            entry.encode_into(&mut w);
        }
        w.u32(self.checks.len() as u32);
        for check in self.checks.values() {
            check.encode_into(&mut w);
        }
        w.into_vec()
    }

    pub(super) fn from_image(image: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(image);
        if r.u16()? != FORMAT {
            return Err(DecodeError::Invalid("format"));
        }
        let mut made = Self {
            revision: r.u64()?,
            names: r.u64()?,
            extinct: r.u64()?,
            last_number: r.u64()?,
            time_ms: r.i64()?,
            ..Self::default()
        };
        let digest = r.u64()?;
        let mut indexes = Vec::new();
        for _ in 0..r.count(12)? {
            indexes.push((r.str()?.to_owned(), r.u64()?));
        }
        for _ in 0..r.count(30)? {
            made.put_instance(Entry {
                created: r.u64()?,
                modified: r.u64()?,
                instance: Instance::decode_from(&mut r)?,
            });
        }
        for _ in 0..r.count(60)? {
            made.put_check(Check::decode_from(&mut r)?);
        }
        for (name, index) in indexes {
            let service = made.services.get_mut(&name);
            service.ok_or(DecodeError::Invalid("service"))?.index = index;
            made.rows.hash = made.rows.hash.wrapping_add(index_hash(&name, index));
        }
        r.finish()?;
        if made.digest() != digest {
            return Err(DecodeError::Invalid("digest"));
        }
        Ok(made)
    }
}
