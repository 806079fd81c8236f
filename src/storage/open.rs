//! Opening: from what a catalog says about its root to a [`Location`].

use std::path::{Component, Path as FsPath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use object_store::ObjectStore;
use object_store::path::Path;
use tokio::runtime::Handle;

use super::disk::Disk;
use super::fence::Fence;
use super::options::{StoreOptions, process_environment};
use super::{Location, cloud, http, s3};
use crate::error::{Error, Result};

/// Opens locations. One for a DataFusion runtime, because it names the stores that it registers there.
#[derive(Debug)]
pub struct Stores {
    io: Handle,
    /// Requests under way at once, for each location that does not say otherwise.
    requests_max: usize,
    opened: AtomicUsize,
}

/// What a root URL says.
#[derive(Debug, PartialEq)]
enum Root {
    Disk { given: PathBuf },
    S3 { bucket: String, prefix: Path },
    Google { bucket: String, prefix: Path },
    Azure { container: String, account: Option<String>, url: String, prefix: Path },
}

/// A store, the same without repeats, where the root lies in it, and the root's URL.
type Opened = (Arc<dyn ObjectStore>, Arc<dyn ObjectStore>, Path, String);

impl Stores {
    /// Requests and file calls run on `io`.
    pub fn new(io: Handle, requests_max: usize) -> Self {
        Self { io, requests_max, opened: AtomicUsize::new(0) }
    }

    /// Opens `root` and registers its store with `env` under a name of its own, since two catalogs may
    /// reach one bucket as different users.
    ///
    /// `root` is `s3://bucket/prefix/`, `gs://…`, `az://container/…`, `abfss://container@account.host/…`,
    /// `file:///folder/`, an absolute path, or a path relative to `base_dir`, as are the files that
    /// `options` name. Reads credential files, but does not ask the store: what is wrong with bucket or
    /// credentials shows at the first request.
    ///
    /// # Errors
    /// [`Error::Config`] for a root or options that make no sense, and for a folder that does not exist.
    pub fn open(
        &self,
        root: &str,
        base_dir: &FsPath,
        options: &StoreOptions,
        env: &RuntimeEnv,
    ) -> Result<Location> {
        let (store, creates, inside, url) = self.connect(parse(root, base_dir)?, base_dir, options)?;
        let name = format!("store{}", self.opened.fetch_add(1, Ordering::Relaxed) + 1);
        let requests_max = options.requests_max.unwrap_or(self.requests_max);
        let store = Arc::new(Fence::new(&name, &url, inside, store, creates, requests_max));
        let store_url = ObjectStoreUrl::parse(format!("lacus://{name}"))?;
        if env.register_object_store(store_url.as_ref(), Arc::clone(&store) as _).is_some() {
            return Err(Error::Internal(format!("two stores are registered as \"{store_url}\"")));
        }
        Ok(Location { url, store, store_url, prefix: Path::from(name) })
    }

    fn connect(&self, root: Root, base_dir: &FsPath, options: &StoreOptions) -> Result<Opened> {
        let env = &process_environment;
        let connector = http::IoConnector(self.io.clone());
        match root {
            Root::Disk { given } => {
                let (url, real) = folder(&given)?;
                let store = Arc::new(Disk::new(real, self.io.clone()));
                Ok((Arc::clone(&store) as _, store, Path::ROOT, url))
            }
            Root::S3 { bucket, prefix } => {
                let access = s3::access(options, base_dir, env)?;
                let (store, creates) = s3::build(&bucket, access, &connector)?;
                let url = with_prefix(&format!("s3://{bucket}/"), &prefix);
                Ok((store, creates, prefix, url))
            }
            Root::Google { bucket, prefix } => {
                let (store, creates) = cloud::google(&bucket, options, base_dir, env, &connector)?;
                let url = with_prefix(&format!("gs://{bucket}/"), &prefix);
                Ok((store, creates, prefix, url))
            }
            Root::Azure { container, account, url, prefix } => {
                let account = account.as_deref();
                let (store, creates) = cloud::azure(&container, account, options, base_dir, env, &connector)?;
                let url = with_prefix(&url, &prefix);
                Ok((store, creates, prefix, url))
            }
        }
    }
}

fn with_prefix(url: &str, prefix: &Path) -> String {
    match prefix.is_root() {
        true => url.to_owned(),
        false => format!("{url}{prefix}/"),
    }
}

/// Takes a root apart; only its form is looked at.
fn parse(root: &str, base_dir: &FsPath) -> Result<Root> {
    let Some((scheme, rest)) = root.split_once("://") else {
        return match root.is_empty() {
            true => Err(Error::Config("a root must not be empty".to_owned())),
            false => Ok(Root::Disk { given: base_dir.join(root) }),
        };
    };
    if scheme == "file" {
        return match rest.starts_with('/') {
            true => Ok(Root::Disk { given: PathBuf::from(rest) }),
            false => Err(Error::Config(format!("root \"{root}\" names a host; write file:///folder/"))),
        };
    }
    let (authority, key) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = match key.starts_with('/') {
        true => return Err(Error::Config(format!("root \"{root}\" has an empty folder name"))),
        false => Path::parse(key).map_err(|error| Error::Config(format!("root \"{root}\": {error}")))?,
    };
    remote(scheme, authority, prefix)
}

fn remote(scheme: &str, authority: &str, prefix: Path) -> Result<Root> {
    let is_azure = matches!(scheme, "az" | "azure" | "abfs" | "abfss");
    if !is_azure && authority.contains('@') {
        return Err(Error::Config("a root must not contain credentials; [store] refers to them".to_owned()));
    }
    let bucket = authority.split('@').next().unwrap_or_default();
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '$');
    if bucket.is_empty() || !bucket.chars().all(allowed) {
        return Err(Error::Config(format!(
            "\"{bucket}\", in a root with {scheme}://, is no name of a bucket"
        )));
    }
    let bucket = bucket.to_owned();
    match scheme {
        "s3" | "s3a" => Ok(Root::S3 { bucket, prefix }),
        "gs" | "gcs" => Ok(Root::Google { bucket, prefix }),
        _ if is_azure => {
            let account = authority.split_once('@').and_then(|(_, host)| host.split('.').next());
            let url = format!("{scheme}://{authority}/");
            Ok(Root::Azure { container: bucket, account: account.map(str::to_owned), url, prefix })
        }
        other => Err(Error::Config(format!(
            "a root with {other}:// is not supported; there are s3, gs, az, abfss, file and plain paths"
        ))),
    }
}

/// Returns the URL of a folder as it was given, and its canonical path.
///
/// The URL keeps a symbolic link in the given path, so that files which were recorded under it stay
/// valid when the link is moved.
fn folder(given: &FsPath) -> Result<(String, PathBuf)> {
    let shown = given.display();
    let real = std::fs::canonicalize(given)
        .map_err(|error| Error::Config(format!("folder \"{shown}\" cannot be used as a root: {error}")))?;
    if !real.is_dir() {
        return Err(Error::Config(format!("\"{shown}\" cannot be used as a root: it is not a folder")));
    }
    let climbs = given.components().any(|part| part == Component::ParentDir);
    let named = if climbs { real.clone() } else { std::path::absolute(given)? };
    let named: PathBuf = named.components().collect();
    match named.to_str() {
        Some("/") => Ok(("file:///".to_owned(), real)),
        Some(text) => Ok((format!("file://{text}/"), real)),
        None => Err(Error::Config(format!("folder \"{shown}\" cannot be used as a root: it is not UTF-8"))),
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;

    use super::*;

    #[test]
    fn roots_are_taken_apart() {
        let base = FsPath::new("/etc/lacus/catalog");
        let s3 = Root::S3 { bucket: "b".to_owned(), prefix: Path::from("p/q") };
        assert_eq!(parse("s3://b/p/q/", base).unwrap(), s3);
        assert_eq!(parse("s3a://b/p/q", base).unwrap(), s3);
        assert_eq!(
            parse("gs://b", base).unwrap(),
            Root::Google { bucket: "b".to_owned(), prefix: Path::ROOT }
        );
        let azure = parse("abfss://raw@lake.dfs.core.windows.net/p", base).unwrap();
        let Root::Azure { container, account, url, prefix } = azure else { panic!("{azure:?}") };
        assert_eq!((container.as_str(), account.as_deref(), prefix.as_ref()), ("raw", Some("lake"), "p"));
        assert_eq!(with_prefix(&url, &prefix), "abfss://raw@lake.dfs.core.windows.net/p/");
        assert_eq!(parse("../lake", base).unwrap(), Root::Disk { given: base.join("../lake") });
        assert_eq!(parse("file:///srv/lake/", base).unwrap(), Root::Disk { given: "/srv/lake/".into() });
        for wrong in ["", "s3:///p", "s3://b/a/../c", "s3://b//c", "file://host/x", "ftp://b/p", "s3://b?x/p"]
        {
            assert!(matches!(parse(wrong, base), Err(Error::Config(_))), "{wrong}");
        }
        let error = parse("s3://AKIA:hunter2@b/p", base).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[tokio::test]
    async fn every_location_has_a_store_and_paths_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("lake")).unwrap();
        let stores = Stores::new(Handle::current(), 8);
        let env = RuntimeEnv::default();
        let options = StoreOptions::default();
        let first = stores.open("lake", folder.path(), &options, &env).unwrap();
        let second = stores.open("./lake/", folder.path(), &options, &env).unwrap();
        assert_eq!(first.url, format!("file://{}/lake/", folder.path().display()));
        assert_eq!(second.url, first.url);
        assert_ne!(first.prefix, second.prefix);

        first.store.put(&first.child("raw/x"), "1".into()).await.unwrap();
        let registered = env.object_store(&second.store_url).unwrap();
        assert_eq!(registered.get(&second.child("raw/x")).await.unwrap().bytes().await.unwrap(), "1");
        assert!(registered.get(&first.child("raw/x")).await.is_err());
        assert_eq!(first.path_of(&first.url_of(&first.child("raw/x"))).unwrap(), first.child("raw/x"));

        let error = stores.open("no_such", folder.path(), &options, &env).unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error}");
    }
}
