//! The tables: what is served, what is masked, and why.

/// One path of the image.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) path: &'static str,
    pub(super) source: Source,
    pub(super) reason: &'static str,
}

/// Where a path has its content from.
#[derive(Debug)]
pub(super) enum Source {
    /// The host: its directory, or its symbolic link as such, or absent as there.
    Host,
    /// Nowhere: an empty directory with these permissions.
    Empty(u32),
    /// A symbolic link to this.
    Link(&'static str),
}

const fn host(path: &'static str, reason: &'static str) -> Row {
    Row { path, source: Source::Host, reason }
}

const fn empty(path: &'static str, permissions: u32, reason: &'static str) -> Row {
    Row { path, source: Source::Empty(permissions), reason }
}

const fn link(path: &'static str, target: &'static str, reason: &'static str) -> Row {
    Row { path, source: Source::Link(target), reason }
}

/// The image. Parents come first.
pub(super) const ROWS: &[Row] = &[
    host("/usr", "programs and libraries"),
    host("/etc", "configuration of programs, users' names, public certificates; masked as below"),
    host("/opt", "software outside the distribution"),
    host("/bin", "on hosts with a merged `/usr` the symbolic link"),
    host("/sbin", "likewise"),
    host("/lib", "likewise"),
    host("/lib32", "likewise"),
    host("/lib64", "likewise: the dynamic loader's name"),
    host("/libx32", "likewise"),
    empty("/nix", 0o755, "so that the store below has a place"),
    host("/nix/store", "programs of Nix"),
    empty("/gnu", 0o755, "so that the store below has a place"),
    host("/gnu/store", "programs of Guix"),
    empty("/proc", 0o555, "mount point of the guest"),
    empty("/sys", 0o555, "mount point of the guest"),
    empty("/dev", 0o755, "mount point of the guest"),
    empty("/run", 0o755, "mount point of the guest; the host's holds sockets and credentials"),
    empty("/tmp", 0o1777, "the guest's own"),
    empty("/root", 0o700, "home of the guest's root; the host's is private"),
    empty("/home", 0o755, "the host's are private"),
    empty("/mnt", 0o755, "customary mount point"),
    empty("/media", 0o755, "customary mount point"),
    empty("/srv", 0o755, "data of the host's services is theirs"),
    empty("/boot", 0o755, "the guest is not booted from it"),
    empty("/var", 0o755, "state of the host, but for what packages need"),
    empty("/var/backups", 0o755, "the host's are copies of masked files"),
    empty("/var/cache", 0o755, "programs make theirs anew"),
    host("/var/cache/fontconfig", "long to make anew"),
    empty("/var/lib", 0o755, "state of services; the databases of packages are below"),
    host("/var/lib/apk", "which packages are there"),
    host("/var/lib/apt", "lists of the packages that there are"),
    host("/var/lib/aspell", "compiled dictionaries"),
    host("/var/lib/dictionaries-common", "which dictionaries are there"),
    host("/var/lib/dpkg", "which packages are there, and who provides an alternative"),
    host("/var/lib/emacsen-common", "packages of Emacs"),
    host("/var/lib/gems", "packages of Ruby"),
    host("/var/lib/ghc", "packages of Haskell"),
    host("/var/lib/ghostscript", "fonts"),
    host("/var/lib/pacman", "which packages are there"),
    host("/var/lib/python", "which Python versions packages were compiled for"),
    host("/var/lib/rpm", "which packages are there"),
    host("/var/lib/sgml-base", "catalogues of document types"),
    host("/var/lib/texmf", "fonts and formats of TeX"),
    host("/var/lib/ucf", "configuration files that packages manage"),
    host("/var/lib/xml-core", "catalogues of document types"),
    empty("/var/local", 0o2775, "customary"),
    empty("/var/log", 0o755, "the host's names its users and peers"),
    empty("/var/mail", 0o2775, "the host's is private"),
    empty("/var/opt", 0o755, "customary"),
    empty("/var/spool", 0o755, "the host's are queues of its services"),
    empty("/var/tmp", 0o1777, "the guest's own"),
    link("/var/run", "/run", "as file-hierarchy(7)"),
    link("/var/lock", "/run/lock", "as file-hierarchy(7)"),
];

/// Paths of the host that are absent in the image, and why. `*` is any run of characters within a name,
/// `**` any number of directories.
pub(super) const MASKS: &[(&str, &str)] = &[
    ("/etc/shadow*", "password hashes, and their backups"),
    ("/etc/gshadow*", "likewise of groups"),
    ("/etc/master.passwd*", "likewise"),
    ("/etc/security/opasswd*", "old password hashes"),
    ("/etc/sudoers*", "who is root on the host; sudo in the guest needs its own"),
    ("/etc/doas.conf", "likewise"),
    ("/etc/ssh/ssh_host_*_key", "identity of the host; the public halves stay"),
    ("/etc/ssl/private", "private TLS keys"),
    ("/etc/pki/**/private", "private TLS keys"),
    ("/etc/**/private_keys", "private TLS keys"),
    ("/etc/letsencrypt/accounts", "account keys"),
    ("/etc/letsencrypt/archive", "private TLS keys"),
    ("/etc/letsencrypt/keys", "private TLS keys"),
    ("/etc/letsencrypt/live", "private TLS keys"),
    ("/etc/**/*.key", "private keys by custom"),
    ("/etc/**/*.p12", "key stores, in a form that is not looked into"),
    ("/etc/**/*.pfx", "likewise"),
    ("/etc/**/*.jks", "likewise"),
    ("/etc/**/*.keystore", "likewise"),
    ("/etc/**/*.kdbx", "likewise"),
    ("/etc/**/key*.db", "likewise, of NSS"),
    ("/etc/**/*.keytab", "Kerberos keys"),
    ("/etc/wireguard", "tunnel keys"),
    ("/etc/openvpn", "tunnel keys and passwords"),
    ("/etc/ipsec.secrets", "tunnel keys"),
    ("/etc/ipsec.d", "tunnel keys"),
    ("/etc/swanctl", "tunnel keys"),
    ("/etc/tinc", "tunnel keys"),
    ("/etc/ppp/*-secrets", "dial-in passwords"),
    ("/etc/wpa_supplicant", "Wi-Fi passwords"),
    ("/etc/iwd", "Wi-Fi passwords"),
    ("/etc/NetworkManager/system-connections", "Wi-Fi and tunnel passwords"),
    ("/etc/netplan", "Wi-Fi passwords, addresses of the host"),
    ("/etc/network/interfaces*", "Wi-Fi passwords, addresses of the host"),
    ("/etc/docker", "registry credentials, keys of the daemon"),
    ("/etc/containers/auth.json", "registry credentials"),
    ("/etc/kubernetes", "cluster credentials"),
    ("/etc/rancher", "cluster credentials"),
    ("/etc/cni", "cluster credentials"),
    ("/etc/vault*", "credentials"),
    ("/etc/consul*", "credentials"),
    ("/etc/cloud", "credentials and user data of the cloud"),
    ("/etc/boto.cfg", "cloud credentials"),
    ("/etc/apt/auth.conf*", "repository passwords"),
    ("/etc/apt/apt.conf.d/*proxy*", "proxy passwords"),
    ("/etc/pip.conf", "may hold passwords in URLs"),
    ("/etc/npmrc", "registry tokens"),
    ("/etc/gitconfig", "may hold passwords in URLs, and commands of the host"),
    ("/etc/netrc", "passwords"),
    ("/etc/environment*", "tokens and proxy passwords by custom"),
    ("/etc/profile.d/*proxy*", "proxy passwords"),
    ("/etc/mysql/debian.cnf", "database password"),
    ("/etc/exim4/passwd.client", "mail passwords"),
    ("/etc/postfix/sasl*", "mail passwords"),
    ("/etc/msmtprc", "mail passwords"),
    ("/etc/cups", "printer passwords"),
    ("/etc/samba/*passwd*", "password hashes"),
    ("/etc/cifs*", "passwords of file servers"),
    ("/etc/fstab", "devices and file servers of the host"),
    ("/etc/crypttab", "disks of the host and where their keys are"),
    ("/etc/luks*", "disk keys"),
    ("/etc/cryptsetup*", "disk keys"),
    ("/etc/exports*", "file servers of the host"),
    ("/etc/mtab", "mounts of the host"),
    ("/etc/machine-id", "identity of the host; the guest has its own"),
    ("/etc/machine-info", "identity of the host"),
    ("/etc/hostid", "identity of the host"),
    ("/etc/hostname", "name of the host; the agent writes the guest's"),
    ("/etc/hosts", "internal names; the agent writes the guest's"),
    ("/etc/resolv.conf", "name servers of the host; the agent writes the guest's"),
    ("/etc/cron*", "jobs of the host"),
    ("/etc/subuid*", "users of the host"),
    ("/etc/subgid*", "users of the host"),
    ("/etc/.pwd.lock", "a lock of the host"),
    ("/etc/matchlock", "our own configuration"),
];
