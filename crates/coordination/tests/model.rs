//! Random operations against a naive model of the tree: a map from path to node, searched whole.

use base::{CoreAddress, Rng, SessionId, Stamp};
use bytes::Bytes;
use coordination::{
    Acl, Answer, Command, Coordination, CreateMode, Envelope, ErrorCode, OpReply, Origin, Output,
    Principal, Query, Reply, Stat, TreeOp, Unit,
};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq)]
struct Node {
    data: Bytes,
    stat: Stat,
    creations: i32,
}

/// What the tree should do, as slowly and plainly as possible.
#[derive(Clone)]
struct Model {
    nodes: BTreeMap<String, Node>,
}

fn parent(path: &str) -> String {
    match path.rsplit_once('/').expect("absolute").0 {
        "" => "/".into(),
        parent => parent.into(),
    }
}

impl Model {
    fn new() -> Self {
        let node = |children| Node {
            data: Bytes::new(),
            creations: 0,
            stat: Stat {
                num_children: children,
                cversion: -children,
                ..Stat::default()
            },
        };
        let mut nodes = BTreeMap::new();
        nodes.insert("/".into(), node(1));
        nodes.insert("/zookeeper".into(), node(2));
        nodes.insert("/zookeeper/quota".into(), node(0));
        nodes.insert("/zookeeper/config".into(), node(0));
        nodes
            .get_mut("/zookeeper/config")
            .expect("there")
            .stat
            .aversion = -1;
        Self { nodes }
    }

    fn children(&self, path: &str) -> Vec<String> {
        let is_child = |p: &&String| p.as_str() != "/" && parent(p) == path;
        let name = |p: &String| p.rsplit_once('/').expect("absolute").1.to_owned();
        self.nodes.keys().filter(is_child).map(name).collect()
    }

    fn recount(&mut self, path: &str, zxid: i64) {
        let count = self.children(path).len() as i32;
        let node = self.nodes.get_mut(path).expect("parents exist");
        node.stat.num_children = count;
        node.stat.cversion = node.creations * 2 - count;
        node.stat.pzxid = zxid;
    }

    fn run(&mut self, op: &TreeOp, zxid: i64, time_ms: i64, session: i64) -> Result<(), ErrorCode> {
        match op {
            TreeOp::Create {
                path, data, mode, ..
            } => {
                let above = parent(path);
                let over = self.nodes.get(&above).ok_or(ErrorCode::NoNode)?;
                let sequential = matches!(
                    mode,
                    CreateMode::Persistent { sequential: true }
                        | CreateMode::Ephemeral { sequential: true }
                );
                let path = if sequential {
                    format!("{path}{:010}", over.creations)
                } else {
                    path.clone()
                };
                if self.nodes.contains_key(&path) {
                    return Err(ErrorCode::NodeExists);
                }
                if over.stat.ephemeral_owner != 0 {
                    return Err(ErrorCode::NoChildrenForEphemerals);
                }
                let is_ephemeral = matches!(mode, CreateMode::Ephemeral { .. });
                let stat = Stat {
                    czxid: zxid,
                    mzxid: zxid,
                    pzxid: zxid,
                    ctime_ms: time_ms,
                    mtime_ms: time_ms,
                    ephemeral_owner: if is_ephemeral { session } else { 0 },
                    data_length: data.len() as i32,
                    ..Stat::default()
                };
                let node = Node {
                    data: data.clone(),
                    stat,
                    creations: 0,
                };
                self.nodes.insert(path, node);
                self.nodes.get_mut(&above).expect("there").creations += 1;
                self.recount(&above, zxid);
            }
            TreeOp::Delete { path, version } => {
                if path == "/" || path.starts_with("/zookeeper") {
                    return Err(ErrorCode::BadArguments);
                }
                let node = self.nodes.get(path).ok_or(ErrorCode::NoNode)?;
                if *version != -1 && *version != node.stat.version {
                    return Err(ErrorCode::BadVersion);
                }
                if !self.children(path).is_empty() {
                    return Err(ErrorCode::NotEmpty);
                }
                self.nodes.remove(path);
                self.recount(&parent(path), zxid);
            }
            TreeOp::SetData {
                path,
                data,
                version,
            } => {
                let node = self.nodes.get_mut(path).ok_or(ErrorCode::NoNode)?;
                if path == "/zookeeper/config" {
                    return Err(ErrorCode::NoAuth);
                }
                if *version != -1 && *version != node.stat.version {
                    return Err(ErrorCode::BadVersion);
                }
                node.data = data.clone();
                node.stat.data_length = data.len() as i32;
                node.stat.version += 1;
                node.stat.mzxid = zxid;
                node.stat.mtime_ms = time_ms;
            }
            TreeOp::Check { path, version } => {
                let node = self.nodes.get(path).ok_or(ErrorCode::NoNode)?;
                if *version != -1 && *version != node.stat.version {
                    return Err(ErrorCode::BadVersion);
                }
            }
            TreeOp::SetAcl { .. } => unreachable!("lists have tests of their own"),
        }
        Ok(())
    }

    fn end_session(&mut self, session: i64, zxid: i64) {
        let owned: Vec<String> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.stat.ephemeral_owner == session)
            .map(|(path, _)| path.clone())
            .collect();
        for path in owned {
            self.nodes.remove(&path);
            self.recount(&parent(&path), zxid);
        }
    }
}

fn random_path(rng: &mut Rng) -> String {
    let mut path = String::new();
    for _ in 0..rng.range(1, 4) {
        path.push('/');
        path.push(char::from(b'a' + rng.range(0, 3) as u8));
    }
    match rng.range(0, 40) {
        0 => "/zookeeper/config".into(),
        1 => "/zookeeper".into(),
        _ => path,
    }
}

fn random_op(rng: &mut Rng) -> TreeOp {
    let path = random_path(rng);
    let version = rng.range(0, 4) as i32 - 1;
    let data = Bytes::from(vec![rng.range(0, 256) as u8; rng.range(0, 20) as usize]);
    match rng.range(0, 10) {
        0..=4 => TreeOp::Create {
            path,
            data,
            acl: vec![Acl::open()],
            mode: match rng.range(0, 6) {
                0 => CreateMode::Ephemeral { sequential: false },
                1 => CreateMode::Ephemeral { sequential: true },
                2 => CreateMode::Persistent { sequential: true },
                _ => CreateMode::Persistent { sequential: false },
            },
        },
        5..=6 => TreeOp::Delete { path, version },
        7..=8 => TreeOp::SetData {
            path,
            data,
            version,
        },
        _ => TreeOp::Check { path, version },
    }
}

fn open(machine: &mut Coordination, time_ms: i64) -> SessionId {
    let mut out = Vec::new();
    let unit = Unit {
        envelope: Envelope::default(),
        command: Command::OpenSession {
            origin: Origin {
                home: CoreAddress::default(),
                token: 1,
            },
            password: [1; 16],
            timeout_ms: 1,
        },
    };
    let stamp = Stamp { time_ms, seed: 3 };
    machine.apply_unit(stamp, unit, &mut out).expect("known");
    match out[..] {
        [Output::SessionOpened { session, .. }] => session,
        _ => panic!("opened otherwise: {out:?}"),
    }
}

fn compare(machine: &Coordination, model: &Model) {
    assert_eq!(machine.counts().nodes, model.nodes.len());
    let anyone = Principal::default();
    for (path, node) in &model.nodes {
        let path = path.clone();
        let data = machine.query(&anyone, &Query::GetData { path: path.clone() });
        let want = Answer::Data(node.data.clone(), node.stat);
        assert_eq!(data, Ok(want), "{path}");
        let children = machine.query(&anyone, &Query::GetChildren { path: path.clone() });
        assert_eq!(
            children,
            Ok(Answer::Children(model.children(&path))),
            "{path}"
        );
    }
}

fn random_walk(seed: u64) {
    let mut rng = Rng::new(seed);
    let mut machine = Coordination::new();
    let mut model = Model::new();
    let mut time_ms = 0;
    let mut session = open(&mut machine, time_ms);
    let mut sequence = 0;
    for _ in 0..600 {
        time_ms += rng.range(0, 5) as i64;
        sequence += 1;
        let (zxid, digest) = (machine.zxid(), machine.tree_digest());
        let command = match rng.range(0, 12) {
            0..=8 => Command::Write(random_op(&mut rng)),
            9..=10 => Command::Multi((0..rng.range(0, 5)).map(|_| random_op(&mut rng)).collect()),
            _ if rng.one_in(4) => Command::CloseSession,
            _ => continue_with_check(),
        };
        let unit = Unit {
            envelope: Envelope {
                session,
                generation: 1,
                sequence,
                ..Envelope::default()
            },
            command: command.clone(),
        };
        let mut out = Vec::new();
        let stamp = Stamp { time_ms, seed: 0 };
        machine.apply_unit(stamp, unit, &mut out).expect("known");
        let reply = out.iter().find_map(|o| match o {
            Output::Reply { reply, .. } => Some(reply),
            _ => None,
        });
        let refused = match (command, reply.expect("every command is answered")) {
            (Command::Write(op), Reply::Write(result)) => {
                let want = model.run(&op, zxid + 1, time_ms, session.0);
                assert_eq!(
                    result.as_ref().map(|_| ()),
                    want.as_ref().map(|_| ()),
                    "{op:?}"
                );
                if let Ok(OpReply::Created { path, stat }) = result {
                    assert_eq!(Some(stat), model.nodes.get(path).map(|n| &n.stat));
                }
                want.is_err()
            }
            (Command::Multi(ops), Reply::Multi(result)) => {
                let mut trial = model.clone();
                let mut run = |op| trial.run(op, zxid + 1, time_ms, session.0);
                let first = ops.iter().map(&mut run).position(|r| r.is_err());
                match (result, first) {
                    (Ok(replies), None) => {
                        assert_eq!(replies.len(), ops.len());
                        model = trial;
                        false
                    }
                    (Err(errors), Some(at)) => {
                        assert_eq!(errors.len(), ops.len());
                        assert!(errors[..at].iter().all(Option::is_none));
                        true
                    }
                    (result, first) => panic!("{result:?}, model fails at {first:?}"),
                }
            }
            (Command::CloseSession, Reply::Closed) => {
                model.end_session(session.0, zxid + 1);
                session = open(&mut machine, time_ms);
                sequence = 0;
                continue;
            }
            (command, reply) => panic!("{command:?} answered by {reply:?}"),
        };
        if refused {
            assert_eq!(
                (machine.zxid(), machine.tree_digest()),
                (zxid, digest),
                "left a trace"
            );
            assert!(!out.iter().any(|o| matches!(o, Output::Event(_))));
        }
        if rng.one_in(20) {
            compare(&machine, &model);
        }
    }
    compare(&machine, &model);
}

/// A command that changes nothing.
fn continue_with_check() -> Command {
    Command::Write(TreeOp::Check {
        path: "/".into(),
        version: -1,
    })
}

#[test]
fn random_operations_do_what_the_model_does() {
    for seed in 0..60 {
        random_walk(seed);
    }
}

#[test]
fn same_units_give_same_state_and_output() {
    let run = || {
        let mut rng = Rng::new(5);
        let mut machine = Coordination::new();
        let session = open(&mut machine, 9);
        let mut out = Vec::new();
        for sequence in 1..500 {
            let unit = Unit {
                envelope: Envelope {
                    session,
                    generation: 1,
                    sequence,
                    ..Envelope::default()
                },
                command: Command::Write(random_op(&mut rng)),
            };
            machine
                .apply_unit(Stamp::default(), unit, &mut out)
                .expect("known");
        }
        use base::State;
        (machine.digest(), out)
    };
    assert_eq!(run(), run());
}
