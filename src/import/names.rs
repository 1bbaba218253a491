//! Tables of names: theirs beside ours, read in both directions.

/// Pairs of a project's name and ours. `#` stands for a number, `+` for that number plus one, and
/// a name that ends with a dot for everything below it.
pub(crate) type Names = [(&'static str, &'static str)];

/// Our name for theirs.
pub(crate) fn ours(names: &Names, theirs: &str) -> Option<String> {
    names
        .iter()
        .find_map(|(from, to)| translate(theirs, from, to))
}

/// Their name for ours.
pub(crate) fn theirs(names: &Names, ours: &str) -> Option<String> {
    names
        .iter()
        .find_map(|(to, from)| translate(ours, from, to))
}

/// Whether `pattern` is the parameter `name`, or the module that it is a parameter of.
pub(crate) fn is_of(pattern: &str, name: &str) -> bool {
    let depth = |name: &str| name.matches('.').count();
    depth(pattern) == depth(name) && translate(name, pattern, pattern).is_some()
}

/// `name`, which follows the pattern `from`, as the pattern `to` has it.
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
    // A pattern without a dot at its end is a whole name.
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

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &Names = &[
        ("layers.#.fc.", "blocks.#.mlp."),
        ("positions.+.0.weight", "pos_conv.#.weight"),
        ("emb", "mask_emb"),
    ];

    #[test]
    fn a_name_goes_both_ways() {
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
    fn a_module_has_parameters_and_no_modules() {
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
    fn names_that_only_look_alike_are_not_known() {
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
