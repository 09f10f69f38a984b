//! Files through the server: the streams of an execution carry them.

use matchlock_proto::{
    AgentFrame, ExecFailure, FileEntry, FileRequest, HostFrame, INITIAL_WINDOW, MAX_DATA, Request,
    StreamId,
};

use crate::support::{Agent, Client, exited};

const SIZE: usize = 3 * INITIAL_WINDOW as usize + 11;

fn content() -> Vec<u8> {
    (0..SIZE).map(|i| (i % 249) as u8).collect()
}

/// Sends all of an input within the credit, and its end.
fn feed(client: &mut Client, bytes: &[u8]) {
    let mut credit = INITIAL_WINDOW as usize;
    for chunk in bytes.chunks(MAX_DATA) {
        while credit < chunk.len() {
            match client.next() {
                Some(AgentFrame::Credit(StreamId::Stdin, bytes)) => credit += bytes as usize,
                other => panic!("{other:?}"),
            }
        }
        credit -= chunk.len();
        client.send(&HostFrame::Stdin(chunk.to_vec()));
    }
    client.send(&HostFrame::StdinEof);
}

#[test]
fn a_file_of_several_windows_is_written_and_read_again() {
    let Some(agent) = Agent::start() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("new/file").to_str().expect("UTF-8").as_bytes().to_vec();
    let mut client =
        agent.open(Request::File(FileRequest::Write { path: path.clone(), mode: 0o600 }));
    assert_eq!(client.next(), Some(AgentFrame::Started));
    feed(&mut client, &content());
    assert_eq!(client.finish().end, exited(0));
    let read = agent.open(Request::File(FileRequest::Read { path, max: SIZE as u64 })).finish();
    assert!(read.end == exited(0) && read.stdout == content() && read.stderr.is_empty());
}

#[test]
fn a_directory_is_listed_and_an_error_is_its_number() {
    let Some(agent) = Agent::start() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("one"), "1").expect("written");
    let path = directory.path().to_str().expect("UTF-8").as_bytes().to_vec();
    let listed = agent.open(Request::File(FileRequest::List { path })).finish();
    assert_eq!(listed.end, exited(0));
    let mut rest = listed.stdout.as_slice();
    let entry = FileEntry::take(&mut rest).expect("an entry").expect("one");
    assert_eq!((entry.name, entry.size, rest), (b"one".to_vec(), 1, &b""[..]));
    let none = FileRequest::List { path: b"/no/such/directory".to_vec() };
    assert_eq!(agent.open(Request::File(none)).finish().end, exited(2));
    agent.wait_until_empty();
}

#[test]
fn a_tree_is_copied_by_two_requests() {
    let Some(agent) = Agent::start() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let path =
        |name: &str| directory.path().join(name).to_str().expect("UTF-8").as_bytes().to_vec();
    std::fs::create_dir(directory.path().join("from")).expect("made");
    std::fs::write(directory.path().join("from/file"), content()).expect("written");
    let pack = FileRequest::Pack { path: path("from"), follow: false };
    let packed = agent.open(Request::File(pack)).finish();
    assert!(packed.end == exited(0) && packed.stderr.is_empty());
    let name = Some(b"from".to_vec());
    let unpack = FileRequest::Unpack { path: path("to"), name, archive: false };
    let mut client = agent.open(Request::File(unpack));
    assert_eq!(client.next(), Some(AgentFrame::Started));
    feed(&mut client, &packed.stdout);
    assert_eq!(client.finish().end, exited(0));
    assert!(std::fs::read(directory.path().join("to/file")).expect("there") == content());
}

#[test]
fn before_the_boot_there_are_no_files() {
    let Some(agent) = Agent::unbooted() else { return };
    let request = FileRequest::Read { path: b"/etc/passwd".to_vec(), max: 1 };
    let end = agent.open(Request::File(request)).finish().end;
    assert!(matches!(end, AgentFrame::Refused(ExecFailure::BadRequest(_))), "{end:?}");
}
