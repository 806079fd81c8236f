//! CSV: a format of our own over arrow's reader.
//!
//! DataFusion's source ignores the words that stand for null when it reads (55.2), and its errors do
//! not say in which file a bad value stands. Types are inferred by its `CsvFormat`.

use std::fmt::{Debug, Formatter};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::csv::ReaderBuilder;
use arrow::csv::reader::Decoder;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use bytes::{Buf, Bytes};
use datafusion::catalog::Session;
use datafusion::common::Statistics;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::config::CsvOptions;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    FileOpenFuture, FileOpener, FileScanConfig, FileScanConfigBuilder, FileSource,
};
use datafusion::datasource::projection::{ProjectionOpener, SplitProjection};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::{DisplayFormatType, ExecutionPlan, PhysicalExpr, apply_expression_roots};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore};

use super::lines::lines_of_range;
use crate::error::Error;

/// Reads CSV files.
#[derive(Debug)]
pub struct Csv {
    /// Infers types.
    stock: CsvFormat,
    nulls: Option<regex::Regex>,
}

impl Csv {
    /// A CSV format in which exactly what `nulls` matches stands for null; the empty text, if absent.
    pub fn new(options: CsvOptions, nulls: Option<regex::Regex>) -> Self {
        Self { stock: CsvFormat::default().with_options(options), nulls }
    }
}

#[async_trait]
impl FileFormat for Csv {
    fn get_ext(&self) -> String {
        self.stock.get_ext()
    }

    fn get_ext_with_compression(&self, compression: &FileCompressionType) -> Result<String> {
        self.stock.get_ext_with_compression(compression)
    }

    fn compression_type(&self) -> Option<FileCompressionType> {
        self.stock.compression_type()
    }

    async fn infer_schema(
        &self,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        objects: &[ObjectMeta],
    ) -> Result<SchemaRef> {
        self.stock.infer_schema(state, store, objects).await
    }

    async fn infer_stats(
        &self,
        _state: &dyn Session,
        _store: &Arc<dyn ObjectStore>,
        schema: SchemaRef,
        _object: &ObjectMeta,
    ) -> Result<Statistics> {
        Ok(Statistics::new_unknown(&schema))
    }

    async fn create_physical_plan(
        &self,
        _state: &dyn Session,
        config: FileScanConfig,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let compression = self.stock.options().compression.into();
        let config = FileScanConfigBuilder::from(config).with_file_compression_type(compression).build();
        Ok(DataSourceExec::from_data_source(config))
    }

    fn file_source(&self, schema: TableSchema) -> Arc<dyn FileSource> {
        Arc::new(CsvFiles {
            options: self.stock.options().clone(),
            nulls: self.nulls.clone(),
            projection: SplitProjection::unprojected(&schema),
            schema,
            batch_rows: None,
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }
}

/// The source of a scan over CSV files.
#[derive(Clone)]
struct CsvFiles {
    options: CsvOptions,
    nulls: Option<regex::Regex>,
    schema: TableSchema,
    projection: SplitProjection,
    batch_rows: Option<usize>,
    metrics: ExecutionPlanMetricsSet,
}

impl CsvFiles {
    fn decoder(&self, header: bool) -> Decoder {
        let mut builder = ReaderBuilder::new(Arc::clone(self.schema.file_schema()))
            .with_header(header)
            .with_delimiter(self.options.delimiter)
            .with_quote(self.options.quote)
            .with_truncated_rows(self.options.truncated_rows.unwrap_or(false))
            .with_projection(self.projection.file_indices.clone());
        if let Some(rows) = self.batch_rows {
            builder = builder.with_batch_size(rows);
        }
        if let Some(nulls) = &self.nulls {
            builder = builder.with_null_regex(nulls.clone());
        }
        if let Some(escape) = self.options.escape {
            builder = builder.with_escape(escape);
        }
        if let Some(comment) = self.options.comment {
            builder = builder.with_comment(comment);
        }
        builder.build_decoder()
    }
}

impl FileSource for CsvFiles {
    fn create_file_opener(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        _partition: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        let opener = CsvOpener { source: self.clone(), store, compression: config.file_compression_type };
        ProjectionOpener::try_new(self.projection.clone(), Arc::new(opener), self.schema.file_schema())
    }

    fn table_schema(&self) -> &TableSchema {
        &self.schema
    }

    fn with_batch_size(&self, batch_rows: usize) -> Arc<dyn FileSource> {
        Arc::new(Self { batch_rows: Some(batch_rows), ..self.clone() })
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        Some(&self.projection.source)
    }

    fn try_pushdown_projection(&self, projection: &ProjectionExprs) -> Result<Option<Arc<dyn FileSource>>> {
        let merged = self.projection.source.try_merge(projection)?;
        let projection = SplitProjection::new(self.schema.file_schema(), &merged);
        Ok(Some(Arc::new(Self { projection, ..self.clone() })))
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        &self.metrics
    }

    fn file_type(&self) -> &str {
        "csv"
    }

    /// A range can begin within quotes, where a line break ends no row.
    fn supports_repartitioning(&self) -> bool {
        self.options.newlines_in_values == Some(false)
    }

    fn fmt_extra(&self, kind: DisplayFormatType, f: &mut Formatter) -> std::fmt::Result {
        match kind {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, ", has_header={}", self.options.has_header.unwrap_or(true))
            }
            DisplayFormatType::TreeRender => Ok(()),
        }
    }

    fn apply_expressions(
        &self,
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        apply_expression_roots(self.projection.source.iter(), visit)
    }
}

struct CsvOpener {
    source: CsvFiles,
    store: Arc<dyn ObjectStore>,
    compression: FileCompressionType,
}

impl FileOpener for CsvOpener {
    fn open(&self, file: PartitionedFile) -> Result<FileOpenFuture> {
        let begins = file.range.as_ref().is_none_or(|range| range.start == 0);
        let header = self.source.options.has_header.unwrap_or(true) && begins;
        let decoder = self.source.decoder(header);
        let (store, compression) = (Arc::clone(&self.store), self.compression);
        Ok(Box::pin(async move {
            let path = file.object_meta.location.to_string();
            let bytes = bytes_of(store.as_ref(), &file).await?;
            let text = compression.convert_stream(bytes)?;
            let rows = Rows { text, decoder, chunk: Bytes::new(), path };
            Ok(futures::stream::try_unfold(rows, Rows::next).boxed())
        }))
    }
}

/// The bytes of a file, or of the lines that begin within its range.
async fn bytes_of(
    store: &dyn ObjectStore,
    file: &PartitionedFile,
) -> Result<BoxStream<'static, Result<Bytes>>> {
    let path = &file.object_meta.location;
    let Some(range) = &file.range else {
        let whole = store.get_opts(path, GetOptions::default()).await?;
        return Ok(whole.into_stream().map_err(DataFusionError::from).boxed());
    };
    let (start, end) = (range.start.unsigned_abs(), range.end.unsigned_abs());
    let from = start.saturating_sub(1);
    let options = GetOptions { range: Some(GetRange::Offset(from)), ..GetOptions::default() };
    let rest = store.get_opts(path, options).await?;
    Ok(lines_of_range(rest.into_stream().map_err(DataFusionError::from).boxed(), start, end))
}

/// Rows of one file, decoded a batch at a time.
struct Rows {
    text: BoxStream<'static, Result<Bytes>>,
    decoder: Decoder,
    /// What is not decoded yet.
    chunk: Bytes,
    path: String,
}

impl Rows {
    async fn next(mut self) -> Result<Option<(RecordBatch, Self)>> {
        loop {
            if self.chunk.is_empty() {
                self.chunk = self.text.next().await.transpose()?.unwrap_or_default();
            }
            // No bytes mean the end of the file, which the decoder has to see to end its last row.
            let decoded = self.decoder.decode(&self.chunk).map_err(|error| self.bad(&error))?;
            self.chunk.advance(decoded);
            if decoded == 0 || self.decoder.capacity() == 0 {
                let batch = self.decoder.flush().map_err(|error| self.bad(&error))?;
                return Ok(batch.map(|batch| (batch, self)));
            }
        }
    }

    fn bad(&self, error: &arrow::error::ArrowError) -> DataFusionError {
        let reason = error.to_string();
        let reason = reason.trim_start_matches("Parser error: ").trim_start_matches("Csv error: ");
        Error::BadData(format!("{}: {reason}", self.path)).into()
    }
}

impl Debug for CsvOpener {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CsvOpener").finish_non_exhaustive()
    }
}
