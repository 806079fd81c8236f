//! Choice: which files of a table are worth being put together.
//!
//! Small files of one partition are, when there are enough of them and fewer will come out. Files of a
//! partition lie in one folder, which is how they are told apart.

use std::collections::{BTreeMap, HashSet};

use object_store::path::Path;

use crate::format::DataFile;

/// What makes files worth it.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    pub small_bytes: u64,
    /// The size at which the next file is begun.
    pub target_bytes: u64,
    /// Small files that a partition must have.
    pub files_min: usize,
    /// Bytes that are rewritten at the most.
    pub bytes_max: u64,
}

impl Rule {
    /// The places of those `files` that are worth it, of those at `paths` if some are given. Those that lie
    /// `elsewhere` than they should always are.
    pub fn choose(
        &self,
        files: &[DataFile],
        paths: Option<&HashSet<Path>>,
        elsewhere: &HashSet<Path>,
    ) -> Vec<usize> {
        let mut partitions: BTreeMap<&str, Vec<(u64, usize)>> = BTreeMap::new();
        let mut chosen = Vec::new();
        for (place, file) in files.iter().enumerate() {
            let path = &file.object.location;
            let is_meant = paths.is_none_or(|paths| paths.contains(path));
            if is_meant && elsewhere.contains(path) {
                chosen.push(place);
            } else if is_meant && file.object.size < self.small_bytes {
                let folder = path.as_ref().rsplit_once('/').map_or("", |(folder, _)| folder);
                partitions.entry(folder).or_default().push((file.object.size, place));
            }
        }
        let mut left = self.bytes_max;
        for mut small in partitions.into_values() {
            small.sort_unstable();
            let fits = small.iter().take_while(|(bytes, _)| {
                let fits = *bytes <= left;
                left -= if fits { *bytes } else { 0 };
                fits
            });
            let fits: Vec<_> = fits.copied().collect();
            let bytes: u64 = fits.iter().map(|(bytes, _)| bytes).sum();
            if fits.len() >= self.files_min.max(2) && bytes.div_ceil(self.target_bytes) < fits.len() as u64 {
                chosen.extend(fits.into_iter().map(|(_, place)| place));
            } else {
                left += bytes;
            }
        }
        chosen.sort_unstable();
        chosen
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectMeta;

    use super::*;

    fn files(sizes: &[(&str, u64)]) -> Vec<DataFile> {
        let file = |(path, size): &(&str, u64)| DataFile {
            object: ObjectMeta {
                location: Path::from(*path),
                last_modified: chrono::DateTime::UNIX_EPOCH,
                size: *size,
                e_tag: None,
                version: None,
            },
            partition: Vec::new(),
            statistics: None,
        };
        sizes.iter().map(file).collect()
    }

    const RULE: Rule = Rule { small_bytes: 75, target_bytes: 100, files_min: 2, bytes_max: u64::MAX };

    #[test]
    fn small_files_of_one_partition_are_put_together() {
        let files = files(&[("a/1", 10), ("a/2", 99), ("b/1", 10), ("a/3", 20), ("c/1", 74), ("c/2", 74)]);
        // Alone in its partition, b/1 stays; so do c/1 and c/2, of which two would come out again.
        assert_eq!(RULE.choose(&files, None, &HashSet::new()), [0, 3]);
        let only = HashSet::from([Path::from("a/1"), Path::from("b/1")]);
        assert_eq!(RULE.choose(&files, Some(&only), &HashSet::new()), [0; 0]);
        let elsewhere = HashSet::from([Path::from("a/2"), Path::from("b/1")]);
        assert_eq!(RULE.choose(&files, None, &elsewhere), [0, 1, 2, 3]);
        assert_eq!(RULE.choose(&files, Some(&only), &elsewhere), [2]);
    }

    #[test]
    fn the_budget_and_the_least_number_hold() {
        let files = files(&[("a/1", 30), ("a/2", 10), ("a/3", 20), ("b/1", 5), ("b/2", 5)]);
        assert_eq!(Rule { bytes_max: 35, ..RULE }.choose(&files, None, &HashSet::new()), [1, 2]);
        assert_eq!(Rule { bytes_max: 40, ..RULE }.choose(&files, None, &HashSet::new()), [1, 2, 3, 4]);
        assert_eq!(Rule { files_min: 3, ..RULE }.choose(&files, None, &HashSet::new()), [0, 1, 2]);
        assert_eq!(
            Rule { files_min: 3, bytes_max: 20, ..RULE }.choose(&files, None, &HashSet::new()),
            [0; 0]
        );
    }
}
