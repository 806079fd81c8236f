//! Chains: `a + b + c …` and `… UNION …`, which need no parentheses to become deep trees.
//!
//! The parser counts parentheses. A chain is parsed in a loop, but what walks its tree calls itself once
//! for each link: its length is limited here to what the stacks of the threads that plan can hold
//! ([`STACK_BYTES`](crate::runtime::cpu::STACK_BYTES)).

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::error::{Error, Result};

/// Operators in one expression, not counting those within parentheses.
const OPERATORS_MAX: usize = 5_000;
/// Queries that are joined by UNION and its like, and tables that are joined, in one query.
const JOINED_MAX: usize = 1_000;

/// Counts of one level of parentheses.
#[derive(Default)]
struct Level {
    operators: usize,
    joined: usize,
}

/// Refuses a statement with a chain that is too long.
///
/// # Errors
/// [`Error::LimitExceeded`].
pub(super) fn check(tokens: &[TokenWithSpan]) -> Result<()> {
    let mut levels = vec![Level::default()];
    for token in tokens {
        let depth = levels.len();
        let Some(level) = levels.last_mut() else { return Ok(()) };
        match &token.token {
            Token::LParen => levels.push(Level::default()),
            Token::LBracket => {
                level.operators += 1;
                levels.push(Level::default());
            }
            // One too many is for the parser to refuse.
            Token::RParen | Token::RBracket if depth > 1 => drop(levels.pop()),
            Token::Comma => level.operators = 0,
            Token::Word(word) => match word.keyword {
                Keyword::AND | Keyword::OR | Keyword::NOT => level.operators += 1,
                Keyword::UNION | Keyword::INTERSECT | Keyword::EXCEPT => {
                    (level.operators, level.joined) = (0, level.joined + 1);
                }
                Keyword::JOIN => level.joined += 1,
                Keyword::WHEN | Keyword::THEN | Keyword::ELSE => level.operators = 0,
                _ => {}
            },
            token if is_operator(token) => level.operators += 1,
            _ => {}
        }
        let Some(level) = levels.last() else { return Ok(()) };
        if level.operators > OPERATORS_MAX {
            let message = format!("an expression can have {OPERATORS_MAX} operators in a row");
            return Err(Error::LimitExceeded(message));
        }
        if level.joined > JOINED_MAX {
            let message = format!("a query can join {JOINED_MAX} tables or queries");
            return Err(Error::LimitExceeded(message));
        }
    }
    Ok(())
}

fn is_operator(token: &Token) -> bool {
    !matches!(
        token,
        Token::Whitespace(_)
            | Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::EscapedStringLiteral(_)
            | Token::DollarQuotedString(_)
            | Token::NationalStringLiteral(_)
            | Token::HexStringLiteral(_)
            | Token::Placeholder(_)
            | Token::Period
            | Token::LParen
            | Token::RParen
            | Token::RBracket
            | Token::SemiColon
            | Token::EOF
    )
}
