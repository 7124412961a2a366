//! The house itself: what documents and comments point at is there, and neither files nor rooms need each other in a
//! circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The folders that somebody writes in.
const FOLDERS: [&str; 12] =
    ["src", "core", "files", "verifier", "sql", "pg_test", "tests", "docs", "tools", "benches", "examples", "fuzz"];

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target" && name != "node_modules") {
            walk(&path, found);
        } else if path.is_file() {
            found.push(path);
        }
    }
}

/// The text files, by their path from the top level.
fn texts() -> BTreeMap<String, String> {
    let mut paths: Vec<PathBuf> = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "Makefile"]
        .iter()
        .map(|name| Path::new(ROOT).join(name))
        .collect();
    FOLDERS.iter().for_each(|folder| walk(&Path::new(ROOT).join(folder), &mut paths));
    let relative = |path: &Path| path.strip_prefix(ROOT).unwrap().to_str().unwrap().to_owned();
    paths.iter().filter_map(|path| Some((relative(path), fs::read_to_string(path).ok()?))).collect()
}

/// The paths that a text names: `folder/...` of a folder of this project, with `*` for any name.
fn named_paths(text: &str) -> Vec<&str> {
    let part = |c: char| c.is_ascii_alphanumeric() || "_-./*".contains(c);
    text.split(|c: char| !part(c))
        .map(|word| word.trim_end_matches(['.', '-']).trim_start_matches("../"))
        .filter(|word| {
            let mut parts = word.split('/');
            let folder = parts.next().unwrap_or_default();
            let next = parts.next().unwrap_or_default();
            // Files of Postgres itself, and a fraction such as "tests/second".
            let foreign = ["backend", "include", "interfaces", "test", "bin", "pl", "common", "port"].contains(&next);
            FOLDERS.contains(&folder) && !next.is_empty() && !foreign
        })
        .collect()
}

#[test]
fn no_text_has_both_sides_of_a_conflict() {
    let marker =
        |line: &str| [0x3c, 0x3e, 0x7c].iter().any(|c| line.starts_with(&char::from(*c).to_string().repeat(7)));
    let found: Vec<String> =
        texts().into_iter().filter(|(_, text)| text.lines().any(marker)).map(|(path, _)| path).collect();
    assert!(found.is_empty(), "{found:?}");
}

/// True for a name that the pattern stands for, in which `*` stands for any characters.
fn fits(name: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => name == pattern,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|left| {
            (0..=left.len()).filter(|end| left.is_char_boundary(*end)).any(|end| fits(&left[end..], rest))
        }),
    }
}

#[test]
fn every_path_that_is_named_exists() {
    let texts = texts();
    let mut missing = BTreeSet::new();
    for (file, text) in &texts {
        // Lists of other people's files and generated ones name what they like.
        if file.ends_with(".json") || file.ends_with(".lock") || file.ends_with("house.rs") || file.ends_with(".txt") {
            continue;
        }
        for path in named_paths(text) {
            // Their files are compressed, and no texts.
            if path.starts_with("sql/released") {
                continue;
            }
            let path = path.trim_end_matches('/');
            let beside = Path::new(file).parent().unwrap().join(path);
            let exists = if path.contains('*') {
                texts.keys().any(|known| fits(known, path) || fits(known, &format!("{path}/*")))
            } else {
                Path::new(ROOT).join(path).exists() || Path::new(ROOT).join(beside).exists()
            };
            if !exists {
                missing.insert(format!("{file} names {path}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_function_that_a_document_calls_exists() {
    let texts = texts();
    let defined: BTreeSet<&str> = texts
        .iter()
        .filter(|(file, _)| file.starts_with("sql/"))
        .flat_map(|(_, text)| text.split("tenancy.").skip(1))
        .map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default())
        .collect();
    let mut missing = BTreeSet::new();
    for (file, text) in texts.iter().filter(|(file, _)| file.ends_with(".md")) {
        for rest in text.split("tenancy.").skip(1) {
            let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            if rest[name.len()..].starts_with('(') && !defined.contains(name.as_str()) {
                missing.insert(format!("{file} calls tenancy.{name}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// The items that a `use` tree names, each as a path.
fn used(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        return vec![tree.split(" as ").next().unwrap_or_default().trim().to_owned()];
    };
    let (before, inside) = (&tree[..open], &tree[open + 1..tree.rfind('}').unwrap_or(tree.len())]);
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (n, c) in inside.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inside[start..n]);
                start = n + 1;
            }
            _ => {}
        }
    }
    parts.push(&inside[start..]);
    let parts = parts.into_iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(used).map(|path| format!("{before}{path}")).collect()
}

/// Which file needs which others of its crate, by their `use`, apart from tests and from what a `mod.rs` shows to
/// the outside.
fn arrows(crate_folder: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut paths = Vec::new();
    walk(&Path::new(ROOT).join(crate_folder), &mut paths);
    let module = |path: &Path| {
        let path = path.strip_prefix(Path::new(ROOT).join(crate_folder)).unwrap().with_extension("");
        let mut parts: Vec<String> = path.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        if ["mod", "lib", "main"].contains(&parts.last().unwrap().as_str()) {
            parts.pop();
        }
        parts
    };
    let files: BTreeMap<Vec<String>, PathBuf> = paths
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| (module(&path), path))
        .collect();
    let mut arrows = BTreeMap::new();
    for (module, path) in &files {
        let text = fs::read_to_string(path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let mut needs = BTreeSet::new();
        for statement in text.split("\nuse ").skip(1) {
            let Some((tree, _)) = statement.split_once(';') else { continue };
            for item in used(&tree.replace('\n', " ")) {
                let parts: Vec<&str> = item.split("::").map(str::trim).filter(|part| *part != "self").collect();
                let mut base: Vec<String> = match parts.first() {
                    Some(&"crate") => Vec::new(),
                    Some(&"super") => module.clone(),
                    _ => continue,
                };
                for part in parts {
                    match part {
                        "crate" => {}
                        "super" => drop(base.pop()),
                        part => base.push(part.to_owned()),
                    }
                }
                // The innermost module that the path leads through.
                while !files.contains_key(&base) && base.pop().is_some() {}
                if let Some(found) = files.get(&base)
                    && found != path
                    && !base.is_empty()
                {
                    needs.insert(found.strip_prefix(ROOT).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        arrows.insert(path.strip_prefix(ROOT).unwrap().to_str().unwrap().to_owned(), needs);
    }
    arrows
}

/// A way from a node back to itself, if there is one.
fn circle(arrows: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn visit(
        node: &str,
        arrows: &BTreeMap<String, BTreeSet<String>>,
        way: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> Option<Vec<String>> {
        if let Some(start) = way.iter().position(|before| before == node) {
            return Some(way[start..].to_vec());
        }
        if !done.insert(node.to_owned()) {
            return None;
        }
        way.push(node.to_owned());
        let found = arrows.get(node).into_iter().flatten().find_map(|next| visit(next, arrows, way, done));
        way.pop();
        found
    }
    let mut done = BTreeSet::new();
    arrows.keys().find_map(|node| visit(node, arrows, &mut Vec::new(), &mut done))
}

#[test]
fn neither_files_nor_rooms_need_each_other_in_a_circle() {
    for crate_folder in ["src", "core/src", "files/src", "verifier/src"] {
        let arrows = arrows(crate_folder);
        assert_eq!(circle(&arrows), None, "files of {crate_folder}");
        // Rooms at the top, and the inner rooms of each.
        for depth in 1..=2 {
            let room = |file: &str| {
                let inside = file.strip_prefix(crate_folder).unwrap_or(file).trim_start_matches('/');
                let parts: Vec<&str> = inside.split('/').collect();
                // A room's own mod.rs is its door, which is of no inner room.
                (parts.len() > depth).then(|| parts[..depth].join("/"))
            };
            let mut rooms: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
            for (file, needs) in &arrows {
                for need in needs {
                    if let (Some(from), Some(to)) = (room(file), room(need))
                        && from != to
                    {
                        rooms.entry(from).or_default().insert(to);
                    }
                }
            }
            assert_eq!(circle(&rooms), None, "rooms of {crate_folder}, {depth} deep");
        }
    }
}
