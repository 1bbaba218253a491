//! A streaming trainer for self-supervised encoders.

pub mod params;
