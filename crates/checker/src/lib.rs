//! Histories in, verdicts out.
