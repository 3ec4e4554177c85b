//! What the paths share: the models, who may ask, and how a request is read and answered.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::extract::Request;
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use prometheus_client::metrics::counter::Counter;
use schema::Labels;
use serde::{Deserialize, Deserializer};

use super::Limits;
use super::jobs::Reply;
use super::metrics::{Metrics, OfModel};
use super::models::{Models, Slot};
use super::problem::Problem;
use crate::output::Saying;

/// Texts that are explained at once: each takes as long as a hundred answers.
const MOST_EXPLAINED: usize = 16;

/// Bytes that are explained at once: each word is left out of its text in turn.
const LONGEST_EXPLAINED: usize = 1 << 14;

/// The most probabilities that are computed for a request, and that are part of its answer.
const MOST_NUMBERS: usize = 1 << 23;
const MOST_SHOWN: usize = 1 << 18;

/// What the paths share.
pub struct Service {
    pub models: Models,
    limits: Limits,
    token: Option<String>,
    /// The hosts besides localhost that requests may name; `None` for any.
    hosts: Option<Vec<String>>,
    reloading: Mutex<()>,
    pub metrics: Metrics,
    /// The texts that each model has answered.
    answered: Vec<Counter>,
}

/// A request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    #[serde(default, deserialize_with = "given")]
    texts: Option<Vec<String>>,
    #[serde(default, deserialize_with = "given")]
    text: Option<String>,
    #[serde(default, deserialize_with = "given")]
    top_k: Option<usize>,
    #[serde(default, deserialize_with = "given")]
    min_probability: Option<f64>,
    #[serde(default, deserialize_with = "given")]
    model: Option<String>,
}

/// A value that may be left out, but is not `null`.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

impl Service {
    pub fn new(
        models: Models,
        limits: Limits,
        token: Option<String>,
        hosts: Option<Vec<String>>,
    ) -> Arc<Self> {
        let (reloading, metrics) = (Mutex::default(), Metrics::new());
        let of = |slot: &Arc<Slot>| OfModel { model: slot.name.clone() };
        let answered =
            models.iter().map(|slot| metrics.texts.get_or_create_owned(&of(slot))).collect();
        Arc::new(Self { models, limits, token, hosts, reloading, metrics, answered })
    }

    /// The models.
    pub fn slots(&self) -> Vec<Arc<Slot>> {
        self.models.iter().cloned().collect()
    }

    /// Reads all models again. One that cannot be read stays as it is.
    pub fn reload(&self) {
        // One after the other, so that the last one to be asked for is the last one to be read.
        let _alone = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        for slot in self.models.iter() {
            match slot.reload() {
                Ok(()) => {
                    self.metrics.reloads.inc();
                    super::log(format_args!("reloaded {}", slot.name));
                }
                Err(failure) => {
                    self.metrics.failed_reloads.inc();
                    super::log(format_args!("error: `{}` stays as it is: {failure}", slot.name));
                }
            }
        }
    }

    /// Whether the request is for a host that this server may be. A page of another host, whose name
    /// can be made to lead here, must not ask a server that trusts everybody on this machine.
    pub fn is_own_host(&self, headers: &HeaderMap) -> bool {
        let Some(hosts) = &self.hosts else { return true };
        let given = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or("");
        // Without the port, and [::1] without brackets.
        let name = match given.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => given.split(':').next().unwrap_or_default(),
        };
        let is_loopback = name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        is_loopback
            || name.eq_ignore_ascii_case("localhost")
            || hosts.iter().any(|host| host.eq_ignore_ascii_case(name))
    }

    pub fn is_allowed(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.split_once(' '));
        let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let given = given.map_or("", |(_, given)| given.trim());
        // The time does not tell how many characters are right.
        let differ = given.bytes().zip(token.bytes()).fold(0, |differ, (a, b)| differ | (a ^ b));
        differ == 0 && given.len() == token.len()
    }

    /// Reads a request and waits for its answer.
    pub async fn ask(
        &self,
        request: Request,
        explain: bool,
    ) -> Result<(&Slot, Reply, Saying), Problem> {
        let ask = self.read(request).await?;
        let start = Instant::now();
        let texts = match (ask.texts, ask.text) {
            (Some(texts), None) => texts,
            (None, Some(text)) => vec![text],
            _ => {
                let what = "the request has neither or both of `texts` and `text`";
                return Err(Problem::bad(what, "send {\"texts\": [\"…\"]}"));
            }
        };
        let most = if explain { MOST_EXPLAINED.min(self.limits.texts) } else { self.limits.texts };
        if texts.len() > most {
            let what = format!("{} texts, and at most {most} are answered at once", texts.len());
            return Err(Problem::bad(what, "send them in several requests"));
        }
        if explain && texts.iter().map(String::len).sum::<usize>() > LONGEST_EXPLAINED {
            let what = format!("more than {LONGEST_EXPLAINED} bytes of text to explain");
            return Err(Problem::bad(what, "send shorter texts, or fewer"));
        }
        let top_k = ask.top_k.unwrap_or(4);
        if !(1..=Labels::MOST).contains(&top_k) {
            let what = format!("`top_k` is {top_k}");
            return Err(Problem::bad(what, "give a number from 1 to 65536"));
        }
        let least = ask.min_probability.unwrap_or(0.0);
        if !(0.0..=1.0).contains(&least) {
            let hint = "give a number from 0 to 1";
            return Err(Problem::bad("`min_probability` is not a probability", hint));
        }
        #[expect(clippy::cast_possible_truncation, reason = "between 0 and 1")]
        let how = Saying { top_k, least: least as f32 };
        let name = ask.model.as_deref();
        let slot = self.models.find(name);
        let slot = slot.ok_or_else(|| Problem::no_such_model(name.unwrap_or_default()))?;
        let labels = slot.model().labels().len();
        if texts.len() * labels > MOST_NUMBERS || texts.len() * top_k.min(labels) > MOST_SHOWN {
            let what = format!("too many texts for {labels} classes");
            return Err(Problem::bad(what, "send fewer texts at once, or a smaller `top_k`"));
        }
        let count = texts.len() as u64;
        let reply = slot.ask(texts, explain).map_err(|_| Problem::busy())?;
        let reply = tokio::time::timeout(self.limits.time, reply).await;
        self.metrics.seconds.observe(start.elapsed().as_secs_f64());
        let reply = reply.map_err(|_| Problem::late())?;
        let reply = reply.map_err(|_| Problem::failed("the answer was lost"))?;
        let reply = reply.map_err(|failure| {
            super::log(format_args!("error: {failure}"));
            Problem::failed(failure.what)
        })?;
        if let Some(answered) = self.answered.get(slot.number) {
            answered.inc_by(count);
        }
        Ok((slot, reply, how))
    }

    async fn read(&self, request: Request) -> Result<Ask, Problem> {
        let headers = request.headers();
        // Required, so that a page of another origin has to ask for leave first.
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let is_json = |kind: &str| {
            let kind = kind.split(';').next().unwrap_or_default().trim();
            kind.eq_ignore_ascii_case("application/json")
        };
        if !kind.is_some_and(is_json) {
            return Err(Problem::not_json());
        }
        let limit = self.limits.body;
        let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        let length = length.and_then(|length| length.parse::<u64>().ok());
        if length.is_some_and(|length| length > limit as u64) {
            return Err(Problem::too_large(limit));
        }
        let body = Limited::new(request.into_body(), limit).collect();
        let body = tokio::time::timeout(self.limits.time, body).await;
        let body = body.map_err(|_| Problem::slow_request())?.map_err(|e| {
            if e.is::<LengthLimitError>() {
                return Problem::too_large(limit);
            }
            Problem::bad(format!("the request broke off: {e}"), "send it whole")
        })?;
        serde_json::from_slice(&body.to_bytes()).map_err(|e| {
            let what = format!("the request is not the expected JSON: {e}");
            Problem::bad(what, "send {\"texts\": [\"…\"]}; GET /openapi.json has more")
        })
    }
}
