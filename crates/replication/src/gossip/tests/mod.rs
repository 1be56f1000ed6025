//! What scripts and the simulator do not pin.
