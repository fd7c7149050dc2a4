//! The text of a value: any text is read or refused, as every type.
#![no_main]

use std::sync::Arc;

use herdsman_wal::{Column, DataType, FromField, Numeric, Timestamp, TypeKind};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let named = |kind| DataType { oid: 90_000, schema: "x".into(), name: "x".into(), kind };
    let data_type = Arc::new(named(TypeKind::Base));
    let column = Column { name: "c".into(), data_type, type_modifier: -1, key: false, primary: false };
    let _ = i64::from_text(text, &column);
    let _ = f64::from_text(text, &column);
    let _ = Vec::<u8>::from_text(text, &column);
    let _ = Vec::<Option<String>>::from_text(text, &column);
    let _ = Vec::<Vec<i32>>::from_text(text, &column);
    let _ = std::time::SystemTime::from_text(text, &column);
    let moment = Timestamp::from_text(text, &column);
    let _ = moment.map(|moment| moment.to_string());
    let number = Numeric::from_text(text, &column);
    let _ = number.map(|number| (i128::try_from(&number).is_ok(), f64::try_from(&number).is_ok()));
});
