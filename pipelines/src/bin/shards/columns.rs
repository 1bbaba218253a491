//! The option `--columns OURS=THEIRS` of several commands.

/// Parses one pair `OURS=THEIRS`.
pub(crate) fn parse(pair: &str) -> Result<(String, String), String> {
    match pair.split_once('=') {
        Some((ours, theirs)) => Ok((ours.to_owned(), theirs.to_owned())),
        None => Err("expected OURS=THEIRS, for example image=img".to_owned()),
    }
}
