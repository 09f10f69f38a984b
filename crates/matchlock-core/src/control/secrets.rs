//! Secrets of a sandbox that runs. No value is in an answer, an error or the trail.

use matchlock_api::control::{SecretInfo, SecretListResult, SecretNameParams, SecretSetParams};
use matchlock_api::{Empty, ErrorCode, ErrorKind, RpcError};
use matchlock_policy::{InvalidSecret, Policy, Secret, SecretName, SecretSpec, SecretValue};
use matchlock_text::{DescribeChain, escape};
use rustix::rand::{GetRandomFlags, getrandom};

use super::call::told;
use crate::audit::SecretChange;
use crate::error::CoreError;
use crate::handle::Up;
use crate::service::network::no_interception;
use crate::values::InvalidConfig;

/// The most secrets of a sandbox; each request is looked through for all of them.
const MAX_SECRETS: usize = 1024;

pub(super) fn list(up: &Up) -> Result<SecretListResult, RpcError> {
    let policy = up.policy().ok_or_else(no_interception)?;
    Ok(SecretListResult { secrets: policy.secrets().iter().map(info).collect() })
}

pub(super) async fn set(params: SecretSetParams, up: &Up) -> Result<SecretInfo, RpcError> {
    let SecretSetParams { name, value, hosts } = params;
    let name = read_name(&name)?;
    let hosts = SecretSpec::hosts(&name, &hosts).map_err(|error| invalid("hosts", &error))?;
    let value = SecretValue::new(value.reveal()).map_err(|problem| invalid("value", &problem))?;
    let policy = up.policy().ok_or_else(no_interception)?;
    let change = match policy.secrets().get(&name) {
        Some(_) => SecretChange::Rotated,
        None => SecretChange::Added,
    };
    if change == SecretChange::Added && policy.secrets().iter().len() >= MAX_SECRETS {
        let text = format!("a sandbox can have at most {MAX_SECRETS} secrets");
        return Err(RpcError::new(ErrorCode::Sandbox, ErrorKind::InvalidArgument, text));
    }
    let mut entropy_failed = false;
    let secrets = policy.secrets().with(name.clone(), value, hosts, &mut || {
        let mut bytes = [0; 16];
        // Requests of up to 256 bytes are never cut short (getrandom(2)).
        entropy_failed |= getrandom(&mut bytes, GetRandomFlags::empty()).is_err();
        bytes
    });
    if entropy_failed {
        let text = "cannot get random bytes";
        return Err(RpcError::new(ErrorCode::Sandbox, ErrorKind::Io, text));
    }
    let secrets = secrets.map_err(|error| invalid("name", &error))?;
    put_in_force(policy.with_secrets(secrets), &name, change, up).await?;
    // It is there: nobody else has changed anything since, unless it was removed again.
    let policy = up.policy().ok_or_else(no_interception)?;
    policy.secrets().get(&name).map(info).ok_or_else(|| unknown(&name))
}

pub(super) async fn delete(params: SecretNameParams, up: &Up) -> Result<Empty, RpcError> {
    let name = read_name(&params.name)?;
    let policy = up.policy().ok_or_else(no_interception)?;
    let secrets = policy.secrets().without(&name).ok_or_else(|| unknown(&name))?;
    put_in_force(policy.with_secrets(secrets), &name, SecretChange::Removed, up).await?;
    Ok(Empty {})
}

/// In force at once, and then in the state: names, hosts and placeholders.
async fn put_in_force(
    policy: Policy,
    name: &SecretName,
    change: SecretChange,
    up: &Up,
) -> Result<(), RpcError> {
    if let Some(useless) = policy.useless_secrets().first() {
        let (secret, host) = (useless.secret.to_string(), useless.host.to_string());
        let rule = useless.rule.to_string();
        return Err(told(CoreError::Config(InvalidConfig::UselessSecret { secret, host, rule })));
    }
    let recorded = policy.secrets().clone();
    up.replace_secret(policy, name.as_str(), change).map_err(|error| match error {
        CoreError::Policy(_) => no_interception(),
        error => told(error),
    })?;
    up.record_secrets(&recorded).await.map_err(told)
}

fn info(secret: &Secret) -> SecretInfo {
    SecretInfo {
        name: secret.name.to_string(),
        hosts: secret.hosts.iter().map(ToString::to_string).collect(),
        placeholder: secret.placeholder.to_string(),
    }
}

fn read_name(text: &str) -> Result<SecretName, RpcError> {
    text.parse().map_err(|error: InvalidSecret| invalid("name", &error))
}

/// The errors of secrets have no value in them.
fn invalid(field: &str, error: &dyn std::error::Error) -> RpcError {
    let text = escape::one_line(&DescribeChain(error).to_string());
    RpcError::new(ErrorCode::InvalidParams, ErrorKind::InvalidArgument, text).of_field(field)
}

fn unknown(name: &SecretName) -> RpcError {
    let text = format!("the sandbox has no secret {name}");
    RpcError::new(ErrorCode::Sandbox, ErrorKind::NotFound, text)
}
