//! RESP2 and RESP3: the Redis protocol, both directions.
#![no_std]
