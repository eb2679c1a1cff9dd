//! The sections of a PEM file, each with its line (RFC 7468). The parser of rustls skips what it does not
//! recognise, so a certificate joined to the previous one without a line break would be lost silently.

use std::path::Path;

use rustls::pki_types::pem::{self, PemObject};

use crate::error::Error;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";

/// The kinds of sections that may be in a file of certificates and keys. Those that are not used, such
/// as parameters, are allowed.
const LABELS: &[&str] = &[
    "CERTIFICATE",
    "CERTIFICATE REQUEST",
    "DH PARAMETERS",
    "EC PARAMETERS",
    "EC PRIVATE KEY",
    "ENCRYPTED PRIVATE KEY",
    "PRIVATE KEY",
    "PUBLIC KEY",
    "RSA PRIVATE KEY",
    "X509 CRL",
];

/// A section, from its BEGIN to the end of the line with its END.
pub(super) struct PemSection<'t> {
    pub(super) label: &'t str,
    /// The line of its BEGIN, counted from 1.
    pub(super) line: usize,
    text: &'t [u8],
}

impl PemSection<'_> {
    /// Parses the section.
    pub(super) fn parse<T: PemObject>(&self, path: &Path) -> Result<T, Error> {
        T::from_pem_slice(self.text).map_err(|error| broken(path, self.line, &error))
    }
}

/// Returns the sections of a file.
///
/// # Errors
///
/// [`Error::Setting`] with the line of a BEGIN or END that does not have a line of its own, has no
/// counterpart, or is of an unknown kind. Nothing of the file is quoted, because it may be a key.
pub(super) fn sections<'t>(path: &Path, text: &'t [u8]) -> Result<Vec<PemSection<'t>>, Error> {
    let mut sections = Vec::new();
    let mut open: Option<(&str, usize, usize)> = None;
    let mut offset = 0;
    for (index, whole) in text.split_inclusive(|&byte| byte == b'\n').enumerate() {
        let number = index + 1;
        let wrong = |reason| Err(at(path, number, reason));
        let line = whole.trim_ascii_end();
        let marker = [BEGIN, END].map(|marker| memchr::memmem::find(line, marker));
        match (marker, open) {
            ([None, None], _) => {}
            ([Some(0), None], None) => match label(line, BEGIN) {
                None => return wrong(OWN_LINE),
                Some(label) if !LABELS.contains(&label) => {
                    return wrong("this kind of PEM section is not supported; remove it");
                }
                Some(label) => open = Some((label, number, offset)),
            },
            ([Some(0), None], Some((_, begin, _))) => {
                return Err(at(
                    path,
                    begin,
                    "the file is truncated here: the END is missing",
                ));
            }
            ([None, Some(0)], Some((name, line_of_begin, start))) => {
                if label(line, END) != Some(name) {
                    return wrong(OWN_LINE);
                }
                sections.push(PemSection {
                    label: name,
                    line: line_of_begin,
                    text: &text[start..offset + whole.len()],
                });
                open = None;
            }
            ([None, Some(0)], None) => return wrong("an END without a BEGIN; restore the file"),
            _ => return wrong(OWN_LINE),
        }
        offset += whole.len();
    }
    match open {
        Some((_, begin, _)) => Err(at(path, begin, "the file is truncated: the END is missing")),
        None => Ok(sections),
    }
}

const OWN_LINE: &str = "-----BEGIN …----- and -----END …----- must each have a line of their own; \
                        add a line break where files were joined";

/// Returns the label of a line that consists of a marker, a label and five hyphens.
fn label<'t>(line: &'t [u8], marker: &[u8]) -> Option<&'t str> {
    let label = line.strip_prefix(marker)?.strip_suffix(b"-----")?;
    let label = std::str::from_utf8(label).ok()?;
    (!label.contains('-')).then_some(label)
}

fn broken(path: &Path, line: usize, error: &pem::Error) -> Error {
    let what = match error {
        pem::Error::MissingSectionEnd { .. } => "the file is truncated",
        _ => "the PEM section is damaged; restore the file",
    };
    at(path, line, what)
}

fn at(path: &Path, line: usize, reason: &str) -> Error {
    Error::Setting(format!("{}:{line}: {reason}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----";
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----";

    fn lines(text: &str) -> Result<Vec<(String, usize)>, String> {
        let sections = sections(Path::new("a.pem"), text.as_bytes());
        let sections = sections.map_err(|error| error.to_string())?;
        let each = sections.iter().map(|it| (it.label.to_owned(), it.line));
        Ok(each.collect())
    }

    #[test]
    fn sections_have_their_lines() {
        let certificate = |line| ("CERTIFICATE".to_owned(), line);
        let key = |line| ("PRIVATE KEY".to_owned(), line);
        for (text, expected) in [
            (String::new(), vec![]),
            ("no section\n".to_owned(), vec![]),
            (A.to_owned(), vec![certificate(1)]),
            (
                format!("text\r\n{A} \n\n{A}\n{KEY}\n"),
                vec![certificate(2), certificate(6), key(9)],
            ),
            (A.replace('\n', "\r\n"), vec![certificate(1)]),
        ] {
            assert_eq!(lines(&text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn section_that_would_be_skipped_is_an_error_with_its_line() {
        for (text, line) in [
            (format!("{A}{A}\n"), 3),
            (format!("{A}{KEY}\n"), 3),
            (format!("{KEY} {A}\n"), 3),
            (format!("\u{feff}{A}\n"), 1),
            (format!("{A}\n {A}\n"), 4),
            (A.replace("-----\nAAAA", "-----AAAA"), 1),
            (A.replace("AAAA\n-----", "AAAA-----"), 2),
            (A.replace("-----END", "---END"), 1),
            (format!("{}\n{A}", &A[..40]), 1),
            (A.replace("END CERTIFICATE", "END PRIVATE KEY"), 3),
            ("-----END CERTIFICATE-----\n".to_owned(), 1),
            (A.replace("CERTIFICATE", "TRUSTED CERTIFICATE"), 1),
            (A.replace("CERTIFICATE-----", "CERTIFICATE----"), 1),
        ] {
            let error = lines(&text).expect_err(&text);
            assert!(
                error.starts_with(&format!("a.pem:{line}: ")),
                "{text}: {error}"
            );
            assert!(!error.contains("AAAA"), "{error}");
        }
    }
}
