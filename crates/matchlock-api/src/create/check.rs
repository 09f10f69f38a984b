//! What parameters of `create` must be together. What needs this machine, as the number of its
//! processors, or a file, is not here.

use super::{CreateParams, Network, Vfs};
use crate::params::{InvalidParams, Params};

impl Params for CreateParams {
    fn check(&self) -> Result<(), InvalidParams> {
        if self.image.is_empty() {
            let text = "image is required (e.g., alpine:latest)";
            return Err(InvalidParams::new("image", text));
        }
        if self.id.as_ref().is_some_and(|id| !id.is_empty()) {
            return Err(InvalidParams::new("id", "id is internal-only and cannot be set"));
        }
        self.network.as_ref().map_or(Ok(()), Network::check)?;
        self.vfs.as_ref().map_or(Ok(()), Vfs::check)
    }
}

impl Network {
    fn check(&self) -> Result<(), InvalidParams> {
        let others = [
            ("allowed_hosts", self.allowed_hosts.as_ref().is_some_and(|hosts| !hosts.is_empty())),
            ("secrets", self.secrets.as_ref().is_some_and(|secrets| !secrets.is_empty())),
            ("intercept", self.intercept.unwrap_or(false)),
            ("interception", self.interception.is_some()),
        ];
        match others.into_iter().find(|(_, given)| *given && self.no_network()) {
            None => Ok(()),
            Some((other, _)) => Err(InvalidParams::configuration(
                "network.no_network",
                format_args!("network.no_network cannot be combined with network.{other}"),
            )),
        }
    }
}

impl Vfs {
    fn check(&self) -> Result<(), InvalidParams> {
        let wrong = |field: &str, problem: String| {
            Err(InvalidParams::configuration(&format!("vfs.{field}"), problem))
        };
        let workspace = self.workspace.as_deref().unwrap_or_default();
        let mounts = self.mounts.iter().flatten();
        let has_mounts = mounts.clone().next().is_some();
        if self.interception.is_some() && !has_mounts {
            return wrong("interception", "vfs.interception needs vfs.mounts".to_owned());
        }
        if workspace.is_empty() {
            return match has_mounts {
                true => wrong("workspace", "vfs.mounts need a vfs.workspace".to_owned()),
                false => Ok(()),
            };
        }
        if !has_mounts {
            return wrong("workspace", "vfs.workspace needs vfs.mounts".to_owned());
        }
        if !is_guest_path(workspace) {
            let form = "an absolute path of letters, digits, and / _ . -";
            return wrong("workspace", format!("vfs.workspace {workspace:?} must be {form}"));
        }
        for (path, _) in mounts {
            if !is_within(path, workspace) {
                let field = format!("mounts.{path}");
                return wrong(&field, format!("the mount {path:?} must be within {workspace:?}"));
            }
        }
        Ok(())
    }
}

/// Contract, section 1.3: `^/[A-Za-z0-9/_.-]+$`. Without `..`, which could lead anywhere.
fn is_guest_path(path: &str) -> bool {
    let form = |byte: u8| byte.is_ascii_alphanumeric() || b"/_.-".contains(&byte);
    path.len() > 1 && path.starts_with('/') && path.bytes().all(form) && !climbs(path)
}

/// Whether the mount is the workspace itself or below it.
fn is_within(mount: &str, workspace: &str) -> bool {
    let rest = mount.strip_prefix(workspace.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) && !climbs(mount)
}

fn climbs(path: &str) -> bool {
    path.split('/').any(|part| part == "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> Option<(String, String)> {
        let params: CreateParams = serde_json::from_str(text).expect("params");
        let error = params.check().err()?;
        Some((error.field().unwrap_or_default().to_owned(), error.to_string()))
    }

    #[test]
    fn an_image_is_required_and_an_id_is_not_taken() {
        let none = "image is required (e.g., alpine:latest)";
        assert_eq!(problem("{}").expect("no image").1, none);
        assert_eq!(problem(r#"{"image":""}"#).expect("no image").1, none);
        let id = problem(r#"{"image":"x","id":"vm-1"}"#).expect("an id");
        assert_eq!(id.1, "id is internal-only and cannot be set");
        assert_eq!(problem(r#"{"image":"x","id":""}"#), None);
    }

    #[test]
    fn no_network_excludes_what_needs_one() {
        let with = |key: &str| {
            problem(&format!(r#"{{"image":"x","network":{{"no_network":true,{key}}}}}"#))
        };
        for key in [
            r#""allowed_hosts":["a"]"#,
            r#""secrets":{"K":{"value":"v"}}"#,
            r#""intercept":true"#,
            r#""interception":{}"#,
        ] {
            let (field, text) = with(key).expect(key);
            assert_eq!(field, "network.no_network");
            assert!(text.starts_with("invalid configuration: "), "{text}");
        }
        for key in [r#""allowed_hosts":null"#, r#""secrets":{}"#, r#""hostname":"h""#] {
            assert_eq!(with(key), None, "{key}");
        }
    }

    #[test]
    fn mounts_are_within_a_workspace() {
        let with = |vfs: &str| problem(&format!(r#"{{"image":"x","vfs":{vfs}}}"#));
        for vfs in [
            r#"{"workspace":"/w"}"#,
            r#"{"mounts":{"/w":{}}}"#,
            r#"{"interception":{}}"#,
            r#"{"workspace":"w","mounts":{"w":{}}}"#,
            r#"{"workspace":"/","mounts":{"/":{}}}"#,
            r#"{"workspace":"/w x","mounts":{"/w x":{}}}"#,
            r#"{"workspace":"/w/..","mounts":{"/w/..":{}}}"#,
            r#"{"workspace":"/w","mounts":{"/x":{}}}"#,
            r#"{"workspace":"/w","mounts":{"/ww":{}}}"#,
            r#"{"workspace":"/w","mounts":{"/w/../etc":{}}}"#,
            r#"{"workspace":"/w","mounts":{"w/a":{}}}"#,
        ] {
            let (field, text) = with(vfs).expect(vfs);
            assert!(field.starts_with("vfs."), "{field}");
            assert!(text.starts_with("invalid configuration: "), "{text}");
        }
        for vfs in [
            "{}",
            r#"{"workspace":"","mounts":null}"#,
            r#"{"workspace":"/w","mounts":{"/w":{},"/w/.host/a..b":{}},"interception":{}}"#,
            r#"{"workspace":"/w/","mounts":{"/w/a":{}}}"#,
        ] {
            assert_eq!(with(vfs), None, "{vfs}");
        }
    }

    #[test]
    fn a_network_takes_the_place_of_all_defaults() {
        let blocks = |text: &str| {
            serde_json::from_str::<CreateParams>(text).expect("params").block_private_ips()
        };
        assert!(blocks(r#"{"image":"x"}"#));
        assert!(blocks(r#"{"image":"x","network":null}"#));
        assert!(!blocks(r#"{"image":"x","network":{}}"#));
        assert!(blocks(r#"{"image":"x","network":{"block_private_ips":true}}"#));
    }
}
