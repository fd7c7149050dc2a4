//! Bytes in and out: what entries, rows and durable notes are made of.

use thiserror::Error;

/// Bytes that are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// Appends canonical bytes: of equal values, equal ones.
#[derive(Debug, Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Seven bits a byte, the least significant first.
    pub(crate) fn number(&mut self, number: u64) {
        self.wide(u128::from(number));
    }

    pub(crate) fn wide(&mut self, mut number: u128) {
        loop {
            let low = u8::try_from(number & 0x7f).unwrap_or_default();
            number >>= 7;
            if number == 0 {
                return self.0.push(low);
            }
            self.0.push(low | 0x80);
        }
    }

    /// Small numbers of either sign are short.
    pub(crate) fn signed(&mut self, number: i128) {
        self.wide(((number << 1) ^ (number >> 127)).cast_unsigned());
    }

    pub(crate) fn length(&mut self, length: usize) {
        self.number(u64::try_from(length).unwrap_or(u64::MAX));
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.raw(bytes);
    }
}

/// Takes canonical bytes apart. Never trusts a length.
#[derive(Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn raw(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) =
            self.0.split_at_checked(length).ok_or(Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.raw(N)?.try_into().map_err(|_| Malformed("it ends too early"))
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Malformed> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    pub(crate) fn number(&mut self) -> Result<u64, Malformed> {
        u64::try_from(self.wide()?).map_err(|_| Malformed("a number is too large"))
    }

    pub(crate) fn wide(&mut self) -> Result<u128, Malformed> {
        let mut number = 0_u128;
        for shift in (0..u128::BITS).step_by(7) {
            let byte = self.byte()?;
            let bits = u128::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(Malformed("a number is too large"));
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                // One way of writing a number only, or equal entries would differ.
                let short = byte != 0 || shift == 0;
                return short.then_some(number).ok_or(Malformed("a number is written too long"));
            }
        }
        Err(Malformed("a number is too large"))
    }

    pub(crate) fn signed(&mut self) -> Result<i128, Malformed> {
        let wide = self.wide()?;
        Ok((wide >> 1).cast_signed() ^ -(wide & 1).cast_signed())
    }

    /// How many things follow; each takes one byte at least, so a false count cannot ask for memory.
    pub(crate) fn count(&mut self) -> Result<usize, Malformed> {
        let count =
            usize::try_from(self.number()?).map_err(|_| Malformed("a count is too large"))?;
        (count <= self.0.len()).then_some(count).ok_or(Malformed("it ends too early"))
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.count()?;
        self.raw(length)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed("a text is not UTF-8"))
    }

    pub(crate) fn flag(&mut self) -> Result<bool, Malformed> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed("a flag is neither 0 nor 1")),
        }
    }

    pub(crate) fn many<T>(
        &mut self,
        mut one: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let count = self.count()?;
        (0..count).map(|_| one(self)).collect()
    }

    pub(crate) fn end(&self) -> Result<(), Malformed> {
        self.0.is_empty().then_some(()).ok_or(Malformed("it goes on after its end"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back(wide: u128, signed: i128, small in -70_i128..70) {
            let mut writer = Writer::default();
            writer.wide(wide);
            writer.signed(signed);
            writer.signed(small);
            let mut reader = Reader::new(&writer.0);
            prop_assert_eq!(reader.wide(), Ok(wide));
            prop_assert_eq!(reader.signed(), Ok(signed));
            prop_assert_eq!(reader.signed(), Ok(small));
            prop_assert_eq!(reader.end(), Ok(()));
        }

        #[test]
        fn a_number_is_written_in_one_way_only(bytes in proptest::collection::vec(any::<u8>(), 1..20)) {
            let mut reader = Reader::new(&bytes);
            if let Ok(number) = reader.wide() {
                let mut writer = Writer::default();
                writer.wide(number);
                prop_assert!(bytes.starts_with(&writer.0));
                prop_assert_eq!(reader.0.len(), bytes.len() - writer.0.len());
            }
        }
    }

    #[test]
    fn a_false_count_asks_for_no_memory() {
        let mut writer = Writer::default();
        writer.number(u64::MAX);
        assert!(Reader::new(&writer.0).many(Reader::byte).is_err());
        assert!(Reader::new(&writer.0).bytes().is_err());
    }
}
