use super::*;

fn link(step: Step) -> Frame {
    Frame::Link(Parcel {
        from: CoreAddress {
            node: NodeId(1),
            core: CoreId(2),
        },
        to: NodeId(3),
        link: 4,
        back: true,
        number: 5,
        step,
    })
}

fn samples() -> Vec<Frame> {
    let from = CoreAddress {
        node: NodeId(1),
        core: CoreId(2),
    };
    let (shard, to) = (ShardId(3), NodeId(4));
    let text = || "127.0.0.1:7401".to_owned();
    let mut message = Message::default();
    message.set_msg_type(replication::raft::MessageType::MsgHeartbeat);
    vec![
        Frame::Ping {
            from,
            address: text(),
            sent_us: 5,
        },
        Frame::Pong {
            from: to,
            sent_us: 5,
            wall_ms: -6,
            disk_low: true,
        },
        Frame::Raft {
            shard,
            from: to,
            to,
            message: Box::new(message),
            at_cut: None,
        },
        Frame::Hibernate {
            shard,
            from: ReplicaId(9),
            term: 1,
            last: 2,
        },
        Frame::Propose {
            shard,
            term: 1,
            sender: 2,
            number: 3,
            units: vec![Bytes::from_static(b"u")],
        },
        Frame::ProposeMeta {
            hops: 1,
            unit: Bytes::from_static(b"u"),
        },
        Frame::Report {
            hops: 1,
            report: Report {
                shard,
                term: 2,
                voters: 3,
                released: vec![to],
            },
        },
        Frame::Touch {
            shard,
            term: 1,
            from,
            sent_us: 7,
            sessions: vec![-8],
        },
        Frame::Touched { shard, sent_us: 7 },
        Frame::Beat {
            shard,
            term: 1,
            from,
            beats: vec![(7, AgentId(8), 9)],
        },
        Frame::Beaten {
            shard,
            heard: vec![(7, true)],
        },
        Frame::Fetch {
            shard,
            from,
            index: 1,
            offset: 2,
            length: 3,
        },
        Frame::Piece {
            shard,
            piece: SnapshotPiece {
                index: 1,
                offset: 2,
                total: 3,
                bytes: Bytes::new(),
            },
        },
        Frame::Probe { address: text() },
        Frame::Probed {
            address: text(),
            fresh: true,
        },
        Frame::Join {
            node: to,
            address: text(),
            observes: true,
        },
        Frame::Gone {
            shard,
            to,
            replica: ReplicaId(1),
        },
        Frame::Transfer { shard, to },
        Frame::Publish {
            channel: Bytes::from_static(b"news"),
            message: Bytes::from_static(b"m"),
        },
        Frame::About {
            from: NodeId(1),
            machine_version: 2,
            addresses: BTreeMap::from([("redis".to_owned(), text())]),
        },
        Frame::Tell {
            shard,
            unit: Bytes::from_static(b"t"),
        },
        Frame::Follow {
            shard,
            from,
            address: text(),
            index: 7,
            bytes_max: 8,
        },
        Frame::Followed {
            shard,
            cluster: ClusterId(5),
            layout: 6,
            addresses: vec![text()],
            commit: 9,
            snapshot: 7,
            entries: vec![(8, Bytes::from_static(b"e"))],
        },
        Frame::Superseded {
            cluster: ClusterId(5),
            by: text(),
        },
        Frame::Look {
            cluster: ClusterId(5),
            from,
            address: text(),
        },
        Frame::Stands {
            cluster: ClusterId(5),
        },
        Frame::Gossip {
            from: to,
            rumor: Rumor::Digest(BTreeMap::from([(to, Default::default())])),
        },
        Frame::Catalog {
            index: 1,
            bytes: Bytes::from_static(b"c"),
        },
        Frame::Holds {
            from,
            held: vec![Held {
                shard,
                term: 4,
                leads: true,
            }],
        },
        link(Step::Open {
            front: crate::FrontEnd::Kafka,
            address: text(),
        }),
        link(Step::Bytes(Bytes::from_static(b"b"))),
        link(Step::Await),
        Frame::AskRegistry { from, token: 5 },
        Frame::Registry {
            bytes: Bytes::from_static(b"r"),
            answers: vec![(6, Bytes::from_static(b"a"))],
            reached: vec![7],
        },
        Frame::Group {
            group: 8,
            from: to,
            bytes: Bytes::from_static(b"p"),
        },
        link(Step::Drained),
        link(Step::Close),
    ]
}

#[test]
fn frames_survive_their_byte_form_and_refuse_cuts() {
    for frame in samples() {
        let bytes = frame.encode(ClusterId(9), &Membership::default());
        assert_eq!(Frame::decode(&bytes), Ok((ClusterId(9), frame)));
        for cut in 0..bytes.len() {
            assert!(Frame::decode(&bytes.slice(..cut)).is_err());
        }
    }
}

#[test]
fn mutated_frames_are_refused_or_read_never_more() {
    let mut rng = base::Rng::new(3);
    for frame in samples() {
        let good = frame.encode(ClusterId(9), &Membership::default());
        for _ in 0..2_000 {
            let mut bad = good.to_vec();
            let at = rng.range(0, bad.len() as u64) as usize;
            bad[at] = rng.next_u64() as u8;
            let _ = Frame::decode(&Bytes::from(bad));
        }
    }
}
