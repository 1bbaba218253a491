//! Messages of errors, with the text of their causes.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use object_store::Error;

/// Begins the line of a message that says what to do.
const HINT: &str = "\nhint: ";

/// The error of an operation that was retried until its time was over.
#[derive(Debug, thiserror::Error)]
#[error("timed out after {:.0} s, {}; last error: {}{HINT}{}", .waited.as_secs_f64(), .reason, StoreMessage(.source), .hint)]
pub(crate) struct GaveUp {
    pub(crate) waited: Duration,
    pub(crate) reason: &'static str,
    pub(crate) hint: &'static str,
    pub(crate) source: Error,
}

/// Displays the innermost cause of a store's error: clients wrap it in several layers, and stores
/// send it as XML.
pub(crate) struct StoreMessage<'a>(pub(crate) &'a Error);

impl fmt::Display for StoreMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Error::Unauthenticated { .. } => "invalid credentials: ",
            Error::PermissionDenied { .. } => "permission denied: ",
            _ => "",
        })?;
        if let Some(gave_up) = causes(self.0).find_map(<dyn StdError>::downcast_ref::<GaveUp>) {
            return write!(f, "{gave_up}");
        }
        let http = causes(self.0).find(|cause| is_of_http_client(*cause));
        let text = if let Some(http) = http {
            let messages: Vec<String> = causes(http).map(ToString::to_string).collect();
            messages.join(": ")
        } else {
            let innermost = causes(self.0).last().map(ToString::to_string);
            innermost.unwrap_or_else(|| self.0.to_string())
        };
        let text = text.trim_start_matches("Server returned non-2xx status code: ");
        let Some((status, xml)) = text
            .split_once("<?xml")
            .or_else(|| text.split_once("<Error>"))
        else {
            return f.write_str(text.trim_end_matches([':', ' ']));
        };
        f.write_str(status.trim_end_matches([':', ' ', '\u{feff}']))?;
        let text_of = |tag: &str| {
            let (_, rest) = xml.split_once(&format!("<{tag}>"))?;
            Some(rest.split_once("</")?.0.trim())
        };
        let texts = ["Code", "Message"].into_iter().filter_map(text_of);
        texts.into_iter().try_for_each(|text| write!(f, ": {text}"))
    }
}

/// Returns whether an error is that of an HTTP client, whose causes say what happened.
#[cfg(feature = "http")]
fn is_of_http_client(error: &(dyn StdError + 'static)) -> bool {
    error.is::<object_store::client::HttpError>()
}

/// Returns `false`: this build has no HTTP client.
#[cfg(not(feature = "http"))]
fn is_of_http_client(_error: &(dyn StdError + 'static)) -> bool {
    false
}

/// Returns the causes of an error, the outermost first, without the error itself.
pub(crate) fn causes(error: &dyn StdError) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    let mut next = error.source();
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

/// Returns an error's message with those of its causes, and the hints of all of them at the end.
///
/// A message may contain those of its causes already, because a log line shows it alone: a cause is
/// added only where its text is missing.
pub fn full_message(error: &(dyn StdError + 'static)) -> String {
    let mut full = String::new();
    let mut hints = Vec::new();
    for message in std::iter::once(error).chain(causes(error)) {
        let message = message.to_string();
        let mut lines = message.split(HINT);
        let what = lines.next().unwrap_or_default();
        if full.is_empty() {
            what.clone_into(&mut full);
        } else if !full.contains(what) {
            full = format!("{full}: {what}");
        }
        for hint in lines {
            if !hints.iter().any(|known| known == hint) {
                hints.push(hint.to_owned());
            }
        }
    }
    for hint in hints {
        full = full + HINT + &hint;
    }
    full
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    fn layers(texts: &[&'static str]) -> Layer {
        let source = (texts.len() > 1).then(|| Box::new(layers(&texts[1..])));
        Layer {
            text: texts[0],
            source,
        }
    }

    #[test]
    fn full_message_adds_missing_causes_and_ends_with_hints() {
        for (texts, expected) in [
            (&["a"][..], "a"),
            (&["a", "b"], "a: b"),
            (&["a: b", "b"], "a: b"),
            (&["a", "b\nhint: do c", "d"], "a: b: d\nhint: do c"),
            (&["a: b\nhint: do c", "b\nhint: do c"], "a: b\nhint: do c"),
        ] {
            assert_eq!(full_message(&layers(texts)), expected);
        }
    }
}
