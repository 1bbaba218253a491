//! The test lab: real servers, a proxy with faults, and an isolated network.
//!
//! Servers are found where `.ci/run` puts them, or by an environment variable. Tests of a missing
//! server are skipped with a message.
#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::print_stdout,
    reason = "each test binary uses some of this, and prints why it skips"
)]

pub(crate) mod alone;
pub(crate) mod azurite;
pub(crate) mod fault;
pub(crate) mod gcs;
pub(crate) mod http;
pub(crate) mod hub;
pub(crate) mod inside;
pub(crate) mod message;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod reader;
pub(crate) mod seaweed;
#[path = "../skip.rs"]
pub(crate) mod skip;
