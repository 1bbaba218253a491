//! The servers of the pipelines' tests.
#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::print_stdout,
    reason = "these tests use some of it, and print why they skip"
)]

#[path = "../../pipelines/tests/support/lab/alone.rs"]
pub(crate) mod alone;
#[path = "../../pipelines/tests/support/lab/azurite.rs"]
pub(crate) mod azurite;
#[path = "../../pipelines/tests/support/lab/http.rs"]
pub(crate) mod http;
#[path = "../../pipelines/tests/support/lab/hub.rs"]
pub(crate) mod hub;
#[path = "../../pipelines/tests/support/lab/inside.rs"]
pub(crate) mod inside;
#[path = "../../pipelines/tests/support/lab/process.rs"]
pub(crate) mod process;
#[path = "../../pipelines/tests/support/lab/seaweed.rs"]
pub(crate) mod seaweed;
#[path = "../../pipelines/tests/support/skip.rs"]
pub(crate) mod skip;
