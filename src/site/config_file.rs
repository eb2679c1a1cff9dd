//! A whole TOML file: the site's keys, and other keys, which are returned unparsed for the program
//! that defines them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue, Deserializer};

use super::keys::is_same_key;
use super::{
    AuthRequirement, OpenRequest, RootOpener, SITE_FILE, SettingsSource, Site, SourceLocation,
    Store, Symlinks,
};
use crate::error::Error;

/// A configuration file: a site, and perhaps a program's own settings.
#[derive(Debug)]
#[non_exhaustive]
pub struct ConfigFile {
    /// The path of the file, as given.
    pub path: PathBuf,
    /// Whether there is nothing in the file but white space and comments: it may be about to be written.
    pub is_blank: bool,
    /// The site.
    pub site: Site,
    /// The keys that are not a site's, in alphabetical order.
    pub others: Vec<OtherKey>,
    /// The keys of tables that take any name: `header` and `media-types`, of all hosts. One that is
    /// the program's was probably meant to be above the first table.
    pub free_keys: Vec<OtherKey>,
}

/// A key that is not a site's.
#[derive(Debug)]
#[non_exhaustive]
pub struct OtherKey {
    /// The key.
    pub name: String,
    /// Its line, counted from 1.
    pub line: usize,
    /// The elements of an array, or the single value: strings unquoted, numbers and booleans as
    /// they are written. `None` for other types: a table, a date, a nested array.
    pub values: Option<Vec<String>>,
    /// Whether all values are strings.
    pub is_text: bool,
}

impl OtherKey {
    fn new(key: &Spanned<DeString<'_>>, value: &DeValue<'_>, lines: &LineNumbers) -> Self {
        Self {
            name: key.get_ref().to_string(),
            line: lines.at(key.span().start),
            values: values(value),
            is_text: is_text(value),
        }
    }

    /// Returns whether the name is `key`, perhaps in another spelling: `auth_file`, `Auth-File`.
    pub fn is_spelling_of(&self, key: &str) -> bool {
        is_same_key(&self.name, key)
    }
}

impl ConfigFile {
    /// Reads a file. Paths in it are relative to its folder, and the roots of hosts are made absolute.
    ///
    /// # Errors
    ///
    /// [`Error::Path`] if it cannot be read; [`Error::Setting`] with file, line and remedy if the
    /// site in it is invalid.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(|source| unreadable(path, source))?;
        let mut file = Self::parse(path, &text, |_, _| Ok(()))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for root in file
            .site
            .hosts
            .iter_mut()
            .filter_map(|host| host.root.as_mut())
        {
            let absolute = std::path::absolute(folder.join(&*root));
            *root = absolute.map_err(Error::system("find the current folder"))?;
        }
        Ok(file)
    }

    /// Parses the text of a file; `check` rejects a site with a reason and the offset of the key that is
    /// wrong.
    fn parse(
        path: &Path,
        text: &str,
        check: impl FnOnce(&Site, &DeTable<'_>) -> Result<(), (usize, String)>,
    ) -> Result<Self, Error> {
        let at = |start, reason: &str| {
            let line = line(text, start);
            Error::Setting(format!("{}:{line}: {reason}", path.display()))
        };
        let start_of = |error: &toml::de::Error| error.span().map_or(0, |span| span.start);
        let mut table = DeTable::parse(text).map_err(|error| {
            let start = start_of(&error);
            at(start, &syntax_error(error.message(), line_at(text, start)))
        })?;
        let is_blank = table.get_ref().is_empty();
        let lines = LineNumbers::of(text);
        let others = take_others(table.get_mut(), &lines);
        let sites = table.get_ref().clone();
        let mut site = Site::deserialize(Deserializer::from(table)).map_err(|error| {
            let start = start_of(&error);
            at(start, &value_error(&error, host_at(&sites, start)))
        })?;
        locate(&mut site, &sites, &lines, path);
        let folder = path.parent().unwrap_or(Path::new(""));
        let hosts = site.hosts.iter_mut().flat_map(|host| &mut host.auth);
        for rule in site.auth.iter_mut().chain(hosts) {
            if let AuthRequirement::Password(file) = &mut rule.requirement {
                *file = folder.join(&*file);
            }
        }
        site.check_hosts().map_err(|(host, reason)| {
            let start = match host {
                Some(index) => elements(&sites, "host").nth(index).map(|(start, _)| start),
                None => ["names", "root"].iter().find_map(|key| start(&sites, key)),
            };
            at(start.unwrap_or_default(), &reason)
        })?;
        check(&site, &sites).map_err(|(start, reason)| at(start, &reason))?;
        Ok(Self {
            path: path.to_owned(),
            is_blank,
            site,
            others,
            free_keys: free_keys(&sites, &lines),
        })
    }

    /// Reads the site file of a root, if it has one. It may have come with the files, from another
    /// person, so everything that it names must be beneath the root.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read), and [`Error::Setting`] if the site follows symbolic links out of the
    /// root, has a host whose root is outside of it, or stores users at a path of its choice.
    pub fn of_root(root: &Path) -> Result<Option<Self>, Error> {
        Self::of_root_with_opener(root, None)
    }

    /// As [`of_root`](Self::of_root). `opener` opens the file in a root that was replaced, if the sandbox of
    /// this process denies access to the new folder.
    ///
    /// # Errors
    ///
    /// As [`of_root`](Self::of_root).
    pub fn of_root_with_opener(
        root: &Path,
        opener: Option<&dyn RootOpener>,
    ) -> Result<Option<Self>, Error> {
        let path = root.join(SITE_FILE);
        match fs::metadata(&path) {
            // Opening a FIFO would block.
            Ok(metadata) if !metadata.is_file() => {
                let source = io::Error::other("not a regular file; replace or remove it");
                Err(unreadable(&path, source))
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(Error::path("read the folder", root, error))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // A root that is a single file has no site file.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(None),
            _ => {
                let text =
                    read_beneath(root, opener).map_err(|source| unreadable(&path, source))?;
                let site_file = Self::parse(&path, &text, |site, table| {
                    check_confined(site, table, root)
                });
                site_file.map(Some)
            }
        }
    }

    /// Returns the site, if the file has no other keys.
    fn only_site(self) -> Result<Site, Error> {
        match self.others.first() {
            None => Ok(self.site),
            Some(OtherKey { name, line, .. }) => Err(Error::Setting(format!(
                "{}:{line}: {name}: unknown key; the keys are {}",
                self.path.display(),
                Site::KEYS.join(", ")
            ))),
        }
    }
}

impl Site {
    /// Reads a site file.
    ///
    /// # Errors
    ///
    /// [`Error::Path`] if it cannot be read; [`Error::Setting`] with file, line and remedy if it is
    /// invalid.
    pub fn read(path: &Path) -> Result<Self, Error> {
        ConfigFile::read(path)?.only_site()
    }

    /// Reads the site file of a root, if it has one.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn of_root(root: &Path) -> Result<Option<Self>, Error> {
        ConfigFile::of_root(root)?
            .map(ConfigFile::only_site)
            .transpose()
    }

    /// Checks the hosts. The error has the index of the host, or `None` for the default site.
    fn check_hosts(&self) -> Result<(), (Option<usize>, String)> {
        if !self.names.is_empty() || self.root.is_some() {
            let reason = "names and root are only allowed in [[host]]; remove them here";
            return Err((None, reason.to_owned()));
        }
        let mut known = BTreeSet::new();
        for (index, host) in self.hosts.iter().enumerate() {
            let wrong = |reason| Err((Some(index), reason));
            let Some(first) = host.names.first() else {
                return wrong("a [[host]] has no names; add names = [\"example.org\"]".to_owned());
            };
            let name = first.as_str();
            if host.root.is_none() {
                return wrong(format!(
                    "the [[host]] {name:?} has no root; add root = \"FOLDER\""
                ));
            }
            if !host.hosts.is_empty() || host.users.is_some() {
                return wrong(format!(
                    "the [[host]] {name:?} must not have hosts or users; move them to the top of the file"
                ));
            }
            for name in &host.names {
                if !known.insert(name) {
                    return wrong(format!(
                        "the host {:?} is named twice; remove one",
                        name.as_str()
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Reads the site file of a root, with `opener` where this process may not.
fn read_beneath(root: &Path, opener: Option<&dyn RootOpener>) -> io::Result<String> {
    match (fs::read_to_string(root.join(SITE_FILE)), opener) {
        (Err(error), Some(opener)) if error.kind() == io::ErrorKind::PermissionDenied => {
            let file = opener.open(&OpenRequest {
                root: &root.canonicalize()?,
                directory: None,
                symlinks: Symlinks::Inside,
                path: SITE_FILE.as_bytes(),
            })?;
            io::read_to_string(fs::File::from(file))
        }
        (text, _) => text,
    }
}

/// Returns the error for a settings file that cannot be read, with the remedy where there is one.
fn unreadable(path: &Path, source: io::Error) -> Error {
    let source = match source.kind() {
        io::ErrorKind::IsADirectory => io::Error::other("is a folder; give a file"),
        io::ErrorKind::InvalidData => io::Error::other("not UTF-8; save the file as UTF-8"),
        _ => source,
    };
    Error::path("read the settings file", path, source)
}

/// Records where each rule and key of a site, and of its hosts, is written.
pub(super) fn locate(site: &mut Site, table: &DeTable<'_>, lines: &LineNumbers, file: &Path) {
    let source = Arc::new(SettingsSource {
        file: file.to_owned(),
        host: site.names.first().map(|name| name.as_str().to_owned()),
    });
    let at = |start| SourceLocation::Line {
        source: Arc::clone(&source),
        line: lines.at(start),
    };
    site.key_locations = keys(table).map(|(key, start)| (key, at(start))).collect();
    let locations = |key| elements(table, key).map(|(start, _)| at(start));
    let rules = site.routes.iter_mut().map(|rule| &mut rule.location);
    set_each(rules, locations("route"));
    let rules = site.redirects.iter_mut().map(|rule| &mut rule.location);
    set_each(rules, locations("redirect"));
    let rules = site.rewrites.iter_mut().map(|rule| &mut rule.location);
    set_each(rules, locations("rewrite"));
    let rules = site.auth.iter_mut().map(|rule| &mut rule.location);
    set_each(rules, locations("auth"));
    let rules = site.access.iter_mut().map(|rule| &mut rule.location);
    set_each(rules, locations("access"));
    let rules = site.headers.iter_mut().map(|rule| &mut rule.location);
    set_each(rules, locations("header"));
    // `spa` may be one string.
    let spa = site.location_of("spa");
    let locations = locations("spa").chain([spa]);
    let rules = site.spa.iter_mut().map(|rule| &mut rule.location);
    set_each(rules, locations);
    for (host, (_, element)) in site.hosts.iter_mut().zip(elements(table, "host")) {
        if let DeValue::Table(table) = element {
            locate(host, table, lines, file);
        }
    }
}

fn set_each<'r>(
    rules: impl Iterator<Item = &'r mut SourceLocation>,
    locations: impl Iterator<Item = SourceLocation>,
) {
    for (rule, location) in rules.zip(locations) {
        *rule = location;
    }
}

/// Returns the keys of a table with their offsets, and those of the tables in it (`error-pages.404`).
fn keys(table: &DeTable<'_>) -> impl Iterator<Item = (String, usize)> {
    table.iter().flat_map(|(key, value)| {
        let name = key.get_ref();
        let inner = value.get_ref().as_table().into_iter().flatten();
        let inner = inner.map(move |(key, _)| {
            let path = format!("{name}.{}", key.get_ref());
            (path, key.span().start)
        });
        std::iter::once((name.to_string(), key.span().start)).chain(inner)
    })
}

/// Rejects what would let the site file of a root reach out of the root. The error has the offset of
/// the key.
fn check_confined(site: &Site, table: &DeTable<'_>, root: &Path) -> Result<(), (usize, String)> {
    let hosts = elements(table, "host").map(|(_, element)| element.as_table());
    let sites = std::iter::once((site, Some(table))).chain(site.hosts.iter().zip(hosts));
    for (site, table) in sites {
        let wrong = |key: &str, reason: &str| {
            let start = table.and_then(|table| start(table, key));
            let reason = format!(
                "{key}: {reason} in the file of a served folder, which may come from elsewhere; \
                 set it in a file that --config names"
            );
            Err((start.unwrap_or_default(), reason))
        };
        if !site.auth.is_empty() {
            return wrong("auth", "rules about passwords are not allowed");
        }
        if site.symlinks == Symlinks::Follow {
            return wrong("symlinks", "\"follow\" is not allowed");
        }
        if let Some(folder) = &site.root
            && !is_beneath(root, folder)
        {
            return wrong("root", "a folder outside of it is not allowed");
        }
        if let Some(users) = &site.users
            && !matches!(&users.store, Store::Sqlite(path) if has_only_names(path))
        {
            return wrong("users", "only a store such as sqlite:users.db is allowed");
        }
    }
    Ok(())
}

/// Returns true if `folder`, which may be relative to `root`, is `root` or beneath it once symbolic links
/// are resolved. A folder that does not exist counts if its name cannot lead out of `root`; opening it
/// fails later.
fn is_beneath(root: &Path, folder: &Path) -> bool {
    match (root.canonicalize(), root.join(folder).canonicalize()) {
        (Ok(root), Ok(folder)) => folder.starts_with(root),
        (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => has_only_names(folder),
        _ => false,
    }
}

/// Returns true for a relative path without `..`.
fn has_only_names(path: &Path) -> bool {
    path.components()
        .all(|component| matches!(component, Component::Normal(_) | Component::CurDir))
}

/// Returns the elements of an array of tables with their offsets.
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

/// Returns the offset of a key.
fn start(table: &DeTable<'_>, key: &str) -> Option<usize> {
    let (key, _) = table.get_key_value(key)?;
    Some(key.span().start)
}

/// Removes the keys that are not a site's, and returns them.
fn take_others(table: &mut DeTable<'_>, lines: &LineNumbers) -> Vec<OtherKey> {
    let all = std::mem::take(table).into_iter();
    let (sites, others): (Vec<_>, Vec<_>) =
        all.partition(|(key, _)| Site::KEYS.contains(&key.get_ref().as_ref()));
    *table = sites.into_iter().collect();
    let others = others.iter();
    others
        .map(|(key, value)| OtherKey::new(key, value.get_ref(), lines))
        .collect()
}

/// Returns the keys of tables that take any name.
fn free_keys(table: &DeTable<'_>, lines: &LineNumbers) -> Vec<OtherKey> {
    let rules = elements(table, "header").filter_map(|(_, rule)| rule.as_table());
    let types = table.get("media-types");
    let types = types.and_then(|types| types.get_ref().as_table());
    let free = rules.chain(types).flatten();
    let own = free.map(|(key, value)| OtherKey::new(key, value.get_ref(), lines));
    let hosts = elements(table, "host").filter_map(|(_, host)| host.as_table());
    own.chain(hosts.flat_map(|host| free_keys(host, lines)))
        .collect()
}

fn values(value: &DeValue<'_>) -> Option<Vec<String>> {
    match value {
        DeValue::Array(array) => array.iter().map(|value| scalar(value.get_ref())).collect(),
        one => Some(vec![scalar(one)?]),
    }
}

fn is_text(value: &DeValue<'_>) -> bool {
    match value {
        DeValue::Array(array) => array.iter().all(|value| value.get_ref().is_str()),
        one => one.is_str(),
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(truth) => Some(truth.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// The positions of the line feeds of a text: there is one search for many rules.
pub(super) struct LineNumbers(Vec<usize>);

impl LineNumbers {
    pub(super) fn of(text: &str) -> Self {
        Self(memchr::memchr_iter(b'\n', text.as_bytes()).collect())
    }

    /// Returns the line of an offset in the text, counted from 1.
    fn at(&self, offset: usize) -> usize {
        self.0.partition_point(|feed| *feed < offset) + 1
    }
}

fn line(text: &str, at: usize) -> usize {
    LineNumbers::of(text).at(at)
}

/// Rephrases an error of serde in the terms of TOML, on one line. A string value is not repeated:
/// it may contain a password.
fn line_at(text: &str, at: usize) -> &str {
    text.lines().nth(line(text, at) - 1).unwrap_or_default()
}

/// Rephrases a syntax error of the TOML parser, on one line.
fn syntax_error(message: &str, line: &str) -> String {
    let (problem, expected) = match message.split_once(", expected ") {
        Some((problem, expected)) => (problem, Some(expected)),
        None => (message, None),
    };
    let lacks_quote = expected.is_some_and(|expected| expected.contains(['"', '\'']));
    let lacks_value = "the value is missing; write `key = value`".to_owned();
    let closing = expected.unwrap_or_default().trim_matches('`');
    match problem {
        problem if problem.ends_with("string") && lacks_quote => {
            "the string is not closed; add the quote at its end".to_owned()
        }
        "key with no value" if line.contains(": ") || line.trim_end().ends_with(':') => {
            "TOML needs `key = value`; is this YAML?".to_owned()
        }
        _ if line.trim_start().starts_with('{') => {
            "TOML needs `key = value`; is this JSON?".to_owned()
        }
        _ if line.trim_end().ends_with('=') => lacks_value,
        "invalid key-value pair"
        | "key with no value"
        | "missing value for key"
        | "missing value" => lacks_value,
        "string values must be quoted"
        | "invalid boolean"
        | "invalid date-time"
        | "invalid exponent"
        | "invalid float"
        | "invalid integer number"
        | "invalid mantissa" => {
            "not a TOML value; put text in quotes: `key = \"value\"`".to_owned()
        }
        "missing escaped value" => {
            "the string has an unknown escape; write \\\\ for a backslash".to_owned()
        }
        "extra `=`" => "there is one = too many; write `key = value`".to_owned(),
        "duplicate key" => "the key is given twice; remove one".to_owned(),
        "unexpected key or value" => {
            "text follows the value; put each key on its own line".to_owned()
        }
        "missing comma between array elements" => {
            "a comma is missing in the array; add it".to_owned()
        }
        "unclosed array" | "unclosed table" | "unclosed array table" | "unclosed inline table" => {
            format!("a bracket is not closed; add {closing}")
        }
        _ => match expected {
            None | Some("nothing") => problem.replace('\n', " "),
            Some(expected) => format!("{problem}; expected {expected}").replace('\n', " "),
        },
    }
}

/// Rephrases an error of serde about the value of a key, on one line that begins with the key, after the
/// host if there is one. A string value is not repeated where it may contain a password.
fn value_error(error: &toml::de::Error, host: Option<&str>) -> String {
    let message = error.message().replace('\n', " ");
    let reason = match message.split_once(", expected ") {
        Some((problem, expected)) => mismatch(problem, expected),
        None => None,
    };
    let missing = || {
        let key = message.strip_prefix("missing field `")?.strip_suffix('`')?;
        Some(format!("the key `{key}` is missing; add it"))
    };
    let reason = reason.or_else(missing).unwrap_or_else(|| message.clone());
    let Some(keys) = path_of_keys(error) else {
        return reason;
    };
    let is_of_type = |text: &str| {
        text.starts_with("must be a table (") || text.starts_with("must be an array (")
    };
    let reason = if is_array_of_tables(&keys) && is_of_type(&reason) {
        let (_, found) = reason.split_once(" (").unwrap_or_default();
        format!("must be tables [[{keys}]] ({found}")
    } else {
        reason
    };
    let (host, key) = match (host, keys.strip_prefix("host.")) {
        (Some(host), Some(key)) => (format!("host {host}: "), key),
        _ => (String::new(), keys.as_str()),
    };
    if reason.starts_with(key) {
        format!("{host}{reason}")
    } else {
        format!("{host}{key}: {reason}")
    }
}

/// Returns whether the value of a key is written as tables `[[key]]`.
fn is_array_of_tables(keys: &str) -> bool {
    const TABLES: &[&str] = &[
        "route", "redirect", "rewrite", "header", "auth", "access", "host",
    ];
    TABLES.contains(&keys.strip_prefix("host.").unwrap_or(keys))
}

/// Returns the first name of the `[[host]]` around an offset.
fn host_at<'t>(table: &'t DeTable<'_>, offset: usize) -> Option<&'t str> {
    let (_, host) = elements(table, "host")
        .take_while(|(start, _)| *start <= offset)
        .last()?;
    let names = host.as_table()?.get("names")?.get_ref().as_array()?;
    names.first()?.get_ref().as_str()
}

/// Rephrases a mismatch of types or names in the terms of TOML.
fn mismatch(problem: &str, expected: &str) -> Option<String> {
    let words = expected
        .trim_start_matches("one of ")
        .replace(" or ", ", ")
        .replace('`', "");
    if let Some(key) = problem.strip_prefix("unknown field `") {
        let key = key.trim_end_matches('`');
        return Some(format!("{key}: unknown key; the keys are {words}"));
    }
    if let Some(value) = problem.strip_prefix("unknown variant `") {
        let value = value.trim_end_matches('`');
        return Some(format!("must be one of {words} (got {value:?})"));
    }
    let found = problem
        .strip_prefix("invalid type: ")
        .or_else(|| problem.strip_prefix("invalid value: "))?;
    // A string may contain a password.
    let found = match found {
        text if text.starts_with("string") => "a string".to_owned(),
        "map" => "a table".to_owned(),
        "sequence" => "an array".to_owned(),
        other => other.replace('`', ""),
    };
    let expected = match expected {
        "a sequence" => "an array",
        "a map" => "a table",
        "a boolean" => "true or false",
        "u16" => "an integer between 0 and 65535",
        other if other.starts_with("struct ") => "a table",
        other => other,
    };
    Some(format!("must be {expected} (got {found})"))
}

/// Returns the keys that lead to an error: `route.file`. The error shows them only without its input.
fn path_of_keys(error: &toml::de::Error) -> Option<String> {
    let mut bare = error.clone();
    bare.set_input(None);
    let shown = bare.to_string();
    let (_, keys) = shown.trim_end().rsplit_once("\nin `")?;
    Some(keys.strip_suffix('`')?.to_owned())
}

#[cfg(test)]
mod tests;
