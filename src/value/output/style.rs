//! Styles: the session's settings that change how values look as text.

use std::str::FromStr;

use super::zone::TimeZone;
use crate::error::{Error, Result};

/// What the session's settings say about the text of values.
#[derive(Clone, Debug)]
pub struct EncodeOptions {
    pub time_zone: TimeZone,
    pub date_style: DateStyle,
    pub interval_style: IntervalStyle,
    pub bytea_output: ByteaOutput,
    /// From -15 to 3; above zero means the shortest digits that read back as the same number.
    pub extra_float_digits: i32,
}

impl EncodeOptions {
    /// Reads them from the texts of a session's settings.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for a text that the setting cannot have.
    pub fn of(setting: impl Fn(&str) -> String) -> Result<Self> {
        Ok(Self {
            time_zone: setting("TimeZone").parse()?,
            date_style: setting("DateStyle").parse()?,
            interval_style: setting("IntervalStyle").parse()?,
            bytea_output: setting("bytea_output").parse()?,
            extra_float_digits: setting("extra_float_digits").parse().unwrap_or(1),
        })
    }
}

impl Default for EncodeOptions {
    /// PostgreSQL's defaults, in UTC.
    fn default() -> Self {
        Self {
            time_zone: TimeZone::utc(),
            date_style: DateStyle::default(),
            interval_style: IntervalStyle::default(),
            bytea_output: ByteaOutput::default(),
            extra_float_digits: 1,
        }
    }
}

/// The setting `DateStyle`: a layout, and the order of the fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DateStyle {
    pub layout: DateLayout,
    pub order: DateOrder,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DateLayout {
    #[default]
    Iso,
    Sql,
    Postgres,
    German,
    /// ISO with a `T`, as dates stand in json. No setting names it.
    Xsd,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DateOrder {
    #[default]
    Mdy,
    Dmy,
    Ymd,
}

impl FromStr for DateStyle {
    type Err = Error;

    /// Reads the setting's value, such as `ISO, MDY`; what it leaves out has its default.
    fn from_str(text: &str) -> Result<Self> {
        let mut style = Self::default();
        for word in text.split(',') {
            match word.trim().to_ascii_lowercase().as_str() {
                "iso" => style.layout = DateLayout::Iso,
                "sql" => style.layout = DateLayout::Sql,
                "postgres" => style.layout = DateLayout::Postgres,
                "german" => {
                    style = Self { layout: DateLayout::German, order: DateOrder::Dmy };
                }
                "mdy" | "us" | "noneuro" | "noneuropean" => style.order = DateOrder::Mdy,
                "dmy" | "euro" | "european" => style.order = DateOrder::Dmy,
                "ymd" => style.order = DateOrder::Ymd,
                "default" => style = Self::default(),
                _ => return Err(invalid("DateStyle", text)),
            }
        }
        Ok(style)
    }
}

/// The setting `IntervalStyle`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IntervalStyle {
    #[default]
    Postgres,
    PostgresVerbose,
    SqlStandard,
    Iso8601,
}

impl FromStr for IntervalStyle {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "postgres" => Ok(Self::Postgres),
            "postgres_verbose" => Ok(Self::PostgresVerbose),
            "sql_standard" => Ok(Self::SqlStandard),
            "iso_8601" => Ok(Self::Iso8601),
            _ => Err(invalid("IntervalStyle", text)),
        }
    }
}

/// The setting `bytea_output`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ByteaOutput {
    #[default]
    Hex,
    Escape,
}

impl FromStr for ByteaOutput {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "hex" => Ok(Self::Hex),
            "escape" => Ok(Self::Escape),
            _ => Err(invalid("bytea_output", text)),
        }
    }
}

fn invalid(setting: &str, value: &str) -> Error {
    Error::InvalidParameter(format!("invalid value for parameter \"{setting}\": \"{value}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_postgres_reads_them() {
        let sql = DateStyle { layout: DateLayout::Sql, order: DateOrder::Dmy };
        assert_eq!("SQL, DMY".parse::<DateStyle>().unwrap(), sql);
        assert_eq!("iso".parse::<DateStyle>().unwrap(), DateStyle::default());
        assert_eq!("iso, later".parse::<DateStyle>().unwrap_err().sqlstate(), "22023");
        assert_eq!("ISO_8601".parse::<IntervalStyle>().unwrap(), IntervalStyle::Iso8601);
        assert_eq!("base64".parse::<ByteaOutput>().unwrap_err().sqlstate(), "22023");
    }
}
