//! `--set a.b=value`.

/// Sets the dotted key of `a.b=value` in `table`; a value that is no TOML is taken as a string.
///
/// # Errors
///
/// What is wrong with the assignment, for the command line.
pub fn assign(table: &mut toml::Table, assignment: &str) -> Result<(), String> {
    let (key, value) = assignment.split_once('=').ok_or("write it as key=value")?;
    let value = toml::from_str::<toml::Table>(&format!("value = {value}"))
        .ok()
        .and_then(|mut parsed| parsed.remove("value"))
        .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let mut place = table;
    let mut parts: Vec<&str> = key.trim().split('.').collect();
    let last = parts.pop().ok_or("the key is empty")?;
    for part in parts {
        place = place
            .entry(part)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut()
            .ok_or_else(|| format!("`{part}` is a value, not a table"))?;
    }
    place.insert(last.to_owned(), value);
    Ok(())
}
