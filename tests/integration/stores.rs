//! What `storage` promises of a remote store, whoever made it; and Azure's, in its emulator.
//!
//! Azure is asked where `LACUS_TEST_AZURE_ENDPOINT` names one (Azurite:
//! `http://127.0.0.1:10000/devstoreaccount1`). Google's has no emulator that speaks the XML interface
//! with multipart uploads, which `object_store` uses.

use bytes::Bytes;
use futures::future::join_all;
use lacus::error::Error;
use lacus::storage::{Location, PutOutcome, StoreOptions, Stores};
use object_store::client::{HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use tokio::runtime::Handle;

use crate::daemon::{Catalogs, Setup, code, rows};
use crate::faults::number;

/// Opens `root` with the options of a `[store]` table.
pub fn open(root: &str, folder: &std::path::Path, options: &str) -> Location {
    let options: StoreOptions = toml::from_str(options).unwrap();
    let env = datafusion::execution::runtime_env::RuntimeEnv::default();
    Stores::new(Handle::current(), 32).open(root, folder, &options, &env).unwrap()
}

/// Of sixteen creates at once, one wins, and its bytes are there.
pub async fn one_create_wins(location: &Location) {
    for slot in 0..10 {
        let path = location.child(&format!("_lacus/log/{slot:020}.json"));
        let puts = (0..16).map(|writer| {
            let (location, path) = (location.clone(), path.clone());
            tokio::spawn(
                async move { location.put_if_absent(&path, format!("{writer}").into()).await.unwrap() },
            )
        });
        let outcomes: Vec<PutOutcome> = join_all(puts).await.into_iter().map(|done| done.unwrap()).collect();
        let winners: Vec<usize> =
            (0..16).filter(|writer| matches!(outcomes[*writer], PutOutcome::Created)).collect();
        let read = location.read(&path).await.unwrap().unwrap();
        assert_eq!(winners.iter().map(|winner| Bytes::from(winner.to_string())).collect::<Vec<_>>(), [read]);
    }
    assert!(location.probe_create_race(&location.child("_lacus")).await.unwrap());
}

/// Objects of `location`, which is `inside` of `outside`, are written in parts and whole, listed, read
/// in ranges and deleted; what lies beside it is out of reach.
pub async fn objects_live(location: &Location, outside: &Location, inside: &str) {
    outside.put(&outside.child(&format!("{inside}s/x")), "not ours".into()).await.unwrap();
    let large = location.child("raw/t/month=1/large.bin");
    let part = Bytes::from(vec![7_u8; 5 << 20]);
    let mut upload = location.store.put_multipart(&large).await.unwrap();
    upload.put_part(PutPayload::from(part.clone())).await.unwrap();
    upload.put_part("tail".into()).await.unwrap();
    upload.complete().await.unwrap();
    location.put(&location.child("raw/t/a file.csv"), "a,b".into()).await.unwrap();

    assert_eq!(location.read(&location.child("raw/absent")).await.unwrap(), None);
    let end = part.len() as u64;
    let ranges = location.store.get_ranges(&large, &[0..2, end..end + 4]).await.unwrap();
    assert_eq!(ranges, [Bytes::from_static(&[7, 7]), Bytes::from_static(b"tail")]);
    let listed = location.list(&location.child("raw")).await.unwrap();
    let mut listed: Vec<String> = listed.iter().map(|meta| location.url_of(&meta.location)).collect();
    listed.sort();
    assert_eq!(listed, ["raw/t/a file.csv", "raw/t/month=1/large.bin"].map(|key| location.url.clone() + key));
    let (folders, objects) = location.list_children(&location.child("raw/t")).await.unwrap();
    assert_eq!((folders, objects.len(), objects[0].size), (vec!["month=1".to_owned()], 1, 3));

    location.store.delete(&large).await.unwrap();
    assert_eq!(location.read(&large).await.unwrap(), None);
    let refused = location.store.get(&Path::from(format!("{inside}s/x"))).await.map_err(Error::from);
    assert!(matches!(refused, Err(Error::PermissionDenied(_))), "{refused:?}");
}

/// A lake at `root`: files are found, tables are written by one daemon and read by another.
async fn a_lake_lives(root: &str, folder: &std::path::Path, store: &str) {
    let definition =
        format!("root = \"{root}\"\n[store]\n{}", store.replace("{here}", folder.to_str().unwrap()));
    let lake = open(root, folder, &store.replace("{here}", folder.to_str().unwrap()));
    lake.put(&lake.child("raw/marks/month=1/a.csv"), "n\n1\n2\n".into()).await.unwrap();
    lake.put(&lake.child("raw/marks/month=2/b.csv"), "n\n39\n".into()).await.unwrap();
    let catalogs = [Catalogs::with_lake(&definition), Catalogs::with_lake(&definition)];
    let daemons = [0, 1].map(|at: usize| Setup::default().serve(catalogs[at].path()));
    let (one, other) = (daemons[0].connect("lake").await, daemons[1].connect("lake").await);
    assert_eq!(number(&one, "SELECT sum(n) FROM raw.marks WHERE month <= 2").await, 42);
    rows(&one, "CREATE SCHEMA IF NOT EXISTS mart").await;
    rows(&one, "CREATE TABLE mart.orders PARTITIONED BY (o_orderstatus) AS SELECT * FROM tpch.tiny.orders")
        .await;
    assert_eq!(number(&other, "SELECT count(*) FROM mart.orders").await, 15_000);
    let (first, second) = tokio::join!(
        rows(&one, "INSERT INTO mart.orders SELECT * FROM tpch.tiny.orders WHERE o_orderkey < 100"),
        rows(&other, "INSERT INTO mart.orders SELECT * FROM tpch.tiny.orders WHERE o_orderkey < 100"),
    );
    drop((first, second));
    let more = number(&one, "SELECT count(*) FROM tpch.tiny.orders WHERE o_orderkey < 100").await;
    assert_eq!(number(&one, "SELECT count(*) FROM mart.orders").await, 15_000 + 2 * more);
    rows(&other, "DROP TABLE mart.orders").await;
    assert_eq!(code(&one, "SELECT * FROM mart.orders").await, "42P01");
}

fn variable(name: &str) -> Option<String> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        eprintln!("skipped: {name} names no server");
    }
    value.map(|value| value.trim_end_matches('/').to_owned())
}

async fn create(mut request: HttpRequest, url: &str, sign: impl FnOnce(&mut HttpRequest)) {
    *request.uri_mut() = url.parse().unwrap();
    sign(&mut request);
    let options = object_store::ClientOptions::new().with_allow_http(true);
    let response = ReqwestConnector::default().connect(&options).unwrap().execute(request).await.unwrap();
    assert!(response.status().is_success(), "{url}: {}", response.status());
}

#[tokio::test(flavor = "multi_thread")]
async fn azure() {
    use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential};
    /// The account of the emulator, which is the same for everybody.
    const ACCOUNT: &str = "devstoreaccount1";
    const KEY: &str =
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
    let Some(endpoint) = variable("LACUS_TEST_AZURE_ENDPOINT") else { return };
    let container = format!("lacus-test-{}", uuid::Uuid::new_v4().simple());
    let credential = AzureCredential::AccessKey(AzureAccessKey::try_new(KEY).unwrap());
    let mut request = HttpRequest::new(HttpRequestBody::empty());
    *request.method_mut() = "PUT".parse().unwrap();
    request.headers_mut().insert("content-length", "0".parse().unwrap());
    create(request, &format!("{endpoint}/{container}?restype=container"), |request| {
        AzureAuthorizer::new(&credential, ACCOUNT).authorize(request);
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("key"), KEY).unwrap();
    let store = format!(
        "endpoint = \"{endpoint}\"\naccount = \"{ACCOUNT}\"\naccount_key = {{ file = \"{{here}}/key\" }}\n"
    );
    let options = store.replace("{here}", folder.path().to_str().unwrap());
    let at = |prefix: &str| open(&format!("az://{container}/{prefix}"), folder.path(), &options);
    objects_live(&at("deep/lake"), &at(""), "deep/lake").await;
    one_create_wins(&at("race")).await;
    a_lake_lives(&format!("az://{container}/lake/"), folder.path(), &store).await;
}
