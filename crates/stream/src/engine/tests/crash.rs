//! Crashes at any moment: of us, while sinks are slow, fail and lose answers.
