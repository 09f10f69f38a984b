//! The figures for people.

use serde_json::Value;

/// Prints to standard error.
pub(super) fn print(report: &Value) {
    eprintln!();
    let columns = ("", "direct", "intercepted", "ratio");
    eprintln!("{:<44} {:>12} {:>12} {:>7}", columns.0, columns.1, columns.2, columns.3);
    bulk(&report["bulk"]);
    requests(&report["requests"]);
    first_event(&report["first_event"]);
    handshakes(&report["handshakes"]);
    memory("proxy", &report["memory"], ["proxy_kib", "proxy_with_flows_kib"]);
    guest(&report["guest"]);
}

fn bulk(bulk: &Value) {
    for (name, entry) in objects(bulk) {
        let what = format!("{} of {} MB, MB/s", name.replace('_', ", "), bulk["megabytes"]);
        let (direct, intercepted) =
            (&entry["direct_mb_per_second"], &entry["intercepted_mb_per_second"]);
        row(&what, &direct["median"], &intercepted["median"], &entry["ratio"]);
    }
}

fn requests(requests: &Value) {
    for (name, entry) in objects(requests) {
        let what = format!("{}, {} at once, per second", name.replace('_', ", "), entry["at_once"]);
        let (direct, intercepted) = (&entry["direct_per_second"], &entry["intercepted_per_second"]);
        row(&what, &direct["median"], &intercepted["median"], &entry["ratio"]);
    }
}

fn first_event(event: &Value) {
    let (direct, intercepted) = (&event["direct_ms"], &event["intercepted_ms"]);
    row("first event, ms", &direct["median"], &intercepted["median"], &Value::Null);
    eprintln!("  added: {} ms", event["added_ms"]);
}

fn handshakes(handshakes: &Value) {
    for visit in ["first_visit", "second_visit"] {
        let entry = &handshakes[visit];
        let what = format!("handshake, {}, ms", visit.replace('_', " "));
        let (direct, intercepted) = (&entry["direct_ms"], &entry["intercepted_ms"]);
        row(&what, &direct["median"], &intercepted["median"], &Value::Null);
    }
}

fn memory(whose: &str, memory: &Value, [before, with]: [&str; 2]) {
    eprintln!(
        "{whose}: {} KiB, with {} open flows {} KiB, {} KiB a flow",
        memory[before], memory["flows"], memory[with], memory["kib_per_flow"]
    );
}

fn guest(guest: &Value) {
    if guest.is_null() {
        return;
    }
    eprintln!(
        "from a guest, {} MB each (the host direct: {} MB/s)",
        guest["megabytes"], guest["host_direct_download_mb_per_second"]
    );
    for (mtu, entry) in objects(guest).filter(|(name, _)| name.starts_with("mtu_")) {
        for (name, transfer) in objects(entry) {
            let what = format!("  {}, {}", mtu.replace('_', " "), name.replace('_', ", "));
            eprintln!("{what:<44} {:>12} MB/s", transfer["mb_per_second"].to_string());
        }
    }
    let fields = ["supervisor_kib", "supervisor_with_flows_kib"];
    memory("supervisor of a guest", &guest["memory"], fields);
}

/// The fields that are objects themselves.
fn objects(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten().filter(|(_, value)| value.is_object())
}

fn row(what: &str, direct: &Value, intercepted: &Value, ratio: &Value) {
    let [direct, intercepted, ratio] = [direct, intercepted, ratio]
        .map(|value| value.as_f64().map_or_else(String::new, |number| format!("{number:.3}")));
    eprintln!("{what:<44} {direct:>12} {intercepted:>12} {ratio:>7}");
}
