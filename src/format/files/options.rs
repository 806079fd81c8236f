//! Read options: how the bytes of text files become values.

use std::sync::Arc;

use datafusion::catalog::Session;
use datafusion::config::{CsvOptions, JsonOptions};
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::arrow::ArrowFormat;
use datafusion::datasource::file_format::avro::AvroFormat;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;

use super::csv::Csv;
use super::extension::{Extension, FileKind};
use crate::error::{Error, Result};

/// Rows of a text file that schema inference looks at, at most.
const INFER_ROWS_MAX: usize = 20_000;

/// How text files are read. What is `None` has the default that its line names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ReadOptions {
    /// The first line of a CSV file names the columns: true.
    pub header: Option<bool>,
    /// Separates values: a comma, in `.tsv` files a tab.
    pub delimiter: Option<u8>,
    /// Encloses values: `"`.
    pub quote: Option<u8>,
    /// Stands before a quote inside a value: none, a quote is doubled.
    pub escape: Option<u8>,
    /// Begins lines that are no data: none.
    pub comment: Option<u8>,
    /// The words that stand for null, and no others: the empty one.
    pub nulls: Option<Vec<String>>,
    /// Values may contain line breaks. True; false lets several threads read one CSV file.
    pub newlines_in_values: Option<bool>,
}

impl ReadOptions {
    /// Sets an option by its name, as SQL's named arguments and declarations write it.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for an unknown name or a value that the option cannot have.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            "header" => self.header = Some(boolean(name, value)?),
            "delim" | "delimiter" | "sep" => self.delimiter = Some(byte(name, value)?),
            "quote" => self.quote = Some(byte(name, value)?),
            "escape" => self.escape = Some(byte(name, value)?),
            "comment" => self.comment = Some(byte(name, value)?),
            "null" | "nullstr" => self.nulls = Some(vec![value.to_owned()]),
            "newlines_in_values" => self.newlines_in_values = Some(boolean(name, value)?),
            _ => return Err(Error::InvalidParameter(format!("unknown option \"{name}\""))),
        }
        Ok(())
    }

    /// Whether the first line of a CSV file names the columns.
    pub fn has_header(&self) -> bool {
        self.header.unwrap_or(true)
    }

    /// The reader of files of this kind. `ragged` allows rows with fewer values than columns.
    pub fn file_format(
        &self,
        state: &dyn Session,
        extension: Extension,
        ragged: bool,
    ) -> Arc<dyn FileFormat> {
        match extension.kind {
            FileKind::Parquet => {
                Arc::new(ParquetFormat::default().with_options(state.default_table_options().parquet))
            }
            FileKind::Csv => Arc::new(Csv::new(self.csv(extension, ragged), self.null_regex())),
            FileKind::Json => {
                let options = JsonOptions {
                    compression: extension.compression.into(),
                    schema_infer_max_rec: Some(INFER_ROWS_MAX),
                    ..JsonOptions::default()
                };
                Arc::new(JsonFormat::default().with_options(options))
            }
            FileKind::Avro => Arc::new(AvroFormat),
            FileKind::Arrow => Arc::new(ArrowFormat),
        }
    }

    /// The character that separates values in files of this name.
    pub fn delimiter_in(&self, extension: Extension) -> u8 {
        self.delimiter.unwrap_or(if extension.tabs { b'\t' } else { b',' })
    }

    /// Matches the words that stand for null, and nothing else.
    fn null_regex(&self) -> Option<regex::Regex> {
        let words = self.nulls.as_ref()?;
        let escaped: Vec<_> = words.iter().map(|word| regex::escape(word)).collect();
        let pattern = format!("^(?:{})$", escaped.join("|"));
        Some(regex::Regex::new(&pattern).expect("escaped words are a valid expression"))
    }

    fn csv(&self, extension: Extension, ragged: bool) -> CsvOptions {
        CsvOptions {
            has_header: Some(self.has_header()),
            delimiter: self.delimiter_in(extension),
            quote: self.quote.unwrap_or(b'"'),
            escape: self.escape,
            comment: self.comment,
            null_regex: self.null_regex().map(|words| words.as_str().to_owned()),
            newlines_in_values: Some(self.newlines_in_values.unwrap_or(true)),
            compression: extension.compression.into(),
            schema_infer_max_rec: Some(INFER_ROWS_MAX),
            truncated_rows: Some(ragged),
            ..CsvOptions::default()
        }
    }
}

/// Reads one character of an option; `\t` is a tab.
///
/// # Errors
/// [`Error::InvalidParameter`] for anything that is not one byte long.
pub fn byte(name: &str, value: &str) -> Result<u8> {
    match (value, value.as_bytes()) {
        (r"\t", _) => Ok(b'\t'),
        (_, [byte]) => Ok(*byte),
        _ => Err(Error::InvalidParameter(format!("option \"{name}\" takes one character, not \"{value}\""))),
    }
}

fn boolean(name: &str, value: &str) -> Result<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "t" | "on" | "yes" | "1" => Ok(true),
        "false" | "f" | "off" | "no" | "0" => Ok(false),
        _ => Err(Error::InvalidParameter(format!("option \"{name}\" takes true or false, not \"{value}\""))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_set_by_name() {
        let mut options = ReadOptions::default();
        options.set("delim", r"\t").unwrap();
        options.nulls = Some(vec!["N/A".to_owned(), "a.b".to_owned()]);
        options.set("header", "off").unwrap();
        assert_eq!((options.delimiter, options.has_header()), (Some(b'\t'), false));
        let nulls = options.null_regex().unwrap();
        assert!(
            nulls.is_match("N/A") && nulls.is_match("a.b") && !nulls.is_match("axb") && !nulls.is_match("")
        );
        assert!(options.set("delim", "||").is_err());
        assert!(options.set("colour", "red").is_err());
    }
}
