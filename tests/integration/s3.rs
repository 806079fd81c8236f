//! S3 for tests: a server in this process, or the one that `LACUS_TEST_S3_ENDPOINT` names.
//!
//! [`S3Server`] is `s3s` over a folder, with what `s3s-fs` lacks (conditional PUTs of one key run one
//! after the other; as it comes, it checks and then writes, so that several racing writers win) and
//! with [`Faults`] that can be switched on at any time. [`S3Target`] is for tests that need no faults.
//!
//! `s3s-fs` names a file after each key, so a key may have about 150 bytes.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::serve::{IncomingStream, Listener};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

pub const ACCESS_KEY: &str = "LACUSTESTKEY";
pub const SECRET_KEY: &str = "lacus-test-secret-4711";

/// A server on a free port of the loopback interface, with one bucket. Stops when it is dropped.
pub struct S3Server {
    pub endpoint: String,
    pub bucket: String,
    pub access_key: String,
    pub secret_key: String,
    pub faults: Arc<Faults>,
    /// Of its own, so that a server outlives the runtime of the test that drops it last.
    runtime: Option<tokio::runtime::Runtime>,
    folder: tempfile::TempDir,
}

impl S3Server {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let faults = Arc::new(Faults::default());
        let mut service = S3ServiceBuilder::new(FileSystem::new(folder.path()).unwrap());
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let front = Front {
            service: service.build(),
            faults: Arc::clone(&faults),
            creates: Mutex::default(),
            root: folder.path().to_owned(),
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.spawn(async move {
            let listener = CuttingListener(TcpListener::from_std(listener).unwrap());
            let app = Router::new().fallback(answer).with_state(Arc::new(front));
            axum::serve(listener, app.into_make_service_with_connect_info::<Scissors>()).await
        });
        let server = Self {
            endpoint,
            bucket: "lake".to_owned(),
            access_key: ACCESS_KEY.to_owned(),
            secret_key: SECRET_KEY.to_owned(),
            faults,
            runtime: Some(runtime),
            folder,
        };
        server.create_bucket("lake");
        server
    }

    pub fn create_bucket(&self, name: &str) {
        std::fs::create_dir(self.folder.path().join(name)).unwrap();
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What happens at one PUT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtPut {
    /// From then on nothing is done and nothing is answered, this PUT included.
    Freeze,
    /// This PUT is done; then as above.
    FreezeAfter,
    /// This PUT is done, but the connection is closed instead of an answer.
    Lose,
    /// This PUT is refused with 503.
    Refuse,
}

/// A request that was answered.
#[derive(Debug, Clone)]
struct Traced {
    began: Instant,
    ended: Instant,
    name: String,
}

/// What goes wrong, and what was seen. All of it may be changed while requests run.
#[derive(Default)]
pub struct Faults {
    /// PUTs that are still to come until something happens.
    planned: Mutex<Option<(usize, AtPut)>>,
    frozen: tokio::sync::watch::Sender<bool>,
    /// Begin, end and name of each request since the trace began.
    trace: Mutex<Option<Vec<Traced>>>,
    refused: AtomicUsize,
    refused_every: AtomicUsize,
    cut: AtomicUsize,
    lost: AtomicUsize,
    delay_ms: AtomicU64,
    forgets: AtomicBool,
    requests: AtomicUsize,
    under_way: AtomicUsize,
    under_way_max: AtomicUsize,
}

impl Faults {
    /// Answers 503 to the next `n` requests.
    pub fn refuse_next(&self, n: usize) {
        self.refused.store(n, Ordering::SeqCst);
    }

    /// Answers 503 to every `k`-th request; 0 ends it.
    pub fn refuse_every(&self, k: usize) {
        self.refused_every.store(k, Ordering::SeqCst);
    }

    /// Closes the connection of the next `n` requests instead of answering; nothing is done.
    pub fn cut_next(&self, n: usize) {
        self.cut.store(n, Ordering::SeqCst);
    }

    /// Does what the next `n` PUTs ask for, but closes the connection instead of answering.
    pub fn lose_next_puts(&self, n: usize) {
        self.lost.store(n, Ordering::SeqCst);
    }

    /// Waits before each request.
    pub fn delay(&self, delay: Duration) {
        self.delay_ms.store(delay.as_millis() as u64, Ordering::SeqCst);
    }

    /// Becomes a store that does not know `If-None-Match`, and overwrites.
    pub fn ignore_conditions(&self, yes: bool) {
        self.forgets.store(yes, Ordering::SeqCst);
    }

    /// Lets something happen at the `n`-th PUT from now, 1 being the next.
    pub fn at_put(&self, n: usize, what: AtPut) {
        *self.planned.lock().unwrap() = Some((n, what));
    }

    /// Whether what was planned has not happened yet.
    pub fn is_planned(&self) -> bool {
        self.planned.lock().unwrap().is_some()
    }

    /// Resolves when the server is frozen.
    pub async fn frozen(&self) {
        self.frozen.subscribe().wait_for(|frozen| *frozen).await.expect("the server is there");
    }

    /// Takes requests again; those that came meanwhile are never done.
    pub fn thaw(&self) {
        *self.planned.lock().unwrap() = None;
        self.frozen.send_replace(false);
    }

    /// Waits while the server is frozen; returns whether it was.
    async fn stand_still(&self) -> bool {
        let mut frozen = self.frozen.subscribe();
        let was_frozen = *frozen.borrow_and_update();
        frozen.wait_for(|frozen| !frozen).await.expect("the server is there");
        was_frozen
    }

    /// Counts a PUT; returns what is to happen at it.
    fn count_put(&self) -> Option<AtPut> {
        let mut planned = self.planned.lock().unwrap();
        let (left, what) = planned.as_mut()?;
        *left -= 1;
        let what = (*left == 0).then_some(*what)?;
        *planned = None;
        Some(what)
    }

    /// Ends all faults.
    pub fn clear(&self) {
        self.thaw();
        self.refuse_next(0);
        self.refuse_every(0);
        self.cut_next(0);
        self.lose_next_puts(0);
        self.delay(Duration::ZERO);
        self.ignore_conditions(false);
    }

    /// Requests so far, refused ones included.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Notes requests from now on; each takes 40 ms, so that those that are sent together overlap.
    pub fn begin_trace(&self) {
        self.delay(Duration::from_millis(40));
        *self.trace.lock().unwrap() = Some(Vec::new());
    }

    /// The requests since the trace began, by round trip: those of one were under way together.
    pub fn end_trace(&self) -> Vec<String> {
        self.delay(Duration::ZERO);
        let mut traced = self.trace.lock().unwrap().take().unwrap_or_default();
        traced.sort_by_key(|request| request.began);
        let mut trips: Vec<(Instant, String)> = Vec::new();
        for Traced { began, ended, name } in traced {
            match trips.last_mut().filter(|(until, _)| began < *until) {
                Some((until, names)) => {
                    *until = ended.min(*until);
                    *names += &format!(" + {name}");
                }
                None => trips.push((ended, name)),
            }
        }
        trips.into_iter().map(|(_, names)| names).collect()
    }

    fn note(&self, began: Instant, name: String) {
        if let Some(trace) = self.trace.lock().unwrap().as_mut() {
            trace.push(Traced { began, ended: Instant::now(), name });
        }
    }

    /// The most requests that were under way at once.
    pub fn under_way_max(&self) -> usize {
        self.under_way_max.load(Ordering::SeqCst)
    }

    fn begin(&self) -> UnderWay<'_> {
        let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.under_way_max.fetch_max(now, Ordering::SeqCst);
        UnderWay(self)
    }

    fn refuses(&self, number: usize) -> bool {
        let every = self.refused_every.load(Ordering::SeqCst);
        take(&self.refused) || every > 0 && number.is_multiple_of(every)
    }
}

struct UnderWay<'a>(&'a Faults);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Takes one of what is left.
fn take(counter: &AtomicUsize) -> bool {
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

/// What stands between the socket and `s3s`.
struct Front {
    service: S3Service,
    faults: Arc<Faults>,
    /// One lock a key that was ever created conditionally.
    creates: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    root: PathBuf,
}

async fn answer(
    State(front): State<Arc<Front>>,
    ConnectInfo(scissors): ConnectInfo<Scissors>,
    request: Request,
) -> Result<Response, Infallible> {
    let faults = &front.faults;
    let _under_way = faults.begin();
    let (began, name) = (Instant::now(), format!("{} {}", request.method(), request.uri().path()));
    let number = faults.requests.fetch_add(1, Ordering::SeqCst) + 1;
    tokio::time::sleep(Duration::from_millis(faults.delay_ms.load(Ordering::SeqCst))).await;
    if take(&faults.cut) {
        scissors.cut();
        return Ok(StatusCode::OK.into_response());
    }
    if faults.refuses(number) {
        return Ok(busy());
    }
    let is_put = request.method() == Method::PUT;
    let planned = if is_put { faults.count_put() } else { None };
    if planned == Some(AtPut::Freeze) {
        faults.frozen.send_replace(true);
    }
    if faults.stand_still().await {
        scissors.cut();
        return Ok(StatusCode::OK.into_response());
    }
    if planned == Some(AtPut::Refuse) {
        return Ok(busy());
    }
    let is_lost = is_put && take(&faults.lost) || planned == Some(AtPut::Lose);
    let response = front.serve(request).await;
    faults.note(began, name);
    if planned == Some(AtPut::FreezeAfter) {
        faults.frozen.send_replace(true);
    }
    // What was done while others froze is not answered either.
    if is_lost || faults.stand_still().await {
        scissors.cut();
    }
    Ok(response)
}

fn busy() -> Response {
    let body = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
    (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
}

impl Front {
    async fn serve(&self, request: Request) -> Response {
        let is_create = request.method() == Method::PUT && request.headers().contains_key("if-none-match");
        let key = request.uri().path().to_owned();
        let lock = self.creates.lock().unwrap().entry(key.clone()).or_default().clone();
        let _turn = if is_create { Some(lock.lock().await) } else { None };
        if is_create && self.faults.forgets.load(Ordering::SeqCst) {
            let _ = std::fs::remove_file(self.root.join(key.trim_start_matches('/')));
        }
        match self.service.call(request.map(s3s::Body::http_body_unsync)).await {
            Ok(response) => response.map(Body::new),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:?}")).into_response(),
        }
    }
}

/// Cuts one connection: from then on nothing can be written to it.
#[derive(Clone, Debug, Default)]
struct Scissors(Arc<AtomicBool>);

impl Scissors {
    fn cut(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn check(&self) -> io::Result<()> {
        match self.0.load(Ordering::SeqCst) {
            true => Err(io::ErrorKind::ConnectionReset.into()),
            false => Ok(()),
        }
    }
}

impl Connected<IncomingStream<'_, CuttingListener>> for Scissors {
    fn connect_info(stream: IncomingStream<'_, CuttingListener>) -> Self {
        stream.remote_addr().clone()
    }
}

struct CuttingListener(TcpListener);

impl Listener for CuttingListener {
    type Io = CuttingStream;
    type Addr = Scissors;

    async fn accept(&mut self) -> (CuttingStream, Scissors) {
        loop {
            if let Ok((stream, _)) = self.0.accept().await {
                let _ = stream.set_nodelay(true);
                let scissors = Scissors::default();
                return (CuttingStream { stream, scissors: scissors.clone() }, scissors);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Scissors> {
        Ok(Scissors::default())
    }
}

struct CuttingStream {
    stream: TcpStream,
    scissors: Scissors,
}

impl AsyncRead for CuttingStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for CuttingStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.scissors.check()?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.scissors.check()?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A fresh bucket of some S3: of a server of its own, or of `LACUS_TEST_S3_ENDPOINT` (with
/// `LACUS_TEST_S3_ACCESS_KEY` and `LACUS_TEST_S3_SECRET_KEY`, each `minioadmin` if absent).
pub struct S3Target {
    pub endpoint: String,
    pub bucket: String,
    pub access_key: String,
    pub secret_key: String,
    _server: Option<S3Server>,
}

impl S3Target {
    pub async fn for_tests() -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let Some(endpoint) = variable("LACUS_TEST_S3_ENDPOINT") else { return S3Server::start().into() };
        let target = Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            bucket: format!("lacus-test-{}", uuid::Uuid::new_v4().simple()),
            access_key: variable("LACUS_TEST_S3_ACCESS_KEY").unwrap_or_else(|| "minioadmin".to_owned()),
            secret_key: variable("LACUS_TEST_S3_SECRET_KEY").unwrap_or_else(|| "minioadmin".to_owned()),
            _server: None,
        };
        target.create_bucket().await;
        target
    }

    async fn create_bucket(&self) {
        use object_store::client::{HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector};
        let credential = object_store::aws::AwsCredential {
            key_id: self.access_key.clone(),
            secret_key: self.secret_key.clone(),
            token: None,
        };
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = Method::PUT;
        *request.uri_mut() = format!("{}/{}", self.endpoint, self.bucket).parse().unwrap();
        object_store::aws::AwsAuthorizer::new(&credential, "s3", "us-east-1").authorize(&mut request, None);
        let options = object_store::ClientOptions::new().with_allow_http(true);
        let client = ReqwestConnector::default().connect(&options).unwrap();
        let response = client.execute(request).await.unwrap();
        assert!(
            response.status().is_success(),
            "creating a bucket at {}: {}",
            self.endpoint,
            response.status()
        );
    }

    pub fn root(&self) -> String {
        format!("s3://{}/", self.bucket)
    }

    /// Writes the keys into `folder` and returns the options that refer to them, as they stand in the
    /// `[store]` table of a catalog in that folder.
    pub fn write_store_table(&self, folder: &Path) -> String {
        std::fs::write(folder.join("s3.key"), &self.access_key).unwrap();
        std::fs::write(folder.join("s3.secret"), &self.secret_key).unwrap();
        format!(
            "endpoint = \"{}\"\nregion = \"us-east-1\"\nallow_http = true\n\
             access_key_id = {{ file = \"s3.key\" }}\nsecret_access_key = {{ file = \"s3.secret\" }}\n",
            self.endpoint
        )
    }
}

impl From<S3Server> for S3Target {
    fn from(server: S3Server) -> Self {
        Self {
            endpoint: server.endpoint.clone(),
            bucket: server.bucket.clone(),
            access_key: server.access_key.clone(),
            secret_key: server.secret_key.clone(),
            _server: Some(server),
        }
    }
}
