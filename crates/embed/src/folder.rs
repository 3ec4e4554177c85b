//! Vectors in a folder as models have them, model2vec's among them: a matrix in a safetensors file,
//! and the words of its rows in `tokenizer.json` or, one on each line, in `vocab.txt`.

use std::path::{Path, PathBuf};

use failure::{Failure, Result};
use formats::Arrays;
use tokenizer::Tokenizer;

use crate::reader::{MoreWords, ReadOutcome};
use crate::vocabulary::{FoundVectors, Vocabulary};

/// The names that the matrix may have; else it is the only matrix with a row for every word.
const MATRICES: [&str; 3] = ["embeddings", "embedding.weight", "embeddings.word_embeddings.weight"];

/// Whether the source is such a folder.
pub fn is_model(path: &Path) -> bool {
    path.is_dir() && (path.join(Tokenizer::FILE).exists() || path.join("vocab.txt").exists())
}

/// The words of a folder, each with its number.
fn words(folder: &Path) -> Result<Vec<(String, usize)>> {
    let tokenizer = folder.join(Tokenizer::FILE);
    if tokenizer.exists() {
        let all = Tokenizer::read(&tokenizer)?.vocabulary();
        return Ok(all.into_iter().map(|(word, id)| (word, id as usize)).collect());
    }
    let path = folder.join("vocab.txt");
    let text = std::fs::read_to_string(&path).map_err(|e| Failure::io("read", &path, &e))?;
    Ok(text.lines().map(str::to_owned).zip(0..).collect())
}

/// The folder's safetensors file.
fn matrix_file(folder: &Path) -> Result<PathBuf> {
    let usual = folder.join("model.safetensors");
    if usual.exists() {
        return Ok(usual);
    }
    let entries = std::fs::read_dir(folder).map_err(|e| Failure::io("read folder", folder, &e))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "safetensors"))
        .collect();
    found.sort_unstable();
    match &found[..] {
        [one] => Ok(one.clone()),
        _ => Err(Failure::input(
            format_args!("the folder has {} safetensors files, not one", found.len()),
            folder.display(),
            "give a folder with one model: model.safetensors and tokenizer.json or vocab.txt",
        )),
    }
}

/// Reads the vectors of the wanted words.
pub fn read<'v>(
    folder: &Path,
    vocabulary: &'v Vocabulary,
    more: &mut dyn MoreWords,
) -> Result<ReadOutcome<'v>> {
    let words = words(folder)?;
    let path = matrix_file(folder)?;
    let arrays = Arrays::map(&path)?;
    let shapes = arrays.shapes()?;
    let last = words.iter().map(|(_, id)| *id).max().unwrap_or(0);
    let wrong =
        |what: String| Failure::input(what, path.display(), "give the model as it was published");
    // A model that was made smaller has a row for several words, and says which.
    let mapping = if shapes.contains_key("mapping") {
        Some(arrays.integers("mapping").map_err(|f| wrong(f.what))?)
    } else {
        None
    };
    let is_matrix = |name: &str| match shapes.get(name).map(Vec::as_slice) {
        Some([rows, _]) => mapping.is_some() || *rows > last,
        _ => false,
    };
    let named = MATRICES.iter().find(|name| is_matrix(name)).map(|name| (*name).to_owned());
    let mut others = shapes.keys().filter(|name| is_matrix(name));
    let name = named.or_else(|| others.next().filter(|_| others.next().is_none()).cloned());
    let name = name.ok_or_else(|| {
        wrong(format!("no matrix has a row for each of the {} words", words.len()))
    })?;
    let weights = if shapes.contains_key("weights") {
        Some(arrays.numbers("weights").map_err(|f| wrong(f.what))?)
    } else {
        None
    };
    let matrix = arrays.matrix(&name).map_err(|f| wrong(f.what))?;
    let mut found = FoundVectors::new(vocabulary, matrix.columns());
    let entries = words.len() as u64;
    let mut row = Vec::new();
    for (word, id) in words {
        let place = found.wants(word.as_bytes());
        let is_kept = more.wants(word.as_bytes(), vocabulary);
        if place.is_none() && !is_kept {
            continue;
        }
        let at = match &mapping {
            None => Some(id),
            Some(mapping) => mapping.get(id).and_then(|&row| usize::try_from(row).ok()),
        };
        if !at.is_some_and(|at| matrix.row(at, &mut row)) {
            return Err(wrong(format!("`{name}` has no row for `{word}`, number {id}")));
        }
        if let Some(&weight) = weights.as_ref().and_then(|weights| weights.get(id)) {
            for x in &mut row {
                *x *= weight;
            }
        }
        if let Some(place) = place {
            found.put(place, row.iter().copied()).map_err(|at| {
                wrong(format!("component {} of the vector of `{word}` is not finite", at + 1))
            })?;
        }
        if is_kept {
            more.push(word.as_bytes(), &mut row.iter().copied())?;
        }
    }
    Ok(ReadOutcome { found, entries, warnings: Vec::new() })
}
