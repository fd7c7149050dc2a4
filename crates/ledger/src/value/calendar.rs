//! Days and moments in the proleptic Gregorian calendar, in the years that every engine knows.

/// 1000-01-01: MariaDB's first day.
const FIRST_DAY: i32 = -354_285;
/// 9999-12-31: MariaDB's and SQLite's last day.
const LAST_DAY: i32 = 2_932_896;
const DAY_US: i64 = 86_400_000_000;

pub(super) fn is_common_day(days: i32) -> bool {
    (FIRST_DAY..=LAST_DAY).contains(&days)
}

pub(super) fn is_common_moment(us: i64) -> bool {
    i32::try_from(us.div_euclid(DAY_US)).is_ok_and(is_common_day)
}

/// `2026-07-03`.
pub(super) fn day_text(days: i32) -> String {
    let (year, month, day) = civil(i64::from(days));
    format!("{year:04}-{month:02}-{day:02}")
}

/// `2026-07-03 12:00:00.000001`, in UTC.
pub(super) fn moment_text(us: i64) -> String {
    let (year, month, day) = civil(us.div_euclid(DAY_US));
    let of_day = us.rem_euclid(DAY_US);
    let (seconds, fraction) = (of_day / 1_000_000, of_day % 1_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{fraction:06}")
}

pub(super) fn parse_day(text: &str) -> Option<i32> {
    let mut parts = text.splitn(3, '-');
    let (year, month, day) =
        (digits(parts.next()?, 4)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    let days = days(year, month, day);
    // The thirtieth of February would come back as the second of March.
    (civil(days) == (year, month, day)).then(|| i32::try_from(days).ok()).flatten()
}

/// With a blank or a `T` before the time, and up to six digits of a second; no zone, or UTC's.
pub(super) fn parse_moment(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z').or_else(|| text.strip_suffix("+00")).unwrap_or(text);
    let (day, time) = text.split_once([' ', 'T'])?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut parts = time.splitn(3, ':');
    let (hour, minute, second) =
        (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    if hour > 23 || minute > 59 || second > 59 || fraction.len() > 6 {
        return None;
    }
    let fraction = digits(&format!("{fraction:0<6}"), 6)?;
    let of_day = ((hour * 60 + minute) * 60 + second) * 1_000_000 + fraction;
    Some(i64::from(parse_day(day)?) * DAY_US + of_day)
}

fn digits(text: &str, length: usize) -> Option<i64> {
    (text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

/// Days after 1970-01-01 of a day, counted in eras of 400 years that begin in March.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_years_end_where_mariadb_s_do() {
        assert_eq!(day_text(FIRST_DAY), "1000-01-01");
        assert_eq!(day_text(LAST_DAY), "9999-12-31");
        assert_eq!(day_text(0), "1970-01-01");
    }

    #[test]
    fn every_day_comes_back() {
        // Steps of a prime, and four years in full.
        let mut before = String::new();
        for day in (FIRST_DAY..=LAST_DAY).step_by(13) {
            let text = day_text(day);
            assert_eq!(parse_day(&text), Some(day));
            assert!(before < text, "{text}");
            before = text;
        }
        for day in 0..1500 {
            assert_eq!(parse_day(&day_text(day)), Some(day));
        }
    }

    #[test]
    fn what_is_no_day_or_moment_is_refused() {
        for text in ["2026-02-29", "2026-13-01", "2026-1-1", "", "2026-01-00", "-026-01-01"] {
            assert_eq!(parse_day(text), None, "{text}");
        }
        for text in
            ["2026-02-28", "2026-02-28 24:00:00", "2026-02-28 1:00:00", "2026-02-28 00:00:00+02"]
        {
            assert_eq!(parse_moment(text), None, "{text}");
        }
    }

    #[test]
    fn moments_are_read_as_engines_write_them() {
        let at = parse_moment("2026-07-03 12:00:00.5").unwrap();
        assert_eq!(parse_moment("2026-07-03T12:00:00.500000Z"), Some(at));
        assert_eq!(moment_text(at), "2026-07-03 12:00:00.500000");
        assert_eq!(moment_text(-1), "1969-12-31 23:59:59.999999");
        assert_eq!(parse_moment("1969-12-31 23:59:59.999999"), Some(-1));
    }
}
