//! Which rows, in which order: a pure function of data, seed and policy.
