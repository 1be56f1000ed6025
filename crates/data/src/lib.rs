//! Keys, values, commands: the deterministic state machine of a partition.
