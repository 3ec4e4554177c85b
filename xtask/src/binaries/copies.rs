//! `cargo xtask programs DIR`: copies every program into a folder, from which `DIR/xtask` runs the
//! pipeline without cargo.

use std::collections::BTreeMap;
use std::path::Path;

use cache::{Digest, Index};
use failure::{Failure, Result};

use super::{Binaries, Note, Notes, STAMP, stages, write};

/// Programs to copy besides the stages'. `remote`, which few users need, is built where it is used.
const OTHERS: [&str; 4] = ["bundle", "export", "knockline", "predict"];

/// Builds every program for the CPU and copies it into `dir`, with xtask itself and the notes on
/// what the programs were built from. The program `remote` is built and copied on request.
pub fn copy_all(root: &Path, dir: &Path, with_remote: bool) -> Result<()> {
    let packages: Vec<String> = stages(root)?
        .into_iter()
        .chain(OTHERS.map(str::to_owned))
        .chain(with_remote.then(|| "remote".to_owned()))
        .collect();
    let index = Index::default();
    let binaries = Binaries::new(root, "cpu", &packages, &index);
    std::fs::create_dir_all(dir).map_err(|e| Failure::io("create folder", dir, &e))?;
    let is_empty =
        std::fs::read_dir(dir).map_err(|e| Failure::io("read folder", dir, &e))?.next().is_none();
    if !is_empty && !dir.join(STAMP).exists() {
        let remedy = "name a new or empty folder, or one that this command made";
        return Err(Failure::usage(
            "the folder is not empty, and knockline did not make it",
            dir.display(),
            remedy,
        ));
    }
    // A running program cannot be overwritten, but another file can take its name.
    let copy = |from: &Path, to: &Path| {
        atomic::copy(from, to)
            .map_err(|e| Failure::io(&format!("copy to {}", to.display()), from, &e))
    };
    let mut notes = Notes::new();
    for package in packages {
        let program = binaries.program(&package)?;
        let file = format!("{package}{}", std::env::consts::EXE_SUFFIX);
        let to = dir.join(&file);
        copy(&program.path, &to)?;
        if Digest::of_file(&to).ok().as_ref() != Some(&program.digest) {
            let what = format_args!("`{file}` was replaced while it was copied");
            return Err(Failure::failed(
                what,
                to.display(),
                "run the same command again when other builds are done",
            ));
        }
        notes.insert(
            format!("bin {package}"),
            Note { of: program.of, files: BTreeMap::from([(file, program.digest)]) },
        );
    }
    let own = std::env::current_exe().map_err(|e| Failure::failed(e, "xtask", "report this"))?;
    copy(&own, &dir.join(own.file_name().unwrap_or_default()))?;
    write(&dir.join(STAMP), &notes)
}
