//! Starts pebble, the certificate authority for tests of Let's Encrypt, with a DNS server in which every
//! name is 127.0.0.1.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tempfile::TempDir;

use super::ports::free_port;
use super::{ChildProcess, eventually};
use crate::tls_transport::{CertificateAuthority, TlsClient};

/// The external account that is known if one is required.
pub(crate) const EXTERNAL_ACCOUNT: &str =
    "kid-1 zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";

/// A certificate authority; it ends when it is dropped.
pub(crate) struct Pebble {
    /// Where names are validated.
    pub(crate) tls_port: u16,
    pub(crate) http_port: u16,
    acme: SocketAddr,
    management: SocketAddr,
    variables: Vec<(&'static str, &'static str)>,
    dns: SocketAddr,
    authority: CertificateAuthority,
    folder: TempDir,
    program: Option<ChildProcess>,
    _dns_server: ChildProcess,
}

impl Pebble {
    /// Starts it with environment variables. `PEBBLE_WFE_NONCEREJECT` is the percentage of nonces that
    /// are rejected, `PEBBLE_AUTHZREUSE` that of authorizations that are used again.
    pub(crate) fn start(variables: &[(&'static str, &'static str)]) -> Self {
        Self::configured(variables, false)
    }

    /// Requires [`EXTERNAL_ACCOUNT`].
    pub(crate) fn with_external_accounts() -> Self {
        Self::configured(&[], true)
    }

    fn configured(variables: &[(&'static str, &'static str)], needs_account: bool) -> Self {
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let [acme, management, dns, control] = [(); 4].map(|()| local(free_port()));
        let [tls_port, http_port] = [(); 2].map(|()| free_port());
        let folder = tempfile::tempdir().expect("create temporary directory");
        let authority = CertificateAuthority::new();
        let pair = authority.issue("pebble", &["localhost", "127.0.0.1"]);
        fs::write(folder.path().join("ca.pem"), authority.root_pem()).expect("write file");
        let config = json!({"pebble": {
            "listenAddress": acme.to_string(),
            "managementListenAddress": management.to_string(),
            "certificate": pair.certificate,
            "privateKey": pair.key,
            "httpPort": http_port,
            "tlsPort": tls_port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": needs_account,
            "externalAccountMACKeys": {
                "kid-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W",
            },
        }});
        let path = folder.path().join("config.json");
        fs::write(path, config.to_string()).expect("write file");
        let mut dns_server = Command::new("pebble-challtestsrv");
        dns_server
            .args([
                "-management",
                &control.to_string(),
                "-dns01",
                &dns.to_string(),
            ])
            .args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""])
            .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let dns_server = ChildProcess::start(&mut dns_server);
        eventually!(|| TcpStream::connect(control).is_ok());
        let mut pebble = Self {
            tls_port,
            http_port,
            acme,
            management,
            variables: variables.to_vec(),
            dns,
            authority,
            folder,
            program: None,
            _dns_server: dns_server,
        };
        pebble.run();
        pebble
    }

    /// Starts it, or starts it again. It forgets everything when it ends.
    pub(crate) fn run(&mut self) {
        let mut command = Command::new("pebble");
        command
            .current_dir(self.folder.path())
            .args([
                "-config",
                "config.json",
                "-dnsserver",
                &self.dns.to_string(),
            ])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .envs(self.variables.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.program = Some(ChildProcess::start(&mut command));
        eventually!(|| TcpStream::connect(self.acme).is_ok());
        eventually!(|| TcpStream::connect(self.management).is_ok());
    }

    pub(crate) fn stop(&mut self) {
        self.program = None;
    }

    pub(crate) fn directory(&self) -> String {
        format!("https://{}/dir", self.acme)
    }

    /// Returns the file for `--acme-ca`.
    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Returns a file with the root certificate of what it issues.
    pub(crate) fn issuing_root(&self) -> PathBuf {
        let path = self.folder.path().join("root.pem");
        fs::write(&path, self.manage("/roots/0")).expect("write file");
        path
    }

    /// Returns the answer of the management interface.
    pub(crate) fn manage(&self, path: &str) -> Vec<u8> {
        let config = Arc::new(self.authority.client());
        let client = TlsClient::connect(self.management, "localhost", &config);
        client.expect("handshake").get(path).1
    }

    /// Returns the configuration of a client that trusts the certificates.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        let root = CertificateDer::from_pem_file(self.issuing_root()).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(root).expect("add root certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("supported TLS versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }
}
