//! Attacks on the door, each over a real socket, beside the logins that must work.
//!
//! Several of these got into servers that use pgwire's own connection loop.

mod client;
mod random;
mod server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use client::{
    Client, Heard, Secret, TLS_REQUEST, cancel_request, frame, initial_response, query, salt, startup_packet,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use server::Server;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use crate::access::AuthMode;
use crate::server::limits::{ConnectionLimits, Connections};
use crate::server::tls;

#[tokio::test]
async fn sql_behind_a_wrong_proof_is_not_executed() {
    let server = Server::start(|_| {}).await;
    let mut client = Client::connect(server.address).await;
    let proof = client.scram("ann", Secret::Password("pen")).await;
    let parse = frame('P', b"\0drop\0\0\0");
    client.say([proof, query("drop"), parse, frame('S', b""), query("drop")].concat()).await;
    let message = client.hear_refusal("28P01").await;
    assert_eq!(message, "password authentication failed for user \"ann\"");
    assert!(server.executed().is_empty());
    assert_eq!(server.door.connections.sessions(), 0);
}

#[tokio::test]
async fn nothing_but_a_proof_is_heard_before_the_login() {
    let server = Server::start(|_| {}).await;
    let wrong = [
        ("08P01", query("drop")),
        ("08P01", frame('P', b"\0drop\0\0\0")),
        ("08P01", frame('X', b"")),
        ("08P01", frame('p', b"MD5\0\0\0\0\0")),
        ("08P01", frame('p', b"SCRAM-SHA-256\0\x7f\xff\xff\xff")),
        ("08P01", frame('p', b"SCRAM-SHA-256-PLUS\0\0\0\0\x03n,,")),
        ("08P01", initial_response("p=tls-unique,,n=,r=abc")),
        ("0A000", initial_response("n,a=root,n=,r=abc")),
        ("54000", b"p\x3f\xff\xff\xff".to_vec()),
        ("08P01", b"p\0\0\0\x03".to_vec()),
    ];
    for (sqlstate, bytes) in wrong {
        let mut client = Client::connect(server.address).await;
        client.say(startup_packet(0, &[("user", "ann")])).await;
        client.hear_until('R').await;
        client.say([bytes, query("drop")].concat()).await;
        client.hear_refusal(sqlstate).await;
    }
    assert!(server.executed().is_empty());
}

#[tokio::test]
async fn a_stolen_verifier_does_not_log_in() {
    let server = Server::start(|_| {}).await;
    let entry = std::fs::read_to_string(server.users.path()).unwrap();
    let verifier = entry.split('"').nth(3).unwrap();
    let key = |text: &str| {
        use base64::Engine;
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
        <[u8; 32]>::try_from(bytes).unwrap()
    };
    let (stored, server_key) = verifier.rsplit_once('$').unwrap().1.split_once(':').unwrap();
    let (stored, server_key) = (key(stored), key(server_key));
    let attempts = [
        Secret::Stolen(stored, stored),
        Secret::Stolen(server_key, stored),
        Secret::Stolen([0; 32], stored),
        Secret::Password(verifier),
    ];
    for secret in attempts {
        let mut client = Client::connect(server.address).await;
        let proof = client.scram("ann", secret).await;
        client.say([proof, query("drop")].concat()).await;
        client.hear_refusal("28P01").await;
    }
    assert!(server.executed().is_empty());
}

#[tokio::test]
async fn a_user_who_does_not_exist_is_asked_like_one_who_does() {
    let server = Server::start(|_| {}).await;
    let mut salts = Vec::new();
    for user in ["bob", "bob", "ann", "ann"] {
        let mut client = Client::connect(server.address).await;
        client.say(startup_packet(0, &[("user", user)])).await;
        client.hear().await.unwrap();
        client.say(initial_response("n,,n=,r=abc")).await;
        let first = client.hear().await.unwrap().text();
        assert!(first.ends_with(",i=4096"), "{first}");
        salts.push(salt(&first[4..]));
    }
    assert_eq!((&salts[0], salts[0].len()), (&salts[1], salts[2].len()));
    assert_eq!(salts[2], salts[3]);
    let mut client = Client::connect(server.address).await;
    let proof = client.scram("bob", Secret::Password("pencil")).await;
    client.say(proof).await;
    assert_eq!(client.hear_refusal("28P01").await, "password authentication failed for user \"bob\"");
}

#[tokio::test]
async fn drivers_log_in_with_the_right_password_only() {
    let server = Server::start(|_| {}).await;
    let connect = async |user: &str, password: &str| {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(server.address.port()).user(user).password(password);
        config.connect(tokio_postgres::NoTls).await
    };
    let (client, connection) = connect("ann", "pencil").await.unwrap();
    let connection = tokio::spawn(connection);
    client.simple_query("select 1").await.unwrap();
    assert_eq!((server.executed(), server.door.connections.sessions()), (vec!["select 1".to_owned()], 1));
    drop(client);
    connection.await.unwrap().unwrap();
    for (user, password) in [("ann", "Pencil"), ("bob", "pencil")] {
        let refused = connect(user, password).await.err().unwrap();
        assert_eq!(refused.code(), Some(&tokio_postgres::error::SqlState::INVALID_PASSWORD));
    }
    // A new password counts from the next login on, without a signal.
    let entry = crate::access::user_entry("bob", &b"pencil"[..]).unwrap();
    std::fs::write(server.users.path(), entry + "# and nobody else\n").unwrap();
    assert!(connect("bob", "pencil").await.is_ok());
    assert!(connect("ann", "pencil").await.is_err());
}

/// A server with TLS, and the folder of its certificate.
async fn tls_server() -> (Server, tempfile::TempDir) {
    let state = tempfile::tempdir().unwrap();
    let acceptor = tls::load_or_create(state.path()).unwrap();
    let server = Server::start(|door| {
        door.tls = Some(acceptor);
        door.tls_required = true;
    });
    (server.await, state)
}

async fn tls(
    socket: TcpStream,
    state: &tempfile::TempDir,
    alpn: &[&[u8]],
) -> std::io::Result<Client<TlsStream<TcpStream>>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(state.path().join("server.crt")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let name = ServerName::try_from("localhost").unwrap();
    let socket = TlsConnector::from(Arc::new(config)).connect(name, socket).await?;
    Ok(Client { socket })
}

#[tokio::test]
async fn tls_encrypts_a_login() {
    let (server, state) = tls_server().await;
    let mut plain = Client::connect(server.address).await;
    plain.say(startup_packet(0, &[("user", "ann")])).await;
    plain.hear_refusal("28000").await;

    let mut asking = Client::connect(server.address).await;
    asking.say([0, 0, 0, 8, 4, 210, 22, 48]).await;
    assert_eq!(asking.byte().await, b'N', "no GSS encryption");
    asking.say(TLS_REQUEST).await;
    assert_eq!(asking.byte().await, b'S');
    let mut encrypted = tls(asking.socket, &state, &[]).await.unwrap();
    encrypted.log_in("ann", "pencil").await;
    assert_eq!(encrypted.query("select 1").await, "ann select 1 Password\0");

    let direct = TcpStream::connect(server.address).await.unwrap();
    let mut direct = tls(direct, &state, &[b"postgresql"]).await.unwrap();
    direct.log_in("ann", "pencil").await;

    // A browser, or anybody led here by somebody in between, speaks another protocol inside TLS.
    let browser = TcpStream::connect(server.address).await.unwrap();
    assert!(tls(browser, &state, &[b"http/1.1"]).await.is_err());
    let nameless = TcpStream::connect(server.address).await.unwrap();
    if let Ok(mut nameless) = tls(nameless, &state, &[]).await {
        // The server may have closed it already.
        let _ = nameless.socket.write_all(&startup_packet(0, &[("user", "ann")])).await;
        assert_eq!(nameless.hear().await, None);
    }
}

#[tokio::test]
async fn bytes_in_the_clear_do_not_get_into_an_encrypted_session() {
    let (server, state) = tls_server().await;
    let injected = [startup_packet(0, &[("user", "mallory")]), query("drop")].concat();

    let mut client = Client::connect(server.address).await;
    client.say([TLS_REQUEST, &injected].concat()).await;
    client.hear_refusal("08P01").await;

    // Too late for the check above, they are what the TLS handshake gets to read.
    let mut client = Client::connect(server.address).await;
    client.say(TLS_REQUEST).await;
    assert_eq!(client.byte().await, b'S');
    client.say(&injected).await;
    assert!(tls(client.socket, &state, &[]).await.is_err());

    // Nor do they count where the answer is no.
    let clear = Server::start(|_| {}).await;
    let mut client = Client::connect(clear.address).await;
    client.say([TLS_REQUEST, &injected].concat()).await;
    client.hear_refusal("08P01").await;
    assert!(server.executed().is_empty() && clear.executed().is_empty());
}

#[tokio::test]
async fn a_slow_startup_ends() {
    let server = Server::start(|door| door.startup_max = Duration::from_secs(1)).await;
    let begin = Instant::now();
    let mut silent = Client::connect(server.address).await;
    let mut drip = Client::connect(server.address).await;
    drip.say(&startup_packet(0, &[("user", "ann")])[..7]).await;
    let mut unproven = Client::connect(server.address).await;
    unproven.say(startup_packet(0, &[("user", "ann")])).await;
    unproven.hear_until('R').await;

    assert_eq!(silent.hear().await, None);
    assert_eq!(drip.hear().await, None);
    assert_eq!(unproven.hear_refusal("57014").await, "canceling authentication due to timeout");
    assert!(begin.elapsed() > Duration::from_millis(900));
    server.counts(0, 0).await;
}

#[tokio::test]
async fn packets_of_another_protocol_are_refused() {
    let server = Server::start(|_| {}).await;
    let long = startup_packet(0, &[("user", "ann"), ("application_name", &"x".repeat(10_000))]);
    let wrong = [
        ("08P01", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("08P01", long),
        ("08P01", vec![0; 16]),
        ("08P01", vec![0xff; 16]),
        ("0A000", vec![0, 0, 0, 8, 0, 2, 0, 0]),
        ("28000", startup_packet(0, &[("database", "lake")])),
        ("0A000", startup_packet(0, &[("user", "ann"), ("replication", "true")])),
        ("08P01", cancel_request(1, b"")),
        ("0A000", vec![0, 0, 0, 8, 0, 0, 0, 8]),
    ];
    for (sqlstate, bytes) in wrong {
        let mut client = Client::connect(server.address).await;
        client.say(&bytes).await;
        client.hear_refusal(sqlstate).await;
    }
}

#[tokio::test]
async fn strangers_fill_their_own_places_only() {
    let limits = ConnectionLimits { sessions_max: 1, half_open_max: 8, half_open_peer_max: 2 };
    let server = Server::start(|door| door.connections = Connections::new(limits)).await;
    let mut user = Client::connect(server.address).await;
    user.log_in("ann", "pencil").await;

    let strangers = [Client::connect(server.address).await, Client::connect(server.address).await];
    let mut third = Client::connect(server.address).await;
    let told = third.hear().await.unwrap();
    assert_eq!((told.field(b'S').as_str(), told.field(b'C').as_str()), ("FATAL", "53300"));
    assert_eq!(user.query("select 1").await, "ann select 1 Password\0");

    drop(strangers);
    server.counts(1, 0).await;
    let mut second = Client::connect(server.address).await;
    let proof = second.scram("ann", Secret::Password("pencil")).await;
    second.say(proof).await;
    assert!(second.hear().await.unwrap().text().contains("v="), "the server's proof comes first");
    assert_eq!(second.hear_refusal("53300").await, "sorry, too many clients already");
    drop(user);
    server.counts(0, 0).await;
    Client::connect(server.address).await.log_in("ann", "pencil").await;
}

#[tokio::test]
async fn only_the_right_key_cancels_and_nobody_is_told() {
    let server = Server::start(|door| door.auth = AuthMode::Trust).await;
    let mut client = Client::connect(server.address).await;
    client.say(startup_packet(2, &[("user", "ann")])).await;
    let key = client.hear_until('K').await.1;
    let (process_id, secret) = (i32::from_be_bytes(key[..4].try_into().unwrap()), key[4..].to_vec());
    assert_eq!(secret.len(), 32);
    client.hear_until('Z').await;
    client.say(query("sleep")).await;
    server.saw("sleep").await;

    let cancel = async |process_id, secret: &[u8]| {
        let mut other = Client::connect(server.address).await;
        other.say(cancel_request(process_id, secret)).await;
        assert_eq!(other.hear().await, None, "silence, whether right or wrong");
    };
    cancel(process_id, &[0; 32]).await;
    cancel(process_id, &secret[..4]).await;
    cancel(process_id + 1, &secret).await;
    let more = tokio::time::timeout(Duration::from_millis(50), client.hear()).await;
    assert!(more.is_err(), "the query goes on");
    cancel(process_id, &secret).await;
    let stopped = client.hear().await.unwrap();
    assert_eq!((stopped.field(b'S').as_str(), stopped.field(b'C').as_str()), ("ERROR", "57014"));
    client.hear_until('Z').await;
    cancel(process_id, &secret).await;
    assert_eq!(client.query("select 2").await, "ann select 2 Trust\0", "what comes later is not cancelled");
}

#[tokio::test]
async fn a_client_that_vanishes_is_noticed_behind_what_it_sent_ahead() {
    let server = Server::start(|door| door.auth = AuthMode::Trust).await;
    for ahead in [0, 200] {
        server.executed.lock().unwrap().clear();
        let mut client = Client::connect(server.address).await;
        client.say(startup_packet(0, &[("user", "ann")])).await;
        client.hear_until('Z').await;
        client.say([query("sleep"), query("select 1").repeat(ahead)].concat()).await;
        server.saw("sleep").await;
        drop(client);
        server.saw("vanished").await;
    }
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_given_up() {
    let server = Server::start(|door| {
        door.auth = AuthMode::Trust;
        door.messages.stall_max = Some(Duration::from_millis(200));
    });
    let server = server.await;
    let mut client = Client::connect(server.address).await;
    client.say([startup_packet(0, &[("user", "ann")]), query("flood")].concat()).await;
    server.saw("client reads nothing").await;
}

#[tokio::test]
async fn messages_have_a_length_that_is_checked_before_they_are_read() {
    let server = Server::start(|door| {
        door.auth = AuthMode::Trust;
        door.messages.statement_bytes_max = 1000;
        door.messages.other_bytes_max = 100;
    });
    let server = server.await;
    let log_in = async || {
        let mut client = Client::connect(server.address).await;
        client.say(startup_packet(0, &[("user", "ann")])).await;
        client.hear_until('Z').await;
        client
    };
    let mut client = log_in().await;
    assert!(client.query(&"x".repeat(995)).await.contains("xxx"));
    client.say(frame('Q', b"select '\xff'\0")).await;
    assert_eq!(client.hear().await.unwrap().field(b'C'), "22021");
    client.hear_until('Z').await;
    client.say(frame('B', b"\0\0\0\0")).await;
    assert_eq!(client.hear().await.unwrap().field(b'C'), "08P01");
    client.hear_until('Z').await;
    assert_eq!(client.query("still here").await, "ann still here Trust\0");

    for (sqlstate, header) in
        [("54000", &b"Q\0\0\x03\xe9"[..]), ("54000", b"D\0\0\0\x65"), ("08P01", b"p\0\0\0\x08")]
    {
        let mut client = log_in().await;
        client.say(header).await;
        client.hear_refusal(sqlstate).await;
    }
}

#[tokio::test]
async fn a_panic_ends_one_connection() {
    let server = Server::start(|door| door.auth = AuthMode::Trust).await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(server.address).await;
        client.say(startup_packet(0, &[("user", "ann")])).await;
        client.hear_until('Z').await;
        clients.push(client);
    }
    clients[0].say(query("panic")).await;
    assert_eq!(clients[0].hear().await, None);
    assert_eq!(clients[1].query("select 1").await, "ann select 1 Trust\0");
    server.counts(1, 0).await;
}

#[tokio::test]
async fn a_shutdown_ends_sessions_and_cuts_off_those_that_do_not_listen() {
    let server = Server::start(|door| {
        door.auth = AuthMode::Trust;
        door.drain_max = Duration::from_secs(1);
    });
    let server = server.await;
    let mut idle = Client::connect(server.address).await;
    idle.say(startup_packet(0, &[("user", "ann")])).await;
    idle.hear_until('Z').await;
    let mut busy = Client::connect(server.address).await;
    busy.say([startup_packet(0, &[("user", "ann")]), query("sleep")].concat()).await;
    server.saw("sleep").await;
    let mut half_open = Client::connect(server.address).await;

    server.shutdown.cancel();
    idle.hear_refusal("57P01").await;
    assert_eq!(half_open.hear().await, None);
    busy.hear_until('Z').await;
    assert_eq!(busy.hear().await, None);
    server.task.await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn newer_clients_are_told_what_they_get() {
    let server = Server::start(|door| door.auth = AuthMode::Trust).await;
    let mut client = Client::connect(server.address).await;
    client.say(startup_packet(9999, &[("user", "ann"), ("_pq_.magic", "1")])).await;
    let told = Heard('v', b"\0\x03\0\x02\0\0\0\x01_pq_.magic\0".to_vec());
    assert_eq!(client.hear().await, Some(told));
    assert_eq!(client.hear_until('K').await.1.len(), 4 + 32);
}
