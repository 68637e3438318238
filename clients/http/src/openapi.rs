//! What the bridge serves, as one table: each endpoint once, with its handler and what is said of it.
//!
//! The router and the OpenAPI document are both made of this table, so neither knows a path that the other does not.
//! `operation` is what is said of an endpoint, `schema` how the types of its bodies become schemas, `document` the whole
//! of it, and `explorer` the page that shows it. Every folder of endpoints fills a table; `app` joins them.

mod document;
pub mod explorer;
mod operation;
mod schema;

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodFilter, MethodRouter, on};

use crate::app::Bridge;

pub use document::write;
pub use operation::Operation;
pub use schema::part;

/// Server-sent events, as the document names them.
pub const EVENTS: &str = "text/event-stream";

/// Lines of JSON, as the document names them.
pub const LINES: &str = "application/x-ndjson";

/// One endpoint, as the document tells it.
#[derive(Clone)]
pub struct Endpoint {
    /// What it belongs to.
    tag: &'static str,
    method: Method,
    path: String,
    operation: Operation,
    /// Whether it answers without a key.
    open: bool,
}

/// Endpoints with what is said of each.
pub struct Routes {
    tag: &'static str,
    router: Router<Arc<Bridge>>,
    endpoints: Vec<Endpoint>,
}

/// Writes the ways to add an endpoint, which differ in its method alone.
macro_rules! verbs {
    ($($(#[$doc:meta])* $name:ident $method:ident)*) => { $(
        $(#[$doc])*
        pub fn $name<H, T>(self, path: &str, handler: H, operation: Operation) -> Self
        where
            H: Handler<T, Arc<Bridge>>,
            T: 'static,
        {
            self.on(MethodFilter::$method, Method::$method, path, handler, operation)
        }
    )* };
}

impl Routes {
    /// An empty table, whose endpoints belong to `tag`.
    pub fn new(tag: &'static str) -> Self {
        Self { tag, router: Router::new(), endpoints: Vec::new() }
    }

    verbs! {
        /// Adds an endpoint that is asked with GET, and with HEAD by those who want no body.
        get GET
        /// Adds an endpoint that is asked with POST.
        post POST
        /// Adds an endpoint that is asked with PATCH.
        patch PATCH
        /// Adds an endpoint that is asked with DELETE.
        delete DELETE
    }

    fn on<H, T>(mut self, filter: MethodFilter, method: Method, path: &str, handler: H, operation: Operation) -> Self
    where
        H: Handler<T, Arc<Bridge>>,
        T: 'static,
    {
        self.router = self.router.route(path, on(filter, handler));
        self.said(method, path, operation)
    }

    /// Tells of an endpoint whose path is part of a wildcard that was added before.
    pub fn within(self, path: &str, operation: Operation) -> Self {
        self.said(Method::GET, path, operation)
    }

    fn said(mut self, method: Method, path: &str, operation: Operation) -> Self {
        // The router marks a parameter that may hold slashes with a star.
        let path = path.replace("{*", "{");
        self.endpoints.push(Endpoint { tag: self.tag, method, path, operation, open: false });
        self
    }

    /// Adds what is no endpoint of the API and is not in its document: a page for people, or a refusal at a path that
    /// other servers have.
    pub fn unlisted(mut self, path: &str, methods: MethodRouter<Arc<Bridge>>) -> Self {
        self.router = self.router.route(path, methods);
        self
    }

    /// Adds other endpoints.
    pub fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.endpoints.extend(other.endpoints);
        self
    }

    /// Adds other endpoints below a path.
    pub fn nest(mut self, root: &str, other: Self) -> Self {
        self.router = self.router.nest(root, other.router);
        let below = |endpoint: Endpoint| Endpoint { path: format!("{root}{}", endpoint.path), ..endpoint };
        self.endpoints.extend(other.endpoints.into_iter().map(below));
        self
    }

    /// Serves other endpoints below one more path, where they mean the same; the document says so once for all.
    pub fn alias(mut self, root: &str, other: Self) -> Self {
        self.router = match root {
            "" => self.router.merge(other.router),
            root => self.router.nest(root, other.router),
        };
        self
    }

    /// Says that all of these answer without a key.
    pub fn open(mut self) -> Self {
        self.endpoints.iter_mut().for_each(|endpoint| endpoint.open = true);
        self
    }

    /// Returns the router.
    pub fn router(self) -> Router<Arc<Bridge>> {
        self.router
    }

    /// Returns the endpoints.
    pub fn endpoints(self) -> Vec<Endpoint> {
        self.endpoints
    }
}
