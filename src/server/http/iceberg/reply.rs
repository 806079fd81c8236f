//! Replies: answers and errors as the REST catalog's specification words them.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::error::Error;
use crate::format::iceberg::TableMetadata;

/// What a client is answered.
#[derive(Debug)]
pub(super) enum Reply {
    Json(Value),
    /// Done, and nothing to say: 204.
    Empty,
    Error(u16, Value),
}

/// What a request was about, where the specification has several names for one condition.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Words {
    /// The path names a view.
    view: bool,
    /// It commits changes to tables.
    commit: bool,
}

impl Words {
    pub fn of(method: &Method, path: &[String]) -> Self {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let commit = matches!(path[..], [_, "namespaces", _, "tables", _] | [_, "transactions", "commit"]);
        Self {
            view: matches!(path[..], [_, "namespaces", _, "views", ..]),
            commit: commit && method == Method::POST,
        }
    }
}

impl Reply {
    /// A table as clients load it.
    pub fn table(metadata: &TableMetadata, is_staged: bool) -> Result<Self, Error> {
        let json = serde_json::to_value(metadata).map_err(|error| Error::Internal(error.to_string()))?;
        Ok(Self::Json(match is_staged {
            true => json!({"metadata": json, "config": {}}),
            false => json!({"metadata-location": metadata.url, "metadata": json, "config": {}}),
        }))
    }

    pub fn error(error: &Error, words: Words) -> Self {
        let (code, kind) = code_of(error, words);
        let message = [Some(error.to_string()), error.detail()].into_iter().flatten().collect::<Vec<_>>();
        let sqlstate = error.sqlstate();
        let message = format!("{} ({sqlstate})", message.join(". "));
        Self::Error(code, json!({"error": {"message": message, "type": kind, "code": code}}))
    }

    /// An error in the words of OAuth.
    pub fn oauth_error(code: u16, error: &str, description: &str) -> Self {
        Self::Error(code, json!({"error": error, "error_description": description}))
    }

    pub fn into_response(self, is_head: bool) -> Response {
        let (code, json) = match self {
            Self::Empty => (StatusCode::NO_CONTENT, None),
            Self::Json(_) if is_head => (StatusCode::NO_CONTENT, None),
            Self::Json(json) => (StatusCode::OK, Some(json)),
            Self::Error(code, json) => {
                let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                (code, Some(json).filter(|_| !is_head))
            }
        };
        let body = json.map_or_else(Body::empty, |json| Body::from(json.to_string()));
        let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
        let mut response = (code, headers, body).into_response();
        if code == StatusCode::UNAUTHORIZED {
            let basic = axum::http::HeaderValue::from_static("Basic realm=\"lacus\", charset=\"UTF-8\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, basic);
        }
        response
    }
}

/// The status and the specification's name of an error.
fn code_of(error: &Error, words: Words) -> (u16, &'static str) {
    match error {
        Error::TableNotFound(_) if words.view => (404, "NoSuchViewException"),
        Error::TableNotFound(_) => (404, "NoSuchTableException"),
        Error::SchemaNotFound(_) => (404, "NoSuchNamespaceException"),
        Error::CatalogNotFound(_) => (404, "NoSuchWarehouseException"),
        Error::AlreadyExists { kind: "relation" | "table", .. } if words.commit => {
            (409, "CommitFailedException")
        }
        Error::AlreadyExists { kind: "column", .. } => (400, "BadRequestException"),
        Error::AlreadyExists { .. } => (409, "AlreadyExistsException"),
        Error::DependentObjects { .. } => (409, "NamespaceNotEmptyException"),
        Error::CommitConflict { .. } => (409, "CommitFailedException"),
        Error::CommitUnknown(_) | Error::Timeout(_) | Error::Cancelled => {
            (504, "CommitStateUnknownException")
        }
        Error::Unsupported(_) => (406, "UnsupportedOperationException"),
        Error::AuthenticationFailed(_) | Error::InvalidAuthorization(_) => (401, "NotAuthorizedException"),
        Error::PermissionDenied(_) | Error::ReadOnly(_) => (403, "ForbiddenException"),
        Error::LimitExceeded(_) => (413, "BadRequestException"),
        Error::Shutdown | Error::TooManyConnections(_) | Error::Storage(_) | Error::DiskFull(_) => {
            (503, "ServiceUnavailableException")
        }
        Error::InvalidParameter(_)
        | Error::InvalidDefinition(_)
        | Error::WrongObjectType { .. }
        | Error::DatatypeMismatch(_)
        | Error::NotNullViolation { .. }
        | Error::CheckViolation { .. }
        | Error::UniqueViolation { .. }
        | Error::Syntax { .. } => (400, "BadRequestException"),
        _ => (500, "InternalServerError"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_names_of_the_specification() {
        let name = |error: &Error, method: Method, path: &str| {
            let path: Vec<String> = path.split('/').map(str::to_owned).collect();
            match Reply::error(error, Words::of(&method, &path)) {
                Reply::Error(code, json) => (code, json["error"]["type"].as_str().unwrap().to_owned()),
                other => panic!("{other:?}"),
            }
        };
        let missing = Error::TableNotFound("t".into());
        let table = "lake/namespaces/s/tables/t";
        assert_eq!(name(&missing, Method::GET, table), (404, "NoSuchTableException".into()));
        let view = "lake/namespaces/s/views/t";
        assert_eq!(name(&missing, Method::GET, view), (404, "NoSuchViewException".into()));
        let exists = Error::AlreadyExists { kind: "relation", name: "t".into() };
        assert_eq!(name(&exists, Method::POST, table), (409, "CommitFailedException".into()));
        let tables = "lake/namespaces/s/tables";
        assert_eq!(name(&exists, Method::POST, tables), (409, "AlreadyExistsException".into()));
        let unclear = Error::CommitUnknown(String::new());
        assert_eq!(name(&unclear, Method::POST, table), (504, "CommitStateUnknownException".into()));
    }
}
