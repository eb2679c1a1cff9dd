//! Tokens of connections: the key of a slot in a slab, and which of its tenants is meant. Nothing
//! that comes late reaches a stranger.

use mio::Token;

/// The token of an event loop's mailbox. No connection's has all bits set.
pub(crate) const WAKER_TOKEN: Token = Token(usize::MAX);

/// Gives each tenant of a slot another token.
#[derive(Debug, Default)]
pub(crate) struct TokenAllocator {
    next_generation: u32,
}

impl TokenAllocator {
    pub(crate) fn issue(&mut self, key: usize) -> Token {
        let token = Token((self.next_generation as usize) << 32 | key);
        self.next_generation = self.next_generation.wrapping_add(1) & (u32::MAX >> 1);
        token
    }
}

pub(crate) fn key_of(token: Token) -> usize {
    token.0 & u32::MAX as usize
}
