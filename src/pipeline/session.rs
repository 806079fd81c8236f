//! Sessions of a run: a connection, and which settings of the script it has.

use std::sync::Arc;

use async_trait::async_trait;

use super::client::{Column, Connection, Failure, ServerMessage, Sink};

/// Opens connections to where the run takes place.
#[async_trait]
pub trait Dial: Send + Sync {
    /// # Errors
    /// [`Failure`].
    async fn dial(&self) -> Result<Connection, Failure>;
}

/// A connection with the settings of a script up to some place.
pub struct Session {
    pub connection: Connection,
    /// The session of the script whose settings it has, and how many of them.
    pub has: (usize, usize),
}

impl Session {
    pub async fn open(dial: &Arc<dyn Dial>) -> Result<Self, Failure> {
        Ok(Self { connection: dial.dial().await?, has: (0, 0) })
    }

    /// Sets what the script has set before a step.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn adopt(&mut self, session: usize, settings: &[String]) -> Result<(), Failure> {
        let goes_on = self.has.0 == session && self.has.1 <= settings.len();
        if !goes_on {
            self.connection.run("RESET ALL", &mut Quiet).await?;
            self.has = (session, 0);
        }
        while self.has.1 < settings.len() {
            self.connection.run(&settings[self.has.1], &mut Quiet).await?;
            self.has.1 += 1;
        }
        Ok(())
    }
}

/// Forgets every answer.
#[derive(Debug, Default)]
pub struct Quiet;

impl Sink for Quiet {
    fn columns(&mut self, _: Vec<Column>) {}
    fn row(&mut self, _: Vec<Option<String>>) {}
    fn complete(&mut self, _: &str) {}
    fn notice(&mut self, _: ServerMessage) {}
}
