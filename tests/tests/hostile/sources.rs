//! Bad sources: archives, their rows, word vectors.

use e2e::{table, zip_of};

use crate::world::{Cases, World, gzip, patched};

pub fn archives(world: &World, cases: &mut Cases) {
    let good = &world.good;
    cases.group("Archives");
    let file = |name: &str, bytes: &[u8]| world.news(name, bytes);
    let missing =
        world.set(&[&format!("ingest.source={}", world.dir.path().join("nothing.zip").display())]);
    cases.add("a path that does not exist", 3, "cannot read the source", missing);
    cases.add("an empty file", 3, "there are no rows", file("empty.csv", b""));
    cases.add(
        "a web page under the archive's name",
        3,
        "a web page",
        file("page.zip", b"<!DOCTYPE html><html>log in</html>"),
    );
    cases.add(
        "a Git LFS pointer",
        3,
        "a Git LFS pointer",
        file("lfs.zip", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n"),
    );
    cases.add(
        "an XML error message",
        3,
        "an XML error message",
        file("xml.zip", b"<?xml version=\"1.0\"?><Error>AccessDenied</Error>"),
    );
    cases.add(
        "a JSON message",
        3,
        "a JSON message",
        file("json.zip", b"{\"message\": \"Not Found\"}"),
    );
    let packed = gzip(good.as_bytes());
    cases.add(
        "half a gzip file",
        3,
        "cannot read",
        file("news.csv.gz", &packed[..packed.len() / 2]),
    );
    cases.add(
        "a table in UTF-16",
        3,
        "columns, not 8",
        file("utf16.csv", b"\xff\xfe1\x00\t\x00F\x00\n\x00"),
    );
    cases.add(
        "a table with another name",
        3,
        "has no newsCorpora.csv; it has a.csv",
        file("other.zip", &zip_of(&[("a.csv", b"x")])),
    );
    let twin = zip_of(&[("__MACOSX/._newsCorpora.csv", good.as_bytes())]);
    cases.add(
        "only the table's twin for macOS",
        3,
        "has no newsCorpora.csv",
        file("twin.zip", &twin),
    );
    let climbs = zip_of(&[("../newsCorpora.csv", good.as_bytes())]);
    cases.add(
        "a member whose name leads out of the folder",
        3,
        "has no newsCorpora.csv",
        file("climbs.zip", &climbs),
    );
    let archive = zip_of(&[("newsCorpora.csv", good.as_bytes())]);
    cases.add(
        "half an archive",
        3,
        "cannot read the zip archive",
        file("cut.zip", &archive[..archive.len() / 2]),
    );
    let mut flipped = archive.clone();
    flipped[archive.len() / 3] ^= 0x10;
    cases.add("a flipped bit in the packed table", 3, "cannot read", file("flipped.zip", &flipped));
    cases.add(
        "a wrong checksum",
        3,
        "checksum",
        file("crc.zip", &patched(good, &[(Some(14), Some(16), &[1, 2, 3, 4])])),
    );
    cases.add(
        "an encrypted member",
        3,
        "Password required",
        file("locked.zip", &patched(good, &[(Some(6), Some(8), &[1, 0])])),
    );
    cases.add(
        "an unsupported compression method",
        3,
        "it is compressed with",
        file("odd.zip", &patched(good, &[(Some(8), Some(10), &[98, 0])])),
    );
    let link = patched(good, &[(None, Some(5), &[3]), (None, Some(38), &[0, 0, 0xff, 0xa1])]);
    cases.add("a symbolic link", 3, "it is a symbolic link", file("link.zip", &link));
    let bomb = patched(good, &[(None, Some(24), &[0, 0, 0, 0xf0])]);
    cases.add(
        "a few kilobytes that claim to unpack to four gigabytes",
        3,
        "headlines never compress that well",
        file("bomb.zip", &bomb),
    );
    let more = patched(good, &[(None, Some(24), &[100, 0, 0, 0])]);
    cases.add(
        "a member that is larger than it claims",
        3,
        "larger than its declared",
        file("more.zip", &more),
    );
    let end = archive.windows(4).rposition(|w| w == b"PK\x05\x06").expect("an end");
    let mut many = archive.clone();
    many[end + 8..end + 12].copy_from_slice(&[0xfe, 0xff, 0xfe, 0xff]);
    cases.add(
        "an archive that claims 65,534 members",
        3,
        "cannot read the zip archive",
        file("many.zip", &many),
    );

    cases.group("Rows");
    let first = |from: &str, to: &str| good.replacen(from, to, 1).into_bytes();
    cases.add(
        "a row with seven columns",
        3,
        "row 1 has 7 columns, not 8",
        file("seven.csv", &first("\tReuters", "")),
    );
    cases.add(
        "a row with nine columns",
        3,
        "row 1 has 9 columns, not 8",
        file("nine.csv", &first("\tReuters", "\tReuters\tx")),
    );
    let mut latin = good.clone().into_bytes();
    latin[4] = 0xff;
    cases.add("a byte that is not UTF-8", 3, "is not UTF-8", file("latin.csv", &latin));
    cases.add("a zero byte", 3, "has a zero byte", file("nul.csv", &first("markets", "mar\0kets")));
    cases.add(
        "an unknown category",
        3,
        "has the unknown category `x`",
        file("category.csv", &first("\tb\t", "\tx\t")),
    );
    cases.add(
        "an id that is not a number",
        3,
        "has `one` as its id",
        file("id.csv", &first("1\t", "one\t")),
    );
    cases.add(
        "a time stamp that is not a number",
        3,
        "as its timestamp",
        file("time.csv", &first("\t1394470370001\n", "\tnoon\n")),
    );
    cases.add(
        "a duplicate id",
        3,
        "row 2 repeats the id 1",
        file("twice.csv", &first("\n2\t", "\n1\t")),
    );
    cases.add(
        "a title of ten megabytes",
        3,
        "has a title of",
        file("title.csv", &first("markets", &"x".repeat(10 << 20))),
    );
    cases.add(
        "a row that does not end",
        3,
        "a row is longer than",
        file("endless.csv", &vec![b'x'; 70 << 20]),
    );
    cases.add("only blank lines", 3, "there are no rows", file("blank.csv", b"\n\n\r\n"));
    let strangers = good.replace("Reuters", "Somebody");
    cases.add(
        "no row from a chosen publisher",
        3,
        "none of the 400 rows",
        file("strangers.csv", strangers.as_bytes()),
    );
    let bad = world.put("bad.csv", good.replace("\tt\t", "\tx\t").as_bytes());
    let bad = format!("ingest.source={}", bad.display());
    let news = "ingest.format=news";
    cases.add(
        "more bad rows than are allowed",
        3,
        "and 5 earlier rows are bad",
        world.set(&[&bad, news, "ingest.max_bad_rows=5"]),
    );
    let nothing = world.put("nothing.csv", b"a\nb\n");
    let nothing = format!("ingest.source={}", nothing.display());
    cases.add(
        "only bad rows, all of them allowed",
        3,
        "all of the 2 rows are bad",
        world.set(&[&nothing, news, "ingest.max_bad_rows=9"]),
    );
    cases.add(
        "another number of rows than is expected",
        3,
        "400 rows, not the expected 422937",
        world.set(&["ingest.expect.rows=422937"]),
    );
    let sum = format!("ingest.sha256={}", "0".repeat(64));
    cases.add("another SHA-256 than is pinned", 3, "SHA-256 is", world.set(&[&sum]));
    cases.add(
        "a category with one headline",
        3,
        "category `e` has only 1 headline",
        file("one.csv", table(3).as_bytes()),
    );
    let few = world.put("few.csv", table(12).as_bytes());
    let few = format!("ingest.source={}", few.display());
    cases.add("too few headlines for the parts", 3, "", world.set(&[&few, "split.test_size=0.05"]));
}

pub fn vectors(world: &World, cases: &mut Cases) {
    cases.group("Word vectors");
    let file = |name: &str, bytes: &[u8]| world.source("embed", name, bytes);
    let entry = |word: &str, vector: &[f32]| {
        [word.as_bytes(), b" ", &vector.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>()]
            .concat()
    };
    let binary =
        |header: &str, entries: &[Vec<u8>]| [header.as_bytes(), &entries.concat()].concat();
    let missing =
        world.set(&[&format!("embed.source={}", world.dir.path().join("nothing.bin").display())]);
    cases.add("a path that does not exist", 3, "cannot read the source", missing);
    cases.add("an empty file", 3, "the file is empty", file("empty.bin", b""));
    cases.add(
        "a web page",
        3,
        "a web page",
        file("page.bin", b"<html><body>quota exceeded</body></html>"),
    );
    cases.add(
        "a zip archive",
        3,
        "",
        file("vectors.zip", &zip_of(&[("vectors.txt", b"bank 1 2 3\n")])),
    );
    cases.add("a picture", 3, "", file("picture.bin", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01"));
    cases.add(
        "vectors of no components",
        3,
        "the vectors have 0 components",
        file("zero.bin", b"3 0\nbank \nfilm \n"),
    );
    cases.add(
        "vectors of a million components",
        3,
        "the vectors have 1000000 components",
        file("wide.bin", b"3 1000000\nbank "),
    );
    cases.add(
        "a header with numbers that are too large for any machine",
        3,
        "",
        file("huge.bin", b"99999999999999999999 99999999999999999999\nbank 1 2\n"),
    );
    cases.add(
        "a header with a wrong number of components",
        3,
        "the header promises 5 components, but the first vector has 2",
        file("lies.txt", b"2 5\nbank 1 2\nfilm 3 4\n"),
    );
    let cut = binary("2 2\n", &[entry("bank", &[1.0, 2.0]), b"film \x01\x02".to_vec()]);
    cases.add(
        "an end in the middle of a vector",
        3,
        "the file ends inside the vector of `film`",
        file("cut.bin", &cut),
    );
    cases.add(
        "a component that is NaN",
        3,
        "component 2 of the vector of `bank` is not finite",
        file("nan.bin", &binary("1 2\n", &[entry("bank", &[1.0, f32::NAN])])),
    );
    cases.add(
        "a component that is infinite",
        3,
        "component 1 of the vector of `bank`",
        file("inf.bin", &binary("1 2\n", &[entry("bank", &[f32::INFINITY, 1.0])])),
    );
    cases.add(
        "an infinite component in a text file",
        3,
        "is not finite",
        file("inf.txt", b"bank 1 inf\nfilm 1 2\n"),
    );
    cases.add(
        "a file without any word of the headlines",
        3,
        "none of the headlines'",
        file("foreign.txt", b"2 2\nBanque 1 2\nFilmes 3 4\n"),
    );
    cases.add(
        "a component that is not a number",
        3,
        "a component of `film` is not a number",
        file("word.txt", b"2 2\nbank 1 2\nfilm 3 four\n"),
    );
    cases.add(
        "a line with too few components",
        3,
        "`film` has 1 components, not 2",
        file("short.txt", b"2 2\nbank 1 2\nfilm 3\n"),
    );
    cases.add(
        "a first line that is neither header nor vector",
        3,
        "neither a header nor a word and its vector",
        file("prose.txt", b"these are not vectors\n"),
    );
    cases.add(
        "a word that does not end",
        3,
        "",
        file("endless.bin", &[b"9 2\n".to_vec(), vec![b'x'; 1 << 20]].concat()),
    );
    let whole = binary("1 2\n", &[entry("bank", &[1.0, 2.0])]);
    let packed = gzip(&whole);
    cases.add(
        "half a gzip file",
        3,
        "cannot read:",
        file("half.bin.gz", &packed[..packed.len() / 2]),
    );
    let mut flipped = packed.clone();
    let at = flipped.len() - 6;
    flipped[at] ^= 1;
    cases.add("a gzip file with a wrong checksum", 3, "cannot read:", file("crc.bin.gz", &flipped));
    cases.add(
        "garbage after a gzip member",
        3,
        "cannot read:",
        file("tail.bin.gz", &[&packed[..], b"garbage garbage"].concat()),
    );
    let sum = format!("embed.sha256={}", "0".repeat(64));
    let good = world.put("good.txt", b"bank 1 2 3\n");
    cases.add(
        "another SHA-256 than is pinned",
        3,
        "SHA-256 is",
        world.set(&[&format!("embed.source={}", good.display()), &sum]),
    );
}
