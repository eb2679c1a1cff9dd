//! What is served: the application, and beside it the operators' listener, the redirect to HTTPS
//! and the threads that obtain certificates.

pub(crate) mod acme;
pub(crate) mod admin;
pub(crate) mod app;
pub(crate) mod http_challenges;
pub(crate) mod https_redirect;
pub(crate) mod random_path;
pub(crate) mod side_server;
pub(crate) mod tls;
