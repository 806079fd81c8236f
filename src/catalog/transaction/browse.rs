//! Listings: what a transaction shows of schemas, relations and their columns.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use async_trait::async_trait;
use datafusion::catalog::TableProvider;

use super::super::log::ViewColumn;
use super::super::state::RelationState;
use super::super::{Browse, Catalog, DEFAULT_SCHEMA, Relation, RelationDetail, RelationKind, tpch};
use super::{LakeView, Place, TEMPORARY_SCHEMA, Transaction};
use crate::error::{Error, Result};
use crate::format::iceberg::Rules;
use crate::format::partition::{PartitionField, Transform};

#[async_trait]
impl Browse for Transaction {
    fn catalogs(&self) -> Vec<String> {
        self.catalogs.names()
    }

    async fn schemas(&self, catalog: &str) -> Result<Vec<(String, Option<String>)>> {
        let mut schemas = BTreeMap::new();
        if self.temporary.lake().is_some() {
            schemas.insert(TEMPORARY_SCHEMA.to_owned(), None);
        }
        let lake = match self.catalogs.find(catalog)? {
            Catalog::Tpch => {
                schemas.extend(tpch::schema_names().into_iter().map(with_scale));
                return Ok(schemas.into_iter().collect());
            }
            Catalog::Lake(lake) => lake,
        };
        schemas.insert(DEFAULT_SCHEMA.to_owned(), None);
        if !self.is_past() {
            schemas.extend(self.catalogs.open_schemas(lake).await?.into_iter().map(|name| (name, None)));
        }
        for (name, schema) in &self.view(lake).await?.state.schemas {
            schemas.insert(name.clone(), schema.comment.clone());
        }
        Ok(schemas.into_iter().collect())
    }

    async fn relations(&self, catalog: &str, schema: &str) -> Result<Vec<Arc<Relation>>> {
        let lake = match self.place(catalog, schema)? {
            Place::Tpch if tpch::scale_factor(schema).is_none() => return Ok(Vec::new()),
            Place::Nowhere => return Ok(Vec::new()),
            Place::Tpch => {
                return Ok(tpch::TABLES.iter().map(|name| tpch_relation(catalog, schema, name)).collect());
            }
            Place::Lake(lake) => lake,
        };
        let relation = |name: String, kind, comment, view_sql| {
            let (catalog, schema) = (catalog.to_owned(), schema.to_owned());
            Arc::new(Relation { catalog, schema, name, kind, comment, view_sql })
        };
        let mut relations = BTreeMap::new();
        let open = match lake.is_temporary() || self.is_past() {
            true => Vec::new(),
            false => self.catalogs.open_tables(lake, schema).await?,
        };
        for (name, comment) in open {
            relations.insert(name.clone(), relation(name, RelationKind::External, comment, None));
        }
        let view = self.view(lake).await?;
        for (name, state) in view.state.schemas.get(schema).iter().flat_map(|schema| &schema.relations) {
            let (kind, sql) = match state {
                RelationState::Table(table) => match &table.materialized {
                    None => (RelationKind::Managed, None),
                    Some(one) => {
                        let kind = RelationKind::Materialized { populated: one.populated };
                        (kind, Some(one.view.sql.clone()))
                    }
                },
                RelationState::View(view) => (RelationKind::View, Some(view.sql.clone())),
            };
            relations.insert(name.clone(), relation(name.clone(), kind, state.comment().cloned(), sql));
        }
        Ok(relations.into_values().collect())
    }

    async fn detail(&self, relation: &Relation) -> Result<RelationDetail> {
        let gone = || Error::TableNotFound(format!("{}.{}", relation.schema, relation.name));
        if let Place::Lake(lake) = self.place(&relation.catalog, &relation.schema)? {
            let view = self.view(lake).await?;
            if let Some(state) = view.state.relation(&relation.schema, &relation.name) {
                return self.recorded(&view, state).await;
            }
            let table = self.open(lake, &relation.schema, &relation.name).await?.ok_or_else(gone)?;
            return self.catalogs.open_detail(lake, relation, &table);
        }
        let table = tpch::named(&relation.schema, &relation.name).ok_or_else(gone)?;
        Ok(generated(table.as_ref()))
    }
}

impl Transaction {
    /// Schemas and names of all tables that a lake's log records.
    ///
    /// # Errors
    /// [`Error::CatalogNotFound`] and what the store answers.
    pub async fn managed_tables(&self, catalog: &str) -> Result<Vec<(String, String)>> {
        let Catalog::Lake(lake) = self.catalogs.find(catalog)? else { return Ok(Vec::new()) };
        let view = self.view(lake).await?;
        Ok(view.state.tables().map(|(schema, name, _)| (schema.to_owned(), name.to_owned())).collect())
    }

    /// The detail of what the log records.
    async fn recorded(&self, view: &LakeView, state: &RelationState) -> Result<RelationDetail> {
        let record = match state {
            RelationState::View(record) => {
                let column = |column: &ViewColumn| {
                    Field::new(
                        &column.name,
                        DataType::from_str(&column.data_type).unwrap_or(DataType::Utf8),
                        true,
                    )
                };
                let schema = Schema::new(record.columns.iter().map(column).collect::<Vec<_>>());
                return Ok(RelationDetail {
                    schema: Arc::new(schema),
                    partitioned_by: Vec::new(),
                    properties: BTreeMap::new(),
                    row_count: None,
                    size_bytes: None,
                    location: None,
                    format: "view".to_owned(),
                    analyzed: BTreeMap::new(),
                    rules: Rules::default(),
                });
            }
            RelationState::Table(record) => record,
        };
        let metadata = self.metadata(view, record).await?;
        Ok(RelationDetail {
            schema: crate::format::iceberg::arrow_schema(&metadata),
            partitioned_by: metadata.partition_fields().iter().map(written).collect(),
            properties: metadata.properties.clone(),
            row_count: metadata.row_count(),
            size_bytes: metadata.size_bytes(),
            location: Some(format!("{}{}", view.lake.location.url, record.directory)),
            format: "iceberg".to_owned(),
            analyzed: metadata.analyzed_columns(),
            rules: metadata.rules()?,
        })
    }
}

fn with_scale(schema: String) -> (String, Option<String>) {
    let comment = tpch::scale_factor(&schema).map(tpch::schema_comment);
    (schema, comment)
}

fn tpch_relation(catalog: &str, schema: &str, name: &str) -> Arc<Relation> {
    Arc::new(Relation {
        catalog: catalog.to_owned(),
        schema: schema.to_owned(),
        name: name.to_owned(),
        kind: RelationKind::External,
        comment: tpch::comment(name).map(str::to_owned),
        view_sql: None,
    })
}

fn generated(table: &dyn TableProvider) -> RelationDetail {
    let rows = table.statistics().and_then(|statistics| statistics.num_rows.get_value().copied());
    RelationDetail {
        schema: table.schema(),
        partitioned_by: Vec::new(),
        properties: BTreeMap::new(),
        row_count: rows.map(|rows| rows as u64),
        size_bytes: None,
        location: None,
        format: "tpch".to_owned(),
        analyzed: BTreeMap::new(),
        rules: Rules::default(),
    }
}

/// A partition as SQL writes it.
fn written(field: &PartitionField) -> String {
    let column = &field.source;
    match field.transform {
        Transform::Identity => column.clone(),
        Transform::Year => format!("years({column})"),
        Transform::Month => format!("months({column})"),
        Transform::Day => format!("days({column})"),
        Transform::Hour => format!("hours({column})"),
        Transform::Bucket(buckets) => format!("bucket({buckets}, {column})"),
        Transform::Truncate(width) => format!("truncate({width}, {column})"),
        Transform::Void => format!("void({column})"),
    }
}
