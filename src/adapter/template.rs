//! Argument templates: `{name}` in a text, values that are texts or lists.

use std::collections::BTreeMap;

use super::manifest::Argument;

/// The values of names: one for a text, any number for a list.
pub(crate) type Values = BTreeMap<String, Vec<String>>;

/// A template names something that has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` has no value")]
pub(crate) struct MissingValue {
    /// The name.
    pub name: String,
}

/// Fills a list of templates.
///
/// # Errors
/// `MissingValue` for a name without value outside an optional group.
pub(crate) fn fill(arguments: &[Argument], values: &Values) -> Result<Vec<String>, MissingValue> {
    let mut filled = Vec::new();
    for argument in arguments {
        match argument {
            Argument::One(text) => filled.extend(expand(&[text], values)?),
            Argument::Optional(texts) => {
                let texts: Vec<&String> = texts.iter().collect();
                filled.extend(expand(&texts, values).unwrap_or_default());
            }
        }
    }
    Ok(filled)
}

/// Fills a group once for each item of its longest list.
fn expand(texts: &[&String], values: &Values) -> Result<Vec<String>, MissingValue> {
    let mut rounds = None;
    for name in texts.iter().flat_map(|text| names(text)) {
        let found = values.get(name).filter(|found| !found.is_empty());
        let found = found.ok_or_else(|| MissingValue { name: name.to_owned() })?;
        rounds = Some(rounds.unwrap_or(1).max(found.len()));
    }
    let round = |index: usize| texts.iter().map(move |text| replace(text, values, index));
    Ok((0..rounds.unwrap_or(1)).flat_map(round).collect())
}

fn replace(text: &str, values: &Values, index: usize) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, name, after)) = next_name(rest) {
        filled.push_str(before);
        let found = values.get(name).map(Vec::as_slice).unwrap_or_default();
        // A text beside a list stays the same in each round.
        filled.push_str(found.get(index).or(found.first()).map_or("", String::as_str));
        rest = after;
    }
    filled.push_str(rest);
    filled
}

fn names(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (_, name, after) = next_name(rest)?;
        rest = after;
        Some(name)
    })
}

/// The next `{name}`; braces around anything else are ordinary text.
fn next_name(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    loop {
        let open = from + text.get(from..)?.find('{')?;
        let inside = text.get(open + 1..)?;
        let end = inside.find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'))?;
        if end > 0 && inside.get(end..)?.starts_with('}') {
            return Some((text.get(..open)?, inside.get(..end)?, inside.get(end + 1..)?));
        }
        from = open + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(arguments: &str, values: &[(&str, &[&str])]) -> Result<Vec<String>, MissingValue> {
        let arguments: Vec<Argument> = serde_json::from_str(arguments).unwrap();
        let values = values
            .iter()
            .map(|(name, list)| ((*name).to_owned(), list.iter().map(|s| (*s).to_owned()).collect()))
            .collect();
        fill(&arguments, &values)
    }

    #[test]
    fn names_are_replaced_and_lists_are_spread() {
        let values: [(&str, &[&str]); 2] = [("a", &["1"]), ("l", &["x", "y"])];
        let got =
            filled(r#"["-{a}-", "{l}", ["--f", "{l}={a}"], "{}", "{A}", "{ a}", "{\"k\": {a}}"]"#, &values);
        let want = ["-1-", "x", "y", "--f", "x=1", "--f", "y=1", "{}", "{A}", "{ a}", "{\"k\": 1}"];
        assert_eq!(got.unwrap(), want);
    }

    #[test]
    fn an_optional_group_without_a_value_is_left_out_and_a_needed_name_is_an_error() {
        assert_eq!(filled(r#"[["--model", "{model}"], "x"]"#, &[]).unwrap(), ["x"]);
        assert_eq!(filled(r#"["{model}"]"#, &[]).unwrap_err().name, "model");
        assert_eq!(filled(r#"[["-f", "{l}"]]"#, &[("l", &[])]).unwrap(), Vec::<String>::new());
    }
}
