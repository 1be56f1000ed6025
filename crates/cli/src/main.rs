//! The keypact binary.

fn main() {}
