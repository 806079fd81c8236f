//! Process credentials: those that a program prints, named by `credential_process` in a profile.
//!
//! The program is run without a shell. What it writes to standard error goes to the daemon's log and
//! to no client.
//!
//! Source: <https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html>

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use object_store::aws::AwsCredential;
use serde::Deserialize;
use tokio::runtime::Handle;
use tracing::warn;

use super::issued::{Issued, Issuer};
use crate::error::{Error, Result};

/// How long the program may take: it may have to ask a service, but nobody.
const DEADLINE: Duration = Duration::from_secs(60);
/// What is read of an answer, and of standard error, at most.
const OUTPUT_BYTES_MAX: u64 = 64 << 10;
/// How often a program that has closed its output is asked whether it has ended.
const POLL: Duration = Duration::from_millis(10);

/// A program that prints credentials.
#[derive(Debug)]
pub(super) struct Process {
    profile: String,
    words: Vec<String>,
    deadline: Duration,
    io: Handle,
}

/// What the program prints.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    version: u32,
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    expiration: Option<String>,
}

impl Process {
    pub fn new(profile: &str, words: Vec<String>, io: Handle) -> Self {
        Self { profile: profile.to_owned(), words, deadline: DEADLINE, io }
    }

    fn failed(&self, reason: &str) -> Error {
        Error::Storage(format!("credential_process of AWS profile \"{}\" {reason}", self.profile))
    }

    /// Takes what the program printed apart.
    fn issued(&self, printed: &[u8]) -> Result<Issued> {
        // The parser's message would quote what stands there.
        let answer: Answer = serde_json::from_slice(printed)
            .map_err(|_| self.failed("printed something that is no JSON of version 1"))?;
        if answer.version != 1 {
            return Err(self.failed(&format!("printed version {}, and 1 is known", answer.version)));
        }
        let ends = answer.expiration.map(|text| DateTime::parse_from_rfc3339(&text)).transpose();
        let ends = ends.map_err(|_| self.failed("printed an Expiration that is no time"))?;
        if ends.is_some_and(|ends| ends <= Utc::now()) {
            return Err(self.failed("printed credentials that have ended already"));
        }
        let credential = AwsCredential {
            key_id: answer.access_key_id,
            secret_key: answer.secret_access_key,
            token: answer.session_token.filter(|token| !token.is_empty()),
        };
        Ok(Issued { credential: Arc::new(credential), ends: ends.map(|ends| ends.with_timezone(&Utc)) })
    }
}

/// What a program did: its status, and the beginnings of its output and of its complaints.
type Ended = (ExitStatus, Vec<u8>, Vec<u8>);

/// Runs a program to its end; none when it does not end before `deadline`, and is killed.
fn run(words: &[String], deadline: Instant) -> std::io::Result<Option<Ended>> {
    let (program, arguments) = words.split_first().ok_or(std::io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let (out, complaint) = (beginning(child.stdout.take()), beginning(child.stderr.take()));
    let left = || deadline.saturating_duration_since(Instant::now());
    let ended = match (out.recv_timeout(left()), complaint.recv_timeout(left())) {
        (Ok(out), Ok(complaint)) => wait(&mut child, deadline)?.map(|status| (status, out, complaint)),
        _ => None,
    };
    if ended.is_none() {
        child.kill()?;
        child.wait()?;
    }
    Ok(ended)
}

/// Reads a pipe to its end, on a thread of its own, and keeps its beginning.
fn beginning(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // A pipe that breaks has ended; what the program meant shows in its status.
            (&mut pipe).take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes).ok();
            std::io::copy(&mut pipe, &mut std::io::sink()).ok();
        }
        sender.send(bytes).ok();
    });
    receiver
}

fn wait(child: &mut Child, deadline: Instant) -> std::io::Result<Option<ExitStatus>> {
    loop {
        match child.try_wait()? {
            None if Instant::now() < deadline => std::thread::sleep(POLL),
            status => return Ok(status),
        }
    }
}

#[async_trait]
impl Issuer for Process {
    async fn issue(&self) -> Result<Issued> {
        let (words, deadline) = (self.words.clone(), Instant::now() + self.deadline);
        let ended = self.io.spawn_blocking(move || run(&words, deadline)).await;
        let ended = ended.map_err(|_| self.failed("was interrupted"))?;
        let ended = ended.map_err(|error| self.failed(&format!("cannot be run: {}", error.kind())))?;
        let Some((status, out, complaint)) = ended else {
            return Err(self.failed(&format!("gave no answer within {:?}", self.deadline)));
        };
        if !complaint.is_empty() {
            let said = String::from_utf8_lossy(&complaint);
            warn!(profile = %self.profile, said = %said.trim(), "credential_process wrote to standard error");
        }
        match status.success() {
            true => self.issued(&out),
            false => Err(self.failed(&format!("failed ({status})"))),
        }
    }
}

/// Splits a command into words as a shell would: at blanks, but not within quotes or after `\`.
///
/// # Errors
/// [`Error::Config`] for a quote that is not closed, and for no words at all.
pub(super) fn words(profile: &str, command: &str) -> Result<Vec<String>> {
    let wrong = |reason| Error::Config(format!("credential_process of AWS profile \"{profile}\" {reason}"));
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut letters = command.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\\', None | Some('"')) => {
                let next = letters.next().ok_or_else(|| wrong("ends in a backslash"))?;
                word.get_or_insert_default().push(next);
            }
            ('"' | '\'', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (_, Some(open)) if letter == open => quote = None,
            (_, None) if letter.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    if quote.is_some() {
        return Err(wrong("has a quote that is not closed"));
    }
    words.extend(word);
    if words.is_empty() { Err(wrong("names no program")) } else { Ok(words) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a script of the shell's as the program.
    async fn printed(script: &str, deadline: Duration) -> Result<Issued> {
        let words = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let process = Process { deadline, ..Process::new("work", words, Handle::current()) };
        process.issue().await
    }

    #[test]
    fn a_command_is_split_as_a_shell_would() {
        let split = |command| words("work", command).unwrap();
        assert_eq!(split(" /opt/keys  --for 'the lake' "), ["/opt/keys", "--for", "the lake"]);
        assert_eq!(
            split(r#""/My Tools/keys" a\ b "say \"x\"" '' 'a\b'"#),
            ["/My Tools/keys", "a b", "say \"x\"", "", "a\\b"]
        );
        assert_eq!(split("keys; rm $HOME | cat"), ["keys;", "rm", "$HOME", "|", "cat"]);
        for wrong in ["", "  ", "keys 'x", "keys \\"] {
            assert!(matches!(words("work", wrong), Err(Error::Config(_))), "{wrong}");
        }
    }

    #[tokio::test]
    async fn what_a_program_prints_is_taken_or_refused_without_a_secret_in_the_error() {
        let patient = Duration::from_secs(20);
        let keys = r#"echo '{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "hunter2", "SessionToken": "T", "Expiration": "2999-01-01T00:00:00Z"}'"#;
        let issued = printed(keys, patient).await.unwrap();
        assert_eq!((issued.credential.key_id.as_str(), issued.credential.token.as_deref()), ("A", Some("T")));
        assert!(issued.ends.is_some() && !format!("{issued:?}").contains("hunter2"));
        let forever = r#"echo '{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "hunter2"}'"#;
        assert_eq!(printed(forever, patient).await.unwrap().ends, None);

        for (script, part) in [
            (keys.replace("2999", "1999"), "ended already"),
            (keys.replace("\"Version\": 1", "\"Version\": 2"), "version 2"),
            (keys.replace("SecretAccessKey", "Secret"), "no JSON of version 1"),
            ("echo hunter2 >&2; exit 3".to_owned(), "failed (exit status: 3)"),
        ] {
            let error = printed(&script, patient).await.unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("\"work\""), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let began = std::time::Instant::now();
        let error = printed("sleep 30", Duration::from_millis(200)).await.unwrap_err().to_string();
        assert!(error.contains("no answer within") && began.elapsed() < Duration::from_secs(10), "{error}");
        let absent = Process::new("work", vec!["/no/such/program".to_owned()], Handle::current());
        assert!(absent.issue().await.unwrap_err().to_string().contains("cannot be run"));
    }
}
