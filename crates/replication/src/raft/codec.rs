//! Raft's messages in bytes: our own form, so that nothing from the network meets a protobuf parser.

use crate::raft::membership::Membership;
use base::{DecodeError, Reader, Writer};
use bytes::Bytes;
use raft::eraftpb::{Entry, EntryType, Message, MessageType, Snapshot};

/// Appends a message.
pub fn encode_message(w: &mut Writer, m: &Message, membership: &Membership) {
    w.u8(message_type_number(m.get_msg_type()));
    w.u64(m.to).u64(m.from).u64(m.term).u64(m.log_term);
    w.u64(m.index).u64(m.commit).u64(m.commit_term);
    w.u64(m.request_snapshot).u64(m.reject_hint).i64(m.priority);
    w.bool(m.reject).bytes(&m.context);
    w.u32(m.entries.len() as u32);
    for entry in &m.entries {
        encode_entry(w, entry);
    }
    let snapshot = m.get_snapshot();
    let metadata = snapshot.get_metadata();
    w.bool(metadata.index != 0);
    if metadata.index != 0 {
        w.u64(metadata.index).u64(metadata.term);
        // The crate's ConfState has ids only; the receiver also needs to know where they live.
        let mut at_cut = membership.clone();
        at_cut.conf = metadata.get_conf_state().clone();
        at_cut.encode(w);
        w.bytes(&snapshot.data);
    }
}

/// Reads a message, and for a snapshot the membership at its cut.
pub fn decode_message(
    r: &mut Reader<'_>,
    whole: &Bytes,
) -> Result<(Message, Option<Membership>), DecodeError> {
    let mut m = Message::default();
    m.set_msg_type(message_type(r.u8()?)?);
    m.to = r.u64()?;
    m.from = r.u64()?;
    m.term = r.u64()?;
    m.log_term = r.u64()?;
    m.index = r.u64()?;
    m.commit = r.u64()?;
    m.commit_term = r.u64()?;
    m.request_snapshot = r.u64()?;
    m.reject_hint = r.u64()?;
    m.priority = r.i64()?;
    m.reject = r.bool()?;
    m.context = whole.slice_ref(r.bytes()?);
    let n = r.count(25)?;
    let mut entries = Vec::with_capacity(n);
    for _ in 0..n {
        entries.push(decode_entry(r, whole)?);
    }
    // The crate takes for granted that what is appended follows the message's index without a gap.
    let follows = |(entry, n): (&Entry, u64)| m.index.checked_add(n) == Some(entry.index);
    let appends = m.get_msg_type() == MessageType::MsgAppend;
    if appends && !entries.iter().zip(1..).all(follows) {
        return Err(DecodeError::Invalid("raft entries' indexes"));
    }
    m.entries = entries.into();
    let mut membership = None;
    if r.bool()? {
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = r.u64()?;
        metadata.term = r.u64()?;
        let at_cut = Membership::decode(r)?;
        metadata.set_conf_state(at_cut.conf.clone());
        membership = Some(at_cut);
        snapshot.data = whole.slice_ref(r.bytes()?);
        m.set_snapshot(snapshot);
    }
    Ok((m, membership))
}

fn encode_entry(w: &mut Writer, entry: &Entry) {
    let is_change = entry.get_entry_type() != EntryType::EntryNormal;
    w.bool(is_change).u64(entry.term).u64(entry.index);
    w.bytes(&entry.context);
    // A membership change is read from its context only; the crate's protobuf stays at home.
    w.bytes(if is_change { &[] } else { &entry.data });
}

fn decode_entry(r: &mut Reader<'_>, whole: &Bytes) -> Result<Entry, DecodeError> {
    let mut entry = Entry::default();
    if r.bool()? {
        entry.set_entry_type(EntryType::EntryConfChangeV2);
    }
    entry.term = r.u64()?;
    entry.index = r.u64()?;
    entry.context = whole.slice_ref(r.bytes()?);
    entry.data = whole.slice_ref(r.bytes()?);
    Ok(entry)
}

const TYPES: [MessageType; 14] = [
    MessageType::MsgAppend,
    MessageType::MsgAppendResponse,
    MessageType::MsgRequestVote,
    MessageType::MsgRequestVoteResponse,
    MessageType::MsgSnapshot,
    MessageType::MsgHeartbeat,
    MessageType::MsgHeartbeatResponse,
    MessageType::MsgTransferLeader,
    MessageType::MsgTimeoutNow,
    MessageType::MsgReadIndex,
    MessageType::MsgReadIndexResp,
    MessageType::MsgRequestPreVote,
    MessageType::MsgRequestPreVoteResponse,
    MessageType::MsgUnreachable,
];

fn message_type_number(t: MessageType) -> u8 {
    let at = TYPES.iter().position(|x| *x == t);
    u8::try_from(at.expect("local messages are not sent")).expect("few types")
}

/// Only what peers may say: a proposal, a local message or an unknown number is refused.
fn message_type(number: u8) -> Result<MessageType, DecodeError> {
    match TYPES.get(usize::from(number)) {
        Some(MessageType::MsgUnreachable) | None => Err(DecodeError::Invalid("raft message type")),
        Some(t) => Ok(*t),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{NodeId, ReplicaId, Rng};

    fn sample() -> (Message, Membership) {
        let membership = Membership::single(crate::raft::Replica {
            id: ReplicaId(1),
            node: NodeId(2),
            address: "a:1".into(),
        });
        let mut m = Message::default();
        m.set_msg_type(MessageType::MsgAppend);
        m.to = 2;
        m.from = 1;
        m.term = 3;
        m.index = 9;
        m.commit = 9;
        let entry = Entry {
            index: 10,
            term: 3,
            data: Bytes::from_static(b"unit"),
            ..Entry::default()
        };
        let mut change = Entry::default();
        change.set_entry_type(EntryType::EntryConfChangeV2);
        change.index = 11;
        change.context = Bytes::from_static(b"\0\0\0\0");
        m.entries = vec![entry, change].into();
        (m, membership)
    }

    #[test]
    fn message_survives_its_byte_form() {
        let (m, membership) = sample();
        let mut w = Writer::new();
        encode_message(&mut w, &m, &membership);
        let bytes = w.into_bytes();
        let (read, at_cut) = decode_message(&mut Reader::new(&bytes), &bytes).unwrap();
        assert_eq!((read, at_cut), (m, None));
    }

    #[test]
    fn entries_that_do_not_follow_the_index_are_refused() {
        let (mut m, membership) = sample();
        for index in [8, 10, u64::MAX] {
            m.index = index;
            let mut w = Writer::new();
            encode_message(&mut w, &m, &membership);
            let bytes = w.into_bytes();
            assert!(decode_message(&mut Reader::new(&bytes), &bytes).is_err());
        }
    }

    #[test]
    fn snapshot_carries_the_membership_at_its_cut() {
        let (mut m, membership) = sample();
        m.set_msg_type(MessageType::MsgSnapshot);
        m.entries = Vec::new().into();
        m.mut_snapshot().mut_metadata().index = 7;
        let conf = m.mut_snapshot().mut_metadata();
        conf.set_conf_state(membership.conf.clone());
        let mut w = Writer::new();
        encode_message(&mut w, &m, &membership);
        let bytes = w.into_bytes();
        let (_, at_cut) = decode_message(&mut Reader::new(&bytes), &bytes).unwrap();
        assert_eq!(at_cut, Some(membership));
    }

    #[test]
    fn mutated_messages_are_refused_or_read_never_more() {
        let (m, membership) = sample();
        let mut w = Writer::new();
        encode_message(&mut w, &m, &membership);
        let good = w.into_vec();
        let mut rng = Rng::new(5);
        for _ in 0..20_000 {
            let mut bad = good.clone();
            for _ in 0..rng.range(1, 4) {
                let at = rng.range(0, bad.len() as u64) as usize;
                bad[at] = rng.next_u64() as u8;
            }
            bad.truncate(rng.range(0, bad.len() as u64 + 1) as usize);
            let bad = Bytes::from(bad);
            let _ = decode_message(&mut Reader::new(&bad), &bad);
        }
    }
}
