//! What a user says about a secret.

use crate::carriage::Carriage;
use crate::pattern::HostPattern;
use crate::secret::error::{InvalidSecret, SecretProblem};
use crate::secret::name::SecretName;
use crate::secret::placeholder::{Placeholder, PlaceholderProblem};
use crate::secret::value::SecretValue;
use crate::secret::{Secret, file};

/// A secret as it is asked for, before [`Secrets::new`](crate::Secrets::new) checks it against the
/// others.
#[derive(Debug)]
pub struct SecretSpec {
    /// The environment variable of the guest.
    pub name: SecretName,
    /// The value.
    pub value: SecretValue,
    /// What the guest is to hold; made at random if `None`.
    pub placeholder: Option<String>,
    /// Where the value may be sent; must not be empty.
    pub hosts: Vec<HostPattern>,
    /// Whether the placeholder is replaced in request bodies too.
    pub body: bool,
    /// Whether the value is kept off connections without TLS.
    pub https_only: bool,
    /// Whether the value is replaced by the placeholder in responses.
    pub scrub: bool,
}

impl SecretSpec {
    /// A secret for `hosts` with no options.
    #[must_use]
    pub fn new(name: SecretName, value: SecretValue, hosts: Vec<HostPattern>) -> Self {
        let (placeholder, body, https_only, scrub) = (None, false, false, false);
        Self { name, value, placeholder, hosts, body, https_only, scrub }
    }

    /// A secret from its parts as text. The memory of `value` is wiped in the end.
    ///
    /// # Errors
    /// When a part is not valid, or there are no hosts.
    pub fn from_parts(
        name: &str,
        value: String,
        hosts: &[impl AsRef<str>],
    ) -> Result<Self, InvalidSecret> {
        // First of all, since it owns the memory that is to be wiped.
        let value = SecretValue::new(value);
        let name: SecretName = name.parse()?;
        let of_name = |problem| InvalidSecret::of(&name, problem);
        let value = value.map_err(|problem| of_name(problem.into()))?;
        let hosts = parse_hosts(hosts.iter().map(AsRef::as_ref)).map_err(of_name)?;
        Ok(Self::new(name, value, hosts))
    }

    /// Reads patterns of hosts that may get a value; there may be none.
    ///
    /// # Errors
    /// When one is not valid, or lets bytes pass unread.
    pub fn hosts(name: &SecretName, texts: &[String]) -> Result<Vec<HostPattern>, InvalidSecret> {
        let given = texts.iter().map(|text| text.trim()).filter(|text| !text.is_empty());
        match parse_hosts(given) {
            Err(SecretProblem::NoHosts) => Ok(Vec::new()),
            read => read.map_err(|problem| InvalidSecret::of(name, problem)),
        }
    }

    /// Reads `NAME=VALUE@h1,h2`, or `NAME@h1,h2` for a value from `env`. The hosts follow the last
    /// `@`, the value the first `=`; commas in the value are part of it.
    ///
    /// # Errors
    /// When the text is not of that form, a part is not valid, or `env` has no value.
    pub fn parse(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, InvalidSecret> {
        let (spec, hosts) = text.rsplit_once('@').ok_or_else(|| no_hosts(text))?;
        let hosts: Vec<&str> = hosts.split(',').map(str::trim).filter(|h| !h.is_empty()).collect();
        if let Some((name, value)) = spec.split_once('=') {
            return Self::from_parts(name.trim(), value.to_owned(), &hosts);
        }
        let name: SecretName = spec.trim().parse()?;
        match env(name.as_str()).filter(|value| !value.is_empty()) {
            Some(value) => Self::from_parts(name.as_str(), value, &hosts),
            None => Err(InvalidSecret::of(&name, SecretProblem::NotInEnvironment(name.clone()))),
        }
    }

    /// Reads the content of a `--secret-file`: a JSON object of names, each with an object of
    /// `value`, `hosts`, and perhaps `placeholder`, `body`, `https_only` and `scrub`. The caller
    /// wipes `json`.
    ///
    /// # Errors
    /// When it is not that, with any other key anywhere, or a secret is not valid.
    pub fn parse_file(json: &[u8]) -> Result<Vec<Self>, crate::InvalidSecretFile> {
        file::parse(json)
    }

    /// Reads one `--secret-placeholder NAME=PLACEHOLDER` and gives the placeholder to the secret of
    /// that name.
    ///
    /// # Errors
    /// When the text is not of that form, or none of `specs` has the name.
    pub fn set_placeholder(specs: &mut [Self], text: &str) -> Result<(), InvalidSecret> {
        let (name, placeholder) = text
            .split_once('=')
            .ok_or_else(|| InvalidSecret::unnamed(PlaceholderProblem::Form.into()))?;
        let name: SecretName = name.trim().parse()?;
        let spec = specs
            .iter_mut()
            .find(|spec| spec.name == name)
            .ok_or_else(|| InvalidSecret::of(&name, SecretProblem::NoSuchSecret))?;
        spec.placeholder = Some(placeholder.to_owned());
        Ok(())
    }

    /// The secret, with a placeholder that is valid by itself.
    pub(super) fn complete(
        self,
        entropy: &mut dyn FnMut() -> [u8; 16],
    ) -> Result<Secret, InvalidSecret> {
        let Self { name, value, placeholder, hosts, body, https_only, scrub } = self;
        if hosts.is_empty() {
            return Err(InvalidSecret::of(&name, SecretProblem::NoHosts));
        }
        let placeholder = match placeholder {
            Some(text) => Placeholder::given(&text)
                .map_err(|problem| InvalidSecret::of(&name, problem.into()))?,
            None => Placeholder::generate(entropy()),
        };
        Ok(Secret { name, value, placeholder, hosts, body, https_only, scrub })
    }
}

pub(super) fn parse_hosts<'a>(
    hosts: impl Iterator<Item = &'a str>,
) -> Result<Vec<HostPattern>, SecretProblem> {
    let number = |(at, host): (usize, &str)| {
        let number = at + 1;
        let host: HostPattern =
            host.parse().map_err(|cause| SecretProblem::Host { number, cause })?;
        match host.carriage() {
            Carriage::Http => Ok(host),
            _ => Err(SecretProblem::Carriage { number }),
        }
    };
    let hosts: Vec<HostPattern> = hosts.enumerate().map(number).collect::<Result<_, _>>()?;
    if hosts.is_empty() { Err(SecretProblem::NoHosts) } else { Ok(hosts) }
}

/// The error for a text without `@`, which says the name only if a value follows it: otherwise the
/// text may be a value alone.
fn no_hosts(text: &str) -> InvalidSecret {
    let name = text.split_once('=').and_then(|(name, _)| name.trim().parse().ok());
    match name {
        Some(name) => InvalidSecret::of(&name, SecretProblem::Form),
        None => InvalidSecret::unnamed(SecretProblem::Form),
    }
}
