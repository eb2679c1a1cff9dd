//! The listing as JSON, in the format of nginx's `autoindex_format json`, so that its clients work.

use std::fmt::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;

use super::entries::{DirEntry, EntryKind};
use super::html::entry_link;
use crate::http::date;

pub(super) fn start(out: &mut String) {
    out.push('[');
}

pub(super) fn entry(out: &mut String, entry: &DirEntry<'_>, at: usize) -> fmt::Result {
    let comma = if at == 0 { "" } else { "," };
    let name = Value::String(String::from_utf8_lossy(entry.name).into_owned());
    let kind = match entry.kind {
        EntryKind::Directory => "directory",
        EntryKind::File => "file",
        EntryKind::Other => "other",
    };
    write!(out, "{comma}\n{{\"name\":{name}")?;
    // JSON has no text for such a name.
    if std::str::from_utf8(entry.name).is_err() {
        let slash = if entry.kind == EntryKind::Directory {
            "/"
        } else {
            ""
        };
        write!(out, ",\"href\":\"{}{slash}\"", entry_link(entry.name))?;
    }
    write!(out, ",\"type\":\"{kind}\"")?;
    if let Some(seconds) = entry.modified {
        let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        let time = UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH);
        write!(out, ",\"mtime\":\"{}\"", date::format(time))?;
    }
    if let Some(size) = entry.size {
        write!(out, ",\"size\":{size}")?;
    }
    out.write_char('}')
}

pub(super) fn end(out: &mut String) {
    out.push_str("\n]\n");
}
