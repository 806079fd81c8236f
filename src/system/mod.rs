use crate::catalog::Browse;
use crate::function::SessionFacts;
use datafusion::catalog::TableProvider;
use std::sync::Arc;
pub fn table(
    _: Arc<dyn Browse>,
    _: Arc<SessionFacts>,
    _: &str,
    _: &str,
    _: &str,
) -> Option<Arc<dyn TableProvider>> {
    None
}
