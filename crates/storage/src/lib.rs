//! Write-ahead log and checkpoints over a small Disk trait.
