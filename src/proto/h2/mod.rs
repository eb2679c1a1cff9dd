//! HTTP/2 (RFC 9113) as pure code: bytes in, actions out.

#![cfg_attr(
    not(test),
    expect(dead_code, unused_imports, reason = "the connection's machine uses it")
)]

mod hpack;
