//! Throughput per stage, and what limits it.
