//! Bad files of labelled texts.

use crate::world::{Cases, World};

pub fn texts(world: &World, cases: &mut Cases) {
    cases.group("Labelled texts");
    let file =
        |name: &str, text: &str| world.source("ingest", &format!("texts/{name}"), text.as_bytes());
    let with = |name: &str, bytes: &[u8], sets: &[&str]| {
        let source =
            format!("ingest.source={}", world.put(&format!("texts/{name}"), bytes).display());
        let all: Vec<&str> = std::iter::once(source.as_str()).chain(sets.iter().copied()).collect();
        world.set(&all)
    };
    let good = "text,label\na b,x\n\"c, \"\"d\"\"\",y\n";
    cases.add(
        "a table without a column of texts",
        3,
        "no column is called text, sentence",
        file("columns.csv", "a,b\n1,2\n"),
    );
    cases.add(
        "a column of labels that is not there",
        3,
        "there is no column `kind`; the columns are text, label",
        with("kind.csv", good.as_bytes(), &["ingest.columns.label=kind"]),
    );
    cases.add(
        "a row with too many fields",
        3,
        "line 3 has 3 columns, not 2",
        file("fields.csv", "text,label\na,x\na,b,y\n"),
    );
    cases.add(
        "a quote that does not end",
        3,
        "line 3 has a quoted field that does not end",
        file("open.csv", "text,label\na,x\n\"b,y\nc,y\n"),
    );
    cases.add(
        "a quote within a field",
        3,
        "line 2 has a quote within column 1",
        file("within.csv", "text,label\na \"b\" c,x\n"),
    );
    cases.add(
        "text after a quoted field",
        3,
        "line 2 has text after the quote that ends column 1",
        file("after.csv", "text,label\n\"a\" b,x\n"),
    );
    cases.add(
        "a row in Latin-1",
        3,
        "line 2 is not UTF-8 at byte 3",
        with("latin1.csv", b"text,label\ncaf\xe9,x\n", &[]),
    );
    cases.add(
        "a table in UTF-16",
        3,
        "the file is UTF-16",
        with("utf16.tsv", b"\xff\xfet\x00\t\x00l\x00\n\x00", &[]),
    );
    cases.add(
        "a row without a text",
        3,
        "line 3 has no text",
        file("no.csv", "text,label\na,x\n,y\n"),
    );
    cases.add(
        "a row without a label",
        3,
        "line 2 has no label",
        file("l.csv", "text,label\na, \n"),
    );
    cases.add(
        "a text of two megabytes",
        3,
        "has a text of 2097152 bytes",
        file("long.csv", &format!("text,label\n{},x\n", "a".repeat(2 << 20))),
    );
    cases.add(
        "a zero byte",
        3,
        "line 2 has a zero byte at byte 1",
        file("zero.csv", "text,label\na\0b,x\n"),
    );
    cases.add(
        "only one label",
        3,
        "there is only 1 label, and at least 2 are needed",
        file("one.csv", "text,label\na,x\nb,x\n"),
    );
    let many: String = (0..70_000).map(|i| format!("a,{i}\n")).collect();
    cases.add(
        "seventy thousand labels",
        3,
        "there are more than 65536 labels",
        file("many.csv", &format!("text,label\n{many}")),
    );
    cases.add(
        "a label that is not listed",
        3,
        "line 3 has the label `y`, which is not in `ingest.labels`",
        with("listed.csv", good.as_bytes(), &["ingest.labels=[\"x\", \"z\"]"]),
    );
    cases.add(
        "a label that is listed twice",
        2,
        "a label is listed twice",
        with("twice.csv", good.as_bytes(), &["ingest.labels=[\"x\", \"x\"]"]),
    );
    cases.add(
        "an id that is not a number",
        3,
        "line 2 has `a b` as its id",
        with("ids.csv", good.as_bytes(), &["ingest.columns.id=text"]),
    );
    cases.add(
        "an id that is repeated",
        3,
        "line 3 repeats the id 1",
        with("again.csv", b"id,text,label\n1,a,x\n1,b,y\n", &["ingest.columns.id=id"]),
    );
    cases.add(
        "a line that is not JSON",
        3,
        "line 2 is not a JSON object",
        file("broken.jsonl", "{\"text\": \"a\", \"label\": 1}\n{\"text\": \"a\", \"label\": }\n"),
    );
    cases.add(
        "a JSON array",
        3,
        "the file is a JSON array",
        file("array.json", "[{\"text\": \"a\", \"label\": 1}]\n"),
    );
    cases.add(
        "a line of fastText's format without a label",
        3,
        "line 2 has 0 labels",
        file("fasttext.txt", "__label__x a\nb\n"),
    );
    cases.add(
        "a parquet file that is cut off",
        3,
        "parquet",
        with("cut.parquet", b"PAR1\x15\x04\x15\x10", &[]),
    );
    cases.add(
        "the wrong format",
        3,
        "line 1 has 0 labels",
        with("format.csv", good.as_bytes(), &["ingest.format=fasttext"]),
    );
    cases.add(
        "a separator of two characters",
        2,
        "the separator must be one ASCII character",
        with("separator.csv", good.as_bytes(), &["ingest.separator=||"]),
    );
    cases.add(
        "a folder without files",
        3,
        "no file is there",
        world.set(&[&format!("ingest.files={}/*.csv", world.dir.path().join("none").display())]),
    );
    let [train, valid] = ["texts/train.csv", "texts/valid.csv"]
        .map(|name| world.put(name, good.as_bytes()).display().to_string());
    cases.add(
        "a given part that no file is of",
        3,
        "no file or part is called `dev.csv`",
        world.set(&[&format!("ingest.files=[{train:?}, {valid:?}]"), "split.given.valid=dev.csv"]),
    );
    cases.add(
        "a given part of data in one piece",
        3,
        "neither several files nor a column of parts",
        with("whole.csv", good.as_bytes(), &["split.given.valid=dev.csv"]),
    );
}
