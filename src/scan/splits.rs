//! Splits: which partition of the scan reads which file.
//!
//! The largest files are dealt out first, each to the partition with the fewest bytes so far.
//! Cutting large files into ranges is left to DataFusion, which knows whether it is worth it.

use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::FileGroup;

use crate::format::DataFile;
use crate::format::metrics::FileStatistics;

/// Deals `files` out to at most `partitions_max` groups of about equal size.
pub fn spread(files: &[DataFile], partitions_max: usize) -> Vec<FileGroup> {
    let mut largest_first: Vec<_> = files.iter().collect();
    largest_first.sort_by(|a, b| {
        b.object.size.cmp(&a.object.size).then_with(|| a.object.location.cmp(&b.object.location))
    });
    let count = files.len().min(partitions_max).max(1);
    let mut groups: Vec<(u64, Vec<&DataFile>)> = vec![(0, Vec::new()); count];
    for file in largest_first {
        let lightest = groups.iter_mut().min_by_key(|(bytes, _)| *bytes).expect("there is one group");
        // An empty file still costs a request.
        lightest.0 += file.object.size.max(1);
        lightest.1.push(file);
    }
    groups
        .into_iter()
        .map(|(_, files)| FileGroup::new(files.into_iter().map(partitioned).collect()))
        .collect()
}

fn partitioned(file: &DataFile) -> PartitionedFile {
    let mut partitioned =
        PartitionedFile::from(file.object.clone()).with_partition_values(file.partition.clone());
    // Ours cover the partition columns already, which `with_statistics` would add once more.
    partitioned.statistics = file.statistics.as_ref().map(FileStatistics::get);
    partitioned
}

#[cfg(test)]
mod tests {
    use object_store::path::Path;

    use super::*;

    fn file(name: &str, size: u64) -> DataFile {
        let object = object_store::ObjectMeta {
            location: Path::from(name),
            last_modified: chrono::DateTime::UNIX_EPOCH,
            size,
            e_tag: None,
            version: None,
        };
        DataFile { object, partition: Vec::new(), statistics: None }
    }

    #[test]
    fn large_files_are_spread_and_small_ones_fill_up() {
        let files = [file("a", 10), file("b", 100), file("c", 60), file("d", 40), file("e", 0)];
        let groups = spread(&files, 2);
        let names: Vec<Vec<_>> =
            groups.iter().map(|group| group.iter().map(|file| file.path().as_ref()).collect()).collect();
        assert_eq!(names, [vec!["b", "a"], vec!["c", "d", "e"]]);
        assert_eq!(spread(&files, 64).len(), 5);
    }
}
