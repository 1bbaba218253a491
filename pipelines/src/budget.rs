//! One byte budget over every buffer of the pipeline.
