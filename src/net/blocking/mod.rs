//! Thread pools for work that may block.

pub(crate) mod body_writer;
pub(crate) mod disk;
pub(crate) mod pool;
