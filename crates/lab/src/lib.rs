//! Scenarios: what is run in the simulator, and which checker judges it.
