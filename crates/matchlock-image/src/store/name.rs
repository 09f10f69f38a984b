//! Names that images are stored under.

use std::fmt;

use crate::reference::Reference;

/// Who gave a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// This user: tags, imports, builds. Looked at first.
    Local,
    /// A registry: references that were pulled.
    Registry,
}

/// How an image came here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// From a registry.
    Registry,
    /// A further name of an image.
    Tag,
    /// From an archive.
    Import,
    /// Built here.
    Local,
}

/// A name to store an image under: as it was typed, and its normal form for look-ups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageName {
    pub(super) scope: Scope,
    pub(super) source: Source,
    pub(super) typed: String,
    pub(super) normal: String,
}

/// Text that is not a name for an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid tag {0:?}: a tag is a name of 1 to 255 visible characters")]
pub struct InvalidTag(String);

impl ImageName {
    /// The name of an image from a registry.
    #[must_use]
    pub fn registry(reference: &Reference) -> Self {
        Self {
            scope: Scope::Registry,
            source: Source::Registry,
            typed: reference.as_typed().to_owned(),
            normal: reference.to_string(),
        }
    }

    /// A name that the user chose.
    ///
    /// # Errors
    /// [`InvalidTag`].
    pub fn local(tag: &str, source: Source) -> Result<Self, InvalidTag> {
        let visible = |c: char| !c.is_control() && !c.is_whitespace();
        if tag.is_empty() || tag.len() > 255 || !tag.chars().all(visible) {
            return Err(InvalidTag(tag.chars().take(255).collect()));
        }
        Ok(Self { scope: Scope::Local, source, typed: tag.to_owned(), normal: normal(tag) })
    }

    /// As it was typed.
    #[must_use]
    pub fn as_typed(&self) -> &str {
        &self.typed
    }
}

/// The form for look-ups. Text that is no reference is its own.
pub(super) fn normal(text: &str) -> String {
    text.parse::<Reference>().map_or_else(|_| text.to_owned(), |reference| reference.to_string())
}

impl Scope {
    /// As in the column `scope`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Registry => "registry",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::Local, Self::Registry].into_iter().find(|scope| scope.as_str() == text)
    }
}

impl Source {
    /// As in the column `source`, and in lists.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::Tag => "tag",
            Self::Import => "import",
            Self::Local => "local",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let all = [Self::Registry, Self::Tag, Self::Import, Self::Local];
        all.into_iter().find(|source| source.as_str() == text)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
