//! The four-letter words: `ruok`, `srvr`, `stat`, `mntr`.

use super::{Context, Zookeeper};
use std::fmt::Write;
use wire_zookeeper::FourLetterWord;

impl Zookeeper {
    /// The text that answers a word.
    pub(super) fn word(&self, cx: &Context<'_>, word: FourLetterWord) -> String {
        match word {
            FourLetterWord::Ruok => "imok".into(),
            FourLetterWord::Srvr => self.server_text(cx, false),
            FourLetterWord::Stat => self.server_text(cx, true),
            FourLetterWord::Mntr => self.monitor_text(cx),
            FourLetterWord::Unknown(word) => {
                format!("{word} is not served; there are ruok, srvr, stat and mntr.\n")
            }
        }
    }

    fn server_text(&self, cx: &Context<'_>, with_clients: bool) -> String {
        let mut text = format!("Zookeeper version: althing-{}\n", env!("CARGO_PKG_VERSION"));
        if with_clients {
            text.push_str("Clients:\n");
            for client in self.clients.values().take(10_000) {
                let _ = writeln!(
                    text,
                    " /{}[1](queued={},recved=0,sent=0)",
                    client.address,
                    client.queue.len()
                );
            }
            text.push('\n');
        }
        let c = &cx.counters;
        let (min, average, max) = c.latency_ms();
        let _ = writeln!(text, "Latency min/avg/max: {min}/{average:.1}/{max}");
        let _ = writeln!(text, "Received: {}", c.reads + c.writes);
        let _ = writeln!(text, "Sent: {}", c.reads + c.writes + c.notifications);
        let _ = writeln!(text, "Connections: {}", self.connection_count());
        let _ = writeln!(text, "Outstanding: {}", self.outstanding());
        let _ = writeln!(text, "Zxid: {:#x}", cx.tree.zxid());
        let _ = writeln!(text, "Mode: {}", self.mode);
        let _ = writeln!(text, "Node count: {}", cx.tree.counts().nodes);
        text
    }

    fn monitor_text(&self, cx: &Context<'_>) -> String {
        let c = &cx.counters;
        let counts = cx.tree.counts();
        let (min, average, max) = c.latency_ms();
        let mut text = format!("zk_version\talthing-{}\n", env!("CARGO_PKG_VERSION"));
        let _ = writeln!(text, "zk_server_state\t{}", self.mode);
        let rows: [(&str, u64); 13] = [
            ("zk_min_latency", min),
            ("zk_max_latency", max),
            ("zk_packets_received", c.reads + c.writes),
            ("zk_packets_sent", c.reads + c.writes + c.notifications),
            ("zk_num_alive_connections", self.connection_count() as u64),
            ("zk_outstanding_requests", self.outstanding() as u64),
            ("zk_znode_count", counts.nodes as u64),
            ("zk_watch_count", self.watch_count() as u64),
            ("zk_ephemerals_count", counts.ephemerals as u64),
            ("zk_approximate_data_size", counts.data_bytes),
            ("zk_global_sessions", counts.sessions as u64),
            ("zk_bytes_received_count", c.bytes_in),
            ("zk_bytes_sent_count", c.bytes_out),
        ];
        for (name, value) in rows {
            let _ = writeln!(text, "{name}\t{value}");
        }
        let _ = writeln!(text, "zk_avg_latency\t{average:.3}");
        text
    }
}
