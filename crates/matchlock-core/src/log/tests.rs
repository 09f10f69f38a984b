use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;

/// All records that are there.
fn records(reader: &mut LogReader) -> Vec<LogRecord> {
    std::iter::from_fn(|| reader.read().expect("read")).collect()
}

fn all(directory: &Path) -> Vec<LogRecord> {
    records(&mut LogReader::open(directory).expect("open"))
}

fn bytes_of(records: &[LogRecord], source: LogSource) -> Vec<u8> {
    let of = records.iter().filter(|record| record.source == source);
    of.flat_map(|record| record.bytes().to_vec()).collect()
}

/// Bytes of both files.
fn size(directory: &Path) -> u64 {
    let length = |name| directory.join(name).metadata().map_or(0, |file| file.len());
    length(CURRENT) + length(OLDER)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn bytes_of_each_source_are_had_back_exactly(
        written in proptest::collection::vec(
            (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..80)), 0..40),
        text in "\\PC{0,20}",
    ) {
        let dir = tempfile::tempdir().expect("tempdir");
        let log = Log::open(dir.path());
        let mut expected = [Vec::new(), Vec::new()];
        for (is_error, bytes) in &written {
            // A text that is cut anywhere comes back, too.
            let bytes = [text.as_bytes(), bytes].concat();
            let source = if *is_error { LogSource::Stderr } else { LogSource::Stdout };
            log.append(source, &bytes);
            expected[usize::from(*is_error)].extend(bytes);
        }
        log.close();
        let records = all(dir.path());
        prop_assert_eq!(&bytes_of(&records, LogSource::Stdout), &expected[0]);
        prop_assert_eq!(&bytes_of(&records, LogSource::Stderr), &expected[1]);
        prop_assert!(records.is_sorted_by_key(|record| record.at.clone()));
    }
}

#[test]
fn two_files_have_the_end_and_never_more_than_their_bounds() {
    const LIMIT: u64 = 10_000;
    let dir = tempfile::tempdir().expect("tempdir");
    let log = Log::within(dir.path(), LIMIT);
    for number in 0..5_000 {
        log.append(LogSource::Stdout, format!("line {number}\n").as_bytes());
        if number % 500 == 0 {
            log.settle();
            assert!(size(dir.path()) <= 2 * LIMIT);
        }
    }
    log.close();
    assert!(size(dir.path()) <= 2 * LIMIT && size(dir.path()) > LIMIT);
    let content = bytes_of(&all(dir.path()), LogSource::Stdout);
    let content = String::from_utf8(content).expect("text");
    let first: usize = content.lines().next().and_then(|line| line[5..].parse().ok()).expect("one");
    let expected: String = (first..5_000).map(|number| format!("line {number}\n")).collect();
    assert_eq!(content, expected, "the newest lines without a gap");
    assert_eq!(fs::metadata(dir.path().join(CURRENT)).expect("stat").mode() & 0o777, 0o600);
}

#[test]
fn a_reader_follows_over_the_change_of_files_without_a_gap() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut reader = LogReader::open(dir.path()).expect("open");
    assert_eq!(records(&mut reader), [], "there is no log yet");
    let log = Log::within(dir.path(), 2_000);
    let mut seen = Vec::new();
    for number in 0..400 {
        log.append(LogSource::Stdout, format!("{number}\n").as_bytes());
        // No more than one file is filled between two reads.
        if number % 10 == 0 {
            log.settle();
            seen.extend(bytes_of(&records(&mut reader), LogSource::Stdout));
        }
    }
    log.close();
    // Names that are gone take nothing from who has the files open.
    let mut last = log.reader().expect("a reader");
    seen.extend(bytes_of(&records(&mut reader), LogSource::Stdout));
    fs::remove_dir_all(dir.path()).expect("remove");
    assert_eq!(records(&mut reader), []);
    let expected: String = (0..400).map(|number| format!("{number}\n")).collect();
    assert_eq!(String::from_utf8(seen).expect("text"), expected);
    let kept = bytes_of(&records(&mut last), LogSource::Stdout);
    assert!(!kept.is_empty() && expected.as_bytes().ends_with(&kept));
    assert!(bytes_of(&records(&mut log.reader().expect("another")), LogSource::Stdout) == kept);
}

#[test]
fn what_a_killed_writer_has_torn_is_passed_over_and_the_log_goes_on() {
    let dir = tempfile::tempdir().expect("tempdir");
    let log = Log::open(dir.path());
    log.append(LogSource::Stdout, b"first\n");
    log.close();
    let path = dir.path().join(CURRENT);
    let whole = fs::read(&path).expect("read");
    for cut in 0..whole.len() {
        fs::write(&path, [&whole[..], &whole[..cut]].concat()).expect("write");
        let log = Log::open(dir.path());
        log.append(LogSource::Stderr, b"second\n");
        log.close();
        let records = all(dir.path());
        let text: Vec<_> = records.iter().filter_map(|record| record.text.as_deref()).collect();
        // Only a line that was whole but for its end is read twice.
        let expected = ["first\n", "first\n", "second\n"];
        let torn = if cut + 1 == whole.len() { &expected[..] } else { &expected[1..] };
        assert_eq!(text, torn, "cut at {cut}");
    }
}

#[test]
fn a_log_that_cannot_be_written_drops_and_says_so_when_it_can() {
    let dir = tempfile::tempdir().expect("tempdir");
    let missing = dir.path().join("not there yet");
    let log = Log::open(&missing);
    log.append(LogSource::Stdout, b"12345");
    log.settle();
    log.append(LogSource::Console, b"678");
    log.settle();
    fs::create_dir(&missing).expect("mkdir");
    log.append(LogSource::Stdout, b"back");
    log.close();
    let records = all(&missing);
    let [loss, back] = &records[..] else { panic!("{records:?}") };
    assert_eq!((loss.source, loss.dropped, loss.bytes()), (LogSource::Log, Some(8), &b""[..]));
    assert_eq!((back.source, back.text.as_deref()), (LogSource::Stdout, Some("back")));
}

#[test]
fn a_full_disk_leaves_no_half_line() {
    // Every write to it fails as on a full disk (full(4)).
    let dir = tempfile::tempdir().expect("tempdir");
    std::os::unix::fs::symlink("/dev/full", dir.path().join(CURRENT)).expect("link");
    let log = Log::open(dir.path());
    log.append(LogSource::Stdout, b"lost");
    log.settle();
    fs::remove_file(dir.path().join(CURRENT)).expect("remove");
    log.close();
    assert_eq!(all(dir.path()), []);
}

#[test]
fn more_than_may_wait_is_dropped_and_nobody_waits_for_it() {
    let dir = tempfile::tempdir().expect("tempdir");
    let log = Log::open(dir.path());
    let piece = vec![b'x'; 64 * 1024];
    // 64 MiB at once, of which the queue holds a few: what it holds and what was dropped are all of it.
    for _ in 0..1024 {
        log.append(LogSource::Stdout, &piece);
    }
    log.settle();
    log.append(LogSource::Stdout, b"end");
    log.close();
    let records = all(dir.path());
    assert_eq!(records.last().and_then(|record| record.text.as_deref()), Some("end"));
    assert!(size(dir.path()) <= 2 * FILE_BYTES);
}

#[test]
fn lines_of_the_console_are_told_apart() {
    let dir = tempfile::tempdir().expect("tempdir");
    let log = Log::open(dir.path());
    let vmm = matchlock_vmm::Fake::new(|_, _| true);
    let console = b"[ 0.1] kernel\r\nmatchlock-agent: cannot\nmatchlock-agent\n\xff\n$ ";
    let null = || fs::File::open("/dev/null").expect("open");
    let spec = matchlock_vmm::VmSpec {
        name: "vm".into(),
        kernel: null(),
        initramfs: null(),
        cmdline: String::new(),
        vcpus: 1,
        memory_mib: 64,
        disks: Vec::new(),
        filesystems: Vec::new(),
        nic: None,
        console: Some(sink(Arc::clone(&log))),
    };
    let machine = matchlock_vmm::Vmm::start(&vmm.saying(console), spec).expect("start");
    drop(machine);
    log.close();
    let records = all(dir.path());
    assert_eq!(bytes_of(&records, LogSource::Agent), b"matchlock-agent: cannot\n");
    let rest = b"[ 0.1] kernel\r\nmatchlock-agent\n\xff\n$ ";
    assert_eq!(bytes_of(&records, LogSource::Console), rest);
}
