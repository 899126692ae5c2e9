//! Least connections.
use super::*;
/// Fewest in flight.
#[derive(Debug, Default)]
pub struct LeastConnections;
impl LoadBalancer for LeastConnections {
    fn pick(&self, _: &[Arc<Backend>], _: &dyn Fn(&Backend) -> bool) -> Option<BackendGuard> { None }
}
