use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::sync::{Arc, Barrier};

use object_store::ObjectStoreExt;

use super::*;

struct Fixture {
    disk: Disk,
    root: PathBuf,
    outside: PathBuf,
    _folder: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().canonicalize().unwrap();
    let (root, outside) = (base.join("root"), base.join("outside"));
    std::fs::create_dir_all(root.join("inside")).unwrap();
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "secret").unwrap();
    Fixture { disk: Disk::new(root.clone(), Handle::current()), root, outside, _folder: folder }
}

async fn listed(disk: &Disk, prefix: &str) -> Vec<String> {
    let prefix = Path::from(prefix);
    disk.list(Some(&prefix)).map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap()
}

fn is_refused<T>(result: Result<T>) -> bool {
    matches!(result.map_err(Error::from), Err(Error::PermissionDenied(_)))
}

#[tokio::test]
async fn objects_are_written_read_listed_and_deleted() {
    let Fixture { disk, root, .. } = &fixture();
    let path = Path::parse("t/month=1/50%25 off.csv").unwrap();
    disk.put(&path, "0123456789".into()).await.unwrap();
    assert!(root.join("t/month=1/50%25 off.csv").is_file());
    assert_eq!(disk.get(&path).await.unwrap().bytes().await.unwrap(), "0123456789");
    assert_eq!(disk.get_range(&path, 2..4).await.unwrap(), "23");
    assert_eq!(disk.get_ranges(&path, &[0..1, 8..10]).await.unwrap(), ["0", "89"]);
    assert!(disk.get_ranges(&path, std::slice::from_ref(&(8..11))).await.is_err());
    assert_eq!(listed(disk, "t").await, [path.as_ref()]);
    assert_eq!(listed(disk, "no/such/folder").await, [""; 0]);

    disk.put(&path, "replaced".into()).await.unwrap();
    let head = disk.head(&path).await.unwrap();
    assert_eq!((head.size, head.location.clone()), (8, path.clone()));
    disk.copy(&path, &Path::from("copy")).await.unwrap();
    disk.rename(&Path::from("copy"), &Path::from("deep/er/moved")).await.unwrap();
    assert_eq!(listed(disk, "").await, ["deep/er/moved", path.as_ref()]);

    disk.delete(&path).await.unwrap();
    assert!(matches!(disk.get(&path).await, Err(object_store::Error::NotFound { .. })));
    assert!(matches!(disk.delete(&path).await, Err(object_store::Error::NotFound { .. })));
}

#[tokio::test]
async fn an_upload_appears_as_a_whole_or_not_at_all() {
    let Fixture { disk, root, .. } = &fixture();
    let path = Path::from("big.parquet");
    let mut upload = disk.put_multipart(&path).await.unwrap();
    let (first, second) = (upload.put_part("first,".into()), upload.put_part("second".into()));
    second.await.unwrap();
    first.await.unwrap();
    assert_eq!(listed(disk, "").await, [""; 0]);
    upload.complete().await.unwrap();
    assert_eq!(disk.get(&path).await.unwrap().bytes().await.unwrap(), "first,second");

    let mut dropped = disk.put_multipart(&Path::from("never")).await.unwrap();
    dropped.put_part("x".into()).await.unwrap();
    drop(dropped);
    let names: Vec<_> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_str().unwrap().ends_with(".tmp")), "{names:?}");
}

#[tokio::test]
async fn links_to_the_outside_are_not_listed_not_read_and_not_written_through() {
    let Fixture { disk, root, outside, .. } = &fixture();
    symlink(outside.join("secret"), root.join("file")).unwrap();
    symlink(outside, root.join("folder")).unwrap();
    symlink(root.join("nowhere"), root.join("broken")).unwrap();
    std::fs::write(root.join("inside/x"), "x").unwrap();

    assert_eq!(listed(disk, "").await, ["inside/x"]);
    let level = disk.list_with_delimiter(None).await.unwrap();
    assert_eq!((level.common_prefixes, level.objects.len()), (vec![Path::from("inside")], 0));

    for path in ["file", "folder/secret"].map(Path::from) {
        assert!(is_refused(disk.get(&path).await), "{path}");
        assert!(is_refused(disk.head(&path).await), "{path}");
        assert!(is_refused(disk.get_ranges(&path, std::slice::from_ref(&(0..1))).await), "{path}");
        assert!(is_refused(disk.delete(&path).await), "{path}");
        assert!(is_refused(disk.copy(&path, &Path::from("inside/copy")).await), "{path}");
        assert!(is_refused(disk.rename(&path, &Path::from("inside/moved")).await), "{path}");
    }
    let folder = Path::from("folder");
    assert!(is_refused(disk.list(Some(&folder)).try_collect::<Vec<_>>().await));
    for path in ["folder/new", "folder/deep/er/new"].map(Path::from) {
        assert!(is_refused(disk.put(&path, "w".into()).await), "{path}");
        assert!(is_refused(disk.put_multipart(&path).await), "{path}");
        assert!(is_refused(disk.copy(&Path::from("inside/x"), &path).await), "{path}");
    }
    disk.put(&Path::from("file"), "ours".into()).await.unwrap();
    assert_eq!(std::fs::read_to_string(outside.join("secret")).unwrap(), "secret");
    assert_eq!(std::fs::read_dir(outside).unwrap().count(), 1);
}

#[tokio::test]
async fn links_inside_are_followed_but_never_in_circles() {
    let Fixture { disk, root, .. } = &fixture();
    std::fs::create_dir(root.join("a")).unwrap();
    std::fs::create_dir(root.join("b")).unwrap();
    std::fs::write(root.join("a/x"), "x").unwrap();
    std::fs::write(root.join("b/y"), "y").unwrap();
    symlink(root.join("b"), root.join("a/to_b")).unwrap();
    symlink(root.join("a"), root.join("b/to_a")).unwrap();
    symlink(root, root.join("a/up")).unwrap();
    symlink("x", root.join("a/link_to_x")).unwrap();

    let names = listed(disk, "a").await;
    assert_eq!(names, ["a/link_to_x", "a/x", "a/to_b/y"]);
    assert_eq!(disk.get(&Path::from("a/to_b/y")).await.unwrap().bytes().await.unwrap(), "y");
    disk.put(&Path::from("a/to_b/new"), "n".into()).await.unwrap();
    assert!(root.join("b/new").is_file());
}

#[tokio::test]
async fn leftovers_of_a_crash_are_invisible() {
    let Fixture { disk, root, .. } = &fixture();
    std::fs::write(root.join("inside/.0123456789abcdef.tmp"), "half").unwrap();
    std::fs::write(root.join("inside/.hidden"), "whole").unwrap();
    assert_eq!(listed(disk, "").await, ["inside/.hidden"]);
}

/// Bug class of stores that check, then write: several racing writers win.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_one_of_many_racing_creates_wins() {
    const WRITERS: usize = 16;
    let Fixture { disk, root, .. } = &fixture();
    for round in 0..20 {
        let path = Path::from(format!("log/{round}/slot.json"));
        let start = Arc::new(Barrier::new(WRITERS));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (disk, path, start) = (disk.clone(), path.clone(), Arc::clone(&start));
                let io = Handle::current();
                std::thread::spawn(move || {
                    start.wait();
                    let put = disk.put_opts(&path, writer.to_string().into(), PutMode::Create.into());
                    (writer, io.block_on(put))
                })
            })
            .collect();
        let mut winners = BTreeSet::new();
        for (writer, result) in writers.into_iter().map(|writer| writer.join().unwrap()) {
            match result {
                Ok(_) => drop(winners.insert(writer.to_string())),
                Err(object_store::Error::AlreadyExists { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
        let written = std::fs::read_to_string(root.join(path.as_ref())).unwrap();
        assert_eq!(winners, BTreeSet::from([written]));
        assert_eq!(std::fs::read_dir(root.join(format!("log/{round}"))).unwrap().count(), 1);
    }
}
