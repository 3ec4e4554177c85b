//! Errors as answers.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// What is wrong with a request, and what to do.
pub struct Problem {
    status: StatusCode,
    what: String,
    hint: &'static str,
}

impl Problem {
    fn new(status: StatusCode, what: impl Into<String>, hint: &'static str) -> Self {
        Self { status, what: what.into(), hint }
    }

    pub fn bad(what: impl Into<String>, hint: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, what, hint)
    }

    pub fn no_such_model(name: &str) -> Self {
        let what = format!("there is no model `{name}`");
        Self::new(StatusCode::NOT_FOUND, what, "GET /models lists the models")
    }

    pub fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "there is nothing here",
            "GET /openapi.json lists the paths",
        )
    }

    pub fn wrong_method() -> Self {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Self::new(status, "this path has another method", "GET /openapi.json lists the methods")
    }

    pub fn too_large(limit: usize) -> Self {
        let what = format!("the request is larger than {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, what, "send fewer or shorter texts at once")
    }

    pub fn not_json() -> Self {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Self::new(status, "the request is not JSON", "send Content-Type: application/json")
    }

    pub fn slow_request() -> Self {
        let what = "the request did not arrive in time";
        Self::new(StatusCode::REQUEST_TIMEOUT, what, "send it faster, or send less")
    }

    pub fn other_host() -> Self {
        let what = "the request is for another host";
        let hint = "send Host: localhost, or start the server with --host NAME";
        Self::new(StatusCode::MISDIRECTED_REQUEST, what, hint)
    }

    pub fn no_token() -> Self {
        let what = "the token is missing or wrong";
        Self::new(StatusCode::UNAUTHORIZED, what, "send Authorization: Bearer TOKEN")
    }

    pub fn busy() -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "too many texts are waiting", "ask again after Retry-After seconds")
    }

    pub fn late() -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "the answer took too long", "send fewer texts, or ask again later")
    }

    pub fn failed(what: impl Into<String>) -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self::new(status, what, "this is a fault of the server; its log says more")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { status, what, hint } = self;
        let body = json!({ "error": { "what": what, "hint": hint } });
        let mut response = (status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
