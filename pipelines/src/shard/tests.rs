//! Sets as they come.
