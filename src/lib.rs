//! A streaming trainer for self-supervised encoders.
