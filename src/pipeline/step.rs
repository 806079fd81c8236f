//! Steps: what a run does at once, and records as one.
//!
//! A step is a piece of SQL up to its semicolon, or a whole block from BEGIN to its end. A statement that
//! changes a setting is a step too; it is done again in every session that a later step runs in.

use std::collections::BTreeMap;

use ring::digest::{SHA256, digest};

use super::names::{Uses, uses_of};
use super::script::{Item, Piece, Place, Script, ScriptError, StepOptions, line_and_column};
use crate::engine::parse;
use crate::engine::statement::{Branch, Parsed, Statement, TransactionModes};
use crate::engine::upkeep::Upkeep;

/// More steps than these are no script.
const STEPS_MAX: usize = 10_000;
/// Characters of a digest.
const DIGEST_BYTES: usize = 16;

/// How a step is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// In a transaction of its own, which records it too.
    Statement,
    /// A block that the script itself begins and commits.
    Block,
    /// A block that the script rolls back.
    RolledBack,
    /// A statement that refuses to run in a block.
    Bare,
    /// Of the session: SET and RESET.
    Setting,
}

/// What a step sends or prints, in its order.
#[derive(Debug, Clone)]
pub enum Part {
    Sql(Piece),
    Print { text: String, to_stderr: bool },
}

/// One step of a run.
#[derive(Debug, Clone)]
pub struct Step {
    /// Of the scripts that were named.
    pub script: usize,
    pub script_name: String,
    pub place: Place,
    pub line: usize,
    pub parts: Vec<Part>,
    pub kind: Kind,
    pub uses: Uses,
    pub options: StepOptions,
    pub hash: String,
    /// Steps of the same script and text before it.
    pub occurrence: usize,
    /// How many settings of its session stand before it.
    pub settings: usize,
    /// And how many behind it.
    pub settings_after: usize,
    /// The session that it belongs to.
    pub session: usize,
    /// The search path at its place.
    pub search_path: Vec<String>,
}

impl Step {
    /// The statement in one line, variables not put in.
    pub fn title(&self, length: usize) -> String {
        let written = self.parts.iter().find_map(|part| match part {
            Part::Sql(piece) if self.kind == Kind::Statement || !is_begin(&piece.text) => {
                Some(&piece.written)
            }
            _ => None,
        });
        let words = written.map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
        let words = words.unwrap_or_default();
        match words.char_indices().nth(length) {
            Some((end, _)) => format!("{}…", &words[..end]),
            None => words,
        }
    }

    /// All of it, variables not put in.
    pub fn written(&self) -> String {
        self.pieces().map(|piece| piece.written.as_str()).collect::<Vec<_>>().join(";\n")
    }

    /// What of it is SQL.
    pub fn pieces(&self) -> impl Iterator<Item = &Piece> {
        self.parts.iter().filter_map(|part| match part {
            Part::Sql(piece) => Some(piece),
            Part::Print { .. } => None,
        })
    }
}

fn is_begin(text: &str) -> bool {
    let first = text.split_whitespace().next().unwrap_or_default();
    first.eq_ignore_ascii_case("begin") || first.eq_ignore_ascii_case("start")
}

/// A script's steps, the settings of its sessions, and what it prints.
#[derive(Debug, Clone, Default)]
pub struct Steps {
    pub steps: Vec<Step>,
    /// The texts that set something, by session.
    pub settings: Vec<Vec<String>>,
    /// Printed behind the last step.
    pub trailing: Vec<(String, bool)>,
}

/// Cuts scripts into steps. With `apart`, each script has a session of its own.
///
/// # Errors
/// What is wrong with a statement, and a block without an end.
pub fn steps_of(
    script: &Script,
    names: &[String],
    apart: bool,
    path: &[String],
) -> Result<Steps, ScriptError> {
    let mut cutter = Cutter {
        script,
        made: Steps::default(),
        prints: Vec::new(),
        block: None,
        prepared: BTreeMap::new(),
        seen: BTreeMap::new(),
        path,
        search_path: path.to_vec(),
        block_path: Vec::new(),
        block_settings: Vec::new(),
        session: 0,
        number: 0,
        name: String::new(),
    };
    for (number, items) in script.scripts.iter().enumerate() {
        if apart || number == 0 {
            cutter.session = cutter.made.settings.len();
            cutter.made.settings.push(Vec::new());
            cutter.prepared.clear();
            cutter.search_path = path.to_vec();
        }
        (cutter.number, cutter.name) = (number, names[number].clone());
        items.iter().try_for_each(|item| cutter.item(item))?;
        if let Some(block) = &cutter.block {
            return Err(ScriptError::new(block.place, "25P01", "BEGIN without COMMIT or ROLLBACK"));
        }
    }
    cutter.made.trailing = cutter.prints;
    Ok(cutter.made)
}

struct Cutter<'a> {
    script: &'a Script,
    made: Steps,
    prints: Vec<(String, bool)>,
    /// The block that is open.
    block: Option<Step>,
    prepared: BTreeMap<String, Uses>,
    seen: BTreeMap<(usize, String), usize>,
    /// The search path that a session begins with.
    path: &'a [String],
    search_path: Vec<String>,
    /// The search path in front of the open block.
    block_path: Vec<String>,
    /// What the open block has set.
    block_settings: Vec<String>,
    session: usize,
    number: usize,
    name: String,
}

impl Cutter<'_> {
    fn item(&mut self, item: &Item) -> Result<(), ScriptError> {
        match item {
            Item::Print { text, to_stderr } => match &mut self.block {
                Some(block) => block.parts.push(Part::Print { text: text.clone(), to_stderr: *to_stderr }),
                None => self.prints.push((text.clone(), *to_stderr)),
            },
            Item::Sql(piece) => self.piece(piece)?,
        }
        Ok(())
    }

    fn piece(&mut self, piece: &Piece) -> Result<(), ScriptError> {
        let parsed = parse::parse(&piece.text).map_err(|error| wrong(piece, &error))?;
        if parsed.is_empty() {
            return Ok(());
        }
        let mut uses = Uses::default();
        for one in &parsed {
            uses.add(uses_of(one, &mut self.prepared).map_err(|error| wrong(piece, &error))?);
        }
        let statement = &parsed[0].statement;
        match self.block.take() {
            Some(mut block) => {
                block.parts.push(Part::Sql(piece.clone()));
                let names_nothing = block.uses.reads.is_empty() && block.uses.writes.is_empty();
                block.uses.add(uses);
                for one in &parsed {
                    let Some((path, local)) = self.path_set(&one.statement) else { continue };
                    // A block's names are looked up in one path: the one that it sets before it names anything.
                    if names_nothing {
                        block.search_path.clone_from(&path);
                    }
                    if !local {
                        self.search_path = path;
                    }
                }
                if is_setting(statement) {
                    self.block_settings.push(piece.text.clone());
                }
                match statement {
                    Statement::Commit { chain: false } => self.finish(block, Some(piece)),
                    Statement::Rollback { chain: false } => {
                        block.kind = Kind::RolledBack;
                        self.search_path = std::mem::take(&mut self.block_path);
                        self.finish(block, Some(piece))
                    }
                    Statement::Commit { .. } | Statement::Rollback { .. } => {
                        let message = "AND CHAIN is not supported in a script: begin another block";
                        Err(ScriptError::new(piece.start(), "0A000", message))
                    }
                    _ => {
                        self.block = Some(block);
                        Ok(())
                    }
                }
            }
            None => self.outside(piece, &parsed, uses),
        }
    }

    /// A piece outside of a block.
    fn outside(&mut self, piece: &Piece, parsed: &[Parsed], uses: Uses) -> Result<(), ScriptError> {
        let statement = &parsed[0].statement;
        let kind = match statement {
            Statement::Begin(_) => Kind::Block,
            Statement::Set { .. } | Statement::Reset(_) | Statement::SetCharacteristics(_) => Kind::Setting,
            Statement::Commit { .. } | Statement::Rollback { .. } => {
                let message = "COMMIT or ROLLBACK without BEGIN";
                return Err(ScriptError::new(piece.start(), "25P01", message));
            }
            Statement::Upkeep(upkeep) if matches!(upkeep.as_ref(), Upkeep::Vacuum(_)) => Kind::Bare,
            Statement::Branch(Branch::Merge { .. }) | Statement::Discard(_) => Kind::Bare,
            _ => Kind::Statement,
        };
        let step = self.step(piece, kind, uses);
        match (kind, statement) {
            (Kind::Block, Statement::Begin(_)) => {
                self.block_path.clone_from(&self.search_path);
                self.block = Some(step);
            }
            (Kind::Setting, _) => {
                for one in parsed {
                    if let Some((path, false)) = self.path_set(&one.statement) {
                        self.search_path = path;
                    }
                }
                self.block_settings.push(piece.text.clone());
                return self.finish(step, None);
            }
            _ => return self.finish(step, None),
        }
        Ok(())
    }

    fn step(&mut self, piece: &Piece, kind: Kind, mut uses: Uses) -> Step {
        let place = piece.start();
        let text = &self.script.files[place.file].text;
        let prints = std::mem::take(&mut self.prints);
        let mut parts: Vec<Part> =
            prints.into_iter().map(|(text, to_stderr)| Part::Print { text, to_stderr }).collect();
        parts.push(Part::Sql(piece.clone()));
        if kind == Kind::Setting {
            uses.pinned = true;
            // What is seen behind it may be another lake.
            uses.alone = piece.text.to_lowercase().contains("lacus.");
        }
        Step {
            script: self.number,
            script_name: self.name.clone(),
            place,
            line: line_and_column(text, place.offset).0,
            parts,
            kind,
            uses,
            options: piece.options,
            hash: String::new(),
            occurrence: 0,
            settings: self.made.settings[self.session].len(),
            settings_after: 0,
            session: self.session,
            search_path: self.search_path.clone(),
        }
    }

    fn finish(&mut self, mut step: Step, end: Option<&Piece>) -> Result<(), ScriptError> {
        if self.made.steps.len() >= STEPS_MAX {
            let place = end.map_or(step.place, Piece::start);
            return Err(ScriptError::new(place, "54000", format!("a run can have {STEPS_MAX} steps")));
        }
        let own = step.pieces().map(|piece| piece.text.as_str()).collect::<Vec<_>>().join(";");
        // What was set before it is part of what it does.
        let set = &self.made.settings[step.session][..step.settings];
        step.hash = hash([set.join(";"), own].join("\0").as_bytes());
        let seen = self.seen.entry((step.script, step.hash.clone())).or_default();
        step.occurrence = std::mem::replace(seen, *seen + 1);
        let settings = &mut self.made.settings[step.session];
        if step.kind != Kind::RolledBack {
            settings.append(&mut self.block_settings);
        }
        self.block_settings.clear();
        step.settings_after = settings.len();
        self.made.steps.push(step);
        Ok(())
    }

    /// The search path that a statement sets, in which bare names are looked up, and whether it does so
    /// for its transaction alone.
    fn path_set(&self, statement: &Statement) -> Option<(Vec<String>, bool)> {
        match statement {
            Statement::Set { name, value: Some(value), local } if name == "search_path" => {
                let names = value.split(',').map(|name| name.trim().trim_matches(['"', '\'']).to_owned());
                Some((names.filter(|name| !name.is_empty()).collect(), *local))
            }
            Statement::Set { name, value: None, local } if name == "search_path" => {
                Some((self.path.to_vec(), *local))
            }
            Statement::Reset(name) if name.as_deref().is_none_or(|name| name == "search_path") => {
                Some((self.path.to_vec(), false))
            }
            _ => None,
        }
    }
}

/// Whether it sets something beyond its transaction.
fn is_setting(statement: &Statement) -> bool {
    matches!(
        statement,
        Statement::Set { local: false, .. } | Statement::Reset(_) | Statement::SetCharacteristics(_)
    )
}

/// Names a text.
pub fn hash(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref()[..DIGEST_BYTES].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a block is more than BEGIN says by itself.
pub fn has_modes(modes: &TransactionModes) -> bool {
    *modes != TransactionModes::default()
}

fn wrong(piece: &Piece, error: &crate::error::Error) -> ScriptError {
    let place = error.position().map_or_else(|| piece.start(), |at| piece.place_of_character(at));
    let hint = match piece.unset.first() {
        Some(name) if error.sqlstate() == "42601" => Some(format!("The variable \"{name}\" is not set.")),
        _ => error.hint(),
    };
    ScriptError {
        place: Some(place),
        sqlstate: error.sqlstate().to_owned(),
        message: error.to_string(),
        hint,
    }
}
