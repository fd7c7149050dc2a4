use proptest::prelude::*;

use super::*;
use crate::codec::{Reader, Writer};

pub(crate) fn any_kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Bool),
        Just(Kind::Int32),
        Just(Kind::Int64),
        (1_u8..=38)
            .prop_flat_map(|precision| (Just(precision), 0..=precision.min(30)))
            .prop_map(|(precision, scale)| Kind::Decimal { precision, scale }),
        Just(Kind::Float),
        proptest::option::of(1_u32..50).prop_map(|max| Kind::Text { max }),
        proptest::option::of(1_u32..50).prop_map(|max| Kind::Bytes { max }),
        Just(Kind::Date),
        Just(Kind::Timestamp),
        Just(Kind::Uuid),
        Just(Kind::Json),
    ]
}

pub(crate) fn any_value(kind: Kind) -> BoxedStrategy<Value> {
    match kind {
        Kind::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        Kind::Int32 => any::<i32>().prop_map(|it| Value::Int(i64::from(it))).boxed(),
        Kind::Int64 => any::<i64>().prop_map(Value::Int).boxed(),
        Kind::Decimal { precision, scale } => {
            let most = 10_i128.pow(u32::from(precision)) - 1;
            (-most..=most)
                .prop_map(move |unscaled| Value::Decimal(Decimal { scale, unscaled }))
                .boxed()
        }
        Kind::Float => any::<f64>()
            .prop_filter("finite", |it| it.is_finite())
            .prop_map(|it| Value::float(it).unwrap())
            .boxed(),
        Kind::Text { max } => {
            let most = usize::try_from(max.unwrap_or(60)).unwrap();
            proptest::collection::vec(
                any::<char>().prop_filter("no NUL", |it| *it != '\0'),
                0..=most,
            )
            .prop_map(|chars| Value::Text(chars.into_iter().collect()))
            .boxed()
        }
        Kind::Bytes { max } => {
            let most = usize::try_from(max.unwrap_or(60)).unwrap();
            proptest::collection::vec(any::<u8>(), 0..=most).prop_map(Value::Bytes).boxed()
        }
        Kind::Date => (-354_285..=2_932_896).prop_map(Value::Date).boxed(),
        Kind::Timestamp => (-30_610_224_000_000_000_i64..253_402_300_800_000_000)
            .prop_map(Value::Timestamp)
            .boxed(),
        Kind::Uuid => any::<[u8; 16]>().prop_map(Value::Uuid).boxed(),
        Kind::Json => any_json().prop_map(|it| Value::json(&it.to_string()).unwrap()).boxed(),
    }
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let text = "[^\0]{0,5}";
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        any::<u64>().prop_map(serde_json::Value::from),
        any::<f64>().prop_filter("finite", |it| it.is_finite()).prop_map(serde_json::Value::from),
        text.prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(3, 20, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            proptest::collection::btree_map(text, inner, 0..4)
                .prop_map(|members| members.into_iter().collect::<serde_json::Value>()),
        ]
    })
}

fn kind_and_value() -> impl Strategy<Value = (Kind, Value)> {
    any_kind().prop_flat_map(|kind| (Just(kind), any_value(kind)))
}

proptest! {
    #[test]
    fn a_value_comes_back_from_its_bytes((_, value) in kind_and_value()) {
        let mut writer = Writer::default();
        value.encode(&mut writer);
        let mut reader = Reader::new(&writer.0);
        prop_assert_eq!(Value::decode(&mut reader), Ok(value));
        prop_assert_eq!(reader.end(), Ok(()));
    }

    #[test]
    fn a_value_comes_back_from_its_text((kind, value) in kind_and_value()) {
        prop_assert_eq!(value.fits(kind), Ok(()));
        let text = value.to_text().unwrap();
        prop_assert_eq!(Value::of_text(kind, &text), Ok(value));
    }

    /// Equal values have equal bytes: bytes that decode are the bytes of what they decode to.
    #[test]
    fn a_value_has_one_encoding(bytes in proptest::collection::vec(any::<u8>(), 1..40)) {
        let mut reader = Reader::new(&bytes);
        if let Ok(value) = Value::decode(&mut reader) {
            let mut writer = Writer::default();
            value.encode(&mut writer);
            prop_assert!(bytes.starts_with(&writer.0), "{:?}", value);
        }
    }

    #[test]
    fn canonical_json_is_canonical(json in any_json()) {
        let once = Value::json(&json.to_string()).unwrap();
        prop_assert_eq!(&Value::json(&once.to_text().unwrap()).unwrap(), &once);
    }
}

#[test]
fn json_is_written_in_one_way() {
    let same =
        ["{\"b\": 1.0, \"a\": [1e2, -0.0, 1e19]}", "{\"a\":[100,0,10000000000000000000],\"b\":1}"];
    for text in same {
        assert_eq!(Value::json(text).unwrap(), Value::Json(same[1].to_owned()));
    }
    for bad in ["", "{", "\"\\u0000\"", "NaN", "1e400", "[1,]"] {
        assert!(Value::json(bad).is_err(), "{bad}");
    }
}

#[test]
fn what_one_engine_cannot_hold_is_refused() {
    let refused = [
        (Kind::Float, "NaN"),
        (Kind::Float, "inf"),
        (Kind::Text { max: None }, "a\0b"),
        (Kind::Text { max: Some(2) }, "éèà"),
        (Kind::Int32, "2147483648"),
        (Kind::Int64, "9223372036854775808"),
        (Kind::Int64, "12abc"),
        (Kind::Decimal { precision: 4, scale: 2 }, "100.00"),
        (Kind::Decimal { precision: 4, scale: 2 }, "1.005"),
        (Kind::Date, "0999-12-31"),
        (Kind::Timestamp, "2026-01-01 00:00:00+02"),
        (Kind::Bytes { max: Some(1) }, "0001"),
        (Kind::Uuid, "0"),
        (Kind::Bool, "yes"),
    ];
    for (kind, text) in refused {
        assert!(Value::of_text(kind, text).is_err(), "{kind} {text:?}");
    }
    assert_eq!(Value::of_text(Kind::Text { max: Some(3) }, "éèà"), Value::text("éèà"));
    assert_eq!(Value::of_text(Kind::Float, "-0").unwrap(), Value::Float(0));
}
