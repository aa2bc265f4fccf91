//! One request, taken apart.

use http::{HeaderMap, Request};

use super::query::Query;

/// What a resource gets to see of a request; its path is in the route.
pub(super) struct Call {
    pub(super) query: Query,
    pub(super) headers: HeaderMap,
}

impl Call {
    pub(super) fn of<B>(request: Request<B>) -> Self {
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let (head, _) = request.into_parts();
        Self { query, headers: head.headers }
    }
}
