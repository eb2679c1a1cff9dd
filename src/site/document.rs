//! The file as a whole: a site's keys, and beside them others, which are handed over as they are
//! to whoever knows them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue, Deserializer};

use super::{Place, SITE_FILE, Site};
use crate::error::Error;

/// A site file that may have more in it than a site: a program's own settings.
#[derive(Debug)]
#[non_exhaustive]
pub struct Document {
    /// The file, as it was named.
    pub path: PathBuf,
    /// What it says about the site.
    pub site: Site,
    /// The keys that are not a site's, in the order of the alphabet.
    pub others: Vec<OtherKey>,
}

/// A key that is not a site's, from the top of the file.
#[derive(Debug)]
#[non_exhaustive]
pub struct OtherKey {
    /// The key.
    pub name: String,
    /// The line it is on; the first is 1.
    pub line: usize,
    /// The elements of an array, or the one value: texts as they are, numbers and booleans as they
    /// are written. `None` for what is neither of these: a table, a date, an array in an array.
    pub values: Option<Vec<String>>,
}

impl Document {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// [`Error::Path`] if it cannot be read, [`Error::Setting`] with file, line and the way out if
    /// what it says about the site may not be said.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path)
            .map_err(|source| Error::path("read the site file", path, source))?;
        let at = |start, reason: &str| {
            let line = line(&text, start);
            Error::Setting(format!("{}:{line}: {reason}", path.display()))
        };
        let wrong = |error: &toml::de::Error| {
            let start = error.span().map_or(0, |span| span.start);
            at(start, &explain(error.message()))
        };
        let mut table = DeTable::parse(&text).map_err(|error| wrong(&error))?;
        let others = take_others(table.get_mut(), &text);
        let sites = table.get_ref().clone();
        let mut site =
            Site::deserialize(Deserializer::from(table)).map_err(|error| wrong(&error))?;
        locate(&mut site, &sites, &text);
        site.check_hosts().map_err(|(host, reason)| {
            let start = match host {
                Some(index) => elements(&sites, "host").nth(index).map(|(start, _)| start),
                None => ["names", "root"].iter().find_map(|key| start(&sites, key)),
            };
            at(start.unwrap_or_default(), &reason)
        })?;
        Ok(Self {
            path: path.to_owned(),
            site,
            others,
        })
    }

    /// Reads the site file of a root, if it has one.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn of_root(root: &Path) -> Result<Option<Self>, Error> {
        let path = root.join(SITE_FILE);
        match fs::metadata(&path) {
            // A FIFO would be waited for.
            Ok(metadata) if !metadata.is_file() => {
                let source = io::Error::other("it is not a regular file");
                Err(Error::path("read the site file", path, source))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // A root that is a single file has no site file beside it that would be its own.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(None),
            _ => Self::read(&path).map(Some),
        }
    }

    /// The site, if there is nothing else in the file.
    pub(super) fn only_site(self) -> Result<Site, Error> {
        match self.others.first() {
            None => Ok(self.site),
            Some(OtherKey { name, line, .. }) => Err(Error::Setting(format!(
                "{}:{line}: unknown key `{name}`; there are {}",
                self.path.display(),
                Site::KEYS.join(", ")
            ))),
        }
    }
}

/// Notes at each rule in which line it stands.
pub(super) fn locate(site: &mut Site, table: &DeTable<'_>, text: &str) {
    let places = |key| elements(table, key).map(|(start, _)| Place::Line(line(text, start)));
    for (rule, place) in site.routes.iter_mut().zip(places("route")) {
        rule.place = place;
    }
    for (rule, place) in site.redirects.iter_mut().zip(places("redirect")) {
        rule.place = place;
    }
    for (rule, place) in site.headers.iter_mut().zip(places("header")) {
        rule.place = place;
    }
    for (host, (_, element)) in site.hosts.iter_mut().zip(elements(table, "host")) {
        if let DeValue::Table(table) = element {
            locate(host, table, text);
        }
    }
}

/// The elements of an array of tables, and where each begins.
fn elements<'t>(
    table: &'t DeTable<'_>,
    key: &str,
) -> impl Iterator<Item = (usize, &'t DeValue<'t>)> {
    let array = match table.get(key).map(Spanned::get_ref) {
        Some(DeValue::Array(array)) => Some(array.iter()),
        _ => None,
    };
    let elements = array.into_iter().flatten();
    elements.map(|element| (element.span().start, element.get_ref()))
}

/// Where a key is.
fn start(table: &DeTable<'_>, key: &str) -> Option<usize> {
    let (key, _) = table.get_key_value(key)?;
    Some(key.span().start)
}

fn take_others(table: &mut DeTable<'_>, text: &str) -> Vec<OtherKey> {
    let all = std::mem::take(table).into_iter();
    let (sites, others): (Vec<_>, Vec<_>) =
        all.partition(|(key, _)| Site::KEYS.contains(&key.get_ref().as_ref()));
    *table = sites.into_iter().collect();
    let other = |(key, value): (Spanned<DeString<'_>>, Spanned<DeValue<'_>>)| OtherKey {
        name: key.get_ref().to_string(),
        line: line(text, key.span().start),
        values: values(&value),
    };
    others.into_iter().map(other).collect()
}

fn values(value: &Spanned<DeValue<'_>>) -> Option<Vec<String>> {
    match value.get_ref() {
        DeValue::Array(array) => array.iter().map(|value| plain(value.get_ref())).collect(),
        one => Some(vec![plain(one)?]),
    }
}

fn plain(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(truth) => Some(truth.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn line(text: &str, at: usize) -> usize {
    let before = &text.as_bytes()[..at.min(text.len())];
    memchr::memchr_iter(b'\n', before).count() + 1
}

/// serde's words in the words of the format, on one line. What was written is not repeated where a
/// password may have been written.
fn explain(message: &str) -> String {
    let message = match message.split_once("invalid type: string \"") {
        Some((before, behind)) => {
            let expected = behind.rfind("\", expected").unwrap_or(behind.len());
            let expected = behind[expected..].trim_start_matches('"');
            format!("{before}invalid type: text{expected}")
        }
        None => message.to_owned(),
    };
    message
        .replace("unknown field", "unknown key")
        .replace("missing field", "missing key")
        .replace("duplicate field", "duplicate key")
        .replace("unknown variant", "unknown value")
        .replace(", expected one of", "; there are")
        .replace(", expected `", "; there is `")
        .replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Document, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tws.toml");
        fs::write(&path, text).expect("a file");
        Document::read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn a_site_has_these_keys_and_no_others() {
        let error = toml::from_str::<Site>("no-key = 1").expect_err("unknown");
        let (_, list) = error
            .message()
            .split_once("expected one of ")
            .expect("a list");
        let keys: Vec<_> = list.split(", ").map(|key| key.trim_matches('`')).collect();
        assert_eq!(keys, Site::KEYS);
    }

    #[test]
    fn other_keys_are_handed_over_with_their_lines() {
        let text = "port = 80\nhidden = true\nbind = [\n  '::1', \"a\"]\n'a b' = 0x10\n\
                    q = false\n[tls]\nx = 1\n";
        let document = read(text).expect("a document");
        assert!(document.site.hidden);
        let others: Vec<_> = document
            .others
            .iter()
            .map(|other| (other.name.as_str(), other.line, other.values.clone()))
            .collect();
        let list = |list: &[&str]| Some(list.iter().map(|&text| text.to_owned()).collect());
        assert_eq!(
            others,
            [
                ("a b", 5, list(&["0x10"])),
                ("bind", 3, list(&["::1", "a"])),
                ("port", 1, list(&["80"])),
                ("q", 6, list(&["false"])),
                ("tls", 7, None),
            ]
        );
    }

    #[test]
    fn a_mistake_is_in_its_line() {
        let route = "[[route]]\npath = '/a'\nfile = 'a'\n";
        let redirect = "[[redirect]]\nfrom = '/a'\nto = '/b'\n";
        let header = "[[header]]\npath = '/a'\nx-a = '1'\n";
        let host = "[[host]]\nnames = ['a']\nroot = 'a'\n";
        for (before, wrong) in [
            (route, "[[route]]\npath = '/x'"),
            (route, "[[route]]\nfile = 'a'"),
            (redirect, "[[redirect]]\nto = '/b'"),
            (redirect, "[[redirect]]\nfrom = '/x'\nto = '/$3'"),
            (
                redirect,
                "[[redirect]]\nfrom = '/x'\nto = '/b'\nstatus = 200",
            ),
            (header, "[[header]]\nx-b = '1'"),
            (header, "[[header]]\npath = 'no'"),
            (host, "[[host]]\nroot = 'a'"),
            (host, "[[host]]\nnames = ['b']"),
            (host, "[[host]]\nnames = ['a']\nroot = 'b'"),
            ("hidden = true\n#\n#\n", "root = 'a'"),
            ("hidden = true\n#\n#\n", "names = ['a']"),
            (host, "[[host.header]]\nx-b = '1'"),
            ("[[redirect]]\nfrom = '/a'\nto = '/b'\n", "status = 'x'"),
        ] {
            let error = read(&format!("{before}{wrong}\n")).expect_err(wrong);
            assert!(error.contains("tws.toml:4: "), "{wrong}: {error}");
        }
    }

    #[test]
    fn passwords_are_not_repeated() {
        for text in [
            "users = \"postgres://u:s3\\\"cret@h/d\"",
            "[users]\nstore = \"postgre://u:s3\\\"cret@h/d\"",
            "upload = \"s3\\\"cret\"",
        ] {
            let error = read(text).expect_err("wrong");
            assert!(!error.contains("cret"), "{error}");
        }
    }
}
