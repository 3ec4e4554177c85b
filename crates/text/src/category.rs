//! The four categories of the news archive and their labels.

/// A headline's category. Its label, the number that the nets learn, is its place in
/// [`Category::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    /// `b`
    Business,
    /// `t`
    Technology,
    /// `e`
    Entertainment,
    /// `m`
    Medicine,
}

impl Category {
    /// How many categories there are.
    pub const COUNT: usize = 4;
    /// All categories, in the order of their labels: b=0, t=1, e=2, m=3.
    pub const ALL: [Self; Self::COUNT] =
        [Self::Business, Self::Technology, Self::Entertainment, Self::Medicine];

    /// The archive's letter for it.
    pub const fn letter(self) -> &'static str {
        match self {
            Self::Business => "b",
            Self::Technology => "t",
            Self::Entertainment => "e",
            Self::Medicine => "m",
        }
    }

    /// The name that is shown to people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Business => "business",
            Self::Technology => "science and technology",
            Self::Entertainment => "entertainment",
            Self::Medicine => "health",
        }
    }

    /// The category with this letter in the archive.
    pub fn from_letter(letter: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.letter() == letter)
    }

    /// The number that the nets learn, 0 to 3.
    pub const fn label(self) -> i64 {
        self as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_and_labels_are_the_archive_s() {
        let seen: Vec<_> = Category::ALL.iter().map(|c| (c.letter(), c.label())).collect();
        assert_eq!(seen, [("b", 0), ("t", 1), ("e", 2), ("m", 3)]);
        assert_eq!(Category::from_letter("e"), Some(Category::Entertainment));
        assert_eq!(Category::from_letter("B"), None);
    }
}
