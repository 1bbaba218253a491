//! The identity that a cloud gives to its machines, used only where the user allows it.

/// Environment variable that allows it.
pub(super) const INSTANCE_IDENTITY: &str = "UNDERSTUDY_INSTANCE_CREDENTIALS";

/// Returns whether the user allows it: `true` or `1`.
pub(super) fn instance_identity() -> bool {
    std::env::var(INSTANCE_IDENTITY).is_ok_and(|value| value == "true" || value == "1")
}
