//! [`Response::file`]: a file as a response, for handlers.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use ::http::StatusCode;
use ::http::header::{CONTENT_TYPE, LAST_MODIFIED};
use rustix::fs::OFlags;

use super::media_type::MediaTypes;
use super::root;
use crate::body::FileRange;
use crate::body::file_range::FileState;
use crate::http::{Response, date};
use crate::site::Site;

impl Response {
    /// Returns 200 (OK) with a file's content, its media type by its extension, and Last-Modified.
    /// Opening may block on a disk, so it is to be called in a job. Preconditions and ranges are
    /// not evaluated; [`StaticFiles`](crate::StaticFiles) does that, for a single file too.
    ///
    /// ```
    /// use std::io::ErrorKind;
    /// use tws::{HandlerResult, Request, Response, Router, StatusCode, blocking};
    ///
    /// fn report(_: &Request<'_>) -> HandlerResult {
    ///     match Response::file("report.pdf") {
    ///         Err(error) if error.kind() == ErrorKind::NotFound => Err(StatusCode::NOT_FOUND.into()),
    ///         file => Ok(file?),
    ///     }
    /// }
    ///
    /// let router = Router::new().get("/report", blocking(report));
    /// # use tws::Handler;
    /// # assert_eq!(router.handle(&Request::get("/report")).wait().status(), 404);
    /// ```
    ///
    /// # Errors
    ///
    /// Those of opening the file; `InvalidInput` if it is not a regular file.
    pub fn file(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        let file = OpenOptions::new()
            .read(true)
            // Opening a FIFO must not block; it is rejected below.
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            let text = format!("{} is not a regular file", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let len = metadata.len();
        let modified = metadata.modified()?;
        let state = FileState::new(len, modified, root::storage(&file));
        let range = FileRange::new(Arc::new(file), 0, len).with_state(&state);
        let media_type = MediaTypes::new(&Site::default()).of(path.as_os_str().as_bytes());
        Ok(Self::new(StatusCode::OK)
            .with_header(CONTENT_TYPE, media_type)
            .with_header(LAST_MODIFIED, date::format(modified))
            .with_body(range))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_has_media_type_date_and_content() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("page.html");
        std::fs::write(&path, "<p>one").expect("a file");
        let response = Response::file(&path).expect("a response");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
        assert!(response.headers().contains_key(LAST_MODIFIED));
        assert_eq!(response.into_content().expect("content"), b"<p>one");
        let kind = |path| Response::file(path).expect_err("no file").kind();
        assert_eq!(kind(folder.path().join("none")), io::ErrorKind::NotFound);
        assert_eq!(kind(folder.path().to_owned()), io::ErrorKind::InvalidInput);
    }
}
