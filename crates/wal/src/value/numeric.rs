//! Decimal numbers of any length.

use std::fmt;
use std::str::FromStr;

use crate::{Column, FromField};

/// A `numeric` as PostgreSQL writes it: all its digits, or `NaN`, `Infinity` or `-Infinity`. What calculates with it is
/// the application's choice: most decimal types parse [`Numeric::as_str`].
///
/// Two are equal when they are written the same: `1.0` and `1.00` are not, because their scale is not.
///
/// ```
/// use herdsman_wal::Numeric;
/// let price: Numeric = "12345678901234567890.10".parse().unwrap();
/// assert_eq!(price.as_str(), "12345678901234567890.10");
/// assert!(f64::try_from(&price).is_err(), "that many digits are more than an f64 holds");
/// assert_eq!(i128::try_from(&"42.00".parse::<Numeric>().unwrap()), Ok(42));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Numeric(Box<str>);

/// A text is no numeric, or a numeric is not exactly a value of the type asked for. Does not show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidNumeric(&'static str);

impl Numeric {
    /// As PostgreSQL writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a number, and not `NaN` or infinite.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        self.0.bytes().next_back().is_some_and(|last| last.is_ascii_digit())
    }
}

impl FromStr for Numeric {
    type Err = InvalidNumeric;

    fn from_str(text: &str) -> Result<Self, InvalidNumeric> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let finite = match digits.split_once('.') {
            Some((whole, fraction)) => plain(whole) && plain(fraction),
            None => plain(digits),
        };
        if finite || matches!(text, "NaN" | "Infinity" | "-Infinity") {
            return Ok(Self(text.into()));
        }
        Err(InvalidNumeric("it is not a decimal number as PostgreSQL writes it"))
    }
}

impl TryFrom<&Numeric> for i128 {
    type Error = InvalidNumeric;

    /// Exactly, or not at all.
    fn try_from(number: &Numeric) -> Result<Self, InvalidNumeric> {
        if !number.is_finite() {
            return Err(InvalidNumeric("it is not finite"));
        }
        let (whole, fraction) = number.0.split_once('.').unwrap_or((&number.0, ""));
        if fraction.bytes().any(|digit| digit != b'0') {
            return Err(InvalidNumeric("it has a fraction"));
        }
        whole.parse().map_err(|_| InvalidNumeric("it is outside the range of i128"))
    }
}

impl TryFrom<&Numeric> for f64 {
    type Error = InvalidNumeric;

    /// Only where the number's shortest form has the same digits: nobody reads another number out than went in.
    fn try_from(number: &Numeric) -> Result<Self, InvalidNumeric> {
        let close: Self = number.0.parse().map_err(|_| InvalidNumeric("it is not a number"))?;
        if number.is_finite() && !exact(&number.0, close) {
            return Err(InvalidNumeric("it has more digits than f64 holds"));
        }
        Ok(close)
    }
}

impl fmt::Display for Numeric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// As text, because most readers of JSON would round a number.
impl serde::Serialize for Numeric {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl FromField for Numeric {
    const NAME: &'static str = "Numeric";

    fn from_text(text: &str, column: &Column) -> Result<Self, String> {
        super::only(column, &["numeric", "int2", "int4", "int8"], "read it as String")?;
        text.parse().map_err(|problem: InvalidNumeric| problem.to_string())
    }
}

/// Whether `close` is written with the same digits as `text`, a decimal number with or without an exponent.
pub(crate) fn exact(text: &str, close: f64) -> bool {
    let sign = |text: &str| text.starts_with('-');
    let shortest = format!("{close:e}");
    let (wanted, found) = (normal(text), normal(&shortest));
    // Zero has no sign as a numeric.
    wanted.is_some() && wanted == found && (sign(text) == sign(&shortest) || close == 0.0)
}

/// Digits without zeros at either end, and the power of ten of the first.
fn normal(text: &str) -> Option<(String, i64)> {
    let text = text.trim_start_matches('-');
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse().ok()?),
        None => (text, 0_i64),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    let leading = digits.bytes().take_while(|&digit| digit == b'0').count();
    let significant = digits.trim_matches('0').to_owned();
    if significant.is_empty() {
        return Some((significant, 0));
    }
    let first = i64::try_from(whole.len()).ok()? - i64::try_from(leading).ok()?;
    Some((significant, exponent.checked_add(first)?))
}
