//! Credentials for Basic authentication: a file of user names and password hashes.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::Path;

use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params};

use rustix::rand::{GetRandomFlags, getrandom};

use crate::error::Error;

/// User names and password hashes, read from a file in the format of htpasswd(1).
pub struct Credentials {
    hashes: HashMap<String, SlowHash>,
    /// The hash that an unknown user's password is verified against, so that the time of a
    /// verification does not tell whether a user exists.
    decoy: SlowHash,
}

/// The passwords are left out, and so are the names.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("users", &self.hashes.len())
            .finish_non_exhaustive()
    }
}

/// A slow password hash, which makes guessing expensive.
#[derive(Clone)]
enum SlowHash {
    Argon2(Box<PasswordHash>),
    Bcrypt(String),
}

const REMEDY: &str = "make the line with `htpasswd -nB USER`";

impl Credentials {
    /// Reads a file of lines `user:hash`, as written by `htpasswd -B` (bcrypt), or with a hash as
    /// written by `argon2 -e`. Empty lines and lines that begin with `#` are ignored, as are a byte order
    /// mark, white space at the end of a line, and the text after a second colon, a comment for nginx.
    /// Like `htpasswd`, bcrypt uses the first 72 bytes of a password; the rest is not compared.
    ///
    /// # Errors
    ///
    /// [`Error::Path`] if the file cannot be read; [`Error::Setting`] if it contains no user or a line of
    /// another kind: a plain password, or a fast hash that is easily guessed (MD5, SHA-1, crypt).
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path)
            .map_err(|source| Error::path("read the passwords in", path, source))?;
        Self::parse(&text).map_err(|error| Error::Setting(format!("{}{error}", path.display())))
    }

    /// Returns the line of such a file for a user, with a bcrypt hash of the password and a random salt.
    /// Hashing takes about 50 ms.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] if the name is empty or has a colon or a control character, or if the password is
    /// empty or longer than 72 bytes, of which bcrypt uses no more; [`Error::System`] if the system has no
    /// random numbers.
    pub fn line(user: &str, password: &str) -> Result<String, Error> {
        /// As `htpasswd -B -C 10`: the default of most libraries.
        const COST: u32 = 10;
        Self::check(user, password)?;
        let mut salt = [0; 16];
        getrandom(&mut salt, GetRandomFlags::empty())
            .map_err(|errno| Error::system("get random numbers")(errno.into()))?;
        let hash = bcrypt::hash_with_salt(password, COST, salt);
        let hash = hash.map_err(|error| Error::Setting(error.to_string()))?;
        let hash = hash.format_for_version(bcrypt::Version::TwoB);
        Ok(format!("{user}:{hash}"))
    }

    /// Checks what [`line`](Self::line) requires of a user and a password, without hashing.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`], as of [`line`](Self::line).
    pub fn check(user: &str, password: &str) -> Result<(), Error> {
        /// bcrypt's limit.
        const MAX_PASSWORD_BYTES: usize = 72;
        let wrong = |reason: &str| Err(Error::Setting(reason.to_owned()));
        if user.is_empty() || user.contains(|letter: char| letter == ':' || letter.is_control()) {
            return wrong("the user name is empty, or has a colon or a control character");
        }
        if password.is_empty() || password.len() > MAX_PASSWORD_BYTES {
            return wrong("the password is empty or longer than 72 bytes");
        }
        Ok(())
    }

    /// Reads such a file, if there is one, and adds `lines` in the same format.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn read_with(path: Option<&Path>, lines: &[String]) -> Result<Self, Error> {
        let (mut credentials, lines) = match path {
            Some(path) => (Self::read(path)?, lines),
            None => {
                let (first, others) = lines.split_at(lines.len().min(1));
                let first = Self::parse(&first.concat()).map_err(Error::Setting)?;
                (first, others)
            }
        };
        for line in lines {
            let (user, hash) = parse_line(line).map_err(Error::Setting)?;
            if credentials.hashes.insert(user.to_owned(), hash).is_some() {
                let text = format!(
                    "user {user:?} has two passwords here or in the file; keep one of them"
                );
                return Err(Error::Setting(text));
            }
        }
        Ok(credentials)
    }

    /// Parses the text of such a file. An error begins with the line number, as `:7: …`.
    fn parse(text: &str) -> Result<Self, String> {
        let mut hashes = HashMap::new();
        let mut decoy = None;
        let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let (user, hash) = parse_line(line).map_err(|error| format!(":{number}: {error}"))?;
            decoy.get_or_insert_with(|| hash.clone());
            if hashes.insert(user.to_owned(), hash).is_some() {
                return Err(format!(
                    ":{number}: a second line for {user:?}; keep one of them"
                ));
            }
        }
        match decoy {
            Some(decoy) => Ok(Self { hashes, decoy }),
            None => Err(format!(": there is no user in it; {REMEDY}")),
        }
    }

    /// Returns whether this is the user's password. It takes about 50 ms, and the same time for an
    /// unknown user (if all hashes have the same kind and cost).
    pub(super) fn verify(&self, user: &str, password: &str) -> bool {
        let hash = self.hashes.get(user);
        let matches = hash.unwrap_or(&self.decoy).verify(password.as_bytes());
        hash.is_some() & matches
    }
}

fn parse_line(line: &str) -> Result<(&str, SlowHash), String> {
    let (user, hash) = line
        .split_once(':')
        .ok_or_else(|| format!("it is not `user:hash`; {REMEDY}"))?;
    if user.is_empty() || user.contains(char::is_control) {
        return Err(format!("it has no name of a user; {REMEDY}"));
    }
    // No hash has a colon.
    let hash = hash.split_once(':').map_or(hash, |(hash, _)| hash);
    let hash = hash.trim_end();
    let kind = match hash {
        _ if ["$2a$", "$2b$", "$2y$"]
            .iter()
            .any(|start| hash.starts_with(start)) =>
        {
            return match hash.parse::<bcrypt::HashParts>() {
                Ok(parts) if (4..=31).contains(&parts.get_cost()) => {
                    Ok((user, SlowHash::Bcrypt(hash.to_owned())))
                }
                _ => Err(format!("the bcrypt hash of {user:?} is damaged; {REMEDY}")),
            };
        }
        _ if hash.starts_with("$argon2") => {
            return argon2_hash(hash)
                .map(|hash| (user, hash))
                .ok_or_else(|| format!("the argon2 hash of {user:?} is damaged; {REMEDY}"));
        }
        _ if hash.starts_with("$apr1$") || hash.starts_with("$1$") => "an MD5 hash",
        _ if hash.starts_with("{SHA}") => "a SHA-1 hash",
        _ if hash.starts_with('$') => "a hash of an unknown kind",
        // Not quoted: it may well be the password.
        _ => "a plain password or an old hash",
    };
    Err(format!(
        "{user:?} has {kind}, which is not safe here; {REMEDY}"
    ))
}

fn argon2_hash(text: &str) -> Option<SlowHash> {
    let hash = PasswordHash::new(text).ok()?;
    Algorithm::try_from(hash.algorithm.as_str()).ok()?;
    Params::try_from(&hash).ok()?;
    let complete = hash.salt.is_some() && hash.hash.is_some();
    complete.then(|| SlowHash::Argon2(Box::new(hash)))
}

impl SlowHash {
    /// Compares in constant time.
    fn verify(&self, password: &[u8]) -> bool {
        match self {
            Self::Argon2(hash) => Argon2::default().verify_password(password, &**hash).is_ok(),
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The cheapest bcrypt hash of "secret".
    pub(crate) fn credentials() -> Credentials {
        let hash = bcrypt_of("secret");
        Credentials::parse(&format!("ana:{hash}\n")).expect("credentials")
    }

    #[test]
    fn line_of_a_user_has_a_hash_of_the_password() {
        let line = Credentials::line("ana", "secret").expect("a line");
        assert!(!line.contains("secret"), "{line}");
        let others = Credentials::line("ana", "secret").expect("a line");
        assert_ne!(line, others, "the salt is random");
        let twice = Credentials::read_with(None, &[line.clone(), others]);
        // Lines of a file have numbers; these have not.
        let error = twice.expect_err("one user twice").to_string();
        assert!(error.starts_with("user \"ana\""), "{error}");
        let credentials = Credentials::read_with(None, &[line]).expect("credentials");
        assert!(credentials.verify("ana", "secret"));
        assert!(!credentials.verify("ana", "Secret"));
        let long = "x".repeat(73);
        for (user, password) in [
            ("", "x"),
            ("a:b", "x"),
            ("a\n", "x"),
            ("a", ""),
            ("a", &long),
        ] {
            assert!(Credentials::line(user, password).is_err(), "{user:?}");
        }
    }

    fn bcrypt_of(password: &str) -> String {
        let parts = bcrypt::hash_with_salt(password, 4, *b"sixteen bytes it");
        let parts = parts.expect("a hash");
        parts.format_for_version(bcrypt::Version::TwoY)
    }

    /// "password", from the tests of argon2(1).
    const ARGON2: &str =
        "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

    /// "myPassword", from the manual of htpasswd(1).
    const HTPASSWD: &str = "$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC";

    #[test]
    fn password_matches_only_its_user() {
        let (ana, bo) = (bcrypt_of("secret"), bcrypt_of("ñ:ñ"));
        let text = format!("# users\n\nana:{ana}\nbo:{bo}\r\nñ:{ARGON2}\nmyName:{HTPASSWD}\n");
        let credentials = Credentials::parse(&text).expect("credentials");
        for (user, password, expected) in [
            ("ana", "secret", true),
            ("ana", "Secret", false),
            ("ana", "", false),
            ("Ana", "secret", false),
            // The password of the decoy hash.
            ("unknown", "secret", false),
            ("bo", "ñ:ñ", true),
            ("bo", "secret", false),
            ("ñ", "password", true),
            ("ñ", "passwor", false),
            ("myName", "myPassword", true),
            ("myName", "mypassword", false),
        ] {
            assert_eq!(
                credentials.verify(user, password),
                expected,
                "{user} {password}"
            );
        }
    }

    #[test]
    fn files_of_other_programs_and_editors_are_read() {
        const BOM: char = '\u{FEFF}';
        let hash = bcrypt_of("secret");
        for text in [
            format!("ana:{hash}:comment"),
            format!("ana:{hash}:\n"),
            format!("ana:{hash} :a : comment: with colons \n"),
            format!("{BOM}ana:{hash}\n"),
            format!("{BOM}# comment\r\n\r\nana:{hash}\r\n"),
            format!("ana:{hash} \t\r\n \r\nbo:{hash}\r\n"),
            format!("bo:{ARGON2}:comment\nana:{hash}\r"),
        ] {
            let credentials = Credentials::parse(&text).expect(&text);
            assert!(credentials.verify("ana", "secret"), "{text:?}");
            assert!(!credentials.verify("ana", "secret:comment"), "{text:?}");
            assert!(!credentials.verify("\u{FEFF}ana", "secret"), "{text:?}");
        }
        let argon2 = Credentials::parse(&format!("bo:{ARGON2}:comment\n")).expect("credentials");
        assert!(argon2.verify("bo", "password"));
    }

    #[test]
    fn unsafe_hash_is_an_error_with_its_line() {
        let fine = format!("ana:{}", bcrypt_of("x"));
        for (line, expected) in [
            ("bo", ":2: it is not `user:hash`"),
            (":$2y$05$", ":2: it has no name"),
            (
                "bo:secret",
                ":2: \"bo\" has a plain password or an old hash",
            ),
            ("bo:", ":2: \"bo\" has a plain password"),
            ("bo::$2y$05$", ":2: \"bo\" has a plain password"),
            (
                "bo:rqXexS6ZhobKA",
                ":2: \"bo\" has a plain password or an old hash",
            ),
            ("bo:$apr1$salt$hash", ":2: \"bo\" has an MD5 hash"),
            ("bo:$1$salt$hash", ":2: \"bo\" has an MD5 hash"),
            (
                "bo:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=",
                ":2: \"bo\" has a SHA-1 hash",
            ),
            (
                "bo:$5$salt$hash",
                ":2: \"bo\" has a hash of an unknown kind",
            ),
            (
                "bo:$2y$05$short",
                ":2: the bcrypt hash of \"bo\" is damaged",
            ),
            (
                "bo:$argon2id$v=19$m=8",
                ":2: the argon2 hash of \"bo\" is damaged",
            ),
            (&fine, ":2: a second line for \"ana\""),
        ] {
            let error = Credentials::parse(&format!("{fine}\n{line}\n"));
            let error = error.expect_err(line);
            assert!(error.starts_with(expected), "{line}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
        let empty = Credentials::parse("# comment\n").expect_err("an error");
        assert!(empty.contains("no user"), "{empty}");
    }
}
