//! A client that speaks the protocol message by message, for what drivers hide.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// One logged-in connection; every call blocks.
pub struct Raw {
    stream: TcpStream,
}

/// What the daemon sent.
pub struct Message {
    pub kind: u8,
    pub body: Vec<u8>,
}

impl Raw {
    /// Logs in as the user `ada`.
    pub fn connect(address: SocketAddr, catalog: &str) -> Self {
        let stream = TcpStream::connect(address).expect("the daemon listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
        let mut raw = Self { stream };
        let mut body = 196_608_i32.to_be_bytes().to_vec();
        body.extend(format!("user\0ada\0database\0{catalog}\0\0").bytes());
        let mut packet = (body.len() as i32 + 4).to_be_bytes().to_vec();
        packet.extend(body);
        raw.stream.write_all(&packet).expect("the daemon reads");
        assert!(raw.trace().ends_with("ZI"), "the daemon lets a client in");
        raw
    }

    pub fn send(&mut self, kind: u8, body: &[u8]) {
        let mut packet = vec![kind];
        packet.extend((body.len() as i32 + 4).to_be_bytes());
        packet.extend(body);
        // A daemon that has hung up is seen by the next read.
        self.stream.write_all(&packet).ok();
    }

    /// Sends bytes that need not be a message.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the daemon reads");
    }

    /// Sends nothing more, and still listens.
    pub fn hang_up(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("a socket has two halves");
    }

    pub fn query(&mut self, sql: &str) {
        self.send(b'Q', format!("{sql}\0").as_bytes());
    }

    pub fn parse(&mut self, name: &str, sql: &str) {
        self.send(b'P', format!("{name}\0{sql}\0\0\0").as_bytes());
    }

    /// Binds a statement without parameters to a portal, results as text.
    pub fn bind(&mut self, portal: &str, statement: &str) {
        self.send(b'B', format!("{portal}\0{statement}\0\0\0\0\0\0\0").as_bytes());
    }

    /// Executes a portal for at most `rows_max` rows; 0 for all.
    pub fn execute(&mut self, portal: &str, rows_max: i32) {
        let mut body = format!("{portal}\0").into_bytes();
        body.extend(rows_max.to_be_bytes());
        self.send(b'E', &body);
    }

    /// Parses, binds and executes a statement without parameters, without a name.
    pub fn run(&mut self, sql: &str) {
        self.parse("", sql);
        self.bind("", "");
        self.execute("", 0);
    }

    pub fn flush(&mut self) {
        self.send(b'H', &[]);
    }

    pub fn sync(&mut self) {
        self.send(b'S', &[]);
    }

    /// The first value of a simple query's only row, as text.
    pub fn value(&mut self, sql: &str) -> String {
        self.query(sql);
        let mut value = None;
        while let Some(message) = self.next() {
            match message.kind {
                // Two bytes of count, four of the first value's length.
                b'D' => value = Some(String::from_utf8_lossy(&message.body[6..]).into_owned()),
                b'E' => panic!("{sql}: {}", message.word()),
                b'Z' => break,
                _ => {}
            }
        }
        value.expect("the query answers a row")
    }

    /// SQLSTATE and text of the notices up to ReadyForQuery.
    pub fn notices(&mut self) -> Vec<(String, String)> {
        let mut notices = Vec::new();
        while let Some(message) = self.next() {
            match message.kind {
                b'N' => notices
                    .push((message.field(b'C').unwrap_or_default(), message.field(b'M').unwrap_or_default())),
                b'Z' => break,
                _ => {}
            }
        }
        notices
    }

    /// The next message; none when the daemon has hung up.
    pub fn next(&mut self) -> Option<Message> {
        let mut header = [0; 5];
        match self.stream.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                return None;
            }
            Err(error) => panic!("no answer: {error}"),
        }
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        let mut body = vec![0; length - 4];
        self.stream.read_exact(&mut body).expect("a message is whole");
        Some(Message { kind: header[0], body })
    }

    /// The messages up to ReadyForQuery or the end, one word each, as [`Message::word`] has it.
    pub fn trace(&mut self) -> String {
        let mut words = Vec::new();
        loop {
            let Some(message) = self.next() else {
                words.push("end".to_owned());
                break;
            };
            // Settings and keys are no answer to anything.
            if !matches!(message.kind, b'S' | b'K' | b'R' | b'N') {
                words.push(message.word());
            }
            if message.kind == b'Z' {
                break;
            }
        }
        words.join(" ")
    }
}

impl Message {
    /// The type byte; with the SQLSTATE of an error, and the transaction status of ReadyForQuery.
    pub fn word(&self) -> String {
        let kind = char::from(self.kind);
        match self.kind {
            b'E' => format!("E{}", self.field(b'C').unwrap_or_default()),
            b'Z' => format!("Z{}", char::from(self.body[0])),
            _ => kind.to_string(),
        }
    }

    /// A field of an error.
    pub fn field(&self, code: u8) -> Option<String> {
        let mut fields = self.body.split(|byte| *byte == 0);
        let found = fields.find(|field| field.first() == Some(&code))?;
        Some(String::from_utf8_lossy(&found[1..]).into_owned())
    }
}
