//! Shards in, batches out: stages on threads, order restored.
