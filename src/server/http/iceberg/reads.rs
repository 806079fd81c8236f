//! Reads: what the catalog holds, in the words of the REST catalog.

use serde_json::{Map, Value, json};

use super::reply::Reply;
use super::{Call, RestCatalog};
use crate::catalog::temporary::TEMPORARY_SCHEMA;
use crate::catalog::transaction::Transaction;
use crate::catalog::{Browse, RelationKind};
use crate::error::{Error, Result};

/// What can be asked for. Clients leave the rest alone.
const ENDPOINTS: [&str; 15] = [
    "GET /v1/{prefix}/namespaces",
    "POST /v1/{prefix}/namespaces",
    "GET /v1/{prefix}/namespaces/{namespace}",
    "HEAD /v1/{prefix}/namespaces/{namespace}",
    "DELETE /v1/{prefix}/namespaces/{namespace}",
    "POST /v1/{prefix}/namespaces/{namespace}/properties",
    "GET /v1/{prefix}/namespaces/{namespace}/tables",
    "POST /v1/{prefix}/namespaces/{namespace}/tables",
    "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "HEAD /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "DELETE /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/metrics",
    "POST /v1/{prefix}/tables/rename",
    "POST /v1/{prefix}/transactions/commit",
];

impl RestCatalog {
    /// Which lake a client's warehouse is: one by its name, or the only one there is.
    pub(super) fn config(&self, call: &Call) -> Result<Reply> {
        let lakes: Vec<&str> = self.engine.catalogs.lakes().map(|lake| lake.name.as_str()).collect();
        let named = call.parameters.get("warehouse").map(String::as_str).filter(|name| !name.is_empty());
        let lake = match (named, &lakes[..]) {
            (Some(name), _) if lakes.contains(&name) => name,
            (Some(name), _) => return Err(Error::CatalogNotFound(name.to_owned())),
            (None, [only]) => only,
            (None, _) => {
                let message = format!("name a warehouse: {}", lakes.join(", "));
                return Err(Error::InvalidParameter(message));
            }
        };
        let prefix: String = url::form_urlencoded::byte_serialize(lake.as_bytes()).collect();
        let prefix = prefix.replace('+', "%20");
        Ok(Reply::Json(json!({"defaults": {}, "overrides": {"prefix": prefix}, "endpoints": ENDPOINTS})))
    }
}

pub(super) async fn namespaces(transaction: &Transaction, catalog: &str, call: &Call) -> Result<Reply> {
    if let Some(parent) = call.parameters.get("parent").filter(|parent| !parent.is_empty()) {
        // Schemas hold no schemas.
        ensure_schema(transaction, catalog, parent).await?;
        return Ok(Reply::Json(json!({"namespaces": []})));
    }
    let schemas = transaction.schemas(catalog).await?;
    let names = schemas.into_iter().map(|(name, _)| name).filter(|name| name != TEMPORARY_SCHEMA);
    let names: Vec<Value> = names.map(|name| json!([name])).collect();
    Ok(Reply::Json(json!({"namespaces": names})))
}

pub(super) async fn namespace(transaction: &Transaction, catalog: &str, schema: &str) -> Result<Reply> {
    let properties = properties(transaction, catalog, schema).await?;
    Ok(Reply::Json(json!({"namespace": [schema], "properties": properties})))
}

/// What is known of a schema: its comment.
pub(super) async fn properties(
    transaction: &Transaction,
    catalog: &str,
    schema: &str,
) -> Result<Map<String, Value>> {
    let schemas = transaction.schemas(catalog).await?;
    let found = schemas.into_iter().find(|(name, _)| name == schema && name != TEMPORARY_SCHEMA);
    let (_, comment) = found.ok_or_else(|| Error::SchemaNotFound(schema.to_owned()))?;
    Ok(comment.map(|comment| ("comment".to_owned(), Value::from(comment))).into_iter().collect())
}

pub(super) async fn tables(transaction: &Transaction, catalog: &str, schema: &str) -> Result<Reply> {
    ensure_schema(transaction, catalog, schema).await?;
    let relations = transaction.relations(catalog, schema).await?;
    let managed = relations.iter().filter(|relation| relation.kind == RelationKind::Managed);
    let tables: Vec<Value> =
        managed.map(|table| json!({"namespace": [schema], "name": table.name})).collect();
    Ok(Reply::Json(json!({"identifiers": tables})))
}

pub(super) async fn table(
    transaction: &Transaction,
    catalog: &str,
    schema: &str,
    name: &str,
) -> Result<Reply> {
    ensure_own(schema)?;
    Reply::table(transaction.iceberg_table(catalog, schema, name).await?.as_ref(), false)
}

async fn ensure_schema(transaction: &Transaction, catalog: &str, schema: &str) -> Result<()> {
    ensure_own(schema)?;
    match transaction.schema_exists(catalog, schema).await? {
        true => Ok(()),
        false => Err(Error::SchemaNotFound(schema.to_owned())),
    }
}

/// Temporary tables belong to a session of the PostgreSQL port.
pub(super) fn ensure_own(schema: &str) -> Result<()> {
    match schema == TEMPORARY_SCHEMA {
        true => Err(Error::SchemaNotFound(schema.to_owned())),
        false => Ok(()),
    }
}
