//! The formats of archives, and the queries that ask for them.

/// The format of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ArchiveFormat {
    Tar,
    #[cfg(feature = "compress")]
    TarGz,
    #[cfg(feature = "compress")]
    TarZst,
    Zip,
}

/// How well the content of a file can be expected to be compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compressibility {
    Usual,
    /// It is compressed already.
    Low,
}

/// What a query says about archives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ArchiveQuery {
    /// It asks for an archive in this format.
    Asked(ArchiveFormat),
    /// It asks for an unknown format.
    Unknown,
    /// It does not mention archives.
    None,
}

impl ArchiveQuery {
    /// Parses `download=FORMAT`, and a bare `zip`. miniserve knows the former, dufs the latter. Of
    /// several parameters the first is used.
    pub(super) fn parse(query: Option<&str>) -> Self {
        let parameters = query.unwrap_or_default().split('&');
        let asked = parameters.filter_map(|parameter| match parameter {
            "zip" => Some(Self::Asked(ArchiveFormat::Zip)),
            _ => Some(Self::parse_name(parameter.strip_prefix("download=")?)),
        });
        asked.into_iter().next().unwrap_or(Self::None)
    }

    /// The names of miniserve have an underscore, those of files a dot.
    fn parse_name(name: &str) -> Self {
        Self::Asked(match name {
            "tar" => ArchiveFormat::Tar,
            #[cfg(feature = "compress")]
            "tar.gz" | "tar_gz" | "tgz" => ArchiveFormat::TarGz,
            #[cfg(feature = "compress")]
            "tar.zst" | "tar_zst" => ArchiveFormat::TarZst,
            "zip" => ArchiveFormat::Zip,
            _ => return Self::Unknown,
        })
    }
}

impl ArchiveFormat {
    /// The formats, in the order in which listings offer them.
    pub(super) const ALL: &[Self] = &[
        Self::Zip,
        #[cfg(feature = "compress")]
        Self::TarGz,
        #[cfg(feature = "compress")]
        Self::TarZst,
        Self::Tar,
    ];

    /// The extension of a file in this format, which is also its name in queries.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::Tar => "tar",
            #[cfg(feature = "compress")]
            Self::TarGz => "tar.gz",
            #[cfg(feature = "compress")]
            Self::TarZst => "tar.zst",
            Self::Zip => "zip",
        }
    }

    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Tar => "application/x-tar",
            #[cfg(feature = "compress")]
            Self::TarGz => "application/gzip",
            #[cfg(feature = "compress")]
            Self::TarZst => "application/zstd",
            Self::Zip => "application/zip",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_extension_is_a_query() {
        for format in ArchiveFormat::ALL {
            let query = format!("sort=size&download={}", format.extension());
            assert_eq!(
                ArchiveQuery::parse(Some(&query)),
                ArchiveQuery::Asked(*format)
            );
        }
    }

    #[test]
    fn other_queries_ask_for_no_archive() {
        let zip = ArchiveQuery::Asked(ArchiveFormat::Zip);
        for (query, expected) in [
            (None, ArchiveQuery::None),
            (Some(""), ArchiveQuery::None),
            (Some("zip"), zip),
            (Some("zip=12345"), ArchiveQuery::None),
            (Some("unzip"), ArchiveQuery::None),
            (Some("download"), ArchiveQuery::None),
            (Some("download=rar"), ArchiveQuery::Unknown),
            (Some("download="), ArchiveQuery::Unknown),
            (Some("download=zip&download=rar"), zip),
        ] {
            assert_eq!(ArchiveQuery::parse(query), expected, "{query:?}");
        }
    }
}
