//! The graph: which step waits for which.
//!
//! Of two steps that meet at a table, one of which writes it, the later waits for the earlier, as in the
//! file. Between the files of a folder there is no order but the tables' own: who only reads a table waits
//! for all who write it. Files that wait for each other are an error.

use std::collections::{BTreeMap, BTreeSet};

use super::script::ScriptError;
use super::step::{Step, Steps};
use super::world::{Object, Resolved, World};

/// The steps of a run in an order in which they can be done.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    pub nodes: Vec<Node>,
}

/// A step and what it waits for.
#[derive(Debug, Clone)]
pub struct Node {
    pub step: Step,
    pub resolved: Resolved,
    /// Places of earlier steps in the graph.
    pub after: BTreeSet<usize>,
}

impl Graph {
    /// Finds the order of steps; with `apart`, that of files is found too.
    ///
    /// # Errors
    /// A table that nobody makes, and files that wait for each other.
    pub fn of(steps: &Steps, world: &mut World, apart: bool) -> Result<Self, ScriptError> {
        if apart {
            steps.steps.iter().for_each(|step| world.announce(step));
        }
        let mut resolved = Vec::with_capacity(steps.steps.len());
        for step in &steps.steps {
            resolved.push(world.take(step, !apart)?);
        }
        let edges = match apart {
            false => in_order(&steps.steps, &resolved),
            true => across(&steps.steps, &resolved),
        };
        let order = sorted(&edges).map_err(|left| cycle(&steps.steps, &edges, &left))?;
        let mut place_of = vec![0; order.len()];
        order.iter().enumerate().for_each(|(place, step)| place_of[*step] = place);
        let node = |step: &usize| Node {
            step: steps.steps[*step].clone(),
            resolved: resolved[*step].clone(),
            after: edges[*step].iter().map(|before| place_of[*before]).collect(),
        };
        Ok(Self { nodes: order.iter().map(node).collect() })
    }
}

/// What each step waits for when all stand in one order.
fn in_order(steps: &[Step], resolved: &[Resolved]) -> Vec<BTreeSet<usize>> {
    let mut edges = vec![BTreeSet::new(); steps.len()];
    let mut last_write: BTreeMap<&Object, usize> = BTreeMap::new();
    let mut reads_since: BTreeMap<&Object, Vec<usize>> = BTreeMap::new();
    let mut last_pinned: BTreeMap<usize, usize> = BTreeMap::new();
    let mut wall = None;
    for (at, (step, uses)) in steps.iter().zip(resolved).enumerate() {
        let before: &mut BTreeSet<usize> = &mut edges[at];
        before.extend(wall);
        for object in uses.reads.iter().chain(&uses.writes) {
            before.extend(last_write.get(object));
        }
        for object in &uses.writes {
            before.extend(reads_since.get(object).into_iter().flatten());
        }
        let is_pinned = is_pinned(step, uses);
        if is_pinned {
            before.extend(last_pinned.insert(step.session, at));
        }
        if step.uses.alone {
            before.extend(0..at);
            wall = Some(at);
        }
        for object in &uses.writes {
            last_write.insert(object, at);
            reads_since.remove(object);
        }
        for object in uses.reads.difference(&uses.writes) {
            reads_since.entry(object).or_default().push(at);
        }
        before.remove(&at);
    }
    edges
}

/// Whether a step has to run in its script's own session.
pub fn is_pinned(step: &Step, resolved: &Resolved) -> bool {
    let mut objects = resolved.reads.iter().chain(&resolved.writes);
    step.uses.pinned || objects.any(|object| matches!(object, Object::Temporary { .. }))
}

/// What each step waits for when only the steps of one script have an order.
fn across(steps: &[Step], resolved: &[Resolved]) -> Vec<BTreeSet<usize>> {
    let mut edges = vec![BTreeSet::new(); steps.len()];
    let scripts: BTreeSet<usize> = steps.iter().map(|step| step.script).collect();
    for script in &scripts {
        let own: Vec<usize> = (0..steps.len()).filter(|at| steps[*at].script == *script).collect();
        let first = own[0];
        let inner = in_order(&steps[first..first + own.len()], &resolved[first..first + own.len()]);
        for (at, before) in inner.into_iter().enumerate() {
            edges[first + at] = before.into_iter().map(|one| first + one).collect();
        }
    }
    let mut writers: BTreeMap<&Object, BTreeMap<usize, Vec<usize>>> = BTreeMap::new();
    for (at, uses) in resolved.iter().enumerate() {
        for object in &uses.writes {
            writers.entry(object).or_default().entry(steps[at].script).or_default().push(at);
        }
    }
    for (at, uses) in resolved.iter().enumerate() {
        let own = steps[at].script;
        for object in uses.reads.union(&uses.writes) {
            let Some(by_script) = writers.get(object) else { continue };
            let writes_too = by_script.contains_key(&own);
            for (script, others) in by_script.iter().filter(|(script, _)| **script != own) {
                if !writes_too || *script < own {
                    edges[at].extend(others);
                }
            }
        }
        walls(steps, at, &mut edges);
    }
    edges
}

/// A step that stands alone has all earlier scripts before it, and all later ones behind it.
fn walls(steps: &[Step], at: usize, edges: &mut [BTreeSet<usize>]) {
    if !steps[at].uses.alone {
        return;
    }
    for other in 0..steps.len() {
        match steps[other].script.cmp(&steps[at].script) {
            std::cmp::Ordering::Less => drop(edges[at].insert(other)),
            std::cmp::Ordering::Greater => drop(edges[other].insert(at)),
            std::cmp::Ordering::Equal => {}
        }
    }
}

/// An order in which each step stands behind what it waits for, the earliest first; else those that are
/// left, which wait for each other.
fn sorted(edges: &[BTreeSet<usize>]) -> Result<Vec<usize>, BTreeSet<usize>> {
    let mut waits: Vec<usize> = edges.iter().map(BTreeSet::len).collect();
    let mut behind = vec![Vec::new(); edges.len()];
    for (at, before) in edges.iter().enumerate() {
        before.iter().for_each(|one| behind[*one].push(at));
    }
    let mut ready: BTreeSet<usize> = (0..edges.len()).filter(|at| waits[*at] == 0).collect();
    let mut order = Vec::with_capacity(edges.len());
    while let Some(at) = ready.pop_first() {
        order.push(at);
        for next in &behind[at] {
            waits[*next] -= 1;
            if waits[*next] == 0 {
                ready.insert(*next);
            }
        }
    }
    match order.len() == edges.len() {
        true => Ok(order),
        false => Err((0..edges.len()).filter(|at| waits[*at] > 0).collect()),
    }
}

/// Names the steps of a cycle.
fn cycle(steps: &[Step], edges: &[BTreeSet<usize>], left: &BTreeSet<usize>) -> ScriptError {
    let mut path = Vec::new();
    let mut at = left.first().copied().unwrap_or_default();
    while !path.contains(&at) {
        path.push(at);
        let Some(before) = edges[at].intersection(left).next() else { break };
        at = *before;
    }
    let from = path.iter().position(|one| *one == at).unwrap_or(0);
    let named = path[from..].iter().map(|at| format!("{}:{}", steps[*at].script_name, steps[*at].line));
    let named: Vec<String> = named.collect();
    let message = format!("scripts wait for each other: {}", named.join(" waits for "));
    ScriptError::new(steps[at].place, "42P17", message)
}
