//! Numbers by a template: `999,990.00`, `FM0.00`, `S99`, `99PR`, `RN`, `9.99EEEE`.
//!
//! The digits of the number and the digits of the template are walked side by side, as PostgreSQL
//! does it, so that blanks, zeros and signs fall where they fall there.

use super::print::ordinal_suffix;
use crate::error::{Error, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Nine,
    Zero,
    Point,
    Comma,
    Currency,
    Minus,
    Plus,
    Sign,
    Roman { lower: bool },
    Ordinal { lower: bool },
    Text(char),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LeadingSign {
    Before,
    Behind,
}

/// A parsed template.
#[derive(Debug, Clone, Default)]
pub(super) struct Template {
    nodes: Vec<Node>,
    /// Digits before the point and behind it.
    pre: usize,
    post: usize,
    /// Digits by which `V` shifts the number.
    shift: usize,
    /// Where the first 0 stands, from 1, and how many digits there are up to the last.
    zero_start: usize,
    zero_end: usize,
    has_zero: bool,
    has_point: bool,
    has_shift: bool,
    fill: bool,
    brackets: bool,
    minus: bool,
    plus: bool,
    roman: bool,
    exponent: bool,
    sign: Option<LeadingSign>,
    /// Digits before an `S`.
    sign_at: usize,
}

/// Words of a template, longer ones before those that they begin with.
const WORDS: [&str; 20] = [
    "EEEE", "FM", "MI", "PL", "PR", "RN", "SG", "SP", "TH", "th", "rn", "9", "0", ".", ",", "B", "D", "G",
    "L", "S",
];

fn wrong(message: &str) -> Error {
    Error::Syntax { message: message.to_owned(), position: None }
}

impl Template {
    /// # Errors
    /// [`Error::Syntax`] for patterns that exclude each other.
    pub fn parse(text: &str) -> Result<Self> {
        let mut template = Self::default();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let upper = rest.get(..4.min(rest.len())).unwrap_or_default().to_ascii_uppercase();
            let exact = WORDS.iter().find(|word| rest.starts_with(**word));
            let word = exact.or_else(|| WORDS.iter().find(|word| upper.starts_with(**word)));
            if let Some(word) = word {
                template.word(word)?;
                rest = &rest[word.len()..];
            } else if matches!(first, 'V' | 'v') {
                template.shifted()?;
                rest = &rest[1..];
            } else if let Some(quoted) = rest.strip_prefix('"') {
                let end = quoted.find('"').unwrap_or(quoted.len());
                template.nodes.extend(quoted[..end].chars().map(Node::Text));
                rest = quoted.get(end + 1..).unwrap_or_default();
            } else {
                template.nodes.push(Node::Text(first));
                rest = &rest[first.len_utf8()..];
            }
        }
        if template.exponent
            && (template.fill
                || template.sign.is_some()
                || template.brackets
                || template.minus
                || template.plus)
        {
            return Err(wrong("\"EEEE\" is incompatible with other formats"));
        }
        Ok(template)
    }

    fn shifted(&mut self) -> Result<()> {
        if self.has_point {
            return Err(wrong("cannot use \"V\" and decimal point together"));
        }
        self.has_shift = true;
        Ok(())
    }

    fn word(&mut self, word: &str) -> Result<()> {
        if self.exponent {
            return Err(wrong("\"EEEE\" must be the last pattern used"));
        }
        let node = match word {
            "9" | "0" => return self.digit(word == "0"),
            "." | "D" => {
                if self.has_point {
                    return Err(wrong("multiple decimal points"));
                }
                if self.has_shift {
                    return Err(wrong("cannot use \"V\" and decimal point together"));
                }
                self.has_point = true;
                Node::Point
            }
            "S" => return self.signed(),
            "MI" | "PL" | "SG" => {
                if self.sign.is_some() {
                    return Err(wrong(&format!("cannot use \"S\" and \"{word}\" together")));
                }
                self.minus |= word != "PL";
                self.plus |= word != "MI";
                match word {
                    "MI" => Node::Minus,
                    "PL" => Node::Plus,
                    _ => Node::Sign,
                }
            }
            "PR" => {
                if self.sign.is_some() || self.plus || self.minus {
                    return Err(wrong("cannot use \"PR\" and \"S\"/\"PL\"/\"MI\"/\"SG\" together"));
                }
                self.brackets = true;
                return Ok(());
            }
            "RN" | "rn" => {
                self.roman = true;
                Node::Roman { lower: word == "rn" }
            }
            "FM" => {
                self.fill = true;
                return Ok(());
            }
            "EEEE" => {
                self.exponent = true;
                return Ok(());
            }
            "TH" | "th" => Node::Ordinal { lower: word == "th" },
            "L" => Node::Currency,
            "," | "G" => Node::Comma,
            _ => return Ok(()),
        };
        self.nodes.push(node);
        Ok(())
    }

    fn digit(&mut self, zero: bool) -> Result<()> {
        if self.brackets {
            return Err(wrong(&format!("\"{}\" must be ahead of \"PR\"", if zero { "0" } else { "9" })));
        }
        if self.has_shift && !zero {
            self.shift += 1;
        } else if self.has_point {
            self.post += 1;
        } else {
            self.pre += 1;
        }
        if zero {
            if !self.has_zero && !self.has_point {
                (self.has_zero, self.zero_start) = (true, self.pre);
            }
            self.zero_end = self.pre + self.post;
        }
        self.nodes.push(if zero { Node::Zero } else { Node::Nine });
        Ok(())
    }

    fn signed(&mut self) -> Result<()> {
        if self.sign.is_some() {
            return Err(wrong("cannot use \"S\" twice"));
        }
        if self.plus || self.minus || self.brackets {
            return Err(wrong("cannot use \"S\" and \"PL\"/\"MI\"/\"SG\"/\"PR\" together"));
        }
        self.sign = Some(if self.has_point { LeadingSign::Behind } else { LeadingSign::Before });
        self.sign_at = self.pre;
        Ok(())
    }

    /// Digits behind the point that the number is to be rounded to.
    pub fn decimals(&self) -> usize {
        self.post
    }

    /// The power of ten that the number is to be multiplied by first.
    pub fn shift(&self) -> usize {
        self.shift
    }

    /// Whether the number is written with an exponent.
    pub fn has_exponent(&self) -> bool {
        self.exponent
    }

    /// Whether the number is written in Roman numerals.
    pub fn is_roman(&self) -> bool {
        self.roman
    }

    /// Writes a number, given as its digits, rounded and shifted already: `-12.30`.
    pub fn print(&self, number: &str) -> String {
        let (negative, digits) = match number.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, number),
        };
        if self.exponent {
            return if negative { number.to_owned() } else { format!(" {number}") };
        }
        let pre = self.pre + self.shift;
        let integral = digits.find('.').unwrap_or(digits.len());
        let (digits, blanks) = if self.roman {
            (digits.to_owned(), 0)
        } else if integral > pre || !digits.starts_with(|first: char| first.is_ascii_digit()) {
            // Too wide, or no number: what would be digits is crossed out.
            (format!("{}.{}", "#".repeat(pre), "#".repeat(self.post)), 0)
        } else {
            (digits.to_owned(), pre - integral)
        };
        Printer::new(self, negative, &digits, blanks).print()
    }
}

/// One walk over a template.
struct Printer<'a> {
    template: &'a Template,
    digits: &'a [u8],
    negative: bool,
    /// Digits of the template before the first of the number.
    blanks: usize,
    sign: Option<LeadingSign>,
    sign_written: bool,
    /// The last decimal that is not a zero, where zeros at the end are left out.
    last_relevant: Option<usize>,
    /// Digits of the template.
    count: usize,
    at: usize,
    position: usize,
    in_number: bool,
    out: String,
}

impl<'a> Printer<'a> {
    fn new(template: &'a Template, negative: bool, digits: &'a str, blanks: usize) -> Self {
        let mut sign = template.sign;
        let pre = template.pre + template.shift;
        if sign == Some(LeadingSign::Before) && template.sign_at == pre {
            sign = Some(LeadingSign::Behind);
        }
        let sign_written = if template.plus || template.minus {
            !template.plus || template.minus
        } else {
            !negative && template.fill && sign.is_none()
        };
        let digits = digits.as_bytes();
        let last_relevant = (template.fill && template.has_point).then(|| {
            let significant = digits.iter().rposition(|digit| *digit != b'0').unwrap_or_default();
            let point = digits.iter().position(|digit| *digit == b'.').unwrap_or(digits.len());
            let last = significant.max(point);
            // Zeros that a 0 of the template asks for are no zeros to leave out.
            let asked = template.zero_end.saturating_sub(blanks).min(digits.len().saturating_sub(1));
            if template.zero_end > blanks { last.max(asked) } else { last }
        });
        let count = template.post + pre - usize::from(template.post + pre > 0);
        let count = count + usize::from(!sign_written && blanks == 0);
        Self {
            template,
            digits,
            negative,
            blanks,
            sign,
            sign_written,
            last_relevant: last_relevant.filter(|last| *last < digits.len()),
            count,
            at: 0,
            position: 0,
            in_number: false,
            out: String::new(),
        }
    }

    fn print(mut self) -> String {
        let fill = self.template.fill;
        for node in &self.template.nodes {
            match node {
                Node::Nine | Node::Zero | Node::Point => self.digit(*node),
                Node::Comma if self.in_number => self.out.push(','),
                Node::Comma if !fill => self.out.push(' '),
                // The symbol of the C locale.
                Node::Currency => self.out.push(' '),
                Node::Minus if self.negative => self.out.push('-'),
                Node::Plus if !self.negative => self.out.push('+'),
                Node::Minus | Node::Plus if !fill => self.out.push(' '),
                Node::Sign => self.out.push(if self.negative { '-' } else { '+' }),
                Node::Roman { lower } => self.roman(*lower),
                Node::Ordinal { lower } => self.ordinal(*lower),
                Node::Text(character) => self.out.push(*character),
                Node::Comma | Node::Minus | Node::Plus => {}
            }
        }
        self.out
    }

    fn digit(&mut self, node: Node) {
        if self.template.roman {
            return;
        }
        self.in_number = false;
        self.leading_sign();
        let blank = self.position < self.blanks;
        let zero = self.template.has_zero && self.template.zero_start <= self.position + 1;
        if blank && !zero {
            self.blank();
        } else if blank {
            self.out.push('0');
            self.in_number = true;
        } else {
            self.next(node);
        }
        self.closing_sign();
        self.position += 1;
    }

    fn blank(&mut self) {
        if !self.template.fill {
            self.out.push(' ');
        }
    }

    /// Whether the zero before the point is one that a 9 leaves blank.
    fn is_blank_zero(&self) -> bool {
        !self.template.has_zero
            && self.at == 0
            && self.digits.first() == Some(&b'0')
            && self.template.post != 0
    }

    fn ends_at_point(&self) -> bool {
        self.last_relevant.is_some_and(|last| self.digits[last] == b'.')
    }

    fn leading_sign(&mut self) {
        let begins = self.position >= self.blanks
            || self.template.has_zero && self.template.zero_start == self.position + 1;
        if self.sign_written || !begins || self.is_blank_zero() && !self.ends_at_point() {
            return;
        }
        match self.sign {
            Some(LeadingSign::Before) => self.out.push(if self.negative { '-' } else { '+' }),
            // It is written at the end, every time that it is asked for.
            Some(LeadingSign::Behind) => return,
            None if self.template.brackets => self.out.push(if self.negative { '<' } else { ' ' }),
            None if self.negative => self.out.push('-'),
            None => self.blank(),
        }
        self.sign_written = true;
    }

    /// The next character of the number, or what stands for it.
    fn next(&mut self, node: Node) {
        let Some(&digit) = self.digits.get(self.at) else {
            return;
        };
        if digit == b'.' {
            if !self.ends_at_point() || self.template.fill {
                self.out.push('.');
            }
        } else if self.last_relevant.is_some_and(|last| self.at > last) && node != Node::Zero {
            // A zero at the end.
        } else if self.is_blank_zero() {
            match self.template.fill {
                false => self.out.push(' '),
                true if self.ends_at_point() => self.out.push('0'),
                true => {}
            }
        } else {
            self.out.push(char::from(digit));
            self.in_number = true;
        }
        self.at += 1;
    }

    fn closing_sign(&mut self) {
        let mut end = self.count + usize::from(self.blanks > 0) + usize::from(self.template.has_point);
        if self.last_relevant.is_some_and(|last| last == self.at) {
            end = self.position;
        }
        if self.position + 1 != end {
            return;
        }
        if self.sign_written && self.template.brackets {
            self.out.push(if self.negative { '>' } else { ' ' });
        } else if self.sign == Some(LeadingSign::Behind) {
            self.out.push(if self.negative { '-' } else { '+' });
        }
    }

    fn roman(&mut self, lower: bool) {
        let numeral = roman(std::str::from_utf8(self.digits).ok().and_then(|digits| digits.parse().ok()));
        let numeral = if lower { numeral.to_lowercase() } else { numeral };
        if self.template.fill {
            self.out.push_str(&numeral);
        } else {
            self.out.push_str(&format!("{numeral:>15}"));
        }
    }

    fn ordinal(&mut self, lower: bool) {
        let crossed_out = self.digits.first() == Some(&b'#');
        if self.template.roman || crossed_out || self.negative || self.template.has_point {
            return;
        }
        let suffix = ordinal_suffix(std::str::from_utf8(self.digits).unwrap_or_default());
        self.out.push_str(&if lower { suffix.to_lowercase() } else { suffix.to_owned() });
    }
}

/// A number from 1 to 3999 in Roman numerals.
fn roman(number: Option<u32>) -> String {
    const NUMERALS: [(u32, &str); 13] = [
        (1000, "M"),
        (900, "CM"),
        (500, "D"),
        (400, "CD"),
        (100, "C"),
        (90, "XC"),
        (50, "L"),
        (40, "XL"),
        (10, "X"),
        (9, "IX"),
        (5, "V"),
        (4, "IV"),
        (1, "I"),
    ];
    let Some(mut number) = number.filter(|number| (1..4000).contains(number)) else {
        return "#".repeat(15);
    };
    let mut numeral = String::new();
    for (value, letters) in NUMERALS {
        while number >= value {
            numeral.push_str(letters);
            number -= value;
        }
    }
    numeral
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each line is what PostgreSQL 15 answers.
    #[test]
    fn numbers_fall_where_they_fall_in_postgres() {
        for (number, template, printed) in [
            ("12", "999", "  12"),
            ("-12", "999", " -12"),
            ("0", "999", "   0"),
            ("0.10", "9.99", "  .10"),
            ("0.10", "0.99", " 0.10"),
            ("1234.50", "9,999.99", " 1,234.50"),
            ("34.50", "9,999.99", "    34.50"),
            ("1234.50", "FM9,999.99", "1,234.5"),
            ("1234.50", "FM9,999.90", "1,234.50"),
            ("1234", "999", " ###"),
            ("7", "000", " 007"),
            ("7", "FM000", "007"),
            ("-7", "000", "-007"),
            ("12", "S999", " +12"),
            ("-12", "999S", " 12-"),
            ("-12", "999MI", " 12-"),
            ("12", "999MI", " 12 "),
            ("12", "999PL", "  12+"),
            ("-12", "999PR", " <12>"),
            ("12", "999PR", "  12 "),
            ("12", "SG999", "+ 12"),
            ("0.00", "FM9.99", "0."),
            ("0.50", "FM9.99", ".5"),
            ("482", "999th", " 482nd"),
            ("485", "RN", "        CDLXXXV"),
            ("485", "FMRN", "CDLXXXV"),
            ("485", "\"Good: \"999", "Good:  485"),
            ("485", "9 9 9", " 4 8 5"),
            ("-0.10", "99.99", "  -.10"),
            ("-485", "999PR", "<485>"),
            ("485", "L999", "  485"),
            ("12000", "99V999", " 12000"),
            ("125", "99V9", " 125"),
            ("-12345.68", "FM999,999,999.00", "-12,345.68"),
            ("0.00", "FM999,990.00", "0.00"),
            ("12345", "FM99G999L", "12,345 "),
            ("4.86e-04", "9.99EEEE", " 4.86e-04"),
        ] {
            assert_eq!(Template::parse(template).unwrap().print(number), printed, "{number} by {template}");
        }
    }

    #[test]
    fn patterns_that_exclude_each_other_are_refused() {
        for template in ["9.9.9", "S9S", "SMI9", "PR9", "9V9.9"] {
            assert_eq!(Template::parse(template).unwrap_err().sqlstate(), "42601", "{template}");
        }
    }
}
