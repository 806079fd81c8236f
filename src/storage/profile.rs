//! Profiles: the shared files of the AWS tools, `~/.aws/credentials` and `~/.aws/config`.
//!
//! This module reads the files and finds one profile; which of its settings matter is decided in
//! [`s3`](super::s3).
//!
//! Source: <https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html>

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::options::Environment;
use crate::error::{Error, Result};

/// Settings of one profile; those of the credentials file win over those of the config file.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Profile {
    pub name: String,
    settings: BTreeMap<String, String>,
}

impl Profile {
    pub fn setting(&self, key: &str) -> Option<&str> {
        self.settings.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }
}

impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys: Vec<&String> = self.settings.keys().collect();
        f.debug_struct("Profile").field("name", &self.name).field("settings", &keys).finish()
    }
}

/// Finds the profile that `chosen`, `AWS_PROFILE` or the name `default` names.
///
/// Returns none when only the default was asked for and nobody wrote one.
///
/// # Errors
/// [`Error::Config`] when a profile that was named does not exist.
pub(super) fn load(chosen: Option<&str>, env: Environment<'_>) -> Result<Option<Profile>> {
    let named = chosen.map(str::to_owned).or_else(|| env("AWS_PROFILE"));
    let name = named.clone().unwrap_or_else(|| "default".to_owned());
    let mut settings = BTreeMap::new();
    let mut found = false;
    for (path, kind) in shared_files(env) {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        if let Some(section) = section(&text, &name, kind) {
            found = true;
            settings.extend(section);
        }
    }
    match (found, named) {
        (true, _) => Ok(Some(Profile { name, settings })),
        (false, None) => Ok(None),
        (false, Some(name)) => Err(Error::Config(format!("AWS profile \"{name}\" does not exist"))),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum FileKind {
    Config,
    Credentials,
}

/// The config file first, so that the credentials file overwrites it.
fn shared_files(env: Environment<'_>) -> Vec<(PathBuf, FileKind)> {
    let home = env("HOME").or_else(|| env("USERPROFILE")).map(|home| PathBuf::from(home).join(".aws"));
    let place = |variable: &str, file: &str| {
        env(variable).map(PathBuf::from).or_else(|| home.as_ref().map(|folder| folder.join(file)))
    };
    let config = place("AWS_CONFIG_FILE", "config").map(|path| (path, FileKind::Config));
    let credentials =
        place("AWS_SHARED_CREDENTIALS_FILE", "credentials").map(|path| (path, FileKind::Credentials));
    config.into_iter().chain(credentials).collect()
}

/// Returns the settings of profile `name`; lines that mean nothing are passed over, as the SDKs do.
fn section(text: &str, name: &str, kind: FileKind) -> Option<BTreeMap<String, String>> {
    let mut inside = false;
    let mut settings: Option<BTreeMap<String, String>> = None;
    for line in text.lines() {
        // An indented line belongs to the setting above it, such as `s3 =`.
        if line.starts_with([' ', '\t', '#', ';']) || line.trim().is_empty() {
            continue;
        }
        if let Some(rest) = line.strip_prefix('[') {
            inside = rest.split(']').next().is_some_and(|title| is_profile(title.trim(), name, kind));
            if inside {
                settings.get_or_insert_default();
            }
            continue;
        }
        if let (true, Some((key, value)), Some(settings)) = (inside, line.split_once('='), &mut settings) {
            settings.insert(key.trim().to_lowercase(), without_comment(value).to_owned());
        }
    }
    settings
}

/// The config file writes `[profile NAME]`, but for `[default]`.
fn is_profile(title: &str, name: &str, kind: FileKind) -> bool {
    let titled = title.strip_prefix("profile").filter(|rest| rest.starts_with([' ', '\t'])).map(str::trim);
    match kind {
        FileKind::Credentials => title == name,
        FileKind::Config => titled == Some(name) || name == "default" && title == name,
    }
}

fn without_comment(value: &str) -> &str {
    let end = [" #", " ;", "\t#", "\t;"].iter().filter_map(|mark| value.find(mark)).min();
    value[..end.unwrap_or(value.len())].trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "\
[default]
region = eu-west-1
[profile work]
region=eu-central-1   # Frankfurt
endpoint_url = http://localhost:9000
s3 =
  addressing_style = path
[sso-session corp]
region = us-east-1
";
    const CREDENTIALS: &str = "\
; written by hand
[work]
aws_access_key_id = AKIAWORK
aws_secret_access_key = abc/def=+
[default]
AWS_ACCESS_KEY_ID = AKIADEFAULT
";

    fn with_files<T>(test: impl FnOnce(Environment<'_>) -> T) -> T {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(".aws")).unwrap();
        std::fs::write(folder.path().join(".aws/config"), CONFIG).unwrap();
        std::fs::write(folder.path().join(".aws/credentials"), CREDENTIALS).unwrap();
        let home = folder.path().to_str().unwrap().to_owned();
        test(&|name| (name == "HOME").then(|| home.clone()))
    }

    #[test]
    fn both_files_make_one_profile() {
        with_files(|env| {
            let work = load(Some("work"), env).unwrap().unwrap();
            assert_eq!(work.setting("aws_access_key_id"), Some("AKIAWORK"));
            assert_eq!(work.setting("aws_secret_access_key"), Some("abc/def=+"));
            assert_eq!(work.setting("region"), Some("eu-central-1"));
            assert_eq!(work.setting("endpoint_url"), Some("http://localhost:9000"));
            assert_eq!(work.setting("addressing_style"), None);
            assert!(!format!("{work:?}").contains("abc/def"), "{work:?}");

            let default = load(None, env).unwrap().unwrap();
            assert_eq!(default.setting("region"), Some("eu-west-1"));
            assert_eq!(default.setting("aws_access_key_id"), Some("AKIADEFAULT"));
        });
    }

    #[test]
    fn only_a_profile_that_was_named_must_exist() {
        with_files(|env| {
            let error = load(Some("corp"), env).unwrap_err();
            assert_eq!(error.to_string(), "configuration: AWS profile \"corp\" does not exist");
        });
        assert_eq!(load(None, &|_| None).unwrap(), None);
    }

    #[test]
    fn files_and_profile_may_be_named_by_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, "[ci]\naws_access_key_id = AKIACI\n").unwrap();
        let env = |name: &str| match name {
            "AWS_SHARED_CREDENTIALS_FILE" => Some(path.to_str().unwrap().to_owned()),
            "AWS_PROFILE" => Some("ci".to_owned()),
            _ => None,
        };
        assert_eq!(load(None, &env).unwrap().unwrap().setting("aws_access_key_id"), Some("AKIACI"));
    }
}
