//! Paths and URLs become object stores.
