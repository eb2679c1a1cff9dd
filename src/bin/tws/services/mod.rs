//! What is served: the application, and beside it the operators' listener and the redirect to HTTPS.

pub(crate) mod admin;
pub(crate) mod app;
pub(crate) mod https_redirect;
pub(crate) mod random_path;
pub(crate) mod side_server;
pub(crate) mod tls;
