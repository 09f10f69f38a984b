//! `write_file`, `read_file` and `list_files`.

use std::time::{Duration, SystemTime};

use matchlock_api::{
    Base64, ContentResult, Empty, ErrorCode, ErrorKind, FileInfo, FileMode, ListFilesResult,
    PathParams, RpcError, WriteFileParams,
};
use matchlock_proto::FileEntry;
use matchlock_text::rfc3339;

use super::Service;
use crate::exec::ExecError;
use crate::files::FileError;

/// The longest file that `read_file` reads, in bytes: contract, section 2.9.
const MAX_READ: u64 = 16 * 1024 * 1024;

impl Service {
    pub(super) async fn write_file(&self, params: WriteFileParams) -> Result<Empty, RpcError> {
        let (up, mode) = (self.up()?, params.mode());
        let path = path("write_file", &params.path)?;
        let written = up.sandbox.write_file(path, mode, &params.content.0).await;
        written.map_err(|error| self.of_file("write_file", &params.path, error))?;
        Ok(Empty {})
    }

    pub(super) async fn read_file(&self, params: PathParams) -> Result<ContentResult, RpcError> {
        let up = self.up()?;
        let read = up.sandbox.read_file(path("read_file", &params.path)?, MAX_READ).await;
        let content = read.map_err(|error| match error {
            FileError::TooLong(max) => {
                let text = format!("read_file exceeds {max} bytes: {}", params.path.escape_debug());
                RpcError::new(ErrorCode::File, ErrorKind::InvalidArgument, text)
            }
            error => self.of_file("read_file", &params.path, error),
        })?;
        Ok(ContentResult { content: Base64(content) })
    }

    pub(super) async fn list_files(&self, params: PathParams) -> Result<ListFilesResult, RpcError> {
        let up = self.up()?;
        let listed = up.sandbox.list_files(path("list_files", &params.path)?).await;
        let entries = listed.map_err(|error| self.of_file("list_files", &params.path, error))?;
        Ok(ListFilesResult { files: entries.iter().map(info).collect() })
    }

    fn of_file(&self, method: &str, path: &str, error: FileError) -> RpcError {
        if matches!(error, FileError::Exec(ExecError::NotRunning)) {
            return self.fault(ErrorCode::Sandbox).of()(ExecError::NotRunning);
        }
        self.fault(ErrorCode::File).doing(&format!("{method} {path}"))(error)
    }
}

fn path<'a>(method: &str, path: &'a str) -> Result<&'a [u8], RpcError> {
    if path.is_empty() || path.contains('\0') {
        let text = format!("{method}: a path is required");
        let error = RpcError::new(ErrorCode::InvalidParams, ErrorKind::InvalidArgument, text);
        return Err(error.of_field("path"));
    }
    Ok(path.as_bytes())
}

fn info(entry: &FileEntry) -> FileInfo {
    let mode = FileMode::from_unix(entry.mode);
    FileInfo {
        name: String::from_utf8_lossy(&entry.name).into_owned(),
        size: entry.size,
        mode,
        mod_time: rfc3339(modified(entry)),
        is_dir: mode.is_dir(),
    }
}

/// Times that nobody can write down are those of 1970.
fn modified(entry: &FileEntry) -> SystemTime {
    let whole = Duration::new(entry.modified_s.unsigned_abs(), 0);
    let second = match entry.modified_s {
        0.. => SystemTime::UNIX_EPOCH.checked_add(whole),
        _ => SystemTime::UNIX_EPOCH.checked_sub(whole),
    };
    let at = second.and_then(|at| at.checked_add(Duration::new(0, entry.modified_ns)));
    // Year 9999, the last that RFC 3339 has.
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    at.filter(|at| (SystemTime::UNIX_EPOCH..=last).contains(at)).unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(modified_s: i64) -> FileEntry {
        FileEntry { name: b"a\xff".into(), size: 3, mode: 0o040_755, modified_s, modified_ns: 0 }
    }

    #[test]
    fn an_entry_has_the_keys_that_clients_read() {
        let info = info(&entry(1_767_323_045));
        assert_eq!((info.name.as_str(), info.size, info.is_dir), ("a\u{fffd}", 3, true));
        assert_eq!(info.mode.0, 2_147_484_141);
        assert!(info.mod_time.starts_with("2026-01-02T03:04:05"), "{}", info.mod_time);
    }

    #[test]
    fn a_guest_can_have_any_time() {
        for seconds in [i64::MIN, -1, 0, 253_402_300_800, i64::MAX] {
            let time = info(&entry(seconds)).mod_time;
            assert!(time.starts_with("1970-01-01T00:00:00"), "{seconds}: {time}");
        }
    }
}
