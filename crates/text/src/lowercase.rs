//! What the case of a word's letters means when its vector is looked up.

use std::borrow::Cow;

/// When a word is looked up in lower case. The exercise keeps case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lowercase {
    /// A word is looked up as it is written.
    #[default]
    Never,
    /// It is looked up in lower case if it is not found as it is written.
    Fallback,
    /// It is looked up in lower case only.
    Always,
}

impl Lowercase {
    /// Every choice.
    pub const ALL: [Self; 3] = [Self::Never, Self::Fallback, Self::Always];

    /// The value of the option `embed.lowercase`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Fallback => "fallback",
            Self::Always => "always",
        }
    }

    /// The choice with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|choice| choice.name() == name)
    }

    /// The forms under which a word is looked up: the first, and then the second if there is one.
    pub fn forms(self, word: &str) -> (Cow<'_, str>, Option<Cow<'_, str>>) {
        match self {
            Self::Never => (Cow::Borrowed(word), None),
            Self::Always => (lower(word).unwrap_or(Cow::Borrowed(word)), None),
            Self::Fallback => (Cow::Borrowed(word), lower(word)),
        }
    }
}

/// The word in lower case (Unicode's, like Python's `str.lower`), or `None` if it already is.
pub fn lower(word: &str) -> Option<Cow<'_, str>> {
    if word.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
        return None;
    }
    let lower = word.to_lowercase();
    (lower != word).then_some(Cow::Owned(lower))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_case_is_python_s() {
        // Python 3.11: [w.lower() for w in ["FED", "Ünder", "fed", "ΟΔΟΣ", "İ"]]
        let lowered = ["FED", "Ünder", "fed", "ΟΔΟΣ", "İ"]
            .map(|word| lower(word).map_or(word.to_owned(), Cow::into_owned));
        assert_eq!(lowered, ["fed", "ünder", "fed", "οδος", "i̇"]);
    }

    #[test]
    fn a_word_is_looked_for_as_the_choice_says() {
        let forms = |choice: Lowercase, word| {
            let (first, then) = choice.forms(word);
            (first.into_owned(), then.map(Cow::into_owned))
        };
        assert_eq!(forms(Lowercase::Never, "Fed"), ("Fed".into(), None));
        assert_eq!(forms(Lowercase::Fallback, "Fed"), ("Fed".into(), Some("fed".into())));
        assert_eq!(forms(Lowercase::Fallback, "fed"), ("fed".into(), None));
        assert_eq!(forms(Lowercase::Always, "Fed"), ("fed".into(), None));
        assert!(
            Lowercase::ALL
                .into_iter()
                .all(|choice| Lowercase::from_name(choice.name()) == Some(choice))
        );
    }
}
