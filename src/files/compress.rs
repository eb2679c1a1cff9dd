//! Compression of text that has no sidecar, and of sidecars. It takes milliseconds for a file of up to
//! 1 MiB, so it is done on a blocking thread, once for each state of a file; larger ones are compressed in
//! the background ([`background`](super::background)).

use std::fmt;
use std::io::{self, BufRead, Read, Write};

use bytes::Bytes;

use crate::body::BodyProducer;
use crate::http::negotiation::Coding;

/// Smaller content saves less than the size of a response head.
const MIN_BYTES: u64 = 1024;

/// Larger content would delay the first request too much; it is compressed in the background.
const MAX_WAIT_BYTES: u64 = 1024 * 1024;

/// Larger content would take too much memory; it needs a sidecar.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// When content is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CompressionTime {
    /// Before the response.
    Now,
    /// For later responses.
    Background,
}

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

/// Checks whether content of this length is compressed in this build, and when. For a client that does not
/// accept the identity coding, no content but the empty one is too small.
pub(super) fn check_len(
    len: u64,
    identity_rejected: bool,
) -> Result<CompressionTime, NotCompressed> {
    let min = if identity_rejected { 1 } else { MIN_BYTES };
    match len {
        _ if !cfg!(feature = "compress") => Err(NotCompressed::NotBuiltIn),
        len if len < min => Err(NotCompressed::TooSmall),
        len if len > MAX_BYTES => Err(NotCompressed::TooLarge),
        len if len > MAX_WAIT_BYTES => Ok(CompressionTime::Background),
        _ => Ok(CompressionTime::Now),
    }
}

/// The effort of an encoder, which decides its levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effort {
    /// About as fast as gzip 6: brotli 5 and zstd 6 compress better.
    Dynamic,
    /// As small as is useful: brotli 11, zstd 19, gzip 9.
    Smallest,
}

/// An encoder whose output is written to `W`.
pub(super) struct Encoder<W: Write>(codec::Encoder<W>);

impl<W: Write> Encoder<W> {
    /// `len` is the length of the content, if it is known.
    pub(super) fn new(
        out: W,
        coding: Coding,
        effort: Effort,
        len: Option<u64>,
    ) -> io::Result<Self> {
        codec::Encoder::new(out, coding, effort, len).map(Self)
    }

    /// Writes the end, and returns the output.
    pub(super) fn finish(self) -> io::Result<W> {
        self.0.finish()
    }

    /// Returns the output.
    pub(super) fn output(&mut self) -> &mut W {
        self.0.output()
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Compresses what a producer returns, while it is sent.
pub(super) struct EncodedProducer<P> {
    inner: P,
    coding: Coding,
    /// `None` before the first piece and after the last one.
    encoder: Option<Encoder<Vec<u8>>>,
    has_ended: bool,
}

impl<P: BodyProducer> EncodedProducer<P> {
    pub(super) fn new(inner: P, coding: Coding) -> Self {
        Self {
            inner,
            coding,
            encoder: None,
            has_ended: false,
        }
    }
}

impl<P: BodyProducer> BodyProducer for EncodedProducer<P> {
    /// Returns what the next pieces are compressed to, as soon as that is anything.
    fn next_piece(&mut self) -> io::Result<Option<Bytes>> {
        while !self.has_ended {
            let mut encoder = match self.encoder.take() {
                Some(encoder) => encoder,
                None => Encoder::new(Vec::new(), self.coding, Effort::Dynamic, None)?,
            };
            let encoded = match self.inner.next_piece()? {
                Some(piece) => {
                    encoder.write_all(&piece)?;
                    let encoded = std::mem::take(encoder.output());
                    self.encoder = Some(encoder);
                    encoded
                }
                None => {
                    self.has_ended = true;
                    encoder.finish()?
                }
            };
            if !encoded.is_empty() {
                return Ok(Some(Bytes::from(encoded)));
            }
        }
        Ok(None)
    }
}

/// True if this build can compress.
pub(super) const fn is_built_in() -> bool {
    cfg!(feature = "compress")
}

/// Compresses `content`; returns `None` if that makes it no smaller.
pub(super) fn encode(content: &[u8], coding: Coding) -> io::Result<Option<Vec<u8>>> {
    if !is_built_in() || coding == Coding::Identity {
        return Ok(None);
    }
    let len = Some(content.len() as u64);
    let mut encoder = Encoder::new(Vec::new(), coding, Effort::Dynamic, len)?;
    encoder.write_all(content)?;
    let encoded = encoder.finish()?;
    Ok((encoded.len() < content.len()).then_some(encoded))
}

/// Returns a reader of the content that `encoded` decodes to.
pub(super) fn decoder<'r>(
    encoded: impl BufRead + 'r,
    coding: Coding,
) -> io::Result<Box<dyn Read + 'r>> {
    codec::decoder(encoded, coding)
}

#[cfg(feature = "compress")]
mod codec {
    use std::io::{self, BufRead, Read, Write};

    use super::Effort;
    use crate::http::negotiation::Coding;

    pub(super) enum Encoder<W: Write> {
        Gzip(flate2::write::GzEncoder<W>),
        Zstd(zstd::stream::write::Encoder<'static, W>),
        Brotli(Box<brotli::CompressorWriter<W>>),
    }

    impl<W: Write> Encoder<W> {
        pub(super) fn new(
            out: W,
            coding: Coding,
            effort: Effort,
            len: Option<u64>,
        ) -> io::Result<Self> {
            const BUFFER_BYTES: usize = 64 * 1024;
            /// Clients need not support larger windows (RFC 9659).
            const MAX_ZSTD_WINDOW_BITS: u32 = 23;
            let is_smallest = effort == Effort::Smallest;
            Ok(match coding {
                Coding::Gzip => {
                    let level = flate2::Compression::new(if is_smallest { 9 } else { 6 });
                    Self::Gzip(flate2::write::GzEncoder::new(out, level))
                }
                Coding::Zstd => {
                    let level = if is_smallest { 19 } else { 6 };
                    let mut encoder = zstd::stream::write::Encoder::new(out, level)?;
                    encoder.set_pledged_src_size(len)?;
                    if is_smallest {
                        encoder.window_log(MAX_ZSTD_WINDOW_BITS)?;
                    }
                    Self::Zstd(encoder)
                }
                Coding::Brotli => {
                    let (quality, window_bits) = if is_smallest { (11, 22) } else { (5, 20) };
                    let encoder =
                        brotli::CompressorWriter::new(out, BUFFER_BYTES, quality, window_bits);
                    Self::Brotli(Box::new(encoder))
                }
                Coding::Identity => return Err(io::ErrorKind::Unsupported.into()),
            })
        }

        pub(super) fn finish(self) -> io::Result<W> {
            match self {
                Self::Gzip(encoder) => encoder.finish(),
                Self::Zstd(encoder) => encoder.finish(),
                Self::Brotli(mut encoder) => {
                    // `into_inner` does not report errors of the end.
                    encoder.flush()?;
                    Ok(encoder.into_inner())
                }
            }
        }

        pub(super) fn output(&mut self) -> &mut W {
            match self {
                Self::Gzip(encoder) => encoder.get_mut(),
                Self::Zstd(encoder) => encoder.get_mut(),
                Self::Brotli(encoder) => encoder.get_mut(),
            }
        }
    }

    pub(super) fn decoder<'r>(
        encoded: impl BufRead + 'r,
        coding: Coding,
    ) -> io::Result<Box<dyn Read + 'r>> {
        const BUFFER_BYTES: usize = 64 * 1024;
        Ok(match coding {
            // A file may have several members (RFC 1952 §2.2), or several frames of zstd.
            Coding::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(encoded)),
            Coding::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(encoded)?),
            Coding::Brotli => Box::new(brotli::Decompressor::new(encoded, BUFFER_BYTES)),
            Coding::Identity => Box::new(encoded),
        })
    }

    impl<W: Write> Write for Encoder<W> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self {
                Self::Gzip(encoder) => encoder.write(bytes),
                Self::Zstd(encoder) => encoder.write(bytes),
                Self::Brotli(encoder) => encoder.write(bytes),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            match self {
                Self::Gzip(encoder) => encoder.flush(),
                Self::Zstd(encoder) => encoder.flush(),
                Self::Brotli(encoder) => encoder.flush(),
            }
        }
    }
}

#[cfg(not(feature = "compress"))]
mod codec {
    use std::io::{self, BufRead, Read, Write};

    use super::Effort;
    use crate::http::negotiation::Coding;

    fn not_built_in() -> io::Error {
        io::Error::other("this tws was built without the feature compress")
    }

    pub(super) fn decoder<'r>(_: impl BufRead + 'r, _: Coding) -> io::Result<Box<dyn Read + 'r>> {
        Err(not_built_in())
    }

    /// There is none.
    #[allow(dead_code, reason = "it is never constructed")]
    pub(super) struct Encoder<W: Write>(W);

    impl<W: Write> Encoder<W> {
        pub(super) fn new(_: W, _: Coding, _: Effort, _: Option<u64>) -> io::Result<Self> {
            Err(not_built_in())
        }

        pub(super) fn finish(self) -> io::Result<W> {
            Ok(self.0)
        }

        pub(super) fn output(&mut self) -> &mut W {
            &mut self.0
        }
    }

    impl<W: Write> Write for Encoder<W> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            self.0.flush()
        }
    }
}

#[cfg(all(test, feature = "compress"))]
mod tests {
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
            decoder(&encoded[..], coding)?.read_to_end(&mut decoded)?;
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
