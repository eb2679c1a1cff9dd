//! What the process may do: its user, its sandbox, its state directory.

pub(crate) mod privileges;
pub(crate) mod sandbox;
#[cfg(feature = "sqlite")]
pub(crate) mod state_dir;
