//! `length`: the characters of a text, the bytes of a bytea.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array};
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::functions::unicode::character_length;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// The function.
pub(super) fn length() -> Arc<ScalarUDF> {
    let signature = Signature::user_defined(Volatility::Immutable);
    Arc::new(ScalarUDF::new_from_impl(Length { of_text: character_length(), signature }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Length {
    of_text: Arc<ScalarUDF>,
    signature: Signature,
}

fn is_bytes(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_)
    )
}

impl ScalarUDFImpl for Length {
    fn name(&self) -> &str {
        "length"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [bytes] if is_bytes(bytes) => Ok(vec![DataType::Binary]),
            [text @ (DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)] => Ok(vec![text.clone()]),
            [_] => Ok(vec![DataType::Utf8]),
            _ => datafusion::common::plan_err!("function length takes one argument, not {}", types.len()),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int32)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if !is_bytes(&args.args[0].data_type()) {
            return self.of_text.invoke_with_args(args)?.cast_to(&DataType::Int32, None);
        }
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        let lengths = columns[0].as_binary::<i32>().iter().map(|value| Some(value?.len() as i32));
        let lengths: ArrayRef = Arc::new(lengths.collect::<Int32Array>());
        match &args.args[0] {
            ColumnarValue::Scalar(_) => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&lengths, 0)?)),
            ColumnarValue::Array(_) => Ok(ColumnarValue::Array(lengths)),
        }
    }
}
