//! The words of a title, compared with a slow version of Python's rule: `title.translate(table of
//! spaces for string.punctuation).split()`.
#![no_main]

use libfuzzer_sys::fuzz_target;

/// CPython's `Py_UNICODE_ISSPACE`, from Objects/unicodetype_db.h.
const SPACES: &[u32] = &[
    0x9, 0xa, 0xb, 0xc, 0xd, 0x1c, 0x1d, 0x1e, 0x1f, 0x20, 0x85, 0xa0, 0x1680, 0x2000, 0x2001, 0x2002, 0x2003, 0x2004, 0x2005, 0x2006,
    0x2007, 0x2008, 0x2009, 0x200a, 0x2028, 0x2029, 0x202f, 0x205f, 0x3000,
];

fuzz_target!(|title: &str| {
    let spaced: String = title.chars().map(|c| if "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~".contains(c) { ' ' } else { c }).collect();
    let slowly: Vec<&str> = spaced.split(|c: char| SPACES.contains(&u32::from(c))).filter(|word| !word.is_empty()).collect();
    assert_eq!(text::tokens(title).collect::<Vec<_>>(), slowly);
});
