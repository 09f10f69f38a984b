//! Credential helpers: programs `docker-credential-NAME` that are asked for one registry at a time
//! (the protocol of docker-credential-helpers).

use std::env;
use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use zeroize::Zeroizing;

use super::credentials::{Credential, CredentialError};
use super::secret::Secret;

/// For one answer. A helper may ask the user to unlock something.
const LIMIT: Duration = Duration::from_secs(60);
/// Most bytes of an answer; tokens of cloud providers are some KiB.
const MAX_ANSWER: u64 = 256 * 1024;
/// What a helper says, and then fails, when it has nothing for a registry.
const NOT_FOUND: &[u8] = b"credentials not found in native keychain";
/// The user of an answer whose secret is an identity token.
const TOKEN_USER: &str = "<token>";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    secret: Secret,
}

/// Asks the helper `name`, found in the directories of `search`, for `server`.
pub(crate) async fn get(
    name: &str,
    server: &str,
    search: &OsStr,
) -> Result<Option<Credential>, CredentialError> {
    let start = |source| CredentialError::HelperStart { name: name.to_owned(), source };
    let program = find(name, search).ok_or_else(|| start(io::ErrorKind::NotFound.into()))?;
    let child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(start)?;
    let failed = || CredentialError::HelperFailed { name: name.to_owned() };
    let (success, text) = match tokio::time::timeout(LIMIT, ask(child, server)).await {
        Ok(answer) => answer.map_err(|_| failed())?,
        Err(_) => return Err(CredentialError::HelperTimeout { name: name.to_owned() }),
    };
    if !success {
        return if text.trim_ascii() == NOT_FOUND { Ok(None) } else { Err(failed()) };
    }
    let Answer { username, secret } = serde_json::from_slice(&text).map_err(|_| failed())?;
    Ok(match username.as_str() {
        _ if secret.reveal().is_empty() => None,
        TOKEN_USER => Some(Credential::Identity(secret)),
        _ => Some(Credential::Password { user: username, password: secret }),
    })
}

async fn ask(mut child: Child, server: &str) -> io::Result<(bool, Zeroizing<Vec<u8>>)> {
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input may still answer.
        let _ = stdin.write_all(server.as_bytes()).await;
    }
    // No reallocation, which would leave copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(64 * 1024));
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_ANSWER).read_to_end(&mut text).await?;
    }
    Ok((child.wait().await?.success(), text))
}

/// The program of a helper. A name with a slash would be a path into anywhere.
fn find(name: &str, search: &OsStr) -> Option<PathBuf> {
    if name.contains(['/', '\0']) {
        return None;
    }
    let file = format!("docker-credential-{name}");
    let directories = env::split_paths(search).filter(|directory| directory.is_absolute());
    directories.map(|directory| directory.join(&file)).find(|path| path.is_file())
}
