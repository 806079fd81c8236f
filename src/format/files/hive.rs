//! Hive partitions: folders named `key=value` are columns of the rows below them.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use object_store::path::Path;

/// What Hive and Spark write for null.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// One `key=value` of a path, decoded; null where the value is Hive's word for it, or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPartition {
    pub key: String,
    pub value: Option<String>,
}

/// Reads the partitions of the object at `path` below `folder`, outermost first.
pub fn path_partitions(folder: &Path, path: &Path) -> Vec<PathPartition> {
    let Some(below) = path.prefix_match(folder) else { return Vec::new() };
    let parts: Vec<_> = below.collect();
    let folders = parts.split_last().map_or(&[][..], |(_, folders)| folders);
    folders.iter().filter_map(|part| part_partition(part.as_ref())).collect()
}

/// Whether a folder of this name holds one partition of a table.
pub fn is_partition_folder(name: &str) -> bool {
    part_partition(name).is_some()
}

fn part_partition(part: &str) -> Option<PathPartition> {
    let (key, value) = part.split_once('=').filter(|(key, _)| !key.is_empty())?;
    let value = percent_decoded(value);
    let value = (!value.is_empty() && value != NULL).then_some(value);
    Some(PathPartition { key: percent_decoded(key), value })
}

/// The type of a partition column: integers are `bigint`, dates `date`, everything else text.
pub fn partition_type<'a>(values: impl Iterator<Item = Option<&'a str>> + Clone) -> DataType {
    let mut known = values.flatten().peekable();
    if known.peek().is_none() {
        return DataType::Utf8View;
    }
    let known = known.collect::<Vec<_>>();
    if known.iter().all(|value| is_integer(value)) {
        DataType::Int64
    } else if known.iter().all(|value| is_date(value)) {
        DataType::Date32
    } else {
        DataType::Utf8View
    }
}

/// The value of a partition column as its type; `None` where the text is not such a value.
pub fn partition_value(value: Option<&str>, data_type: &DataType) -> Option<ScalarValue> {
    match value {
        None => ScalarValue::try_new_null(data_type).ok(),
        Some(text) => ScalarValue::try_from_string(text.to_owned(), data_type).ok(),
    }
}

fn is_integer(text: &str) -> bool {
    text.parse::<i64>().is_ok() && !text.starts_with('+')
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok()
}

/// Decodes `%20` and its like; what is no valid escape stays as it is.
pub fn percent_decoded(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match escape {
            Some(byte) if bytes[at] == b'%' => {
                decoded.push(byte);
                at += 3;
            }
            _ => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partitions(path: &str) -> Vec<(String, Option<String>)> {
        path_partitions(&Path::from("lake/raw/t"), &Path::parse(path).unwrap())
            .into_iter()
            .map(|partition| (partition.key, partition.value))
            .collect()
    }

    #[test]
    fn folders_below_the_table_are_partitions() {
        let found = partitions("lake/raw/t/city=S%C3%A3o%20Paulo/day=2024-01-31/part=0.parquet");
        let text = |text: &str| text.to_owned();
        let expected = vec![(text("city"), Some(text("São Paulo"))), (text("day"), Some(text("2024-01-31")))];
        assert_eq!(found, expected);
        assert_eq!(partitions("lake/raw/t/k=__HIVE_DEFAULT_PARTITION__/a"), vec![(text("k"), None)]);
        assert_eq!(partitions("lake/x=1/other/a"), vec![]);
        assert_eq!(percent_decoded("100%_%zz%41"), "100%_%zzA");
    }

    #[test]
    fn types_come_from_all_values() {
        let of = |values: &[Option<&'static str>]| partition_type(values.iter().copied());
        assert_eq!(of(&[Some("01"), None, Some("-12")]), DataType::Int64);
        assert_eq!(of(&[Some("2024-02-29")]), DataType::Date32);
        assert_eq!(of(&[Some("2023-02-29")]), DataType::Utf8View);
        assert_eq!(of(&[Some("7"), Some("x")]), DataType::Utf8View);
        assert_eq!(of(&[None]), DataType::Utf8View);
        assert_eq!(partition_value(Some("01"), &DataType::Int64), Some(ScalarValue::Int64(Some(1))));
        assert_eq!(partition_value(Some("x"), &DataType::Int64), None);
    }
}
