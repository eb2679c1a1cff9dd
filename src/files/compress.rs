//! Compression of text that has no sidecar. It takes milliseconds, so it is done on a blocking
//! thread, once for each state of a file.

use std::fmt;
use std::io;

use crate::http::negotiation::Coding;

/// Smaller content saves less than the size of a response head.
const MIN_BYTES: u64 = 1024;

/// Larger content would delay the first request too much; it needs a sidecar.
const MAX_BYTES: u64 = 1024 * 1024;

/// Why content is not compressed on the fly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotCompressed {
    /// Only sidecars are to be served.
    SidecarsOnly,
    /// Content of this type would not become clearly smaller.
    MediaType,
    TooSmall,
    TooLarge,
    /// This build cannot compress.
    NotBuiltIn,
}

impl fmt::Display for NotCompressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SidecarsOnly => {
                f.write_str("only sidecars are served (--compress auto compresses on the fly)")
            }
            Self::MediaType => f.write_str("its media type is not compressed on the fly"),
            Self::TooSmall => write!(f, "it is smaller than {MIN_BYTES} bytes"),
            Self::TooLarge => write!(f, "it is larger than {MAX_BYTES} bytes and needs a sidecar"),
            Self::NotBuiltIn => f.write_str("this tws was built without the feature compress"),
        }
    }
}

/// Checks whether content of this length is compressed in this build. For a client that does not
/// accept the identity coding, no content but the empty one is too small.
pub(super) fn check_len(len: u64, identity_rejected: bool) -> Result<(), NotCompressed> {
    let min = if identity_rejected { 1 } else { MIN_BYTES };
    match len {
        _ if !cfg!(feature = "compress") => Err(NotCompressed::NotBuiltIn),
        len if len < min => Err(NotCompressed::TooSmall),
        len if len > MAX_BYTES => Err(NotCompressed::TooLarge),
        _ => Ok(()),
    }
}

/// Compresses `content`; returns `None` if that makes it no smaller.
pub(super) fn encode(content: &[u8], coding: Coding) -> io::Result<Option<Vec<u8>>> {
    let encoded = codec::encode(content, coding)?;
    Ok(encoded.filter(|encoded| encoded.len() < content.len()))
}

/// The levels are the usual ones for dynamic compression: brotli 5 and zstd 6 are about as fast as
/// gzip 6, and compress better.
#[cfg(feature = "compress")]
mod codec {
    use std::io::{self, Write};

    use crate::http::negotiation::Coding;

    pub(super) fn encode(content: &[u8], coding: Coding) -> io::Result<Option<Vec<u8>>> {
        match coding {
            Coding::Identity => Ok(None),
            Coding::Gzip => gzip(content).map(Some),
            Coding::Zstd => zstd::bulk::compress(content, 6).map(Some),
            Coding::Brotli => brotli(content).map(Some),
        }
    }

    fn gzip(content: &[u8]) -> io::Result<Vec<u8>> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        encoder.write_all(content)?;
        encoder.finish()
    }

    fn brotli(content: &[u8]) -> io::Result<Vec<u8>> {
        const BUFFER_BYTES: usize = 64 * 1024;
        const QUALITY: u32 = 5;
        const WINDOW_BITS: u32 = 20;
        let mut encoded = Vec::new();
        let mut encoder =
            brotli::CompressorWriter::new(&mut encoded, BUFFER_BYTES, QUALITY, WINDOW_BITS);
        encoder.write_all(content)?;
        drop(encoder);
        Ok(encoded)
    }
}

#[cfg(not(feature = "compress"))]
mod codec {
    use std::io;

    use crate::http::negotiation::Coding;

    pub(super) fn encode(_: &[u8], _: Coding) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }
}

#[cfg(all(test, feature = "compress"))]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn encoded_content_decodes_to_itself() -> io::Result<()> {
        let content: Vec<u8> = (0..20_000_u32)
            .flat_map(|n| format!("line {n}\n").into_bytes())
            .collect();
        for coding in [Coding::Gzip, Coding::Zstd, Coding::Brotli] {
            let encoded = encode(&content, coding)?.expect("it is smaller");
            assert!(encoded.len() < content.len() / 2, "{coding:?}");
            let mut decoded = Vec::new();
            match coding {
                Coding::Gzip => {
                    flate2::read::GzDecoder::new(&encoded[..]).read_to_end(&mut decoded)?
                }
                Coding::Zstd => zstd::Decoder::new(&encoded[..])?.read_to_end(&mut decoded)?,
                _ => brotli::Decompressor::new(&encoded[..], 4096).read_to_end(&mut decoded)?,
            };
            assert!(decoded == content, "{coding:?}");
        }
        Ok(())
    }

    #[test]
    fn content_that_would_grow_is_not_encoded() -> io::Result<()> {
        for coding in [Coding::Gzip, Coding::Zstd, Coding::Brotli] {
            assert_eq!(encode(b"ab", coding)?, None, "{coding:?}");
        }
        Ok(())
    }
}
