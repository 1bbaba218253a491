//! A corpus becomes a set of shards.
