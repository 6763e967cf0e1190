//! What a core does with frames of other cores.

use crate::core::{Ask, Core};
use crate::event::{Action, Endpoint, Hello, Level, StreamId};
use crate::frame::Frame;
use crate::standby::PrimarySays;
use base::{ClusterId, Now};
use bytes::Bytes;
use catalog::{Catalog, CatalogCommand};
use shard::Shard;

/// Strangers that were logged.
const REFUSED_MAX: usize = 1_000;

impl Core {
    pub(crate) fn peer_opened(&mut self, stream: StreamId, hello: Hello) {
        let stranger = (hello.address.clone(), hello.cluster);
        let strangers = hello.cluster == ClusterId(0) || self.cluster == ClusterId(0);
        let is_primary = self.is_of_primary(hello.cluster, &hello.address);
        if hello.cluster != self.cluster && !strangers && !is_primary {
            // It dials again and again; once is enough to say so.
            if self.refused.len() < REFUSED_MAX && self.refused.insert(stranger) {
                self.log(
                    Level::Warn,
                    format!(
                        "refuses streams from {}: it is of {}, this node of {}",
                        hello.address, hello.cluster, self.cluster
                    ),
                );
            }
            self.actions.push_back(Action::ClosePeer { stream });
            return;
        }
        self.peers.opened(stream, hello);
    }

    pub(crate) fn peer_frame(&mut self, now: Now, stream: StreamId, bytes: &Bytes) {
        let Some(hello) = self.peers.hello(stream) else {
            return;
        };
        let (address, sender) = (hello.address.clone(), hello.from.node);
        let (their_cluster, frame) = match Frame::decode(bytes) {
            Ok(decoded) => decoded,
            Err(e) => {
                self.log(
                    Level::Warn,
                    format!("closed the stream from {address}: its frame cannot be read: {e}"),
                );
                self.counters.malformed += 1;
                self.actions.push_back(Action::ClosePeer { stream });
                return;
            }
        };
        let known = their_cluster != ClusterId(0) && their_cluster == self.cluster;
        // A core that holds no replica of the meta shard learns from the one that does of which cluster they are.
        let from_sibling = sender == self.me.node
            && self.cluster == ClusterId(0)
            && matches!(frame, Frame::Catalog { .. });
        if !known && !from_sibling && !frame.is_for_strangers() {
            let takes_us_in = matches!(&frame, Frame::Raft { to, .. } if *to == self.me.node)
                && self.cluster == ClusterId(0)
                && their_cluster != ClusterId(0)
                && self.is_joining();
            if !takes_us_in {
                return;
            }
            self.set_cluster(their_cluster);
            self.log(Level::Info, format!("joined {their_cluster}"));
        }
        if let Some(shard) = frame.shard()
            && !self.holds(shard)
        {
            // The sender did not know our cores yet: pass it on as it is.
            let core = crate::peers::core_of(shard, self.config.lanes, self.config.cores);
            let to = Endpoint {
                address: self.config.address.clone(),
                core,
            };
            let frame = bytes.clone();
            self.actions.push_back(Action::SendPeer { to, frame });
            return;
        }
        match frame {
            Frame::Link(parcel) => self.link_frame(now, stream, parcel),
            frame => self.handle_frame(now, their_cluster, frame),
        }
    }

    fn handle_frame(&mut self, now: Now, their_cluster: ClusterId, frame: Frame) {
        match frame {
            Frame::Ping {
                from,
                address,
                sent_us,
            } => {
                let core = from.core;
                let pong = Frame::Pong {
                    from: self.me.node,
                    sent_us,
                    wall_ms: now.wall_ms,
                    disk_low: self.space.own.low,
                };
                self.send(Endpoint { address, core }, &pong);
            }
            Frame::Pong {
                from,
                sent_us,
                wall_ms,
                disk_low,
            } => {
                self.heard_of_disk(from, disk_low);
                self.peers.detector.heard(from.0, now.mono_us);
                let sent = Now {
                    mono_us: sent_us,
                    wall_ms: 0,
                };
                self.peers.clocks.heard(from.0, sent, now, wall_ms);
            }
            Frame::Raft {
                shard,
                from,
                to,
                message,
                at_cut,
            } => self.raft_frame(now, shard, (from, to), *message, at_cut.map(|m| *m)),
            Frame::Hibernate {
                shard,
                from,
                term,
                last,
            } => {
                if let Some(replica) = self.replicas.get_mut(shard) {
                    replica.handle_hibernate(from, term, last);
                }
            }
            Frame::Propose {
                shard,
                term,
                sender,
                number,
                units,
            } => self.propose_frame(shard, term, (sender, number), units),
            Frame::ProposeMeta { hops, unit } => self.pass_on_meta(hops.min(3), unit),
            Frame::Report { hops, report } => self.pass_on_report(hops.min(3), report),
            Frame::Touch {
                shard,
                term,
                from,
                sent_us,
                sessions,
            } => {
                let leads = (self.replicas.get(shard).and_then(Shard::group))
                    .is_some_and(|g| g.is_leader() && g.term() == term);
                if leads {
                    for session in sessions {
                        self.leases.touch(now.mono_us, base::SessionId(session));
                    }
                    self.send_to_core(from, &Frame::Touched { shard, sent_us });
                }
            }
            Frame::Beat {
                shard,
                term,
                from,
                beats,
            } => {
                if let Some(heard) = self.hear_beats(now, shard, term, beats) {
                    self.send_to_core(from, &Frame::Beaten { shard, heard });
                }
            }
            Frame::Beaten { heard, .. } => {
                self.with_desk(now, |desk, cx| desk.handle_beaten(cx, heard));
            }
            Frame::Touched { sent_us, .. } => {
                self.contact_us = self.contact_us.max(sent_us);
            }
            Frame::Fetch {
                shard,
                from,
                index,
                offset,
                length,
            } => {
                let lane = self.lane_of(shard);
                if let (Some(replica), Some(lane)) =
                    (self.replicas.get_mut(shard), self.lanes.get_mut(&lane))
                {
                    let journal = &mut lane.journal;
                    replica.handle_fetch(now, from.node, index, offset, length, journal);
                }
            }
            Frame::Piece { shard, piece } if their_cluster != self.cluster => {
                self.followed_piece(now, shard, piece);
            }
            Frame::Piece { shard, piece } => {
                let lane = self.lane_of(shard);
                if let (Some(replica), Some(lane)) =
                    (self.replicas.get_mut(shard), self.lanes.get_mut(&lane))
                {
                    replica.handle_piece(now, piece, &mut lane.journal);
                }
            }
            Frame::Publish { channel, message } => {
                self.with_redis(now, |front, cx| {
                    front.handle_published(cx, &channel, &message);
                });
            }
            Frame::About {
                from,
                machine_version,
                addresses,
            } => self.peers.set_about(from, machine_version, addresses),
            Frame::Follow {
                shard,
                from,
                address,
                index,
                bytes_max,
            } => self.followed_by(now, shard, (from, address), index, bytes_max),
            Frame::Followed {
                shard,
                cluster,
                layout,
                addresses,
                commit,
                snapshot,
                entries,
            } => {
                let says = PrimarySays {
                    shard,
                    cluster,
                    layout,
                    addresses,
                    commit,
                    snapshot,
                    entries,
                };
                self.followed(now, says);
            }
            Frame::Superseded { cluster, by } => self.superseded(cluster, by),
            Frame::Look {
                cluster,
                from,
                address,
            } => self.looked_at(cluster, from, address),
            Frame::Stands { cluster } => self.stands(cluster),
            Frame::Gossip { from, rumor } => self.rumor(now, from, rumor),
            Frame::Group { group, from, bytes } => self.group_frame(now, group, from, bytes),
            Frame::Holds { from, held } => self.holds_frame(now, from, held),
            Frame::AskRegistry { from, token } => self.registry_asked(from, token),
            Frame::Registry {
                bytes,
                answers,
                reached,
            } => self.registry_frame(now, &bytes, answers, reached),
            Frame::Link(_) => {}
            Frame::Probe { address } => self.probed_by(address),
            Frame::Probed { address, fresh } => {
                self.probe_answered(now, address, fresh && their_cluster == ClusterId(0));
            }
            Frame::Join {
                node,
                address,
                observes,
            } => {
                let known = self.catalog.members.contains_key(&node);
                if self.cluster != ClusterId(0) && !known {
                    self.propose_meta(&CatalogCommand::Admit {
                        node,
                        address,
                        observes,
                    });
                }
            }
            Frame::Gone { shard, to, replica } => self.gone(shard, to, replica),
            Frame::Transfer { shard, to } => {
                self.transfer_to(shard, to);
            }
            Frame::Tell { shard, unit } => self.asks.push(Ask::Propose(shard, unit)),
            Frame::Catalog { index, bytes } => {
                if index > self.catalog_index
                    && let Ok(catalog) = Catalog::decode(&bytes)
                {
                    self.catalog_index = index;
                    self.catalog = catalog;
                    self.catalog_changed();
                }
            }
        }
    }

    fn send_to_core(&mut self, to: base::CoreAddress, frame: &Frame) {
        if let Some(endpoint) = self.endpoint_of(to) {
            self.send(endpoint, frame);
        }
    }
}
