//! What clients must not send: it ends the connection or is refused, and never costs memory or a panic.

mod common;

use base::Rng;
use bytes::Bytes;
use common::{batch, frame, request, sealed};
use wire_kafka::{Api, Connection, Error, Limits, ProtocolError, Request, records};

fn decode(bytes: &[u8]) -> Result<Option<wire_kafka::Incoming>, ProtocolError> {
    let mut connection = Connection::new(Limits::default());
    connection.handle_bytes(&Bytes::copy_from_slice(bytes));
    let polled = connection.poll();
    if polled.is_err() {
        assert_eq!(connection.poll(), polled, "an error stays");
        assert_eq!(connection.buffered_bytes(), 0);
    }
    polled
}

#[test]
fn mutated_requests_never_panic() {
    let mut rng = Rng::new(11);
    let (mut read, mut refused) = (0, 0);
    for api in Api::ALL {
        for version in api.versions() {
            let good = request(*api, version);
            for _ in 0..150 {
                let mut bad = good.clone();
                for _ in 0..rng.range(1, 4) {
                    // The length stays: a longer frame would only wait for more.
                    let at = rng.range(4, bad.len() as u64) as usize;
                    bad[at] = match rng.range(0, 4) {
                        0 => 0xff,
                        1 => 0x7f,
                        2 => 0,
                        _ => rng.next_u64() as u8,
                    };
                }
                match decode(&bad) {
                    Ok(_) => read += 1,
                    Err(error) => {
                        assert!(!error.to_string().is_empty());
                        refused += 1;
                    }
                }
            }
        }
    }
    assert!(
        read > 1000 && refused > 1000,
        "{read} read, {refused} refused"
    );
}

#[test]
fn cut_requests_are_refused() {
    for api in Api::ALL {
        for version in api.versions() {
            let good = request(*api, version);
            for length in 0..good.len() - 4 {
                let mut cut = (length as i32).to_be_bytes().to_vec();
                cut.extend_from_slice(&good[4..4 + length]);
                assert!(decode(&cut).is_err(), "{api:?} {version} cut to {length}");
            }
        }
    }
}

#[test]
fn bytes_behind_the_last_field_are_passed_over() {
    // So librdkafka 2 asks for all topics: a count of four bytes where one is due, of which three are left.
    let asked = frame(Api::Metadata, 12, &[0, 0, 0, 0, 1, 0, 0]);
    let request = decode(&asked).expect("well-formed").map(|i| i.request);
    let all = Request::Metadata {
        topics: None,
        may_create: false,
    };
    assert_eq!(request, Some(all));
}

#[test]
fn counts_and_lengths_beyond_the_frame_are_refused_before_anything_is_allocated() {
    // Metadata of version 1: one array. 2^31 - 1 topics would be hundreds of GiB.
    let bad = frame(Api::Metadata, 1, &[0x7f, 0xff, 0xff, 0xff]);
    assert!(matches!(decode(&bad), Err(ProtocolError::Malformed { .. })));
    // Version 9: a varint of 2^32 - 1.
    let bad = frame(Api::Metadata, 9, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0]);
    assert!(matches!(decode(&bad), Err(ProtocolError::Malformed { .. })));
    // Many elements that are there: an empty name is two bytes.
    let many = 300_000u32;
    let mut body = many.to_be_bytes().to_vec();
    body.resize(4 + 2 * many as usize, 0);
    let why = decode(&frame(Api::Metadata, 1, &body)).expect_err("too many");
    assert!(why.to_string().contains("number of elements"), "{why}");
    // Tagged fields without end.
    let bad = frame(Api::ListGroups, 3, &[0xff, 0xff, 0xff, 0xff, 0x0f]);
    assert!(decode(&bad).is_err());
}

#[test]
fn frames_beyond_the_cap_and_negative_ones_end_the_connection() {
    let mut connection = Connection::new(Limits {
        frame_bytes_max: 100,
    });
    connection.handle_bytes(&Bytes::from_static(&[0, 0, 0, 101]));
    assert!(matches!(
        connection.poll(),
        Err(ProtocolError::TooLong { .. })
    ));
    connection.handle_bytes(&Bytes::from(vec![0; 1000]));
    assert_eq!(connection.buffered_bytes(), 0);
    let negative = decode(&[0xff, 0xff, 0xff, 0xff]);
    assert_eq!(negative, Err(ProtocolError::NegativeLength { length: -1 }));
    assert_eq!(decode(&[0, 0, 0]), Ok(None));
}

#[test]
fn unknown_requests_and_versions_end_the_connection_with_a_clear_word() {
    let mut bytes = request(Api::Heartbeat, 0);
    bytes[4..6].copy_from_slice(&999i16.to_be_bytes());
    assert_eq!(decode(&bytes), Err(ProtocolError::UnknownApi { key: 999 }));
    for api in Api::ALL.iter().filter(|api| **api != Api::ApiVersions) {
        for version in [-1, api.versions().start() - 1, api.versions().end() + 1] {
            let mut bytes = request(*api, *api.versions().end());
            bytes[6..8].copy_from_slice(&version.to_be_bytes());
            let why = decode(&bytes).expect_err("not spoken");
            assert!(matches!(why, ProtocolError::UnknownVersion { .. }), "{why}");
        }
    }
}

#[test]
fn api_versions_of_a_version_to_come_is_no_error() {
    for version in [5, 99, i16::MAX, -1] {
        let mut bytes = request(Api::ApiVersions, 4);
        bytes[6..8].copy_from_slice(&version.to_be_bytes());
        bytes.push(7);
        let length = (bytes.len() - 4) as i32;
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        let incoming = decode(&bytes).expect("answered").expect("whole");
        assert_eq!(incoming.request, Request::UnknownApiVersions);
        assert_eq!(
            (incoming.header.version, incoming.header.correlation),
            (0, common::CORRELATION)
        );
    }
}

fn parsed(bytes: Vec<u8>) -> Result<u32, Error> {
    records::parse(Bytes::from(bytes)).map(|b| b.count)
}

/// A batch with some bytes changed, and its check sum made right again.
fn changed(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut checked = batch((-1, -1, -1), 1000, &[0, 5])[21..].to_vec();
    checked[at - 21..at - 21 + bytes.len()].copy_from_slice(bytes);
    sealed(&checked)
}

#[test]
fn batches_that_are_damaged_or_not_allowed_are_refused_one_by_one() {
    let good = batch((-1, -1, -1), 1000, &[0, 5]);
    assert_eq!(parsed(good.clone()), Ok(2));
    for at in 21..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 4;
        assert_eq!(parsed(bad), Err(Error::CorruptMessage), "byte {at}");
    }
    for length in 0..good.len() {
        assert_eq!(parsed(good[..length].to_vec()), Err(Error::CorruptMessage));
    }
    let twice = [good.clone(), good.clone()].concat();
    assert_eq!(parsed(twice), Err(Error::InvalidRecord));
    let mut old = good.clone();
    old[16] = 1;
    assert_eq!(parsed(old), Err(Error::UnsupportedForMessageFormat));
    for (what, at, bytes, error) in [
        (
            "codec 5",
            21,
            &[0, 5][..],
            Error::UnsupportedCompressionType,
        ),
        ("control", 21, &[0, 0x20], Error::InvalidRecord),
        ("transactional", 21, &[0, 0x10], Error::InvalidTxnState),
        ("append time", 21, &[0, 0x08], Error::InvalidTimestamp),
        ("last delta", 23, &[0, 0, 0, 2], Error::InvalidRecord),
        ("count", 57, &[0, 0, 0, 3], Error::InvalidRecord),
        (
            "count and delta",
            57,
            &[0x7f, 0xff, 0xff, 0xff],
            Error::InvalidRecord,
        ),
        ("no count", 57, &[0, 0, 0, 0], Error::InvalidRecord),
        (
            "sequence without",
            43,
            &[0, 0, 0, 0, 0, 0, 0, 1],
            Error::InvalidRecord,
        ),
        (
            "time",
            35,
            &[0x80, 0, 0, 0, 0, 0, 0, 0],
            Error::InvalidTimestamp,
        ),
        ("record's length", 61, &[0x40], Error::InvalidRecord),
        ("record's offset", 64, &[2], Error::InvalidRecord),
    ] {
        assert_eq!(parsed(changed(at, bytes)), Err(error), "{what}");
    }
    // What is compressed is not looked into.
    assert_eq!(parsed(changed(21, &[0, 1])), Ok(2));
}

#[test]
fn mutated_batches_with_right_check_sums_never_panic() {
    let mut rng = Rng::new(12);
    let good = batch((7, 0, 3), 1000, &[0, 5, 9, 2])[21..].to_vec();
    let mut read = 0;
    for _ in 0..20_000 {
        let mut checked = good.clone();
        let at = rng.range(0, checked.len() as u64) as usize;
        checked[at] = rng.next_u64() as u8;
        let Ok(new) = records::parse(Bytes::from(sealed(&checked))) else {
            continue;
        };
        read += 1;
        let stored = messaging::Batch {
            base_offset: 10,
            count: new.count,
            max_timestamp_ms: new.max_timestamp_ms,
            bytes: new.bytes,
        };
        records::find_time(&stored, rng.next_u64() as i64);
        records::write(&mut Vec::new(), &[stored]);
    }
    assert!(read > 1000, "{read} of 20,000 were read");
}
