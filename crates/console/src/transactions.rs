//! Transactions over chapters: those under way, those in doubt, and the last that ended.

use crate::View;
use crate::layout::{code, figure, plain, table};
use crate::text::{count, span_ms};
use maud::{Markup, html};
use node::admin::TransactionsStatus;

pub fn body(view: &View<'_>) -> Markup {
    let all = || view.statuses.iter().flat_map(|s| &s.transactions);
    let sum = |field: fn(&TransactionsStatus) -> u64| -> u64 { all().map(field).sum() };
    let mut under_way = Vec::new();
    let mut last = Vec::new();
    for shard in all() {
        for (id, record, since_ms, state, waits_for) in &shard.under_way {
            under_way.push(vec![
                code(id),
                plain(&shard.shard),
                plain(state),
                plain(span_ms(*since_ms)),
                plain(record),
                plain(waits_for.join(", ")),
            ]);
        }
        for (id, left_ms, outcome) in &shard.last {
            let cells = [
                plain(&shard.shard),
                plain(outcome),
                plain(span_ms(*left_ms)),
            ];
            last.push([code(id)].into_iter().chain(cells).collect());
        }
    }
    html! {
        p { "A transaction changes keys, topics and the tree together, or none of them: " code { "althing txn FILE" } "." }
        div.figures {
            (figure("Under way", count(sum(|s| s.records)), "by the shard of their record"))
            (figure("In doubt", count(sum(|s| s.promises)), "promised here, not decided yet"))
            (figure("Held", count(sum(|s| s.locks)), "keys, partitions, nodes"))
            (figure("Waiting", count(sum(|s| s.parked)), "writes behind them"))
            (figure("Committed", count(sum(|s| s.committed)), &format!("refused: {}", count(sum(|s| s.refused)))))
        }
        h2 { "Under way" }
        (table(
            &[("Id", false), ("Shard", false), ("State", false), ("Since", true), ("Record in", false), ("Waits for", false)],
            &under_way,
            "None is under way here.",
        ))
        h2 { "Ended" }
        (table(
            &[("Id", false), ("Shard", false), ("Outcome", false), ("Remembered for", true)],
            &last,
            "None has ended here lately.",
        ))
    }
}
