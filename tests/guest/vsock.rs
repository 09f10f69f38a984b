//! The control channel against programs of the guest.

use crate::lab::Lab;
use crate::run::{Program, argv, python};

cases![
    a_program_without_privileges_has_no_such_sockets,
    no_program_reaches_a_port_of_the_host,
    no_program_reaches_the_agent,
    the_port_of_the_agent_cannot_be_taken,
    a_flood_of_connections_leaves_the_control_channel_working,
];

/// Connects to `cid:port` pairs and writes what comes of each.
const CONNECT: &str = "
import errno, fcntl, socket, struct, sys
def own():
    try:
        with open('/dev/vsock', 'rb') as device:
            answer = fcntl.ioctl(device, socket.IOCTL_VM_SOCKETS_GET_LOCAL_CID, bytes(4))
        return struct.unpack('I', answer)[0]
    except PermissionError:
        return 3
for target in sys.argv[1:]:
    cid, port = target.split(':')
    cid = own() if cid == 'own' else int(cid)
    client = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    client.settimeout(20)
    try:
        client.connect((cid, int(port)))
        # A ping to the agent: the kind of the frame, its length, the request.
        client.sendall(bytes([0x10, 0, 0, 0, 1, 3]))
        print('answered' if client.recv(1) else 'closed')
    except OSError as error:
        print(errno.errorcode.get(error.errno, 'timeout'))
";

fn connect(targets: &[String]) -> Program {
    let words = ["python3", "-ISc", CONNECT].into_iter().chain(targets.iter().map(String::as_str));
    argv(words)
}

async fn a_program_without_privileges_has_no_such_sockets(lab: &Lab) {
    let script = "
import socket
try:
    print(socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM))
except PermissionError:
    print('refused')
";
    for user in ["root", "nobody"] {
        let text = python(script).user(user).text(lab.plain().await).await;
        assert_eq!(text, "refused", "{user}");
    }
}

// The others have every privilege that there is.

async fn no_program_reaches_a_port_of_the_host(lab: &Lab) {
    let ports = [0, 1, 22, 1024, 5000, 5001, 5002, u32::MAX - 1];
    let targets = ports.map(|port| format!("2:{port}"));
    for user in ["root", "nobody"] {
        let text = connect(&targets).user(user).text(lab.privileged().await).await;
        assert_eq!(text.lines().collect::<Vec<_>>(), ["ECONNRESET"; 8], "{user}");
    }
}

async fn no_program_reaches_the_agent(lab: &Lab) {
    // VMADDR_CID_HYPERVISOR, _LOCAL and _ANY of vsock(7), and the guest itself.
    let targets = ["0:5000", "1:5000", "4294967295:5000", "own:5000", "own:5001", "99:5000"];
    let targets = targets.map(str::to_owned);
    for user in ["root", "nobody"] {
        let text = connect(&targets).user(user).text(lab.privileged().await).await;
        for (target, result) in targets.iter().zip(text.lines()) {
            assert!(result.starts_with('E'), "{target} as {user}: {result}");
        }
    }
}

async fn the_port_of_the_agent_cannot_be_taken(lab: &Lab) {
    let script = "
import errno, socket
for reuse in 0, 1:
    for cid in 0xffffffff, 1, 2, 3:
        thief = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        try:
            thief.bind((cid, 5000))
            thief.listen()
            print('bound')
        except OSError as error:
            print(errno.errorcode[error.errno])
";
    let sandbox = lab.privileged().await;
    let text = argv(["python3", "-ISc", script]).text(sandbox).await;
    for result in text.lines() {
        assert!(["EADDRINUSE", "EADDRNOTAVAIL"].contains(&result), "{text}");
    }
    assert!(text.contains("EADDRINUSE"), "{text}");
    assert_eq!(argv(["echo", "ours"]).text(sandbox).await, "ours");
}

async fn a_flood_of_connections_leaves_the_control_channel_working(lab: &Lab) {
    let script = "
import socket
print('flooding', flush=True)
refused = 0
for number in range(2000):
    client = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    client.setblocking(number % 2 == 0)
    try:
        client.connect((2, 5000 + number % 7))
    except OSError:
        refused += 1
print(refused)
";
    let sandbox = lab.privileged().await;
    let mut flood = argv(["python3", "-ISc", script]).user("nobody").start(sandbox).await;
    flood.wait_for("flooding").await;
    assert_eq!(argv(["echo", "during"]).text(sandbox).await, "during");
    assert_eq!(flood.ended().await.out(), "flooding\n2000\n");
    assert_eq!(argv(["echo", "after"]).text(sandbox).await, "after");
}
