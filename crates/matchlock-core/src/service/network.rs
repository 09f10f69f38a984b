//! `allow_list_add`, `allow_list_delete` and `port_forward`.

use std::num::NonZeroU16;

use matchlock_api::{
    AllowListAddResult, AllowListDeleteResult, ErrorCode, ErrorKind, HostsParams, PortBinding,
    PortForwardParams, PortForwardResult, RpcError,
};
use matchlock_policy::{HostPattern, Policy};
use matchlock_text::DescribeChain;

use super::{Service, fault};
use crate::error::CoreError;
use crate::forward::{Listeners, PortForward, bind_address};

/// The most ports that are forwarded at one time.
const MAX_FORWARDS: usize = 256;

impl Service {
    pub(super) fn allow_list_add(
        &self,
        params: &HostsParams,
    ) -> Result<AllowListAddResult, RpcError> {
        let up = self.up()?;
        let replace = |policy| up.sandbox.replace_policy(policy);
        add_hosts(params, up.sandbox.policy(), replace, self.fault(ErrorCode::Sandbox).of())
    }

    pub(super) fn allow_list_delete(
        &self,
        params: &HostsParams,
    ) -> Result<AllowListDeleteResult, RpcError> {
        let up = self.up()?;
        let replace = |policy| up.sandbox.replace_policy(policy);
        delete_hosts(params, up.sandbox.policy(), replace, self.fault(ErrorCode::Sandbox).of())
    }

    /// Old listeners go first, even if the new ones cannot be had: contract, section 2.12.
    pub(super) async fn port_forward(
        &self,
        params: PortForwardParams,
    ) -> Result<PortForwardResult, RpcError> {
        let up = self.up()?;
        let mut addresses = Vec::new();
        for address in params.addresses() {
            let ip = bind_address(address).ok_or_else(|| {
                let problem = format!("{address:?} is neither an IP address nor \"localhost\"");
                fault::invalid("addresses", problem)
            })?;
            if !addresses.contains(&ip) {
                addresses.push(ip);
            }
        }
        let forwards = params.forwards().iter().filter_map(|forward| {
            let local = NonZeroU16::new(forward.local_port)?;
            Some(PortForward { local, remote: NonZeroU16::new(forward.remote_port)? })
        });
        let forwards: Vec<_> = forwards.collect();
        if forwards.len().saturating_mul(addresses.len()) > MAX_FORWARDS {
            let problem = format!("at most {MAX_FORWARDS} ports can be forwarded");
            return Err(fault::invalid("forwards", problem));
        }
        let of = || self.fault(ErrorCode::Sandbox);
        up.sandbox.unpublish().await.map_err(of().of())?;
        let listeners = Listeners::bind(&forwards, &addresses).map_err(of().of())?;
        let bindings = listeners.bindings().map(|binding| PortBinding {
            address: binding.address.ip().to_string(),
            local_port: binding.address.port(),
            remote_port: binding.remote.get(),
        });
        let bindings = bindings.collect();
        // A connection that cannot be made is told to who made it, by its end.
        up.sandbox.publish(listeners, |_| {}).map_err(of().of())?;
        Ok(PortForwardResult { bindings })
    }
}

/// Allows more hosts: `policy` is that of now, `replace` puts another in force, and `fault` turns its error
/// into an answer.
pub(crate) fn add_hosts(
    params: &HostsParams,
    policy: Option<Policy>,
    replace: impl FnOnce(Policy) -> Result<(), CoreError>,
    fault: impl FnOnce(CoreError) -> RpcError,
) -> Result<AllowListAddResult, RpcError> {
    let patterns = hosts("hosts", params.hosts())?;
    let (policy, added) = policy.ok_or_else(no_interception)?.with_added(&patterns);
    let allowed_hosts = Some(put_in_force(policy, replace, fault)?);
    Ok(AllowListAddResult { added: Some(added), allowed_hosts })
}

/// The same, to allow hosts no longer.
pub(crate) fn delete_hosts(
    params: &HostsParams,
    policy: Option<Policy>,
    replace: impl FnOnce(Policy) -> Result<(), CoreError>,
    fault: impl FnOnce(CoreError) -> RpcError,
) -> Result<AllowListDeleteResult, RpcError> {
    let policy = policy.ok_or_else(no_interception)?;
    let (policy, removed) = policy.with_removed(params.hosts());
    let allowed_hosts = Some(put_in_force(policy, replace, fault)?);
    Ok(AllowListDeleteResult { removed: Some(removed), allowed_hosts })
}

fn put_in_force(
    policy: Policy,
    replace: impl FnOnce(Policy) -> Result<(), CoreError>,
    fault: impl FnOnce(CoreError) -> RpcError,
) -> Result<Vec<String>, RpcError> {
    let hosts = policy.allowed_hosts();
    replace(policy).map_err(|error| match error {
        CoreError::Policy(_) => no_interception(),
        error => fault(error),
    })?;
    Ok(hosts)
}

/// The contract's text, for a sandbox whose allow-list cannot be changed.
pub(crate) fn no_interception() -> RpcError {
    let text = "allow-list updates unavailable: sandbox was started without network interception";
    RpcError::new(ErrorCode::Sandbox, ErrorKind::Unavailable, text)
}

/// Patterns of hosts.
pub(super) fn hosts(field: &str, texts: &[String]) -> Result<Vec<HostPattern>, RpcError> {
    let parse = |(at, text): (usize, &String)| {
        text.trim().parse::<HostPattern>().map_err(|error| {
            let problem = format!("{text:?}: {}", DescribeChain(&error));
            fault::invalid(&format!("{field}[{at}]"), problem)
        })
    };
    texts.iter().enumerate().map(parse).collect()
}
