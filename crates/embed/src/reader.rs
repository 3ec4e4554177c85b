//! Streams word2vec files, binary and text, and keeps only the vectors that are wanted.

use std::fmt::Display;
use std::io::Read;

use failure::{Failure, Result};

use crate::blocks::{Blocks, read_ahead, read_file_ahead};
use crate::vocabulary::{FoundVectors, Vocabulary};

/// Bytes of the longest word that is accepted; no vector file has a longer one.
const LONGEST_WORD: usize = 1 << 16;
/// Bytes of the longest line of a text file that is accepted.
const LONGEST_LINE: usize = 1 << 26;
/// Characters of the longest number that is expected in the first entry.
const LONGEST_NUMBER: usize = 64;
/// More components than any published vectors have.
const LARGEST_DIMENSION: usize = 1 << 16;

/// The result of reading a vector file.
pub struct ReadOutcome<'v> {
    /// The vectors found.
    pub found: FoundVectors<'v>,
    /// Number of entries read; the header may promise another number.
    pub entries: u64,
    /// Warnings for the user.
    pub warnings: Vec<String>,
}

/// What takes words besides those of the headlines.
pub trait MoreWords {
    /// Whether it takes the next word of the file.
    fn wants(&mut self, word: &[u8], vocabulary: &Vocabulary) -> bool;
    /// Takes it.
    fn push(&mut self, word: &[u8], vector: &mut dyn Iterator<Item = f32>) -> Result<()>;
}

/// Takes none.
impl MoreWords for () {
    fn wants(&mut self, _: &[u8], _: &Vocabulary) -> bool {
        false
    }
    fn push(&mut self, _: &[u8], _: &mut dyn Iterator<Item = f32>) -> Result<()> {
        Ok(())
    }
}

/// Reads a vector file to its end. `place` names it in errors.
pub fn read<'v>(
    reader: impl Read + Send,
    place: &str,
    vocabulary: &'v Vocabulary,
    more: &mut dyn MoreWords,
) -> Result<ReadOutcome<'v>> {
    read_ahead(reader, |blocks| {
        entries(VectorFile { blocks, place, more, warnings: Vec::new() }, vocabulary)
    })
}

/// Reads an unpacked vector file, as [`read`] does; `progress` receives the number of bytes read.
pub fn read_file<'v>(
    file: &std::fs::File,
    progress: impl Fn(u64) + Sync,
    place: &str,
    vocabulary: &'v Vocabulary,
    more: &mut dyn MoreWords,
) -> Result<ReadOutcome<'v>> {
    read_file_ahead(file, progress, |blocks| {
        entries(VectorFile { blocks, place, more, warnings: Vec::new() }, vocabulary)
    })
}

fn entries<'v>(
    mut file: VectorFile<'_, '_>,
    vocabulary: &'v Vocabulary,
) -> Result<ReadOutcome<'v>> {
    let place = file.place;
    let header = file.header()?;
    let binary = match header {
        Some((_, dimension)) => file.looks_binary(dimension)?,
        None => false,
    };
    let (found, entries) = match header {
        Some((promised, dimension)) if binary => {
            file.binary(promised, FoundVectors::new(vocabulary, dimension))?
        }
        header => file.text(header, vocabulary)?,
    };
    if let Some((promised, _)) = header.filter(|(promised, _)| *promised != entries) {
        file.warnings
            .push(format!("the header promises {promised} vectors, but the file has {entries}"));
    }
    refuse_none(&found, entries, place)?;
    Ok(ReadOutcome { found, entries, warnings: file.warnings })
}

/// Refuses a source that has none of the headlines' words.
pub fn refuse_none(found: &FoundVectors<'_>, entries: u64, place: &str) -> Result<()> {
    if found.count() > 0 {
        return Ok(());
    }
    let what = format_args!(
        "none of the headlines' {} words is among the {entries} words of the file",
        found.vocabulary().words.len()
    );
    let remedy = match found.count_with_lower_case() {
        0 => "give word vectors for the headlines' language".to_owned(),
        some => format!(
            "set embed.lowercase to \"fallback\" or \"always\": {some} words are found that way"
        ),
    };
    Err(Failure::input(what, place, remedy))
}

struct VectorFile<'r, 'p> {
    blocks: &'r mut Blocks,
    place: &'p str,
    more: &'r mut dyn MoreWords,
    warnings: Vec<String>,
}

impl VectorFile<'_, '_> {
    fn wrong(&self, what: impl Display) -> Failure {
        let place = format_args!("{}, byte {}", self.place, self.blocks.offset()).to_string();
        Failure::input(
            what,
            place,
            "give a word2vec, fastText or GloVe file, or get it again; it may be cut off or damaged",
        )
    }

    fn io(&self, error: &std::io::Error) -> Failure {
        self.wrong(format_args!("cannot read: {error}"))
    }

    fn want(&mut self, n: usize) -> Result<bool> {
        self.blocks.want(n).map_err(|e| self.io(&e))
    }

    fn find(&mut self, byte: u8, limit: usize) -> Result<Option<usize>> {
        self.blocks.find(byte, limit).map_err(|e| self.io(&e))
    }

    fn front(&self, n: usize) -> &[u8] {
        self.blocks.bytes().get(..n).unwrap_or_default()
    }

    /// Consumes the header, `words dimension`, if the file begins with one.
    fn header(&mut self) -> Result<Option<(u64, usize)>> {
        if !self.want(1)? {
            return Err(self.wrong("the file is empty"));
        }
        let Some(end) = self.find(b'\n', 64)? else { return Ok(None) };
        let line = std::str::from_utf8(self.front(end)).unwrap_or_default();
        let mut fields = line.split_whitespace().map(str::parse::<u64>);
        let (Some(Ok(words)), Some(Ok(dimension)), None) =
            (fields.next(), fields.next(), fields.next())
        else {
            return Ok(None);
        };
        let dimension = self.dimension(usize::try_from(dimension).unwrap_or(usize::MAX))?;
        self.blocks.pass(end + 1);
        Ok(Some((words, dimension)))
    }

    fn dimension(&self, dimension: usize) -> Result<usize> {
        if (1..=LARGEST_DIMENSION).contains(&dimension) {
            return Ok(dimension);
        }
        Err(self.wrong(format_args!(
            "the vectors have {dimension} components; 1 to {LARGEST_DIMENSION} are supported"
        )))
    }

    /// Whether the first entry is anything but a line of a word and `dimension` numbers. A few
    /// bytes would not suffice: a binary component can begin with a newline, or look like digits.
    fn looks_binary(&mut self, dimension: usize) -> Result<bool> {
        if self.find(b' ', LONGEST_WORD)?.is_none() && self.find(b'\t', LONGEST_WORD)?.is_none() {
            return Err(self.wrong("no word is followed by a vector"));
        }
        let end = self.find(b'\n', LONGEST_WORD + dimension * LONGEST_NUMBER)?;
        let line = self.front(end.unwrap_or(self.blocks.bytes().len()));
        let count = fields(line).count();
        let numbers = fields(line).skip(1).take_while(|f| is_number(f)).count();
        if count > 2 && numbers == count - 1 && numbers != dimension {
            return Err(self.wrong(format_args!(
                "the header promises {dimension} components, but the first vector has {numbers}"
            )));
        }
        let is_text = count > dimension && fields(line).skip(count - dimension).all(is_number);
        Ok(!is_text)
    }

    /// Reads binary entries: a word, a space, the components as little-endian f32. Some writers end
    /// an entry with a newline and some do not (gensim issue 149), so newlines before a word are
    /// skipped.
    fn binary<'v>(
        &mut self,
        promised: u64,
        mut found: FoundVectors<'v>,
    ) -> Result<(FoundVectors<'v>, u64)> {
        let bytes = found.dimension() * 4;
        for entry in 0..promised {
            while self.want(1)? && self.front(1) == b"\n" {
                self.blocks.pass(1);
            }
            let Some(space) = self.find(b' ', LONGEST_WORD)? else {
                if !self.want(1)? {
                    return Ok((found, entry));
                }
                return Err(self.wrong(format_args!("word number {} does not end", entry + 1)));
            };
            if !self.want(space + 1 + bytes)? {
                let word = String::from_utf8_lossy(self.front(space)).into_owned();
                return Err(self.wrong(format_args!(
                    "the file ends inside the vector of `{word}`, number {} of {promised}",
                    entry + 1
                )));
            }
            let entry = self.blocks.bytes();
            let word = entry.get(..space).unwrap_or_default();
            let vector = || {
                let vector = entry.get(space + 1..space + 1 + bytes).unwrap_or_default();
                vector.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b))
            };
            if self.more.wants(word, found.vocabulary()) {
                self.more.push(word, &mut vector())?;
            }
            if let Some(place) = found.wants(word) {
                found.put(place, vector()).map_err(|at| self.not_finite(space, at))?;
            }
            self.blocks.pass(space + 1 + bytes);
        }
        if self.want(1)? && self.blocks.bytes().iter().any(|b| !b.is_ascii_whitespace()) {
            self.warnings.push(format!("the file has more than the {promised} vectors of its header; the rest was left unread"));
        }
        Ok((found, promised))
    }

    fn not_finite(&self, word: usize, at: usize) -> Failure {
        let word = String::from_utf8_lossy(self.front(word));
        self.wrong(format_args!("component {} of the vector of `{word}` is not finite", at + 1))
    }

    /// Reads text entries, one on each line: a word and its components. Words that contain spaces
    /// (GloVe's 840B has some) cannot be in a headline and are skipped.
    fn text<'v>(
        &mut self,
        header: Option<(u64, usize)>,
        vocabulary: &'v Vocabulary,
    ) -> Result<(FoundVectors<'v>, u64)> {
        let dimension = match header {
            Some((_, dimension)) => dimension,
            None => {
                let end = self.line()?.unwrap_or(0);
                let count = fields(self.front(end)).count();
                if count < 3 || !fields(self.front(end)).skip(1).all(is_number) {
                    return Err(
                        self.wrong("the first line is neither a header nor a word and its vector")
                    );
                }
                self.dimension(count - 1)?
            }
        };
        let mut found = FoundVectors::new(vocabulary, dimension);
        let mut entries = 0;
        while let Some(end) = self.line()? {
            let line = self.blocks.bytes().get(..end).unwrap_or_default();
            let word = fields(line).next().unwrap_or_default();
            if !word.is_empty() {
                entries += 1;
            }
            let place = found.wants(word);
            if place.is_none() {
                // Only a word of the headlines must have a sound vector.
                if fields(line).count() == dimension + 1 && self.more.wants(word, vocabulary) {
                    let vector: Option<Vec<f32>> = numbers(line);
                    if let Some(vector) = vector {
                        self.more.push(word, &mut vector.into_iter())?;
                    }
                }
            } else if let Some(place) = place {
                // Counted, but its vector lies elsewhere.
                let _ = self.more.wants(word, vocabulary);
                let count = fields(line).skip(1).count();
                if count < dimension {
                    let word = String::from_utf8_lossy(word).into_owned();
                    return Err(self
                        .wrong(format_args!("`{word}` has {count} components, not {dimension}")));
                }
                if count == dimension {
                    let length = word.len();
                    let Some(vector) = numbers(line) else {
                        return Err(self.wrong(format_args!(
                            "a component of `{}` is not a number",
                            String::from_utf8_lossy(word)
                        )));
                    };
                    found
                        .put(place, vector.into_iter())
                        .map_err(|at| self.not_finite(length, at))?;
                }
            }
            self.blocks.pass(end + 1);
        }
        Ok((found, entries))
    }

    /// The length of the next line without its newline; `None` at the end of the file.
    fn line(&mut self) -> Result<Option<usize>> {
        if !self.want(1)? {
            return Ok(None);
        }
        if let Some(end) = self.find(b'\n', LONGEST_LINE)? {
            return Ok(Some(end));
        }
        let rest = self.blocks.bytes().len();
        if rest > LONGEST_LINE { Err(self.wrong("a line does not end")) } else { Ok(Some(rest)) }
    }
}

fn fields(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|b| matches!(b, b' ' | b'\t' | b'\r')).filter(|f| !f.is_empty())
}

/// The numbers after a line's word.
fn numbers(line: &[u8]) -> Option<Vec<f32>> {
    fields(line).skip(1).map(|number| std::str::from_utf8(number).ok()?.parse().ok()).collect()
}

fn is_number(field: &[u8]) -> bool {
    std::str::from_utf8(field).is_ok_and(|f| f.parse::<f32>().is_ok())
}
