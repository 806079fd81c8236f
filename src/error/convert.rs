//! How foreign errors become ours. The only `From<DataFusionError>` of the crate.

use arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::common::utils::datafusion_strsim::levenshtein;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;
use parquet::errors::ParquetError;

use super::Error;

impl From<Error> for DataFusionError {
    /// Wraps ours as `External`, from where `From<DataFusionError>` finds it again.
    fn from(error: Error) -> Self {
        Self::External(Box::new(error))
    }
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        match error {
            DataFusionError::External(inner) => from_boxed(inner),
            DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => (*inner).into(),
            DataFusionError::Collection(errors) => match errors.into_iter().next() {
                Some(first) => first.into(),
                None => Self::Internal("an empty collection of errors".to_owned()),
            },
            DataFusionError::Shared(shared) => from_shared(&shared),
            DataFusionError::ArrowError(inner, _) => (*inner).into(),
            DataFusionError::ParquetError(inner) => (*inner).into(),
            DataFusionError::ObjectStore(inner) => (*inner).into(),
            DataFusionError::IoError(inner) => inner.into(),
            DataFusionError::SQL(inner, _) => (*inner).into(),
            DataFusionError::SchemaError(inner, _) => from_schema_error(*inner),
            DataFusionError::NotImplemented(message) => Self::Unsupported(tidy(&message)),
            DataFusionError::Plan(message) => from_plan(&message),
            DataFusionError::Configuration(message) => Self::InvalidParameter(tidy(&message)),
            DataFusionError::Execution(message) => from_execution(&message),
            DataFusionError::ResourcesExhausted(message) => from_exhausted(&message),
            DataFusionError::ExecutionJoin(inner) if inner.is_cancelled() => Self::Cancelled,
            DataFusionError::ExecutionJoin(inner) => Self::Internal(inner.to_string()),
            DataFusionError::Internal(message)
            | DataFusionError::Substrait(message)
            | DataFusionError::Ffi(message) => Self::Internal(tidy(&message)),
        }
    }
}

impl From<ArrowError> for Error {
    fn from(error: ArrowError) -> Self {
        match error {
            ArrowError::DivideByZero => Self::DivisionByZero,
            ArrowError::ArithmeticOverflow(message) => {
                let text = tidy(&message);
                Self::OutOfRange(integer_overflow(&text).unwrap_or(text))
            }
            ArrowError::CastError(message) => from_cast(&message),
            ArrowError::ParseError(message) => from_cast(&message),
            ArrowError::CsvError(message)
            | ArrowError::JsonError(message)
            | ArrowError::AvroError(message)
            | ArrowError::IpcError(message) => Self::BadData(tidy(&message)),
            ArrowError::ParquetError(reason) => Self::CorruptFile { path: "unknown".to_owned(), reason },
            ArrowError::ExternalError(inner) => from_boxed(inner),
            ArrowError::IoError(_, inner) => inner.into(),
            ArrowError::MemoryError(message) => Self::OutOfMemory(message),
            ArrowError::NotYetImplemented(message) => Self::Unsupported(tidy(&message)),
            ArrowError::InvalidArgumentError(message) | ArrowError::ComputeError(message) => {
                from_execution(&message)
            }
            ArrowError::OffsetOverflowError(_)
            | ArrowError::DictionaryKeyOverflowError
            | ArrowError::RunEndIndexOverflowError => {
                Self::LimitExceeded("a column of one batch holds more than 2 GiB".to_owned())
            }
            ArrowError::SchemaError(message) | ArrowError::CDataInterface(message) => Self::Internal(message),
        }
    }
}

impl From<ParquetError> for Error {
    fn from(error: ParquetError) -> Self {
        match error {
            ParquetError::External(inner) => from_boxed(inner),
            other => Self::CorruptFile { path: "unknown".to_owned(), reason: other.to_string() },
        }
    }
}

impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        use object_store::Error as Store;
        match error {
            Store::NotFound { path, .. } => Self::FileNotFound(path),
            Store::PermissionDenied { path, source } => match source.downcast::<Self>() {
                Ok(ours) => *ours,
                Err(_) => Self::PermissionDenied(format!("the store refuses \"{path}\"")),
            },
            Store::Unauthenticated { path, .. } => {
                Self::Storage(format!("the store does not accept the credentials for \"{path}\""))
            }
            Store::Generic { store, source } => match source.downcast::<Self>() {
                Ok(ours) => *ours,
                Err(source) => Self::Storage(format!("{store}: {source}")),
            },
            other => Self::Storage(other.to_string()),
        }
    }
}

impl From<std::io::Error> for Error {
    /// The cause may lie within: DataFusion's spill files wrap theirs in an error of another kind.
    fn from(error: std::io::Error) -> Self {
        match from_io(&error) {
            Self::Storage(text) => error.into_inner().map_or(Self::Storage(text), from_boxed),
            known => known,
        }
    }
}

/// An I/O error by its kind, or by what it wraps.
fn from_io(error: &std::io::Error) -> Error {
    match (error.kind(), error.get_ref()) {
        (std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded, _) => {
            Error::DiskFull(error.to_string())
        }
        (std::io::ErrorKind::NotFound, _) => Error::FileNotFound(error.to_string()),
        (std::io::ErrorKind::OutOfMemory, _) => Error::OutOfMemory(error.to_string()),
        (_, Some(inner)) => from_shared_boxed(inner),
        (_, None) => Error::Storage(error.to_string()),
    }
}

impl From<ParserError> for Error {
    fn from(error: ParserError) -> Self {
        let message = match error {
            ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
            ParserError::RecursionLimitExceeded => {
                return Self::LimitExceeded("the statement is nested too deeply".to_owned());
            }
        };
        Self::Syntax { message: tidy(&message), position: None }
    }
}

/// Finds one of ours, or of DataFusion's, in a boxed error.
fn from_boxed(inner: Box<dyn std::error::Error + Send + Sync>) -> Error {
    let inner = match inner.downcast::<Error>() {
        Ok(ours) => return *ours,
        Err(inner) => inner,
    };
    let inner = match inner.downcast::<DataFusionError>() {
        Ok(nested) => return (*nested).into(),
        Err(inner) => inner,
    };
    let inner = match inner.downcast::<ArrowError>() {
        Ok(nested) => return (*nested).into(),
        Err(inner) => inner,
    };
    let inner = match inner.downcast::<ParquetError>() {
        Ok(nested) => return (*nested).into(),
        Err(inner) => inner,
    };
    match inner.downcast::<object_store::Error>() {
        Ok(nested) => (*nested).into(),
        Err(inner) => match inner.downcast::<std::io::Error>() {
            Ok(nested) => (*nested).into(),
            Err(inner) => from_text(&inner.to_string()),
        },
    }
}

/// An error that is nothing but its text. DataFusion reports a reached spill limit so.
fn from_text(text: &str) -> Error {
    const SPILL_LIMIT: &str = "disk space during the spilling process has exceeded the allowable limit of ";
    match text.split_once(SPILL_LIMIT) {
        Some((_, rest)) => {
            let limit = rest.split(". ").next().unwrap_or(rest);
            Error::DiskFull(format!("the spill files of all queries have reached their limit of {limit}"))
        }
        None => Error::Storage(text.to_owned()),
    }
}

/// An error that several consumers hold cannot be taken apart, so its kind is read by reference.
fn from_shared(error: &DataFusionError) -> Error {
    match error {
        DataFusionError::Shared(inner) => from_shared(inner),
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => from_shared(inner),
        DataFusionError::ArrowError(inner, _) => match inner.as_ref() {
            ArrowError::ExternalError(inner) => from_shared_boxed(inner.as_ref()),
            ArrowError::DivideByZero => Error::DivisionByZero,
            ArrowError::ArithmeticOverflow(message) => {
                let text = tidy(message);
                Error::OutOfRange(integer_overflow(&text).unwrap_or(text))
            }
            ArrowError::CastError(message) => from_cast(message),
            ArrowError::ParseError(message) => from_cast(message),
            ArrowError::CsvError(message) | ArrowError::JsonError(message) => Error::BadData(tidy(message)),
            ArrowError::IoError(_, inner) => from_io(inner),
            other => Error::BadData(other.to_string()),
        },
        DataFusionError::IoError(inner) => from_io(inner),
        DataFusionError::ResourcesExhausted(message) => from_exhausted(message),
        DataFusionError::Execution(message) => from_execution(message),
        DataFusionError::External(inner) => from_shared_boxed(inner.as_ref()),
        DataFusionError::ParquetError(inner) => {
            Error::CorruptFile { path: "unknown".to_owned(), reason: inner.to_string() }
        }
        DataFusionError::NotImplemented(message) => Error::Unsupported(tidy(message)),
        DataFusionError::Plan(message) => from_plan(message),
        DataFusionError::ObjectStore(inner) => Error::Storage(inner.to_string()),
        other => Error::Storage(other.strip_backtrace()),
    }
}

fn from_shared_boxed(inner: &(dyn std::error::Error + Send + Sync + 'static)) -> Error {
    if let Some(nested) = inner.downcast_ref::<DataFusionError>() {
        return from_shared(nested);
    }
    if let Some(nested) = inner.downcast_ref::<std::io::Error>() {
        return from_io(nested);
    }
    match inner.downcast_ref::<Error>() {
        Some(ours) => ours.clone(),
        None => match inner.downcast_ref::<ArrowError>() {
            Some(ArrowError::ExternalError(inner)) => from_shared_boxed(inner.as_ref()),
            Some(ArrowError::IoError(_, inner)) => from_io(inner),
            _ => from_text(&inner.to_string()),
        },
    }
}

fn from_schema_error(error: SchemaError) -> Error {
    match error {
        SchemaError::AmbiguousReference { field } => Error::AmbiguousColumn(field.name),
        SchemaError::DuplicateQualifiedField { name, .. }
        | SchemaError::DuplicateUnqualifiedField { name } => Error::AmbiguousColumn(name),
        SchemaError::FieldNotFound { field, valid_fields } => Error::ColumnNotFound {
            candidates: nearest(&field.name, valid_fields.iter().map(|column| column.name.as_str())),
            name: field.flat_name(),
        },
    }
}

/// The names most like a name that was not found.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    const SHOWN: usize = 3;
    let distance = |known: &str| levenshtein(&name.to_lowercase(), &known.to_lowercase());
    let mut near: Vec<(usize, &str)> = known.map(|known| (distance(known), known)).collect();
    near.retain(|(distance, known)| *distance * 2 <= known.len().max(name.len()));
    near.sort_unstable();
    near.dedup();
    near.into_iter().take(SHOWN).map(|(_, known)| known.to_owned()).collect()
}

/// DataFusion tells planning failures apart only by their text.
fn from_plan(message: &str) -> Error {
    let text = tidy(message);
    let lower = text.to_lowercase();
    if lower.contains("division by zero") || lower.contains("divide by zero") {
        return Error::DivisionByZero;
    }
    if let Some(name) = lower.strip_prefix("invalid function '").and_then(|rest| rest.split('\'').next()) {
        return Error::FunctionNotFound(format!("function {name} does not exist"));
    }
    if let Some((_, ours)) = text.split_once("coercion failed with: External error: ") {
        let ours = ours.split(". No function matches").next().unwrap_or(ours);
        return Error::FunctionNotFound(ours.to_owned());
    }
    if lower.contains("invalid function") || lower.contains("no function matches") {
        return Error::FunctionNotFound(text);
    }
    if lower.contains("must appear in the group by clause") {
        let named = text.find("column \"").and_then(|at| text[at..].split('"').nth(1));
        return Error::Grouping(named.unwrap_or(&text).to_owned());
    }
    if let Some(name) = text.strip_prefix("invalid qualifier ") {
        return Error::TableNotFound(name.to_owned());
    }
    if lower.starts_with("table function") && lower.ends_with("not found") {
        return Error::FunctionNotFound(text);
    }
    if let Some(name) = text.strip_prefix("table '").and_then(|rest| rest.strip_suffix("' not found")) {
        return Error::TableNotFound(name.to_owned());
    }
    if lower.contains("cannot coerce") || lower.contains("cannot infer common") || lower.contains("type") {
        return Error::DatatypeMismatch(text);
    }
    Error::Planning(text)
}

fn from_execution(message: &str) -> Error {
    let text = tidy(message);
    let lower = text.to_lowercase();
    if lower.contains("divide by zero") || lower.contains("division by zero") {
        return Error::DivisionByZero;
    }
    if lower.contains("too large to store") {
        return Error::OutOfRange(format!("numeric field overflow: {text}"));
    }
    if lower.contains("overflow") || lower.contains("out of range") {
        return Error::OutOfRange(integer_overflow(&text).unwrap_or(text));
    }
    if let Some((_, rest)) = text.split_once("laceholder '").filter(|_| lower.contains("not provided")) {
        let name = rest.split('\'').next().unwrap_or_default();
        return Error::UndefinedParameter(format!("there is no parameter {name}"));
    }
    if lower.contains("more than one row") || lower.contains("scalar subquery") {
        return Error::Cardinality(text);
    }
    if lower.contains("cast") || lower.contains("parse") || lower.contains("parsing") {
        return from_cast(&text);
    }
    Error::InvalidParameter(text)
}

/// PostgreSQL's words for integers that Arrow itself found too large: by `abs`, or divided by -1.
fn integer_overflow(message: &str) -> Option<String> {
    let lower = message.to_lowercase();
    let name = if let Some((array, _)) = lower.split_once("array overflow on abs(") {
        let arrow = ["Int16", "Int32", "Int64"].into_iter().find(|name| name.eq_ignore_ascii_case(array))?;
        type_name(arrow)
    } else {
        let operands = lower.strip_prefix("overflow happened on: ")?;
        let (dividend, _) = operands.split_once(" / ")?;
        // The one dividend that overflows is the least of its type.
        match dividend.parse::<i64>().ok()? {
            value if value == i64::from(i16::MIN) => "smallint",
            value if value == i64::from(i32::MIN) => "integer",
            _ => "bigint",
        }
    };
    Some(format!("{name} out of range"))
}

fn from_cast(message: &str) -> Error {
    let text = tidy(message);
    let lower = text.to_lowercase();
    if let Some(error) = from_text_cast(&text) {
        return error;
    }
    if let Some(name) =
        lower.starts_with("can't cast value").then(|| text.rsplit("to type ").next()).flatten()
    {
        return Error::OutOfRange(format!("{} out of range", type_name(name)));
    }
    if lower.contains("too large") || lower.contains("out of range") {
        return Error::OutOfRange(text);
    }
    if lower.contains("not supported") {
        return Error::DatatypeMismatch(text);
    }
    Error::InvalidText(text)
}

/// A text that is no value of the type it is cast to, in PostgreSQL's words.
fn from_text_cast(message: &str) -> Option<Error> {
    if message.starts_with("invalid input syntax for type interval") {
        return Some(Error::InvalidDatetime(message.to_owned()));
    }
    if let Some(rest) = message.strip_prefix("error parsing timestamp from '") {
        let text = rest.rsplit_once("': ").map_or(rest, |(text, _)| text);
        return Some(Error::InvalidDatetime(format!("invalid input syntax for type timestamp: \"{text}\"")));
    }
    let rest =
        ["cannot cast string '", "cannot cast value '"].iter().find_map(|it| message.strip_prefix(it))?;
    let (text, rest) = rest.rsplit_once("' to value of ")?;
    let name = type_name(rest.strip_suffix(" type")?);
    let wrong = format!("invalid input syntax for type {name}: \"{text}\"");
    Some(match name {
        "smallint" | "integer" | "bigint" if text.trim().parse::<i128>().is_ok() => {
            Error::OutOfRange(format!("value \"{text}\" is out of range for type {name}"))
        }
        "date" if text.chars().all(|c| c.is_ascii_digit() || c == '-') && text.len() > 7 => {
            Error::DatetimeOverflow(format!("date/time field value out of range: \"{text}\""))
        }
        "date" | "time" | "timestamp" => Error::InvalidDatetime(wrong),
        _ => Error::InvalidText(wrong),
    })
}

/// What PostgreSQL calls an Arrow type.
fn type_name(arrow: &str) -> &str {
    match arrow {
        "Boolean" => "boolean",
        "Int16" => "smallint",
        "Int32" => "integer",
        "Int64" => "bigint",
        "Float32" => "real",
        "Float64" => "double precision",
        "Date32" => "date",
        _ if arrow.starts_with("Decimal") => "numeric",
        _ if arrow.starts_with("Time32") || arrow.starts_with("Time64") => "time",
        _ if arrow.starts_with("Timestamp") => "timestamp",
        _ => arrow,
    }
}

fn from_exhausted(message: &str) -> Error {
    let text = tidy(message);
    if text.contains("disk space") { Error::DiskFull(text) } else { Error::OutOfMemory(text) }
}

/// The first line of a message, without the prefixes and appeals that crates put around it.
fn tidy(message: &str) -> String {
    const PREFIXES: [&str; 8] = [
        "Arrow error: ",
        "Cast error: ",
        "Parser error: ",
        "sql parser error: ",
        "Execution error: ",
        "Error during planning: ",
        "Compute error: ",
        "Invalid argument error: ",
    ];
    let mut text = message.lines().next().unwrap_or_default().trim();
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)) {
        text = rest;
    }
    let mut chars = text.chars();
    match chars.next() {
        Some(first) if !chars.as_str().starts_with(char::is_uppercase) => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}
