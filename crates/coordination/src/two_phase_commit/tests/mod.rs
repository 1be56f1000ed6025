//! Stories and laws of both machines, over logs that are vectors.

mod laws;
mod stage;
mod stories;
