//! The manual's table of contents, `tests/sql/README.md`: made from the files, and held against them.

use std::collections::BTreeSet;
use std::path::Path;

use crate::slt::manual;

/// What stands before this line is written by hand.
const MADE: &str = "<!-- Made from the files;";

/// What one file says of itself.
#[derive(Default)]
struct Page {
    /// The comment that it opens with.
    opening: String,
    /// The comments that follow.
    promises: Vec<String>,
    /// Functions that it calls.
    functions: BTreeSet<String>,
}

/// Reads a file: comments become sentences, statements that must work tell functions.
fn page(text: &str) -> Page {
    let (mut page, mut comment, mut sql, mut in_sql) = (Page::default(), String::new(), String::new(), false);
    for line in text.lines().chain(std::iter::once("")) {
        if let Some(words) = line.strip_prefix("# ").filter(|_| !in_sql) {
            comment.push_str(if comment.is_empty() { "" } else { " " });
            comment.push_str(words);
            continue;
        }
        if !comment.is_empty() {
            let told = std::mem::take(&mut comment);
            match page.opening.is_empty() {
                true => page.opening = told,
                false if !told.starts_with("Errors") => page.promises.push(told),
                false => {}
            }
        }
        match line {
            "----" | "" => {
                page.functions.extend(functions(&sql));
                sql.clear();
                in_sql = false;
            }
            line if in_sql => {
                sql.push_str(line);
                sql.push(' ');
            }
            line => {
                let works = line.starts_with("query")
                    || line == "statement ok"
                    || line.starts_with("statement count");
                in_sql = works && !line.contains("error");
            }
        }
    }
    page
}

/// Words in lower case directly before a parenthesis, but for what declares columns.
fn functions(sql: &str) -> Vec<String> {
    let mut found = Vec::new();
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    // Texts call nothing.
    let sql: String = sql.split('\'').step_by(2).collect::<Vec<_>>().join("''");
    for (at, _) in sql.match_indices('(') {
        let before = &sql[..at];
        let start = before.rfind(|c: char| !is_word(c)).map_or(0, |at| at + 1);
        let (head, word) = before.split_at(start);
        let declares = ["AS ", "INTO ", "TABLE ", ".", "::", "ON ", "USING ", "VIEW ", "\"", "CONFLICT "];
        if word.starts_with(|c: char| c.is_ascii_lowercase())
            && !declares.iter().any(|end| head.ends_with(end))
        {
            found.push(word.to_owned());
        }
    }
    found
}

/// Types take arguments too, and tables have names before their columns.
const NO_FUNCTIONS: [&str; 8] = ["numeric", "varchar", "char", "timestamp", "decimal", "t", "u", "time"];

fn contents(root: &Path) -> String {
    let (mut text, mut folder, mut functions) = (String::new(), String::new(), BTreeSet::new());
    for file in manual() {
        let path = file.strip_prefix(root).expect("a file of the manual").to_string_lossy().into_owned();
        let (section, name) = path.split_once('/').expect("files lie in folders");
        if folder != section {
            section.clone_into(&mut folder);
            text.push_str(&format!("\n## {section}\n"));
        }
        let page = page(&std::fs::read_to_string(&file).expect("the file can be read"));
        let name = name.trim_end_matches(".slt");
        text.push_str(&format!("\n**[{name}]({path})** {}\n\n", page.opening));
        page.promises.iter().for_each(|promise| text.push_str(&format!("- {promise}\n")));
        functions.extend(page.functions);
    }
    functions.retain(|name| !NO_FUNCTIONS.contains(&name.as_str()));
    let functions: Vec<String> = functions.into_iter().map(|name| format!("`{name}`")).collect();
    format!("{text}\n## Functions that are called here\n\n{}\n", functions.join(", "))
}

#[test]
fn the_dialect_page_tells_what_the_files_hold() {
    if std::env::var_os("LACUS_TEST_SLT").is_some() {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql");
    let file = root.join("README.md");
    let text = std::fs::read_to_string(&file).expect("the page can be read");
    let made = text.find(MADE).expect("the page has a mark");
    let head_end = made + text[made..].find('\n').expect("the mark is a line") + 1;
    let wanted = format!("{}{}", &text[..head_end], contents(&root));
    if std::env::var_os("LACUS_TEST_UPDATE").is_some() {
        std::fs::write(&file, wanted).expect("the page can be written");
        return;
    }
    assert!(
        text == wanted,
        "tests/sql/README.md is not what the files say; LACUS_TEST_UPDATE=1 makes it anew"
    );
}
