//! Rules: what they match and what they do.

use std::sync::Arc;
use std::time::Duration;

use matchlock_policy::{Endpoint, Host, HostPattern, InvalidPattern};
use matchlock_text::glob::{BadPattern, Glob};

use super::apply::{RequestEdit, ResponseEdit};
use super::body::{BodyEdit, Replacement};
use super::wire::WireRule;
use crate::h1::{InvalidTarget, RequestHead, ResponseHead};
use crate::headers::InvalidHeader;
use crate::rewrite::percent;

/// When a rule runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Before the request is sent, and before placeholders are replaced in it.
    Before,
    /// When the head of the response is there.
    After,
}

impl Phase {
    /// As callbacks are told.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

/// What becomes of a message if a rule cannot do what it should.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum OnError {
    /// It goes on as if the rule were not there.
    #[default]
    Allow,
    /// It is blocked.
    Block,
}

/// A rule that cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error("network rule {number} ({name:?}) is not valid")]
pub struct InvalidRule {
    /// Where it is in the list, from 1.
    pub number: usize,
    /// What it is called.
    pub name: String,
    /// What is wrong with it.
    #[source]
    pub problem: RuleProblem,
}

/// What is wrong with a rule.
#[derive(Debug, thiserror::Error)]
pub enum RuleProblem {
    /// A host pattern.
    #[error("the host {pattern:?} is not a pattern")]
    Host {
        /// As it was given.
        pattern: String,
        /// Why.
        #[source]
        source: InvalidPattern,
    },
    /// The path pattern.
    #[error("the path {pattern:?} is not a pattern")]
    Path {
        /// As it was given.
        pattern: String,
        /// Why.
        #[source]
        source: BadPattern,
    },
    /// A field to set. The value is not shown.
    #[error("the header {name:?} cannot be set")]
    Header {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: InvalidHeader,
    },
    /// The new path.
    #[error("the path cannot be rewritten to {path:?}")]
    Rewrite {
        /// As it was given.
        path: String,
        /// Why.
        #[source]
        source: InvalidTarget,
    },
    /// Something else than `allow` or `block`.
    #[error("on_error is {given:?}, neither \"allow\" nor \"block\"")]
    OnError {
        /// As it was given.
        given: String,
    },
}

/// What rules match on.
#[derive(Debug, Clone)]
pub struct RequestView<'a> {
    /// Whom the request is for.
    pub host: &'a Host,
    /// On which port.
    pub port: u16,
    method: String,
    /// Decoded.
    path: Vec<u8>,
}

impl<'a> RequestView<'a> {
    /// The request as it is now, for this endpoint.
    #[must_use]
    pub fn new(head: &RequestHead, endpoint: &'a Endpoint) -> Self {
        let path = head.target.path_and_query().map(|target| percent::decode(target.path()));
        let path = path.unwrap_or_else(|| b"/".to_vec());
        let method = head.method.as_str().to_ascii_uppercase();
        Self { host: &endpoint.host, port: endpoint.port, method, path }
    }
}

/// The rules of a sandbox, in order. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Rules(Arc<[Rule]>);

impl Rules {
    /// Reads the rules; those that would do nothing are left out.
    ///
    /// # Errors
    ///
    /// If one of them has a pattern, a field or a path that is none.
    pub fn new(rules: Vec<WireRule>) -> Result<Self, InvalidRule> {
        let mut kept = Vec::new();
        for (at, wire) in rules.into_iter().enumerate() {
            let name = wire.name.clone();
            let rule =
                Rule::new(wire).map_err(|problem| InvalidRule { number: at + 1, name, problem })?;
            kept.extend(Some(rule).filter(Rule::does_something));
        }
        Ok(Self(kept.into()))
    }

    /// Whether there is no rule.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Goes through the rules for requests.
    pub fn before(&self) -> Matching<'_> {
        Matching { rules: self.0.iter(), phase: Phase::Before }
    }

    /// Goes through the rules for responses.
    pub fn after(&self) -> Matching<'_> {
        Matching { rules: self.0.iter(), phase: Phase::After }
    }
}

/// The rules that match, one at a time: a rule is looked at when those before it are done with the
/// request.
#[derive(Debug)]
pub struct Matching<'a> {
    rules: std::slice::Iter<'a, Rule>,
    phase: Phase,
}

impl<'a> Matching<'a> {
    /// The next rule that matches the request as it is now.
    pub fn next_for(&mut self, view: &RequestView<'_>) -> Option<&'a Rule> {
        let phase = self.phase;
        self.rules.find(|rule| rule.phase == phase && rule.matches(view))
    }
}

/// A rule.
#[derive(Debug)]
pub struct Rule {
    name: String,
    phase: Phase,
    block: bool,
    hosts: Vec<HostPattern>,
    methods: Vec<String>,
    path: Option<Glob>,
    callback_id: Option<String>,
    timeout: Option<Duration>,
    on_error: OnError,
    request: RequestEdit,
    response: ResponseEdit,
    replacements: Vec<Replacement>,
}

impl Rule {
    fn new(wire: WireRule) -> Result<Self, RuleProblem> {
        let after = is(&wire.phase, "after");
        let block = is(&wire.action, "block");
        let on_error = match &wire.on_error {
            given if given.trim().is_empty() && block => OnError::Block,
            given if given.trim().is_empty() || is(given, "allow") => OnError::Allow,
            given if is(given, "block") => OnError::Block,
            given => return Err(RuleProblem::OnError { given: given.clone() }),
        };
        // Fields of the other phase mean nothing.
        let (request, response, replacements) = if after {
            let response = ResponseEdit::new(&wire)?;
            (RequestEdit::default(), response, Replacement::list(wire.body_replacements))
        } else {
            (RequestEdit::new(&wire)?, ResponseEdit::default(), Vec::new())
        };
        let timeout = u64::try_from(wire.timeout_ms).ok().filter(|&timeout| timeout > 0);
        Ok(Self {
            phase: if after { Phase::After } else { Phase::Before },
            block,
            hosts: wire.hosts.into_iter().map(host).collect::<Result<_, _>>()?,
            methods: wire.methods.iter().map(|method| method.trim().to_ascii_uppercase()).collect(),
            path: glob(wire.path)?,
            callback_id: Some(wire.callback_id).filter(|id| !id.is_empty()),
            timeout: timeout.map(Duration::from_millis),
            on_error,
            request,
            response,
            replacements,
            name: wire.name,
        })
    }

    fn does_something(&self) -> bool {
        let changes = self.request != RequestEdit::default()
            || self.response != ResponseEdit::default()
            || !self.replacements.is_empty();
        self.block || self.callback_id.is_some() || changes
    }

    fn matches(&self, view: &RequestView<'_>) -> bool {
        let host = |pattern: &HostPattern| pattern.matches(view.host, view.port);
        (self.hosts.is_empty() || self.hosts.iter().any(host))
            && (self.methods.is_empty() || self.methods.contains(&view.method))
            && self.path.as_ref().is_none_or(|glob| glob.matches(&view.path))
    }

    /// What it is called, perhaps nothing.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When it runs.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether the message is blocked. Nothing else is to be asked of the rule then.
    #[must_use]
    pub fn block(&self) -> bool {
        self.block
    }

    /// Changes the head of a request as the rule says by itself, which comes before its callback.
    pub fn apply_static_request(&self, head: &mut RequestHead) {
        self.request.apply(head);
    }

    /// Changes the head of a response as the rule says by itself, which comes before its callback,
    /// and adds to what is to be done to the body.
    pub fn apply_static_response(&self, head: &mut ResponseHead, body: &mut BodyEdit) {
        self.response.apply(head);
        body.add(&self.replacements, None, self.on_error);
    }

    /// Whom to ask.
    #[must_use]
    pub fn callback_id(&self) -> Option<&str> {
        self.callback_id.as_deref()
    }

    /// How long connecting, asking and answering may take together; `None` is for ever.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// What to do if the callback fails.
    #[must_use]
    pub fn on_error(&self) -> OnError {
        self.on_error
    }
}

fn is(given: &str, word: &str) -> bool {
    given.trim().eq_ignore_ascii_case(word)
}

fn host(pattern: String) -> Result<HostPattern, RuleProblem> {
    pattern.parse().map_err(|source| RuleProblem::Host { pattern, source })
}

fn glob(pattern: String) -> Result<Option<Glob>, RuleProblem> {
    if pattern.is_empty() {
        return Ok(None);
    }
    Glob::new(&pattern).map(Some).map_err(|source| RuleProblem::Path { pattern, source })
}
