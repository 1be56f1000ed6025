//! Log entries, and the in-memory tail that log-based protocols share.
#![no_std]
