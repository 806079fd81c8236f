//! Credentials that are not keys: programs that print them, and roles that STS gives.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use ring::{digest, hmac};

use crate::daemon::{Catalogs, Daemon, Setup, rows, try_rows};
use crate::faults::number;
use crate::s3::{ACCESS_KEY, S3Server, SECRET_KEY};

const ROLE: &str = "arn:aws:iam::123456789012:role/lake";
const BASE_KEY: &str = "BASEKEY";
const BASE_SECRET: &str = "base/secret+4712";

/// A lake in a bucket, and a folder for the files of the AWS tools.
struct Home {
    /// Holds the bucket.
    _server: S3Server,
    catalogs: Catalogs,
    folder: tempfile::TempDir,
}

impl Home {
    fn new(config: &str) -> Self {
        let server = S3Server::start();
        let definition = format!(
            "root = \"s3://{}/\"\n[store]\nendpoint = \"{}\"\nregion = \"us-east-1\"\nprofile = \"lake\"\n",
            server.bucket, server.endpoint
        );
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().to_str().unwrap();
        std::fs::write(folder.path().join("config"), config.replace("{here}", here)).unwrap();
        Self { _server: server, catalogs: Catalogs::with_lake(&definition), folder }
    }

    /// A program that notes each run in `runs` and does what `script` says.
    fn program(&self, script: &str) {
        let path = self.folder.path().join("my keys");
        let runs = self.folder.path().join("runs");
        std::fs::write(&path, format!("#!/bin/sh\necho \"$1\" >>'{}'\n{script}\n", runs.display())).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn runs(&self) -> Vec<String> {
        let runs = std::fs::read_to_string(self.folder.path().join("runs")).unwrap_or_default();
        runs.lines().map(str::to_owned).collect()
    }

    fn serve(&self, variables: &[(&str, &str)]) -> Daemon {
        let file = |name: &str| self.folder.path().join(name).to_str().unwrap().to_owned();
        let setup = Setup::default()
            .variable("AWS_CONFIG_FILE", &file("config"))
            .variable("AWS_SHARED_CREDENTIALS_FILE", &file("credentials"));
        let with = |setup: Setup, (name, value): &(&str, &str)| setup.variable(name, value);
        variables.iter().fold(setup, with).serve(self.catalogs.path())
    }
}

fn printed(key: &str, secret: &str) -> String {
    format!(
        "cat <<'END'\n{{\"Version\": 1, \"AccessKeyId\": \"{key}\", \"SecretAccessKey\": \"{secret}\", \
         \"Expiration\": \"2999-01-01T00:00:00Z\"}}\nEND"
    )
}

async fn uses(daemon: &Daemon) {
    let client = daemon.connect("lake").await;
    rows(&client, "CREATE SCHEMA IF NOT EXISTS mart").await;
    rows(&client, "CREATE TABLE mart.kept AS SELECT * FROM tpch.tiny.nation").await;
    assert_eq!(number(&client, "SELECT count(*) FROM mart.kept").await, 25);
}

const BY_PROGRAM: &str = "[profile lake]\ncredential_process = \"{here}/my keys\" 'for the lake'\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_program_prints_the_keys() {
    let home = Home::new(BY_PROGRAM);
    home.program(&format!("echo a word to the operator >&2\n{}", printed(ACCESS_KEY, SECRET_KEY)));
    let daemon = home.serve(&[]);
    uses(&daemon).await;
    assert_eq!(home.runs(), ["for the lake"], "keys are kept until they end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_fails_shows_clients_no_secret() {
    let home = Home::new(BY_PROGRAM);
    home.program("echo hunter2 >&2; exit 7");
    let daemon = home.serve(&[]);
    let client = daemon.connect("lake").await;
    let error = try_rows(&client, "SELECT * FROM raw.nothing").await.expect_err("it has no keys");
    let error = error.as_db_error().expect("the daemon's own error");
    assert_eq!(error.code().code(), "58030", "{error:?}");
    assert!(error.message().contains("exit status: 7"), "{error:?}");
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    assert_eq!(rows(&client, "SELECT count(*) FROM tpch.tiny.nation").await.len(), 1);
    // The next statement asks again.
    home.program(&printed(ACCESS_KEY, SECRET_KEY));
    uses(&daemon).await;
}

/// An STS that gives one role to whoever signs as the base key.
#[derive(Default)]
struct Sts {
    asked: Mutex<Vec<HashMap<String, String>>>,
}

impl Sts {
    /// Serves on a free port; returns the URL.
    async fn start(self: Arc<Self>) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(assume).with_state(self);
        tokio::spawn(async move { axum::serve(listener, app).await });
        url
    }
}

async fn assume(State(sts): State<Arc<Sts>>, request: Request) -> (StatusCode, String) {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let header =
        |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if header("authorization") != signed(&header, &body) {
        let xml = "<ErrorResponse><Error><Code>SignatureDoesNotMatch</Code><Message>no &amp; no</Message></Error></ErrorResponse>";
        return (StatusCode::FORBIDDEN, xml.to_owned());
    }
    let form: HashMap<_, _> = url::form_urlencoded::parse(&body).into_owned().collect();
    sts.asked.lock().unwrap().push(form);
    let xml = format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>\
         <AccessKeyId>{ACCESS_KEY}</AccessKeyId><SecretAccessKey>{SECRET_KEY}</SecretAccessKey>\
         <SessionToken>token==</SessionToken><Expiration>2999-01-01T00:00:00Z</Expiration>\
         </Credentials></AssumeRoleResult></AssumeRoleResponse>"
    );
    (StatusCode::OK, xml)
}

/// What the Authorization header of a POST to `/` must be.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>
fn signed<'a>(header: &impl Fn(&str) -> &'a str, body: &[u8]) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let hash = |bytes: &[u8]| hex(digest::digest(&digest::SHA256, bytes).as_ref());
    let authorization = header("authorization");
    let names = authorization.split("SignedHeaders=").nth(1).and_then(|rest| rest.split(',').next());
    let names = names.unwrap_or_default();
    assert!(names.contains("content-type") && names.contains("host"), "{names}");
    let lines: String = names.split(';').map(|name| format!("{name}:{}\n", header(name).trim())).collect();
    let canonical = format!("POST\n/\n\n{lines}\n{names}\n{}", hash(body));
    let date = header("x-amz-date");
    let scope = format!("{}/us-east-1/sts/aws4_request", &date[..8]);
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hash(canonical.as_bytes()));
    let sign = |key: &[u8], text: &str| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
    };
    let secret = format!("AWS4{BASE_SECRET}").into_bytes();
    let key = scope.split('/').fold(secret, |key, part| sign(&key, part));
    format!(
        "AWS4-HMAC-SHA256 Credential={BASE_KEY}/{scope}, SignedHeaders={names}, Signature={}",
        hex(&sign(&key, &text))
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_taken_on_by_another_profile() {
    let sts = Arc::new(Sts::default());
    let url = Arc::clone(&sts).start().await;
    let home = Home::new(&format!(
        "[profile lake]\nrole_arn = {ROLE}\nsource_profile = base\nexternal_id = a&b\n\
         [profile base]\ncredential_process = '{{here}}/my keys' base\n"
    ));
    home.program(&printed(BASE_KEY, BASE_SECRET));
    uses(&home.serve(&[("AWS_ENDPOINT_URL_STS", &url)])).await;
    let asked = std::mem::take(&mut *sts.asked.lock().unwrap());
    assert_eq!(asked.len(), 1, "a role is kept until it ends");
    for (name, value) in
        [("Action", "AssumeRole"), ("RoleArn", ROLE), ("ExternalId", "a&b"), ("RoleSessionName", "lacus")]
    {
        assert_eq!(asked[0].get(name).map(String::as_str), Some(value));
    }
    assert_eq!(home.runs(), ["base"]);

    // Somebody else is refused, and told why.
    home.program(&printed(BASE_KEY, "wrong"));
    let daemon = home.serve(&[("AWS_ENDPOINT_URL_STS", &url)]);
    let error =
        try_rows(&daemon.connect("lake").await, "SELECT * FROM raw.nothing").await.expect_err("refused");
    let error = error.as_db_error().expect("the daemon's own error");
    assert!(error.message().contains("SignatureDoesNotMatch no & no"), "{error:?}");
    assert!(!error.message().contains(BASE_SECRET));
}
