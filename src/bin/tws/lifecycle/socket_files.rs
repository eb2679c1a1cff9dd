//! The files of the Unix sockets that this process has created. They are removed when it ends, so that
//! clients see at once that there is no server.

use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tws::ServerHandle;

use crate::sync::Mutex;

/// The files; clones share them.
#[derive(Clone, Default)]
pub(crate) struct SocketFiles(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Removed at the end.
    own: Vec<SocketFile>,
    /// Those of the process that this one takes over from.
    inherited: Vec<SocketFile>,
}

struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    id: (u64, u64),
}

/// Removes the files when it is dropped.
pub(crate) struct RemoveAtEnd(pub(crate) SocketFiles);

impl SocketFiles {
    /// Adds the sockets of a server, which has just created them.
    pub(crate) fn add(&self, server: &ServerHandle) {
        self.0.lock().own.extend(files_of(server));
    }

    /// Adds the sockets of a server, which the previous process has created. That process owns them
    /// until [`take_over`](Self::take_over) is called.
    pub(crate) fn add_inherited(&self, server: &ServerHandle) {
        self.0.lock().inherited.extend(files_of(server));
    }

    /// Makes the inherited sockets those of this process.
    pub(crate) fn take_over(&self) {
        let mut state = self.0.lock();
        let inherited = std::mem::take(&mut state.inherited);
        state.own.extend(inherited);
    }

    /// Returns true if this process has sockets to remove.
    pub(crate) fn has_own(&self) -> bool {
        !self.0.lock().own.is_empty()
    }

    /// Returns the folders of the files.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        let state = self.0.lock();
        let files = state.own.iter().chain(&state.inherited);
        let folders = files.filter_map(|file| file.path.parent());
        folders.map(Path::to_owned).collect()
    }

    /// Keeps the files: another process serves the sockets.
    pub(crate) fn hand_over(&self) {
        self.0.lock().own.clear();
    }

    /// Removes the files, unless another process has replaced them.
    fn remove(&self) {
        for file in self.0.lock().own.drain(..) {
            if socket_id(&file.path) != Some(file.id) {
                continue;
            }
            if let Err(error) = fs::remove_file(&file.path) {
                log::debug!("cannot remove the socket {}: {error}", file.path.display());
            }
        }
    }
}

impl Drop for RemoveAtEnd {
    fn drop(&mut self) {
        self.0.remove();
    }
}

fn files_of(server: &ServerHandle) -> impl Iterator<Item = SocketFile> {
    server.unix_sockets().iter().filter_map(|path| {
        let path = std::path::absolute(path).ok()?;
        let id = socket_id(&path)?;
        Some(SocketFile { path, id })
    })
}

fn socket_id(path: &Path) -> Option<(u64, u64)> {
    let is_socket = |metadata: &Metadata| metadata.file_type().is_socket();
    let metadata = fs::symlink_metadata(path).ok().filter(is_socket)?;
    Some((metadata.dev(), metadata.ino()))
}
