//! Handlers as a sink.
