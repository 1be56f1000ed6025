//! A node on real sockets, disks and clocks.
