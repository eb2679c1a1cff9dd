//! The TLS configuration of the library, or its stub in a build without the feature `tls`.

#[cfg(feature = "tls")]
pub(crate) use tws::Tls;

/// No value exists: without the feature `tls` no certificate can be opened.
#[cfg(not(feature = "tls"))]
#[derive(Clone)]
pub(crate) enum Tls {}

#[cfg(not(feature = "tls"))]
impl Tls {
    pub(crate) fn describe(&self) -> Vec<String> {
        match *self {}
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        match *self {}
    }
}
