//! Kernel configurations, fragments and promises: all three are lines of the same form.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// Options and their values, without the `CONFIG_` prefix. An option that is not set is `n`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Config(BTreeMap<String, String>);

impl Config {
    /// Reads lines of the forms `CONFIG_X=value` and `# CONFIG_X is not set`; other comments and
    /// blank lines are skipped.
    ///
    /// # Errors
    /// On any other line, and on an option that is given twice: a slip of that kind must not hide
    /// a loss.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut options = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            let (name, value) = if let Some(option) = line.strip_prefix("CONFIG_") {
                option
                    .split_once('=')
                    .with_context(|| format!("line {number}: no value: {line}"))?
            } else if let Some(name) =
                line.strip_prefix("# CONFIG_").and_then(|rest| rest.strip_suffix(" is not set"))
            {
                (name, "n")
            } else if line.is_empty() || line.starts_with('#') {
                continue;
            } else {
                bail!("line {number}: neither an option nor a comment: {line}");
            };
            if options.insert(name.to_owned(), value.to_owned()).is_some() {
                bail!("line {number}: CONFIG_{name} is given twice");
            }
        }
        Ok(Self(options))
    }

    /// The value, `n` when the option is not mentioned.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("n", String::as_str)
    }

    /// Whether there is a line about the option, be it to switch it off.
    #[cfg(test)]
    pub(super) fn mentions(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// All options that are mentioned, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Puts another one on top.
    pub(super) fn overlay(&mut self, top: Self) {
        self.0.extend(top.0);
    }

    /// What of `self`, taken as a request, the resulting configuration does not fulfil.
    pub(super) fn unmet_by(&self, result: &Self) -> Vec<String> {
        self.iter()
            .filter(|&(name, wanted)| result.get(name) != wanted)
            .map(|(name, wanted)| {
                format!("CONFIG_{name}: wanted {wanted}, got {}", result.get(name))
            })
            .collect()
    }

    /// In the form that Kconfig reads.
    pub(super) fn render(&self) -> String {
        self.iter()
            .map(|(name, value)| match value {
                "n" => format!("# CONFIG_{name} is not set\n"),
                value => format!("CONFIG_{name}={value}\n"),
            })
            .collect()
    }
}

/// Reads one file.
///
/// # Errors
/// When it cannot be read or parsed.
pub(super) fn read(path: &Path) -> Result<Config> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Config::parse(&text).with_context(|| format!("in {}", path.display()))
}

/// Reads several files of `dir`, the later ones on top.
///
/// # Errors
/// When one cannot be read or parsed.
pub(super) fn read_all(dir: &Path, files: &[&str]) -> Result<Config> {
    let mut merged = Config::default();
    for file in files {
        merged.overlay(read(&dir.join(file))?);
    }
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use super::Config;

    #[test]
    fn reads_the_forms_of_kconfig() {
        let config = Config::parse(
            "#\n# Linux/x86 6.12 Kernel Configuration\n#\nCONFIG_A=y\n\n# CONFIG_B is not set\n\
             CONFIG_C=\"a=b\"\nCONFIG_D=64\n",
        )
        .unwrap();
        assert_eq!(config.get("A"), "y");
        assert_eq!(config.get("B"), "n");
        assert_eq!(config.get("C"), "\"a=b\"");
        assert_eq!(config.get("D"), "64");
        assert_eq!(config.get("E"), "n");
        assert!(config.mentions("B") && !config.mentions("E"));
        assert_eq!(Config::parse(&config.render()).unwrap(), config);
    }

    #[test]
    fn refuses_what_could_hide_a_loss() {
        assert!(Config::parse("CONFIG_A=y\nCONFIG_A=n\n").is_err());
        assert!(Config::parse("CONFIG_A\n").is_err());
        assert!(Config::parse("ONFIG_A=y\n").is_err());
    }

    #[test]
    fn lists_what_was_lost() {
        let request = Config::parse("CONFIG_A=y\nCONFIG_B=y\n# CONFIG_C is not set\n").unwrap();
        let result = Config::parse("CONFIG_A=y\nCONFIG_C=y\n").unwrap();
        assert_eq!(
            request.unmet_by(&result),
            ["CONFIG_B: wanted y, got n", "CONFIG_C: wanted n, got y"]
        );
        assert!(request.unmet_by(&request).is_empty());
    }

    #[test]
    fn later_lines_win() {
        let mut merged = Config::parse("CONFIG_A=y\n# CONFIG_KVM is not set\n").unwrap();
        merged.overlay(Config::parse("CONFIG_KVM=y\n").unwrap());
        assert_eq!(merged.render(), "CONFIG_A=y\nCONFIG_KVM=y\n");
    }
}
