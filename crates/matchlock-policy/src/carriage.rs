//! What becomes of the bytes of a flow that may be.

use crate::decision::{Allowed, Suggestion};
use crate::name::HostName;

/// How the flows that a rule allows are carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Carriage {
    /// TLS is ended, HTTP is judged request by request, and of the rest only protocols that are
    /// recognised pass.
    #[default]
    Http,
    /// Bytes pass as they are: `/tcp`. Nothing is judged, and no secret is put in.
    Opaque,
    /// TLS passes as it is, to the server name that was dialled: `/tls`. No secret is put in.
    TlsPassthrough,
}

impl Carriage {
    /// How a rule asks for it, behind its port.
    pub(crate) fn suffix(self) -> Option<&'static str> {
        match self {
            Self::Http => None,
            Self::Opaque => Some("/tcp"),
            Self::TlsPassthrough => Some("/tls"),
        }
    }
}

/// Policy lets the bytes of a flow pass unread. Only [`Allowed`] makes one.
///
/// ```compile_fail,E0423
/// use matchlock_policy::Unread;
/// fn forge() -> Unread {
///     Unread(())
/// }
/// ```
#[derive(Debug)]
pub struct Unread(());

impl Allowed {
    /// How the flow is to be carried.
    #[must_use]
    pub fn carriage(&self) -> Carriage {
        self.carriage
    }

    /// That bytes of any kind may pass unread.
    #[must_use]
    pub fn opaque(&self) -> Option<Unread> {
        (self.carriage == Carriage::Opaque).then_some(Unread(()))
    }

    /// That a TLS session for this server name may pass unread.
    #[must_use]
    pub fn passthrough(&self, server: &HostName) -> Option<Unread> {
        let own = self.host().name() == Some(server);
        (own && self.carriage == Carriage::TlsPassthrough).then_some(Unread(()))
    }

    /// That what nobody recognises may pass unread, as long as neither side speaks HTTP or TLS: the
    /// public network is open, and nobody demands that all of it is looked into.
    #[must_use]
    pub fn unrecognised(&self) -> Option<Unread> {
        self.unrecognised.then_some(Unread(()))
    }

    /// What has flows to here carried in this way. TLS to an address has no server name that could be
    /// checked.
    #[must_use]
    pub fn suggestion(&self, carriage: Carriage) -> Suggestion {
        let named = self.host().name().is_some() || carriage != Carriage::TlsPassthrough;
        let carriage = if named { carriage } else { Carriage::Opaque };
        let host = format!("{}{}", self.endpoint(), carriage.suffix().unwrap_or_default());
        Suggestion { allow_host: Some(host), allow_private: None }
    }
}
