//! The settings that decide how values look as text, the same for the stream and for every snapshot: a row must look
//! the same whichever way it came, whatever the server, the database or the role have been set to.

pub(crate) const SETTINGS: &[(&str, &str)] = &[
    ("DateStyle", "ISO"),
    ("IntervalStyle", "postgres"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("TimeZone", "UTC"),
    ("client_encoding", "UTF8"),
];
