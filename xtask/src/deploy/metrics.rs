//! What the programs say of their own metrics, for whatever names them.

use std::{collections::BTreeMap, process::Command};

use anyhow::{Context, Result};

use crate::paths;

/// What each metric means, by its name.
pub(super) struct Meanings(BTreeMap<String, String>);

impl Meanings {
    /// Asks the programs.
    ///
    /// # Errors
    /// When one is not built.
    pub(super) fn of_programs() -> Result<Self> {
        let mut meanings = BTreeMap::new();
        for program in ["nearfield-central", "nearfield-edge"] {
            let output = Command::new(paths::binary(program))
                .arg("metrics")
                .output()
                .with_context(|| format!("{program} is not built"))?;
            for line in String::from_utf8(output.stdout)?.lines() {
                let mut fields = line.split('\t');
                if let (Some(name), Some(_kind), Some(meaning)) =
                    (fields.next(), fields.next(), fields.next())
                {
                    meanings.insert(name.to_owned(), meaning.to_owned());
                }
            }
        }
        Ok(Self(meanings))
    }

    #[cfg(test)]
    pub(super) fn of(name: &str, meaning: &str) -> Self {
        Self(BTreeMap::from([(name.to_owned(), meaning.to_owned())]))
    }

    /// Returns the metric that a series is of, and what it means.
    ///
    /// # Errors
    /// When no program tells it.
    pub(super) fn get(&self, series: &str) -> Result<(&str, &str)> {
        let histogram = ["_bucket", "_count", "_sum"].iter().find_map(|part| series.strip_suffix(part));
        let found = self.0.get_key_value(series).or_else(|| self.0.get_key_value(histogram?));
        let (name, meaning) = found.with_context(|| format!("no program tells {series}"))?;
        Ok((name, meaning))
    }
}

/// Returns the series of programs that a text names, in its order; not those that rules record.
pub(super) fn series(text: &str) -> impl Iterator<Item = &str> {
    let words =
        text.split(|character: char| !(character.is_ascii_alphanumeric() || "_:".contains(character)));
    words.filter(|word| {
        (word.starts_with("nearfield_") || word.starts_with("process_")) && !word.contains(':')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_series_of_a_text_are_found() {
        let text =
            "expr: 'sum by (site) (rate(nearfield_a_total[5m])) / nearfield:b:rate5m > process_c{x=\"y\"}'";
        assert_eq!(series(text).collect::<Vec<_>>(), ["nearfield_a_total", "process_c"]);
    }

    #[test]
    fn a_series_of_a_histogram_means_what_that_means() {
        let meanings = Meanings::of("nearfield_x_seconds", "time of x");
        assert_eq!(meanings.get("nearfield_x_seconds_bucket").unwrap(), ("nearfield_x_seconds", "time of x"));
        assert_eq!(meanings.get("nearfield_y").unwrap_err().to_string(), "no program tells nearfield_y");
    }
}
