//! A client that does what no driver would: it sends bytes, at the moment that a test chooses.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::{digest, hmac, pbkdf2};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub const TLS_REQUEST: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];
/// What no answer may take, on a machine however busy.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Client<S> {
    pub socket: S,
}

/// A message of the server: its type and its body.
#[derive(Debug, PartialEq, Eq)]
pub struct Heard(pub char, pub Vec<u8>);

impl Heard {
    /// The field of an ErrorResponse.
    pub fn field(&self, code: u8) -> String {
        let fields = self.1.split(|&byte| byte == 0).find(|field| field.first() == Some(&code));
        String::from_utf8(fields.unwrap_or_else(|| panic!("no field in {self:?}"))[1..].to_vec()).unwrap()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.1).into_owned()
    }
}

impl Client<TcpStream> {
    pub async fn connect(address: SocketAddr) -> Self {
        Self { socket: TcpStream::connect(address).await.unwrap() }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).await.unwrap();
        self.socket.flush().await.unwrap();
    }

    pub async fn byte(&mut self) -> u8 {
        timeout(PATIENCE, self.socket.read_u8()).await.expect("the server is silent").unwrap()
    }

    /// The next message, `None` when the server closed the connection.
    pub async fn hear(&mut self) -> Option<Heard> {
        let kind = timeout(PATIENCE, self.socket.read_u8()).await.expect("the server is silent").ok()?;
        let length = self.socket.read_u32().await.unwrap() as usize;
        let mut body = vec![0; length - 4];
        self.socket.read_exact(&mut body).await.unwrap();
        Some(Heard(kind as char, body))
    }

    pub async fn hear_until(&mut self, kind: char) -> Heard {
        loop {
            match self.hear().await.expect("the server closed the connection") {
                heard if heard.0 == kind => return heard,
                Heard('E', body) => panic!("refused: {}", String::from_utf8_lossy(&body)),
                _ => {}
            }
        }
    }

    /// Expects one FATAL with `sqlstate`, then nothing but the end. Returns its message.
    pub async fn hear_refusal(&mut self, sqlstate: &str) -> String {
        let refusal = self.hear().await.expect("closed without a word");
        assert_eq!(refusal.0, 'E', "{}", refusal.text());
        let told = (refusal.field(b'S'), refusal.field(b'V'), refusal.field(b'C'));
        assert_eq!(told, ("FATAL".to_owned(), "FATAL".to_owned(), sqlstate.to_owned()), "{}", refusal.text());
        assert_eq!(self.hear().await, None, "one FATAL, then the end");
        refusal.field(b'M')
    }

    /// Goes through SCRAM up to the final message, which is returned for the test to send.
    pub async fn scram(&mut self, user: &str, secret: Secret<'_>) -> Vec<u8> {
        self.say(startup_packet(0, &[("user", user)])).await;
        let offer = self.hear().await.unwrap();
        assert_eq!(offer.text(), "\0\0\0\nSCRAM-SHA-256\0\0");
        let bare = "n=,r=rOprNGfwEbeRWgbNEkqO";
        self.say(initial_response(&format!("n,,{bare}"))).await;
        let server_first = self.hear().await.unwrap();
        assert_eq!(server_first.1[..4], [0, 0, 0, 11]);
        frame('p', client_final(bare, &server_first.text()[4..], secret))
    }

    pub async fn log_in(&mut self, user: &str, password: &str) {
        let proof = self.scram(user, Secret::Password(password)).await;
        self.say(proof).await;
        self.hear_until('Z').await;
    }

    /// Runs a statement and returns the tag of its CommandComplete.
    pub async fn query(&mut self, sql: &str) -> String {
        self.say(query(sql)).await;
        let tag = self.hear_until('C').await.text();
        self.hear_until('Z').await;
        tag
    }
}

/// What a client proves itself with.
#[derive(Clone, Copy)]
pub enum Secret<'a> {
    Password(&'a str),
    /// Keys from a stolen users file: the one used as ClientKey, and the StoredKey.
    Stolen([u8; 32], [u8; 32]),
}

pub fn startup_packet(minor: u16, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = vec![0, 3];
    body.extend(minor.to_be_bytes());
    for (name, value) in parameters {
        body.extend(format!("{name}\0{value}\0").bytes());
    }
    body.push(0);
    [&(body.len() as u32 + 4).to_be_bytes()[..], &body].concat()
}

pub fn cancel_request(process_id: i32, secret: &[u8]) -> Vec<u8> {
    let length = 12 + secret.len() as u32;
    [&length.to_be_bytes()[..], &80_877_102u32.to_be_bytes(), &process_id.to_be_bytes(), secret].concat()
}

pub fn frame(kind: char, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    [&[kind as u8][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

pub fn query(sql: &str) -> Vec<u8> {
    frame('Q', format!("{sql}\0"))
}

pub fn initial_response(client_first: &str) -> Vec<u8> {
    let length = (client_first.len() as u32).to_be_bytes();
    frame('p', [b"SCRAM-SHA-256\0", &length[..], client_first.as_bytes()].concat())
}

/// The salt that a server's first message shows.
pub fn salt(server_first: &str) -> Vec<u8> {
    BASE64.decode(attribute(server_first, "s=")).unwrap()
}

fn client_final(bare: &str, server_first: &str, secret: Secret<'_>) -> String {
    let (client_key, stored_key) = match secret {
        Secret::Stolen(client_key, stored_key) => (client_key, stored_key),
        Secret::Password(password) => {
            let mut salted = [0; 32];
            let iterations = attribute(server_first, "i=").parse().unwrap();
            let salt = salt(server_first);
            pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, password.as_bytes(), &mut salted);
            let client_key = sign(&salted, b"Client Key");
            let stored_key = digest::digest(&digest::SHA256, &client_key);
            (client_key, stored_key.as_ref().try_into().unwrap())
        }
    };
    let without_proof = format!("c=biws,r={}", attribute(server_first, "r="));
    let signature = sign(&stored_key, format!("{bare},{server_first},{without_proof}").as_bytes());
    let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, byte)| key ^ byte).collect();
    format!("{without_proof},p={}", BASE64.encode(proof))
}

fn sign(key: &[u8], message: &[u8]) -> [u8; 32] {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref().try_into().unwrap()
}

fn attribute<'a>(message: &'a str, name: &str) -> &'a str {
    message.split(',').find_map(|attribute| attribute.strip_prefix(name)).unwrap()
}
