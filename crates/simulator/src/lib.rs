//! Virtual time, network, disks, crashes: runs protocols from one seed.
