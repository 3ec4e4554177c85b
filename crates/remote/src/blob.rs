//! Transfers one file of a result, which the store keeps by its digest.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use cache::Output;
use futures_util::StreamExt as _;
use object_store::buffered::BufWriter;
use object_store::{Error, GetResultPayload, ObjectStoreExt as _};
use tokio::io::AsyncWriteExt as _;
use zstd::stream::{raw, zio};
use zstd::zstd_safe::DParameter;

use crate::{RemoteError, RemoteStore};

/// zstd's default.
const LEVEL: i32 = 3;
/// A blob larger than this is uploaded in parts of this size; S3 requires at least five megabytes
/// in each.
const PART: usize = 8 << 20;
/// The number of bytes that are read and compressed at a time.
const PIECE: usize = 1 << 20;

/// Awaits a transfer of `bytes` bytes in all, and gives it up after [`RemoteStore::limit`].
pub async fn within<T>(
    place: &RemoteStore,
    bytes: u64,
    work: impl Future<Output = Result<T, RemoteError>>,
) -> Result<T, RemoteError> {
    let limit = place.limit(bytes);
    let late = |_| {
        // A look-up does not know how many bytes will come.
        let size = if bytes == 0 { String::new() } else { format!(" ({bytes} bytes)") };
        RemoteError::Store(format!("it did not end within {} s{size}", limit.as_secs()))
    };
    tokio::time::timeout(limit, work).await.map_err(late)?
}

/// Fetches the blob of `output` into the file `to`, and syncs it. Calls `arrived` with the number
/// of bytes that each piece unpacked to.
pub async fn get(
    place: &RemoteStore,
    output: &Output,
    to: &Path,
    arrived: impl Fn(u64),
) -> Result<(), RemoteError> {
    let got = place.store.get(&place.blob(&output.digest)).await?;
    let mut unpacked = Unpacked::into(output.clone(), to)?;
    match got.payload {
        // A file in a folder is read on one thread: as a stream it would come in thousands of
        // pieces, each from another thread (three times as long for the checkpoints of a run).
        GetResultPayload::File(mut file, path) => {
            let whole = tokio::task::spawn_blocking(move || {
                let mut piece = vec![0; PIECE];
                loop {
                    let n =
                        file.read(&mut piece).map_err(|e| RemoteError::local("read", &path, &e))?;
                    let Some(bytes) = piece.get(..n).filter(|bytes| !bytes.is_empty()) else {
                        return unpacked.end();
                    };
                    unpacked.take(bytes)?;
                }
            });
            whole.await.map_err(|e| RemoteError::Local(e.to_string()))??;
            arrived(output.size);
            Ok(())
        }
        GetResultPayload::Stream(mut pieces) => {
            while let Some(piece) = pieces.next().await {
                arrived(unpacked.take(&piece?)?);
            }
            // Another thread syncs it, so that the other transfers continue meanwhile.
            tokio::task::spawn_blocking(move || unpacked.end())
                .await
                .map_err(|e| RemoteError::Local(e.to_string()))?
        }
    }
}

/// A file that is unpacked and checked against its digest as it arrives.
struct Unpacked {
    output: Output,
    to: PathBuf,
    decoder: zio::Writer<CheckedWriter, raw::Decoder<'static>>,
}

impl Unpacked {
    fn into(output: Output, to: &Path) -> Result<Self, RemoteError> {
        let disk = |e: io::Error| RemoteError::local("write", to, &e);
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder).map_err(disk)?;
        }
        let file = CheckedWriter {
            file: File::create(to).map_err(disk)?,
            hasher: blake3::Hasher::new(),
            left: output.size,
            error: None,
        };
        let mut decoder = raw::Decoder::new().map_err(disk)?;
        // A frame may ask for a window of any size; ours ask for far less than this.
        decoder.set_parameter(DParameter::WindowLogMax(27)).map_err(disk)?;
        Ok(Self { output, to: to.to_owned(), decoder: zio::Writer::new(file, decoder) })
    }

    fn damaged(&self, what: impl std::fmt::Display) -> RemoteError {
        RemoteError::Damaged(format!("the object of {} is damaged: {what}", self.output.path))
    }

    /// Unpacks a piece, and returns how many bytes it unpacked to.
    fn take(&mut self, piece: &[u8]) -> Result<u64, RemoteError> {
        let before = self.decoder.writer().left;
        let written = self.decoder.write_all(piece).and_then(|()| self.decoder.flush());
        match (written, self.decoder.writer_mut().error.take()) {
            (_, Some(e)) => Err(RemoteError::local("write", &self.to, &e)),
            (Err(e), None) => Err(self.damaged(e)),
            (Ok(()), None) => Ok(before - self.decoder.writer().left),
        }
    }

    fn end(mut self) -> Result<(), RemoteError> {
        // This checks the frame's checksum, which is at its end.
        self.decoder.finish().map_err(|e| self.damaged(e))?;
        let CheckedWriter { file, hasher, left, .. } = self.decoder.writer();
        if *left > 0 {
            return Err(self.damaged(format_args!("it ends {left} bytes early")));
        }
        if hasher.finalize().to_hex().as_str() != self.output.digest.as_str() {
            return Err(self.damaged("its content does not match its digest"));
        }
        file.sync_all().map_err(|e| RemoteError::local("write", &self.to, &e))
    }
}

/// A file that is digested as it is written, and accepts no more bytes than it should have.
struct CheckedWriter {
    file: File,
    hasher: blake3::Hasher,
    left: u64,
    /// The disk's error, kept apart from the decoder's.
    error: Option<io::Error>,
}

impl Write for CheckedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self
            .left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| io::Error::other("it is longer than it should be"))?;
        self.hasher.update(bytes);
        if let Err(e) = self.file.write_all(bytes) {
            self.error = Some(io::Error::new(e.kind(), e.to_string()));
            return Err(e);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Uploads the file `from` as the blob of `output`, unless the blob exists, is not known to be
/// damaged, and `replace` is false. Returns the number of bytes sent.
pub async fn put(
    place: &RemoteStore,
    output: &Output,
    replace: bool,
    from: &Path,
) -> Result<u64, RemoteError> {
    let blob = place.blob(&output.digest);
    if !replace && !place.is_damaged(&output.digest) {
        match place.store.head(&blob).await {
            Ok(_) => return Ok(0),
            // To a user who may write but not list, S3 reports a missing object as a denied one.
            Err(Error::NotFound { .. } | Error::PermissionDenied { .. }) => {}
            Err(e) => return Err(e.into()),
        }
    }
    let read = |e: io::Error| RemoteError::local("read", from, &e);
    place.sweep(&blob);
    let mut file = File::open(from).map_err(read)?.take(output.size);
    let mut hasher = blake3::Hasher::new();
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), LEVEL).map_err(read)?;
    encoder.include_checksum(true).map_err(read)?;
    let mut writer =
        BufWriter::with_capacity(place.to_put.clone(), blob, PART).with_max_concurrency(2);
    let mut piece = vec![0; PIECE];
    let mut sent = 0;
    let all: Result<(), RemoteError> = async {
        loop {
            let n = file.read(&mut piece).map_err(read)?;
            let Some(bytes) = piece.get(..n).filter(|bytes| !bytes.is_empty()) else { break };
            hasher.update(bytes);
            encoder.write_all(bytes).map_err(read)?;
            let compressed = std::mem::take(encoder.get_mut());
            sent += compressed.len() as u64;
            writer.put(Bytes::from(compressed)).await?;
        }
        if hasher.finalize().to_hex().as_str() != output.digest.as_str() {
            return Err(RemoteError::Local(format!(
                "{} has changed since it was made",
                from.display()
            )));
        }
        let rest = encoder.finish().map_err(read)?;
        sent += rest.len() as u64;
        writer.put(Bytes::from(rest)).await?;
        Ok(())
    }
    .await;
    if let Err(error) = all {
        // An unfinished blob is invisible, but the parts that were sent would cost storage.
        let _ = writer.abort().await;
        return Err(error);
    }
    writer.shutdown().await.map_err(RemoteError::of_writer)?;
    place.clear_damaged(&output.digest);
    Ok(sent)
}
