//! Blobs on their way, and requests that have to be repeated.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use matchlock_testkit::registry::Reply;

use super::rig::*;
use crate::registry::{BrokenError, RegistryError};

#[tokio::test]
async fn a_blob_comes_whole_or_from_a_place_on() {
    let registry = stocked();
    let blob = bytes(100_000);
    let digest = registry.put_blob(&blob);
    let rig = Hosts::default().rig();
    let image = format!("{}/app", registry.address());
    assert_eq!(rig.blob(&image, &digest, 0).await.expect("a blob"), (0, blob.clone()));
    assert_eq!(registry.requests()[0].header("range"), None);
    let (start, rest) = rig.blob(&image, &digest, 99_000).await.expect("a blob");
    assert_eq!((start, rest.as_slice()), (99_000, &blob[99_000..]));
    assert_eq!(registry.requests()[1].header("range"), Some("bytes=99000-"));
    // Nothing is left: from the beginning.
    assert_eq!(rig.blob(&image, &digest, 100_000).await.expect("a blob"), (0, blob.clone()));
    registry.ignore_ranges();
    assert_eq!(rig.blob(&image, &digest, 5).await.expect("a blob"), (0, blob));
}

#[test]
fn transfers_may_move_between_threads() {
    fn is_send<T: Send>(_: &T) {}
    let rig = Hosts::default().rig();
    let (image, digest) = (reference("app"), crate::digest::Digest::of(b""));
    is_send(&rig.client.manifest(&image));
    is_send(&async {
        let mut stream = rig.client.blob(&image, &digest, 0).await?;
        stream.next().await.transpose()
    });
}

#[tokio::test]
async fn a_cut_transfer_is_taken_up_where_it_ended() {
    for ranges in [true, false] {
        let registry = stocked();
        let blob = bytes(50_000);
        let digest = registry.put_blob(&blob);
        if !ranges {
            registry.ignore_ranges();
        }
        let (count, whole) = (AtomicUsize::new(0), blob.clone());
        registry.script(move |_| {
            (count.fetch_add(1, Ordering::SeqCst) == 0).then(|| Reply::ok(&whole).cut(20_000))
        });
        let rig = Hosts::default().rig();
        let image = format!("{}/app", registry.address());
        assert_eq!(rig.blob(&image, &digest, 0).await.expect("a blob"), (0, blob));
        assert_eq!(registry.requests()[1].header("range"), Some("bytes=20000-"));
        assert_eq!(rig.waits(), [Duration::from_millis(500)]);
    }
}

#[tokio::test]
async fn a_transfer_that_makes_progress_may_be_cut_often() {
    let registry = stocked();
    let blob = bytes(10_000);
    let digest = registry.put_blob(&blob);
    let whole = blob.clone();
    registry.script(move |request| {
        let range = request.header("range").and_then(|range| range.strip_prefix("bytes="));
        let from: usize =
            range.and_then(|range| range.strip_suffix('-')?.parse().ok()).unwrap_or(0);
        let content_range = format!("bytes {from}-{}/{}", whole.len() - 1, whole.len());
        let status = if from == 0 { 200 } else { 206 };
        let reply = Reply::status(status).body(&whole[from..]);
        Some(reply.header("Content-Range", &content_range).cut(1000))
    });
    let rig = Hosts::default().rig();
    let (_, found) =
        rig.blob(&format!("{}/app", registry.address()), &digest, 0).await.expect("a blob");
    assert_eq!(found, blob);
    assert!(registry.requests().len() >= 10);
}

#[tokio::test]
async fn a_transfer_without_progress_ends() {
    let registry = stocked();
    let digest = registry.put_blob(b"0123456789");
    registry.script(|request| match request.header("range") {
        None => Some(Reply::ok(b"0123456789").cut(5)),
        Some(_) => Some(Reply::status(206).cut(0)),
    });
    let rig = Hosts::default().rig();
    let error = rig.blob(&format!("{}/app", registry.address()), &digest, 0).await;
    assert!(matches!(error, Err(RegistryError::Broken { .. })), "{error:?}");
    assert!(rig.waits().len() < 30, "{:?}", rig.waits());
}

#[tokio::test]
async fn the_rest_must_be_the_rest() {
    for range in ["bytes 4-9/10", "bytes 5-8/10", "bytes 5-9/11", "nonsense"] {
        let registry = stocked();
        let digest = registry.put_blob(b"0123456789");
        let range = range.to_owned();
        registry.script(move |request| {
            request.header("range")?;
            Some(Reply::status(206).header("Content-Range", &range).body(b"56789"))
        });
        let rig = Hosts::default().rig();
        let error = rig.blob(&format!("{}/app", registry.address()), &digest, 5).await;
        assert!(matches!(error, Err(RegistryError::Range { .. })), "{error:?}");
    }
}

#[tokio::test]
async fn a_blob_of_another_length_is_not_the_same() {
    let registry = stocked();
    let digest = registry.put_blob(b"0123456789");
    registry.script(|request| match request.header("range") {
        None => Some(Reply::ok(b"0123456789").cut(5)),
        Some(_) => Some(Reply::status(206).header("Content-Range", "bytes 5-7/8").body(b"567")),
    });
    let rig = Hosts::default().rig();
    let error = rig.blob(&format!("{}/app", registry.address()), &digest, 0).await;
    assert!(matches!(error, Err(RegistryError::Range { .. })), "{error:?}");
}

#[tokio::test]
async fn a_transfer_that_stands_still_is_taken_up_again() {
    let registry = stocked();
    let blob = bytes(3000);
    let digest = registry.put_blob(&blob);
    let (count, whole) = (AtomicUsize::new(0), blob.clone());
    registry.script(move |_| {
        (count.fetch_add(1, Ordering::SeqCst) == 0).then(|| Reply::ok(&whole).stall(1000))
    });
    let rig = Hosts::default().rig();
    let image = reference(&format!("{}/app", registry.address()));
    let digest = digest.parse().expect("a digest");
    let mut stream = rig.client.blob(&image, &digest, 0).await.expect("a stream");
    assert_eq!(stream.total(), Some(3000));
    let mut found = Vec::new();
    while found.len() < 1000 {
        found.extend_from_slice(&stream.next().await.expect("more").expect("bytes"));
    }
    {
        let next = stream.next();
        tokio::pin!(next);
        // The clock of the client is moved only while it waits for what never comes.
        tokio::select! {
            biased;
            _ = &mut next => unreachable!("the server stands still"),
            () = std::future::ready(()) => {}
        }
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(61)).await;
        tokio::time::resume();
        found.extend_from_slice(&next.await.expect("more").expect("bytes"));
    }
    while let Some(chunk) = stream.next().await {
        found.extend_from_slice(&chunk.expect("bytes"));
    }
    assert_eq!((found == blob, stream.resumed()), (true, 1));
}

#[tokio::test]
async fn too_many_requests_wait_as_long_as_the_server_says() {
    let registry = stocked();
    let count = AtomicUsize::new(0);
    registry.script(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Some(Reply::status(429).header("Retry-After", "7")),
        // The next request needs another connection, and that one is cut.
        1 => Some(Reply::status(503).cut(1)),
        2 => Some(Reply::status(500).cut(0)),
        _ => None,
    });
    let rig = Hosts::default().rig();
    rig.manifest(&format!("{}/app", registry.address())).await.expect("a manifest");
    let millis: Vec<_> = rig.waits().iter().map(Duration::as_millis).collect();
    assert_eq!(millis, [7000, 1000, 2000]);
}

#[tokio::test]
async fn a_limit_that_lasts_is_told() {
    let registry = stocked();
    registry.script(|_| Some(Reply::status(429).header("Retry-After", "3600")));
    let rig = Hosts::default().rig();
    let at = registry.address();
    let error = rig.manifest(&format!("{at}/app")).await.expect_err("limited");
    assert_eq!(
        chain(&error),
        format!("{at} allows no more requests for now (try again in 3600 s)")
    );
    assert!(rig.waits().is_empty());

    registry.script(|_| Some(Reply::status(429)));
    let error = rig.manifest(&format!("{at}/app")).await.expect_err("limited");
    assert!(matches!(error, RegistryError::RateLimited { seconds: None, .. }), "{error}");
    assert_eq!(rig.waits().len(), 4);
}

#[tokio::test]
async fn a_server_in_trouble_is_told_with_its_words() {
    let registry = stocked();
    registry.script(|_| Some(Reply::error(500, "UNKNOWN", "the disk\u{1b}[31m is full")));
    let rig = Hosts::default().rig();
    let at = registry.address();
    let error = rig.manifest(&format!("{at}/app")).await.expect_err("trouble");
    assert_eq!(chain(&error), format!("{at} answered with status 500: the disk[31m is full"));
    assert_eq!(registry.requests().len(), 5);
    registry.script(|_| Some(Reply::ok(b"x").cut(0)));
    let error = rig.manifest(&format!("{at}/app")).await.expect_err("cut");
    let http = matches!(error, RegistryError::Broken { source: BrokenError::Http(_), .. });
    assert!(http, "{error:?}");
}
