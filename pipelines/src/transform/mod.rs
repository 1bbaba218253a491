//! Crop, resize, flip, colour.
