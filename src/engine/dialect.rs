use datafusion::sql::sqlparser::ast;
pub fn rewrite(_: &mut ast::Statement) -> crate::error::Result<()> { Ok(()) }
