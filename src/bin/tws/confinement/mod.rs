//! The limits of the process: its user, its sandbox, its state directory.

pub(crate) mod privileges;
pub(crate) mod sandbox;
pub(crate) mod state_dir;
