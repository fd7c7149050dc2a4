//! A value in canonical bytes.

use super::{Decimal, Value};
use crate::codec::{Malformed, Reader, Writer};

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const INT: u8 = 3;
const DECIMAL: u8 = 4;
const FLOAT: u8 = 5;
const TEXT: u8 = 6;
const BYTES: u8 = 7;
const DATE: u8 = 8;
const TIMESTAMP: u8 = 9;
const UUID: u8 = 10;
const JSON: u8 = 11;

impl Value {
    pub(crate) fn encode(&self, to: &mut Writer) {
        match self {
            Self::Null => to.byte(NULL),
            Self::Bool(false) => to.byte(FALSE),
            Self::Bool(true) => to.byte(TRUE),
            Self::Int(number) => {
                to.byte(INT);
                to.signed(i128::from(*number));
            }
            Self::Decimal(number) => {
                to.byte(DECIMAL);
                to.byte(number.scale);
                to.signed(number.unscaled);
            }
            Self::Float(bits) => {
                to.byte(FLOAT);
                to.raw(&bits.to_be_bytes());
            }
            Self::Text(text) => {
                to.byte(TEXT);
                to.bytes(text.as_bytes());
            }
            Self::Bytes(bytes) => {
                to.byte(BYTES);
                to.bytes(bytes);
            }
            Self::Date(days) => {
                to.byte(DATE);
                to.signed(i128::from(*days));
            }
            Self::Timestamp(at) => {
                to.byte(TIMESTAMP);
                to.signed(i128::from(*at));
            }
            Self::Uuid(bytes) => {
                to.byte(UUID);
                to.raw(bytes);
            }
            Self::Json(text) => {
                to.byte(JSON);
                to.bytes(text.as_bytes());
            }
        }
    }

    /// Takes nothing but what [`Value::encode`] writes of a value that can be.
    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let narrow = |_| Malformed("a number is too large");
        Ok(match from.byte()? {
            NULL => Self::Null,
            FALSE => Self::Bool(false),
            TRUE => Self::Bool(true),
            INT => Self::Int(i64::try_from(from.signed()?).map_err(narrow)?),
            DECIMAL => {
                let number = Decimal { scale: from.byte()?, unscaled: from.signed()? };
                if number.digits() > Decimal::MOST_DIGITS || number.scale > Decimal::MOST_DIGITS {
                    return Err(Malformed("a number has too many digits"));
                }
                Self::Decimal(number)
            }
            FLOAT => {
                let number = f64::from_bits(u64::from_be_bytes(from.array()?));
                let value = Self::float(number).map_err(|_| Malformed("a number is not finite"))?;
                if value != Self::Float(number.to_bits()) {
                    return Err(Malformed("a zero is negative"));
                }
                value
            }
            TEXT => Self::text(from.text()?).map_err(|_| Malformed("a text has a NUL"))?,
            BYTES => Self::Bytes(from.bytes()?.to_vec()),
            DATE => Self::Date(i32::try_from(from.signed()?).map_err(narrow)?),
            TIMESTAMP => Self::Timestamp(i64::try_from(from.signed()?).map_err(narrow)?),
            UUID => Self::Uuid(from.array()?),
            JSON => {
                let text = from.text()?;
                let value = Self::json(text).map_err(|_| Malformed("JSON is none"))?;
                if value != Self::Json(text.to_owned()) {
                    return Err(Malformed("JSON is not written in the canonical way"));
                }
                value
            }
            _ => return Err(Malformed("a value is of no known kind")),
        })
    }
}

/// One row's values, or a key's, in canonical bytes.
pub(crate) fn encode_row(row: &[Value], to: &mut Writer) {
    to.length(row.len());
    for value in row {
        value.encode(to);
    }
}

pub(crate) fn decode_row(from: &mut Reader<'_>) -> Result<Vec<Value>, Malformed> {
    from.many(Value::decode)
}
