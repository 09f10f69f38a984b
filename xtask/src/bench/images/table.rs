//! The figures for people.

use serde_json::Value;

/// Prints to standard error.
pub(super) fn print(report: &Value) {
    eprintln!();
    let pull = &report["pull"];
    row("skopeo copy to a directory, median", &pull["skopeo_ms"]["median"], "ms");
    row("matchlock pull to an empty store, median", &pull["pull_ms"]["median"], "ms");
    row("  ratio of the medians", &pull["ratio"]["of_medians"], "");
    row("  CPU time of skopeo, median", &pull["skopeo_cpu_ms"]["median"], "ms");
    row("  CPU time of matchlock, median", &pull["pull_cpu_ms"]["median"], "ms");
    row("  most memory of matchlock", &pull["pull_peak_kib"], "KiB");
    let size = &pull["size"];
    row("layers, compressed", &size["compressed_bytes"], "bytes");
    row("layers, tar", &size["tar_bytes"], "bytes");
    row("store", &size["store_bytes"], "bytes");
    row("  over tar", &size["store_over_tar"], "");
    row("  over compressed", &size["store_over_compressed"], "");
    let start = &report["start"];
    if start.is_object() {
        row("run --image host -- true, median", &start["host_ms"]["median"], "ms");
        row("run of a stored image, median", &start["image_ms"]["median"], "ms");
        row("  added, median of pairs", &start["added_ms"]["of_pairs"]["median"], "ms");
    }
    let read = &report["read"];
    if read.is_object() {
        row("all files read, of them", &read["files"], "files");
        row("  in all", &read["bytes"], "bytes");
        row("  from the image, median", &read["erofs_ms"]["median"], "ms");
        row("  from ext4, median", &read["ext4_ms"]["median"], "ms");
        row("  ratio, median of pairs", &read["ratio"]["of_pairs"]["median"], "");
    }
}

fn row(name: &str, value: &Value, unit: &str) {
    eprintln!("{name:<44} {value:>12} {unit}");
}
