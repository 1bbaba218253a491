//! Reading shards: sets, manifests, columns, Parquet and Arrow IPC.
