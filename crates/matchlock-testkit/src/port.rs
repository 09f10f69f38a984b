//! A port for a program that has to be told its number.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt,
};

/// A port of this machine that no test gets as long as this value lives, and on which a program can listen.
///
/// Both sockets have `SO_REUSEADDR` and this one never listens, so Linux binds the second. Whoever asks for
/// any port gets another.
#[derive(Debug)]
pub struct ReservedPort {
    number: NonZeroU16,
    _socket: OwnedFd,
}

impl ReservedPort {
    /// Takes a port of 127.0.0.1 that is free.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "each is another one")]
    pub fn new() -> Self {
        Self::on(Ipv4Addr::LOCALHOST)
    }

    /// Takes a port of another address.
    ///
    /// # Panics
    /// If there is none, or no such address.
    #[must_use]
    pub fn on(address: Ipv4Addr) -> Self {
        let socket =
            socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let socket = socket.expect("a socket");
        sockopt::set_socket_reuseaddr(&socket, true).expect("an option of sockets");
        bind(&socket, &SocketAddrV4::new(address, 0)).expect("a free port");
        let address: SocketAddr =
            getsockname(&socket).expect("bound").try_into().expect("an internet address");
        Self { number: NonZeroU16::new(address.port()).expect("not 0"), _socket: socket }
    }

    /// The port's number.
    #[must_use]
    pub fn number(&self) -> NonZeroU16 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_program_can_listen_on_it_and_nobody_else_is_given_it() {
        let port = ReservedPort::new();
        let address = (Ipv4Addr::LOCALHOST, port.number().get());
        let listener = TcpListener::bind(address).expect("the standard library sets SO_REUSEADDR");
        let mut client = TcpStream::connect(address).expect("it listens");
        client.write_all(b"x").expect("sent");
        let mut served = [0];
        listener.accept().expect("a client").0.read_exact(&mut served).expect("received");
        let others: Vec<_> = (0..200).map(|_| ReservedPort::new()).collect();
        assert!(others.iter().all(|other| other.number() != port.number()));
    }
}
