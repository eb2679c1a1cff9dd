//! The path of `--random-path`: chosen once in a process, and passed on to the one that replaces it.

use std::sync::OnceLock;

use rustix::rand::{GetRandomFlags, getrandom};

use crate::cli::{BasePath, RandomPath, Settings};

/// The variable that tells the new process of an upgrade the path. It is not a setting.
pub(crate) const RANDOM_PATH_VARIABLE: &str = "TWS_UPGRADE_PATH";

/// 32 letters that are not mistaken for each other when they are read aloud or typed: a segment has 80
/// random bits.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

const LEN: usize = 16;

static SEGMENT: OnceLock<String> = OnceLock::new();

/// Returns the path below which the site is served.
pub(crate) fn full_path(settings: &Settings) -> BasePath {
    match settings.random_path {
        RandomPath::Off => settings.base.clone(),
        RandomPath::Chosen => settings.base.join(segment()),
    }
}

/// Returns the segment, if one has been chosen in this process.
pub(crate) fn chosen() -> Option<&'static str> {
    SEGMENT.get().map(String::as_str)
}

fn segment() -> &'static str {
    SEGMENT.get_or_init(|| {
        let inherited = std::env::var(RANDOM_PATH_VARIABLE).ok();
        inherited
            .filter(|text| is_segment(text))
            .unwrap_or_else(random)
    })
}

fn is_segment(text: &str) -> bool {
    text.len() == LEN && text.bytes().all(|byte| LETTERS.contains(&byte))
}

/// # Panics
///
/// If the system has no random numbers: a path that can be guessed must not be used.
fn random() -> String {
    let mut bytes = [0; LEN];
    getrandom(&mut bytes, GetRandomFlags::empty()).expect("random numbers of the system");
    let letters = bytes.iter().map(|byte| LETTERS[usize::from(byte % 32)]);
    letters.map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_segments_differ_and_are_recognized() {
        let (one, other) = (random(), random());
        assert_ne!(one, other);
        assert!(is_segment(&one) && is_segment(&other));
        assert!(!is_segment("short") && !is_segment(&format!("{one}x")));
        assert!(!is_segment("abcdefgh/ijkmnpq"));
    }
}
