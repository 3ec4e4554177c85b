//! Event files that TensorBoard opens.
//!
//! A file is a list of TFRecords: length, its checksum, the record, its checksum; each record is
//! an `Event` message of protocol buffers (tensorflow/core/lib/io/record_writer.h and
//! tensorflow/core/util/event.proto). Only the four fields that a curve needs are written.
//!
//! An event's `wall_time` is its epoch, not a clock reading, so that the same run gives the same
//! bytes.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crc::{CRC_32_ISCSI, Crc};
use failure::{Failure, Result};
use schema::HistoryRow;

/// The file's name; TensorBoard looks for `tfevents` in it.
const NAME: &str = "events.out.tfevents.0.knockline";
const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// A named value of a row.
type Scalar = (&'static str, fn(&HistoryRow) -> f64);

/// Each folder's scalars. TensorBoard draws curves of the same name from two folders in one chart.
const FILES: [(&str, &[Scalar]); 2] = [
    ("train", &[("loss", |r| r.loss_train), ("accuracy", |r| r.accuracy_train), ("lr", |r| r.lr)]),
    ("valid", &[("loss", |r| r.loss_valid), ("accuracy", |r| r.accuracy_valid)]),
];

/// The event files of a run.
pub struct EventFiles {
    files: Vec<(PathBuf, File, &'static [Scalar])>,
}

impl EventFiles {
    /// Creates the files in `folder` from scratch, with the `rows` so far of a resumed run.
    pub fn create(folder: &Path, rows: &[HistoryRow]) -> Result<Self> {
        let mut files = Vec::new();
        for (name, scalars) in FILES {
            let folder = folder.join(name);
            std::fs::create_dir_all(&folder)
                .map_err(|e| Failure::io("create folder", &folder, &e))?;
            let path = folder.join(NAME);
            let mut bytes = record(&version());
            for row in rows {
                bytes.extend(record(&event(row, scalars)));
            }
            let file = std::fs::write(&path, bytes)
                .and_then(|()| OpenOptions::new().append(true).open(&path));
            files.push((path.clone(), file.map_err(|e| Failure::io("write", &path, &e))?, scalars));
        }
        Ok(Self { files })
    }

    /// Adds an epoch.
    pub fn push(&mut self, row: &HistoryRow) -> Result<()> {
        for (path, file, scalars) in &mut self.files {
            file.write_all(&record(&event(row, scalars)))
                .map_err(|e| Failure::io("write", path, &e))?;
        }
        Ok(())
    }
}

/// The first event of every file.
fn version() -> Vec<u8> {
    bytes(3, b"brain.Event:2")
}

#[expect(clippy::cast_possible_truncation, reason = "TensorBoard's scalars are f32")]
fn event(row: &HistoryRow, scalars: &[Scalar]) -> Vec<u8> {
    let mut out = fixed64(1, f64::from(row.epoch));
    out.extend(key(2, 0));
    out.extend(varint(u64::from(row.epoch)));
    let mut summary = Vec::new();
    for (tag, value) in scalars {
        let mut entry = bytes(1, tag.as_bytes());
        entry.extend(key(2, 5));
        entry.extend((value(row) as f32).to_le_bytes());
        summary.extend(bytes(1, &entry));
    }
    out.extend(bytes(5, &summary));
    out
}

fn record(data: &[u8]) -> Vec<u8> {
    // Rotated and offset, so that the checksum of data that contains checksums is not a trivial
    // one.
    let masked =
        |bytes: &[u8]| CRC.checksum(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes();
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &masked(&length), data, &masked(data)].concat()
}

fn fixed64(field: u8, value: f64) -> Vec<u8> {
    [&key(field, 1)[..], &value.to_le_bytes()].concat()
}

fn bytes(field: u8, value: &[u8]) -> Vec<u8> {
    [&key(field, 2)[..], &varint(value.len() as u64), value].concat()
}

/// A field's number and its wire type.
fn key(field: u8, wire: u8) -> [u8; 1] {
    [field << 3 | wire]
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or(0);
        value >>= 7;
        if value == 0 {
            out.push(low);
            return out;
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// tensorboard 2.20: RecordWriter of Event(file_version="brain.Event:2") and
    /// Event(wall_time=300.0, step=300, summary=Summary(value=[Value(tag="loss",
    /// simple_value=0.25), Value(tag="accuracy", simple_value=0.9)])).
    const TENSORBOARD: &str = "0f000000000000006d532b091a0d627261696e2e4576656e743a32fc9851292c00000000000000f4aecc45\
        090000000000c0724010ac022a1e0a0b0a046c6f7373150000803e0a0f0a086163637572616379156666663f64ca6aed";

    #[test]
    fn the_bytes_are_tensorboard_s_own_whether_a_row_was_there_or_came_later() {
        let row = HistoryRow {
            epoch: 300,
            lr: 0.1,
            loss_train: 0.5,
            accuracy_train: 0.8,
            loss_valid: 0.25,
            accuracy_valid: 0.9,
        };
        for (before, after) in [(&[row][..], &[][..]), (&[], &[row])] {
            let dir = tempfile::tempdir().expect("a folder");
            let mut board = EventFiles::create(dir.path(), before).expect("creates");
            for row in after {
                board.push(row).expect("writes");
            }
            let bytes = std::fs::read(dir.path().join("valid").join(NAME)).expect("reads");
            assert_eq!(bytes.iter().map(|b| format!("{b:02x}")).collect::<String>(), TENSORBOARD);
        }
    }
}
