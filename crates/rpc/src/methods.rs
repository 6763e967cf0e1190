//! What the protos say of methods: which are unary, and which may be carried out twice.

use prost::Message;
use prost_types::FileDescriptorSet;
use prost_types::method_options::IdempotencyLevel;
use std::collections::BTreeMap;

/// A method.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Method {
    /// One message there, one back.
    pub is_unary: bool,
    /// `option idempotency_level` says that repeating it does no harm.
    pub is_idempotent: bool,
}

/// Methods by path, as `/package.Service/Method`.
pub(crate) type Methods = BTreeMap<String, Method>;

/// Reads an encoded `google.protobuf.FileDescriptorSet`.
pub(crate) fn read(descriptors: &[u8]) -> Result<Methods, String> {
    let set = FileDescriptorSet::decode(descriptors)
        .map_err(|error| format!("these are no descriptors of protos: {error}"))?;
    let mut methods = Methods::new();
    for file in &set.file {
        let package = match file.package() {
            "" => String::new(),
            package => format!("{package}."),
        };
        for service in &file.service {
            for method in &service.method {
                let path = format!("/{package}{}/{}", service.name(), method.name());
                let options = method.options.as_ref();
                let level = options.map(|options| options.idempotency_level());
                let is_idempotent =
                    level.is_some_and(|l| l != IdempotencyLevel::IdempotencyUnknown);
                let is_unary = !method.client_streaming() && !method.server_streaming();
                methods.insert(
                    path,
                    Method {
                        is_unary,
                        is_idempotent,
                    },
                );
            }
        }
    }
    Ok(methods)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protos_say_what_may_be_repeated() {
        let descriptors = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
        let methods = read(descriptors).unwrap();
        let is_idempotent = |path: &str| methods[path].is_idempotent;
        assert!(is_idempotent("/greeter.v1.Greeter/Greet"));
        assert!(!is_idempotent("/greeter.v1.Greeter/Count"));
        assert!(methods.values().all(|method| method.is_unary));
        assert!(read(b"\xff").is_err());
    }
}
