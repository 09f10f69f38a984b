//! Names of images: `[registry/]repository[:tag][@digest]`, as Docker and the OCI distribution spec
//! ("Pulling manifests") have them, and the one form that two spellings of a name share.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use matchlock_policy::{Endpoint, Host};

use crate::digest::{Digest, InvalidDigest};

/// Longest repository with its registry in bytes (OCI distribution spec).
const MAX_NAME: usize = 255;
/// Longest tag in bytes (OCI distribution spec).
const MAX_TAG: usize = 128;
/// Longer texts are refused unread.
const MAX_TEXT: usize = 1024;

/// The name of an image. Two references are equal when their normalized forms are.
#[derive(Clone)]
pub struct Reference {
    typed: String,
    registry: RegistryName,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// The registry of a reference: a host, and a port if one was given.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegistryName {
    host: Host,
    port: Option<u16>,
}

/// Text that names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// There is nothing.
    #[error("the name of the image is empty")]
    Empty,
    /// Longer than any name may be.
    #[error("the name of the image is longer than {MAX_NAME} bytes")]
    TooLong,
    /// The part before the first `/` is no host.
    #[error("{0:?} is not the name of a registry")]
    Registry(String),
    /// Upper case, which repositories may not have.
    #[error("the repository {0:?} must be in lower case")]
    UpperCase(String),
    /// Characters that a repository cannot have, or in places where it cannot.
    #[error("{0:?} is not the name of a repository")]
    Repository(String),
    /// A tag has other characters, or too many.
    #[error("{0:?} is not a tag: letters, digits, '_', '.' and '-', at most {MAX_TAG}")]
    Tag(String),
    /// What follows `@`.
    #[error(transparent)]
    Digest(#[from] InvalidDigest),
}

impl RegistryName {
    /// The registry of names that have none.
    pub const DEFAULT: &str = "docker.io";

    /// A registry at a place that is known already; `None` when no reference could name it.
    pub(crate) fn new(host: Host, port: Option<u16>) -> Option<Self> {
        Self { host, port }.to_string().parse().ok()
    }

    /// The name or address.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port, if one was given.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Whether it is the default registry.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.port.is_none() && self.host.name().is_some_and(|name| name.as_str() == Self::DEFAULT)
    }
}

impl FromStr for RegistryName {
    type Err = InvalidReference;

    /// Reads `host` or `host:port`; the host names that the default registry once had are its name.
    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let invalid = || InvalidReference::Registry(shortened(text));
        if !text.is_ascii() || text.ends_with('.') {
            return Err(invalid());
        }
        // Port 0 is never given, so that it can stand for none.
        let endpoint = Endpoint::parse(text, 0).map_err(|_| invalid())?;
        let port = Some(endpoint.port).filter(|&port| port != 0);
        let name = endpoint.host.name().map(matchlock_policy::HostName::as_str);
        let host = match (name, port) {
            (Some("index.docker.io" | "registry-1.docker.io"), None) => {
                Self::DEFAULT.parse().map_err(|_| invalid())?
            }
            _ => endpoint.host,
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for RegistryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => self.host.fmt(f),
        }
    }
}

impl fmt::Debug for RegistryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Reference {
    /// What a name without tag and digest means.
    pub const DEFAULT_TAG: &str = "latest";

    /// The registry.
    #[must_use]
    pub fn registry(&self) -> &RegistryName {
        &self.registry
    }

    /// The repository within the registry: `library/alpine`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `latest` when there is neither tag nor digest.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of the manifest or index. With a tag beside it the tag says nothing.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The text that this was read from, as local tags are stored and printed.
    #[must_use]
    pub fn as_typed(&self) -> &str {
        &self.typed
    }

    /// The manifest `digest` in the same repository: what an index points to.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        let (registry, repository) = (self.registry.clone(), self.repository.clone());
        let typed = format!("{registry}/{repository}@{digest}");
        Self { typed, registry, repository, tag: None, digest: Some(digest) }
    }

    /// What a registry is asked for: the digest, or else the tag.
    pub(crate) fn identifier(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.as_deref().unwrap_or(Self::DEFAULT_TAG).to_owned(),
        }
    }

    fn key(&self) -> (&RegistryName, &str, Option<&str>, Option<&Digest>) {
        (&self.registry, &self.repository, self.tag(), self.digest())
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(typed: &str) -> Result<Self, InvalidReference> {
        if typed.is_empty() {
            return Err(InvalidReference::Empty);
        }
        if typed.len() > MAX_TEXT {
            return Err(InvalidReference::TooLong);
        }
        let (rest, digest) = match typed.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (typed, None),
        };
        let (name, tag) = split_tag(rest);
        let tag = tag.map(checked_tag).transpose()?;
        let (registry, path) = split_registry(name);
        let registry: RegistryName = registry.unwrap_or(RegistryName::DEFAULT).parse()?;
        check_repository(path)?;
        let repository = match path.contains('/') || !registry.is_default() {
            true => path.to_owned(),
            false => format!("library/{path}"),
        };
        if registry.to_string().len() + 1 + repository.len() > MAX_NAME {
            return Err(InvalidReference::TooLong);
        }
        let default = || digest.is_none().then(|| Self::DEFAULT_TAG.to_owned());
        let tag = tag.or_else(default);
        Ok(Self { typed: typed.to_owned(), registry, repository, tag, digest })
    }
}

/// A colon behind the last slash begins a tag; before it, it begins a port.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (text, None),
    }
}

/// The first part is a registry if it could not be a repository's: it has a dot, a colon or an
/// upper-case letter, or it is `localhost`.
fn split_registry(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first == "localhost"
                || first.contains(['.', ':'])
                || first.bytes().any(|byte| byte.is_ascii_uppercase()) =>
        {
            (Some(first), rest)
        }
        _ => (None, name),
    }
}

fn checked_tag(tag: &str) -> Result<String, InvalidReference> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let valid = tag.len() <= MAX_TAG
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'));
    if valid { Ok(tag.to_owned()) } else { Err(InvalidReference::Tag(shortened(tag))) }
}

fn check_repository(path: &str) -> Result<(), InvalidReference> {
    if path.split('/').all(is_component) && !is_hexadecimal_id(path) {
        return Ok(());
    }
    let lower = path.to_ascii_lowercase();
    if lower != path && lower.split('/').all(is_component) {
        return Err(InvalidReference::UpperCase(shortened(path)));
    }
    Err(InvalidReference::Repository(shortened(path)))
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*` (OCI distribution spec, "Pulling manifests").
fn is_component(text: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = |byte: Option<&u8>| byte.is_some_and(alphanumeric);
    let bytes = text.as_bytes();
    ends(bytes.first())
        && ends(bytes.last())
        && bytes.split(alphanumeric).all(|between| match between {
            [] | b"." | b"_" | b"__" => true,
            dashes => dashes.iter().all(|&byte| byte == b'-'),
        })
}

/// Docker reads 64 hexadecimal digits as the id of an image, so no repository may look so.
fn is_hexadecimal_id(path: &str) -> bool {
    path.len() == 64 && path.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn shortened(text: &str) -> String {
    text.chars().take(MAX_TAG).collect()
}

impl PartialEq for Reference {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Reference {}

impl Hash for Reference {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl fmt::Display for Reference {
    /// The normalized form: `docker.io/library/alpine:latest`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parse(text: &str) -> Result<Reference, InvalidReference> {
        text.parse()
    }

    #[test]
    fn the_normal_form_of_names() {
        let cases = [
            ("alpine", "docker.io/library/alpine:latest"),
            ("alpine:3.20", "docker.io/library/alpine:3.20"),
            ("docker.io/alpine", "docker.io/library/alpine:latest"),
            ("index.docker.io/library/alpine", "docker.io/library/alpine:latest"),
            ("DOCKER.IO/alpine", "docker.io/library/alpine:latest"),
            ("user/app", "docker.io/user/app:latest"),
            ("registry.example/app", "registry.example/app:latest"),
            ("Registry.Example/app", "registry.example/app:latest"),
            ("registry.example:5000/a/b/c:v1", "registry.example:5000/a/b/c:v1"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app:x", "localhost:5000/app:x"),
            ("127.0.0.1:5000/app", "127.0.0.1:5000/app:latest"),
            ("[::1]:5000/app:x", "[::1]:5000/app:x"),
            ("a__b/c--d/e.f_g", "docker.io/a__b/c--d/e.f_g:latest"),
            ("app:_A.b-C", "docker.io/library/app:_A.b-C"),
        ];
        for (typed, normal) in cases {
            let reference = parse(typed).expect(typed);
            assert_eq!(reference.to_string(), normal);
            assert_eq!(reference.as_typed(), typed);
            assert_eq!(parse(normal).expect(normal), reference, "{typed}");
        }
    }

    #[test]
    fn a_digest_is_what_is_asked_for() {
        let both = parse(&format!("alpine:3.20@{DIGEST}")).expect("a reference");
        assert_eq!(both.to_string(), format!("docker.io/library/alpine:3.20@{DIGEST}"));
        assert_eq!(both.identifier(), DIGEST);
        let only = parse(&format!("alpine@{DIGEST}")).expect("a reference");
        assert_eq!((only.tag(), only.identifier().as_str()), (None, DIGEST));
        let digest = DIGEST.parse().expect("a digest");
        assert_eq!(parse("alpine:3.20").expect("a reference").with_digest(digest), only);
        assert_eq!(parse("alpine").expect("a reference").identifier(), "latest");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = format!("registry.example/{}", "a".repeat(250));
        let id = "0".repeat(64);
        let tag = format!("app:{}", "t".repeat(129));
        for bad in [
            "",
            ":tag",
            "app:",
            "app:-x",
            "app: x",
            "app@",
            "app@sha256:00",
            "a//b",
            "/a",
            "a/",
            "a/../b",
            "..",
            "-a",
            "a-",
            "a___b",
            "a..b",
            "a b",
            "a\nb",
            "registry.example/",
            "registry.example:0/a",
            "registry.example:x/a",
            "registry.example:99999/a",
            "http://registry.example/a",
            "user:pw@registry.example/a",
            "reg_.example./a",
            "é/app",
            "a:b:c",
            &long,
            &id,
            &tag,
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(parse("user/App"), Err(InvalidReference::UpperCase("user/App".into())));
        assert_eq!(parse("Alpine"), Err(InvalidReference::UpperCase("Alpine".into())));
    }

    proptest! {
        #[test]
        fn no_text_panics_and_every_name_has_one_normal_form(text in "\\PC{0,60}|[a-z0-9.:/@_-]{1,60}") {
            if let Ok(reference) = parse(&text) {
                let normal = parse(&reference.to_string()).expect("the normal form is a name");
                prop_assert_eq!(normal.to_string(), reference.to_string());
                prop_assert_eq!(normal, reference);
            }
        }
    }
}
