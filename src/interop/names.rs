//! Tables of parameter names, theirs and ours, read in both directions.

use super::error::ImportError;
use crate::checkpoint::safetensors::Tensors;

/// Pairs of a project's name and ours. `#` stands for a number, `+` for that number plus one, and
/// a name that ends with a dot for every name that starts with it.
pub(super) type Names = [(&'static str, &'static str)];

/// Returns our name for theirs.
pub(super) fn ours(names: &Names, theirs: &str) -> Option<String> {
    names
        .iter()
        .find_map(|(from, to)| translate(theirs, from, to))
}

/// Returns their name for ours.
pub(super) fn theirs(names: &Names, ours: &str) -> Option<String> {
    names
        .iter()
        .find_map(|(to, from)| translate(ours, from, to))
}

/// Returns whether `pattern` is the parameter `name`, or the module that directly holds it.
pub(super) fn is_of(pattern: &str, name: &str) -> bool {
    let depth = |name: &str| name.matches('.').count();
    depth(pattern) == depth(name) && translate(name, pattern, pattern).is_some()
}

/// Rewrites `name` from the pattern `from` to the pattern `to`; `None` if it does not match.
fn translate(name: &str, from: &str, to: &str) -> Option<String> {
    let is_number = |c: char| matches!(c, '#' | '+');
    let mut numbers = Vec::new();
    let mut rest = name;
    let mut pattern = from;
    while let Some(place) = pattern.find(is_number) {
        rest = rest.strip_prefix(&pattern[..place])?;
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: usize = rest[..end].parse().ok()?;
        numbers.push(number.checked_sub(usize::from(pattern[place..].starts_with('+')))?);
        (rest, pattern) = (&rest[end..], &pattern[place + 1..]);
    }
    rest = rest.strip_prefix(pattern)?;
    // A pattern without a dot at its end matches the entire name.
    if from.ends_with('.') == rest.is_empty() {
        return None;
    }
    let mut numbers = numbers.into_iter();
    let mut translated = String::new();
    for c in to.chars() {
        if is_number(c) {
            translated.push_str(&(numbers.next()? + usize::from(c == '+')).to_string());
        } else {
            translated.push(c);
        }
    }
    Some(translated + rest)
}

/// New name of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    /// The name in our models.
    Ours(String),
    /// Not stored in our models.
    Dropped,
}

/// Renames all tensors; `name` returns `None` for an unknown name, which is an error.
pub(super) fn rename(
    tensors: Tensors,
    name: impl Fn(&str) -> Option<Name>,
) -> Result<Tensors, ImportError> {
    let mut renamed = Tensors::new();
    for (theirs, tensor) in tensors {
        match name(&theirs) {
            Some(Name::Ours(ours)) => {
                renamed.insert(ours, tensor);
            }
            Some(Name::Dropped) => {}
            None => return Err(ImportError::UnknownName(theirs)),
        }
    }
    Ok(renamed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &Names = &[
        ("layers.#.fc.", "blocks.#.mlp."),
        ("positions.+.0.weight", "pos_conv.#.weight"),
        ("emb", "mask_emb"),
    ];

    #[test]
    fn names_translate_both_ways() {
        for (a, b) in [
            ("layers.11.fc.weight", "blocks.11.mlp.weight"),
            ("positions.1.0.weight", "pos_conv.0.weight"),
            ("emb", "mask_emb"),
        ] {
            assert_eq!(ours(NAMES, a).as_deref(), Some(b));
            assert_eq!(theirs(NAMES, b).as_deref(), Some(a));
        }
    }

    #[test]
    fn module_pattern_matches_direct_parameters_only() {
        for (pattern, name, is) in [
            ("tdnn.#.kernel.", "tdnn.3.kernel.bias", true),
            ("tdnn.#.kernel.", "tdnn.3.kernel.inner.bias", false),
            ("layer_weights", "layer_weights", true),
            ("layer_weights", "layer_weights.weight", false),
        ] {
            assert_eq!(is_of(pattern, name), is, "{pattern} {name}");
        }
    }

    #[test]
    fn similar_names_do_not_match() {
        for name in [
            "layers.x.fc.weight",
            "layers.1.fc.",
            "layers..fc.weight",
            "positions.0.0.weight",
            "positions.1.0.weights",
            "emb.weight",
            "my.emb",
        ] {
            assert_eq!(ours(NAMES, name), None, "{name}");
        }
    }
}
