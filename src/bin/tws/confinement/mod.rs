//! What the process may do: its user, its sandbox, its state directory.

pub(crate) mod privileges;
pub(crate) mod sandbox;
pub(crate) mod state_dir;
