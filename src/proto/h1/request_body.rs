//! A request's content while it comes in.

use ::http::StatusCode;

use super::chunked;
use super::exchange::Exchange;
use super::head::{Expectation, Head};
use crate::body::BodyWriter;
use crate::http::{FieldSpan, Rejection};
use crate::proto::transfer::{Direction, StalledOn, TransferProgress};

pub(crate) const TOO_LARGE: Rejection =
    Rejection::new(StatusCode::PAYLOAD_TOO_LARGE, "request body too large");

/// How a handler takes a content, and how many bytes of it at most.
#[derive(Debug)]
pub(crate) enum Intake {
    Whole(usize),
    /// While it comes in, through this.
    Streamed(u64, BodyWriter),
}

/// A request whose head is there and whose content is not.
#[derive(Debug)]
pub(crate) struct Receiving {
    pub(crate) head: Head,
    pub(crate) spans: Vec<FieldSpan>,
    pub(crate) exchange: Exchange,
    /// What has come of it, without transfer coding.
    pub(crate) content: Vec<u8>,
    /// What the handler takes, or takes yet.
    pub(crate) max_bytes: usize,
    decoder: Decoder,
    /// How much of a stream is passed on to its reader.
    passed_on: u64,
}

#[derive(Debug)]
pub(crate) enum Decoder {
    Length { left: u64 },
    Chunked(chunked::Decoder),
}

pub(crate) enum Progress {
    /// So many bytes of the input were the rest of the content.
    Complete(usize),
    /// So many bytes were content, and more must come.
    Incomplete(usize),
}

impl Receiving {
    pub(crate) fn new(
        head: Head,
        spans: Vec<FieldSpan>,
        exchange: Exchange,
        decoder: Decoder,
    ) -> Self {
        Self {
            head,
            spans,
            exchange,
            content: Vec::new(),
            max_bytes: 0,
            decoder,
            passed_on: 0,
        }
    }

    /// Takes what belongs to the content from the front of `input`.
    pub(crate) fn decode(&mut self, input: &[u8]) -> Result<Progress, Rejection> {
        let content = &mut self.content;
        let (taken, complete) = match &mut self.decoder {
            Decoder::Length { left } => {
                if content.len() as u64 + *left > self.max_bytes as u64 {
                    return Err(TOO_LARGE);
                }
                let taken = input
                    .len()
                    .min(usize::try_from(*left).unwrap_or(usize::MAX));
                content.extend_from_slice(&input[..taken]);
                *left -= taken as u64;
                (taken, *left == 0)
            }
            Decoder::Chunked(decoder) => {
                let taken = decoder.decode(input, content, self.max_bytes)?;
                (taken, decoder.is_done())
            }
        };
        Ok(match complete {
            true => Progress::Complete(taken),
            false => Progress::Incomplete(taken),
        })
    }

    /// Moves what was decoded on to the reader of a stream.
    pub(crate) fn pass_on(&mut self, writer: &BodyWriter) {
        let content = &mut self.content;
        if !content.is_empty() {
            writer.push(content);
            self.max_bytes -= content.len();
            self.passed_on += content.len() as u64;
            content.clear();
        }
    }

    /// How much of the content has come.
    pub(crate) fn received(&self) -> u64 {
        self.passed_on + self.content.len() as u64
    }

    /// The length of the content, if the head says it.
    pub(crate) fn announced_length(&self) -> Option<u64> {
        match self.decoder {
            Decoder::Length { left } => Some(self.received() + left),
            Decoder::Chunked(_) => None,
        }
    }

    /// The content, and how far it has come.
    pub(crate) fn passage(&self, stall: Option<StalledOn>) -> Option<TransferProgress<'_>> {
        Some(TransferProgress {
            direction: Direction::Up,
            info: self.exchange.info.as_deref()?,
            moved: self.received(),
            total: self.announced_length(),
            stall,
        })
    }

    /// True once, if the client waits to be told to go on (RFC 9110 §10.1.1): not if some of the
    /// content has come already.
    pub(crate) fn takes_up_wait(&mut self) -> bool {
        let waits = self.head.expectation == Expectation::Continue;
        self.head.expectation = Expectation::None;
        waits && self.received() == 0
    }
}
