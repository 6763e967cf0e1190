//! Writing an answer.

use crate::name::{ZONES, of_address};
use crate::question::{Question, Wants};
use base::Rng;
use simple_dns::rdata::{A, AAAA, CNAME, NS, OPT, RData, SOA, SRV};
use simple_dns::{
    CLASS, Name, Packet, PacketFlag, QCLASS, Question as Echo, RCODE, ResourceRecord, TYPE,
};
use std::net::IpAddr;

/// Nothing may be remembered: an instance that fails is gone from the next answer.
const TTL_SECONDS: u32 = 0;
/// Records in one answer; the rest of a larger service is left out, others each time.
const ANSWERS_MAX: usize = 256;

/// An instance of a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// IP address or host name.
    pub address: String,
    /// Port, or 0.
    pub port: u16,
    /// Its share of requests.
    pub weight: u16,
}

/// The answer to a question, at most `bytes_max` long: what does not fit is left out, and that is said.
/// `targets` are the instances that were asked for, `None` when they cannot be known now; their order is
/// drawn from `rng`.
pub fn write(
    question: &Question,
    targets: Option<Vec<Target>>,
    rng: &mut Rng,
    bytes_max: usize,
) -> Vec<u8> {
    let Some(mut targets) = targets else {
        return refuse(question, RCODE::ServerFailure);
    };
    // Fisher and Yates.
    for i in (1..targets.len()).rev() {
        targets.swap(i, rng.range(0, i as u64 + 1) as usize);
    }
    targets.truncate(ANSWERS_MAX);
    let mut packet = reply(question);
    let exists = match &question.wants {
        Wants::Service { .. } => {
            for target in &targets {
                add_target(&mut packet, question, target);
            }
            !targets.is_empty()
        }
        Wants::Address(ip) => {
            add_address(&mut packet.answers, question, &question.name, *ip);
            true
        }
        Wants::Zone => {
            if question.asks(TYPE::SOA) {
                packet.answers.push(soa());
            }
            if question.asks(TYPE::NS) {
                let record = record(&question.name, RData::NS(NS(own_name())));
                packet.answers.push(record);
            }
            true
        }
        Wants::Nothing | Wants::Foreign => false,
    };
    if !exists {
        *packet.rcode_mut() = RCODE::NameError;
    }
    if packet.answers.is_empty() {
        packet.name_servers.push(soa());
    }
    fit(packet, bytes_max)
}

/// An answer without records.
pub fn refuse(question: &Question, code: RCODE) -> Vec<u8> {
    let mut packet = reply(question);
    *packet.rcode_mut() = code;
    packet.remove_flags(PacketFlag::AUTHORITATIVE_ANSWER);
    fit(packet, crate::UDP_BYTES)
}

fn reply(question: &Question) -> Packet<'static> {
    let mut packet = Packet::new_reply(question.id);
    packet.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
    if question.wants_recursion {
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
    }
    let class = QCLASS::CLASS(CLASS::IN);
    let echo = Echo::new(question.name.clone(), question.qtype, class, false);
    packet.questions.push(echo);
    if question.edns.is_some() {
        *packet.opt_mut() = Some(OPT {
            opt_codes: Vec::new(),
            udp_packet_size: crate::UDP_BYTES_MAX as u16,
            version: 0,
        });
    }
    packet
}

fn record(name: &Name<'static>, rdata: RData<'static>) -> ResourceRecord<'static> {
    ResourceRecord::new(name.clone(), CLASS::IN, TTL_SECONDS, rdata)
}

fn own_name() -> Name<'static> {
    Name::new_unchecked("ns.althing")
}

fn soa() -> ResourceRecord<'static> {
    let rdata = RData::SOA(SOA {
        mname: own_name(),
        rname: Name::new_unchecked("hostmaster.althing"),
        serial: 1,
        refresh: 3_600,
        retry: 600,
        expire: 86_400,
        minimum: TTL_SECONDS,
    });
    record(&Name::new_unchecked(ZONES[0]), rdata)
}

fn add_target(packet: &mut Packet<'static>, question: &Question, target: &Target) {
    let ip: Option<IpAddr> = target.address.parse().ok();
    let host = match ip {
        Some(ip) => of_address(ip),
        None => target.address.trim_end_matches('.').to_owned(),
    };
    let Some(host) = owned(&host) else { return };
    if question.asks(TYPE::SRV) {
        let srv = RData::SRV(SRV {
            priority: 1,
            weight: target.weight,
            port: target.port,
            target: host.clone(),
        });
        push_new(&mut packet.answers, record(&question.name, srv));
        if let Some(ip) = ip {
            push_new(&mut packet.additional_records, record(&host, rdata(ip)));
        }
    }
    match ip {
        Some(ip) => add_address(&mut packet.answers, question, &question.name, ip),
        // One alias at most: a name has no other records beside one.
        None if packet.answers.is_empty()
            && (question.asks(TYPE::A) || question.asks(TYPE::AAAA)) =>
        {
            let alias = RData::CNAME(CNAME(host));
            packet.answers.push(record(&question.name, alias));
        }
        None => {}
    }
}

fn owned(name: &str) -> Option<Name<'static>> {
    Name::new(name).ok().map(Name::into_owned)
}

fn rdata(ip: IpAddr) -> RData<'static> {
    match ip {
        IpAddr::V4(v4) => RData::A(A { address: v4.into() }),
        IpAddr::V6(v6) => RData::AAAA(AAAA { address: v6.into() }),
    }
}

fn add_address(
    records: &mut Vec<ResourceRecord<'static>>,
    question: &Question,
    name: &Name<'static>,
    ip: IpAddr,
) {
    let kind = if ip.is_ipv4() { TYPE::A } else { TYPE::AAAA };
    if question.asks(kind) {
        push_new(records, record(name, rdata(ip)));
    }
}

/// Instances may share an address: the same record stands there once.
fn push_new(records: &mut Vec<ResourceRecord<'static>>, record: ResourceRecord<'static>) {
    if !records.contains(&record) {
        records.push(record);
    }
}

/// The bytes, with records left out from the end until they fit. Additional ones go first, and are not missed.
fn fit(mut packet: Packet<'static>, bytes_max: usize) -> Vec<u8> {
    loop {
        let bytes = packet.build_bytes_vec_compressed().unwrap_or_default();
        if bytes.len() <= bytes_max {
            return bytes;
        }
        if !packet.additional_records.is_empty() {
            let half = packet.additional_records.len() / 2;
            packet.additional_records.truncate(half);
        } else if packet.answers.len() > 1 {
            let left = packet.answers.len() * 3 / 4;
            packet.answers.truncate(left);
            packet.set_flags(PacketFlag::TRUNCATION);
        } else {
            return bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Asked, read};
    use simple_dns::{OPCODE, QTYPE};

    fn ask(name: &str, kind: QTYPE, edns: Option<u16>) -> Vec<u8> {
        let mut packet = Packet::new_query(7);
        let class = QCLASS::CLASS(CLASS::IN);
        let question = Echo::new(Name::new(name).unwrap(), kind, class, false);
        packet.questions.push(question);
        *packet.opt_mut() = edns.map(|udp_packet_size| OPT {
            opt_codes: Vec::new(),
            udp_packet_size,
            version: 0,
        });
        packet.build_bytes_vec().unwrap()
    }

    fn question(name: &str, kind: TYPE, edns: Option<u16>) -> Question {
        match read(&ask(name, QTYPE::TYPE(kind), edns)) {
            Ok(Asked::Question(question)) => question,
            other => panic!("{other:?}"),
        }
    }

    fn targets(n: u16) -> Vec<Target> {
        (0..n)
            .map(|i| Target {
                address: format!("10.0.{}.{}", i / 256, i % 256),
                port: 8_000 + i,
                weight: 1,
            })
            .collect()
    }

    fn answer(question: &Question, targets: Vec<Target>) -> Vec<u8> {
        write(
            question,
            Some(targets),
            &mut Rng::new(1),
            question.udp_bytes_max(),
        )
    }

    #[test]
    fn address_and_service_records_say_where_instances_are() {
        let asked = question("web.service.althing", TYPE::A, None);
        let bytes = answer(&asked, targets(2));
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!((packet.id(), packet.rcode()), (7, RCODE::NoError));
        assert!(packet.has_flags(PacketFlag::AUTHORITATIVE_ANSWER));
        assert!(packet.answers.iter().all(|r| r.ttl == 0));
        assert_eq!(packet.answers.len(), 2);

        let asked = question("web.service.consul", TYPE::SRV, None);
        let bytes = answer(&asked, targets(2));
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(
            (packet.answers.len(), packet.additional_records.len()),
            (2, 2)
        );
        for (srv, additional) in packet.answers.iter().zip(&packet.additional_records) {
            let RData::SRV(srv) = &srv.rdata else {
                panic!()
            };
            assert!(srv.port >= 8_000);
            assert_eq!(srv.target, additional.name);
        }
    }

    #[test]
    fn order_of_instances_is_another_each_time() {
        let asked = question("web.service.althing", TYPE::A, None);
        let mut rng = Rng::new(3);
        let mut first = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let bytes = write(&asked, Some(targets(4)), &mut rng, 512);
            let packet = Packet::parse(&bytes).unwrap();
            assert_eq!(packet.answers.len(), 4);
            first.insert(format!("{:?}", packet.answers[0].rdata));
        }
        assert_eq!(first.len(), 4);
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_said() {
        let asked = question("web.service.althing", TYPE::A, None);
        let bytes = answer(&asked, targets(200));
        assert!(bytes.len() <= 512);
        let packet = Packet::parse(&bytes).unwrap();
        assert!(packet.has_flags(PacketFlag::TRUNCATION) && packet.answers.len() > 10);
        // EDNS makes room.
        let asked = question("web.service.althing", TYPE::A, Some(4_096));
        let bytes = answer(&asked, targets(200));
        let packet = Packet::parse(&bytes).unwrap();
        assert!(!packet.has_flags(PacketFlag::TRUNCATION) && packet.opt().is_some());
        assert_eq!(packet.answers.len(), 200);
    }

    #[test]
    fn names_that_are_not_there_do_not_exist_and_foreign_ones_are_refused() {
        for name in ["web.service.althing", "what.althing"] {
            let asked = question(name, TYPE::A, None);
            let bytes = answer(&asked, Vec::new());
            let packet = Packet::parse(&bytes).unwrap();
            assert_eq!(packet.rcode(), RCODE::NameError, "{name}");
            assert!(matches!(packet.name_servers[0].rdata, RData::SOA(_)));
        }
        // It exists, but has no such record.
        let asked = question("web.service.althing", TYPE::AAAA, None);
        let bytes = answer(&asked, targets(1));
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!((packet.rcode(), packet.answers.len()), (RCODE::NoError, 0));
        let refused = [
            ask("example.com", QTYPE::TYPE(TYPE::A), None),
            ask("web.service.althing", QTYPE::AXFR, None),
        ];
        for bytes in refused {
            let Ok(Asked::Answered(bytes)) = read(&bytes) else {
                panic!("not answered at once");
            };
            assert_eq!(Packet::parse(&bytes).unwrap().rcode(), RCODE::Refused);
        }
        let asked = question("web.service.althing", TYPE::A, None);
        let bytes = write(&asked, None, &mut Rng::new(1), 512);
        assert_eq!(Packet::parse(&bytes).unwrap().rcode(), RCODE::ServerFailure);
    }

    #[test]
    fn bytes_that_are_no_question_are_malformed() {
        let good = ask("web.service.althing", QTYPE::TYPE(TYPE::A), Some(1_232));
        for end in 0..good.len() {
            assert!(read(&good[..end]).is_err(), "{end}");
        }
        let mut reply = good.clone();
        reply[2] |= 0x80;
        assert!(read(&reply).is_err(), "an answer");
        for (at, byte) in [(4, 255), (6, 255), (8, 255), (10, 255)] {
            let mut many = good.clone();
            many[at] = byte;
            assert!(read(&many).is_err(), "count at {at}");
        }
        let mut update = good.clone();
        update[2] = 5 << 3;
        if let Ok(Asked::Answered(bytes)) = read(&update) {
            assert_eq!(
                Packet::parse(&bytes).unwrap().rcode(),
                RCODE::NotImplemented
            );
            assert_eq!(
                Packet::parse(&bytes).unwrap().opcode(),
                OPCODE::StandardQuery
            );
        }
        // Nothing that comes panics.
        let mut rng = Rng::new(9);
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            for _ in 0..rng.range(1, 6) {
                let at = rng.range(0, bytes.len() as u64) as usize;
                bytes[at] = rng.next_u64() as u8;
            }
            if let Ok(Asked::Question(question)) = read(&bytes) {
                write(&question, Some(targets(3)), &mut rng, 512);
            }
        }
    }
}
