//! Decoding: the rows of a container as [`Value`]s, by the schema that stands in it.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use flate2::read::DeflateDecoder;
use serde_json::Value as Json;

use super::MAGIC;

/// A block that inflates to more than this is refused.
const BLOCK_BYTES_MAX: u64 = 256 << 20;

/// What went wrong, for the `reason` of a corrupt file.
type Result<T, E = String> = std::result::Result<T, E>;

/// A decoded value. Ints, longs and enums are `Long`; strings, bytes and fixed are `Bytes`.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) enum Value {
    Null,
    Boolean(bool),
    Long(i64),
    Float(f32),
    Double(f64),
    Bytes(Vec<u8>),
    Array(Vec<Value>),
    Record(Vec<Value>),
}

/// Where the fields of a record stand, by Iceberg's field id.
#[derive(Debug, Default)]
pub(in super::super) struct Columns {
    by_id: HashMap<i32, usize>,
    by_name: HashMap<String, usize>,
    nested: Vec<Option<Arc<Columns>>>,
}

impl Columns {
    /// Moves the field with this id out of `record`; `Null` when the file has no such field.
    pub fn take(&self, record: &mut [Value], id: i32) -> Value {
        self.by_id.get(&id).map_or(Value::Null, |&at| std::mem::replace(&mut record[at], Value::Null))
    }

    /// Moves the field with this id out, or else the one by that name that carries no id.
    pub fn take_or_named(&self, record: &mut [Value], id: i32, name: &str) -> Value {
        let at = self.by_id.get(&id).or_else(|| self.by_name.get(name));
        at.map_or(Value::Null, |&at| std::mem::replace(&mut record[at], Value::Null))
    }

    /// Returns the fields of the record (or of the array's records) that the field with this id holds.
    pub fn of(&self, id: i32) -> Option<&Columns> {
        self.nested[*self.by_id.get(&id)?].as_deref()
    }
}

/// Decodes every row of the container `bytes`, in order, and hands it to `each`.
///
/// # Errors
/// The reason, when the bytes are no Avro container, are cut short, or `each` refuses a row.
pub(in super::super) fn read(
    bytes: &[u8],
    mut each: impl FnMut(&Columns, Vec<Value>) -> Result<()>,
) -> Result<()> {
    let mut input = Input(bytes);
    if input.take(4)? != MAGIC {
        return Err("it is not an Avro file".to_owned());
    }
    let header = input.header()?;
    let marker = input.take(16)?;
    let Type::Record(record) = header.schema()? else {
        return Err("its rows are no records".to_owned());
    };
    while !input.0.is_empty() {
        let row_count = input.long()?;
        let block = input.counted()?;
        let block = header.inflate(block)?;
        if row_count.unsigned_abs() > block.len() as u64 {
            return Err("it holds a count of more rows than bytes".to_owned());
        }
        let mut rows = Input(&block);
        for _ in 0..row_count {
            each(&record.columns, rows.record(&record)?)?;
        }
        if input.take(16)? != marker {
            return Err("a block does not end in the file's marker".to_owned());
        }
    }
    Ok(())
}

/// The part of a schema that decoding needs.
#[derive(Debug, Clone)]
enum Type {
    Null,
    Boolean,
    Long,
    Float,
    Double,
    Bytes,
    Fixed(usize),
    Array(Arc<Type>),
    Map(Arc<Type>),
    Union(Arc<[Type]>),
    Record(Arc<Record>),
}

#[derive(Debug)]
struct Record {
    fields: Vec<Type>,
    columns: Arc<Columns>,
}

impl Type {
    fn parse(json: &Json, names: &mut HashMap<String, Type>) -> Result<Self> {
        match json {
            Json::String(name) => Self::named(name, names),
            Json::Array(variants) => {
                let variants: Result<Vec<_>> = variants.iter().map(|json| Self::parse(json, names)).collect();
                Ok(Self::Union(variants?.into()))
            }
            Json::Object(_) => match &json["type"] {
                Json::String(name) => Self::complex(name, json, names),
                nested => Self::parse(nested, names),
            },
            other => Err(format!("its schema holds {other} for a type")),
        }
    }

    fn complex(name: &str, json: &Json, names: &mut HashMap<String, Type>) -> Result<Self> {
        match name {
            "record" => Self::record(json, names),
            "array" => Ok(Self::Array(Arc::new(Self::parse(&json["items"], names)?))),
            "map" => Ok(Self::Map(Arc::new(Self::parse(&json["values"], names)?))),
            "enum" => Ok(Self::remember(json, Self::Long, names)),
            "fixed" => {
                let size = json["size"].as_u64().and_then(|size| usize::try_from(size).ok());
                let size = size.ok_or("its schema holds a fixed type without a size")?;
                Ok(Self::remember(json, Self::Fixed(size), names))
            }
            primitive => Self::named(primitive, names),
        }
    }

    fn record(json: &Json, names: &mut HashMap<String, Type>) -> Result<Self> {
        let mut fields = Vec::new();
        let mut columns = Columns::default();
        for (at, field) in json["fields"].as_array().into_iter().flatten().enumerate() {
            let kind = Self::parse(&field["type"], names)?;
            if let Some(id) = field["field-id"].as_i64().and_then(|id| i32::try_from(id).ok()) {
                columns.by_id.insert(id, at);
            } else if let Some(name) = field["name"].as_str() {
                columns.by_name.insert(name.to_owned(), at);
            }
            columns.nested.push(kind.columns());
            fields.push(kind);
        }
        let record = Self::Record(Arc::new(Record { fields, columns: Arc::new(columns) }));
        Ok(Self::remember(json, record, names))
    }

    fn remember(json: &Json, kind: Self, names: &mut HashMap<String, Type>) -> Self {
        if let Some(name) = json["name"].as_str() {
            names.insert(name.to_owned(), kind.clone());
        }
        kind
    }

    fn named(name: &str, names: &HashMap<String, Type>) -> Result<Self> {
        Ok(match name {
            "null" => Self::Null,
            "boolean" => Self::Boolean,
            "int" | "long" => Self::Long,
            "float" => Self::Float,
            "double" => Self::Double,
            "bytes" | "string" => Self::Bytes,
            other => names.get(other).cloned().ok_or(format!("its schema names no type \"{other}\""))?,
        })
    }

    fn columns(&self) -> Option<Arc<Columns>> {
        match self {
            Self::Record(record) => Some(record.columns.clone()),
            Self::Array(item) => item.columns(),
            Self::Union(variants) => variants.iter().find_map(Self::columns),
            _ => None,
        }
    }
}

struct Header(HashMap<Vec<u8>, Vec<u8>>);

impl Header {
    fn schema(&self) -> Result<Type> {
        let json = self.0.get(b"avro.schema".as_slice()).ok_or("it carries no schema")?;
        let json =
            serde_json::from_slice(json).map_err(|error| format!("its schema is not JSON: {error}"))?;
        Type::parse(&json, &mut HashMap::new())
    }

    fn inflate<'a>(&self, block: &'a [u8]) -> Result<std::borrow::Cow<'a, [u8]>> {
        match self.0.get(b"avro.codec".as_slice()).map(Vec::as_slice) {
            None | Some(b"null") => Ok(block.into()),
            Some(b"deflate") => {
                let mut plain = Vec::new();
                let mut decoder = DeflateDecoder::new(block).take(BLOCK_BYTES_MAX);
                decoder.read_to_end(&mut plain).map_err(|error| format!("a block is damaged: {error}"))?;
                Ok(plain.into())
            }
            Some(other) => {
                Err(format!("it is compressed with {}, not deflate", String::from_utf8_lossy(other)))
            }
        }
    }
}

/// The bytes not yet decoded.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count).ok_or("it is cut short")?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("take returns as many bytes as were asked for"))
    }

    /// A zig-zag integer of seven bits a byte.
    fn long(&mut self) -> Result<i64> {
        let mut bits = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            bits |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((bits >> 1) as i64 ^ -((bits & 1) as i64));
            }
        }
        Err("it holds an integer of more than 64 bits".to_owned())
    }

    fn counted(&mut self) -> Result<&'a [u8]> {
        let count = usize::try_from(self.long()?).map_err(|_| "it holds a negative length")?;
        self.take(count)
    }

    fn header(&mut self) -> Result<Header> {
        let mut entries = HashMap::new();
        self.blocks(|input| {
            entries.insert(input.counted()?.to_vec(), input.counted()?.to_vec());
            Ok(())
        })?;
        Ok(Header(entries))
    }

    /// The items of an array or map: blocks of a count (negative when a size follows) up to a zero.
    fn blocks(&mut self, mut item: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        loop {
            let mut count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                self.long()?;
                count = count.checked_neg().ok_or("it holds an impossible count")?;
            }
            if count as u64 > self.0.len() as u64 {
                return Err("it holds a count of more items than bytes".to_owned());
            }
            for _ in 0..count {
                item(self)?;
            }
        }
    }

    fn record(&mut self, record: &Record) -> Result<Vec<Value>> {
        record.fields.iter().map(|field| self.value(field)).collect()
    }

    fn value(&mut self, kind: &Type) -> Result<Value> {
        Ok(match kind {
            Type::Null => Value::Null,
            Type::Boolean => Value::Boolean(self.take(1)? != [0]),
            Type::Long => Value::Long(self.long()?),
            Type::Float => Value::Float(f32::from_le_bytes(self.array()?)),
            Type::Double => Value::Double(f64::from_le_bytes(self.array()?)),
            Type::Bytes => Value::Bytes(self.counted()?.to_vec()),
            Type::Fixed(size) => Value::Bytes(self.take(*size)?.to_vec()),
            Type::Record(record) => Value::Record(self.record(record)?),
            Type::Array(item) => {
                let mut items = Vec::new();
                self.blocks(|input| Ok(items.push(input.value(item)?)))?;
                Value::Array(items)
            }
            Type::Map(item) => {
                let mut items = Vec::new();
                self.blocks(|input| {
                    let key = Value::Bytes(input.counted()?.to_vec());
                    Ok(items.push(Value::Record(vec![key, input.value(item)?])))
                })?;
                Value::Array(items)
            }
            Type::Union(variants) => {
                let variant = usize::try_from(self.long()?).ok().and_then(|at| variants.get(at));
                self.value(variant.ok_or("it chooses a variant that its schema does not have")?)?
            }
        })
    }
}
