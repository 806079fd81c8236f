//! Progress: what a run says of itself while it goes on, on standard error.
//!
//! On a terminal each running step has a line that lives; elsewhere each step has a line when it ends. As
//! JSON, every event is an object on a line of standard output, for programs.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount, MultiProgress, ProgressBar, ProgressStyle};
use serde_json::json;

use super::print::{Printed, tell};
use super::record::{Ended, State, StepError, Totals};
use super::script::{SourceFile, hide};
use super::step::Step;

/// Characters of a statement in a line.
const TITLE: usize = 60;

/// Who is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// A terminal if there is one, else lines.
    People,
    Programs,
    /// Errors only.
    Nobody,
}

/// Tells of a run's steps.
pub struct Progress {
    audience: Audience,
    bars: Option<MultiProgress>,
    running: Mutex<HashMap<usize, ProgressBar>>,
    count: usize,
    secrets: Vec<String>,
}

impl Progress {
    pub fn new(audience: Audience, count: usize, secrets: Vec<String>) -> Self {
        let is_live = audience == Audience::People && std::io::stderr().is_terminal();
        let bars = is_live.then(MultiProgress::new);
        Self { audience, bars, running: Mutex::default(), count, secrets }
    }

    pub fn begin(&self, run_id: &str) {
        self.event(&json!({"event": "run", "state": "running", "run_id": run_id, "steps": self.count}));
    }

    pub fn started(&self, number: usize, step: &Step) {
        self.event(&json!({
            "event": "step", "step": number, "state": "running",
            "script": step.script_name, "line": step.line, "statement": self.title(step),
        }));
        if let Some(bars) = &self.bars {
            let style = ProgressStyle::with_template("{spinner} {prefix} {wide_msg} {elapsed}");
            let bar = bars.add(ProgressBar::new_spinner());
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.set_prefix(format!("[{number}/{}]", self.count));
            bar.set_message(self.title(step));
            bar.enable_steady_tick(Duration::from_millis(120));
            self.lock().insert(number, bar);
        }
    }

    /// Says that a step is tried once more.
    pub fn retried(&self, number: usize, step: &Step, error: &StepError, pause: Duration) {
        let message = hide(&error.message, &self.secrets);
        self.event(&json!({
            "event": "step", "step": number, "state": "retrying", "sqlstate": error.sqlstate,
            "error": message, "pause_ms": pause.as_millis() as u64,
        }));
        let at = format!("{}:{}", step.script_name, step.line);
        self.line(&format!("[{number}/{}] again in {pause:?}: {message}  {at}", self.count));
    }

    pub fn ended(&self, number: usize, step: &Step, ended: &Ended, why: &str) {
        if let Some(bar) = self.lock().remove(&number) {
            bar.finish_and_clear();
        }
        let elapsed = (ended.finished - ended.started).to_std().unwrap_or_default();
        let error = ended.error.as_ref();
        self.event(&json!({
            "event": "step", "step": number, "state": ended.state.name(), "why": why,
            "script": step.script_name, "line": step.line, "rows": ended.rows, "bytes": ended.bytes,
            "attempts": ended.attempts, "elapsed_ms": elapsed.as_millis() as u64,
            "sqlstate": error.map(|error| error.sqlstate.as_str()),
            "error": error.map(|error| hide(&error.message, &self.secrets)),
            "reads": ended.reads, "writes": ended.writes,
        }));
        let at = format!("{}:{}", step.script_name, step.line);
        let figures = match ended.state {
            State::Skipped => why.to_owned(),
            _ => figures(ended, elapsed),
        };
        let (count, title) = (self.count, self.title(step));
        self.line(&format!("[{number}/{count}] {:<9} {title}  {figures}  {at}", ended.state.name()));
    }

    pub fn finish(&self, run_id: &str, state: &str, totals: Totals, elapsed: Duration) {
        self.event(&json!({
            "event": "run", "state": state, "run_id": run_id, "steps": totals.steps, "done": totals.done,
            "skipped": totals.skipped, "failed": totals.failed, "rows": totals.rows, "bytes": totals.bytes,
            "elapsed_ms": elapsed.as_millis() as u64,
        }));
        let mut parts = vec![format!("{} done", totals.done)];
        parts.extend((totals.skipped > 0).then(|| format!("{} skipped", totals.skipped)));
        parts.extend((totals.failed > 0).then(|| format!("{} failed", totals.failed)));
        let seconds = elapsed.as_secs_f64();
        self.line(&format!(
            "{state}: {} steps, {} in {seconds:.2} s, run {run_id}",
            totals.steps,
            parts.join(", ")
        ));
    }

    /// Writes what a step has printed.
    pub fn print(&self, number: usize, printed: &Printed) {
        match (&self.bars, self.audience) {
            (_, Audience::Programs) => {
                for (text, to_stderr) in &printed.texts {
                    let text = hide(text, &self.secrets);
                    self.event(
                        &json!({"event": "output", "step": number, "text": text, "stderr": to_stderr}),
                    );
                }
            }
            (Some(bars), _) => bars.suspend(|| printed.write()),
            (None, _) => printed.write(),
        }
    }

    /// Says something to people, above the lines that live.
    pub fn line(&self, line: &str) {
        match (&self.bars, self.audience) {
            (Some(bars), _) => drop(bars.println(line)),
            (None, Audience::People) => tell(&format!("{line}\n"), true),
            (None, _) => {}
        }
    }

    /// Says an error, with the line of the file that it points at.
    pub fn error(&self, error: &StepError, files: &[SourceFile]) {
        let text = hide(&error_text(error, files), &self.secrets);
        match &self.bars {
            Some(bars) => bars.suspend(|| tell(&text, true)),
            None => tell(&text, true),
        }
    }

    fn title(&self, step: &Step) -> String {
        hide(&step.title(TITLE), &self.secrets)
    }

    fn event(&self, event: &serde_json::Value) {
        if self.audience == Audience::Programs {
            let mut out = std::io::stdout().lock();
            // A reader that is gone is no error of the run.
            writeln!(out, "{event}").and_then(|()| out.flush()).ok();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<usize, ProgressBar>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rows, bytes, speed and time.
fn figures(ended: &Ended, elapsed: Duration) -> String {
    let plural = if ended.rows == 1 { "row" } else { "rows" };
    let mut parts = vec![format!("{} {plural}", HumanCount(ended.rows))];
    parts.extend((ended.bytes > 0).then(|| HumanBytes(ended.bytes).to_string()));
    let seconds = elapsed.as_secs_f64();
    if seconds >= 1.0 && ended.rows > 0 {
        parts.push(format!("{}/s", HumanCount((ended.rows as f64 / seconds) as u64)));
    }
    parts.push(format!("{seconds:.2} s"));
    parts.join(", ")
}

/// `file:line:column: ERROR:  message`, the line with a caret, detail and hint.
pub fn error_text(error: &StepError, files: &[SourceFile]) -> String {
    let StepError { sqlstate, message, detail, hint, file, line, column, .. } = error;
    let mut text = String::new();
    if let Some(file) = files.get(*file).filter(|_| *line > 0) {
        text.push_str(&format!("{}:{line}:{column}: ERROR:  {message} ({sqlstate})\n", file.name));
        let shown = file.text.lines().nth(line - 1).unwrap_or_default();
        let number = line.to_string();
        let blank = " ".repeat(number.len());
        // Tabs stay tabs, so that the caret stands where the eye sees the place.
        let until = shown.chars().take(column - 1).map(|one| if one == '\t' { '\t' } else { ' ' });
        let until: String = until.collect();
        text.push_str(&format!(" {number} | {shown}\n {blank} | {until}^\n"));
    } else {
        text.push_str(&format!("lacus: ERROR:  {message} ({sqlstate})\n"));
    }
    text.extend(detail.iter().map(|detail| format!("DETAIL:  {detail}\n")));
    text.extend(hint.iter().map(|hint| format!("HINT:  {hint}\n")));
    text
}
