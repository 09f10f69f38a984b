//! ARG and ENV: what a name stands for, and where (Dockerfile reference, "ARG").

use std::collections::{BTreeMap, BTreeSet};

use super::error::SyntaxError;
use super::expand::expand;
use super::instruction::Dockerfile;

/// Arguments that every RUN has without an ARG, and that no cache depends on.
const PROXIES: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// What holds for the whole file: arguments of the command line, the ones before the first FROM, and
/// the platform's.
#[derive(Debug)]
pub(crate) struct Globals {
    given: BTreeMap<String, String>,
    declared: BTreeMap<String, String>,
    platform: BTreeMap<&'static str, String>,
}

/// The arguments of one stage.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arguments {
    declared: BTreeMap<String, String>,
}

impl Globals {
    /// `architecture` is the one of the host, in the words of the OCI image spec: `amd64`.
    pub(crate) fn new(
        file: &Dockerfile,
        given: BTreeMap<String, String>,
        architecture: &str,
    ) -> Result<Self, SyntaxError> {
        let mut platform = BTreeMap::new();
        for (names, value) in [
            (["BUILDPLATFORM", "TARGETPLATFORM"], format!("linux/{architecture}")),
            (["BUILDOS", "TARGETOS"], "linux".to_owned()),
            (["BUILDARCH", "TARGETARCH"], architecture.to_owned()),
            (["BUILDVARIANT", "TARGETVARIANT"], String::new()),
        ] {
            for name in names {
                platform.insert(name, value.clone());
            }
        }
        let mut globals = Self { given, declared: BTreeMap::new(), platform };
        for (at, names) in &file.globals {
            for (name, default) in names {
                let fail = |problem| SyntaxError { at: at.clone(), problem };
                let value = match (globals.given.get(name), default) {
                    (Some(given), _) => Some(given.clone()),
                    (None, Some(text)) => {
                        let lookup = |name: &str| globals.get(name);
                        Some(expand(text, file.escape, &lookup).map_err(fail)?)
                    }
                    (None, None) => None,
                };
                if let Some(value) = value {
                    globals.declared.insert(name.clone(), value);
                }
            }
        }
        Ok(globals)
    }

    /// What a name stands for in a FROM.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        self.declared.get(name).or_else(|| self.platform.get(name)).cloned()
    }

    /// `linux/amd64`.
    pub(crate) fn platform(&self) -> &str {
        &self.platform["TARGETPLATFORM"]
    }

    /// Proxies of the command line: for each RUN.
    pub(crate) fn proxies(&self) -> impl Iterator<Item = (&String, &String)> {
        self.given.iter().filter(|(name, _)| PROXIES.contains(&name.as_str()))
    }

    /// Arguments of the command line that no ARG of the file asks for.
    pub(crate) fn unused(&self, asked: &BTreeSet<&str>) -> Vec<String> {
        let free =
            |name: &&String| !asked.contains(name.as_str()) && !PROXIES.contains(&name.as_str());
        self.given.keys().filter(free).cloned().collect()
    }
}

impl Arguments {
    /// ARG in a stage. The command line wins over the default, and a default over the value from before
    /// the first FROM; without all three the name stands for nothing.
    pub(crate) fn declare(&mut self, globals: &Globals, name: &str, default: Option<String>) {
        let given = globals.given.get(name).cloned();
        if let Some(value) = given.or(default).or_else(|| globals.get(name)) {
            self.declared.insert(name.to_owned(), value);
        }
    }

    /// What the name stands for, below ENV.
    pub(crate) fn get(&self, name: &str) -> Option<&String> {
        self.declared.get(name)
    }

    /// In the order of their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &String)> {
        self.declared.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::parse;

    fn globals(text: &str, given: &[(&str, &str)]) -> Globals {
        let file = parse(&"D".into(), text.as_bytes()).expect(text);
        let given = given.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Globals::new(&file, given, "arm64").expect(text)
    }

    #[test]
    fn the_command_line_wins_over_defaults() {
        let globals = globals("ARG A=1 B=${A}2 C\nFROM a", &[("A", "x"), ("D", "d")]);
        assert_eq!(globals.get("B").as_deref(), Some("x2"));
        assert_eq!(globals.get("C"), None);
        assert_eq!(globals.get("D"), None);
        assert_eq!(globals.get("TARGETARCH").as_deref(), Some("arm64"));
        let mut stage = Arguments::default();
        assert_eq!(stage.get("A"), None, "a stage sees what it asks for");
        stage.declare(&globals, "A", Some("default".into()));
        stage.declare(&globals, "B", None);
        stage.declare(&globals, "C", None);
        stage.declare(&globals, "TARGETOS", None);
        let all: Vec<_> = stage.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(all, [("A", "x"), ("B", "x2"), ("TARGETOS", "linux")]);
    }

    #[test]
    fn proxies_need_no_arg_and_others_are_reported() {
        let globals = globals("FROM a", &[("http_proxy", "p"), ("X", "1"), ("Y", "2")]);
        assert_eq!(globals.proxies().count(), 1);
        assert_eq!(globals.unused(&BTreeSet::from(["Y"])), ["X"]);
    }
}
