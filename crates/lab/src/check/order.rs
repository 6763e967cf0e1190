//! Operations whose answers are places in an order: whoever began after another had ended has a later place,
//! or, where it only looked, no earlier one. Then that order is a linearization.

/// An operation.
#[derive(Debug)]
pub struct Placed {
    /// When it began.
    pub invoked_us: u64,
    /// When it ended.
    pub completed_us: u64,
    /// Its place is behind this many.
    pub from: i64,
    /// And before what comes behind this many; what only looks adds none.
    pub to: i64,
    /// Which it is, in words.
    pub what: String,
}

/// Objections to the places of `placed`.
pub fn check(of: &str, mut placed: Vec<Placed>) -> Vec<String> {
    let mut objections = Vec::new();
    let mut ends: Vec<(u64, i64)> = placed.iter().map(|p| (p.completed_us, p.to)).collect();
    ends.sort_unstable();
    placed.sort_by_key(|one| one.invoked_us);
    let mut ends = ends.into_iter().peekable();
    let mut least = 0;
    for one in placed {
        while let Some((_, place)) = ends.next_if(|(at_us, _)| *at_us < one.invoked_us) {
            least = least.max(place);
        }
        if one.from < least {
            objections.push(format!(
                "{of}: {} has place {}, and place {least} was there before it began",
                one.what, one.to
            ));
        }
    }
    objections
}
