//! The machine from the bytes of a client to the frames of the server: each case at once, byte by byte,
//! and split at every position.

mod bodies;
mod client;
mod closing;
mod flooding;
mod frames;
mod heads;
mod held_bodies;
mod model;
mod sending;
mod support;
mod turns;
