//! How sessions begin, move and end at a connection.

use super::*;

impl Zookeeper {
    pub(super) fn connect(&mut self, cx: &mut Context<'_>, id: ClientId, request: ConnectRequest) {
        let token = self.token();
        let (low, high) = self.timeout_bounds_ms;
        let timeout_ms = request.timeout_ms.clamp(low, high);
        let origin = Origin {
            home: self.me,
            token,
        };
        let command = if request.session == SessionId(0) {
            Command::OpenSession {
                origin,
                password: self.password(),
                timeout_ms,
            }
        } else {
            let mut password = [0; 16];
            if request.password.len() == password.len() {
                password.copy_from_slice(&request.password);
            }
            Command::AttachSession {
                origin,
                session: request.session,
                password,
                timeout_ms,
            }
        };
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        client.stage = Stage::Connecting {
            token,
            request,
            command: command.clone(),
            asked_us: cx.now.mono_us,
            since_us: cx.now.mono_us,
            repeated: false,
        };
        self.waiting.insert(token, id);
        let envelope = Envelope::default();
        cx.asks.push(propose(Unit { envelope, command }));
    }

    #[allow(clippy::too_many_arguments)] // each is a field of the one reply that this builds
    pub(super) fn established(
        &mut self,
        cx: &mut Context<'_>,
        origin: Origin,
        session: SessionId,
        generation: u32,
        password: [u8; 16],
        timeout_ms: u32,
        zxid: i64,
    ) {
        if origin.home != self.me {
            return;
        }
        let Some(id) = self.waiting.remove(&origin.token) else {
            // The client left, or this is the answer to a repeated proposal. (What a restarted node
            // replays from its log is neither: its tokens are of an earlier run.)
            if generation == 1 && self.strays.contains(&origin.token) {
                self.propose_close(cx, session, generation);
            }
            return;
        };
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let Stage::Connecting {
            request, repeated, ..
        } = &client.stage
        else {
            return;
        };
        if request.last_zxid_seen > zxid {
            let message = format!(
                "refused a session from {}: it has seen revision {:#x}, this replica is at {zxid:#x}",
                client.address, request.last_zxid_seen
            );
            cx.actions.push_back(Action::Log {
                level: crate::Level::Warn,
                message,
            });
            return self.close(id, cx.actions);
        }
        if *repeated {
            let token = origin.token;
            self.strays.insert(token);
        }
        let version = request.protocol_version;
        let flag = request.had_read_only_flag;
        reply::connect_response(
            &mut client.out.bytes,
            version,
            timeout_ms,
            session,
            &password,
            flag,
        );
        client.stage = Stage::Established(Link {
            session,
            generation,
            sequence: 0,
            timeout_ms,
        });
        self.dirty.push(id);
        cx.counters.sessions_opened += u64::from(generation == 1);
        if let Some(older) = self.sessions.insert(session, id)
            && older != id
            && !planted(Bug::ServeAfterMove)
        {
            self.close(older, cx.actions);
            self.sessions.insert(session, id);
        }
        self.poll_client(cx, id);
    }

    pub(super) fn note_stray(&mut self, token: u64) {
        self.strays.insert(token);
        if self.strays.len() > STRAYS_MAX {
            self.strays.pop_first();
        }
    }

    fn propose_close(&mut self, cx: &mut Context<'_>, session: SessionId, generation: u32) {
        let envelope = Envelope {
            session,
            generation,
            sequence: 1,
            ..Envelope::default()
        };
        let command = Command::CloseSession;
        cx.asks.push(propose(Unit { envelope, command }));
    }

    pub(super) fn attach_refused(
        &mut self,
        cx: &mut Context<'_>,
        origin: Origin,
        why: AttachRefusal,
    ) {
        if origin.home != self.me {
            return;
        }
        let Some(id) = self.waiting.remove(&origin.token) else {
            return;
        };
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let flag = match &client.stage {
            Stage::Connecting { request, .. } => request.had_read_only_flag,
            _ => false,
        };
        // ZooKeeper does not tell a wrong password from an expired session either.
        let (AttachRefusal::NoSession | AttachRefusal::WrongPassword) = why;
        reply::connect_expired(&mut client.out.bytes, flag);
        self.close(id, cx.actions);
    }
}
