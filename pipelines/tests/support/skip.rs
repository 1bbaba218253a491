//! Skips a test whose peer, data or server is absent, unless it is required.

/// Prints why the test is skipped for want of `what`.
///
/// # Panics
///
/// Where `UNDERSTUDY_REQUIRE`, a list with commas, names `what` or `all`: a test that is required
/// and cannot run has failed.
#[allow(
    clippy::allow_attributes,
    clippy::print_stdout,
    reason = "a skipped test prints the reason, in unit tests and elsewhere"
)]
pub(crate) fn skip(what: &str, reason: &str) {
    let required = std::env::var("UNDERSTUDY_REQUIRE").unwrap_or_default();
    let is_required = required
        .split(',')
        .any(|name| [what, "all"].contains(&name.trim()));
    assert!(!is_required, "UNDERSTUDY_REQUIRE names `{what}`: {reason}");
    println!("skipped: {reason}");
}
