//! Patterns of dates and times.

/// What a pattern stands for. The number of an alternative is the width of its digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    /// `YYYY`, `YYY`, `YY`, `Y`: the last digits of the year.
    Year(usize),
    YearWithComma,
    /// The year that an ISO week belongs to.
    IsoYear(usize),
    Century,
    Era,
    EraDotted,
    Quarter,
    Month,
    MonthName,
    MonthShort,
    MonthRoman,
    /// Counted in weeks of seven days from the first of the year or month.
    WeekOfYear,
    WeekOfMonth,
    IsoWeek,
    DayOfYear,
    IsoDayOfYear,
    Day,
    /// From 1 for Sunday.
    Weekday,
    /// From 1 for Monday.
    IsoWeekday,
    DayName,
    DayShort,
    Julian,
    Hour12,
    Hour24,
    Minute,
    Second,
    /// Decimals of a second: so many digits.
    Fraction(usize),
    SecondOfDay,
    HalfOfDay,
    HalfOfDayDotted,
    Zone,
    ZoneHours,
    ZoneMinutes,
    Offset,
}

/// How the letters of a pattern are written, which is how a name is written too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Case {
    Upper,
    Lower,
    Capital,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Field {
        field: Field,
        text: &'static str,
        case: Case,
        /// `FM`: neither blanks nor zeros in front.
        fill: bool,
        /// `TH` or `th` behind it.
        ordinal: Option<Case>,
    },
    /// A blank or a sign between fields.
    Separator(char),
    /// A letter, or anything in double quotes.
    Text(char),
}

/// A parsed template.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Template {
    pub nodes: Vec<Node>,
    /// `FX`: the text must have the template's blanks and widths.
    pub exact: bool,
}

use Field::*;

/// Longer patterns stand before those that they begin with.
const PATTERNS: [(&str, Field); 57] = [
    ("A.D.", EraDotted),
    ("A.M.", HalfOfDayDotted),
    ("AD", Era),
    ("AM", HalfOfDay),
    ("B.C.", EraDotted),
    ("BC", Era),
    ("CC", Century),
    ("DAY", DayName),
    ("DDD", DayOfYear),
    ("DD", Day),
    ("DY", DayShort),
    ("Day", DayName),
    ("Dy", DayShort),
    ("D", Weekday),
    ("FF1", Fraction(1)),
    ("FF2", Fraction(2)),
    ("FF3", Fraction(3)),
    ("FF4", Fraction(4)),
    ("FF5", Fraction(5)),
    ("FF6", Fraction(6)),
    ("HH24", Hour24),
    ("HH12", Hour12),
    ("HH", Hour12),
    ("IDDD", IsoDayOfYear),
    ("ID", IsoWeekday),
    ("IW", IsoWeek),
    ("IYYY", IsoYear(4)),
    ("IYY", IsoYear(3)),
    ("IY", IsoYear(2)),
    ("I", IsoYear(1)),
    ("J", Julian),
    ("MI", Minute),
    ("MM", Month),
    ("MONTH", MonthName),
    ("MON", MonthShort),
    ("MS", Fraction(3)),
    ("OF", Offset),
    ("P.M.", HalfOfDayDotted),
    ("PM", HalfOfDay),
    ("Q", Quarter),
    ("RM", MonthRoman),
    ("SSSSS", SecondOfDay),
    ("SSSS", SecondOfDay),
    ("SS", Second),
    ("TZH", ZoneHours),
    ("TZM", ZoneMinutes),
    ("TZ", Zone),
    ("US", Fraction(6)),
    ("WW", WeekOfYear),
    ("W", WeekOfMonth),
    ("Y,YYY", YearWithComma),
    ("YYYY", Year(4)),
    ("YYY", Year(3)),
    ("YY", Year(2)),
    ("Y", Year(1)),
    ("Month", MonthName),
    ("Mon", MonthShort),
];

impl Template {
    pub fn parse(text: &str) -> Self {
        let mut template = Self { nodes: vec![], exact: false };
        let mut rest = text;
        while !rest.is_empty() {
            rest = template.node(rest);
        }
        template
    }

    /// Reads one node and returns what stands behind it.
    fn node<'a>(&mut self, text: &'a str) -> &'a str {
        let (fill, behind) = self.prefix(text);
        if let Some((field, pattern, case)) = pattern_at(behind) {
            let behind = &behind[pattern.len()..];
            let (ordinal, behind) = match behind.get(..2) {
                Some("TH") => (Some(Case::Upper), &behind[2..]),
                Some("th") => (Some(Case::Lower), &behind[2..]),
                _ => (None, behind),
            };
            self.nodes.push(Node::Field { field, text: pattern, case, fill, ordinal });
            // SP, which would spell numbers out, is read and does nothing.
            return behind.strip_prefix("SP").unwrap_or(behind);
        }
        if behind.len() < text.len() {
            return behind;
        }
        if let Some(quoted) = text.strip_prefix('"') {
            return self.quoted(quoted);
        }
        let mut characters = text.chars();
        match characters.next() {
            Some('\\') if text[1..].starts_with('"') => {
                self.nodes.push(Node::Text('"'));
                &text[2..]
            }
            Some(separator) if is_separator(separator) => {
                self.nodes.push(Node::Separator(separator));
                characters.as_str()
            }
            Some(letter) => {
                self.nodes.push(Node::Text(letter));
                characters.as_str()
            }
            None => "",
        }
    }

    /// Reads `FM`, `FX` and `TM` in front of a pattern.
    fn prefix<'a>(&mut self, text: &'a str) -> (bool, &'a str) {
        let (mut fill, mut rest) = (false, text);
        while let Some(word) = rest.get(..2) {
            match word {
                "FM" | "fm" => fill = true,
                "FX" | "fx" => self.exact = true,
                // Names are English, as they are where no locale was chosen.
                "TM" | "tm" => {}
                _ => break,
            }
            rest = &rest[2..];
        }
        (fill, rest)
    }

    /// Reads up to the closing quote.
    fn quoted<'a>(&mut self, text: &'a str) -> &'a str {
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            match character {
                '"' => break,
                '\\' => self.nodes.extend(characters.next().map(Node::Text)),
                other => self.nodes.push(Node::Text(other)),
            }
        }
        characters.as_str()
    }
}

/// Anything printable that is neither a letter nor a digit.
pub(super) fn is_separator(character: char) -> bool {
    character.is_ascii() && !character.is_ascii_alphanumeric() && !character.is_ascii_control()
}

/// The pattern that a text begins with, with its case.
fn pattern_at(text: &str) -> Option<(Field, &'static str, Case)> {
    let matched = |pattern: &str| {
        let head = text.get(..pattern.len())?;
        let lower = head.bytes().all(|byte| !byte.is_ascii_uppercase());
        if head == pattern {
            let capital = pattern.len() > 1 && pattern.bytes().any(|byte| byte.is_ascii_lowercase());
            return Some(if capital { Case::Capital } else { Case::Upper });
        }
        (lower && head.eq_ignore_ascii_case(pattern)).then_some(Case::Lower)
    };
    PATTERNS.iter().find_map(|(pattern, field)| matched(pattern).map(|case| (*field, *pattern, case)))
}

impl Field {
    /// Whether it is read as digits.
    pub fn is_digits(self) -> bool {
        !matches!(
            self,
            Era | EraDotted
                | MonthName
                | MonthShort
                | MonthRoman
                | DayName
                | DayShort
                | HalfOfDay
                | HalfOfDayDotted
                | Zone
                | ZoneHours
                | Offset
                | YearWithComma
        )
    }
}
