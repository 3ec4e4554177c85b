//! Parquet files, which polars reads.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use failure::{Failure, Result};
use formats::table::GROUP_ROWS;
use polars::io::mmap::MmapBytesReader;
use polars::prelude::{
    ChunkedArray, DataFrame, DataType, Int64Type, ParquetReader, PolarsResult, SerReader,
    StringChunked,
};

use super::TextOptions;
use super::intake::{Intake, Place, Row};

/// Bytes that a packed file may have: it is unpacked into memory.
const MOST_UNPACKED: u64 = 1 << 30;

/// Reads all rows of the file at `path` or, if it is packed, of `reader`. `part` is that of rows
/// without a column of parts.
pub fn read(
    path: Option<&Path>,
    reader: &mut dyn Read,
    place: &str,
    part: Option<&str>,
    options: &TextOptions,
    intake: &mut Intake,
) -> Result<()> {
    if let Some(path) = path {
        let open = || File::open(path).map_err(|e| Failure::io("read", path, &e));
        return pieces(open, place, part, options, intake);
    }
    let mut bytes = Vec::new();
    reader.take(MOST_UNPACKED + 1).read_to_end(&mut bytes).map_err(|e| {
        Failure::input(
            format_args!("cannot read: {e}"),
            place,
            "get the file again; it may be damaged",
        )
    })?;
    if bytes.len() as u64 > MOST_UNPACKED {
        return Err(Failure::input(
            format_args!("the packed parquet file has more than {MOST_UNPACKED} bytes"),
            place,
            "unpack it first; parquet compresses its columns itself",
        ));
    }
    pieces(|| Ok(Cursor::new(&bytes[..])), place, part, options, intake)
}

fn pieces<R: MmapBytesReader>(
    open: impl Fn() -> Result<R>,
    place: &str,
    part: Option<&str>,
    options: &TextOptions,
    intake: &mut Intake,
) -> Result<()> {
    let unread =
        |e| Failure::input(e, place, "check that the file is a whole parquet table of texts");
    let schema = ParquetReader::new(open()?).with_slice(Some((0, 0))).finish().map_err(unread)?;
    let names: Vec<String> = schema.get_column_names().iter().map(ToString::to_string).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let columns = options.columns.find(&names, place)?;
    let name = |at: usize| names.get(at).copied().unwrap_or_default();
    let mut wanted: Vec<String> = columns.all().map(|at| name(at).to_owned()).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let mut start = 0;
    loop {
        let frame = ParquetReader::new(open()?)
            .with_columns(Some(wanted.clone()))
            .with_slice(Some((start, GROUP_ROWS)))
            .finish()
            .map_err(unread)?;
        let texts = |at: usize| texts(&frame, name(at)).map_err(unread);
        let of_text: Vec<_> = columns.texts.iter().map(|at| texts(*at)).collect::<Result<_>>()?;
        let label = texts(columns.label)?;
        let [group, of_part] = [columns.group, columns.part].map(|at| at.map(texts).transpose());
        let (group, of_part) = (group?, of_part?);
        let id = columns.id.map(|at| integers(&frame, name(at))).transpose().map_err(unread)?;
        let mut joined = String::new();
        for row in 0..frame.height() {
            joined.clear();
            super::join(
                &mut joined,
                of_text.iter().map(|texts| texts.get(row).unwrap_or_default()),
            );
            let fields = Row {
                id: None,
                text: &joined,
                label: label.get(row).unwrap_or_default(),
                group: group.as_ref().map(|group| group.get(row).unwrap_or_default()),
                part: of_part.as_ref().map_or(part, |of| Some(of.get(row).unwrap_or_default())),
            };
            let id = id.as_ref().map(|id| id.get(row).ok_or_else(|| "has no id".to_owned()));
            let number = (start + row) as u64 + 1;
            let place = Place { file: place, unit: "row", number };
            intake.take(id.transpose().map(|id| Row { id, ..fields }), place)?;
        }
        start += frame.height();
        if frame.height() < GROUP_ROWS {
            return Ok(());
        }
    }
}

/// A column as texts.
fn texts(frame: &DataFrame, name: &str) -> PolarsResult<StringChunked> {
    let column = frame.column(name)?;
    if column.dtype().is_nested() {
        polars::prelude::polars_bail!(SchemaMismatch: "column `{name}` is a list or a structure, not a text");
    }
    Ok(column.strict_cast(&DataType::String)?.str()?.clone())
}

fn integers(frame: &DataFrame, name: &str) -> PolarsResult<ChunkedArray<Int64Type>> {
    Ok(frame.column(name)?.strict_cast(&DataType::Int64)?.i64()?.clone())
}
