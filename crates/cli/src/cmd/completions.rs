//! `keypact completions`: completions for shells.

use clap::Args;
use clap_complete::Shell;

use crate::command_line;
use crate::failure::Failure;

const AFTER: &str = "\
Examples:
  keypact completions bash > ~/.local/share/bash-completion/completions/keypact
  keypact completions zsh > ~/.zfunc/_keypact
  keypact completions fish > ~/.config/fish/completions/keypact.fish";

/// Print completions for a shell
#[derive(Args)]
#[command(after_help = AFTER)]
pub(crate) struct Completions {
    /// Which shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command_line(), "keypact", &mut script);
        crate::output::say(String::from_utf8_lossy(&script).trim_end());
        Ok(())
    }
}
