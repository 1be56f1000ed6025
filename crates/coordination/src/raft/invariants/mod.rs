//! Cluster-wide checks.
