//! Style figures that may only get better. `ratchet.json` lists the debts: what breaks a rule today and may not get worse.
//! Whatever is not listed must keep the rule itself.

mod scan;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::process::Failure;
use crate::repository::{Package, Repository};

/// A function fits a screen.
const FUNCTION_LINES: usize = 70;
/// A file without its tests.
const FILE_LINES: usize = 1000;
/// From here on a file is mentioned.
const LONG_FILE_LINES: usize = 500;
/// One assertion in 25 lines of code.
const ASSERTIONS: usize = 40;
/// Below this much code a density says nothing.
const DENSITY_FROM_LINES: usize = 200;
/// The crates whose state machines must say what they hold to be true.
const ASSERTING: [&str; 11] = [
    "protocol",
    "log",
    "ordering",
    "partitioning",
    "crdt",
    "replication",
    "coordination",
    "recovery",
    "resp",
    "data",
    "node",
];
/// Where the debts stand.
const FILE: &str = "crates/xtask/ratchet.json";

/// What breaks a rule, and by how much.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Debts {
    /// `file::function` with its lines.
    functions_over_70_lines: BTreeMap<String, usize>,
    /// Files with their lines outside tests.
    files_over_1000_lines: BTreeMap<String, usize>,
    /// Files with their calls of `unwrap` outside tests.
    unwraps: BTreeMap<String, usize>,
    /// Pure crates with their assertions in 1,000 lines of code.
    assertions_per_1000_lines: BTreeMap<String, usize>,
}

/// What a crate's code says about itself, summed.
#[derive(Default)]
struct Density {
    code_lines: usize,
    assertions: usize,
}

/// All that was counted in the tree.
pub(crate) struct Measured {
    debts: Debts,
    /// Files between 500 and 1,000 lines.
    long_files: Vec<(String, usize)>,
    files: usize,
}

impl Debts {
    /// The figures side by side: name, whether less is better, today's rule-breakers, the listed ones.
    fn figures<'a>(&'a self, listed: &'a Debts) -> [Figure<'a>; 4] {
        let less = |name, now, listed| Figure { name, less_is_better: true, now, listed };
        let more = |name, now, listed| Figure { name, less_is_better: false, now, listed };
        [
            less("functions_over_70_lines", &self.functions_over_70_lines, &listed.functions_over_70_lines),
            less("files_over_1000_lines", &self.files_over_1000_lines, &listed.files_over_1000_lines),
            less("unwraps", &self.unwraps, &listed.unwraps),
            more(
                "assertions_per_1000_lines",
                &self.assertions_per_1000_lines,
                &listed.assertions_per_1000_lines,
            ),
        ]
    }

    /// What got worse than `listed`, one line a place.
    fn worse_than(&self, listed: &Debts) -> Vec<String> {
        self.figures(listed).iter().flat_map(Figure::worse).collect()
    }

    /// `listed` with every improvement, and without what is paid; nothing gets worse.
    fn improved(&self, listed: &Debts) -> Debts {
        let [functions, files, unwraps, assertions] = self.figures(listed).map(|figure| figure.improved());
        Debts {
            functions_over_70_lines: functions,
            files_over_1000_lines: files,
            unwraps,
            assertions_per_1000_lines: assertions,
        }
    }
}

struct Figure<'a> {
    name: &'static str,
    less_is_better: bool,
    now: &'a BTreeMap<String, usize>,
    listed: &'a BTreeMap<String, usize>,
}

impl Figure<'_> {
    fn is_worse(&self, now: usize, listed: usize) -> bool {
        if self.less_is_better { now > listed } else { now < listed }
    }

    fn worse(&self) -> Vec<String> {
        let line = |(place, now): (&String, &usize)| match self.listed.get(place) {
            Some(listed) if !self.is_worse(*now, *listed) => None,
            Some(listed) => Some(format!("{}: {place}: {now}, was {listed}", self.name)),
            None => Some(format!("{}: {place}: {now}", self.name)),
        };
        self.now.iter().filter_map(line).collect()
    }

    fn improved(&self) -> BTreeMap<String, usize> {
        let kept = |(place, listed): (&String, &usize)| {
            let now = *self.now.get(place)?;
            Some((place.clone(), if self.is_worse(now, *listed) { *listed } else { now }))
        };
        self.listed.iter().filter_map(kept).collect()
    }
}

/// Compares the tree with the listed debts; returns a summary.
///
/// # Errors
///
/// Names every place that got worse.
pub(crate) fn check(repository: &Repository) -> Result<String, Failure> {
    let measured = measure(repository)?;
    let listed = read(repository)?;
    let mut worse = measured.debts.worse_than(&listed);
    if !worse.is_empty() {
        worse.push(format!(
            "(mend it, or write the debt into {FILE}, with the reason in the commit's message)"
        ));
        return Err(Failure::Found(worse));
    }
    for (path, lines) in &measured.long_files {
        println!("  long: {path}, {lines} lines");
    }
    let hint =
        if measured.debts.improved(&listed) == listed { "" } else { "; some are paid: cargo xtask fix" };
    let debts: usize = listed.figures(&listed).iter().map(|figure| figure.listed.len()).sum();
    Ok(format!("{} files, {debts} debts{hint}", measured.files))
}

/// Writes what got better; without a file, all that is. Returns what it did.
///
/// # Errors
///
/// If a file can't be read or written.
pub(crate) fn write_improved(repository: &Repository) -> Result<String, Failure> {
    let path = repository.root.join(FILE);
    let measured = measure(repository)?.debts;
    let improved = if path.exists() {
        let listed = read(repository)?;
        let improved = measured.improved(&listed);
        if improved == listed {
            return Ok(format!("{FILE}: nothing to improve"));
        }
        improved
    } else {
        measured
    };
    let json = serde_json::to_string_pretty(&improved).expect("maps of numbers are JSON");
    fs::write(&path, json + "\n").map_err(|source| Failure::File { path, source })?;
    Ok(format!("{FILE}: written"))
}

fn read(repository: &Repository) -> Result<Debts, Failure> {
    let path = repository.root.join(FILE);
    let json = read_file(&path)?;
    serde_json::from_str(&json).map_err(|error| Failure::found(format!("{FILE}: {error}")))
}

fn read_file(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|source| Failure::File { path: path.to_path_buf(), source })
}

fn measure(repository: &Repository) -> Result<Measured, Failure> {
    let mut measured = Measured { debts: Debts::default(), long_files: Vec::new(), files: 0 };
    for package in &repository.packages {
        let density = measure_crate(repository, package, &mut measured)?;
        let name = package.bare_name();
        if ASSERTING.contains(&name) && density.code_lines >= DENSITY_FROM_LINES {
            let per_1000 = density.assertions * 1000 / density.code_lines;
            if per_1000 < ASSERTIONS {
                measured.debts.assertions_per_1000_lines.insert(name.to_string(), per_1000);
            }
        }
    }
    Ok(measured)
}

fn measure_crate(
    repository: &Repository,
    package: &Package,
    measured: &mut Measured,
) -> Result<Density, Failure> {
    let mut counted = Vec::new();
    let mut test_paths = Vec::new();
    for path in rust_files(&package.folder().join("src"))? {
        let counts = scan::count(&read_file(&path)?);
        let modules = children_folder(&path);
        for module in &counts.test_modules {
            test_paths.push(modules.join(format!("{module}.rs")));
            test_paths.push(modules.join(module));
        }
        counted.push((path, counts));
    }
    counted.retain(|(path, _)| !test_paths.iter().any(|test| path.starts_with(test)));

    let mut density = Density::default();
    for (path, counts) in counted {
        density.code_lines += counts.code_lines;
        density.assertions += counts.assertions;
        measured.add(&repository.shown(&path), &counts);
    }
    Ok(density)
}

impl Measured {
    fn add(&mut self, path: &str, counts: &scan::Counts) {
        self.files += 1;
        if counts.lines > FILE_LINES {
            self.debts.files_over_1000_lines.insert(path.to_string(), counts.lines);
        } else if counts.lines > LONG_FILE_LINES {
            self.long_files.push((path.to_string(), counts.lines));
        }
        if counts.unwraps > 0 {
            self.debts.unwraps.insert(path.to_string(), counts.unwraps);
        }
        for (function, lines) in counts.functions.iter().filter(|(_, lines)| *lines > FUNCTION_LINES) {
            // Several types of a file may have a function of one name; each is a debt of its own.
            let debts = &mut self.debts.functions_over_70_lines;
            let mut key = format!("{path}::{function}");
            for number in 2.. {
                if !debts.contains_key(&key) {
                    break;
                }
                key = format!("{path}::{function}#{number}");
            }
            debts.insert(key, *lines);
        }
    }
}

/// Where the files of a file's modules lie.
fn children_folder(file: &Path) -> PathBuf {
    let folder = file.parent().expect("a file lies in a folder");
    match file.file_stem().and_then(|stem| stem.to_str()) {
        Some("lib" | "main" | "mod") | None => folder.to_path_buf(),
        Some(stem) => folder.join(stem),
    }
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |source| Failure::File { path: folder.to_path_buf(), source };
    let mut files = Vec::new();
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .map_err(failed)?;
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}
