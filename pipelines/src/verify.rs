//! Proof that a set of shards is whole.
