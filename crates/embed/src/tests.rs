//! Tests of the readers, on files of every known shape that are written byte by byte.

use super::*;
use proptest::prelude::*;

fn read(bytes: impl Read + Send, vocabulary: &Vocabulary) -> Result<reader::ReadOutcome<'_>> {
    keeping(Keep::Data, bytes, vocabulary).map(|(outcome, _)| outcome)
}

/// Words that were kept, each with its vector.
type Kept = Vec<(String, Vec<f32>)>;

/// Reads a file, and returns the words that were kept with their vectors, too.
fn keeping(
    keep: Keep,
    bytes: impl Read + Send,
    vocabulary: &Vocabulary,
) -> Result<(reader::ReadOutcome<'_>, Kept)> {
    let dir = tempfile::tempdir().expect("a folder");
    let [words, vectors] = ["w", "v"].map(|name| dir.path().join(name));
    let tokenizer = Tokenizer::Exercise;
    let mut kept = KeptWords::at(keep, &tokenizer, words.clone(), &vectors)?;
    let outcome = reader::read(bytes, "v.bin", vocabulary, &mut kept)?;
    let dimension = outcome.found.dimension();
    kept.finish(dimension)?;
    let frame = table::read(&words, &["word", "row"])?;
    let names = table::texts(&frame, "word", &words)?.no_null_iter().map(str::to_owned);
    let (_, values) = formats::Arrays::read(&vectors)?.f32("vectors", &[None, Some(dimension)])?;
    let rows = values.chunks_exact(dimension).map(<[f32]>::to_vec);
    Ok((outcome, names.zip(rows).collect()))
}

fn words(text: &str) -> Vocabulary {
    Vocabulary::count([text].into_iter())
}

fn binary(header: &str, entries: &[(&[u8], &[f32])], end: &[u8]) -> Vec<u8> {
    let mut bytes = header.as_bytes().to_vec();
    for (word, vector) in entries {
        bytes.extend_from_slice(word);
        bytes.push(b' ');
        bytes.extend(vector.iter().flat_map(|x| x.to_le_bytes()));
        bytes.extend_from_slice(end);
    }
    bytes
}

const ENTRIES: &[(&[u8], &[f32])] = &[
    (b"the", &[1.5, -2.0]),
    (b"\xff\xfe", &[0.0, 0.0]),
    (b"Fed", &[0.25, 3.0]),
    (b"the", &[9.0, 9.0]),
];

#[test]
fn binary_files_with_and_without_newlines_give_the_same() {
    let vocabulary = words("the the Fed absent");
    for end in [&b""[..], b"\n"] {
        let outcome = read(&*binary("4 2\n", ENTRIES, end), &vocabulary).expect("reads");
        assert_eq!((outcome.entries, outcome.warnings.len()), (4, 0));
        let words = [("the".to_owned(), 2), ("Fed".to_owned(), 1)];
        assert_eq!(outcome.found.into_matrix(), (words.to_vec(), vec![1.5, -2.0, 0.25, 3.0]));
    }
}

#[test]
fn a_binary_component_may_begin_with_a_newline() {
    let newline = f32::from_le_bytes([b'\n', 0x20, 0x31, 0x3f]);
    let bytes = binary("1 2\n", &[(b"Fed", &[newline, 1.0])], b"");
    assert_eq!(read(&*bytes, &words("Fed")).expect("reads").found.into_matrix().1, [newline, 1.0]);
}

#[test]
fn a_header_that_promises_too_much_or_too_little_is_a_warning() {
    let vocabulary = words("the Fed");
    let more = read(&*binary("9 2\n", ENTRIES, b"\n"), &vocabulary).expect("reads");
    assert_eq!(more.warnings, ["the header promises 9 vectors, but the file has 4"]);
    assert_eq!(more.found.count(), 2);
    let fewer = read(&*binary("1 2\n", ENTRIES, b"\n"), &vocabulary).expect("reads");
    assert_eq!(fewer.found.count(), 1);
    assert!(fewer.warnings[0].contains("left unread"));
}

#[test]
fn the_error_for_an_end_inside_a_vector_names_its_place() {
    let bytes = binary("4 2\n", ENTRIES, b"\n");
    let failure = read(&bytes[..bytes.len() - 4], &words("the Fed")).err().expect("refused");
    assert_eq!(failure.what, "the file ends inside the vector of `the`, number 4 of 4");
    assert_eq!(failure.place, "v.bin, byte 42");
}

#[test]
fn the_error_for_a_vector_that_is_not_finite_names_it() {
    let bytes = binary("1 2\n", &[(b"Fed", &[1.0, f32::INFINITY])], b"");
    assert_eq!(
        read(&*bytes, &words("Fed")).err().expect("refused").what,
        "component 2 of the vector of `Fed` is not finite"
    );
}

#[test]
fn text_files_with_and_without_header_give_the_same() {
    let vocabulary = words("the Fed at");
    // GloVe's 840B has lines such as "at name@domain.com 0.1 ...": two words, not `at`'s vector.
    let lines = "the 1.5 -2\nat name@domain.com 7 7\nFed 2.5e-1 3 \nthe 9 9\n";
    for text in [
        lines.to_owned(),
        format!("4 2\n{lines}"),
        lines.replace(' ', "\t"),
        lines.trim_end().replace('\n', "\r\n"),
    ] {
        let outcome = read(text.as_bytes(), &vocabulary).expect(&text);
        assert_eq!(outcome.entries, 4, "{text:?}");
        assert_eq!(outcome.found.into_matrix().1, [0.25, 3.0, 1.5, -2.0], "{text:?}");
    }
}

#[test]
fn files_that_are_not_vector_files_are_refused() {
    for (bytes, want) in [
        (&b""[..], "the file is empty"),
        (b"hello", "neither a header nor a word and its vector"),
        (b"3 0\nthe ", "the vectors have 0 components"),
        (b"3 9999999\nthe ", "the vectors have 9999999 components"),
        (b"the 1 2\nFed 1\n", "`Fed` has 1 components, not 2"),
        (b"the 1 2\nFed 1 x\n", "a component of `Fed` is not a number"),
        (
            b"2 5\nthe 1 2\nFed 3 4\n",
            "the header promises 5 components, but the first vector has 2",
        ),
        (b"other 1 2\n", "none of the headlines' 2 words is among the 1 words of the file"),
    ] {
        let failure = read(bytes, &words("the Fed")).err().expect("refused");
        assert!(failure.what.contains(want), "{failure}");
    }
}

proptest! {
    /// Random words and vectors, read in pieces of random size, come back bit for bit.
    #[test]
    fn binary_files_come_back(
        entries in prop::collection::btree_map("[a-zA-Zé]{1,12}", prop::collection::vec(-1e30_f32..1e30, 3), 1..40),
        newline: bool, step in 1_usize..5000
    ) {
        struct Slow<'a>(&'a [u8], usize);
        impl Read for Slow<'_> {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                let n = self.1.min(buf.len()).min(self.0.len());
                buf[..n].copy_from_slice(&self.0[..n]);
                self.0 = &self.0[n..];
                Ok(n)
            }
        }
        let list: Vec<(&[u8], &[f32])> = entries.iter().map(|(w, v)| (w.as_bytes(), v.as_slice())).collect();
        let bytes = binary(&format!("{} 3\n", list.len()), &list, if newline { b"\n" } else { b"" });
        let text: Vec<&str> = entries.keys().map(String::as_str).collect();
        let vocabulary = words(&text.join(" "));
        let outcome = read(Slow(&bytes, step), &vocabulary).expect("reads");
        // All counts are 1, so the vocabulary is in byte order, as the map is.
        let expected: Vec<f32> = entries.values().flatten().copied().collect();
        prop_assert_eq!(outcome.found.into_matrix().1, expected);
    }

    /// Any bytes give a result or an error, never a panic.
    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400), header in "[0-9]{1,3} [0-9]{1,2}\n|") {
        let _ = read(&*[header.as_bytes(), &bytes].concat(), &words("a b c"));
    }
}

#[test]
fn the_first_words_that_a_text_can_have_are_kept_for_predictions() {
    let vocabulary = words("Fed raises");
    let entries: &[(&[u8], &[f32])] = &[
        (b"the", &[1.0, 2.0]),
        (b"New_York", &[3.0, 4.0]),
        (b"Fed", &[5.0, 6.0]),
        (b"bad", &[f32::NAN, 0.0]),
        (b"bond", &[7.0, 8.0]),
        (b"market", &[9.0, 9.0]),
    ];
    let binary = binary("6 2\n", entries, b"\n");
    let text = "the 1 2\nNew_York 3 4\nFed 5 6\nbad nan 0\nbond 7 8\nmarket 9 9\n".as_bytes();
    let the = ("the".to_owned(), vec![1.0, 2.0]);
    let bond = ("bond".to_owned(), vec![7.0, 8.0]);
    let market = ("market".to_owned(), vec![9.0, 9.0]);
    for file in [&binary[..], text] {
        let kept = |keep| keeping(keep, file, &vocabulary).expect("reads").1;
        assert!(kept(Keep::Data).is_empty());
        // A word of the data counts, but has its vector elsewhere.
        let all = [the.clone(), bond.clone(), market.clone()];
        assert_eq!(kept(Keep::First(2)), all[..1]);
        assert_eq!(kept(Keep::First(4)), all[..2]);
        assert_eq!(kept(Keep::All), all);
        let outcome = keeping(Keep::All, file, &vocabulary).expect("reads").0;
        assert_eq!(outcome.found.into_matrix().1, [5.0, 6.0]);
    }
}
