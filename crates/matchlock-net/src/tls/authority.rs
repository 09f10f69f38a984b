//! A certificate authority that lives and dies with one sandbox.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use matchlock_policy::{Allowed, Host};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ProducesTickets, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};

/// What the guest sees as the issuer of every certificate.
const COMMON_NAME: &str = "Matchlock Sandbox CA";
/// The clock of a guest may be behind ours.
const BACKDATED: Duration = Duration::from_secs(24 * 60 * 60);
/// Longer than a sandbox lives; short, should the certificate end up in some trust store.
const VALID: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Leaves that are kept. A wildcard rule lets the guest choose names, so there has to be a bound.
const LEAVES: usize = 1024;
/// The longest common name (RFC 5280, appendix A.1, `ub-common-name`).
const LONGEST_COMMON_NAME: usize = 64;

/// The certificate authority of a sandbox: an ephemeral P-256 key that signs leaves for names that
/// policy allows, and for nothing else.
pub(crate) struct Authority {
    provider: Arc<CryptoProvider>,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    validity: Validity,
    /// One key for all leaves: they all end in this process anyway, and a handshake stays cheap.
    leaf_key: KeyPair,
    signing_key: Arc<dyn SigningKey>,
    tickets: Arc<dyn ProducesTickets>,
    leaves: Mutex<Leaves>,
}

impl Authority {
    /// Makes the keys and the certificate, valid around `now`.
    pub(crate) fn new(
        provider: Arc<CryptoProvider>,
        now: SystemTime,
    ) -> Result<Self, AuthorityError> {
        let validity = Validity { from: now - BACKDATED, to: now + VALID };
        let key = KeyPair::generate()?;
        let params = authority_params(&provider, &validity)?;
        let certificate = params.self_signed(&key)?.der().clone();
        let leaf_key = KeyPair::generate()?;
        let signing_key = provider.key_provider.load_private_key(private_key(&leaf_key))?;
        Ok(Self {
            pem: pem(&certificate),
            certificate,
            issuer: Issuer::new(params, key),
            validity,
            leaf_key,
            signing_key,
            tickets: rustls::crypto::ring::Ticketer::new()?,
            leaves: Mutex::default(),
            provider,
        })
    }

    /// The certificate that the guest has to trust (RFC 7468).
    pub(crate) fn ca_pem(&self) -> &str {
        &self.pem
    }

    /// How to answer a guest that dialled what was allowed, with one application protocol or none.
    pub(crate) fn server_config(
        &self,
        allowed: &Allowed,
        alpn: Option<&[u8]>,
    ) -> Result<Arc<ServerConfig>, AuthorityError> {
        let leaf = self.leaf(allowed)?;
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(OneLeaf(leaf)));
        config.alpn_protocols.extend(alpn.map(<[u8]>::to_vec));
        // Tickets are bound to the SNI by rustls, and every flow is decided anew before they count.
        config.ticketer = Arc::clone(&self.tickets);
        Ok(Arc::new(config))
    }

    fn leaf(&self, allowed: &Allowed) -> Result<Arc<CertifiedKey>, AuthorityError> {
        let host = allowed.host();
        if let Some(leaf) = self.leaves().get(host) {
            return Ok(leaf);
        }
        let certificate = self.mint(host)?;
        let chain = vec![certificate, self.certificate.clone()];
        let leaf = Arc::new(CertifiedKey::new(chain, Arc::clone(&self.signing_key)));
        self.leaves().insert(host.clone(), Arc::clone(&leaf));
        Ok(leaf)
    }

    fn mint(&self, host: &Host) -> Result<CertificateDer<'static>, AuthorityError> {
        let mut params = params(&self.provider, &self.validity)?;
        let (san, common_name) = match host {
            Host::Name(name) => {
                let dns_name = name.as_str().try_into()?;
                (SanType::DnsName(dns_name), name.to_string())
            }
            Host::Ip(ip) => (SanType::IpAddress(ip.to_canonical()), ip.to_canonical().to_string()),
        };
        params.subject_alt_names = vec![san];
        if common_name.len() <= LONGEST_COMMON_NAME {
            params.distinguished_name.push(DnType::CommonName, common_name);
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(&self.leaf_key, &self.issuer)?.into())
    }

    fn leaves(&self) -> std::sync::MutexGuard<'_, Leaves> {
        self.leaves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// Keys or certificates cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthorityError {
    #[error("cannot issue a certificate for the guest")]
    Certificate(#[from] rcgen::Error),
    #[error("cannot set up TLS for the guest")]
    Tls(#[from] rustls::Error),
    #[error("there are no random bytes")]
    Random,
}

#[derive(Debug)]
struct Validity {
    from: SystemTime,
    to: SystemTime,
}

/// The leaves that were used last.
#[derive(Debug, Default)]
struct Leaves {
    /// With the time of the last use, in uses.
    entries: HashMap<Host, (Arc<CertifiedKey>, u64)>,
    uses: u64,
}

impl Leaves {
    fn get(&mut self, host: &Host) -> Option<Arc<CertifiedKey>> {
        let (leaf, used) = self.entries.get_mut(host)?;
        self.uses += 1;
        *used = self.uses;
        Some(Arc::clone(leaf))
    }

    fn insert(&mut self, host: Host, leaf: Arc<CertifiedKey>) {
        if self.entries.len() >= LEAVES {
            let oldest = self.entries.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(host, _)| host.clone()) {
                self.entries.remove(&oldest);
            }
        }
        self.uses += 1;
        self.entries.insert(host, (leaf, self.uses));
    }
}

/// Shows its leaf whatever the hello says: the hello was judged before.
#[derive(Debug)]
struct OneLeaf(Arc<CertifiedKey>);

impl ResolvesServerCert for OneLeaf {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

fn authority_params(
    provider: &CryptoProvider,
    validity: &Validity,
) -> Result<CertificateParams, AuthorityError> {
    let mut params = params(provider, validity)?;
    params.distinguished_name.push(DnType::CommonName, COMMON_NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Ok(params)
}

/// What both kinds of certificates have: a random serial number and a short life.
fn params(
    provider: &CryptoProvider,
    validity: &Validity,
) -> Result<CertificateParams, AuthorityError> {
    let mut serial = [0; 16];
    provider.secure_random.fill(&mut serial).map_err(|_| AuthorityError::Random)?;
    // Positive, and never zero (RFC 5280, section 4.1.2.2).
    serial[0] = serial[0] & 0x7f | 0x40;
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = DistinguishedName::new();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since_epoch(validity.from);
    params.not_after = epoch + since_epoch(validity.to);
    Ok(params)
}

/// Whole seconds, as certificates count.
fn since_epoch(time: SystemTime) -> Duration {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Duration::from_secs(since.as_secs())
}

fn private_key(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()))
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    let body = STANDARD.encode(certificate);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in body.as_bytes().chunks(64) {
        pem.extend(line.iter().map(|&byte| char::from(byte)));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use matchlock_policy::{Endpoint, Policy, PolicyConfig};
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::{ServerName, UnixTime};
    use rustls::{CertificateError, Error, RootCertStore};

    use super::*;

    fn authority() -> Authority {
        Authority::new(super::super::provider(), SystemTime::now()).expect("an authority")
    }

    fn allowed(host: &str) -> Allowed {
        let allowed_hosts = vec![
            "*.example.com".parse().expect("a pattern"),
            "93.184.215.14".parse().expect("an address"),
        ];
        let policy = Policy::new(PolicyConfig { allowed_hosts, ..PolicyConfig::default() });
        let endpoint = Endpoint { host: host.parse().expect("a host"), port: 443 };
        policy.connect(&endpoint).expect("it is allowed")
    }

    /// What a client that trusts the authority thinks of a leaf, some time from now.
    fn verify(
        authority: &Authority,
        leaf: &CertifiedKey,
        name: &str,
        after: Duration,
    ) -> Result<(), Error> {
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate.clone())?;
        let provider = super::super::provider();
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider)
            .build()
            .expect("a verifier");
        let name = ServerName::try_from(name).expect("a name");
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        let now = UnixTime::since_unix_epoch(since + after);
        verifier.verify_server_cert(&leaf.cert[0], &leaf.cert[1..], &name, &[], now).map(drop)
    }

    #[test]
    fn a_leaf_is_for_its_host_and_for_a_while() {
        let authority = authority();
        let now = Duration::ZERO;
        for host in ["api.example.com", "93.184.215.14"] {
            let leaf = authority.leaf(&allowed(host)).expect("a leaf");
            verify(&authority, &leaf, host, now).expect("it is for the host");
            let other = verify(&authority, &leaf, "www.example.com", now);
            assert!(matches!(
                other,
                Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }))
            ));
            let late = verify(&authority, &leaf, host, VALID + BACKDATED);
            assert!(matches!(
                late,
                Err(Error::InvalidCertificate(CertificateError::ExpiredContext { .. }))
            ));
        }
        let ip: IpAddr = "93.184.215.14".parse().expect("an address");
        let leaf = authority.leaf(&allowed("93.184.215.14")).expect("a leaf");
        let IpAddr::V4(ip) = ip else { panic!("it is of version 4") };
        assert!(leaf.cert[0].windows(4).any(|window| window == ip.octets()));
    }

    #[test]
    fn a_long_name_fits() {
        let label = "a".repeat(60);
        let name = format!("{label}.{label}.{label}.example.com");
        let authority = authority();
        let leaf = authority.leaf(&allowed(&name)).expect("a leaf");
        verify(&authority, &leaf, &name, Duration::ZERO).expect("it is for the host");
    }

    #[test]
    fn leaves_are_kept_and_serial_numbers_differ() {
        let authority = authority();
        let one = authority.leaf(&allowed("one.example.com")).expect("a leaf");
        let again = authority.leaf(&allowed("one.example.com")).expect("a leaf");
        assert!(Arc::ptr_eq(&one, &again));
        let other = authority.mint(allowed("one.example.com").host()).expect("a leaf");
        assert_ne!(one.cert[0], other);
    }

    #[test]
    fn the_leaves_that_were_used_last_are_kept() {
        let authority = authority();
        let first = authority.leaf(&allowed("first.example.com")).expect("a leaf");
        for n in 0..LEAVES {
            authority.leaf(&allowed("first.example.com")).expect("a leaf");
            let host = format!("host{n}.example.com").parse().expect("a host");
            authority.leaves().insert(host, Arc::clone(&first));
        }
        assert_eq!(authority.leaves().entries.len(), LEAVES);
        let again = authority.leaf(&allowed("first.example.com")).expect("a leaf");
        assert!(Arc::ptr_eq(&first, &again));
    }

    #[test]
    fn the_certificate_is_text() {
        let authority = authority();
        let pem = authority.ca_pem();
        assert!(pem.starts_with("-----BEGIN CERTIFICATE-----\nMII"));
        assert!(pem.ends_with("\n-----END CERTIFICATE-----\n"));
        assert!(pem.lines().all(|line| line.len() <= 64));
    }
}
