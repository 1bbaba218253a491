//! Sizes with units, as configs and flags spell them.

/// Reads a size in bytes from a text such as `"512MiB"`, `"2 GiB"`, `"1.5GB"` or `"4096"`.
///
/// # Errors
///
/// The problem, in words for a list of invalid settings.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 9] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("B", 1),
    ];
    let trimmed = text.trim();
    let (number, unit) = UNITS
        .iter()
        .find_map(|&(name, unit)| Some((trimmed.strip_suffix(name)?, unit)))
        .unwrap_or((trimmed, 1));
    match number.trim().parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok((number * unit as f64) as u64),
        _ => Err(format!(
            "`{text}` is not a size; write a number and a unit, for example \"2GiB\" or \"500MB\""
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_bytes_reads_numbers_with_units() {
        for (text, bytes) in [
            ("2GiB", 2 << 30),
            ("1.5 GB", 1_500_000_000),
            ("64MiB", 64 << 20),
            (" 10 KB ", 10_000),
            ("12B", 12),
            ("4096", 4096),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "GiB", "-1GiB", "2 GiBs", "two", "inf", "NaN GB"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }
}
