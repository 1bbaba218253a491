//! Counts, times and queue occupancy of each stage.
