//! `--dry-run`: the order of the steps, what each reads and writes, and how much that is.

use std::collections::BTreeSet;

use indicatif::{HumanBytes, HumanCount};
use serde_json::json;

use super::DONE;
use super::client::{Connection, Failure};
use super::graph::{Graph, Node};
use super::print::tell;
use super::progress::Audience;
use super::world::{Object, World};

/// Characters of a statement in a line.
const TITLE: usize = 100;

/// Prints a graph; returns the exit code. Costs the figures of the tables that are read.
///
/// # Errors
/// [`Failure`].
pub async fn print(
    graph: &Graph,
    mut world: World,
    connection: &mut Connection,
    audience: Audience,
) -> Result<u8, Failure> {
    let read: BTreeSet<Object> =
        graph.nodes.iter().flat_map(|node| tables(&node.resolved.reads)).cloned().collect();
    world.measure(connection, &read).await?;
    for (at, node) in graph.nodes.iter().enumerate() {
        let figures = figures(node, &world, graph);
        match audience {
            Audience::Programs => tell(&format!("{}\n", as_json(at, node, &figures)), false),
            _ => tell(&format!("{}\n", as_text(at, node, &figures)), false),
        }
    }
    Ok(DONE)
}

/// Rows and bytes that a step reads, as far as they are known before the run, and what is not.
#[derive(Debug, Default)]
struct Figures {
    rows: u64,
    bytes: u64,
    unknown: Vec<String>,
}

fn figures(node: &Node, world: &World, graph: &Graph) -> Figures {
    let mut sum = Figures::default();
    for table in tables(&node.resolved.reads) {
        let is_made = graph.nodes.iter().any(|other| other.resolved.writes.contains(table));
        match world.figures(table) {
            Some((Some(rows), bytes)) if !is_made => {
                (sum.rows, sum.bytes) = (sum.rows + rows, sum.bytes + bytes)
            }
            // Of a view, what it stands on counts.
            _ if !is_made && world.is_view(table) => {}
            figures => {
                sum.bytes += figures.filter(|_| !is_made).map_or(0, |(_, bytes)| bytes);
                sum.unknown.push(table.to_string());
            }
        }
    }
    sum
}

fn tables(objects: &BTreeSet<Object>) -> impl Iterator<Item = &Object> {
    objects.iter().filter(|object| !matches!(object, Object::Schema { .. }))
}

fn names(objects: &BTreeSet<Object>) -> Vec<String> {
    tables(objects).map(ToString::to_string).collect()
}

fn as_text(at: usize, node: &Node, figures: &Figures) -> String {
    let step = &node.step;
    let mut text = format!("{:>3}  {}  {}:{}\n", at + 1, step.title(TITLE), step.script_name, step.line);
    let mut add = |word: &str, what: String| {
        if !what.is_empty() {
            text.push_str(&format!("     {word} {what}\n"));
        }
    };
    let reads = names(&node.resolved.reads).join(", ");
    let size = format!("about {} rows, {}", HumanCount(figures.rows), HumanBytes(figures.bytes));
    let unknown = match figures.unknown.is_empty() {
        true => String::new(),
        false => format!("; rows of {} are not known before", figures.unknown.join(", ")),
    };
    let size = if reads.is_empty() { String::new() } else { format!(" ({size}{unknown})") };
    add("reads ", format!("{reads}{size}"));
    add("writes", names(&node.resolved.writes).join(", "));
    let after: Vec<String> = node.after.iter().map(|before| (before + 1).to_string()).collect();
    add("after ", after.join(", "));
    text.trim_end().to_owned()
}

fn as_json(at: usize, node: &Node, figures: &Figures) -> serde_json::Value {
    let step = &node.step;
    json!({
        "step": at + 1, "script": step.script_name, "line": step.line, "statement": step.title(TITLE),
        "reads": names(&node.resolved.reads), "writes": names(&node.resolved.writes),
        "after": node.after.iter().map(|before| before + 1).collect::<Vec<_>>(),
        "rows": figures.rows, "bytes": figures.bytes, "unknown": figures.unknown,
    })
}
