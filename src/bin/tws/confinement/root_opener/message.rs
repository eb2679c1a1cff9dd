//! Requests and replies as packets. The root opener of one version of the program may serve later versions
//! after upgrades, so the format of packets with a version number never changes.
//!
//! A request is: the version, the policy about symbolic links, whether a folder is named (one byte each);
//! its device and inode (8 bytes each); the length of the root's path (2 bytes); this path; the path beneath
//! the root. As links out of the root are never followed, `Symlinks::Follow` is encoded as `Inside`. A reply is the error number (4 bytes), or 0 with a descriptor. Numbers are little-endian.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::io::Errno;
use tws::site::{DirectoryId, OpenRequest, Symlinks};

const VERSION: u8 = 1;

/// The first packet that the process sends, when it is ready. Another one is the text of an error.
pub(super) const READY: u8 = b'+';

/// The first packet if the kernel has no sandbox.
pub(super) const UNSUPPORTED: u8 = b'-';

/// Longer errors are cut off. In bytes.
pub(super) const MAX_ERROR_LEN: usize = 1024;

/// PATH_MAX: the kernel resolves no longer paths. In bytes.
const MAX_PATH_LEN: usize = 4096;

const HEAD_LEN: usize = 21;

/// In bytes.
pub(super) const MAX_REQUEST_LEN: usize = HEAD_LEN + 2 * MAX_PATH_LEN;

/// In bytes.
pub(super) const REPLY_LEN: usize = 4;

/// Returns the packet of a request; `None` for a path that is too long.
pub(super) fn encode(request: &OpenRequest<'_>) -> Option<Vec<u8>> {
    let root = request.root.as_os_str().as_bytes();
    if root.len() > MAX_PATH_LEN || request.path.len() > MAX_PATH_LEN {
        return None;
    }
    let symlinks = u8::from(request.symlinks != Symlinks::Never);
    let directory = request.directory;
    let DirectoryId { device, inode } = directory.unwrap_or(DirectoryId {
        device: 0,
        inode: 0,
    });
    let root_len = u16::try_from(root.len()).ok()?;
    let packet = [
        &[VERSION, symlinks, u8::from(directory.is_some())],
        &device.to_le_bytes()[..],
        &inode.to_le_bytes(),
        &root_len.to_le_bytes(),
        root,
        request.path,
    ];
    Some(packet.concat())
}

/// Parses the packet of a request.
pub(super) fn decode(packet: &[u8]) -> Option<OpenRequest<'_>> {
    let (&[version, symlinks, has_directory], rest) = packet.split_first_chunk()?;
    let (&device, rest) = rest.split_first_chunk()?;
    let (&inode, rest) = rest.split_first_chunk()?;
    let (&root_len, rest) = rest.split_first_chunk()?;
    let (root, path) = rest.split_at_checked(u16::from_le_bytes(root_len).into())?;
    let directory = DirectoryId {
        device: u64::from_le_bytes(device),
        inode: u64::from_le_bytes(inode),
    };
    if version != VERSION || root.len() > MAX_PATH_LEN || path.len() > MAX_PATH_LEN {
        return None;
    }
    Some(OpenRequest {
        root: Path::new(OsStr::from_bytes(root)),
        directory: match has_directory {
            0 => None,
            1 => Some(directory),
            _ => return None,
        },
        symlinks: match symlinks {
            0 => Symlinks::Never,
            1 => Symlinks::Inside,
            _ => return None,
        },
        path,
    })
}

/// Returns the packet of a reply.
pub(super) fn encode_reply(error: Option<Errno>) -> [u8; REPLY_LEN] {
    error.map_or(0, Errno::raw_os_error).to_le_bytes()
}

/// Parses the packet of a reply. The inner error is that of the opening.
pub(super) fn decode_reply(packet: &[u8]) -> Option<Result<(), Errno>> {
    match i32::from_le_bytes(packet.try_into().ok()?) {
        0 => Some(Ok(())),
        error @ 1..4096 => Some(Err(Errno::from_raw_os_error(error))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> OpenRequest<'static> {
        OpenRequest {
            root: Path::new("/home/ana/dist"),
            directory: Some(DirectoryId {
                device: 7,
                inode: u64::MAX,
            }),
            symlinks: Symlinks::Inside,
            path: b"a/\xff",
        }
    }

    #[test]
    fn decoded_request_is_the_encoded_one() {
        let requests = [
            sample(),
            OpenRequest {
                directory: None,
                symlinks: Symlinks::Never,
                path: b"",
                ..sample()
            },
        ];
        for request in requests {
            let packet = encode(&request).expect("short paths");
            assert_eq!(decode(&packet), Some(request));
        }
        for errno in [None, Some(Errno::NOENT), Some(Errno::ACCESS)] {
            let decoded = decode_reply(&encode_reply(errno)).expect("a reply");
            assert_eq!(decoded.err(), errno);
        }
    }

    #[test]
    fn wrong_packets_are_rejected() {
        let packet = encode(&sample()).expect("short paths");
        for len in 0..HEAD_LEN + sample().root.as_os_str().len() {
            assert_eq!(decode(&packet[..len]), None, "{len}");
        }
        for (at, byte) in [(0, 0), (0, 2), (1, 2), (2, 2), (20, 255)] {
            let mut packet = packet.clone();
            packet[at] = byte;
            assert_eq!(decode(&packet), None, "{at}");
        }
        let long = [b'a'; MAX_PATH_LEN + 1];
        let too_long = OpenRequest {
            path: &long,
            ..sample()
        };
        assert_eq!(encode(&too_long), None);
        assert_eq!(decode(&[&packet[..], &long].concat()), None);
        let longest = OpenRequest {
            path: &long[1..],
            ..sample()
        };
        assert!(encode(&longest).is_some_and(|packet| packet.len() <= MAX_REQUEST_LEN));
        for reply in [&[][..], &[0; 3], &[0; 5], &[255; 4], &[0, 16, 0, 0]] {
            assert_eq!(decode_reply(reply), None, "{reply:?}");
        }
    }
}
