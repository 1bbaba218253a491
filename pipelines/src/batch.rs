//! Batches: plain buffers and shapes.
