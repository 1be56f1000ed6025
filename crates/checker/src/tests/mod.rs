//! Random histories, judged by the checker and by brute force.

mod brute_force;
mod generate;
mod oracle;
mod pruning;
mod scale;
