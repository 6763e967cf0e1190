//! Time as a value. Pure code receives [`Now`] as an argument and never fetches it.

/// The two clocks of a core at one moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Now {
    /// Monotonic clock, microseconds since an arbitrary start. Never goes back.
    pub mono_us: u64,
    /// Wall clock, milliseconds since 1970-01-01 UTC. May step.
    pub wall_ms: i64,
}

impl Now {
    /// Monotonic milliseconds.
    pub fn mono_ms(self) -> u64 {
        self.mono_us / 1000
    }
}

/// What a leader writes on each entry; the only time and randomness that a machine sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stamp {
    /// Milliseconds since 1970-01-01 UTC by the leader's slewed clock.
    pub time_ms: i64,
    /// Seed for whatever the machine has to draw.
    pub seed: u64,
}

/// Milliseconds since 1970-01-01 UTC as people read them (RFC 3339). Days to civil date by counting from
/// 0000-03-01 in eras of 400 years.
pub fn utc(wall_ms: i64) -> String {
    let (seconds, millis) = (wall_ms.div_euclid(1_000), wall_ms.rem_euclid(1_000));
    let days = seconds.div_euclid(86_400) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let of_day = seconds.rem_euclid(86_400);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{millis:03}Z",
        of_day / 3_600,
        of_day / 60 % 60,
        of_day % 60
    )
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn utc_of_known_milliseconds_is_the_civil_date() {
        assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(utc(951_782_400_007), "2000-02-29T00:00:00.007Z");
        assert_eq!(utc(1_709_210_096_000), "2024-02-29T12:34:56.000Z");
        assert_eq!(utc(4_102_444_799_999), "2099-12-31T23:59:59.999Z");
        // The ends of the range must not overflow.
        assert!(utc(i64::MAX).ends_with('Z') && utc(i64::MIN).ends_with('Z'));
    }
}
