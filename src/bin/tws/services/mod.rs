//! What is served: the application, the admin listener, the redirect to HTTPS.

pub(crate) mod admin;
pub(crate) mod app;
pub(crate) mod https_redirect;
pub(crate) mod tls;
