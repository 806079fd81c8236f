//! The shape of the house: the order of its modules, and how long a file and a function may be.

use std::path::{Path, PathBuf};

/// Every module may use those before it.
const ORDER: [&str; 18] = [
    "error",
    "config",
    "telemetry",
    "storage",
    "runtime",
    "value",
    "function",
    "format",
    "scan",
    "sink",
    "catalog",
    "cluster",
    "system",
    "access",
    "engine",
    "pipeline",
    "server",
    "cli",
];
/// What stands below its use: settings name a store's options, and errors wrap nothing of ours.
const EXCEPTIONS: [(&str, &str); 1] = [("config", "storage")];
const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

#[test]
fn modules_use_only_what_stands_before_them() {
    let mut upward = Vec::new();
    for file in sources("src") {
        let Some(module) = module_of(&file) else { continue };
        let own = position(&module);
        for used in uses(&read(&file)) {
            let exempt = EXCEPTIONS.contains(&(module.as_str(), used.as_str()));
            if !exempt && position(&used) > own {
                upward.push(format!("{}: {module} uses {used}", file.display()));
            }
        }
    }
    assert!(upward.is_empty(), "upward imports:\n{}", upward.join("\n"));
}

#[test]
fn the_order_names_every_module() {
    let text = read(Path::new("src/lib.rs"));
    let declared: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let known: Vec<&str> = ORDER.into_iter().filter(|name| declared.contains(name)).collect();
    assert_eq!(declared, known, "lib.rs lists the modules in their order");
}

#[test]
fn files_and_functions_stay_short() {
    let mut long = Vec::new();
    for file in ["src", "tests", "benches"].into_iter().flat_map(sources) {
        let text = read(&file);
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            long.push(format!("{}: {lines} lines", file.display()));
        }
        for (name, lines) in functions(&text).into_iter().filter(|(_, lines)| *lines > FUNCTION_LINES_MAX) {
            long.push(format!("{}: fn {name} has {lines} lines", file.display()));
        }
    }
    assert!(long.is_empty(), "too long:\n{}", long.join("\n"));
}

/// All Rust files below a folder.
fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("the folder can be read").flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|extension| extension == "rs") => found.push(path),
                false => {}
            }
        }
    }
    found
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).expect("the file can be read")
}

/// The module of a file below `src`; none for `lib.rs` and `main.rs`.
fn module_of(file: &Path) -> Option<String> {
    let first = file.strip_prefix("src").ok()?.components().next()?.as_os_str().to_str()?;
    let name = first.trim_end_matches(".rs");
    (!matches!(name, "lib" | "main")).then(|| name.to_owned())
}

/// The modules of this crate that a text names.
fn uses(text: &str) -> Vec<String> {
    let words = text.split("crate::").skip(1);
    let named = words.filter_map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next());
    named.filter(|name| ORDER.contains(name)).map(str::to_owned).collect()
}

fn position(module: &str) -> usize {
    ORDER
        .iter()
        .position(|name| *name == module)
        .unwrap_or_else(|| panic!("module {module} has no place in the order"))
}

/// Names and lengths of the functions of a text; a function ends at the brace under its `fn`.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let words = trimmed.split_whitespace().take_while(|word| !word.contains('('));
        let is_function = words.clone().any(|word| word == "fn") || trimmed.starts_with("fn ");
        let Some(name) = trimmed.split("fn ").nth(1).filter(|_| is_function && !trimmed.starts_with("//"))
        else {
            continue;
        };
        let indent = line.len() - trimmed.len();
        let closing = format!("{}}}", " ".repeat(indent));
        let end = lines[start..].iter().position(|line| *line == closing);
        if let Some(length) = end {
            found.push((name.split(['(', '<']).next().unwrap_or_default().to_owned(), length + 1));
        }
    }
    found
}
