//! Partitions: how a table's rows are spread over files by the value of a column.

/// What is computed from a column's value to find its partition, as Iceberg defines it.
///
/// Source: <https://iceberg.apache.org/spec/#partition-transforms>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transform {
    Identity,
    Year,
    Month,
    Day,
    Hour,
    /// Hash modulo the number of buckets.
    Bucket(u32),
    /// Width to which integers and decimals are cut down, or length in characters of strings.
    Truncate(u32),
    /// Always null: a partition column that was dropped.
    Void,
}

/// One column by which a table is partitioned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionField {
    /// Name of the column that is transformed.
    pub source: String,
    /// Name of the partition value, as it stands in paths and in Iceberg's partition spec.
    pub name: String,
    pub transform: Transform,
}
