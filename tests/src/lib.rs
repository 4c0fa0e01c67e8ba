//! Scenarios across crates; see `tests/`.
