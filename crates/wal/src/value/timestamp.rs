//! Moments in text form, and back.

use std::fmt;
use std::time::SystemTime;

use crate::{Column, FromField, Timestamp};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
/// Days from 1970-01-01 to 2000-01-01.
const UNIX_DAYS: i64 = 10_957;

impl Timestamp {
    /// PostgreSQL's `infinity`: later than every moment.
    pub const INFINITY: Self = Self(i64::MAX);
    /// PostgreSQL's `-infinity`: earlier than every moment.
    pub const NEG_INFINITY: Self = Self(i64::MIN);

    /// Whether it is a moment at all.
    #[must_use]
    pub fn is_finite(self) -> bool {
        self != Self::INFINITY && self != Self::NEG_INFINITY
    }
}

/// RFC 3339 in UTC with microseconds; `infinity` and `-infinity` as PostgreSQL writes them.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::INFINITY => f.write_str("infinity"),
            Self::NEG_INFINITY => f.write_str("-infinity"),
            _ => {
                let Moment { year, month, day, hour, minute, second, micros } = Moment::of(*self);
                write!(
                    f,
                    "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z"
                )
            }
        }
    }
}

/// A moment as calendar and clock show it in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    /// The year 1 BC is 0.
    pub(crate) year: i64,
    pub(crate) month: i64,
    pub(crate) day: i64,
    pub(crate) hour: i64,
    pub(crate) minute: i64,
    pub(crate) second: i64,
    pub(crate) micros: i64,
}

impl Moment {
    pub(crate) fn of(timestamp: Timestamp) -> Self {
        let (days, clock) = (timestamp.0.div_euclid(DAY), timestamp.0.rem_euclid(DAY));
        let (year, month, day) = date_of(days + UNIX_DAYS);
        let seconds = clock / SECOND;
        Self {
            year,
            month,
            day,
            hour: seconds / 3600,
            minute: seconds / 60 % 60,
            second: seconds % 60,
            micros: clock % SECOND,
        }
    }
}

/// Years are counted from March, so that the day that comes and goes is the last one of a year; 400 of them are an era,
/// which always has the same number of days.
const ERA: i64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const ERA_OFFSET: i64 = 719_468;

fn date_of(unix_days: i64) -> (i64, i64, i64) {
    let days = unix_days + ERA_OFFSET;
    let (era, day_of_era) = (days.div_euclid(ERA), days.rem_euclid(ERA));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

fn unix_days_of(year: i64, month: i64, day: i64) -> i64 {
    let march_year = year - i64::from(month <= 2);
    let (era, year_of_era) = (march_year.div_euclid(400), march_year.rem_euclid(400));
    let march_month = (month + 9) % 12;
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    era * ERA + 365 * year_of_era + year_of_era / 4 - year_of_era / 100 + day_of_year - ERA_OFFSET
}

/// A `timestamp` without time zone is read as UTC.
impl FromField for Timestamp {
    const NAME: &'static str = "Timestamp";

    fn from_text(text: &str, column: &Column) -> Result<Self, String> {
        super::only(column, &["timestamptz", "timestamp"], "read it as String")?;
        parse(text).ok_or_else(|| "it is not a timestamp in ISO form".to_owned())
    }
}

impl FromField for SystemTime {
    const NAME: &'static str = "SystemTime";

    fn from_text(text: &str, column: &Column) -> Result<Self, String> {
        let moment = Timestamp::from_text(text, column)?;
        if !moment.is_finite() {
            return Err("it is infinite; read it as Timestamp".to_owned());
        }
        Ok(moment.system_time())
    }
}

/// `2026-01-02 03:04:05.678+05:30`, with ` BC` behind years before the first.
fn parse(text: &str) -> Option<Timestamp> {
    match text {
        "infinity" => return Some(Timestamp::INFINITY),
        "-infinity" => return Some(Timestamp::NEG_INFINITY),
        _ => {}
    }
    let (text, before_christ) = match text.strip_suffix(" BC") {
        Some(text) => (text, true),
        None => (text, false),
    };
    let (date, time) = text.split_once(' ')?;
    let [year, month, day] = parts(date, '-')?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || year == 0 {
        return None;
    }
    let year = if before_christ { 1 - year } else { year };
    let (clock, offset) = match time.find(['+', '-']) {
        Some(at) => (time.get(..at)?, seconds_of_offset(time.get(at..)?)?),
        None => (time, 0),
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [hour, minute, second] = parts(clock, ':')?;
    if hour > 24 || minute > 59 || second > 60 || fraction.len() > 6 {
        return None;
    }
    let scale = 10_i64.pow(6 - u32::try_from(fraction.len()).ok()?);
    let micros = number(fraction)? * scale;
    let seconds = hour * 3600 + minute * 60 + second - offset;
    let days = unix_days_of(year, month, day) - UNIX_DAYS;
    let total = days.checked_mul(DAY)?.checked_add(seconds * SECOND)?.checked_add(micros)?;
    Some(Timestamp(total))
}

/// `+05`, `-03:30` or `+00:19:32`: east of Greenwich is ahead.
fn seconds_of_offset(text: &str) -> Option<i64> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(text) => (-1, text),
        None => (1, text.strip_prefix('+')?),
    };
    let mut scale = 3600;
    let mut seconds = 0;
    for part in text.split(':') {
        seconds += number(part)? * scale;
        scale /= 60;
    }
    (scale > 0 || text.matches(':').count() == 2).then_some(sign * seconds)
}

fn parts(text: &str, separator: char) -> Option<[i64; 3]> {
    let mut parts = text.split(separator).map(number);
    let all = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(all)
}

/// Digits only, and few enough that nothing overflows later.
fn number(text: &str) -> Option<i64> {
    let plain = (1..=6).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}
