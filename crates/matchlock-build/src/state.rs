//! The configuration of the image that a build makes (OCI image spec, config.md), step by step. It
//! starts from the base image's JSON, and what this builder does not know in it stays.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use super::error::Problem;
use super::instruction::{Command, Healthcheck};
use matchlock_image::digest::Digest;
use matchlock_text::rfc3339;

/// What a process finds programs by when an image says nothing.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Fields about how Docker made the base.
const OF_THE_BASE: [&str; 6] = [
    "container",
    "container_config",
    "docker_version",
    "id",
    "parent",
    "moby.buildkit.buildinfo.v1",
];

/// An image's configuration.
#[derive(Debug, Clone)]
pub(crate) struct State {
    top: Map<String, Value>,
    config: Map<String, Value>,
    env: Vec<(String, String)>,
    history: Vec<Value>,
    /// Whether this stage has a CMD of its own, which an ENTRYPOINT then keeps.
    own_cmd: bool,
}

impl State {
    /// `FROM scratch`; `architecture` as in the OCI image spec.
    pub(crate) fn scratch(architecture: &str) -> Self {
        let top = json!({ "architecture": architecture, "os": "linux" });
        Self::of(top.as_object().cloned().unwrap_or_default())
    }

    /// A base image's; `json` was checked when it was stored.
    pub(crate) fn from_json(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json).map(Self::of)
    }

    fn of(mut top: Map<String, Value>) -> Self {
        let mut object = |name: &str| match top.remove(name) {
            Some(Value::Object(map)) => map,
            _ => Map::new(),
        };
        let mut config = object("config");
        let _digests_of_the_base = object("rootfs");
        let history = match top.remove("history") {
            Some(Value::Array(list)) => list,
            _ => Vec::new(),
        };
        for name in OF_THE_BASE {
            top.remove(name);
        }
        let env = strings(config.remove("Env"));
        let split = |text: String| match text.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (text, String::new()),
        };
        let mut env: Vec<_> =
            env.into_iter().map(split).filter(|(name, _)| !name.is_empty()).collect();
        if env.iter().all(|(name, _)| name != "PATH") {
            env.push(("PATH".to_owned(), PATH.to_owned()));
        }
        Self { top, config, env, history, own_cmd: false }
    }

    /// A further stage begins here. Returns the triggers, which go.
    pub(crate) fn begin_stage(&mut self) -> Vec<String> {
        self.own_cmd = false;
        self.triggers_taken()
    }

    fn triggers_taken(&mut self) -> Vec<String> {
        strings(self.config.remove("OnBuild"))
    }

    /// Environment, in its order.
    pub(crate) fn env(&self) -> &[(String, String)] {
        &self.env
    }

    /// What a name stands for.
    pub(crate) fn env_value(&self, name: &str) -> Option<&String> {
        self.env.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// ENV: a known name keeps its place.
    pub(crate) fn set_env(&mut self, name: &str, value: String) {
        match self.env.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.env.push((name.to_owned(), value)),
        }
    }

    /// USER of the image; empty is root.
    pub(crate) fn user(&self) -> &str {
        self.config.get("User").and_then(Value::as_str).unwrap_or_default()
    }

    /// USER.
    pub(crate) fn set_user(&mut self, user: String) {
        self.config.insert("User".to_owned(), Value::String(user));
    }

    /// Absolute.
    pub(crate) fn working_dir(&self) -> &str {
        let dir = self.config.get("WorkingDir").and_then(Value::as_str);
        dir.filter(|dir| dir.starts_with('/')).unwrap_or("/")
    }

    /// WORKDIR.
    pub(crate) fn set_working_dir(&mut self, dir: String) {
        self.config.insert("WorkingDir".to_owned(), Value::String(dir));
    }

    /// The arguments that a command stands for: a text is for the shell.
    pub(crate) fn arguments(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(list) => list.clone(),
            Command::Shell(text) => {
                let mut shell = strings(self.config.get("Shell").cloned());
                if shell.is_empty() {
                    shell = vec!["/bin/sh".to_owned(), "-c".to_owned()];
                }
                shell.push(text.clone());
                shell
            }
        }
    }

    /// SHELL.
    pub(crate) fn set_shell(&mut self, shell: &[String]) {
        self.config.insert("Shell".to_owned(), json!(shell));
    }

    /// CMD.
    pub(crate) fn set_cmd(&mut self, command: &Command) {
        self.own_cmd = true;
        self.set_list("Cmd", &self.arguments(command));
    }

    /// ENTRYPOINT. A CMD of the base belongs to the base's entry point: it goes.
    pub(crate) fn set_entrypoint(&mut self, command: &Command) {
        self.set_list("Entrypoint", &self.arguments(command));
        if !self.own_cmd {
            self.config.remove("Cmd");
        }
    }

    fn set_list(&mut self, name: &str, list: &[String]) {
        if list.is_empty() {
            self.config.remove(name);
        } else {
            self.config.insert(name.to_owned(), json!(list));
        }
    }

    /// LABEL.
    pub(crate) fn set_label(&mut self, name: String, value: String) {
        self.object("Labels").insert(name, Value::String(value));
    }

    /// EXPOSE: `80`, `80/udp`, `8000-8010/tcp`.
    pub(crate) fn expose(&mut self, text: &str) -> Result<(), Problem> {
        for port in ports(text)? {
            self.object("ExposedPorts").insert(port, json!({}));
        }
        Ok(())
    }

    /// VOLUME.
    pub(crate) fn add_volume(&mut self, path: String) {
        self.object("Volumes").insert(path, json!({}));
    }

    /// STOPSIGNAL: a name with or without SIG, or a number.
    pub(crate) fn set_stop_signal(&mut self, text: &str) -> Result<(), Problem> {
        let name = text.strip_prefix("SIG").unwrap_or(text);
        let number = text.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number));
        let word = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || matches!(c, '+' | '-');
        let named = name.starts_with(|c: char| c.is_ascii_uppercase()) && name.chars().all(word);
        if !number && !named {
            return Err(Problem::BadValue { what: "a signal", value: text.to_owned() });
        }
        self.config.insert("StopSignal".to_owned(), Value::String(text.to_owned()));
        Ok(())
    }

    /// HEALTHCHECK. Durations are nanoseconds there.
    pub(crate) fn set_healthcheck(&mut self, check: &Healthcheck) {
        let value = match check {
            Healthcheck::None => json!({ "Test": ["NONE"] }),
            Healthcheck::Test {
                command,
                interval,
                timeout,
                start_period,
                start_interval,
                retries,
            } => {
                let mut map = Map::new();
                let test = match command {
                    Command::Shell(text) => json!(["CMD-SHELL", text]),
                    Command::Exec(list) => {
                        json!(
                            std::iter::once("CMD")
                                .chain(list.iter().map(String::as_str))
                                .collect::<Vec<_>>()
                        )
                    }
                };
                map.insert("Test".to_owned(), test);
                for (name, time) in [
                    ("Interval", interval),
                    ("Timeout", timeout),
                    ("StartPeriod", start_period),
                    ("StartInterval", start_interval),
                ] {
                    let nanoseconds =
                        |time: &Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
                    if let Some(time) = time {
                        map.insert(name.to_owned(), json!(nanoseconds(time)));
                    }
                }
                if let Some(retries) = retries {
                    map.insert("Retries".to_owned(), json!(retries));
                }
                Value::Object(map)
            }
        };
        self.config.insert("Healthcheck".to_owned(), value);
    }

    /// ONBUILD.
    pub(crate) fn add_trigger(&mut self, text: &str) {
        let mut triggers = self.triggers_taken();
        triggers.push(text.to_owned());
        self.config.insert("OnBuild".to_owned(), json!(triggers));
    }

    /// MAINTAINER.
    pub(crate) fn set_author(&mut self, author: &str) {
        self.top.insert("author".to_owned(), Value::String(author.to_owned()));
    }

    /// A line of the history: what made a layer, or changed the configuration only.
    pub(crate) fn add_history(&mut self, text: &str, layer: bool, now: SystemTime) {
        let mut entry =
            json!({ "created": rfc3339(now), "created_by": text, "comment": "matchlock" });
        if !layer {
            entry["empty_layer"] = Value::Bool(true);
        }
        self.history.push(entry);
    }

    /// The configuration in JSON, of an image with these layers.
    pub(crate) fn to_json(&self, layers: &[Digest], now: SystemTime) -> String {
        let mut top = self.top.clone();
        let mut config = self.config.clone();
        let env: Vec<_> = self.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        config.insert("Env".to_owned(), json!(env));
        top.insert("config".to_owned(), Value::Object(config));
        top.insert("created".to_owned(), Value::String(rfc3339(now)));
        top.insert("history".to_owned(), Value::Array(self.history.clone()));
        top.insert("rootfs".to_owned(), json!({ "type": "layers", "diff_ids": layers }));
        Value::Object(top).to_string()
    }

    fn object(&mut self, name: &str) -> &mut Map<String, Value> {
        let value = self.config.entry(name.to_owned()).or_insert_with(|| json!({}));
        if !value.is_object() {
            *value = json!({});
        }
        value.as_object_mut().expect("it was made one")
    }
}

fn strings(value: Option<Value>) -> Vec<String> {
    let Some(Value::Array(list)) = value else { return Vec::new() };
    let text = |value| match value {
        Value::String(text) => Some(text),
        _ => None,
    };
    list.into_iter().filter_map(text).collect()
}

fn ports(text: &str) -> Result<BTreeSet<String>, Problem> {
    let bad = || Problem::BadValue { what: "a port", value: text.chars().take(40).collect() };
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let first: u16 = first.parse().map_err(|_| bad())?;
    let last: u16 = last.parse().map_err(|_| bad())?;
    if first == 0 || first > last || !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(bad());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

#[cfg(test)]
mod tests;
