//! Transactions and branches as JSON, under the names that DTM's clients and pages read.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use transactions::global::{Branch, Global, Known, Op, Status};

/// A transaction.
pub fn transaction(gid: &str, global: &Global) -> Value {
    let options = &global.options;
    let seconds = |ms: u64| ms / 1_000;
    let mut shown = json!({
        "gid": gid,
        "trans_type": global.kind.name(),
        "status": global.status.name(),
        "protocol": "http",
        "create_time": time(global.created_ms),
        "update_time": time(global.updated_ms),
        "concurrent": options.concurrent,
        "wait_result": options.wait_result,
        "timeout_to_fail": seconds(options.timeout_ms),
        "request_timeout": seconds(options.request_timeout_ms),
        "retry_interval": seconds(options.retry_interval_ms),
        "retry_limit": options.retry_limit,
        "branch_headers": options.headers.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
    });
    let mut put = |name: &str, value: String| {
        if !value.is_empty() {
            shown[name] = value.into();
        }
    };
    let check = global.branches.iter().find(|b| b.op == Op::Check);
    put(
        "query_prepared",
        check.map(|b| b.url.clone()).unwrap_or_default(),
    );
    put("custom_data", global.custom_data.clone());
    put("rollback_reason", global.reason.clone());
    put("parked", global.parked.clone().unwrap_or_default());
    match global.status {
        Status::Succeeded => put("finish_time", time(global.ended_ms)),
        Status::Failed => put("rollback_time", time(global.ended_ms)),
        _ => put(
            "next_cron_time",
            global.next_ms().map(time).unwrap_or_default(),
        ),
    }
    shown
}

/// Its operations, as they are told: without the check-back of a message.
pub fn branches(gid: &str, global: &Global) -> Vec<Value> {
    let told = global.branches.iter().filter(|b| b.op != Op::Check);
    told.map(|one| branch(gid, one, global.created_ms))
        .collect()
}

fn branch(gid: &str, branch: &Branch, created_ms: i64) -> Value {
    let mut shown = json!({
        "gid": gid,
        "branch_id": branch.id,
        "op": branch.op.name(),
        "url": branch.url,
        "bin_data": STANDARD.encode(&branch.data),
        "status": match branch.result {
            Known::Open => "prepared",
            Known::Done => "succeed",
            Known::Refused => "failed",
        },
        "create_time": time(created_ms),
        "attempts": branch.attempts,
    });
    if branch.ended_ms > 0 {
        shown["finish_time"] = time(branch.ended_ms).into();
    }
    if !branch.words.is_empty() {
        shown["error"] = branch.words.clone().into();
    }
    shown
}

/// Unix milliseconds as RFC 3339 has them. The date by Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn time(ms: i64) -> String {
    let (days, ms) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Counted from March.
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = 400 * era + year_of_era + i64::from(month <= 2);
    let (hour, minute) = (ms / 3_600_000, ms / 60_000 % 60);
    let (second, ms) = (ms / 1_000 % 60, ms % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_that_of_the_calendar() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (4_107_542_400_001, "2100-03-01T00:00:00.001Z"),
        ] {
            assert_eq!(time(ms), text);
        }
    }
}
