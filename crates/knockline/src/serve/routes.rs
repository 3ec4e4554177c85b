//! The paths of the server.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use failure::{Failure, Result as FailureResult};
use hyper::body::Incoming;
use serde::Serialize;
use serde_json::json;
use tower_http::cors::CorsLayer;
use tower_service::Service as _;

use super::jobs::Reply;
use super::metrics::{Answered, OfModel};
use super::problem::Problem;
use super::service::Service;
use crate::explain::Explained;
use crate::output::Prediction;

/// The answer to `/predict`.
#[derive(Serialize)]
struct Predictions<'m> {
    model: &'m str,
    predictions: Vec<Prediction<'m>>,
}

/// The answer to `/explain`.
#[derive(Serialize)]
struct Explanations<'m> {
    model: &'m str,
    explanations: Vec<Explained<'m>>,
}

/// The paths. Pages of the origins `cors` may ask.
pub fn router(service: &Arc<Service>, cors: &[String]) -> FailureResult<Router> {
    let mut router = Router::new()
        .route("/predict", post(predict))
        .route("/explain", post(explain))
        .route("/labels", get(labels))
        .route("/models", get(models))
        .route("/metrics", get(metrics))
        .route("/", get(async || page("text/html; charset=utf-8", include_str!("page.html"))))
        .route(
            "/page.js",
            get(async || page("text/javascript; charset=utf-8", include_str!("page.js"))),
        )
        .route("/page.css", get(async || page("text/css; charset=utf-8", include_str!("page.css"))))
        .route(
            "/openapi.json",
            get(async || page("application/json", include_str!("openapi.json"))),
        )
        .route("/healthz", get(|| async { "ok\n" }))
        .fallback(|| async { Problem::not_found() })
        .method_not_allowed_fallback(|| async { Problem::wrong_method() });
    if !cors.is_empty() {
        let origins: Vec<HeaderValue> = cors
            .iter()
            .map(|origin| {
                let is_origin = origin.split_once("://").is_some_and(|(scheme, host)| {
                    matches!(scheme, "http" | "https")
                        && !host.is_empty()
                        && !host.contains(['/', '*'])
                });
                let value = HeaderValue::from_str(origin).ok().filter(|_| is_origin);
                value.ok_or_else(|| {
                    let remedy =
                        "give a scheme, a host and a port, such as https://example.org:8443";
                    Failure::usage(format_args!("`{origin}` is not an origin"), "--cors", remedy)
                })
            })
            .collect::<FailureResult<_>>()?;
        router = router.layer(
            CorsLayer::new()
                .allow_origin(origins)
                .allow_methods([Method::GET, Method::POST])
                .allow_headers([header::CONTENT_TYPE, header::AUTHORIZATION]),
        );
    }
    Ok(router.with_state(Arc::clone(service)))
}

fn page(kind: &'static str, text: &'static str) -> impl IntoResponse {
    // Nothing but what this server sends may run in the page.
    let policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                  img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text)
}

/// The service, for requests that name a host of this server and have the token if there is one.
struct Allowed(Arc<Service>);

impl FromRequestParts<Arc<Service>> for Allowed {
    type Rejection = Problem;

    async fn from_request_parts(
        parts: &mut Parts,
        service: &Arc<Service>,
    ) -> Result<Self, Problem> {
        if !service.is_own_host(&parts.headers) {
            return Err(Problem::other_host());
        }
        if !service.is_allowed(&parts.headers) {
            return Err(Problem::no_token());
        }
        Ok(Self(Arc::clone(service)))
    }
}

/// Answers requests by the router, and counts the answers. Not a layer of the router, whose future
/// would be on the heap for each request once more.
#[derive(Clone)]
pub struct Counted {
    router: Router,
    service: Arc<Service>,
}

impl Counted {
    pub const fn new(router: Router, service: Arc<Service>) -> Self {
        Self { router, service }
    }
}

impl hyper::service::Service<Request<Incoming>> for Counted {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let path = match request.uri().path() {
            "/" => "/",
            "/predict" => "/predict",
            "/explain" => "/explain",
            "/labels" => "/labels",
            "/models" => "/models",
            "/metrics" => "/metrics",
            "/healthz" => "/healthz",
            _ => "other",
        };
        // The router is always ready.
        let answered = self.router.clone().call(request.map(Body::new));
        let service = Arc::clone(&self.service);
        Box::pin(async move {
            let response = answered.await?;
            let status = response.status().as_u16();
            service.metrics.requests.get_or_create(&Answered { path, status }).inc();
            Ok(response)
        })
    }
}

async fn predict(Allowed(service): Allowed, request: Request) -> Result<Response, Problem> {
    let (slot, reply, how) = service.ask(request, false).await?;
    let Reply { model, probabilities, known, .. } = &reply;
    let labels = model.labels();
    let rows = probabilities.chunks_exact(labels.len()).zip(known);
    let predictions = rows.map(|(p, known)| Prediction::of(labels, p, *known, how)).collect();
    answer(&Predictions { model: &slot.name, predictions })
}

async fn explain(Allowed(service): Allowed, request: Request) -> Result<Response, Problem> {
    let (slot, reply, how) = service.ask(request, true).await?;
    let labels = reply.model.labels();
    let rows = reply.texts.iter().zip(&reply.explanations);
    let explanations =
        rows.map(|(text, explanation)| Explained::new(labels, text, explanation, how)).collect();
    answer(&Explanations { model: &slot.name, explanations })
}

fn answer(value: &impl Serialize) -> Result<Response, Problem> {
    // An answer to one text has some 300 bytes.
    let mut bytes = Vec::with_capacity(512);
    serde_json::to_writer(&mut bytes, value).map_err(|e| Problem::failed(e.to_string()))?;
    let mut response = Response::new(Body::from(bytes));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(response)
}

async fn labels(Allowed(service): Allowed) -> Result<Response, Problem> {
    let all: Vec<serde_json::Value> = service
        .models
        .iter()
        .map(|slot| json!({ "model": slot.name, "labels": slot.model().labels().names() }))
        .collect();
    let first = service.models.find(None).map(|slot| slot.model());
    let names = first.as_ref().map(|model| model.labels().names());
    answer(&json!({ "labels": names, "models": all }))
}

async fn models(Allowed(service): Allowed) -> Result<Response, Problem> {
    let all: Vec<serde_json::Value> = service
        .models
        .iter()
        .map(|slot| {
            let model = slot.model();
            let of = model.description();
            json!({
                "name": slot.name, "run": of.run, "net": of.net, "labels": model.labels().len(),
                "words": of.words.count, "bytes": model.size(), "scores": of.scores,
            })
        })
        .collect();
    answer(&json!({ "models": all }))
}

async fn metrics(Allowed(service): Allowed) -> impl IntoResponse {
    for slot in service.models.iter() {
        let of = OfModel { model: slot.name.clone() };
        let waiting = i64::try_from(slot.waiting()).unwrap_or(i64::MAX);
        service.metrics.waiting.get_or_create(&of).set(waiting);
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], service.metrics.text())
}
