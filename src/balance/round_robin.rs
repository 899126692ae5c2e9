//! Round robin.
use super::*;
/// One after the other.
#[derive(Debug, Default)]
pub struct RoundRobin;
impl LoadBalancer for RoundRobin {
    fn pick(&self, _: &[Arc<Backend>], _: &dyn Fn(&Backend) -> bool) -> Option<BackendGuard> { None }
}
