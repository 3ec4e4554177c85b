//! Tables as parquet files.

use std::fs::File;
use std::io::{Cursor, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use failure::{Failure, Result};
use polars::io::parquet::write::BatchedWriter;
use polars::polars_utils::compression::ZstdLevel;
use polars::prelude::{
    Column, DataFrame, DataType, Int64Chunked, IntoColumn, NamedFrom, NewChunkedArray,
    ParquetCompression, ParquetReader, ParquetWriter, PlSmallStr, PolarsError, PolarsResult,
    Schema, SchemaRef, SerReader, Series, StringChunked,
};
use polars_parquet::read::{PageReader, read_metadata};
use polars_parquet::write::CompressedPage;

/// The columns of the archive and of every table of headlines, in its order.
pub const HEADLINE_COLUMNS: [&str; 8] =
    ["id", "title", "url", "publisher", "category", "story", "hostname", "timestamp"];

/// The types of [`HEADLINE_COLUMNS`].
pub fn headline_schema() -> SchemaRef {
    let kind = |name: &&str| {
        if matches!(*name, "id" | "timestamp") { DataType::Int64 } else { DataType::String }
    };
    std::sync::Arc::new(HEADLINE_COLUMNS.iter().map(|name| ((*name).into(), kind(name))).collect())
}

/// A table with the columns of `schema`, from the numbers and the texts of its columns, which
/// `numbers` and `texts` return by their index among the columns of that type.
pub fn of_columns<'t, T: Iterator<Item = &'t str>>(
    schema: &Schema,
    rows: usize,
    numbers: impl Fn(usize) -> &'t [i64],
    texts: impl Fn(usize) -> T,
) -> PolarsResult<DataFrame> {
    let (mut of_numbers, mut of_texts) = (0.., 0..);
    let next = |from: &mut std::ops::RangeFrom<usize>| from.next().unwrap_or_default();
    let column = |(name, kind): (&PlSmallStr, &DataType)| -> Column {
        if *kind == DataType::Int64 {
            Series::new(name.clone(), numbers(next(&mut of_numbers))).into_column()
        } else {
            let texts = texts(next(&mut of_texts));
            StringChunked::from_iter_values(name.clone(), texts).into_column()
        }
    };
    DataFrame::new(rows, schema.iter().map(column).collect())
}

/// Rows that [`groups`] reads at once, and that [`write()`] puts into a row group.
pub const GROUP_ROWS: usize = 1 << 16;

/// Writes `frame` to `path`.
pub fn write(path: &Path, frame: &mut DataFrame) -> Result<()> {
    let mut writer = Writer::create(path, frame.schema())?;
    frame.rechunk_mut();
    for start in (0..frame.height()).step_by(GROUP_ROWS) {
        writer.push(&frame.slice(i64::try_from(start).unwrap_or(i64::MAX), GROUP_ROWS))?;
    }
    writer.finish()
}

/// Writes a table piece by piece. The same pieces give the same bytes: one row group per piece and
/// chunk, and no time stamp.
pub struct Writer {
    inner: BatchedWriter<File>,
    path: PathBuf,
}

impl Writer {
    /// Creates a table at `path` with the columns of `schema`.
    pub fn create(path: &Path, schema: &Schema) -> Result<Self> {
        let file = File::create(path).map_err(|e| Failure::io("write", path, &e))?;
        // Level 1 takes a third of the default's time and gives a tenth more bytes (on the full
        // archive).
        let level = ZstdLevel::try_new(1).map_err(|e| cannot_write(&e, path))?;
        let writer =
            ParquetWriter::new(file).with_compression(ParquetCompression::Zstd(Some(level)));
        Ok(Self {
            inner: writer.batched(schema).map_err(|e| cannot_write(&e, path))?,
            path: path.to_owned(),
        })
    }

    /// Adds rows.
    pub fn push(&mut self, frame: &DataFrame) -> Result<()> {
        self.inner.write_batch(frame).map_err(|e| cannot_write(&e, &self.path))
    }

    /// Adds the row groups of the table at `from`, which has the same columns, without decoding them.
    /// The table then has the bytes that it would have if the rows had been [pushed](Self::push). The
    /// lists of a column must all have the same length.
    pub fn append(&mut self, from: &Path) -> Result<()> {
        let unreadable = |e: std::io::Error| Failure::io("read", from, &e);
        let mut file = File::open(from).map_err(|e| crate::missing(from, &e))?;
        let metadata = read_metadata(&mut file).map_err(|e| not_expected(&e, from))?;
        for group in &metadata.row_groups {
            let mut columns = Vec::new();
            for column in group.parquet_columns() {
                let range = column.byte_range();
                let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
                let mut bytes = vec![0; length];
                file.seek(SeekFrom::Start(range.start))
                    .and_then(|_| file.read_exact(&mut bytes))
                    .map_err(unreadable)?;
                let pages = PageReader::new(
                    Cursor::new(bytes.into()),
                    column,
                    Vec::new(),
                    i32::MAX as usize,
                );
                let pages: Result<Vec<CompressedPage>, _> = pages.collect();
                let mut pages = pages.map_err(|e| not_expected(&e.into(), from))?;
                // A page does not say how many rows it has, only how many values.
                let values = usize::try_from(column.num_values()).unwrap_or_default();
                let rows = group.num_rows().max(1);
                if !values.is_multiple_of(rows) {
                    return Err(Failure::artifact("the lists of a column differ in length", from));
                }
                let values_in_row = (values / rows).max(1);
                for page in &mut pages {
                    if let CompressedPage::Data(data) = page {
                        data.num_rows = Some(data.num_values() / values_in_row);
                    }
                }
                columns.push(pages);
            }
            let rows = group.num_rows() as u64;
            self.inner.write_row_group(rows, &columns).map_err(|e| cannot_write(&e, &self.path))?;
        }
        Ok(())
    }

    /// Ends the table.
    pub fn finish(self) -> Result<()> {
        self.inner.finish().map(drop).map_err(|e| cannot_write(&e, &self.path))
    }
}

fn cannot_write(error: &PolarsError, path: &Path) -> Failure {
    Failure::failed(
        format_args!("cannot write: {error}"),
        path.display(),
        "check the free space of the disk",
    )
}

/// The columns of the table at `path`, which must be whole numbers and texts.
pub fn schema(path: &Path) -> Result<SchemaRef> {
    let schema = any_schema(path)?;
    for (name, kind) in schema.iter() {
        if !matches!(kind, DataType::Int64 | DataType::String) {
            return Err(Failure::artifact(format_args!("column `{name}` is {kind}"), path));
        }
    }
    Ok(schema)
}

/// Whether the table at `path` has a column of this name, of whatever type.
pub fn has_column(path: &Path, name: &str) -> Result<bool> {
    any_schema(path).map(|schema| schema.contains(name))
}

/// The columns of the table at `path`.
fn any_schema(path: &Path) -> Result<SchemaRef> {
    let file = File::open(path).map_err(|e| crate::missing(path, &e))?;
    let frame = ParquetReader::new(file).with_slice(Some((0, 0))).finish();
    Ok(frame.map_err(|e| not_expected(&e, path))?.schema().clone())
}

fn not_expected(error: &PolarsError, path: &Path) -> Failure {
    Failure::artifact(format_args!("not the expected parquet table: {error}"), path)
}

/// Reads the `columns` of the table at `path`, which must exist and have no nulls.
pub fn read(path: &Path, columns: &[&str]) -> Result<DataFrame> {
    part(path, columns, None)
}

fn part(path: &Path, columns: &[&str], slice: Option<(usize, usize)>) -> Result<DataFrame> {
    let file = File::open(path).map_err(|e| crate::missing(path, &e))?;
    let names = columns.iter().map(|&c| c.to_owned()).collect();
    let frame = ParquetReader::new(file)
        .with_columns(Some(names))
        .with_slice(slice)
        .finish()
        .map_err(|e| not_expected(&e, path))?;
    for column in frame.columns() {
        if column.null_count() > 0 {
            return Err(Failure::artifact(
                format_args!("column `{}` has empty cells", column.name()),
                path,
            ));
        }
    }
    Ok(frame)
}

/// Bytes of rows that [`groups`] reads at once, as far as row groups tell.
const GROUP_BYTES: usize = 1 << 27;

/// How many rows of the table at `path` are read or written together: [`GROUP_ROWS`], or fewer if
/// its rows are long.
pub fn rows_at_once(path: &Path) -> Result<usize> {
    let file = File::open(path).map_err(|e| crate::missing(path, &e))?;
    let mut reader = ParquetReader::new(file);
    let metadata = reader.get_metadata().map_err(|e| not_expected(&e, path))?;
    let longest = metadata.row_groups.iter().map(|group| {
        let mut bytes = 0;
        for column in group.parquet_columns() {
            bytes += usize::try_from(column.uncompressed_size()).unwrap_or(0);
        }
        bytes / group.num_rows().max(1)
    });
    let longest = longest.max().unwrap_or(0).max(1);
    Ok((GROUP_BYTES / longest).clamp(1, GROUP_ROWS))
}

/// Reads the table as [`read`] does, at most [`rows_at_once`] rows at a time, and passes each piece
/// to `take`.
pub fn groups(
    path: &Path,
    columns: &[&str],
    take: impl FnMut(&DataFrame) -> Result<()>,
) -> Result<()> {
    groups_in(path, columns, 0..usize::MAX, take)
}

/// [`groups`] of some of the table's rows; those behind its end are left out.
pub fn groups_in(
    path: &Path,
    columns: &[&str],
    range: Range<usize>,
    mut take: impl FnMut(&DataFrame) -> Result<()>,
) -> Result<()> {
    let at_once = rows_at_once(path)?;
    let mut start = range.start;
    loop {
        let rows = at_once.min(range.end.saturating_sub(start));
        let piece = part(path, columns, Some((start, rows)))?;
        if piece.height() > 0 || start == range.start {
            take(&piece)?;
        }
        start += piece.height();
        if piece.height() < at_once {
            return Ok(());
        }
    }
}

/// The number of rows of the table at `path`.
pub fn rows(path: &Path) -> Result<usize> {
    let file = File::open(path).map_err(|e| crate::missing(path, &e))?;
    let mut reader = ParquetReader::new(file);
    reader.get_metadata().map(|metadata| metadata.num_rows).map_err(|e| not_expected(&e, path))
}

/// The text column `name` of a frame that was read from `path`.
pub fn texts<'a>(frame: &'a DataFrame, name: &str, path: &Path) -> Result<&'a StringChunked> {
    let column = frame.column(name).and_then(|c| c.str());
    column.map_err(|e| Failure::artifact(format_args!("column `{name}`: {e}"), path))
}

/// The whole-number column `name` of a frame that was read from `path`.
pub fn integers<'a>(frame: &'a DataFrame, name: &str, path: &Path) -> Result<&'a Int64Chunked> {
    let column = frame.column(name).and_then(|c| c.i64());
    column.map_err(|e| Failure::artifact(format_args!("column `{name}`: {e}"), path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> DataFrame {
        let id = Column::from(Series::new("id".into(), [1_i64, 2]));
        let title = Column::from(Series::new("title".into(), ["a \"b\"", "é"]));
        DataFrame::new(2, vec![id, title]).expect("two columns of two rows")
    }

    #[test]
    fn the_same_table_has_the_same_bytes_and_comes_back() {
        let dir = tempfile::tempdir().expect("a folder");
        let [one, two] = ["1.parquet", "2.parquet"].map(|n| dir.path().join(n));
        write(&one, &mut frame()).expect("writes");
        write(&two, &mut frame()).expect("writes");
        assert_eq!(std::fs::read(&one).expect("reads"), std::fs::read(&two).expect("reads"));
        let back = read(&one, &["title"]).expect("reads");
        let titles: Vec<&str> =
            texts(&back, "title", &one).expect("texts").no_null_iter().collect();
        assert_eq!(titles, ["a \"b\"", "é"]);
    }

    #[test]
    fn a_table_comes_in_pieces() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x.parquet");
        for rows in [0, 3, GROUP_ROWS, GROUP_ROWS + 1, 2 * GROUP_ROWS + 5] {
            let ids: Vec<i64> = (0..).take(rows).collect();
            let mut whole =
                DataFrame::new(rows, vec![Column::from(Series::new("id".into(), &ids))])
                    .expect("a column");
            write(&path, &mut whole).expect("writes");
            let mut seen = Vec::new();
            groups(&path, &["id"], |piece| {
                seen.extend(integers(piece, "id", &path)?.no_null_iter());
                Ok(())
            })
            .expect("reads");
            assert_eq!(seen, ids, "{rows} rows");
        }
    }

    #[test]
    fn row_groups_are_appended_without_a_change_of_bytes() {
        let dir = tempfile::tempdir().expect("a folder");
        let [whole, parts, joined] = ["whole", "parts", "joined"].map(|n| dir.path().join(n));
        let n = 2 * GROUP_ROWS + 1000;
        let ids: Vec<i64> = (0..).take(n).collect();
        // One column that has a dictionary, and one that does not.
        let titles: Vec<String> = ids.iter().map(|i| format!("é {i} {}", i * i % 9973)).collect();
        let labels: Vec<&str> = ids.iter().map(|i| if i % 3 == 0 { "b" } else { "t" }).collect();
        let mut frame = DataFrame::new(
            n,
            vec![
                Column::from(Series::new("id".into(), &ids)),
                Column::from(Series::new("title".into(), &titles)),
                Column::from(Series::new("category".into(), &labels)),
            ],
        )
        .expect("a table");
        write(&whole, &mut frame).expect("writes");
        let mut all = Writer::create(&joined, frame.schema()).expect("creates");
        for (start, rows) in [(0, 2 * GROUP_ROWS), (2 * GROUP_ROWS, 0), (2 * GROUP_ROWS, 1000)] {
            let mut part = frame.slice(i64::try_from(start).expect("small"), rows);
            write(&parts, &mut part).expect("writes");
            assert_eq!(super::rows(&parts).expect("rows"), rows);
            all.append(&parts).expect("appends");
        }
        all.finish().expect("ends");
        let bytes = |path: &Path| std::fs::read(path).expect("reads");
        assert!(bytes(&whole) == bytes(&joined));
    }

    #[test]
    fn some_rows_of_a_table_are_read() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x.parquet");
        let n = GROUP_ROWS + 10;
        let ids: Vec<i64> = (0..).take(n).collect();
        let mut whole = DataFrame::new(n, vec![Column::from(Series::new("id".into(), &ids))])
            .expect("a column");
        write(&path, &mut whole).expect("writes");
        for range in [0..0, 0..5, 7..GROUP_ROWS + 3, GROUP_ROWS..n, n - 1..n + 9, n..n + 1] {
            let mut seen = Vec::new();
            groups_in(&path, &["id"], range.clone(), |piece| {
                seen.extend(integers(piece, "id", &path)?.no_null_iter());
                Ok(())
            })
            .expect("reads");
            assert_eq!(seen, ids[range.start.min(n)..range.end.min(n)], "{range:?}");
        }
    }

    #[test]
    fn a_wrong_table_is_named() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x.parquet");
        assert!(read(&path, &["id"]).unwrap_err().what.contains("missing"));
        std::fs::write(&path, b"PAR1 not really").expect("writes");
        let failure = read(&path, &["id"]).unwrap_err();
        assert!(failure.place.ends_with("x.parquet"), "{failure}");
        write(&path, &mut frame()).expect("writes");
        assert!(read(&path, &["story"]).is_err());
        assert!(integers(&frame(), "title", &path).is_err());
    }
}
