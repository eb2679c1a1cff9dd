//! Constants of the protocol, and limits that are no settings.

/// The largest identifier of a stream (RFC 9113 §5.1.1).
pub(super) const MAX_STREAM_ID: u32 = (1 << 31) - 1;

/// Jobs of one connection at once: handlers that have not answered, and producers of bodies. Further
/// requests wait, so that one connection cannot occupy the threads that all connections share.
pub(super) const MAX_JOBS: u16 = 16;

/// Those of them that last as long as the client likes: handlers that read a body, and writers of
/// response bodies. The others are left for requests that need not wait for the client.
pub(super) const MAX_CLIENT_PACED_JOBS: usize = 12;

/// Bytes of control frames and heads that the peer has not taken. Above this, nothing is read from it.
pub(super) const MAX_UNSENT_CONTROL_BYTES: usize = 16 * 1024;

/// Bytes of request bodies that are held until their handlers are called. Above this, only the oldest
/// body is received beyond its first window.
pub(super) const MAX_BUFFERED_BYTES: usize = 4 * 1024 * 1024;

/// Bytes of response bodies that are held in memory, whole or in chunks. Above this, requests wait before
/// they are dispatched, and producers of bodies before their next chunk: 100 bodies of 480 kB that are held
/// by their windows would be 48 MB. 16 chunks of 64 KiB, for as many jobs.
pub(super) const MAX_HELD_BODY_BYTES: usize = 1024 * 1024;

/// Exchanges that go on although more is held, so that a small response overtakes large ones.
pub(super) const MAX_BEYOND_HELD_BODIES: usize = 4;

/// Bytes of request heads that are kept, for records and for requests that wait. Above this, further
/// streams are refused: a head that is a few bytes on the wire may have 16 KiB, and 100 of them that are
/// held by their windows would have more than all else together (CVE-2026-49975).
pub(super) const MAX_HELD_HEAD_BYTES: usize = 512 * 1024;

/// Fields of a head in addition to those that HTTP/1.1 has in lines: `:method`, `:scheme` and `:path`.
/// `:authority` is in place of Host.
pub(super) const PSEUDO_FIELDS: usize = 3;

/// Bodies of up to this length are not bulk.
pub(super) const SMALL_BODY_BYTES: u64 = 32 * 1024;
