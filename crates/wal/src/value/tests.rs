use std::sync::Arc;
use std::time::{Duration, SystemTime};

use postgres_types::Type;
use proptest::prelude::*;
use serde_json::Value;

use super::{Numeric, exact};
use crate::{Column, DataType, FromField, Timestamp, TypeBook, TypeKind};

fn column(data_type: Arc<DataType>) -> Column {
    Column { name: "c".into(), data_type, type_modifier: -1, key: false, primary: false }
}

fn of(name: &str) -> Column {
    let named = |oid: &u32| Type::from_oid(*oid).is_some_and(|found| found.name() == name);
    let oid = (16..4600).find(named).unwrap_or_else(|| panic!("no type {name}"));
    column(TypeBook::default().get(oid))
}

fn read<T: FromField>(name: &str, text: &str) -> Result<T, String> {
    T::from_text(text, &of(name))
}

#[test]
fn integers_are_read_whole_or_not_at_all() {
    assert_eq!(read::<i16>("int2", "-32768"), Ok(i16::MIN));
    assert_eq!(read::<i64>("int8", "9223372036854775807"), Ok(i64::MAX));
    assert_eq!(read::<u32>("oid", "4294967295"), Ok(u32::MAX));
    assert_eq!(read::<i32>("numeric", "42.000"), Ok(42));
    assert_eq!(read::<i32>("numeric", "-0.00"), Ok(0));
    for (name, text) in [("int8", "9007199254740993"), ("numeric", "1.5"), ("numeric", "NaN")] {
        let problem = read::<i32>(name, text).unwrap_err();
        assert!(!problem.contains(text), "shows the value: {problem}");
    }
    assert!(read::<u32>("int4", "-1").unwrap_err().contains("negative"));
    assert!(read::<i64>("text", "1").unwrap_err().contains("only int2"));
    assert!(read::<i64>("float8", "1").is_err());
}

#[test]
fn floats_know_nan_and_infinity_and_refuse_what_they_cannot_hold() {
    assert!(read::<f64>("float8", "NaN").unwrap().is_nan());
    assert_eq!(read::<f64>("float8", "-Infinity"), Ok(f64::NEG_INFINITY));
    assert_eq!(read::<f64>("float8", "1e-05"), Ok(1e-5));
    assert_eq!(read::<f64>("float4", "0.1"), Ok(f64::from(0.1_f32)));
    assert!(read::<f32>("float8", "0.1").unwrap_err().contains("f64"));
    assert!(read::<f64>("numeric", "0.1").unwrap_err().contains("Numeric"));
    assert!(read::<f64>("int8", "1").is_err());
}

#[test]
fn a_numeric_keeps_all_digits() {
    let digits = format!("{}.{}", "9".repeat(200), "1".repeat(100));
    let number: Numeric = read("numeric", &digits).unwrap();
    assert_eq!(number.as_str(), digits);
    assert!(i128::try_from(&number).is_err());
    assert_eq!(f64::try_from(&read::<Numeric>("numeric", "0.30").unwrap()), Ok(0.3));
    assert!(f64::try_from(&read::<Numeric>("numeric", "NaN").unwrap()).unwrap().is_nan());
    for text in ["", "-", ".", "1.", "1e5", "+1", "nan", "1,0"] {
        assert!(text.parse::<Numeric>().is_err(), "{text:?} was accepted");
    }
}

#[test]
fn bytes_are_read_in_both_forms() {
    assert_eq!(read::<Vec<u8>>("bytea", "\\x00ffA0"), Ok(vec![0, 255, 160]));
    assert_eq!(read::<Vec<u8>>("bytea", "a\\\\b\\000\\377"), Ok(b"a\\b\0\xff".to_vec()));
    for text in ["\\x0", "\\xzz", "\\9", "\\", "\\400"] {
        assert!(read::<Vec<u8>>("bytea", text).is_err(), "{text:?} was accepted");
    }
}

#[test]
fn timestamps_are_read_with_offset_era_and_infinity() {
    let moment = |text| read::<Timestamp>("timestamptz", text).unwrap();
    assert_eq!(moment("2000-01-01 00:00:00+00"), Timestamp(0));
    assert_eq!(moment("2000-01-01 05:30:00.5+05:30"), Timestamp(500_000));
    assert_eq!(moment("1999-12-31 23:59:59.999999-00"), Timestamp(-1));
    assert_eq!(moment("1892-01-01 00:19:32+00:19:32"), moment("1892-01-01 00:00:00+00"));
    assert_eq!(moment("infinity"), Timestamp::INFINITY);
    assert_eq!(moment("-infinity"), Timestamp::NEG_INFINITY);
    // What PostgreSQL itself counts for its first and last moments.
    assert_eq!(moment("4714-11-24 00:00:00+00 BC"), Timestamp(-211_813_488_000_000_000));
    assert_eq!(moment("294276-12-31 23:59:59.999999+00"), Timestamp(9_223_371_331_199_999_999));
    assert_eq!(moment("2024-02-29 12:00:00+00").to_string(), "2024-02-29T12:00:00.000000Z");
    let unix = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
    assert_eq!(read("timestamp", "1970-01-02 00:00:00"), Ok(unix));
    assert!(read::<SystemTime>("timestamptz", "infinity").unwrap_err().contains("Timestamp"));
    for text in ["", "2000-01-01", "2000-13-01 00:00:00", "2000-01-01 00:00", "01/02/2000 00:00:00"]
    {
        assert!(read::<Timestamp>("timestamptz", text).is_err(), "{text:?} was accepted");
    }
}

#[test]
fn arrays_are_read_by_their_dimensions() {
    assert_eq!(read("_int4", "{1,2,3}"), Ok(vec![1, 2, 3]));
    assert_eq!(read("_int4", "{}"), Ok(Vec::<i32>::new()));
    assert_eq!(read("_int4", "[0:1]={1,2}"), Ok(vec![1, 2]));
    assert_eq!(read("_int4", "{1,NULL}"), Ok(vec![Some(1), None]));
    assert_eq!(read("_int4", "{{1,2},{3,4}}"), Ok(vec![vec![1, 2], vec![3, 4]]));
    assert_eq!(read("_bytea", r#"{"\\x00ff"}"#), Ok(vec![vec![0_u8, 255]]));
    let words = read::<Vec<String>>("_text", r#"{a,"NULL","b,c","d\"\\e","{x}","",🐑}"#);
    assert_eq!(words.unwrap(), ["a", "NULL", "b,c", "d\"\\e", "{x}", "", "🐑"]);
    assert_eq!(read("_box", "{(1,1),(0,0);(2,2),(1,1)}").map(|b: Vec<String>| b.len()), Ok(2));
    let problem = |name, text| read::<Vec<i32>>(name, text).unwrap_err();
    assert!(problem("_int4", "{{1},{2}}").contains("Vec<Vec<"));
    assert!(problem("_int4", "{NULL}").contains("Option"));
    assert!(problem("int4", "{1}").contains("only arrays"));
    assert!(problem("_text", "{1}").contains("only int2"));
    assert!(read::<Vec<Vec<i32>>>("_int4", "{1}").unwrap_err().contains("fewer dimensions"));
    assert!(read::<Vec<String>>("_text", "{{a}}").is_err());
    for text in ["", "{", "}", "{1,}", "{,1}", "{\"}", "{1}}", "{{1}", "[0:1]", "1"] {
        assert!(read::<Vec<i32>>("_int4", text).is_err(), "{text:?} was accepted");
    }
}

#[test]
fn json_is_refused_rather_than_rounded() {
    let text = r#"{"a": [1, -2.50, "1e999\"9999999999999999999999", 0.30000000000000004, 1e3]}"#;
    assert_eq!(read::<Value>("jsonb", text).unwrap()["a"][3], 0.1 + 0.2);
    assert_eq!(read::<Value>("json", "18446744073709551615"), Ok(Value::from(u64::MAX)));
    for text in ["123456789012345678901", "[0.12345678901234567890]", "1e999", "[1e-999]"] {
        assert!(read::<Value>("json", text).unwrap_err().contains("String"), "{text}");
    }
    assert!(!read::<Value>("json", "{secret").unwrap_err().contains("secret"));
}

#[test]
fn domains_and_types_that_are_not_built_in_are_read_by_what_they_hold() {
    let mut kind = TypeKind::Domain(of("int4").data_type);
    let of_kind = |kind| column(Arc::new(named("positive", kind)));
    assert_eq!(i32::from_text("7", &of_kind(kind)), Ok(7));
    kind = TypeKind::Domain(of("_int4").data_type);
    assert_eq!(Vec::<i64>::from_text("{7}", &of_kind(kind)), Ok(vec![7]));
    assert_eq!(u64::from_text("7", &of_kind(TypeKind::Base)), Ok(7));
    assert!(bool::from_text("sad", &of_kind(TypeKind::Enum)).is_err());
    assert_eq!(Option::<String>::from_null(), Some(None));
    assert_eq!(String::from_null(), None);
}

fn named(name: &str, kind: TypeKind) -> DataType {
    DataType { oid: 90_000, schema: "public".into(), name: name.into(), kind }
}

proptest! {
    #[test]
    fn every_moment_survives_its_text(micros in -211_813_488_000_000_000_i64..9_223_371_331_200_000_000) {
        let moment = Timestamp(micros);
        let text = moment.to_string();
        // Ours and PostgreSQL's forms differ in `T`, `Z` and how years before the first are written.
        if let Some(positive) = text.strip_suffix('Z').filter(|t| !t.starts_with(['-', '0'])) {
            let postgres = positive.replace('T', " ") + "+00";
            prop_assert_eq!(read::<Timestamp>("timestamptz", &postgres), Ok(moment));
        }
    }

    #[test]
    fn every_double_is_found_exact_in_its_own_digits(number: f64) {
        prop_assume!(number.is_finite());
        let (short, long) = (format!("{number:e}"), number.to_string());
        prop_assert!(exact(&short, number));
        prop_assert!(exact(&long, number));
    }

    #[test]
    fn any_text_is_read_or_refused(text: String) {
        for name in ["_text", "_int4", "timestamptz", "bytea", "json", "numeric", "int8", "float8"] {
            _ = read::<Vec<Option<String>>>(name, &text);
            _ = read::<Vec<Vec<i32>>>(name, &text);
            _ = read::<Timestamp>(name, &text);
            _ = read::<Vec<u8>>(name, &text);
            _ = read::<Value>(name, &text);
            _ = read::<Numeric>(name, &text);
            _ = read::<i64>(name, &text);
            _ = read::<f64>(name, &text);
        }
    }

    #[test]
    fn any_texts_survive_an_array(words in prop::collection::vec(prop::option::of(any::<String>()), 0..5)) {
        let quoted = words.iter().map(|word| match word {
            Some(word) => format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\"")),
            None => "NULL".to_owned(),
        });
        let text = format!("{{{}}}", quoted.collect::<Vec<_>>().join(","));
        prop_assert_eq!(read("_text", &text), Ok(words));
    }
}
