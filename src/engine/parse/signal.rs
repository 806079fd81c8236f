//! Statements by which sessions reach each other, and those that PostgreSQL has for locks and disks.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::{Source, fold, from_parser, name_of};
use crate::engine::statement::Statement;
use crate::error::Result;

/// Functions whose arguments have a FOR of their own.
const WITH_FOR: [&str; 2] = ["substring", "overlay"];

impl Source<'_> {
    pub(super) fn listen(&mut self) -> Result<Statement> {
        self.parser.next_token();
        Ok(Statement::Listen(self.channel()?))
    }

    pub(super) fn unlisten(&mut self) -> Result<Statement> {
        self.parser.next_token();
        if self.parser.consume_token(&Token::Mul) {
            return Ok(Statement::Unlisten(None));
        }
        Ok(Statement::Unlisten(Some(self.channel()?)))
    }

    /// `NOTIFY channel [, 'payload']`.
    pub(super) fn notify(&mut self) -> Result<Statement> {
        self.parser.next_token();
        let channel = self.channel()?;
        let payload = match self.parser.consume_token(&Token::Comma) {
            true => match self.parser.peek_token().token {
                Token::DollarQuotedString(quoted) => {
                    self.parser.next_token();
                    quoted.value
                }
                _ => self.parser.parse_literal_string().map_err(from_parser)?,
            },
            false => String::new(),
        };
        Ok(Statement::Notify { channel, payload })
    }

    /// `LOCK [TABLE] [ONLY] name [*] [, …] [IN mode MODE] [NOWAIT]`.
    pub(super) fn lock(&mut self) -> Result<Statement> {
        self.parser.next_token();
        self.skip(Keyword::TABLE);
        let mut names = Vec::new();
        loop {
            self.skip(Keyword::ONLY);
            names.push(name_of(&self.parser.parse_object_name(false).map_err(from_parser)?)?);
            self.skip_token(&Token::Mul);
            if !self.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        if self.parser.parse_keyword(Keyword::IN) {
            self.lock_mode()?;
        }
        self.skip(Keyword::NOWAIT);
        Ok(Statement::Lock(names))
    }

    fn lock_mode(&mut self) -> Result<()> {
        const MODES: [&str; 8] = [
            "access share",
            "row share",
            "row exclusive",
            "share update exclusive",
            "share",
            "share row exclusive",
            "exclusive",
            "access exclusive",
        ];
        let mut words = Vec::new();
        loop {
            match self.word()?.as_str() {
                "mode" => break,
                word => words.push(word.to_owned()),
            }
        }
        match MODES.contains(&words.join(" ").as_str()) {
            true => Ok(()),
            false => Err(self.unexpected("a lock mode")),
        }
    }

    pub(super) fn checkpoint(&mut self) -> Result<Statement> {
        self.parser.next_token();
        Ok(Statement::Checkpoint)
    }

    fn channel(&mut self) -> Result<String> {
        Ok(fold(&self.parser.parse_identifier().map_err(from_parser)?))
    }
}

/// Leaves out `FOR [NO KEY] UPDATE`, `FOR [KEY] SHARE` and what belongs to them, where a query ends with
/// them: the rows that a transaction read are not locked, what it changes is checked when it commits.
pub(super) fn without_row_locks(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    if !tokens.iter().any(|token| is_word(token, "FOR")) {
        return tokens;
    }
    let mut kept = Vec::with_capacity(tokens.len());
    // Whether each open parenthesis holds the arguments of a function that has a FOR.
    let mut open = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at].token {
            Token::LParen => open.push(kept.iter().rev().find(|token| !is_blank(token)).is_some_and(named)),
            Token::RParen => drop(open.pop()),
            _ => {}
        }
        let in_function = open.last() == Some(&true);
        match row_lock(&tokens[at..]).filter(|_| !in_function) {
            Some(length) => at += length,
            None => {
                kept.push(tokens[at].clone());
                at += 1;
            }
        }
    }
    kept
}

fn named(token: &TokenWithSpan) -> bool {
    WITH_FOR.iter().any(|name| is_word(token, name))
}

/// How many tokens a row lock takes that begins here.
fn row_lock(tokens: &[TokenWithSpan]) -> Option<usize> {
    let mut words = Words { tokens, at: 0 };
    words.take("FOR").then_some(())?;
    let no_key = words.take("NO");
    let key = words.take("KEY");
    let locks = match (no_key, key) {
        (true, true) => words.take("UPDATE"),
        (false, true) => words.take("SHARE"),
        (false, false) => words.take("UPDATE") || words.take("SHARE"),
        (true, false) => false,
    };
    if !locks {
        return None;
    }
    if words.take("OF") {
        words.names();
    }
    if words.take("SKIP") {
        words.take("LOCKED").then_some(())?;
    } else {
        words.take("NOWAIT");
    }
    words.is_at_end().then_some(words.at)
}

/// Reads words, passing over blanks.
struct Words<'a> {
    tokens: &'a [TokenWithSpan],
    at: usize,
}

impl Words<'_> {
    fn next(&self) -> Option<usize> {
        (self.at..self.tokens.len()).find(|index| !is_blank(&self.tokens[*index]))
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.next().filter(|index| is_word(&self.tokens[*index], word));
        self.at = found.map_or(self.at, |index| index + 1);
        found.is_some()
    }

    /// Passes over names with commas between them.
    fn names(&mut self) {
        while let Some(index) = self.next() {
            let is_name = match &self.tokens[index].token {
                Token::Word(word) => !matches!(word.keyword, Keyword::NOWAIT | Keyword::SKIP | Keyword::FOR),
                token => matches!(token, Token::Comma | Token::Period),
            };
            if !is_name {
                return;
            }
            self.at = index + 1;
        }
    }

    /// Whether a query may end here, or go on with what PostgreSQL also takes behind a lock.
    fn is_at_end(&self) -> bool {
        let Some(token) = self.next().map(|index| &self.tokens[index]) else { return true };
        let more = ["FOR", "LIMIT", "OFFSET", "FETCH"].iter().any(|word| is_word(token, word));
        more || matches!(token.token, Token::RParen | Token::SemiColon | Token::EOF)
    }
}

fn is_word(token: &TokenWithSpan, wanted: &str) -> bool {
    matches!(&token.token, Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(wanted))
}

fn is_blank(token: &TokenWithSpan) -> bool {
    matches!(token.token, Token::Whitespace(_))
}
