//! The server from outside: bytes on a socket, one file per behaviour.

mod support;

mod floors;
mod promise;
mod protocol;
mod static_files;
