//! Exact numbers.

use std::fmt;

use super::Unfit;

/// An exact number: `unscaled` × 10^-`scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decimal {
    /// Digits after the point.
    pub scale: u8,
    /// All digits, at most 38 of them.
    pub unscaled: i128,
}

impl Decimal {
    /// The most digits: as many as 128 bits hold in full.
    pub const MOST_DIGITS: u8 = 38;

    /// Reads digits such as `-12.50` at a scale. Missing digits after the point are zeros.
    ///
    /// # Errors
    /// It is no such number (`NaN`, `1e5`), has more digits after the point than the scale, unless they are zeros, or
    /// more than 38 in all. Nothing is ever rounded: engines round differently.
    pub fn parse(text: &str, scale: u8) -> Result<Self, Unfit> {
        let bad = || {
            Unfit::new(format!(
                "{text:?} is not an exact number with at most {scale} digits after the point"
            ))
        };
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() && fraction.is_empty() {
            return Err(bad());
        }
        let kept = fraction.trim_end_matches('0');
        let missing = usize::from(scale).checked_sub(kept.len()).ok_or_else(bad)?;
        let zeros = std::iter::repeat_n(b'0', missing);
        let mut unscaled = 0_i128;
        for digit in whole.bytes().chain(kept.bytes()).chain(zeros) {
            if !digit.is_ascii_digit() {
                return Err(bad());
            }
            unscaled = unscaled
                .checked_mul(10)
                .and_then(|number| number.checked_add(i128::from(digit - b'0')))
                .ok_or_else(bad)?;
        }
        let number = Self { scale, unscaled: if negative { -unscaled } else { unscaled } };
        if number.digits() > Self::MOST_DIGITS { Err(bad()) } else { Ok(number) }
    }

    /// How many digits it has, those after the point included.
    #[must_use]
    pub fn digits(&self) -> u8 {
        let digits = self.unscaled.unsigned_abs().checked_ilog10().map_or(0, |log| log + 1);
        u8::try_from(digits).unwrap_or(u8::MAX)
    }
}

impl fmt::Display for Decimal {
    /// With all digits after the point: `-12.50`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scale = usize::from(self.scale);
        let digits = format!("{:0>width$}", self.unscaled.unsigned_abs(), width = scale + 1);
        let (whole, fraction) =
            digits.split_at_checked(digits.len() - scale).unwrap_or((&digits, ""));
        let sign = if self.unscaled < 0 { "-" } else { "" };
        let point = if scale == 0 { "" } else { "." };
        write!(f, "{sign}{whole}{point}{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(unscaled in -10_i128.pow(37)..10_i128.pow(37), scale in 0_u8..30) {
            let number = Decimal { scale, unscaled };
            prop_assert_eq!(Decimal::parse(&number.to_string(), scale), Ok(number));
        }
    }

    #[test]
    fn nothing_is_rounded() {
        assert_eq!(Decimal::parse("1.5", 2).unwrap().to_string(), "1.50");
        assert_eq!(Decimal::parse("1.500", 2).unwrap().to_string(), "1.50");
        assert_eq!(Decimal::parse("-.05", 2).unwrap().to_string(), "-0.05");
        assert_eq!(Decimal::parse("-0.00", 2).unwrap().to_string(), "0.00");
        let long = "9".repeat(39);
        for bad in ["1.005", "NaN", "", ".", "-", "1e5", "1.2.3", "+1", " 1", long.as_str()] {
            assert!(Decimal::parse(bad, 2).is_err(), "{bad}");
        }
    }
}
