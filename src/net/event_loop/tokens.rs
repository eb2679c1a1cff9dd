//! mio tokens: a slab key and a generation, so that a stale event or a late message never reaches
//! the connection that has reused a slot.

use mio::Token;

/// The token of an event loop's waker. No connection's token has all bits set.
pub(crate) const WAKER_TOKEN: Token = Token(usize::MAX);

/// Issues a new generation for each use of a slot.
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

/// Returns the slab key of a token.
pub(crate) fn key_of(token: Token) -> usize {
    token.0 & u32::MAX as usize
}
