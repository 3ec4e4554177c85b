//! Good and bad tables.

use super::*;
use proptest::prelude::*;
use std::io::Cursor;

const ROW: &str = "1\tFed's \"hawk\" speaks\thttp://a\tReuters\tb\tdX\twww.a\t1394470370698\n";

type Read = (Vec<Table>, Counts);

fn parse(text: &[u8]) -> Result<Read> {
    read_all(&mut Cursor::new(text), &["Reuters".into(), "Daily Mail".into()], 0)
}

fn read_all(reader: &mut dyn std::io::Read, publishers: &[String], most_bad: u64) -> Result<Read> {
    let mut tables = Vec::new();
    let keep = |table: Table| {
        tables.push(table);
        Ok(())
    };
    let counts = read(
        reader,
        "x.csv",
        RowFilter { publishers, labels: &Labels::news(), most_bad },
        keep,
        |_| (),
    )?;
    Ok((tables, counts))
}

fn titles(tables: &[Table]) -> Vec<&str> {
    tables.iter().flat_map(|table| table.texts(0)).collect()
}

fn ids(tables: &[Table]) -> Vec<i64> {
    tables.iter().flat_map(|table| table.numbers()[0].clone()).collect()
}

/// A row with this id.
fn row(id: usize) -> String {
    ROW.replace("1\tFed", &format!("{id}\tFed"))
}

#[test]
fn quotes_are_characters_and_other_publishers_are_left_out() {
    let text = [
        ROW,
        &row(3).replace("Reuters", "Reuters UK"),
        &ROW.replace("1\tFed's", "2\t\"open").replace("Reuters", "Daily Mail"),
    ]
    .concat();
    let (tables, counts) = parse(text.as_bytes()).expect("parses");
    assert_eq!(titles(&tables), ["Fed's \"hawk\" speaks", "\"open \"hawk\" speaks"]);
    assert_eq!((counts.rows, counts.kept), (3, 2));
    assert_eq!(counts.publishers, [("Reuters".to_owned(), 1), ("Daily Mail".to_owned(), 1)]);
    assert_eq!(ids(&tables), [1, 2]);
}

#[test]
fn the_error_for_a_bad_row_names_it() {
    for (text, want) in [
        (ROW.replace("\tdX", ""), "row 2 has 7 columns, not 8"),
        (ROW.replace("\tdX", "\tdX\tdY"), "row 2 has 9 columns, not 8"),
        (ROW.replace("\tb\t", "\tz\t"), "row 2 has the unknown category `z`"),
        (
            ROW.replace("1\tFed", "one\tFed"),
            "row 2 has `one` as its id, which is not a whole number",
        ),
        (ROW.to_owned(), "row 2 repeats the id 1 of an earlier row"),
        (row(2).replace("hawk", "ha\0wk"), "row 2 has a zero byte at byte 11"),
        (
            row(2).replace("hawk", &"x".repeat(70_000)),
            "row 2 has a title of 70015 bytes; at most 65536 are allowed",
        ),
    ] {
        let other = text.replace("Reuters", "Another");
        assert_eq!(parse([ROW, &other].concat().as_bytes()).err().expect("refused").what, want);
        let failure = parse([ROW, &text].concat().as_bytes()).err().expect("refused");
        assert_eq!((failure.what.as_str(), failure.place.as_str()), (want, "x.csv, row 2"));
    }
    let invalid = [ROW.as_bytes(), &ROW.as_bytes()[..3], b"\xff", &ROW.as_bytes()[3..]].concat();
    assert_eq!(parse(&invalid).err().expect("refused").what, "row 2 is not UTF-8 at byte 3");
}

#[test]
fn line_ends_byte_order_marks_and_a_missing_final_newline_do_not_matter() {
    let plain = parse([ROW, &row(2)].concat().as_bytes()).expect("parses").0;
    let dos = ["\u{feff}", &ROW.replace('\n', "\r\n"), row(2).trim_end()].concat();
    let tables = parse(dos.as_bytes()).expect("parses").0;
    assert_eq!((ids(&tables), titles(&tables)), (ids(&plain), titles(&plain)));
    assert_eq!(tables[0].numbers()[1], [1_394_470_370_698; 2]);
}

#[test]
fn an_empty_title_stays_empty() {
    let (tables, _) = parse(ROW.replace("Fed's \"hawk\" speaks", "").as_bytes()).expect("parses");
    assert_eq!(titles(&tables), [""]);
}

#[test]
fn some_bad_rows_may_be_left_out_and_one_more_is_an_error() {
    let text = [&row(1), "x\n", &row(2), "\r\n", &row(1), &row(3)].concat();
    let (tables, counts) = read_all(&mut Cursor::new(&text), &["*".into()], 2).expect("reads");
    assert_eq!((ids(&tables), counts.rows, counts.kept, counts.bad), (vec![1, 2, 3], 5, 3, 2));
    assert_eq!(
        counts.told,
        ["row 2 has 1 columns, not 8", "row 5 repeats the id 1 of an earlier row"]
    );
    let failure = read_all(&mut Cursor::new(&text), &["*".into()], 1).err().expect("refused");
    assert_eq!(
        failure.what,
        "row 5 repeats the id 1 of an earlier row, and 1 earlier rows are bad, too"
    );
    let all = read_all(&mut Cursor::new("x\ny\n"), &["*".into()], 9).err().expect("refused");
    assert_eq!(
        all.what,
        "all of the 2 rows are bad: row 1 has 1 columns, not 8; row 2 has 1 columns, not 8"
    );
}

#[test]
fn a_table_without_kept_rows_is_refused() {
    assert!(parse(b"").err().expect("refused").what.contains("no rows"));
    assert!(
        parse(ROW.replace("Reuters", "X").as_bytes())
            .err()
            .expect("refused")
            .what
            .contains("none of the 1 rows")
    );
}

#[test]
fn many_rows_fill_tables_of_equal_size_and_a_failed_write_stops_reading() {
    let text: String = (0..2 * TABLE_ROWS + 7).map(row).collect();
    let mut sizes = Vec::new();
    let mut size = |table: Table| {
        sizes.push(table.rows.len());
        Ok(())
    };
    let every = ["*".to_owned()];
    let wanted = RowFilter { publishers: &every, labels: &Labels::news(), most_bad: 0 };
    let counts = read(&mut Cursor::new(&text), "x.csv", wanted, &mut size, |_| ()).expect("reads");
    assert_eq!(
        (counts.kept, &sizes[..]),
        (2 * TABLE_ROWS as u64 + 7, &[TABLE_ROWS, TABLE_ROWS, 7][..])
    );
    let full = |_| Err(Failure::failed("the disk is full", "x.parquet", "make room"));
    let failure =
        read(&mut Cursor::new(&text), "x.csv", wanted, full, |_| ()).err().expect("fails");
    assert_eq!(failure.what, "the disk is full");
}

#[test]
fn an_endless_row_is_refused() {
    let failure = read_all(&mut std::io::repeat(b'x'), &["*".into()], 0).err().expect("refused");
    assert_eq!(failure.what, "a row is longer than 67108864 bytes");
}

/// A reader that returns a few bytes at a time.
struct Slow<'a>(&'a [u8], usize);
impl std::io::Read for Slow<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.1.min(buf.len()).min(self.0.len());
        buf[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        Ok(n)
    }
}

proptest! {
    #[test]
    fn any_title_comes_back(titles_in in prop::collection::vec("[^\\t\\n\\r\\x00]{0,30}", 1..20), step in 1_usize..70) {
        let text: String = titles_in.iter().enumerate().map(|(i, t)| row(i).replace("Fed's \"hawk\" speaks", t)).collect();
        let (tables, _) = read_all(&mut Slow(text.as_bytes(), step), &["*".into()], 0).expect("reads");
        prop_assert_eq!(titles(&tables), titles_in);
    }
}
