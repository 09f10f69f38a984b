//! Rules before the request is sent, and when the head of its response is there.

use matchlock_intercept::h1::{RequestHead, ResponseHead};
use matchlock_intercept::hooks::{
    BodyEdit, CallbackReply, CallbackRequest, OnError, RequestView, Rule,
};
use matchlock_intercept::rewrite;
use matchlock_policy::Endpoint;

use super::Exchange;
use super::callback;
use super::download::{Download, DownloadError};
use super::judge::Admitted;
use crate::cause::Cause;

/// A rule does not let a message pass.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stop {
    /// It says so itself, or its callback does.
    #[error("blocked by {0}")]
    Blocked(String),
    /// It could not do what it should, and lets nothing pass then.
    #[error("{0} failed, and blocks then")]
    Failed(String),
}

impl Stop {
    /// The rule, as the audit trail names it.
    pub(super) fn rule(&self) -> &str {
        match self {
            Self::Blocked(rule) | Self::Failed(rule) => rule,
        }
    }
}

/// Applies the rules for requests.
///
/// # Errors
/// One of them does not let it pass.
pub(super) async fn before(
    exchange: &Exchange,
    endpoint: &Endpoint,
    head: &mut RequestHead,
) -> Result<(), Stop> {
    let mut rules = exchange.shared.rules().before();
    loop {
        let view = RequestView::new(head, endpoint);
        let Some(rule) = rules.next_for(&view) else { return Ok(()) };
        if rule.block() {
            return Err(Stop::Blocked(name(rule)));
        }
        rule.apply_static_request(head);
        // The callback sees what the rule has done by itself.
        let view = RequestView::new(head, endpoint);
        let Some(question) = CallbackRequest::before(rule, &view, head) else { continue };
        let Some(reply) = ask(exchange, rule, &question).await? else { continue };
        drop(question);
        if let Err(error) = reply.apply_request(head) {
            failed(rule, &error)?;
        }
    }
}

/// Applies the rules for responses, takes secrets out of the head where they are to be scrubbed, and
/// says what is to be done to the body.
///
/// # Errors
/// A rule does not let it pass, or the body cannot be searched for secrets.
pub(super) async fn after(
    exchange: &Exchange,
    admitted: &Admitted,
    head: &mut ResponseHead,
    has_body: bool,
) -> Result<Download, DownloadError> {
    let mut edit = BodyEdit::default();
    let mut rules = exchange.shared.rules().after();
    let view = RequestView::new(&admitted.head, admitted.allowed.endpoint());
    while let Some(rule) = rules.next_for(&view) {
        if rule.block() {
            return Err(Stop::Blocked(name(rule)).into());
        }
        rule.apply_static_response(head, &mut edit);
        let question = CallbackRequest::after(rule, &view, &admitted.head, head);
        if let Some(question) = question
            && let Some(reply) = ask(exchange, rule, &question).await?
        {
            drop(question);
            reply.apply_response(head, &mut edit, rule.on_error());
        }
    }
    let bound = admitted.bound();
    let download = if has_body {
        Download::new(&bound, head, edit, exchange.shared.held())?
    } else {
        Download::default()
    };
    rewrite::scrub_head(head, &bound);
    Ok(download)
}

/// Asks a rule's callback; none if it failed and that does not matter.
async fn ask(
    exchange: &Exchange,
    rule: &Rule,
    question: &CallbackRequest<'_>,
) -> Result<Option<CallbackReply>, Stop> {
    let socket = exchange.shared.callback_socket();
    match callback::call(socket, question, rule.timeout()).await {
        Ok(reply) if reply.block() => Err(Stop::Blocked(name(rule))),
        Ok(reply) => Ok(Some(reply)),
        Err(error) => failed(rule, &error).map(|()| None),
    }
}

fn failed(rule: &Rule, error: &(dyn std::error::Error + 'static)) -> Result<(), Stop> {
    let cause = Cause::of(error);
    tracing::warn!(rule = rule.name(), %cause, "a network hook failed");
    match rule.on_error() {
        OnError::Allow => Ok(()),
        OnError::Block => Err(Stop::Failed(name(rule))),
    }
}

fn name(rule: &Rule) -> String {
    match rule.name() {
        "" => "hook".to_owned(),
        name => format!("hook {name}"),
    }
}
