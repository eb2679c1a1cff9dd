//! Properties of file systems that their type tells (statfs(2), linux/magic.h).

use rustix::fd::AsFd;
use rustix::fs::{FsWord, fstatfs};

use crate::body::file_range::Storage;

const AFS: FsWord = 0x5346_414f;
const BTRFS: FsWord = 0x9123_683e;
const CEPH: FsWord = 0x00c3_6400;
const CIFS: FsWord = 0xff53_4d42;
const EXT4: FsWord = 0xef53;
const F2FS: FsWord = 0xf2f5_2010;
const FUSE: FsWord = 0x6573_5546;
const NFS: FsWord = 0x6969;
const RAMFS: FsWord = 0x8584_58f6;
const SMB2: FsWord = 0xfe53_4d42;
const TMPFS: FsWord = 0x0102_1994;
const V9FS: FsWord = 0x0102_1997;
const XFS: FsWord = 0x5846_5342;

/// True for file systems that contact another machine or process whenever a file is opened.
pub(super) fn is_remote(file: impl AsFd) -> bool {
    let remote = [AFS, CEPH, CIFS, FUSE, NFS, SMB2, V9FS];
    fstatfs(file).is_ok_and(|system| remote.contains(&system.f_type))
}

/// True for file systems that only this machine changes, so that inotify reports all changes.
pub(super) fn is_local(file: impl AsFd) -> bool {
    let local = [BTRFS, EXT4, F2FS, TMPFS, XFS];
    fstatfs(file).is_ok_and(|system| local.contains(&system.f_type))
}

/// Returns where the bytes of a file system are. Reading from a disk or another machine may block.
pub(in crate::files) fn storage(file: impl AsFd) -> Storage {
    match fstatfs(file).map(|system| system.f_type) {
        Ok(TMPFS | RAMFS) => Storage::PageCacheOnly,
        _ => Storage::Backed,
    }
}
