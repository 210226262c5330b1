//! Rules of the project that no compiler holds. CONTRIBUTING.md says why each of them is there.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a test says no; clippy knows only the functions marked #[test]"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// Which packages of the workspace each package may depend on outside its tests, and no others.
const MAY_DEPEND_ON: [(&str, &[&str]); 9] = [
    ("hopwise-core", &[]),
    ("hopwise-api", &["hopwise-core"]),
    ("hopwise-kernel", &["hopwise-core"]),
    ("hopwise-store", &["hopwise-api", "hopwise-core"]),
    ("hopwise-cni", &["hopwise-core", "hopwise-kernel"]),
    ("hopwise-agent", &["hopwise-api", "hopwise-core", "hopwise-kernel", "hopwise-store"]),
    ("hopwise-lab", &["hopwise-api", "hopwise-core", "hopwise-kernel"]),
    (
        "hopwise",
        &["hopwise-agent", "hopwise-api", "hopwise-core", "hopwise-kernel", "hopwise-lab", "hopwise-store"],
    ),
    ("xtask", &[]),
];

/// What a package must not get, not even through others.
const NEVER_REACHES: [(&str, &[&str]); 3] = [
    ("hopwise-core", &["tokio", "libc", "nix", "kube", "clap", "serde"]),
    ("hopwise-kernel", &["tokio", "clap", "serde"]),
    ("hopwise-cni", &["tokio", "clap", "tracing", "regex"]),
];

/// More lines than this in one file, and it holds more than one thing.
const MAX_LINES: usize = 600;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn metadata() -> Metadata {
    MetadataCommand::new().manifest_path(workspace().join("Cargo.toml")).exec().unwrap()
}

/// Files of the project with one of these extensions, target folders and hidden folders left out, by relative path.
fn files(extensions: &[&str]) -> BTreeMap<PathBuf, String> {
    fn walk(dir: &Path, extensions: &[&str], found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                let skipped = ["target", "corpus", "artifacts", "coverage"].contains(&name.as_str());
                if !skipped && !name.starts_with('.') {
                    walk(&path, extensions, found);
                }
            } else if extensions.iter().any(|extension| path.extension().is_some_and(|e| e == *extension)) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&workspace(), extensions, &mut found);
    let relative = |path: &PathBuf| path.strip_prefix(workspace()).unwrap().to_owned();
    found.iter().map(|path| (relative(path), fs::read_to_string(path).unwrap())).collect()
}

/// Fails with all findings at once.
fn none(what: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{what}:\n  {}", findings.join("\n  "));
}

#[test]
fn packages_depend_on_each_other_as_laid_down() {
    let metadata = metadata();
    let table: BTreeMap<&str, BTreeSet<&str>> =
        MAY_DEPEND_ON.iter().map(|(name, allowed)| (*name, allowed.iter().copied().collect())).collect();
    let members: BTreeSet<&str> = metadata.workspace_packages().iter().map(|p| p.name.as_str()).collect();
    assert_eq!(members, table.keys().copied().collect(), "packages of the workspace and of the table differ");

    let mut findings = Vec::new();
    for package in metadata.workspace_packages() {
        let allowed = &table[package.name.as_str()];
        for dependency in package.dependencies.iter().filter(|d| d.kind != DependencyKind::Development) {
            let name = dependency.name.as_str();
            if members.contains(name) && !allowed.contains(name) {
                findings.push(format!("{} depends on {name}", package.name));
            }
        }
    }
    none("dependencies against the table in ARCHITECTURE.md", &findings);
}

#[test]
fn packages_stay_free_of_what_they_must_not_reach() {
    let metadata = metadata();
    let resolve = metadata.resolve.as_ref().unwrap();
    let nodes: BTreeMap<_, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let mut findings = Vec::new();
    for (name, forbidden) in NEVER_REACHES {
        let root = metadata.packages.iter().find(|package| package.name.as_str() == name).unwrap();
        let (mut reached, mut queue) = (BTreeSet::new(), vec![&root.id]);
        while let Some(id) = queue.pop() {
            if !reached.insert(id) {
                continue;
            }
            // Build dependencies, procedural macros' own included, run at build time only.
            let normal = nodes[id].deps.iter().filter(|dependency| {
                dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal)
            });
            queue.extend(normal.map(|dependency| &dependency.pkg).filter(|id| !is_proc_macro(&metadata, id)));
        }
        let names: BTreeSet<&str> = reached.iter().map(|id| metadata[*id].name.as_str()).collect();
        findings
            .extend(forbidden.iter().filter(|f| names.contains(*f)).map(|f| format!("{name} reaches {f}")));
    }
    none("dependencies that would make a crate heavier than it is meant to be", &findings);
}

fn is_proc_macro(metadata: &Metadata, id: &cargo_metadata::PackageId) -> bool {
    metadata[id].targets.iter().any(cargo_metadata::Target::is_proc_macro)
}

#[test]
fn every_package_takes_the_lints_and_the_version_of_the_workspace() {
    let mut findings = Vec::new();
    for package in metadata().workspace_packages() {
        let manifest = fs::read_to_string(&package.manifest_path).unwrap();
        for line in ["[lints]\nworkspace = true", "version.workspace = true", "license.workspace = true"] {
            if !manifest.contains(line) {
                findings.push(format!("{}: no {line:?}", package.manifest_path));
            }
        }
        if package.description.as_deref().unwrap_or_default().is_empty() {
            findings.push(format!("{}: no description", package.manifest_path));
        }
    }
    none("manifests", &findings);
}

#[test]
fn files_are_short() {
    let long = files(&["rs", "md"]).into_iter().filter(|(_, text)| text.lines().count() > MAX_LINES);
    let findings: Vec<_> =
        long.map(|(path, text)| format!("{}: {}", path.display(), text.lines().count())).collect();
    none("files of more than 600 lines: split them by responsibility", &findings);
}

#[test]
fn nothing_is_left_for_later() {
    let mut findings = Vec::new();
    for (path, text) in files(&["rs"]) {
        // This file has to name what it looks for.
        if path.ends_with("xtask/tests/tidy.rs") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let skipped = line.trim_start().starts_with("#[ignore");
            let unfinished =
                ["todo!(", "unimplemented!(", "TODO", "FIXME", "XXX"].iter().any(|word| line.contains(word));
            if skipped || unfinished {
                findings.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    none("unfinished work and tests that don't run", &findings);
}

#[test]
fn no_module_is_called_utils() {
    let names = ["util.rs", "utils.rs", "helper.rs", "helpers.rs", "misc.rs", "common.rs"];
    let files = files(&["rs"]);
    let found =
        files.keys().filter(|path| names.iter().any(|name| path.file_name().is_some_and(|f| f == *name)));
    // The field's own habit for code shared by several test binaries or benches is a folder, which this does not find.
    none("modules named after nothing", &found.map(|path| path.display().to_string()).collect::<Vec<_>>());
}

#[test]
fn the_changelog_says_what_is_new() {
    let text = fs::read_to_string(workspace().join("CHANGELOG.md")).unwrap();
    let unreleased = text.split("\n## ").find(|section| section.starts_with("[Unreleased]"));
    let entries = unreleased.unwrap_or_default().lines().filter(|line| line.starts_with("- ")).count();
    assert!(entries > 0, "CHANGELOG.md has no entry under ## [Unreleased]");
}

#[test]
fn links_in_documents_lead_somewhere() {
    let documents = files(&["md"]);
    let mut findings = Vec::new();
    for (path, text) in &documents {
        for link in links(text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target =
                if file.is_empty() { path.clone() } else { normal(&path.with_file_name("").join(file)) };
            if !workspace().join(&target).exists() {
                findings.push(format!("{}: {link}: no such file", path.display()));
            } else if !anchor.is_empty()
                && !documents.get(&target).is_some_and(|t| anchors(t).contains(anchor))
            {
                findings.push(format!("{}: {link}: no such heading", path.display()));
            }
        }
    }
    none("links", &findings);
}

/// The targets of `[text](target)` outside code blocks.
fn links(text: &str) -> Vec<&str> {
    let prose = text.split("\n```").step_by(2);
    let targets = prose.flat_map(|prose| prose.split("](").skip(1));
    targets.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target).collect()
}

/// The anchors of headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| line.trim_start_matches('#').trim().to_lowercase())
        .map(|title| {
            let kept = title.chars().filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-' || *c == '_');
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// A path without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                normal.pop();
            }
            std::path::Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}

#[test]
fn every_note_is_documented() {
    let documented = fs::read_to_string(workspace().join("docs/notes.md")).unwrap();
    let heading = |line: &str| -> Option<String> {
        let title = line.strip_prefix('#')?.trim_start_matches('#').trim();
        Some(title.strip_prefix('`')?.strip_suffix('`')?.to_owned())
    };
    let headings: BTreeSet<String> = documented.lines().filter_map(heading).collect();
    let mut written = BTreeSet::new();
    for (path, text) in files(&["rs"]) {
        if path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs") {
            continue;
        }
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        written.extend(kebab_literals(code, "id: \""));
        // Planning makes notes through functions that take the id.
        if path.starts_with("crates/core/src/plan") {
            written.extend(kebab_literals(&code.replace("starts_with(\"", ""), "\""));
        }
    }
    assert!(!written.is_empty(), "no note id found in the code: has the way of writing them changed?");
    let missing: Vec<_> = written.iter().filter(|id| !headings.contains(*id)).cloned().collect();
    none("notes without a heading in docs/notes.md", &missing);
    let unknown: Vec<_> = headings.iter().filter(|id| !written.contains(*id)).cloned().collect();
    none("headings in docs/notes.md of notes that the code doesn't write", &unknown);
}

/// The kebab-case words that stand after `before` and end with a quote.
fn kebab_literals(code: &str, before: &str) -> Vec<String> {
    let rests = code.match_indices(before).map(|(at, _)| &code[at + before.len()..]);
    let literals = rests.filter_map(|rest| rest.split_once('"')).map(|(literal, _)| literal);
    let word =
        |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    literals.filter(|id| id.contains('-') && id.split('-').all(word)).map(str::to_owned).collect()
}
