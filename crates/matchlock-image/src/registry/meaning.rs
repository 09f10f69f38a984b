//! What the answers of registries mean: errors for people, ranges, types.

use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName};
use serde::Deserialize;

use super::auth::{self, Grant};
use super::config::Server;
use super::error::RegistryError;
use super::retry;
use super::transport::Answer;
use crate::reference::Reference;

/// Most bytes of an error document.
const MAX_ERROR: usize = 16 * 1024;
/// Most characters of a registry's own words that are shown.
const MAX_WORDS: usize = 200;
/// The types that are known; those that only old registries have are told apart by who reads them.
const MANIFESTS: [&str; 6] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];
/// Types that say nothing: the document may have its own.
const GENERIC: [&str; 4] = ["", "application/json", "application/octet-stream", "text/plain"];

#[derive(Deserialize)]
struct Errors {
    #[serde(default)]
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// What an answer that is not wanted means.
pub(super) async fn refused(
    answer: Answer,
    server: &Server,
    image: &Reference,
    grant: Option<Grant>,
    anonymous: bool,
) -> RegistryError {
    let (status, from) = (answer.status(), answer.server());
    let seconds = retry::asked(answer.headers()).map(|wait| wait.as_secs());
    let text = answer.read("an error", MAX_ERROR).await.unwrap_or_default();
    let errors = serde_json::from_slice::<Errors>(&text).map(|document| document.errors);
    let first = errors.ok().and_then(|errors| errors.into_iter().next());
    match status {
        StatusCode::NOT_FOUND => {
            let no_tag = first.is_some_and(|error| error.code == "MANIFEST_UNKNOWN");
            match image.tag().filter(|_| no_tag && image.digest().is_none()) {
                Some(tag) => {
                    let repository = format!("{}/{}", image.registry(), image.repository());
                    RegistryError::NoSuchTag { tag: tag.to_owned(), repository }
                }
                None => RegistryError::NotFound { image: image.to_string(), server: from },
            }
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            let (hint, credentials) = match grant {
                Some(grant) => (grant.hint, grant.unreadable),
                None => (auth::log_in(&server.name), None),
            };
            RegistryError::Denied { image: image.to_string(), server: from, hint, credentials }
        }
        StatusCode::TOO_MANY_REQUESTS => RegistryError::RateLimited { server: from, seconds },
        status => {
            // A server that was shown a secret might show it back.
            let message = first.filter(|_| anonymous).map(|error| words(&error.message));
            RegistryError::Status { server: from, status: status.as_u16(), message }
        }
    }
}

fn words(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_WORDS).collect()
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The first byte and the length of the whole in `bytes 5-9/10`; the range must go to the end.
pub(super) fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    if total == "*" {
        return Some((first, None));
    }
    let total: u64 = total.parse().ok()?;
    (first <= last && last.checked_add(1)? == total).then_some((first, Some(total)))
}

/// The type of a manifest, or what it is instead.
pub(super) fn media_type(headers: &HeaderMap, bytes: &[u8]) -> Result<String, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        media_type: String,
    }
    let field = text(headers, &CONTENT_TYPE).unwrap_or_default();
    let bare = field.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let found = match GENERIC.contains(&bare.as_str()) {
        true => serde_json::from_slice(bytes).map_or(bare, |typed: Typed| typed.media_type),
        false => bare,
    };
    if MANIFESTS.contains(&found.as_str()) { Ok(found) } else { Err(words(&found)) }
}

#[cfg(test)]
mod tests {
    use super::content_range;

    #[test]
    fn ranges_that_go_to_the_end() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        for bad in [
            "",
            "bytes */10",
            "bytes 5-8/10",
            "bytes 9-5/6",
            "items 5-9/10",
            "bytes 5-9",
            "bytes -1/2",
        ] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
        assert_eq!(content_range(&format!("bytes 0-{0}/{0}", u64::MAX)), None);
    }
}
