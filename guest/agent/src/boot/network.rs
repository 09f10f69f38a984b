//! `lo` and `eth0`, configured statically.

use std::io;
use std::os::fd::OwnedFd;

use matchlock_proto::{BootStep, NetworkConfig};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netdevice, recv, send,
    socket_with,
};

use super::netlink::{Batch, acknowledgements};
use super::{Required, StepFailed};

const DEVICE: &str = "eth0";

/// Brings `lo` up, which the kernel gives its addresses.
pub(super) fn loopback() -> Result<(), StepFailed> {
    let mut batch = Batch::default();
    batch.link_up("lo", None);
    carry_out(&open()?, &batch).required(BootStep::Network, "netlink")?
}

/// Configures `eth0`.
pub(super) fn configure(network: &NetworkConfig) -> Result<(), StepFailed> {
    let socket = open()?;
    let index = netdevice::name_to_index(&socket, DEVICE)
        .required(BootStep::Network, format_args!("find {DEVICE}"))?;
    let mut batch = Batch::default();
    batch.link_up(DEVICE, Some(network.mtu));
    for &(address, prefix) in &network.addresses {
        batch.address(index, address, prefix);
    }
    for &gateway in &network.gateways {
        batch.default_route(index, gateway);
    }
    carry_out(&socket, &batch).required(BootStep::Network, "netlink")?
}

fn open() -> Result<OwnedFd, StepFailed> {
    // Protocol 0 is NETLINK_ROUTE.
    socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)
        .required(BootStep::Network, "open a netlink socket")
}

/// Sends everything and waits for as many answers; the outer error is of the socket.
fn carry_out(socket: &OwnedFd, batch: &Batch) -> io::Result<Result<(), StepFailed>> {
    send(socket, batch.as_bytes(), SendFlags::empty())?;
    let mut pending = batch.names().len();
    let mut buffer = [0; 8192];
    while pending > 0 {
        let (_, received) = recv(socket, &mut buffer[..], RecvFlags::empty())?;
        for (sequence, errno) in acknowledgements(buffer.get(..received).unwrap_or_default()) {
            pending = pending.saturating_sub(1);
            if errno != 0 {
                let name = batch.names().get(sequence as usize).map_or("request", String::as_str);
                let error = Err::<(), _>(io::Error::from_raw_os_error(errno));
                return Ok(error.required(BootStep::Network, name));
            }
        }
    }
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    const INSIDE: &str = "MATCHLOCK_AGENT_TEST_NETWORK";

    /// Runs itself once more in a network namespace, which begins with a `lo` that is down.
    #[test]
    fn configures_lo_and_names_what_is_missing() {
        if std::env::var_os(INSIDE).is_some() {
            return inside();
        }
        let test = "boot::network::tests::configures_lo_and_names_what_is_missing";
        let output = Command::new("unshare")
            .args(["--net", "--"])
            .arg(std::env::current_exe().expect("known"))
            .args(["--exact", test, "--nocapture"])
            .env(INSIDE, "1")
            .output();
        match output {
            Ok(output) if output.status.success() => {}
            // Without the privilege unshare ends before the test begins.
            Ok(output) if !String::from_utf8_lossy(&output.stdout).contains("running") => {}
            other => panic!("{other:?}"),
        }
    }

    fn inside() {
        let addresses = || std::fs::read_to_string("/proc/self/net/if_inet6").unwrap_or_default();
        let is_up = || std::net::UdpSocket::bind("127.0.0.1:0").is_ok();
        assert!(!is_up() || addresses().is_empty(), "a new namespace");
        loopback().expect("lo exists");
        assert!(is_up());
        let network = NetworkConfig { mtu: 1500, addresses: Vec::new(), gateways: Vec::new() };
        let failed = configure(&network).expect_err("there is no eth0");
        assert!(failed.message.starts_with("find eth0"), "{failed:?}");
    }
}
