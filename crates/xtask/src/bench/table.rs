//! Floors, and figures as tables show them.

/// How a floor is measured.
pub enum Floor {
    /// Althing's median at least this many times the peer's.
    TimesAtLeast(f64),
    /// Althing's median at most this many times the peer's.
    TimesAtMost(f64),
    /// Althing's median at most this.
    AtMost(f64),
}

/// What is asked in words, and whether it is met; `None` when there is nothing to judge.
pub fn verdict(floor: Option<&Floor>, theirs: f64, ours: f64) -> (String, Option<bool>) {
    let judge = |value: f64, met: bool| (!value.is_nan()).then_some(met);
    let ratio = ours / theirs;
    match floor {
        None => (String::new(), None),
        Some(Floor::TimesAtLeast(n)) => (format!("≥ {n} ×"), judge(ratio, ratio >= *n)),
        Some(Floor::TimesAtMost(n)) => (format!("≤ {n} ×"), judge(ratio, ratio <= *n)),
        Some(Floor::AtMost(n)) => (format!("≤ {n}"), judge(ours, ours <= *n)),
    }
}

/// A number with as many digits as say something.
pub fn figure(value: f64) -> String {
    match value {
        v if v.is_nan() => "–".into(),
        v if v.abs() >= 100.0 => format!("{v:.0}"),
        v if v.abs() >= 1.0 => format!("{v:.2}"),
        v => format!("{v:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_are_judged_only_by_what_was_measured() {
        let judged = |floor: Floor, theirs, ours| verdict(Some(&floor), theirs, ours).1;
        assert_eq!(judged(Floor::TimesAtLeast(2.0), 10.0, 20.0), Some(true));
        assert_eq!(judged(Floor::TimesAtLeast(2.0), 10.0, 19.0), Some(false));
        assert_eq!(judged(Floor::TimesAtMost(0.2), 100.0, 21.0), Some(false));
        assert_eq!(judged(Floor::AtMost(0.2), f64::NAN, 0.1), Some(true));
        assert_eq!(judged(Floor::AtMost(0.2), 1.0, f64::NAN), None);
        assert_eq!(judged(Floor::TimesAtLeast(2.0), f64::NAN, 5.0), None);
    }
}
