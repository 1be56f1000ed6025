//! Conflict-free replicated data types.

#![no_std]
