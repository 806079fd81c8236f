use std::sync::Arc;
use datafusion::catalog::TableProvider;
use crate::catalog::Browse;
use crate::function::SessionFacts;
pub fn table(_: Arc<dyn Browse>, _: Arc<SessionFacts>, _: &str, _: &str, _: &str) -> Option<Arc<dyn TableProvider>> { None }
