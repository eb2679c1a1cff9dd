//! The limits of the process: its user, its sandbox, the root opener, its state
//! directory, its program file.

pub(crate) mod privileges;
pub(crate) mod program_file;
pub(crate) mod root_opener;
pub(crate) mod sandbox;
pub(crate) mod state_dir;
