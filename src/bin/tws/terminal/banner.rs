//! What is said when the server starts, on standard output: where it is reached, what restricts it,
//! and what about it is unsafe, each in one line with the way out. It only looks and says.

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, SocketAddr};

use clap::builder::styling::{Ansi256Color, AnsiColor, Style};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
#[cfg(feature = "tls")]
use tws::Tls;
use tws::{ServerHandle, StaticFiles};

use super::startup_warnings;
use super::stderr_log;
use crate::cli::{Encryption, QrCode as Qr, Settings};
use crate::confinement::privileges;
use crate::confinement::sandbox::Confinement;
#[cfg(not(feature = "tls"))]
use crate::services::https_redirect::Tls;

/// What there is to say of.
pub(crate) struct Start<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) files: &'a StaticFiles,
    pub(crate) server: &'a ServerHandle,
    /// That for operators.
    pub(crate) admin: Option<&'a ServerHandle>,
    /// That which leads to HTTPS.
    pub(crate) redirect: Option<&'a ServerHandle>,
    pub(crate) tls: Option<&'a Tls>,
    pub(crate) confinement: &'a Confinement,
}

/// How it is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Paint {
    Coloured,
    Plain,
}

impl Paint {
    /// As standard output wants it.
    fn of_stdout() -> Self {
        match stderr_log::takes_colours(&io::stdout()) {
            true => Self::Coloured,
            false => Self::Plain,
        }
    }

    fn paint(self, style: Style, text: &str) -> String {
        match self {
            Self::Coloured => format!("{style}{text}{style:#}"),
            Self::Plain => text.to_owned(),
        }
    }
}

const NAME: Style = Style::new().bold();
const URL: Style = AnsiColor::Cyan.on_default().underline();
const WARNING: Style = AnsiColor::Yellow.on_default();

impl Start<'_> {
    /// The announcement. Its last line begins with `Ctrl-C`.
    pub(crate) fn announcement(&self) -> String {
        let paint = Paint::of_stdout();
        let name = concat!("tws ", env!("CARGO_PKG_VERSION"));
        let root = self.settings.root.display();
        let mut text = format!("{} serves {root}\n", paint.paint(NAME, name));
        let addresses = self.server.local_addresses();
        let reached = reached_from_anywhere(addresses);
        for address in shown(&reached) {
            let url = url(&self.settings.encryption, *address);
            let _ = writeln!(text, "  {}", paint.paint(URL, &url));
        }
        if let more @ 1.. = reached.len() - shown(&reached).len() {
            let _ = writeln!(text, "  and {more} more addresses of this machine");
        }
        for path in self.server.unix_sockets() {
            let _ = writeln!(text, "  unix:{}", path.display());
        }
        if let Some(admin) = self.admin {
            for address in admin.local_addresses() {
                let url = paint.paint(URL, &url(&Encryption::Off, *address));
                let _ = writeln!(text, "  admin: {url}");
            }
            for path in admin.unix_sockets() {
                let _ = writeln!(text, "  admin: unix:{}", path.display());
            }
        }
        for address in self
            .redirect
            .into_iter()
            .flat_map(ServerHandle::local_addresses)
        {
            let url = url(&Encryption::Off, reached_here(*address));
            let _ = writeln!(text, "  redirects here: {}", paint.paint(URL, &url));
        }
        for certificate in certificates(self.tls) {
            let _ = writeln!(text, "  certificate: {certificate}");
        }
        let _ = writeln!(text, "  {}", self.confinement);
        let mut warnings = warnings(self.tls);
        warnings.extend(startup_warnings::of(self.settings, self.files, addresses));
        if privileges::is_root() {
            warnings.push("running as root; use --user NAME to drop privileges".to_owned());
        }
        if self.settings.qr == Qr::Shown {
            let url = |address| url(&self.settings.encryption, address);
            match from_elsewhere(&reached).map(url) {
                Some(url) => text += &qr_code(&url, paint).unwrap_or_default(),
                None => warnings.push(
                    "--qr: no address is reachable from other machines; use --bind 0.0.0.0"
                        .to_owned(),
                ),
            }
        }
        for warning in warnings {
            let warning = format!("warning: {warning}");
            let _ = writeln!(text, "  {}", paint.paint(WARNING, &warning));
        }
        text += "Ctrl-C stops the server.\n";
        text
    }
}

#[cfg(feature = "tls")]
pub(crate) fn certificates(tls: Option<&Tls>) -> Vec<String> {
    tls.map(Tls::describe).unwrap_or_default()
}

#[cfg(feature = "tls")]
pub(crate) fn warnings(tls: Option<&Tls>) -> Vec<String> {
    tls.map(Tls::warnings).unwrap_or_default()
}

#[cfg(not(feature = "tls"))]
pub(crate) fn certificates(_: Option<&Tls>) -> Vec<String> {
    Vec::new()
}

#[cfg(not(feature = "tls"))]
pub(crate) fn warnings(_: Option<&Tls>) -> Vec<String> {
    Vec::new()
}

/// An address that can be clicked.
pub(crate) fn url(encryption: &Encryption, address: SocketAddr) -> String {
    let scheme = match encryption {
        Encryption::Off => "http",
        Encryption::SelfSigned | Encryption::Certificates(_) => "https",
    };
    format!("{scheme}://{address}/")
}

/// All addresses at which others, too, may reach what listens at these.
pub(crate) fn reached_from_anywhere(listening: &[SocketAddr]) -> Vec<SocketAddr> {
    reached_at(listening, &own_addresses())
}

/// Where this machine reaches it: what listens everywhere is reached here, too.
pub(crate) fn reached_here(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// All addresses at which it is reached, those for this machine alone first.
fn reached_at(listening: &[SocketAddr], own: &[IpAddr]) -> Vec<SocketAddr> {
    let mut all: Vec<SocketAddr> = listening.iter().copied().map(reached_here).collect();
    for address in listening
        .iter()
        .filter(|address| address.ip().is_unspecified())
    {
        // An IPv6 socket that listens everywhere takes IPv4 as well.
        let fits = |own: &&IpAddr| own.is_ipv4() || address.is_ipv6();
        let own = own.iter().filter(fits);
        all.extend(own.map(|own| SocketAddr::new(*own, address.port())));
    }
    let mut seen = Vec::new();
    all.retain(|address| {
        let is_new = !seen.contains(address);
        seen.push(*address);
        is_new
    });
    all
}

/// As many as fit in a glance: who runs containers has dozens.
fn shown(addresses: &[SocketAddr]) -> &[SocketAddr] {
    const MAX_SHOWN: usize = 8;
    &addresses[..addresses.len().min(MAX_SHOWN)]
}

/// An address at which other machines reach it, IPv4 rather than IPv6.
fn from_elsewhere(reached: &[SocketAddr]) -> Option<SocketAddr> {
    let mut others = reached
        .iter()
        .filter(|address| !address.ip().to_canonical().is_loopback());
    let first = others.clone().next();
    others.find(|address| address.is_ipv4()).or(first).copied()
}

/// The machine's addresses, IPv4 first, without those that mean it only to itself or on one wire.
fn own_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = getifaddrs() else {
        return Vec::new();
    };
    let up = interfaces.filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP));
    let addresses = up.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| Some(IpAddr::V6(address.as_sockaddr_in6()?.ip())))
    });
    let elsewhere = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
    };
    let mut addresses: Vec<IpAddr> = addresses.filter(elsewhere).collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses
}

/// Draws `text` as a QR code with its quiet zone, two modules high per line; `None` if the text is
/// too long for one.
///
/// With colours the code is black on white in any terminal. Without them, the foreground colour is
/// taken for light, as it is on a dark background.
fn qr_code(text: &str, paint: Paint) -> Option<String> {
    const BLACK_ON_WHITE: Style = Style::new()
        .fg_color(Some(clap::builder::styling::Color::Ansi256(Ansi256Color(
            16,
        ))))
        .bg_color(Some(clap::builder::styling::Color::Ansi256(Ansi256Color(
            231,
        ))));
    let (dark, light) = match paint {
        Paint::Coloured => (Dense1x2::Dark, Dense1x2::Light),
        Paint::Plain => (Dense1x2::Light, Dense1x2::Dark),
    };
    let code = QrCode::new(text).ok()?;
    let image = code.render().dark_color(dark).light_color(light).build();
    let lines = image.lines();
    Some(
        lines
            .map(|line| paint.paint(BLACK_ON_WHITE, line) + "\n")
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use qrcode::Color;

    use super::*;

    /// Light modules around a code; with fewer, scanners may not find it (ISO/IEC 18004).
    const QUIET_MODULES: usize = 4;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        let address = |text: &&str| text.parse().expect("an address");
        texts.iter().map(address).collect()
    }

    #[test]
    fn an_address_that_is_all_is_each() {
        let own: Vec<IpAddr> = ["192.0.2.7", "198.51.100.7", "2001:db8::7"]
            .map(|text| text.parse().expect("an address"))
            .into();
        for (listening, reached, other) in [
            (&["127.0.0.1:80"][..], &["127.0.0.1:80"][..], None),
            (
                &["[::1]:80", "127.0.0.1:80"],
                &["[::1]:80", "127.0.0.1:80"],
                None,
            ),
            (&["192.0.2.7:80"], &["192.0.2.7:80"], Some("192.0.2.7:80")),
            (
                &["0.0.0.0:80"],
                &["127.0.0.1:80", "192.0.2.7:80", "198.51.100.7:80"],
                Some("192.0.2.7:80"),
            ),
            (
                &["[::]:80", "0.0.0.0:80"],
                &[
                    "[::1]:80",
                    "127.0.0.1:80",
                    "192.0.2.7:80",
                    "198.51.100.7:80",
                    "[2001:db8::7]:80",
                ],
                Some("192.0.2.7:80"),
            ),
            (
                &["[2001:db8::7]:80"],
                &["[2001:db8::7]:80"],
                Some("[2001:db8::7]:80"),
            ),
        ] {
            let found = reached_at(&addresses(listening), &own);
            assert_eq!(found, addresses(reached), "{listening:?}");
            let other = other.map(|text| addresses(&[text])[0]);
            assert_eq!(from_elsewhere(&found), other, "{listening:?}");
        }
    }

    /// Parses the drawing into modules; a character has an upper and a lower half.
    fn read(drawn: &str, inked_is_dark: bool) -> Vec<Vec<bool>> {
        let mut rows = Vec::new();
        for line in drawn.lines() {
            for half in [0, 1] {
                let row = line.chars().map(|letter| {
                    let inked = match letter {
                        '█' => true,
                        '▀' => half == 0,
                        '▄' => half == 1,
                        ' ' => false,
                        other => panic!("{other:?}"),
                    };
                    inked == inked_is_dark
                });
                rows.push(row.collect());
            }
        }
        rows
    }

    #[test]
    fn qr_code_has_all_modules_and_a_quiet_zone() {
        let text = "http://192.168.178.21:8000/";
        let code = QrCode::new(text).expect("a code");
        let side = code.width();
        let plain = qr_code(text, Paint::Plain).expect("a code");
        let coloured = qr_code(text, Paint::Coloured).expect("a code");
        let (on, off) = ("\x1b[38;5;16m\x1b[48;5;231m", "\x1b[0m");
        let bare: Vec<&str> = coloured
            .lines()
            .map(|line| {
                line.strip_prefix(on)
                    .and_then(|line| line.strip_suffix(off))
            })
            .map(|line| line.expect("black on white"))
            .collect();
        for rows in [read(&plain, false), read(&bare.join("\n"), true)] {
            let width = side + 2 * QUIET_MODULES;
            // The height is odd, so the last line has half a line beyond the quiet zone.
            assert_eq!(rows.len(), width + 1);
            assert!(rows.iter().all(|row| row.len() == width));
            for (y, row) in rows.iter().take(width).enumerate() {
                for (x, dark) in row.iter().enumerate() {
                    let zone = QUIET_MODULES..QUIET_MODULES + side;
                    let expected = zone.contains(&x)
                        && zone.contains(&y)
                        && code[(x - QUIET_MODULES, y - QUIET_MODULES)] == Color::Dark;
                    assert_eq!(*dark, expected, "{x} {y}");
                }
            }
        }
        assert_eq!(qr_code(&"x".repeat(5000), Paint::Plain), None);
    }
}
