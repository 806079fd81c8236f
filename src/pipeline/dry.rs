//! `--dry-run`: the order of the steps, what each reads and writes, and how much that is.

use std::collections::BTreeSet;

use indicatif::{HumanBytes, HumanCount};
use serde_json::json;

use super::DONE;
use super::client::{Connection, Failure};
use super::graph::{Graph, Node};
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
            Audience::Programs => println!("{}", as_json(at, node, figures)),
            _ => println!("{}", as_text(at, node, figures)),
        }
    }
    Ok(DONE)
}

/// Rows and bytes that a step reads; none where a table is made by this run, or its figures are unknown.
fn figures(node: &Node, world: &World, graph: &Graph) -> Option<(u64, u64)> {
    let mut sum = (0, 0);
    for table in tables(&node.resolved.reads) {
        let is_made = graph.nodes.iter().any(|other| other.resolved.writes.contains(table));
        let is_view = world.figures(table).is_none() && !is_made && world.is_view(table);
        if is_view {
            continue;
        }
        let (rows, bytes) = world.figures(table)?;
        sum = (sum.0 + rows, sum.1 + bytes);
    }
    Some(sum)
}

fn tables(objects: &BTreeSet<Object>) -> impl Iterator<Item = &Object> {
    objects.iter().filter(|object| !matches!(object, Object::Schema { .. }))
}

fn names(objects: &BTreeSet<Object>) -> Vec<String> {
    tables(objects).map(ToString::to_string).collect()
}

fn as_text(at: usize, node: &Node, figures: Option<(u64, u64)>) -> String {
    let step = &node.step;
    let mut text = format!("{:>3}  {}  {}:{}\n", at + 1, step.title(TITLE), step.script_name, step.line);
    let mut add = |word: &str, what: String| {
        if !what.is_empty() {
            text.push_str(&format!("     {word} {what}\n"));
        }
    };
    let reads = names(&node.resolved.reads).join(", ");
    let size = match figures {
        _ if reads.is_empty() => String::new(),
        Some((rows, bytes)) => format!(" (about {} rows, {})", HumanCount(rows), HumanBytes(bytes)),
        None => " (size not known before the run)".to_owned(),
    };
    add("reads ", format!("{reads}{size}"));
    add("writes", names(&node.resolved.writes).join(", "));
    let after: Vec<String> = node.after.iter().map(|before| (before + 1).to_string()).collect();
    add("after ", after.join(", "));
    text.trim_end().to_owned()
}

fn as_json(at: usize, node: &Node, figures: Option<(u64, u64)>) -> serde_json::Value {
    let step = &node.step;
    json!({
        "step": at + 1, "script": step.script_name, "line": step.line, "statement": step.title(TITLE),
        "reads": names(&node.resolved.reads), "writes": names(&node.resolved.writes),
        "after": node.after.iter().map(|before| before + 1).collect::<Vec<_>>(),
        "rows": figures.map(|(rows, _)| rows), "bytes": figures.map(|(_, bytes)| bytes),
    })
}
