//! What a set of shards holds.
