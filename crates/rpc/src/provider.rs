//! The provider's side of calls: counting them, and their deadlines.

use crate::agent::Agent;
use crate::context::{self, CALLER, DEADLINE};
use crate::counted::{Count, Counted, code_in};
use crate::monitor::Monitor;
use hyper::{Request, Response};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;
use tonic::body::Body;
use tower_service::Service;
use traffic::calls::{Key, Side};

/// A layer of a server; see [`crate::Registered::layer`].
#[derive(Clone)]
pub struct Layer {
    monitor: Arc<Monitor>,
    service: String,
    instance: String,
}

/// A server with the layer.
#[derive(Clone)]
pub struct Provider<S> {
    inner: S,
    layer: Layer,
}

impl Layer {
    /// Of an instance at `host:port` of a service.
    pub fn new(agent: &Agent, service: &str, instance: &str) -> Self {
        Self {
            monitor: agent.monitor().clone(),
            service: service.into(),
            instance: instance.into(),
        }
    }
}

impl<S> tower_layer::Layer<S> for Layer {
    type Service = Provider<S>;

    fn layer(&self, inner: S) -> Provider<S> {
        let layer = self.clone();
        Provider { inner, layer }
    }
}

impl<S> Service<Request<Body>> for Provider<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let deadline = context::read_timeout(request.headers()).map(|left| Instant::now() + left);
        let caller = request.headers().get(CALLER);
        let caller = caller
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let method = request.uri().path().trim_start_matches('/');
        let Layer {
            service, instance, ..
        } = &self.layer;
        let call = Key::new(Side::Provider, service, method, instance, caller);
        let count = Count::new(&self.layer.monitor, call, deadline);
        let answer = DEADLINE.scope(deadline, self.inner.call(request));
        Box::pin(async move {
            let (head, body) = answer.await?.into_parts();
            if let Some(code) = code_in(&head.headers) {
                count.answered(code);
                return Ok(Response::from_parts(head, body));
            }
            let body = Body::new(Counted::new(body, count));
            Ok(Response::from_parts(head, body))
        })
    }
}
