//! Times for people, in UTC.

use crate::observe::UnixMillis;

/// `2026-11-23 17:24:58`.
pub(super) fn date_and_time(time: UnixMillis) -> String {
    let (year, month, day) = date(time.0 / 86_400_000);
    format!("{year:04}-{month:02}-{day:02} {}", time_of_day(time))
}

/// `17:24:58`.
pub(super) fn time_of_day(time: UnixMillis) -> String {
    let seconds = time.0 / 1000 % 86_400;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}", seconds % 60)
}

/// Year, month and day of a day since 1970.
fn date(days: u64) -> (u64, u64, u64) {
    // Years that begin in March: the leap day is then the last one. The era of 400
    // years that 1970 is in began 719,468 days before it.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (400 * era + year + next, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_399, "2000-02-28 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_763_885_000, "2025-11-23 08:03:20"),
            (4_102_444_799, "2099-12-31 23:59:59"),
            (4_107_542_400, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(date_and_time(UnixMillis(seconds * 1000 + 7)), text);
        }
    }
}
