//! Clocks and message orders.
#![no_std]
