//! `allow_list_add`, `allow_list_delete` and `port_forward`.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;

use matchlock_api::{
    AllowListAddResult, AllowListDeleteResult, ErrorCode, ErrorKind, HostsParams, PortBinding,
    PortForwardParams, PortForwardResult, RpcError,
};
use matchlock_policy::{HostPattern, Policy};
use matchlock_text::DescribeChain;

use super::{Service, Up, fault};
use crate::error::CoreError;
use crate::forward::{Listeners, PortForward};

/// The most ports that are forwarded at one time.
const MAX_FORWARDS: usize = 256;

impl Service {
    pub(super) fn allow_list_add(
        &self,
        params: &HostsParams,
    ) -> Result<AllowListAddResult, RpcError> {
        let up = self.up()?;
        let patterns = hosts("hosts", params.hosts())?;
        let (policy, added) = policy(&up)?.with_added(&patterns);
        let allowed_hosts = Some(self.replace(&up, policy)?);
        Ok(AllowListAddResult { added: Some(added), allowed_hosts })
    }

    pub(super) fn allow_list_delete(
        &self,
        params: &HostsParams,
    ) -> Result<AllowListDeleteResult, RpcError> {
        let up = self.up()?;
        let (policy, removed) = policy(&up)?.with_removed(params.hosts());
        let allowed_hosts = Some(self.replace(&up, policy)?);
        Ok(AllowListDeleteResult { removed: Some(removed), allowed_hosts })
    }

    fn replace(&self, up: &Up, policy: Policy) -> Result<Vec<String>, RpcError> {
        let hosts = policy.allowed_hosts();
        up.sandbox.replace_policy(policy).map_err(|error| match error {
            CoreError::Policy(_) => unavailable(),
            error => self.fault(ErrorCode::Sandbox).of()(error),
        })?;
        Ok(hosts)
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

/// The policy of a sandbox that has a network.
fn policy(up: &Up) -> Result<Policy, RpcError> {
    up.sandbox.policy().ok_or_else(unavailable)
}

fn unavailable() -> RpcError {
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

fn bind_address(text: &str) -> Option<IpAddr> {
    match text {
        "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
        text => {
            let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
            inner.unwrap_or(text).parse().ok()
        }
    }
}
