//! Functions that stand in FROM and give rows.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, BooleanArray, IntervalMonthDayNanoArray, RecordBatch, StringArray};
use arrow::datatypes::IntervalMonthDayNano;
use datafusion::catalog::{MemTable, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, plan_err};

struct Keyword {
    word: &'static str,
    category: &'static str,
    bare_label: bool,
}

static KEYWORDS: LazyLock<Vec<Keyword>> = LazyLock::new(|| {
    let lines = include_str!("keywords.txt").lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (word, category, label) = (words.next()?, words.next()?, words.next()?);
            Some(Keyword { word, category, bare_label: label == "t" })
        })
        .collect()
});

static RESERVED: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    KEYWORDS.iter().filter(|keyword| keyword.category != "U").map(|keyword| keyword.word).collect()
});

/// Whether a name must be quoted because it is a key word.
pub(super) fn is_reserved(name: &str) -> bool {
    RESERVED.contains(name)
}

pub(super) fn functions() -> Vec<(&'static str, Arc<dyn TableFunctionImpl>)> {
    let fixed = |rows| -> Arc<dyn TableFunctionImpl> { Arc::new(Fixed { rows }) };
    vec![("pg_get_keywords", fixed(keywords)), ("pg_timezone_names", fixed(timezone_names))]
}

/// A function without arguments whose rows never change.
#[derive(Debug)]
struct Fixed {
    rows: fn() -> Result<RecordBatch>,
}

impl TableFunctionImpl for Fixed {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        if !args.exprs().is_empty() {
            return plan_err!("this function takes no arguments");
        }
        let rows = (self.rows)()?;
        Ok(Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]])?))
    }
}

fn keywords() -> Result<RecordBatch> {
    let described = |keyword: &Keyword| match keyword.category {
        "C" => "unreserved (cannot be function or type name)",
        "T" => "reserved (can be function or type name)",
        "R" => "reserved",
        _ => "unreserved",
    };
    let texts = |of: fn(&Keyword) -> &'static str| -> ArrayRef {
        Arc::new(KEYWORDS.iter().map(|keyword| Some(of(keyword))).collect::<StringArray>())
    };
    let labels: BooleanArray = KEYWORDS.iter().map(|keyword| Some(keyword.bare_label)).collect();
    let label_description = |keyword: &Keyword| match keyword.bare_label {
        true => "can be bare label",
        false => "requires AS",
    };
    Ok(RecordBatch::try_from_iter(vec![
        ("word", texts(|keyword| keyword.word)),
        ("catcode", texts(|keyword| keyword.category)),
        ("barelabel", Arc::new(labels)),
        ("catdesc", texts(described)),
        ("baredesc", texts(label_description)),
    ])?)
}

/// UTC alone: it is the zone of every timestamp that a lake stores. Other zones can be set all the same.
fn timezone_names() -> Result<RecordBatch> {
    let zone = || -> ArrayRef { Arc::new(StringArray::from(vec!["UTC"])) };
    let offset = IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(0, 0, 0)]);
    Ok(RecordBatch::try_from_iter(vec![
        ("name", zone()),
        ("abbrev", zone()),
        ("utc_offset", Arc::new(offset) as ArrayRef),
        ("is_dst", Arc::new(BooleanArray::from(vec![false]))),
    ])?)
}
