//! The startup banner on standard output: the addresses of the server, its certificates and its
//! sandbox, and a warning, in one line with its remedy, for each setting that is unsafe.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use clap::builder::styling::{AnsiColor, Style};
use tws::{ServerHandle, StaticFiles};

use super::addresses;
use super::paint::ColorMode;
use super::qr::qr_code;
use super::startup_warnings;
use super::stdio::one_line;
use crate::cli::{BasePath, Encryption, QrOutput, Settings, is_exposed};
use crate::confinement::privileges;
use crate::confinement::sandbox::SandboxStatus;
use crate::services::random_path;
use crate::services::tls::Tls;

const NAME: Style = Style::new().bold();
const URL: Style = AnsiColor::Cyan.on_default().underline();
const WARNING: Style = AnsiColor::Yellow.on_default();

/// What the banner reports.
pub(crate) struct BannerInfo<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) files: &'a StaticFiles,
    pub(crate) server: &'a ServerHandle,
    /// The admin listener.
    pub(crate) admin: Option<&'a ServerHandle>,
    /// The listener that redirects to HTTPS.
    pub(crate) redirect: Option<&'a ServerHandle>,
    pub(crate) tls: Option<&'a Tls>,
    pub(crate) confinement: &'a SandboxStatus,
}

impl BannerInfo<'_> {
    /// Returns the banner in the colours that standard output supports. Its last line begins with
    /// `Ctrl-C`.
    pub(crate) fn render(&self) -> String {
        let color_mode = ColorMode::of_stdout();
        let reachable = addresses::reachable(self.server.local_addresses());
        let mut text = self.servers(&reachable, color_mode);
        for certificate in self.tls.map(Tls::describe).unwrap_or_default() {
            let _ = writeln!(text, "  certificate: {}", one_line(&certificate));
        }
        let _ = writeln!(text, "  {}", one_line(&self.confinement.to_string()));
        let mut warnings = self.warnings();
        if self.settings.qr == QrOutput::Shown {
            match addresses::from_other_machines(&reachable) {
                Some(address) => {
                    let url = addresses::url(&self.settings.encryption, address, &self.base());
                    text += &qr_code(&url, color_mode).unwrap_or_default();
                }
                None => {
                    let mut bound = self.server.local_addresses().iter();
                    let remedy = if bound.any(|address| is_exposed(address.ip())) {
                        "connect this one to a network"
                    } else {
                        "use --bind 0.0.0.0"
                    };
                    warnings.push(format!(
                        "--qr: no address is reachable from other machines; {remedy}"
                    ));
                }
            }
        }
        for warning in warnings {
            let warning = one_line(&format!("warning: {warning}"));
            let _ = writeln!(text, "  {}", color_mode.paint(WARNING, &warning));
        }
        text += "Ctrl-C stops the server.\n";
        text
    }

    /// Returns the lines that name the servers and their addresses.
    fn servers(&self, reachable: &[SocketAddr], color_mode: ColorMode) -> String {
        let plain_http = |address| {
            color_mode.paint(
                URL,
                &addresses::url(&Encryption::Off, address, &BasePath::default()),
            )
        };
        let name = concat!("tws ", env!("CARGO_PKG_VERSION"));
        let root = path_text(&self.settings.root);
        let mut text = format!("{} serves {root}\n", color_mode.paint(NAME, name));
        let shown = first_few(reachable);
        for address in shown {
            let url = addresses::url(&self.settings.encryption, *address, &self.base());
            let _ = writeln!(text, "  {}", color_mode.paint(URL, &url));
        }
        if let more @ 1.. = reachable.len() - shown.len() {
            let _ = writeln!(text, "  and {more} more addresses of this machine");
        }
        for path in self.server.unix_sockets() {
            let _ = writeln!(text, "  unix:{}", path_text(path));
        }
        if let Some(admin) = self.admin {
            for address in admin.local_addresses() {
                let _ = writeln!(text, "  admin: {}", plain_http(*address));
            }
            for path in admin.unix_sockets() {
                let _ = writeln!(text, "  admin: unix:{}", path_text(path));
            }
        }
        let redirect = self.redirect.into_iter();
        for address in redirect.flat_map(ServerHandle::local_addresses) {
            let url = plain_http(addresses::from_this_machine(*address));
            let _ = writeln!(text, "  redirects here: {url}");
        }
        text
    }

    /// The path below which the site is served.
    fn base(&self) -> BasePath {
        random_path::full_path(self.settings)
    }

    fn warnings(&self) -> Vec<String> {
        // Certificates that are renewed automatically may be valid for a few days.
        let tls = self
            .tls
            .filter(|_| self.settings.encryption.acme().is_none());
        let mut warnings = tls.map(Tls::warnings).unwrap_or_default();
        let listening = self.server.local_addresses();
        warnings.extend(startup_warnings::of(self.settings, self.files, listening));
        if privileges::is_root() {
            warnings.push("running as root; use --user NAME to drop privileges".to_owned());
        }
        warnings
    }
}

fn path_text(path: &Path) -> String {
    one_line(&path.display().to_string())
}

/// Returns as many addresses as are worth showing: a machine that runs containers has dozens.
fn first_few(addresses: &[SocketAddr]) -> &[SocketAddr] {
    const MAX_SHOWN: usize = 8;
    &addresses[..addresses.len().min(MAX_SHOWN)]
}
