//! Reading a question.

use crate::answer::refuse;
use crate::{UDP_BYTES, UDP_BYTES_MAX, name};
use simple_dns::{CLASS, Name, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, RCODE, TYPE};
use std::fmt;
use std::net::IpAddr;

/// Bytes of a message's head.
const HEAD_BYTES: usize = 12;
/// Additional records of a question: the one of EDNS, and a signature.
const ADDITIONAL_MAX: u16 = 2;

/// Bytes that are no question. They are dropped: whoever sent them may not be who they say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the message is no DNS question")
    }
}

/// A message that came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Asked {
    /// To be answered by [`crate::write`].
    Question(Question),
    /// The answer, whatever there is.
    Answered(Vec<u8>),
}

/// A question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// What it asks for.
    pub wants: Wants,
    pub(crate) id: u16,
    pub(crate) name: Name<'static>,
    pub(crate) qtype: QTYPE,
    pub(crate) wants_recursion: bool,
    /// The client speaks EDNS, and takes so many bytes over UDP.
    pub(crate) edns: Option<u16>,
}

impl Question {
    /// The largest answer that the client takes over UDP.
    pub fn udp_bytes_max(&self) -> usize {
        self.edns.map_or(UDP_BYTES, |bytes| {
            usize::from(bytes).clamp(UDP_BYTES, UDP_BYTES_MAX)
        })
    }
}

/// What a name asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wants {
    /// The instances of a service.
    Service {
        /// Its name.
        name: String,
        /// Only those with this tag.
        tag: Option<String>,
    },
    /// This address.
    Address(IpAddr),
    /// The zone itself.
    Zone,
    /// What does not exist.
    Nothing,
    /// What is not served here.
    Foreign,
}

/// Reads a message.
pub fn read(bytes: &[u8]) -> Result<Asked, Malformed> {
    let count = |at: usize| {
        let pair = bytes.get(at..at + 2).ok_or(Malformed)?;
        Ok(u16::from_be_bytes([pair[0], pair[1]]))
    };
    // Before anything is allocated by counts.
    if bytes.len() < HEAD_BYTES
        || (count(4)?, count(6)?, count(8)?) != (1, 0, 0)
        || count(10)? > ADDITIONAL_MAX
    {
        return Err(Malformed);
    }
    let packet = Packet::parse(bytes).map_err(|_| Malformed)?;
    if packet.has_flags(PacketFlag::RESPONSE) {
        return Err(Malformed);
    }
    let asked = packet.questions.first().ok_or(Malformed)?;
    let labels: Vec<String> = (asked.qname.as_bytes())
        .map(|label| String::from_utf8(label.to_vec()).map_err(|_| Malformed))
        .collect::<Result<_, _>>()?;
    let question = Question {
        wants: name::wants(&labels),
        id: packet.id(),
        name: asked.qname.clone().into_owned(),
        qtype: asked.qtype,
        wants_recursion: packet.has_flags(PacketFlag::RECURSION_DESIRED),
        edns: packet.opt().map(|opt| opt.udp_packet_size),
    };
    let is_internet = matches!(asked.qclass, QCLASS::ANY | QCLASS::CLASS(CLASS::IN));
    let code = match (packet.opcode(), &question.wants) {
        (OPCODE::StandardQuery, Wants::Foreign) => Some(RCODE::Refused),
        (OPCODE::StandardQuery, _) if !is_internet => Some(RCODE::Refused),
        (OPCODE::StandardQuery, _) => None,
        _ => Some(RCODE::NotImplemented),
    };
    let transfers = matches!(asked.qtype, QTYPE::AXFR | QTYPE::IXFR);
    match code.or(transfers.then_some(RCODE::Refused)) {
        Some(code) => Ok(Asked::Answered(refuse(&question, code))),
        None => Ok(Asked::Question(question)),
    }
}

impl Question {
    /// True when records of this type are asked for.
    pub(crate) fn asks(&self, kind: TYPE) -> bool {
        self.qtype == QTYPE::ANY || self.qtype == QTYPE::TYPE(kind)
    }
}
