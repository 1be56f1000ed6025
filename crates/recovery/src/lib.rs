//! Idempotency, retry with backoff, circuit breaker: pure policies.

#![no_std]
