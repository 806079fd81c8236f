//! Values to text, as PostgreSQL's output functions write them.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::encode_options;
use crate::error::Error;
use crate::function::SessionFacts;
use crate::value::output::{self, Cells, EncodeOptions, Target};
use crate::value::types::{self, Format};

/// Rows whose texts are held twice at a time.
const RUN_ROWS: usize = 1024;

/// Whether Arrow's text of such values is not PostgreSQL's.
pub fn differs(from: &DataType) -> bool {
    use DataType::*;
    match from {
        Float16 | Float32 | Float64 | Date32 | Date64 | Time32(_) | Time64(_) | Timestamp(..) => true,
        Interval(_) | Duration(_) | Binary | LargeBinary | BinaryView | FixedSizeBinary(_) => true,
        List(_) | LargeList(_) | ListView(_) | LargeListView(_) | FixedSizeList(..) => true,
        Struct(_) | Map(..) | Union(..) => true,
        Dictionary(_, value) => differs(value),
        _ => false,
    }
}

/// The cast of anything to a text type, in the style of a session.
pub fn function(to: &DataType, facts: &Arc<SessionFacts>) -> Arc<ScalarUDF> {
    let signature = Signature::any(1, Volatility::Stable);
    Arc::new(ScalarUDF::new_from_impl(Text { to: to.clone(), facts: Arc::clone(facts), signature }))
}

#[derive(Debug)]
struct Text {
    to: DataType,
    facts: Arc<SessionFacts>,
    signature: Signature,
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.to == other.to && Arc::ptr_eq(&self.facts, &other.facts)
    }
}

impl Eq for Text {}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.to.hash(state);
    }
}

impl ScalarUDFImpl for Text {
    fn name(&self) -> &str {
        "text"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let options = encode_options(&self.facts)?;
        let field = &args.arg_fields[0];
        let printed = |array: &ArrayRef| -> Result<ArrayRef> {
            let texts = texts(array, field, &options)?;
            Ok(if self.to == DataType::Utf8 { texts } else { cast(&texts, &self.to)? })
        };
        match &args.args[0] {
            ColumnarValue::Array(array) => Ok(ColumnarValue::Array(printed(array)?)),
            ColumnarValue::Scalar(scalar) => {
                let text = printed(&scalar.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&text, 0)?))
            }
        }
    }
}

/// The texts of an array whose field says which PostgreSQL type it is.
///
/// # Errors
/// Values beyond the PostgreSQL type.
fn texts(array: &ArrayRef, field: &FieldRef, options: &EncodeOptions) -> Result<ArrayRef, Error> {
    let array = output::plain(array)?;
    let target = Target { oid: types::pg_type(field).oid, format: Format::Text, options };
    let mut cells = Cells::default();
    let mut texts = StringBuilder::with_capacity(array.len(), array.len() * 16);
    for start in (0..array.len()).step_by(RUN_ROWS) {
        cells.clear();
        let end = array.len().min(start + RUN_ROWS);
        output::write(&mut cells, &array, start..end, target)?;
        for row in 0..cells.len() {
            let text = cells.value(row).map(|bytes| std::str::from_utf8(bytes).unwrap_or_default());
            texts.append_option(text);
        }
    }
    Ok(Arc::new(texts.finish()))
}

/// One value as PostgreSQL prints it under its default settings, in UTC; none for null.
pub fn of_scalar(value: &ScalarValue) -> Option<String> {
    let array = value.to_array().ok()?;
    let field = Arc::new(Field::new("value", array.data_type().clone(), true));
    let texts = texts(&array, &field, &EncodeOptions::default()).ok()?;
    match ScalarValue::try_from_array(&texts, 0) {
        Ok(ScalarValue::Utf8(text)) => text,
        _ => None,
    }
}
