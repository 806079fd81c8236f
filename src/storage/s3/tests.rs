use std::collections::BTreeMap;

use super::*;

/// A home folder with profile files, and an environment.
struct Surroundings {
    folder: tempfile::TempDir,
    variables: BTreeMap<&'static str, String>,
}

impl Surroundings {
    fn new(credentials: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(".aws")).unwrap();
        std::fs::write(folder.path().join(".aws/credentials"), credentials).unwrap();
        let home = folder.path().to_str().unwrap().to_owned();
        Self { folder, variables: BTreeMap::from([("HOME", home)]) }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.variables.insert(name, value.to_owned());
        self
    }

    fn access(&self, options: &str) -> Result<Access> {
        let options: StoreOptions = toml::from_str(options).unwrap();
        access(&options, self.folder.path(), &|name| self.variables.get(name).cloned())
    }

    fn key_id(&self, options: &str) -> String {
        match self.access(options).unwrap().identity {
            Identity::Keys(keys) => keys.access_key_id,
            other => format!("{other:?}"),
        }
    }
}

const PROFILES: &str = "\
[default]
aws_access_key_id = FROM_DEFAULT
aws_secret_access_key = x
[work]
aws_access_key_id = FROM_WORK
aws_secret_access_key = x
region = eu-north-1
endpoint_url = http://localhost:9000
[process]
credential_process = /bin/keys --for \"the lake\"
aws_access_key_id = NOT_THIS
aws_secret_access_key = x
[role]
role_arn = arn:aws:iam::1:role/r
source_profile = process
external_id = x&y
region = eu-west-1
[own]
role_arn = arn:aws:iam::1:role/own
source_profile = own
aws_access_key_id = A
aws_secret_access_key = x
[circle]
role_arn = arn:aws:iam::1:role/c
source_profile = ring
[ring]
role_arn = arn:aws:iam::1:role/d
source_profile = circle
[sso]
sso_session = corp
[mfa]
role_arn = arn:aws:iam::1:role/m
mfa_serial = arn:aws:iam::1:mfa/me
source_profile = default
[long]
role_arn = arn:aws:iam::1:role/l
duration_seconds = 99999
source_profile = default
[env]
role_arn = arn:aws:iam::1:role/e
credential_source = Environment
";

#[test]
fn credentials_are_found_in_the_order_of_the_sdks() {
    let nothing = Surroundings::new("");
    assert_eq!(nothing.key_id(""), "machine");
    let nothing = nothing.with("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/task");
    assert_eq!(nothing.key_id(""), "container");

    let machine = Surroundings::new(PROFILES).with("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/task");
    assert_eq!(machine.key_id(""), "FROM_DEFAULT");
    let machine = machine.with("AWS_PROFILE", "work");
    assert_eq!(machine.key_id(""), "FROM_WORK");
    let machine = machine.with("AWS_WEB_IDENTITY_TOKEN_FILE", "token").with("AWS_ROLE_ARN", "arn");
    assert_eq!(machine.key_id(""), "web identity");
    let machine = machine.with("AWS_ACCESS_KEY_ID", "FROM_ENV").with("AWS_SECRET_ACCESS_KEY", "x");
    assert_eq!(machine.key_id(""), "FROM_ENV");
    assert_eq!(machine.key_id("profile = \"work\""), "FROM_WORK");
    let machine = machine.with("LAKE_ID", "FROM_OPTIONS").with("LAKE_SECRET", "x");
    let options = "access_key_id = { env = \"LAKE_ID\" }\nsecret_access_key = { env = \"LAKE_SECRET\" }";
    assert_eq!(machine.key_id(options), "FROM_OPTIONS");
    assert_eq!(machine.key_id("anonymous = true"), "anonymous");
}

#[test]
fn region_and_endpoint_come_from_the_same_places() {
    let machine = Surroundings::new(PROFILES);
    assert_eq!(machine.access("").unwrap().region, "us-east-1");
    let work = machine.access("profile = \"work\"").unwrap();
    assert_eq!((work.region.as_str(), work.path_style), ("eu-north-1", true));
    assert_eq!(work.endpoint.unwrap().as_str(), "http://localhost:9000/");

    let machine = machine.with("AWS_DEFAULT_REGION", "ap-east-1").with("AWS_ENDPOINT_URL", "https://s3.corp");
    let set = machine.access("").unwrap();
    assert_eq!((set.region.as_str(), set.endpoint.unwrap().as_str()), ("ap-east-1", "https://s3.corp/"));
    let machine = machine.with("AWS_REGION", "ap-south-1");
    assert_eq!(machine.access("").unwrap().region, "ap-south-1");
    assert_eq!(machine.access("region = \"auto\"").unwrap().region, "auto");

    let plain = machine.with("AWS_ENDPOINT_URL_S3", "http://minio.corp");
    assert!(plain.access("").unwrap_err().to_string().contains("allow_http"));
    assert!(plain.access("allow_http = true").is_ok());
}

#[test]
fn what_is_not_supported_or_incomplete_is_said() {
    let machine = Surroundings::new(PROFILES);
    for (options, part) in [
        ("profile = \"sso\"", "uses sso_session, which is not supported"),
        ("profile = \"circle\"", "leads in a circle"),
        ("profile = \"mfa\"", "needs a person"),
        ("profile = \"long\"", "between 900 and 43200"),
        ("profile = \"env\"", "credential_source Environment has no credentials"),
        ("profile = \"absent\"", "\"absent\" does not exist"),
        ("access_key_id = { env = \"HOME\" }", "without \"secret_access_key\""),
    ] {
        let error = machine.access(options).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    let half = machine.with("AWS_ACCESS_KEY_ID", "A");
    assert!(half.access("").unwrap_err().to_string().contains("AWS_SECRET_ACCESS_KEY"));
}

#[test]
fn a_profile_may_name_a_program_or_a_role() {
    let machine = Surroundings::new(PROFILES);
    let process = |identity: &Identity| match identity {
        Identity::Process { words, .. } => words.join("|"),
        other => format!("{other:?}"),
    };
    let found = machine.access("profile = \"process\"").unwrap().identity;
    assert_eq!(process(&found), "/bin/keys|--for|the lake");
    let Identity::Role { role, source } = machine.access("profile = \"role\"").unwrap().identity else {
        panic!("no role");
    };
    assert_eq!(process(&source), "/bin/keys|--for|the lake");
    assert_eq!((role.session_name.as_str(), role.duration_s), ("lacus", 3600));
    assert_eq!(role.endpoint.as_str(), "https://sts.eu-west-1.amazonaws.com/");
    let Identity::Role { source, .. } = machine.access("profile = \"own\"").unwrap().identity else {
        panic!("no role");
    };
    assert_eq!(format!("{source:?}"), "keys");
    let machine = machine.with("AWS_ENDPOINT_URL_STS", "http://sts.corp");
    assert!(machine.access("profile = \"own\"").unwrap_err().to_string().contains("allow_http"));
    assert!(machine.access("profile = \"own\"\nallow_http = true").is_ok());
    let machine = machine.with("AWS_ACCESS_KEY_ID", "A").with("AWS_SECRET_ACCESS_KEY", "x");
    assert_eq!(machine.key_id("profile = \"env\"\nallow_http = true"), "role");
}

#[tokio::test]
async fn no_credentials_and_no_machine_to_ask_is_an_error_at_once() {
    let machine = Surroundings::new("").with("AWS_EC2_METADATA_DISABLED", "true");
    let connector = http::IoConnector(tokio::runtime::Handle::current());
    let error = build("bucket", machine.access("").unwrap(), &connector).unwrap_err();
    assert!(error.to_string().contains("no AWS credentials"), "{error}");
}

#[test]
fn secrets_are_not_shown() {
    let machine = Surroundings::new(PROFILES).with("AWS_ACCESS_KEY_ID", "FROM_ENV");
    let machine = machine.with("AWS_SECRET_ACCESS_KEY", "hunter2");
    let shown = format!("{:?}", machine.access("").unwrap());
    assert!(!shown.contains("hunter2") && !shown.contains("FROM_ENV"), "{shown}");
}
