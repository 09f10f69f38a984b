//! What is built once only, and how long it is kept.

use super::lab::Lab;
use matchlock_image::store::{CACHE_BYTES, KEPT};
use std::time::Duration;

const TEXT: &str = "FROM base\nARG V=1\nCOPY a /a\nRUN write /b $V\nRUN write /c 2\n";

fn lab() -> Lab {
    let lab = Lab::new();
    lab.put("a", "1");
    lab
}

#[test]
fn nothing_is_done_twice() {
    let mut lab = lab();
    let first = lab.build(TEXT);
    assert_eq!((first.cached, lab.ran.len()), (0, 2));
    lab.now += Duration::from_secs(60);
    lab.put("a", "1");
    let second = lab.build(TEXT);
    assert_eq!((second.cached, lab.ran.len()), (3, 0));
    assert_eq!(first.image.layers, second.image.layers);
    assert_eq!(lab.events.iter().filter(|event| *event == "CACHED").count(), 3);
    lab.no_cache = true;
    assert_eq!(lab.build(TEXT).cached, 0);
    assert_eq!(lab.ran.len(), 2);
}

#[test]
fn what_changes_is_done_again_and_what_follows() {
    let mut lab = lab();
    lab.build(TEXT);
    lab.put("a", "2");
    lab.build(TEXT);
    assert_eq!(lab.ran.len(), 2, "a file of the context");
    lab.args = vec![("V", "2")];
    lab.build(TEXT);
    assert_eq!(lab.ran.len(), 2, "an argument");
    lab.args = vec![("V", "2"), ("http_proxy", "x")];
    lab.build(TEXT);
    assert_eq!(lab.ran.len(), 0, "a proxy changes nothing");
    for line in ["ENV X=1", "USER app", "WORKDIR /srv", "SHELL [\"s\", \"-c\"]"] {
        lab.build(&TEXT.replace("COPY a /a\n", &format!("COPY a /a\n{line}\n")));
        assert_eq!(lab.ran.len(), 2, "{line}");
    }
    lab.build(&TEXT.replace("COPY a /a\n", "COPY a /a\nLABEL x=y\nCMD z\n"));
    assert_eq!(lab.ran.len(), 0, "what no command sees");
    lab.build(&TEXT.replace("COPY a", "COPY --chmod=600 a"));
    assert_eq!(lab.ran.len(), 2, "a mode");
}

#[test]
fn steps_before_a_failure_are_kept() {
    let mut lab = lab();
    lab.error("FROM base\nRUN write /x 1\nRUN exit 1\n");
    lab.build("FROM base\nRUN write /x 1\nRUN say 1\n");
    assert_eq!(lab.ran.len(), 1);
}

#[test]
fn layers_stay_while_an_entry_leads_to_them() {
    let mut lab = lab();
    // What gc asks for the time is the system's clock.
    lab.now = std::time::SystemTime::now();
    let before = lab.blobs();
    let built = lab.build(TEXT);
    lab.store.remove("result").expect("removed");
    let kept = lab.blobs();
    assert_eq!(kept, before + 3, "three layers, no index");
    assert_eq!(lab.store.gc().expect("collected").blobs, 0);
    assert_eq!(lab.build(TEXT).cached, 3);
    assert_eq!(
        lab.store.find_tag("result").expect("look").expect("found").layers,
        built.image.layers
    );
    lab.store.remove("result").expect("removed");
    lab.store.trim_build_cache(CACHE_BYTES, lab.now + KEPT).expect("trimmed");
    assert_eq!(lab.blobs(), kept, "not a second too early");
    lab.store
        .trim_build_cache(CACHE_BYTES, lab.now + KEPT + Duration::from_secs(1))
        .expect("trimmed");
    assert_eq!(lab.blobs(), before);
    assert_eq!(lab.build(TEXT).cached, 0);
}

#[test]
fn the_first_steps_are_dropped_last() {
    let mut lab = lab();
    lab.build(TEXT);
    let built = lab.build(TEXT);
    lab.store.remove("result").expect("removed");
    let layer = |at: usize| {
        use std::os::unix::fs::MetadataExt as _;
        let path = lab.store.blob_path(&built.image.layers[at].diff_id);
        std::fs::metadata(path).expect("a layer").blocks() * 512
    };
    let bytes = layer(1) + layer(2);
    lab.store.trim_build_cache(bytes, lab.now).expect("trimmed");
    assert_eq!(lab.build(TEXT).cached, 2);
    assert_eq!(lab.ran.len(), 1);
}

#[test]
fn an_image_keeps_what_the_cache_forgets() {
    let mut lab = lab();
    let built = lab.build(TEXT);
    lab.store.trim_build_cache(0, lab.now).expect("trimmed");
    assert!(lab.store.is_whole(&built.image).expect("look"));
    assert_eq!(lab.file(&built, "/c"), "600 3:0 2");
    assert_eq!(lab.build(TEXT).cached, 0);
}
