//! The data: TPC-H tables as Parquet files, as a user of a lake would have them.
//!
//! `DATA/sf1/tpch/lineitem/part-0001.parquet` and so on: Zstandard, row groups of 256 Ki rows, files of
//! at most 1.5 million rows. Written once; a later run finds the folder.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt;
use lacus::catalog::tpch;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::{Result, Settings};

const FILE_ROWS: usize = 1_500_000;
const GROUP_ROWS: usize = 256 * 1024;

/// The schema under the root that holds the tables.
pub const SCHEMA: &str = "tpch";

/// Finds the root of the lake for a scale factor, or writes it.
pub async fn prepare(settings: &Settings) -> Result<PathBuf> {
    let root = settings.data.join(format!("sf{}", settings.scale_factor));
    if root.exists() {
        return Ok(root);
    }
    let unfinished = settings.data.join(format!("sf{}.unfinished", settings.scale_factor));
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished)?;
    }
    for name in tpch::TABLES {
        eprintln!("writing {name} at scale factor {}", settings.scale_factor);
        write_table(&unfinished.join(SCHEMA).join(name), name, settings.scale_factor).await?;
    }
    std::fs::rename(&unfinished, &root)?;
    Ok(root)
}

/// Writes one table, in the order of its key.
async fn write_table(folder: &Path, name: &str, scale_factor: f64) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    let table = tpch::table(scale_factor, name).ok_or("no such scale factor")?;
    let mut batches = context.read_table(table)?.execute_stream().await?;
    let schema = batches.schema();
    let mut number = 0;
    let mut rows = FILE_ROWS;
    let mut writer: Option<ArrowWriter<File>> = None;
    while let Some(batch) = batches.next().await.transpose()? {
        if rows >= FILE_ROWS {
            if let Some(full) = writer.take() {
                full.close()?;
            }
            (number, rows) = (number + 1, 0);
            let file = File::create(folder.join(format!("part-{number:04}.parquet")))?;
            writer = Some(ArrowWriter::try_new_with_options(file, Arc::clone(&schema), options()?)?);
        }
        rows += batch.num_rows();
        writer.as_mut().ok_or("a file is open")?.write(&batch)?;
    }
    if let Some(last) = writer {
        last.close()?;
    }
    Ok(())
}

/// Without Arrow's own metadata, so that the files say no more than another engine's would.
fn options() -> Result<ArrowWriterOptions> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .build();
    Ok(ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true))
}

/// The text of TPC-H query `number`, 1 to 22.
pub fn query(number: usize) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/tpch/queries/q{number}.sql"));
    Ok(std::fs::read_to_string(path)?)
}
