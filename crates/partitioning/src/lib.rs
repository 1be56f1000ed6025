//! Partitioners, placement and rebalancing plans.

#![no_std]
