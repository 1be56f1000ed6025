//! What cargo knows about the workspace: where it is, its packages, where its binaries come to lie.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::process::{Failure, Task};

/// The workspace that this task was built in.
pub(crate) struct Repository {
    /// The folder of the workspace's `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Cargo's target folder.
    pub(crate) target: PathBuf,
    /// Our packages, in cargo's order.
    pub(crate) packages: Vec<Package>,
}

/// One package, as `cargo metadata` writes it.
#[derive(Deserialize)]
pub(crate) struct Package {
    /// Its name, `keypact-..`.
    pub(crate) name: String,
    /// Its manifest's path.
    pub(crate) manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

/// The three ways in which the binary is built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Build {
    /// As the README's first command builds it.
    Release,
    /// As it is installed: profile `dist`.
    Dist,
    /// As developers run it, for comparing traces.
    Debug,
    /// With planted bugs, in a target folder of its own so that they can't slip into the other two.
    Plant,
}

impl Package {
    /// The crate's bare name, as its folder has it.
    pub(crate) fn bare_name(&self) -> &str {
        self.name.strip_prefix("keypact-").unwrap_or(&self.name)
    }

    /// The package's folder.
    pub(crate) fn folder(&self) -> &Path {
        self.manifest_path.parent().expect("a manifest lies in a folder")
    }

    /// Names of its bench targets.
    pub(crate) fn benches(&self) -> impl Iterator<Item = &str> {
        let of_kind = |target: &&Target| target.kind.iter().any(|kind| kind == "bench");
        self.targets.iter().filter(of_kind).map(|target| target.name.as_str())
    }
}

impl Repository {
    /// Asks cargo about the workspace of this source file.
    ///
    /// # Errors
    ///
    /// If cargo fails, or writes what it does not document.
    pub(crate) fn find() -> Result<Repository, Failure> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let start = Repository { target: root.join("target"), root, packages: Vec::new() };
        let task = Task::cargo(&start, ["metadata", "--format-version", "1", "--no-deps"]);
        let command = task.shown();
        let metadata: Metadata = serde_json::from_str(&task.output()?)
            .map_err(|error| Failure::Output { command, reason: error.to_string() })?;
        Ok(Repository {
            root: metadata.workspace_root,
            target: metadata.target_directory,
            packages: metadata.packages,
        })
    }

    /// Builds the `keypact` binary (at no cost if nothing changed) and returns its path.
    ///
    /// # Errors
    ///
    /// If it does not build.
    pub(crate) fn keypact(&self, build: Build) -> Result<PathBuf, Failure> {
        let task = Task::cargo(self, ["build", "--quiet", "-p", "keypact-cli"]);
        let (task, folder) = match build {
            Build::Release => (task.argument("--release"), self.target.join("release")),
            Build::Dist => (task.arguments(["--profile", "dist"]), self.target.join("dist")),
            Build::Debug => (task, self.target.join("debug")),
            Build::Plant => {
                let target = self.target.join("plant");
                let task =
                    task.arguments(["--release", "--features", "plant", "--target-dir"]).argument(&target);
                (task, target.join("release"))
            }
        };
        task.run()?;
        let binary = folder.join(format!("keypact{}", std::env::consts::EXE_SUFFIX));
        if binary.exists() {
            return Ok(binary);
        }
        Err(Failure::found(format!("keypact-cli was built, but there is no {}", binary.display())))
    }

    /// The package with this bare name.
    pub(crate) fn package(&self, bare_name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.bare_name() == bare_name)
    }

    /// A path as it is shown: from the root, with `/`.
    pub(crate) fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().replace('\\', "/")
    }
}
