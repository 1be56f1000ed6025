//! One whole node: catalog, routing, replicas.
